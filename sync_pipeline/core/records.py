"""The records of both systems as the sync sees them: flat, typed, one class per object.

Each class is at once what a fresh read is parsed into and the row type of its snapshot table; a field's
annotation carries its description. Names are the sync's own (the rules file maps them to Salesforce API
names). Times are microseconds UTC; dates are ISO texts, because Salesforce dates have no zone. Salesforce
amounts are decimals in major units, as read; Stripe amounts are integer minor units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated as Column
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A Salesforce Account: the customer of record."""

    id: Column[str, "Salesforce id, 18 characters"]
    name: Column[str | None, "Account name (personal data)"] = None
    billing_street: Column[str | None, "Billing street (personal data)"] = None
    billing_city: Column[str | None, "Billing city (personal data)"] = None
    billing_state: Column[str | None, "Billing state or county (personal data)"] = None
    billing_postal_code: Column[str | None, "Billing postal code (personal data)"] = None
    billing_country: Column[str | None, "Billing country, name or ISO code (personal data)"] = None
    currency: Column[str | None, "ISO currency of the record; the org's where it has one currency"] = None
    owner_id: Column[str | None, "User who owns the Account"] = None
    owner_active: Column[bool, "The owner can be given work"] = False
    success_owner_id: Column[str | None, "User responsible for customer success"] = None
    success_owner_active: Column[bool, "The customer-success user can be given work"] = False
    team_owner_id: Column[str | None, "Active member of the Account's team in the role that gets Tasks"] = None
    tax_registration: Column[str | None, "Tax registration number (personal data)"] = None
    tax_registration_type: Column[str | None, "Stripe tax id type of the registration, e.g. gb_vat"] = None
    stripe_customer_id: Column[str | None, "Stripe customer (cus_...)"] = None
    lifetime_value: Column[Decimal | None, "Cash collected net of refunds and lost disputes, major units"] = None
    mrr: Column[Decimal | None, "Monthly recurring revenue, major units"] = None
    mrr_at_risk: Column[Decimal | None, "MRR whose payment is failing or overdue, major units"] = None
    billing_status: Column[str | None, "Billing state over all subscriptions"] = None
    other_currencies: Column[str | None, "Recurring revenue and cash in other currencies, not in the figures"] = None
    billing_plan: Column[str | None, "Product that carries most of the recurring revenue"] = None
    seats: Column[Decimal | None, "Seats over all running subscriptions"] = None
    retention_status: Column[str | None, "Healthy, At Risk, Cancel Scheduled, Churned or Won Back"] = None
    modified_by_id: Column[str | None, "User who edited the record last"] = None
    modified_at: Column[int | None, "SystemModstamp, microseconds UTC"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opportunity:
    """A Salesforce Opportunity: one deal."""

    id: Column[str, "Salesforce id, 18 characters"]
    account_id: Column[str | None, "Account of the deal"] = None
    name: Column[str | None, "Name of the deal"] = None
    stage: Column[str | None, "Stage name"] = None
    type: Column[str | None, "Type of the deal"] = None
    record_type: Column[str | None, "Record type by DeveloperName; empty where it has none"] = None
    record_type_id: Column[str | None, "Id of the record type"] = None
    is_won: Column[bool, "The stage counts as won"] = False
    is_closed: Column[bool, "The stage counts as closed"] = False
    has_lines: Column[bool, "It has lines, so that Salesforce keeps Amount as their sum and takes no other"] = False
    amount: Column[Decimal | None, "Amount in major units; the sum of the lines where there are lines"] = None
    currency: Column[str | None, "ISO currency of the deal; the org's where it has one currency"] = None
    close_date: Column[str | None, "Close date (ISO date)"] = None
    contract_id: Column[str | None, "Contract of the deal"] = None
    pricebook_id: Column[str | None, "Price book of the deal"] = None
    billing_interval: Column[str | None, "Monthly, Quarterly or Annual"] = None
    service_start_date: Column[str | None, "First day of service (ISO date)"] = None
    term_months: Column[Decimal | None, "Length of the term in months"] = None
    free_months: Column[Decimal | None, "Months before the term that are not billed"] = None
    collection_method: Column[str | None, "Send Invoice or Charge Automatically; empty as the rules say"] = None
    net_days: Column[Decimal | None, "Days until an invoice is due; empty as the rules say"] = None
    discount_percent: Column[Decimal | None, "Discount on the whole deal in percent"] = None
    discount_amount: Column[Decimal | None, "Discount on each invoice of the deal, major units"] = None
    discount_duration: Column[str | None, "Once, Months or Forever"] = None
    discount_months: Column[Decimal | None, "How long a discount with the duration Months lasts"] = None
    amends_opportunity_id: Column[str | None, "Opportunity that this deal amends"] = None
    stripe_subscription_id: Column[str | None, "Stripe subscription (sub_...)"] = None
    billing_status: Column[str | None, "Billing state of the subscription"] = None
    billing_message: Column[str | None, "What keeps the deal from being billed"] = None
    activation_status: Column[str | None, "Pending until the first payment, then Activated"] = None
    first_payment_at: Column[int | None, "First payment, microseconds UTC"] = None
    term_end: Column[str | None, "Renews or Ends: what happens when the term is over; empty for the rule's answer"] = (
        None
    )
    owner_id: Column[str | None, "User who owns the deal"] = None
    owner_active: Column[bool, "The owner can be given work"] = False
    lost_reason: Column[str | None, "Why the renewal was lost"] = None
    renewal_key: Column[str | None, "Subscription and end of term that this renewal Opportunity is for"] = None
    modified_by_id: Column[str | None, "User who edited the record last"] = None
    modified_at: Column[int | None, "SystemModstamp, microseconds UTC"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineItem:
    """A Salesforce OpportunityLineItem: one negotiated line of a deal."""

    id: Column[str, "Salesforce id, 18 characters"]
    opportunity_id: Column[str, "Opportunity of the line"]
    product_id: Column[str | None, "Product2 of the line"] = None
    product_name: Column[str | None, "Name of the product"] = None
    product_family: Column[str | None, "Family of the product, e.g. Seats"] = None
    quantity: Column[Decimal | None, "Quantity"] = None
    unit_price: Column[Decimal | None, "Negotiated price per unit and billing interval, major units"] = None
    service_date: Column[str | None, "Day from which the line counts (ISO date)"] = None
    pricebook_entry_id: Column[str | None, "Price book entry of the line"] = None
    amends_line_id: Column[str | None, "Line of an amendment that this line brings to the deal"] = None
    stripe_change_key: Column[str | None, "Change of an item at Stripe that this line brings to the deal"] = None
    charge_type: Column[str | None, "Recurring or One-Time; empty as the product's family says"] = None
    billing_interval: Column[str | None, "Interval of this line where it is not the deal's"] = None
    from_month: Column[Decimal | None, "First month of the term that bills the line; empty from its start"] = None
    to_month: Column[Decimal | None, "Last month of the term that bills the line; empty to its end"] = None
    stripe_item_id: Column[str | None, "Stripe subscription item (si_...)"] = None
    modified_by_id: Column[str | None, "User who edited the record last"] = None
    modified_at: Column[int | None, "SystemModstamp, microseconds UTC"] = None

    @property
    def called(self) -> str:
        """What a person is told of it: the name of its product, or else its id."""
        return self.product_name or self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBookEntry:
    """A Salesforce PricebookEntry: a product as a price book lists it in one currency. Looked up where it is needed."""

    id: Column[str, "Salesforce id, 18 characters"]
    pricebook_id: Column[str | None, "Price book"] = None
    product_id: Column[str | None, "Product2 that is listed"] = None
    product_name: Column[str | None, "Name of the product"] = None
    product_family: Column[str | None, "Family of the product, e.g. Seats"] = None
    currency: Column[str | None, "ISO currency of the entry; the org's where it has one currency"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A Salesforce Contract."""

    id: Column[str, "Salesforce id, 18 characters"]
    account_id: Column[str | None, "Account of the contract"] = None
    status: Column[str | None, "Draft, Activated ..."] = None
    start_date: Column[str | None, "Start (ISO date)"] = None
    term_months: Column[Decimal | None, "Term in months"] = None
    stripe_subscription_id: Column[str | None, "Stripe subscription (sub_...)"] = None
    cancel_requested_on: Column[str | None, "Last day of service that was asked for (ISO date)"] = None
    service_end_date: Column[str | None, "Day on which service ends or has ended (ISO date)"] = None
    modified_by_id: Column[str | None, "User who edited the record last"] = None
    modified_at: Column[int | None, "SystemModstamp, microseconds UTC"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChurnRecord:
    """A Salesforce churn record: one episode of a subscription's cancellation, or one day's contraction."""

    id: Column[str, "Salesforce id, 18 characters"]
    key: Column[str | None, "Subscription and number of the episode: its identity"] = None
    account_id: Column[str | None, "Account that leaves"] = None
    opportunity_id: Column[str | None, "Deal whose subscription ends"] = None
    kind: Column[str | None, "Churn, or Contraction of a subscription that goes on"] = None
    subscription_id: Column[str | None, "Stripe subscription (sub_...)"] = None
    currency: Column[str | None, "ISO currency of the record; the org's where it has one currency"] = None
    status: Column[str | None, "Open, Rescinded or Final"] = None
    effective_date: Column[str | None, "Day on which the subscription ends (ISO date)"] = None
    lost_mrr: Column[Decimal | None, "Monthly recurring revenue that ends, major units"] = None
    reason: Column[str | None, "Why, in words"] = None
    feedback: Column[str | None, "What the customer chose as feedback"] = None
    comment: Column[str | None, "What the customer wrote (personal data)"] = None
    open_debt: Column[Decimal | None, "Still owed for a subscription that has ended, major units"] = None
    is_voluntary: Column[bool, "The customer or we decided; false for failed payments and disputes"] = False
    modified_at: Column[int | None, "SystemModstamp, microseconds UTC"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConflict:
    """A Salesforce record of a conflict (core/conflicts.py): what it was about, who won, and what a person rules."""

    id: Column[str, "Salesforce id, 18 characters"]
    key: Column[str | None, "Field, pair of values and number of the conflict: its identity"] = None
    account_id: Column[str | None, "Account whose records disagreed"] = None
    opportunity_id: Column[str | None, "Deal whose terms disagreed"] = None
    record_id: Column[str | None, "Record that has the field"] = None
    field: Column[str | None, "Rule of the field"] = None
    base_value: Column[str | None, "What both systems said when they last agreed"] = None
    salesforce_value: Column[str | None, "What Salesforce said"] = None
    stripe_value: Column[str | None, "What Stripe said"] = None
    winner: Column[str | None, "Salesforce or Stripe; empty while a person has to decide"] = None
    status: Column[str | None, "Open, Decided or Overtaken"] = None
    reason: Column[str | None, "What happened, in words"] = None
    salesforce_edited_by_id: Column[str | None, "User who edited the record before the conflict was seen"] = None
    salesforce_edited_at: Column[int | None, "That edit, microseconds UTC"] = None
    stripe_event: Column[str | None, "Newest event of the Stripe object (evt_...)"] = None
    stripe_edited_at: Column[int | None, "That event, microseconds UTC"] = None
    ruling: Column[str | None, "Salesforce or Stripe: whose value shall count, as a person says"] = None
    decided_by: Column[str | None, "Who decided"] = None
    decided_at: Column[int | None, "When both systems had the winner's value, microseconds UTC"] = None
    modified_by_id: Column[str | None, "User who edited the record last"] = None
    modified_at: Column[int | None, "SystemModstamp, microseconds UTC"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureTask:
    """A Salesforce Task that was made for a failed payment and is still open."""

    id: Column[str, "Salesforce id, 18 characters"]
    what_id: Column[str | None, "Account of the Task"] = None
    status: Column[str | None, "Status of the Task"] = None
    failure_key: Column[str | None, "The failure that it was made for"] = None


SALESFORCE_RECORDS: Mapping[str, type[Any]] = {
    "account": Account,
    "opportunity": Opportunity,
    "line": LineItem,
    "contract": Contract,
    "churn_record": ChurnRecord,
    "sync_conflict": SyncConflict,
}
"""The Salesforce objects that are read, by the sync's own names; others are only written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """A Stripe customer. A deleted one keeps only its id."""

    id: Column[str, "Stripe id (cus_...)"]
    deleted: Column[bool, "Deleted at Stripe: all its subscriptions are canceled"] = False
    name: Column[str | None, "Name on invoices (personal data)"] = None
    email: Column[str | None, "Billing e-mail (personal data)"] = None
    line1: Column[str | None, "Street (personal data)"] = None
    city: Column[str | None, "City (personal data)"] = None
    state: Column[str | None, "State or county (personal data)"] = None
    postal_code: Column[str | None, "Postal code (personal data)"] = None
    country: Column[str | None, "Country, two-letter code (personal data)"] = None
    currency: Column[str | None, "ISO currency, once billed"] = None
    payment_method: Column[str | None, "Default payment method of all its invoices (pm_..., or an old card)"] = None
    tax_ids: Column[tuple[str, ...], "Tax ids as type:value (personal data)"] = ()
    tax_id_names: Column[tuple[str, ...], "Stripe ids of the tax ids (txi_...), in their order"] = ()
    created_at: Column[int | None, "Creation, microseconds UTC"] = None
    account_id: Column[str | None, "metadata.sf_account_id"] = None
    intent: Column[str | None, "metadata.sf_intent: which plan created it"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A Stripe product."""

    id: Column[str, "Stripe id"]
    name: Column[str, "Name on invoices"]
    active: Column[bool, "Can be sold"] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A Stripe price with a lookup key: one negotiated rate of the rate card."""

    id: Column[str, "Stripe id (price_...)"]
    product: Column[str, "Stripe product"]
    currency: Column[str, "ISO currency"]
    active: Column[bool, "Can be used for new items"] = True
    lookup_key: Column[str | None, "Key by which the sync finds the price"] = None
    unit_amount: Column[Decimal | None, "Minor units per unit, may have a fraction; empty when tiered"] = None
    interval: Column[str | None, "day, week, month or year; empty for one-time prices"] = None
    interval_count: Column[int | None, "Intervals per period"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A Stripe subscription without its items."""

    id: Column[str, "Stripe id (sub_...)"]
    customer: Column[str, "Stripe customer"]
    status: Column[str, "Stripe status"]
    currency: Column[str, "ISO currency"]
    created_at: Column[int, "Creation, microseconds UTC"]
    start_at: Column[int, "Start of service, microseconds UTC"]
    collection_method: Column[str, "send_invoice or charge_automatically"]
    cancel_at: Column[int | None, "When it will end, microseconds UTC"] = None
    cancel_at_period_end: Column[bool, "Ends with the current period"] = False
    canceled_at: Column[int | None, "When cancellation was asked for, microseconds UTC"] = None
    ended_at: Column[int | None, "When it ended, microseconds UTC"] = None
    trial_start_at: Column[int | None, "Start of the trial, microseconds UTC"] = None
    trial_end_at: Column[int | None, "End of the trial, microseconds UTC"] = None
    cancellation_reason: Column[str | None, "Stripe's reason of the cancellation"] = None
    cancellation_feedback: Column[str | None, "Feedback that the customer chose"] = None
    cancellation_comment: Column[str | None, "What the customer wrote on canceling (personal data)"] = None
    latest_invoice: Column[str | None, "Newest invoice"] = None
    collection_paused: Column[bool, "pause_collection is set: invoices are made, but nothing is collected"] = False
    payment_method: Column[str | None, "Default payment method of the subscription itself (pm_...)"] = None
    account_id: Column[str | None, "metadata.sf_account_id"] = None
    opportunity_id: Column[str | None, "metadata.sf_opportunity_id"] = None
    intent: Column[str | None, "metadata.sf_intent: which plan created it"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionItem:
    """One rate of a subscription with its quantity."""

    id: Column[str, "Stripe id (si_...)"]
    subscription: Column[str, "Stripe subscription"]
    price: Column[str, "Stripe price"]
    product: Column[str, "Stripe product"]
    currency: Column[str, "ISO currency"]
    interval: Column[str, "day, week, month or year"]
    interval_count: Column[int, "Intervals per period"]
    usage_type: Column[str, "licensed or metered"]
    unit_amount: Column[Decimal | None, "Minor units per unit, may have a fraction; empty when tiered"] = None
    quantity: Column[int | None, "Quantity; empty when metered"] = None
    period_start: Column[int | None, "Start of the current period, microseconds UTC"] = None
    period_end: Column[int | None, "End of the current period, microseconds UTC"] = None
    line_ids: Column[tuple[str, ...], "metadata.sf_line_id: Opportunity lines that the item bills"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    """A coupon on a subscription or on one item of it. Discounts of items are taken before the subscription's.

    Has `percent_off` or `amount_off`; neither where Stripe no longer shows the coupon's terms.
    """

    id: Column[str, "Stripe id (di_...)"]
    subscription: Column[str, "Stripe subscription"]
    item: Column[str | None, "Subscription item, where it is on one item only"] = None
    position: Column[int, "Place in the order in which discounts are taken, from 0"] = 0
    coupon: Column[str | None, "Stripe coupon that gives it"] = None
    duration: Column[str | None, "once, repeating or forever"] = None
    percent_off: Column[Decimal | None, "Percent taken off"] = None
    amount_off: Column[int | None, "Minor units taken off each invoice"] = None
    products: Column[tuple[str, ...], "Products that it is limited to; empty for all"] = ()
    start_at: Column[int, "Start, microseconds UTC"]
    end_at: Column[int | None, "End of a repeating discount, microseconds UTC"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSchedule:
    """A Stripe subscription schedule: a subscription that begins later, or changes from phase to phase."""

    id: Column[str, "Stripe id (sub_sched_...)"]
    customer: Column[str, "Stripe customer"]
    status: Column[str, "not_started, active, completed, released or canceled"]
    starts_at: Column[int, "Start of the first phase, microseconds UTC"]
    phase_starts_at: Column[int | None, "Start of the phase that runs, microseconds UTC"] = None
    phases: Column[tuple[str, ...], "Its phases as start-end:price*quantity,..., seconds UTC"] = ()
    subscription: Column[str | None, "Subscription that it runs, once it has begun"] = None
    account_id: Column[str | None, "metadata.sf_account_id"] = None
    opportunity_id: Column[str | None, "metadata.sf_opportunity_id"] = None
    intent: Column[str | None, "metadata.sf_intent: which plan created it"] = None
    terms: Column[str | None, "metadata.sf_terms: digest of the deal's terms that it says"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """A Stripe coupon: a discount on a whole deal."""

    id: Column[str, "Stripe id, chosen by the sync"]
    valid: Column[bool, "Can be applied"]
    duration: Column[str, "once, repeating or forever"]
    months: Column[int | None, "Months of a repeating one"] = None
    percent: Column[Decimal | None, "Percent off"] = None
    amount: Column[int | None, "Amount off each invoice, minor units"] = None
    currency: Column[str | None, "ISO currency of the amount"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """A Stripe invoice. Amounts are minor units."""

    id: Column[str, "Stripe id (in_...)"]
    customer: Column[str, "Stripe customer"]
    status: Column[str, "draft, open, paid, void or uncollectible"]
    currency: Column[str, "ISO currency"]
    created_at: Column[int, "Creation, microseconds UTC"]
    total: Column[int, "Total after discounts and tax, minor units"]
    amount_due: Column[int, "Due, minor units"]
    amount_paid: Column[int, "Paid, minor units"]
    amount_remaining: Column[int, "Still open, minor units"]
    subscription: Column[str | None, "Subscription that it bills"] = None
    number: Column[str | None, "Number on the document"] = None
    billing_reason: Column[str | None, "Why it was made"] = None
    collection_method: Column[str | None, "send_invoice or charge_automatically"] = None
    due_at: Column[int | None, "Due date, microseconds UTC"] = None
    finalized_at: Column[int | None, "Finalization, microseconds UTC"] = None
    paid_at: Column[int | None, "When it was paid in full, microseconds UTC"] = None
    attempt_count: Column[int, "Payment attempts"] = 0
    next_attempt_at: Column[int | None, "Next automatic attempt, microseconds UTC"] = None
    hosted_url: Column[str | None, "Page on which the customer can pay"] = None
    credited_before_payment: Column[int, "Credited while it was open, minor units"] = 0
    credited_after_payment: Column[int, "Credited after it was paid, minor units"] = 0
    tax: Column[int, "Tax in the total, minor units"] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """What an invoice bills for one subscription item and period; other lines are not kept. Amounts are minor units."""

    id: Column[str, "Stripe id (il_...)"]
    invoice: Column[str, "Stripe invoice"]
    subscription: Column[str, "Stripe subscription"]
    item: Column[str, "Subscription item"]
    price: Column[str | None, "Stripe price"] = None
    currency: Column[str, "ISO currency"]
    amount: Column[int, "Before discounts and exclusive tax, minor units; negative for the credit of a proration"]
    quantity: Column[int | None, "Quantity"] = None
    unit_amount: Column[Decimal | None, "Minor units per unit, may have a fraction; empty when tiered"] = None
    is_proration: Column[bool, "Bills a change within a period"] = False
    period_start: Column[int, "Start of what is billed, microseconds UTC"]
    period_end: Column[int, "End of what is billed, microseconds UTC"]
    discounts: Column[tuple[str, ...], "What was taken off, as discount:minor units"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicePayment:
    """Money allocated to an invoice: the proof of collected cash. Amounts are minor units."""

    id: Column[str, "Stripe id (inpay_...)"]
    invoice: Column[str, "Stripe invoice"]
    customer: Column[str, "Stripe customer of the invoice"]
    status: Column[str, "open, paid or canceled"]
    currency: Column[str, "ISO currency"]
    amount_paid: Column[int | None, "Paid, minor units; empty until paid"] = None
    paid_at: Column[int | None, "Payment, microseconds UTC"] = None
    payment: Column[str | None, "Payment intent, charge or payment record behind it"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One attempt to collect money. Amounts are minor units."""

    id: Column[str, "Stripe id (ch_...)"]
    customer: Column[str, "Stripe customer"]
    status: Column[str, "succeeded, pending or failed"]
    currency: Column[str, "ISO currency"]
    amount: Column[int, "Amount asked for, minor units"]
    created_at: Column[int, "Attempt, microseconds UTC"]
    payment_intent: Column[str | None, "Payment intent behind it"] = None
    failure_code: Column[str | None, "Why it failed: decline code, or failure code"] = None
    advice_code: Column[str | None, "What the card network advises after a decline"] = None
    disputed: Column[bool, "The customer's bank has taken it back, or wants to"] = False
    settled_currency: Column[str | None, "ISO currency in which Stripe settled it"] = None
    settled: Column[int | None, "What Stripe settled for it before fees, minor units of that currency"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Money given back. Amounts are minor units."""

    id: Column[str, "Stripe id (re_...)"]
    customer: Column[str, "Stripe customer of the charge"]
    status: Column[str, "pending, requires_action, succeeded, failed or canceled"]
    currency: Column[str, "ISO currency"]
    amount: Column[int, "Refunded, minor units"]
    created_at: Column[int, "Creation, microseconds UTC"]
    payment: Column[str | None, "Payment intent refunded, or the charge where there is none"] = None
    settled_currency: Column[str | None, "ISO currency in which Stripe settled it"] = None
    settled: Column[int | None, "What it took from Stripe's balance, negative; minor units of that currency"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A Stripe event without its payload. Stripe forgets events after 30 days."""

    id: Column[str, "Stripe id (evt_...)"]
    type: Column[str, "What happened, e.g. invoice.paid"]
    created_at: Column[int, "When it happened, microseconds UTC"]
    object_type: Column[str | None, "Kind of the object that it is about"] = None
    object_id: Column[str | None, "Stripe id of the object that it is about"] = None
    object_created_at: Column[int | None, "When that object was created, microseconds UTC"] = None
    customer: Column[str | None, "Stripe customer of the object"] = None
    invoice: Column[str | None, "Invoice that the object belongs to"] = None
    charge: Column[str | None, "Charge that the object belongs to"] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A payment that the customer's bank questions. Amounts are minor units."""

    id: Column[str, "Stripe id (dp_...)"]
    customer: Column[str, "Stripe customer of the charge"]
    charge: Column[str, "Charge that is disputed"]
    status: Column[str, "warning_..., needs_response, under_review, won, lost, prevented"]
    currency: Column[str, "ISO currency"]
    amount: Column[int, "Disputed, minor units"]
    withdrawn: Column[int, "Taken back by the bank at this moment, minor units"]
    created_at: Column[int, "Creation, microseconds UTC"]
    reason: Column[str | None, "What the customer told the bank"] = None
    payment_intent: Column[str | None, "Payment intent behind the charge"] = None
    settled_currency: Column[str | None, "ISO currency in which Stripe settled it"] = None
    settled: Column[int | None, "What it has moved in Stripe's balance before fees, minor units of that currency"] = (
        None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNote:
    """A correction of an invoice. Only what was given back outside of Stripe is cash by itself."""

    id: Column[str, "Stripe id (cn_...)"]
    customer: Column[str, "Stripe customer"]
    invoice: Column[str, "Invoice that it corrects"]
    status: Column[str, "issued or void"]
    currency: Column[str, "ISO currency"]
    total: Column[int, "Credited, minor units"]
    out_of_band: Column[int, "Given back outside of Stripe, minor units"]
    created_at: Column[int, "Creation, microseconds UTC"]
    number: Column[str | None, "Number on the document"] = None
    reason: Column[str | None, "Why it was issued"] = None
