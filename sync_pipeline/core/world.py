"""The world of one account: everything that a plan may depend on, and nothing else.

A world is built from fresh reads (events) or from snapshot tables (reconcile, preview); the planner cannot
tell the difference. Which records belong together (crosswalk) is decided in `crosswalk.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from sync_pipeline.core.conflict import Conflict
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.observation import Observation, Present, Unknown
from sync_pipeline.core.salesforce_records import (
    Account,
    ChurnRecord,
    Contract,
    FailureTask,
    LineItem,
    Opportunity,
    PriceBookEntry,
    SyncConflict,
)
from sync_pipeline.core.stripe_records import (
    Charge,
    Coupon,
    CreditNote,
    Customer,
    Discount,
    Dispute,
    Invoice,
    InvoicePayment,
    Price,
    Refund,
    Subscription,
    SubscriptionItem,
    SubscriptionSchedule,
)

NOT_READ = Unknown("not read")


@dataclass(frozen=True, slots=True)
class Deal:
    """An Opportunity with its lines and, where it has one, its Contract."""

    opportunity: Opportunity
    lines: tuple[LineItem, ...] = ()
    contract: Contract | None = None


@dataclass(frozen=True, slots=True)
class Billing:
    """What Stripe holds for the account's customers, all of them together; always observed whole."""

    subscriptions: tuple[Subscription, ...] = ()
    items: tuple[SubscriptionItem, ...] = ()
    discounts: tuple[Discount, ...] = ()
    invoices: tuple[Invoice, ...] = ()
    payments: tuple[InvoicePayment, ...] = ()
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
    schedules: tuple[SubscriptionSchedule, ...] = ()
    disputes: tuple[Dispute, ...] = ()
    credit_notes: tuple[CreditNote, ...] = ()

    def __add__(self, other: Billing) -> Billing:
        """What two customers have together."""
        return Billing(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def of(self, customers: Collection[str]) -> Billing:
        """The part that belongs to some customers, by their ids."""
        of_subscription = {s.id: s.customer for s in self.subscriptions}
        parts = {name: tuple(each for each in held if each.customer in customers) for name, held in self._by_customer()}
        items = tuple(item for item in self.items if of_subscription.get(item.subscription) in customers)
        discounts = tuple(each for each in self.discounts if of_subscription.get(each.subscription) in customers)
        return Billing(**parts, items=items, discounts=discounts)

    def _by_customer(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """All parts but those that name their subscription only."""
        return ((f.name, getattr(self, f.name)) for f in fields(self) if f.name not in ("items", "discounts"))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The products, prices and coupons that the account's open deals ask for, as far as they exist at Stripe.

    Prices are by lookup key, coupons by id.
    """

    products: frozenset[str] = frozenset()
    prices: Mapping[str, Price] = field(default_factory=dict)
    coupons: Mapping[str, Coupon] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """One line of the crosswalk: the Salesforce record `subject` and the Stripe object `external_id`.

    The subject of a customer is its slot (customers.py). A secondary customer came with a merged Account, a former one
    was deleted at Stripe: its slot is free, and its history stays the Account's.
    """

    kind: str
    subject: str
    external_id: str
    role: Literal["primary", "secondary", "former"] = "primary"


@dataclass(frozen=True, slots=True)
class World:
    """One account as observed. `base` holds the last agreed canonical values by (subject, rule name).

    `customers` are those that the account is linked to, and the one that it names where its first slot is free, each by
    its id; `candidates` are customers that might be the account's, looked up only when a deal needs one in a currency
    in which there is none; `charged` are the invoice items at Stripe by the lines that they name, read only where a
    line may have to be charged; `listed` are the active price book entries of products that are billed and on no line;
    `product_names` is what Stripe calls products of which a person is told, or that an Account's plan is named after,
    where no line sells them. `blocked` are targets with a command whose outcome is not known, to which nothing is
    written meanwhile; `untaxed` are creates of customers whose tax registration Stripe refused; `once` are the keys of
    what was made once and is never made again; `reverts` says when a field (subject, rule name) was put back of late;
    `record_types` are the ids, by DeveloperName, of the record types that an Opportunity can be made with; `conflicts`
    are all that the ledger knows of the account, `conflict_records` those that Salesforce shows.
    `now` and moments are microseconds UTC.
    """

    account_id: str
    org_id: str
    now: int
    account: Observation[Account]
    deals: tuple[Deal, ...] = ()
    churn_records: tuple[ChurnRecord, ...] = ()
    renewals: tuple[Opportunity, ...] = ()
    tasks: tuple[FailureTask, ...] = ()
    conflict_records: tuple[SyncConflict, ...] = ()
    customers: Mapping[str, Observation[Customer]] = field(default_factory=dict)
    candidates: Observation[tuple[Customer, ...]] = NOT_READ
    billing: Observation[Billing] = NOT_READ
    catalogue: Observation[Catalogue] = NOT_READ
    charged: Observation[Mapping[str, str]] = NOT_READ
    listed: tuple[PriceBookEntry, ...] = ()
    product_names: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    base: Mapping[tuple[str, str], str] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    blocked: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()
    untaxed: frozenset[str] = frozenset()
    reverts: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    conflicts: tuple[Conflict, ...] = ()
    record_types: Mapping[str, str] = field(default_factory=dict)

    @property
    def salesforce_records(self) -> Iterator[Any]:
        """Every record that Salesforce has shown."""
        if isinstance(self.account, Present):
            yield self.account.value
        for deal in self.deals:
            yield from filter(None, (deal.opportunity, *deal.lines, deal.contract))
        yield from (*self.renewals, *self.churn_records, *self.tasks, *self.conflict_records)

    @property
    def unknown_parts(self) -> list[str]:
        """Why the look must be repeated, if it must; what was known can be planned."""
        return [part.why for part in (self.account, self.billing) if isinstance(part, Unknown) and part is not NOT_READ]
