"""The rows of the tables that the sync derives: mapping, money per account, planned writes, certificate.

The rows of the snapshot tables are the records of core.salesforce_records and core.stripe_records. Amounts are signed
minor units of `currency`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated as Column
from typing import Literal

from sync_pipeline.core.differences import DifferenceClass

State = Literal["matched", "ambiguous"]
RateSource = Literal["same currency", "settled by Stripe", "not settled in it"]
DefinitionName = Literal["stripe", "chartmogul", "finance"]
WhyNot = Literal[
    "trial",
    "incomplete",
    "past_due",
    "unpaid",
    "paused",
    "ended",
    "unknown_status",
    "collection_paused",
    "scheduled_end",
    "no_committed_amount",
    "unknown_interval",
]
HistorySource = Literal["records", "snapshot"]
MovementKind = Literal["new", "expansion", "contraction", "churn", "reactivation"]
Period = Literal["day", "month"]
RiskCause = Literal["failing_payment", "overdue_invoice", "dispute", "scheduled_cancel", "trial_without_payment_method"]
ChurnState = Literal["Open", "Final"]
CashStage = Literal["not billed", "subscribed", "billed", "partly collected", "collected"]
BridgeReason = Literal["forever_discount", "repeating_discount", "once_discount", WhyNot]
Evidence = Literal[
    "link",
    "metadata.sf_intent",
    "metadata.sf_account_id",
    "metadata.sf_opportunity_id",
    "metadata.sf_line_id",
    "Account field",
    "Opportunity field",
    "OpportunityLineItem field",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRow:
    """One thing that is wrong with one row, which is therefore in no table. Without values: they may be personal."""

    table_name: Column[str, "Table that the row is not in"]
    row_key: Column[str, "Its key there, parts separated by /"]
    column_name: Column[str, "Column that does not fit; the key's columns where it is there twice"]
    problem: Column[str, "What is wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountCustomer:
    """A Stripe customer and the Account that it belongs to, or that claims it as strongly as others do."""

    customer_id: Column[str, "Stripe customer (cus_...)"]
    account_id: Column[str, "Salesforce Account"]
    evidence: Column[Evidence, "What says so; the strongest evidence counts"]
    state: Column[State, "matched, or ambiguous when several Accounts claim it by this evidence"]
    in_salesforce: Column[bool, "The Account is in the listing of the org"]
    in_stripe: Column[bool, "The customer is in the listing of the Stripe account"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DealSubscription:
    """A deal and the Stripe subscription that bills it, or several that claim to."""

    deal_id: Column[str, "The Opportunity, or a further part of one that is split (006...:2)"]
    opportunity_id: Column[str, "Salesforce Opportunity"]
    subscription_id: Column[str, "Stripe subscription (sub_...)"]
    account_id: Column[str, "Salesforce Account of both"]
    evidence: Column[Evidence, "What says so; the strongest evidence counts"]
    state: Column[State, "matched, or ambiguous when several subscriptions claim it by this evidence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledLine:
    """A line of an Opportunity and the item of its subscription that bills it, or several that claim to."""

    line_id: Column[str, "Salesforce OpportunityLineItem"]
    item_id: Column[str, "Stripe subscription item (si_...)"]
    opportunity_id: Column[str, "Salesforce Opportunity of the line"]
    subscription_id: Column[str, "Stripe subscription of the item"]
    account_id: Column[str, "Salesforce Account of both"]
    evidence: Column[Evidence, "What says so; the strongest evidence counts"]
    state: Column[State, "matched for the first item by id, ambiguous for others that claim the line by this evidence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLtv:
    """What an Account was billed, paid and got back, in one currency."""

    account_id: Column[str, "Salesforce Account"]
    currency: Column[str, "ISO currency"]
    billed_minor: Column[int, "Invoices less their credit notes, minor units; no cash"]
    collected_minor: Column[int, "Paid invoice payments, minor units"]
    refunded_minor: Column[int, "Succeeded refunds, minor units"]
    disputed_minor: Column[int, "Taken back by banks in disputes that are not won, minor units"]
    credited_elsewhere_minor: Column[int, "Given back outside of Stripe by credit notes, minor units"]
    net_minor: Column[int, "Lifetime value: collected less all that went back, minor units"]
    net: Column[Decimal | None, "Lifetime value in major units; empty when the currency is not known"]
    reporting_currency: Column[str, "ISO currency of the company"]
    reporting_minor: Column[int | None, "Lifetime value in it, minor units; empty where it is not known"]
    rate_source: Column[RateSource, "Where the amount in the reporting currency comes from"]
    payments: Column[int, "Invoice payments counted"]
    refunds: Column[int, "Refunds counted"]
    first_payment_at: Column[int | None, "First payment, microseconds UTC"]
    last_payment_at: Column[int | None, "Latest payment, microseconds UTC"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MrrItem:
    """What one subscription item counts for in one definition of monthly recurring revenue."""

    definition: Column[DefinitionName, "Definition of monthly recurring revenue"]
    item: Column[str, "Stripe subscription item (si_...)"]
    subscription: Column[str, "Stripe subscription (sub_...)"]
    customer: Column[str, "Stripe customer (cus_...)"]
    payer: Column[str, "Salesforce Account, or the Stripe customer where no Account has it"]
    account_id: Column[str | None, "Salesforce Account; empty where none has the customer"]
    product: Column[str, "Stripe product"]
    currency: Column[str, "ISO currency"]
    status: Column[str, "Stripe status of the subscription"]
    quantity: Column[int | None, "Quantity; empty when metered"]
    counts: Column[bool, "It counts in this definition"]
    why_not: Column[WhyNot | None, "Why it does not count; empty where it does"]
    yearly_numerator: Column[int, "Exact yearly amount in minor units: numerator"]
    yearly_denominator: Column[int, "Exact yearly amount in minor units: denominator"]
    mrr_minor: Column[int, "Rounded by itself, minor units: for reading; sums come from the exact amounts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MrrSubscription:
    """Monthly recurring revenue of one subscription in one definition."""

    definition: Column[DefinitionName, "Definition of monthly recurring revenue"]
    subscription: Column[str, "Stripe subscription (sub_...)"]
    customer: Column[str, "Stripe customer (cus_...)"]
    payer: Column[str, "Salesforce Account, or the Stripe customer where no Account has it"]
    currency: Column[str, "ISO currency"]
    items: Column[int, "Items that count"]
    yearly_numerator: Column[int, "Exact yearly amount in minor units: numerator"]
    yearly_denominator: Column[int, "Exact yearly amount in minor units: denominator"]
    mrr_minor: Column[int, "Monthly recurring revenue, minor units, rounded once"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountMrr:
    """Monthly recurring revenue of one payer in one currency and definition."""

    definition: Column[DefinitionName, "Definition of monthly recurring revenue"]
    payer: Column[str, "Salesforce Account, or the Stripe customer where no Account has it"]
    currency: Column[str, "ISO currency"]
    account_id: Column[str | None, "Salesforce Account; empty where none has the customer"]
    subscriptions: Column[int, "Subscriptions that count"]
    yearly_numerator: Column[int, "Exact yearly amount in minor units: numerator"]
    yearly_denominator: Column[int, "Exact yearly amount in minor units: denominator"]
    mrr_minor: Column[int, "Monthly recurring revenue, minor units, rounded once"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MrrBridge:
    """One reason why an item's monthly recurring revenue is another in a definition than in Stripe's."""

    definition: Column[DefinitionName, "Definition to which the bridge leads from Stripe's"]
    item: Column[str, "Stripe subscription item (si_...)"]
    reason: Column[BridgeReason, "What the two definitions treat differently"]
    payer: Column[str, "Salesforce Account, or the Stripe customer where no Account has it"]
    currency: Column[str, "ISO currency"]
    yearly_numerator: Column[int, "Exact yearly difference in minor units: numerator"]
    yearly_denominator: Column[int, "Exact yearly difference in minor units: denominator"]
    mrr_minor: Column[int, "Difference per month, minor units, rounded by itself: for reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MrrState:
    """What an item counted for from a moment on, as it was known from one look to another."""

    definition: Column[DefinitionName, "Definition of monthly recurring revenue"]
    item: Column[str, "Stripe subscription item (si_...)"]
    subscription: Column[str, "Stripe subscription (sub_...)"]
    customer: Column[str, "Stripe customer (cus_...)"]
    currency: Column[str, "ISO currency"]
    true_from_at: Column[int, "From when it counted for this, microseconds UTC"]
    true_until_at: Column[int | None, "Until when; empty where it still does, microseconds UTC"]
    yearly_numerator: Column[int, "Exact yearly amount in minor units: numerator; 0 from when it counts for nothing"]
    yearly_denominator: Column[int, "Exact yearly amount in minor units: denominator"]
    mrr_minor: Column[int, "Rounded by itself, minor units: for reading; sums come from the exact amounts"]
    source: Column[HistorySource, "records: Stripe's dated records say from when; snapshot: the first look that saw it"]
    seen_otherwise_at: Column[int | None, "Of a snapshot: the look before it, which saw otherwise, microseconds UTC"]
    known_from_at: Column[int, "The look from which on this was believed, microseconds UTC"]
    known_until_at: Column[int | None, "The look that knew better; empty where it is believed, microseconds UTC"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MrrMovement:
    """How one payer's monthly recurring revenue changed over one day, in one currency and definition."""

    definition: Column[DefinitionName, "Definition of monthly recurring revenue"]
    day_date: Column[str, "Day in the company's time zone (ISO date)"]
    payer: Column[str, "Salesforce Account, or the Stripe customer where no Account has it"]
    currency: Column[str, "ISO currency"]
    account_id: Column[str | None, "Salesforce Account; empty where none has the customer"]
    kind: Column[MovementKind, "new, expansion, contraction, churn, or reactivation after a churn"]
    start_minor: Column[int, "At the start of the day, minor units"]
    movement_minor: Column[int, "Change, signed minor units"]
    end_minor: Column[int, "At the end of the day, minor units"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MrrRollForward:
    """All payers' monthly recurring revenue over one day or month: what it began with, every movement, its end."""

    definition: Column[DefinitionName, "Definition of monthly recurring revenue"]
    period: Column[Period, "day or month"]
    from_date: Column[str, "First day of the period, in the company's time zone (ISO date)"]
    currency: Column[str, "ISO currency in which it is billed"]
    in_currency: Column[str, "ISO currency of the amounts: the same, or the reporting currency"]
    start_minor: Column[int, "At the start, minor units"]
    new_minor: Column[int, "Of payers who never had any, minor units"]
    expansion_minor: Column[int, "More from those who had some, minor units"]
    contraction_minor: Column[int, "Less from those who still have some, negative minor units"]
    churn_minor: Column[int, "All of those who have none left, negative minor units"]
    reactivation_minor: Column[int, "Of payers who had none left, minor units"]
    fx_minor: Column[int, "From the change of the exchange rate, signed minor units"]
    end_minor: Column[int, "At the end: the sum of all of them, minor units"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRate:
    """At which rate Stripe settled a day's payments: one minor unit of `currency` is settled/charged of the other."""

    day_date: Column[str, "Day in the company's time zone (ISO date)"]
    currency: Column[str, "ISO currency in which customers paid"]
    reporting_currency: Column[str, "ISO currency of the company"]
    charged_minor: Column[int, "Paid by customers, minor units"]
    settled_minor: Column[int, "What Stripe settled for it before fees, minor units of the reporting currency"]
    payments: Column[int, "Charges counted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MrrAtRisk:
    """A running subscription that may be lost, with the one cause under which its revenue is counted, if it has any."""

    subscription: Column[str, "Stripe subscription (sub_...)"]
    customer: Column[str, "Stripe customer (cus_...)"]
    payer: Column[str, "Salesforce Account, or the Stripe customer where no Account has it"]
    account_id: Column[str | None, "Salesforce Account; empty where none has the customer"]
    currency: Column[str, "ISO currency"]
    status: Column[str, "Stripe status of the subscription"]
    cause: Column[RiskCause, "Why it is at risk: the first of these that holds"]
    other_causes: Column[tuple[str, ...], "Further causes that hold; they are not counted again"]
    in_mrr: Column[bool, "It counts as recurring revenue in Stripe's definition; unpaid ones and trials do not"]
    mrr_minor: Column[int, "What it counts for by Stripe's definition, minor units; 0 where it does not"]
    open_minor: Column[int, "Of invoices that are failing or overdue, minor units"]
    oldest_due_at: Column[int | None, "When the oldest of them was due, microseconds UTC"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChurnEpisode:
    """A subscription that has ended or is to end, as Stripe shows it, and its latest churn record in Salesforce."""

    subscription: Column[str, "Stripe subscription (sub_...)"]
    customer: Column[str, "Stripe customer (cus_...)"]
    payer: Column[str, "Salesforce Account, or the Stripe customer where no Account has it"]
    account_id: Column[str | None, "Salesforce Account; empty where none has the customer"]
    currency: Column[str, "ISO currency"]
    state: Column[ChurnState, "Open while the end is ahead, Final when it has come"]
    requested_at: Column[int | None, "When the end was asked for last, microseconds UTC"]
    ends_at: Column[int | None, "When it ended or will, microseconds UTC"]
    effective_date: Column[str | None, "The same in the company's time zone (ISO date)"]
    lost_mrr_minor: Column[int, "What it counted for by Stripe's definition just before its end, minor units"]
    is_voluntary: Column[bool, "The customer or we decided; false for failed payments and disputes"]
    reason: Column[str | None, "Stripe's reason of the cancellation"]
    feedback: Column[str | None, "What the customer chose as feedback"]
    churn_record_id: Column[str | None, "Churn record of its latest episode; empty where there is none"]
    episode: Column[int | None, "Number of that episode"]
    salesforce_status: Column[str | None, "Open, Rescinded or Final, as Salesforce shows it"]
    salesforce_date: Column[str | None, "Effective date as Salesforce shows it (ISO date)"]
    salesforce_lost_mrr_minor: Column[int | None, "Lost revenue as Salesforce shows it, minor units"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The running term of a deal that is billed: when it ends, what the next one bills, and its Opportunity."""

    deal_id: Column[str, "The Opportunity of the deal, or a further part of one that is split (006...:2)"]
    opportunity_id: Column[str, "Opportunity of the deal"]
    subscription_id: Column[str, "Stripe subscription (sub_...)"]
    account_id: Column[str, "Salesforce Account of both"]
    customer: Column[str, "Stripe customer (cus_...)"]
    currency: Column[str, "ISO currency"]
    months: Column[int, "Length of a term"]
    term_end_date: Column[str, "First end of a term that is still ahead (ISO date)"]
    days_left: Column[int, "Days from the snapshot's day to it"]
    is_due: Column[bool, "It is near enough for a renewal Opportunity"]
    is_ending: Column[bool, "The subscription is to end, so that there is nothing to renew"]
    risk: Column[RiskCause | None, "Why its revenue is at risk: the first cause that holds; empty where none does"]
    next_term_minor: Column[int, "What the next term bills at today's rates, after lasting discounts, minor units"]
    renewal_opportunity_id: Column[str | None, "Opportunity of the renewal; empty where there is none yet"]
    renewal_stage: Column[str | None, "Its stage"]
    renewal_is_closed: Column[bool | None, "It is won or lost"]
    renewal_amount_minor: Column[int | None, "Its amount, minor units"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DealToCash:
    """A won Opportunity and the way of its money: won, invoiced, collected. Amounts are minor units of `currency`."""

    opportunity_id: Column[str, "Salesforce Opportunity"]
    account_id: Column[str, "Salesforce Account"]
    subscription_id: Column[
        str | None, "Stripe subscription (sub_...), of a split deal the first; empty where nothing bills it"
    ]
    stage: Column[CashStage, "How far its money has come"]
    won_date: Column[str | None, "Close date of the Opportunity (ISO date)"]
    won_currency: Column[str | None, "ISO currency of the Opportunity"]
    won_minor: Column[int | None, "Amount of the Opportunity, minor units of its currency"]
    currency: Column[str, "ISO currency that is billed"]
    billed_minor: Column[int, "Invoices of its subscriptions less their credit notes, minor units"]
    collected_minor: Column[int, "Payments of these invoices, minor units"]
    refunded_minor: Column[int, "Refunds of these payments, minor units"]
    first_invoice_date: Column[str | None, "Day of the first invoice, in the company's time zone (ISO date)"]
    first_payment_date: Column[str | None, "Day of the first payment, in the company's time zone (ISO date)"]
    last_payment_date: Column[str | None, "Day of the latest payment, in the company's time zone (ISO date)"]
    days_to_invoice: Column[int | None, "From the close date to the first invoice"]
    days_to_cash: Column[int | None, "From the close date to the first payment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """What is left, in one month, of the payers who had their first recurring revenue in the same month."""

    definition: Column[DefinitionName, "Definition of monthly recurring revenue"]
    currency: Column[str, "ISO currency"]
    cohort_date: Column[str, "First day of the month of their first recurring revenue (ISO date)"]
    month_date: Column[str, "First day of the month that the row is about (ISO date)"]
    age_months: Column[int, "Months between the two"]
    payers: Column[int, "Payers in the cohort"]
    active_payers: Column[int, "Those with recurring revenue at the end of the month"]
    first_month_minor: Column[int, "Recurring revenue at the end of the cohort's first month, minor units"]
    mrr_minor: Column[int, "Recurring revenue at the end of the month, minor units"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWrite:
    """One field of one write that would make both systems agree; a create has one row without a field."""

    account_id: Column[str, "Salesforce Account that the write is for"]
    step: Column[int, "Round in which it becomes possible, from 1"]
    target: Column[str, "System, object and id that it touches"]
    field: Column[str, "Field that changes; empty for a create or a link"]
    action: Column[str, "stripe.create, stripe.update, stripe.delete, salesforce.update or link"]
    rule: Column[str | None, "Rule that asks for it"]
    old: Column[str | None, "Value before as canonical JSON; a keyed hash where it is personal"]
    new: Column[str | None, "Value after as canonical JSON; a keyed hash where it is personal; what a create sends"]
    owner: Column[str, "System whose word it follows: salesforce or stripe"]
    reason: Column[str, "Why"]
    priority: Column[int, "Order of work, 0 is most urgent"]
    sends: Column[str | None, "Digest of the request that changes something at Stripe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictEntry:
    """One field on which both systems disagreed: what each said, who edited it, whose word counts."""

    conflict: Column[str, "Key of the conflict, for sync-pipeline resolve; number of its coming after the colon"]
    account_id: Column[str, "Salesforce Account"]
    opportunity_id: Column[str | None, "Deal whose terms disagreed"]
    record_id: Column[str, "Salesforce record that has the field"]
    field: Column[str, "Rule of the field"]
    base_value: Column[str | None, "What both said when they last agreed"]
    salesforce_value: Column[str, "What Salesforce said"]
    stripe_value: Column[str, "What Stripe said"]
    winner: Column[Literal["Salesforce", "Stripe"] | None, "Whose value counts; empty while a person has to decide"]
    status: Column[Literal["Open", "Decided", "Overtaken"], "Overtaken: a later edit changed the question"]
    reason: Column[str, "What happened, in words"]
    opened_at: Column[int, "When it was seen first, microseconds UTC"]
    edited_by_id: Column[str | None, "User who edited the Salesforce record last before that"]
    edited_at: Column[int | None, "That edit, microseconds UTC"]
    stripe_event: Column[str | None, "Newest event of the Stripe object before that (evt_...)"]
    stripe_edited_at: Column[int | None, "That event, microseconds UTC"]
    decided_by: Column[str | None, "The rule, a later edit, or who ruled"]
    decided_at: Column[int | None, "When the winner's value counted, microseconds UTC"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedTotal:
    """One measure in one currency over all Accounts: what each system says after the repair."""

    measure: Column[str, "mrr or lifetime_value"]
    currency: Column[str, "ISO currency"]
    salesforce_minor: Column[int, "What the Accounts show, minor units"]
    stripe_minor: Column[int, "What follows from Stripe's records, minor units"]
    difference_minor: Column[int, "Salesforce less Stripe, minor units"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedAmount:
    """One figure of an account in one currency: what each system said, and one class of what lay between.

    A difference of several classes has a row for each; they add up to it.
    """

    account_id: Column[str, "Salesforce Account"]
    measure: Column[str, "mrr, mrr_at_risk, lifetime_value, or period_invoice: the deal against the latest invoice"]
    currency: Column[str, "ISO currency"]
    subject: Column[str, "Record that the figure is of: the Account, or the Opportunity"]
    difference_class: Column[DifferenceClass, "What lay between the two before the repair; none where nothing did"]
    salesforce_minor: Column[int, "What Salesforce said before the repair, minor units"]
    stripe_minor: Column[int, "What follows from Stripe's records, minor units"]
    difference_minor: Column[int, "Of Salesforce less Stripe, the part of this class, minor units"]
    repair: Column[str | None, "What the sync did about it, or why it does nothing"]
    left_minor: Column[int, "What is left of it after the repair and should not be, minor units"]
    since_at: Column[int | None, "When a certificate first saw this difference, microseconds UTC"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedSum:
    """One certificate's figures of one measure, currency and class together."""

    certified_at: Column[int, "Time of the certificate, microseconds UTC"]
    measure: Column[str, "mrr, mrr_at_risk, lifetime_value or period_invoice"]
    currency: Column[str, "ISO currency"]
    difference_class: Column[DifferenceClass, "What lay between the two systems; none where nothing did"]
    figures: Column[int, "How many"]
    still_different: Column[int, "Those that still differ after the repair and should not"]
    difference_minor: Column[int, "Sum of Salesforce less Stripe before the repair, minor units"]
    left_minor: Column[int, "Sum of what is left of it, minor units"]
