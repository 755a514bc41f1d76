"""The objects of Stripe as the sync sees them: flat, typed, one class per object.

Each class is at once what a fresh read is parsed into and the row type of its snapshot table; a field's annotation
carries its description. Times are microseconds UTC, amounts integer minor units.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated as Column


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
    unit_amount: Column[Decimal | None, "Minor units per unit, maybe a fraction; empty for tiers and packages"] = None
    package_amount: Column[Decimal | None, "Minor units per package, where units are billed in packages"] = None
    package_size: Column[int | None, "Units in a package"] = None
    package_rounding: Column[str | None, "up or down: whether a package that is not full is billed"] = None
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
    days_until_due: Column[int | None, "Days until an invoice that is sent is due"] = None
    cancel_at: Column[int | None, "When it will end, microseconds UTC"] = None
    cancel_at_period_end: Column[bool, "Ends with the current period"] = False
    canceled_at: Column[int | None, "When cancellation was asked for, microseconds UTC"] = None
    ended_at: Column[int | None, "When it ended, microseconds UTC"] = None
    trial_start_at: Column[int | None, "Start of the trial, microseconds UTC"] = None
    trial_end_at: Column[int | None, "End of the trial, microseconds UTC"] = None
    anchor_at: Column[int | None, "Billing cycle anchor, from which periods are counted, microseconds UTC"] = None
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
    unit_amount: Column[Decimal | None, "Minor units per unit, maybe a fraction; empty for tiers and packages"] = None
    package_amount: Column[Decimal | None, "Minor units per package, where units are billed in packages"] = None
    package_size: Column[int | None, "Units in a package"] = None
    package_rounding: Column[str | None, "up or down: whether a package that is not full is billed"] = None
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
    unit_amount: Column[Decimal | None, "Minor units per unit or package, maybe a fraction; empty for tiers"] = None
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
