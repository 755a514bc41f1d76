"""Questions that the published tables answer, as SQL to copy. The same text runs on SQLite and Postgres.

They are in the data dictionary, and run in the tests on both databases.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Query:
    """An example. `:names` in the SQL are parameters, whose values here are examples too."""

    question: str
    sql: str
    parameters: tuple[tuple[str, str], ...] = ()


EXAMPLES = (
    Query(
        "How did recurring revenue move, month by month?",
        "SELECT * FROM mrr_by_month WHERE definition = 'stripe' ORDER BY currency, from_date",
    ),
    Query(
        "And over all currencies, in the reporting currency?",
        "SELECT * FROM mrr_by_month_reporting WHERE definition = 'stripe' ORDER BY from_date",
    ),
    Query(
        "Who left, and what went with them?",
        """SELECT day_date, payer, currency, -movement_minor AS lost_minor
FROM derived_mrr_movements
WHERE definition = 'stripe' AND kind = 'churn'
ORDER BY lost_minor DESC""",
    ),
    Query(
        "What was true on a day, as we know it now? (the moment is the end of the day)",
        """SELECT customer, currency, SUM(mrr_minor) AS about_mrr_minor
FROM derived_mrr_history
WHERE definition = 'stripe' AND known_until_at IS NULL
  AND true_from_at < :moment AND (true_until_at IS NULL OR true_until_at >= :moment)
GROUP BY customer, currency
ORDER BY customer, currency""",
        (("moment", "2026-02-01 00:00:00.000000+00:00"),),
    ),
    Query(
        "What did we believe on a day about the same moment?",
        """SELECT customer, currency, SUM(mrr_minor) AS about_mrr_minor
FROM derived_mrr_history
WHERE definition = 'stripe'
  AND known_from_at <= :known AND (known_until_at IS NULL OR known_until_at > :known)
  AND true_from_at < :moment AND (true_until_at IS NULL OR true_until_at >= :moment)
GROUP BY customer, currency
ORDER BY customer, currency""",
        (("moment", "2026-02-01 00:00:00.000000+00:00"), ("known", "2026-02-02 00:00:00.000000+00:00")),
    ),
    Query(
        "What is at risk, and over what?",
        "SELECT * FROM mrr_at_risk_by_cause ORDER BY currency, mrr_minor DESC",
    ),
    Query(
        "Which Accounts bring most?",
        "SELECT * FROM account_revenue ORDER BY lifetime_value_minor DESC, account_id LIMIT 20",
    ),
    Query(
        "How long does a deal take from its close to its cash?",
        """SELECT stage, currency, COUNT(*) AS deals, AVG(days_to_cash) AS average_days
FROM derived_deal_to_cash
GROUP BY stage, currency
ORDER BY stage, currency""",
    ),
    Query(
        "What is due for renewal and has no Opportunity yet?",
        """SELECT account_id, opportunity_id, term_end_date, currency, next_term_minor
FROM derived_renewal_pipeline
WHERE is_due AND NOT is_ending AND renewal_opportunity_id IS NULL
ORDER BY term_end_date""",
    ),
    Query(
        "Which ends do both systems see differently?",
        """SELECT subscription, account_id, state, salesforce_status, effective_date, salesforce_date
FROM derived_churn_records
WHERE salesforce_status IS NULL OR salesforce_status <> state OR salesforce_date <> effective_date
ORDER BY effective_date""",
    ),
    Query(
        "What is left of each month's new customers after three months?",
        """SELECT cohort_date, currency, payers, active_payers, revenue_left_of_10000
FROM cohort_retention
WHERE definition = 'stripe' AND age_months = 3
ORDER BY cohort_date, currency""",
    ),
    Query(
        "What does the sync want to write, and why?",
        "SELECT account_id, step, target, field, old, new, reason FROM sync_plan ORDER BY priority, account_id, step",
    ),
    Query(
        "Which columns are there about churn?",
        "SELECT table_name, column_name, type, description FROM data_dictionary"
        " WHERE description LIKE '%churn%' ORDER BY table_name, position",
    ),
)

OVER_FILES = (
    Query(
        "What was invoiced, day by day?",
        """SELECT CAST(created_at AT TIME ZONE 'UTC' AS DATE) AS day, currency,
       COUNT(*) AS invoices, SUM(total) AS total
FROM read_parquet('SYNC_HOME/warehouse/snapshot/stripe/invoices/*.parquet', union_by_name = true)
WHERE status NOT IN ('draft', 'void')
GROUP BY ALL
ORDER BY ALL""",
    ),
    Query(
        "What happened to a customer, also longer ago than Stripe remembers?",
        """SELECT created_at, type, object_id
FROM read_parquet('SYNC_HOME/warehouse/snapshot/stripe/events/*.parquet', union_by_name = true)
WHERE customer = $customer
ORDER BY created_at""",
        (("customer", "cus_1"),),
    ),
    Query(
        "Which Accounts bring most, by name?",
        """SELECT accounts.name, ltv.currency, ltv.net
FROM 'SYNC_HOME/warehouse/derived/account_ltv.parquet' AS ltv
JOIN 'SYNC_HOME/warehouse/snapshot/salesforce/accounts.parquet' AS accounts ON accounts.id = ltv.account_id
ORDER BY ltv.net DESC
LIMIT 20""",
    ),
)
"""Questions for the listings, which are not in SQL because they hold personal data: DuckDB over the Parquet files."""
