"""The world of one account: everything that a plan may depend on, and nothing else.

A world is built from fresh reads (events) or from snapshot tables (reconcile, preview); the planner cannot
tell the difference. Which records belong together (crosswalk) is decided in `crosswalk.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sync_pipeline.core.facts import Fact
from sync_pipeline.core.observation import Observation, Unknown
from sync_pipeline.core.records import (
    Account,
    Charge,
    ChurnRecord,
    Contract,
    CreditNote,
    Customer,
    Dispute,
    Invoice,
    InvoicePayment,
    LineItem,
    Opportunity,
    Price,
    Refund,
    Subscription,
    SubscriptionItem,
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
    """What Stripe holds for the account's customer; always observed whole."""

    subscriptions: tuple[Subscription, ...] = ()
    items: tuple[SubscriptionItem, ...] = ()
    invoices: tuple[Invoice, ...] = ()
    payments: tuple[InvoicePayment, ...] = ()
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
    disputes: tuple[Dispute, ...] = ()
    credit_notes: tuple[CreditNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The products and prices that the account's open deals ask for, as far as they exist at Stripe."""

    products: frozenset[str] = frozenset()
    prices: Mapping[str, Price] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """One line of the crosswalk: the Salesforce record `subject` and the Stripe object `external_id`."""

    kind: str
    subject: str
    external_id: str


@dataclass(frozen=True, slots=True)
class World:
    """One account as observed. `base` holds the last agreed canonical values by (subject, rule name).

    `customer` is the customer that the account is linked to or names; `candidates` are customers that
    might be the account's, looked up only when it has none. `blocked` are targets with a command whose
    outcome is not known; `once` are the keys of what was made once and is never made again. `now` is
    microseconds UTC.
    """

    account_id: str
    org_id: str
    now: int
    account: Observation[Account]
    deals: tuple[Deal, ...] = ()
    churn_records: tuple[ChurnRecord, ...] = ()
    renewals: tuple[Opportunity, ...] = ()
    customer: Observation[Customer] = NOT_READ
    candidates: Observation[tuple[Customer, ...]] = NOT_READ
    billing: Observation[Billing] = NOT_READ
    catalogue: Observation[Catalogue] = NOT_READ
    links: tuple[Link, ...] = ()
    base: Mapping[tuple[str, str], str] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    blocked: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()
