"""Views over the published tables, for those who ask the same questions every week. The same SQL on both databases.

Amounts are minor units of the row's currency, as in the tables.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """A view. `sql` is its SELECT; it may use the views before it."""

    name: str
    description: str
    sql: str


VIEWS = (
    View(
        "mrr_by_month",
        "Monthly recurring revenue by month and currency as it is billed: start, every movement, end.",
        """
SELECT definition, from_date, currency, start_minor, new_minor, expansion_minor, contraction_minor, churn_minor,
       reactivation_minor, end_minor
FROM derived_mrr_rollforward
WHERE period = 'month' AND in_currency = currency
""",
    ),
    View(
        "mrr_by_month_reporting",
        "Monthly recurring revenue by month over all currencies in the reporting currency, exchange rates apart.",
        """
SELECT rolled.definition, rolled.from_date, rolled.in_currency, SUM(rolled.start_minor) AS start_minor,
       SUM(rolled.new_minor) AS new_minor, SUM(rolled.expansion_minor) AS expansion_minor,
       SUM(rolled.contraction_minor) AS contraction_minor, SUM(rolled.churn_minor) AS churn_minor,
       SUM(rolled.reactivation_minor) AS reactivation_minor, SUM(rolled.fx_minor) AS fx_minor,
       SUM(rolled.end_minor) AS end_minor
FROM derived_mrr_rollforward AS rolled
WHERE rolled.period = 'month'
  AND (rolled.in_currency <> rolled.currency
       OR rolled.in_currency = (SELECT MAX(ltv.reporting_currency) FROM derived_account_ltv AS ltv))
GROUP BY rolled.definition, rolled.from_date, rolled.in_currency
""",
    ),
    View(
        "mrr_at_risk_by_cause",
        "Monthly recurring revenue that may be lost, by cause and currency; every subscription counts once.",
        """
SELECT cause, currency, COUNT(*) AS subscriptions, SUM(mrr_minor) AS mrr_minor, SUM(open_minor) AS open_minor
FROM derived_mrr_at_risk
GROUP BY cause, currency
""",
    ),
    View(
        "mrr_definitions_compared",
        "From Stripe's monthly recurring revenue to that of the other definitions, by currency and reason.",
        """
SELECT definition, currency, reason, COUNT(*) AS items, SUM(mrr_minor) AS about_mrr_minor
FROM derived_mrr_bridge
GROUP BY definition, currency, reason
""",
    ),
    View(
        "account_revenue",
        "Every Account and currency with its recurring revenue, what of it is at risk, and its lifetime value.",
        """
SELECT keyed.account_id, keyed.currency, COALESCE(mrr.mrr_minor, 0) AS mrr_minor,
       COALESCE(risk.mrr_minor, 0) AS mrr_at_risk_minor, COALESCE(ltv.billed_minor, 0) AS billed_minor,
       COALESCE(ltv.net_minor, 0) AS lifetime_value_minor, ltv.first_payment_at, ltv.last_payment_at
FROM (
    SELECT account_id, currency FROM derived_account_ltv
    UNION
    SELECT account_id, currency FROM derived_account_mrr WHERE account_id IS NOT NULL AND definition = 'stripe'
) AS keyed
LEFT JOIN derived_account_mrr AS mrr
    ON mrr.payer = keyed.account_id AND mrr.currency = keyed.currency AND mrr.definition = 'stripe'
LEFT JOIN derived_account_ltv AS ltv ON ltv.account_id = keyed.account_id AND ltv.currency = keyed.currency
LEFT JOIN (
    SELECT payer, currency, SUM(mrr_minor) AS mrr_minor FROM derived_mrr_at_risk GROUP BY payer, currency
) AS risk ON risk.payer = keyed.account_id AND risk.currency = keyed.currency
""",
    ),
    View(
        "cohort_retention",
        "Of every 10,000 payers and minor units with which a cohort began, how many are left, by month.",
        """
SELECT definition, currency, cohort_date, age_months, payers, active_payers, mrr_minor,
       CASE WHEN payers > 0 THEN active_payers * 10000 / payers END AS payers_left_of_10000,
       CASE WHEN first_month_minor > 0 THEN mrr_minor * 10000 / first_month_minor END AS revenue_left_of_10000
FROM derived_cohorts
""",
    ),
)
