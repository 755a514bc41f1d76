"""Every table of the warehouse: its name, rows, key and description. A table's name is its asset key and its path."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from sync_pipeline.core import salesforce_records as salesforce
from sync_pipeline.core import stripe_records as stripe
from sync_pipeline.frames import rows
from sync_pipeline.frames.columns import Table

SNAPSHOT = "snapshot/"

QUARANTINE = Table(
    "quarantine/rows",
    rows.QuarantinedRow,
    ("table_name", "row_key", "column_name", "problem"),
    "Rows of listings and mapping that did not fit their table, with what is wrong; they are left out of everything.",
)
ACCOUNT_CUSTOMERS = Table(
    "mapping/account_customers",
    rows.AccountCustomer,
    ("customer_id", "account_id"),
    "Which Stripe customer belongs to which Salesforce Account, and what says so.",
)
DEAL_SUBSCRIPTIONS = Table(
    "mapping/deal_subscriptions",
    rows.DealSubscription,
    ("deal_id", "subscription_id"),
    "Which Stripe subscription bills which deal, or which part of one, and what says so.",
)
BILLED_LINES = Table(
    "mapping/billed_lines",
    rows.BilledLine,
    ("line_id", "item_id"),
    "Which subscription item bills which line of an Opportunity, and what says so.",
)
ACCOUNT_LTV = Table(
    "derived/account_ltv",
    rows.AccountLtv,
    ("account_id", "currency"),
    "Lifetime value per Account and currency, in that and in the reporting currency, from the full listings of Stripe.",
)
MRR_ITEMS = Table(
    "derived/mrr_items",
    rows.MrrItem,
    ("definition", "item"),
    "Monthly recurring revenue per item of every living subscription, in every definition, and why it counts or not.",
)
MRR_SUBSCRIPTIONS = Table(
    "derived/mrr_subscriptions",
    rows.MrrSubscription,
    ("definition", "subscription"),
    "Monthly recurring revenue per subscription, in every definition.",
)
ACCOUNT_MRR = Table(
    "derived/account_mrr",
    rows.AccountMrr,
    ("definition", "payer", "currency"),
    "Monthly recurring revenue per payer and currency, in every definition.",
)
MRR_BRIDGE = Table(
    "derived/mrr_bridge",
    rows.MrrBridge,
    ("definition", "item", "reason"),
    "From Stripe's monthly recurring revenue to that of each other definition, item by item and reason by reason.",
)
MRR_HISTORY = Table(
    "derived/mrr_history",
    rows.MrrState,
    ("definition", "item", "true_from_at", "known_from_at"),
    "What every item counted for at every moment, as it is known now and as it was known before.",
)
MRR_MOVEMENTS = Table(
    "derived/mrr_movements",
    rows.MrrMovement,
    ("definition", "day_date", "payer", "currency"),
    "Every change of a payer's monthly recurring revenue, by day: new, expansion, contraction, churn, reactivation.",
)
MRR_ROLLFORWARD = Table(
    "derived/mrr_rollforward",
    rows.MrrRollForward,
    ("definition", "period", "from_date", "currency", "in_currency"),
    "Monthly recurring revenue by day and month: start plus every movement is the end, also in the reporting currency.",
)
EXCHANGE_RATES = Table(
    "derived/exchange_rates",
    rows.ExchangeRate,
    ("day_date", "currency"),
    "The rates at which Stripe settled payments in the reporting currency, day by day.",
)
MRR_AT_RISK = Table(
    "derived/mrr_at_risk",
    rows.MrrAtRisk,
    ("subscription",),
    "Monthly recurring revenue that may be lost, by cause; every subscription counts once.",
)
CHURN_RECORDS = Table(
    "derived/churn_records",
    rows.ChurnEpisode,
    ("subscription",),
    "Every subscription that has ended or is to end, with the revenue that goes, beside its Salesforce churn record.",
)
RENEWAL_PIPELINE = Table(
    "derived/renewal_pipeline",
    rows.Renewal,
    ("deal_id",),
    "When the term of every deal that is billed ends, what the next one bills, and the renewal Opportunity.",
)
DEAL_TO_CASH = Table(
    "derived/deal_to_cash",
    rows.DealToCash,
    ("opportunity_id",),
    "Every won deal from its close to its cash: won, invoiced, collected, and the days between.",
)
COHORTS = Table(
    "derived/cohorts",
    rows.Cohort,
    ("definition", "currency", "cohort_date", "month_date"),
    "What is left of the payers and the recurring revenue that began in each month, month by month.",
)
PLAN = Table(
    "sync/plan",
    rows.PlannedWrite,
    ("account_id", "step", "target", "field"),
    "Every write that would make both systems agree, planned from the snapshots; empty when they do.",
)
CONFLICTS = Table(
    "sync/conflicts",
    rows.ConflictEntry,
    ("conflict",),
    "The inbox of conflicts: every field on which both systems disagreed, and who decided it.",
)
CERTIFICATE = Table(
    "sync/certificate",
    rows.CertifiedTotal,
    ("measure", "currency"),
    "What both systems say after the repair, per measure and currency, to the minor unit.",
)
CERTIFICATE_ACCOUNTS = Table(
    "sync/certificate_accounts",
    rows.CertifiedAmount,
    ("account_id", "measure", "currency", "subject", "difference_class"),
    "The certificate per Account and currency: what each system said, the difference, its class and its repair.",
)
CERTIFICATE_HISTORY = Table(
    "sync/certificate_history",
    rows.CertifiedSum,
    ("certified_at", "measure", "currency", "difference_class"),
    "Every certificate there was, by measure, currency and class of difference.",
)

_SNAPSHOTS = (
    ("salesforce/accounts", salesforce.Account, "All Salesforce Accounts."),
    ("salesforce/opportunities", salesforce.Opportunity, "All Salesforce Opportunities."),
    ("salesforce/opportunity_line_items", salesforce.LineItem, "The negotiated lines of all Opportunities."),
    ("salesforce/contracts", salesforce.Contract, "All Salesforce Contracts."),
    ("salesforce/churn_records", salesforce.ChurnRecord, "All churn records: one per episode of a cancellation."),
    ("salesforce/sync_conflicts", salesforce.SyncConflict, "Fields on which both systems disagreed, and who decided."),
    ("salesforce/failure_tasks", salesforce.FailureTask, "Open Tasks that were made for a failed payment."),
    ("stripe/customers", stripe.Customer, "All Stripe customers that are not deleted."),
    ("stripe/products", stripe.Product, "All Stripe products."),
    ("stripe/prices", stripe.Price, "All Stripe prices, the negotiated rates among them."),
    ("stripe/subscriptions", stripe.Subscription, "All Stripe subscriptions, ended ones included."),
    ("stripe/subscription_items", stripe.SubscriptionItem, "The rates and quantities of all subscriptions."),
    ("stripe/subscription_schedules", stripe.SubscriptionSchedule, "Subscriptions that begin later or in phases."),
    ("stripe/coupons", stripe.Coupon, "All Stripe coupons: the discounts on whole deals among them."),
    ("stripe/discounts", stripe.Discount, "The coupons on all subscriptions and their items."),
    ("stripe/invoices", stripe.Invoice, "All Stripe invoices. Amounts in minor units."),
    ("stripe/invoice_lines", stripe.InvoiceLine, "What invoices billed for subscription items, and for which period."),
    ("stripe/invoice_payments", stripe.InvoicePayment, "Money allocated to invoices: the proof of collected cash."),
    ("stripe/charges", stripe.Charge, "All attempts to collect money. Amounts in minor units."),
    ("stripe/refunds", stripe.Refund, "All refunds of charges. Amounts in minor units."),
    ("stripe/disputes", stripe.Dispute, "All payments that customers' banks question. Amounts in minor units."),
    ("stripe/credit_notes", stripe.CreditNote, "All corrections of invoices. Amounts in minor units."),
    ("stripe/events", stripe.Event, "What happened at Stripe, without payloads; kept when Stripe forgets it."),
)

DAILY: Mapping[str, tuple[str, ...]] = {
    "events": ("stripe/events",),
    "invoices": ("stripe/invoice_lines", "stripe/invoice_payments", "stripe/invoices"),
    "charges": ("stripe/refunds", "stripe/charges"),
}
"""What Stripe lists by day, with its tables: that of the listed objects last, before it what belongs to them. Lines,
payments and refunds are kept under the day of their invoice or charge."""
FIRST_DAY = date(2020, 1, 1)
"""What is older is kept under this day too."""
_DAILY = {name for names in DAILY.values() for name in names}

SNAPSHOTS: Mapping[str, Table] = {
    name: Table(SNAPSHOT + name, row, ("id",), description, daily=name in _DAILY)
    for name, row, description in _SNAPSHOTS
}
"""By the name that the engine gives the records (`salesforce/accounts`)."""

MAPPING = (ACCOUNT_CUSTOMERS, DEAL_SUBSCRIPTIONS, BILLED_LINES)
QUARANTINED = (*SNAPSHOTS.values(), *MAPPING)
"""Tables of what comes from outside: a row that does not fit is set aside."""

DERIVED = (
    ACCOUNT_LTV,
    MRR_ITEMS,
    MRR_SUBSCRIPTIONS,
    ACCOUNT_MRR,
    MRR_BRIDGE,
    MRR_HISTORY,
    MRR_MOVEMENTS,
    MRR_ROLLFORWARD,
    EXCHANGE_RATES,
    MRR_AT_RISK,
    CHURN_RECORDS,
    RENEWAL_PIPELINE,
    DEAL_TO_CASH,
    COHORTS,
)

CERTIFICATES = (CERTIFICATE, CERTIFICATE_ACCOUNTS, CERTIFICATE_HISTORY)

TABLES: Mapping[str, Table] = {
    table.name: table for table in (*SNAPSHOTS.values(), *MAPPING, QUARANTINE, *DERIVED, PLAN, CONFLICTS, *CERTIFICATES)
}

PUBLISHED: Mapping[str, Table] = {
    name.replace("/", "_"): table for name, table in TABLES.items() if not name.startswith(SNAPSHOT)
}
"""What is also in SQL, by the name there: derived/account_ltv is derived_account_ltv. Snapshots hold personal data."""
