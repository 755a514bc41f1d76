"""The records of Salesforce as the sync sees them: flat, typed, one class per object.

Each class is at once what a fresh read is parsed into and the row type of its snapshot table; a field's annotation
carries its description. Names are the sync's own; the rules file maps them to API names. Times are microseconds UTC;
dates are ISO texts, because Salesforce dates have no zone. Amounts are decimals in major units, as read.
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
    discount: Column[Decimal | None, "Discount on the line in percent, which is not billed; not in every org"] = None
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

_KINDS: Mapping[type[Any], str] = {FailureTask: "task"} | {record: kind for kind, record in SALESFORCE_RECORDS.items()}


def kind_of(record: Any) -> str:
    """The sync's own name of the object that a record of Salesforce is one of."""
    return _KINDS[type(record)]
