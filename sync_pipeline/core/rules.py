"""The types of the rule table: which fields are kept equal, by which kind, and whose word counts.

The rows themselves are data (config/rules.yaml); the meaning of the kinds is in `kinds.py`, the meaning of a
row's source is in `readings.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum
from typing import Literal

Kind = Literal["mirror", "latch", "min", "fold"]
Side = Literal["salesforce", "stripe"]
Reaction = Literal["revert", "review", "accept"]
MASTER = "Master"
"""What Salesforce calls the record type of a record that has none."""
TaskOwner = Literal["success_owner", "account_team", "owner"]


class Priority(IntEnum):
    """Order of work, most urgent first; the reserves of the API budget follow it."""

    PAYMENT_FAILED = 0
    CREATE = 1
    SEATS = 2
    WRITE_BACK = 3
    BULK = 4
    SWEEP = 5


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One integrated field. `target` is object.field in the sync's own names; `source` names a reading."""

    target: str
    kind: Kind
    source: str
    canon: str
    owner: Side
    on_foreign_edit: Reaction
    priority: Priority
    personal: bool
    why: str

    @property
    def object(self) -> str:
        return self.target.partition(".")[0]

    @property
    def field(self) -> str:
        return self.target.partition(".")[2]

    @property
    def side(self) -> Side:
        """The system that the rule writes to."""
        return "stripe" if self.object == "customer" else "salesforce"


@dataclass(frozen=True, slots=True)
class Commercial:
    """How deals are billed. Dates are ISO texts in `time_zone`; days are whole days."""

    default_currency: str = "GBP"
    time_zone: str = "UTC"
    go_live: str | None = None
    deal_record_types: frozenset[str] = frozenset()
    collection_method: Literal["send_invoice", "charge_automatically"] = "send_invoice"
    days_until_due: int = 30
    one_time_families: frozenset[str] = frozenset({"One-Time"})
    other_currencies: Literal["own_customer", "refuse"] = "own_customer"
    large_deals: Literal["refuse", "split"] = "refuse"
    quiet_seconds: int = 45
    on_stripe_quantity: Reaction = "accept"
    on_stripe_price: Reaction = "review"
    on_stripe_items: Reaction = "review"
    on_stripe_discounts: Reaction = "review"
    changes_after_billing: Literal["carry", "review"] = "carry"
    removed_lines: Literal["carry", "review"] = "review"
    bill_changes: Literal["with_next_invoice", "at_once"] = "with_next_invoice"
    amendments: Literal["add_lines", "by_hand"] = "add_lines"
    amendment_types: frozenset[str] = frozenset({"Amendment"})
    amendment_record_types: frozenset[str] = frozenset()
    reductions: Literal["at_renewal", "now"] = "at_renewal"
    renewal_lead_minutes: int = 60
    changed_registrations: Literal["replace", "review"] = "replace"
    reverts_before_review: int = 3
    reverts_within_hours: int = 24
    task_for_days: int = 14
    urgent_mrr: int = 1000
    alert_from: int | None = 10_000
    retry_days: tuple[int, ...] = (3, 5, 7)
    final_action: str = "the subscription is canceled"
    overdue_days: int | None = None
    overdue_action: str = "the subscription is canceled"
    task_owners: tuple[TaskOwner, ...] = ("success_owner", "account_team", "owner")
    account_team_role: str | None = None
    task_queue: str | None = None
    cancel_proration: Literal["none", "create_prorations"] = "none"
    contracts: Literal["create", "keep", "leave"] = "create"
    contract_draft: str = "Draft"
    contract_activated: str = "Activated"
    renewal_days: int = 90
    term_end: Literal["renews", "ends"] = "renews"
    renewal_stage: str = "Prospecting"
    renewal_record_type: str | None = None
    won_stage: str = "Closed Won"
    lost_stage: str = "Closed Lost"
    intervals: Mapping[str, tuple[str, int]] = field(
        default_factory=lambda: {"Monthly": ("month", 1), "Quarterly": ("month", 3), "Annual": ("year", 1)}
    )
    seat_families: frozenset[str] = frozenset({"Seats"})
    unusable_names: frozenset[str] = frozenset({"unknown", "tbd", "test", "n/a", "-"})

    @property
    def proration(self) -> Literal["create_prorations", "always_invoice"]:
        """How Stripe is asked to prorate a change of seats, prices or products."""
        return "always_invoice" if self.bill_changes == "at_once" else "create_prorations"

    def currency_of(self, said: str | None) -> str:
        """The ISO currency of a record's money: what it says itself, or else the org's."""
        return (said or self.default_currency).upper()

    @property
    def reverts_within_us(self) -> int:
        return self.reverts_within_hours * 3_600_000_000


@dataclass(frozen=True, slots=True)
class Guards:
    """How much all runs together may do unasked within `hours`; the next one that would do more stops before it does.

    None and a missing currency are no limit. `mrr` is by currency the monthly recurring revenue (major units) that may
    be moved up or down, added up over Accounts. `share` is how many percent of the Accounts a full comparison may write
    to, once that is more than `share_from` of them.
    """

    hours: int = 1
    creates: int | None = 200
    changes: int | None = 200
    cancels: int | None = 20
    mrr: Mapping[str, Decimal] = field(default_factory=dict)
    share: int | None = 50
    share_from: int = 100


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days the ledger remembers, Dagster its drain runs, and a plan may wait to be written; None is for ever.

    Money facts, links and the merge base always stay. A command's days count from its end, and its attempts outlive it.
    """

    audit_days: int | None = 2557
    attempts_days: int | None = 400
    commands_days: int | None = 90
    inbox_days: int | None = 90
    drain_runs_days: int | None = 14
    plans_days: int | None = 30


@dataclass(frozen=True, slots=True)
class Snapshots:
    """How both systems are read for the tables: what has changed, and in so many days everything once."""

    whole_listing_days: int = 7

    @property
    def whole_listing_us(self) -> int:
        return self.whole_listing_days * 86_400_000_000


@dataclass(frozen=True, slots=True)
class Bulk:
    """What goes to Salesforce by Bulk API 2.0: updates of records of these classes, once so many are due.

    Classes are those of the update's rule or of the account's turn. `from_records` None: nothing does.
    """

    from_records: int | None = 10_000
    most_records: int = 100_000
    classes: frozenset[Literal["write_back", "bulk", "sweep"]] = frozenset({"bulk", "sweep"})

    def takes(self, *priorities: int) -> bool:
        """Whether something of these priorities is of a class that may wait for a job."""
        return any(Priority(each).name.lower() in self.classes for each in priorities)


@dataclass(frozen=True, slots=True)
class Names:
    """Salesforce API names: the sObject and, by the sync's own field names, its fields."""

    object: str
    fields: Mapping[str, str]


TWO_WAY = (
    ("line", "quantity"),
    ("line", "unit_price"),
    ("contract", "cancel_requested_on"),
    ("opportunity", "amount"),
    ("opportunity", "close_date"),
)
"""Of Opportunities it is the forecast of a renewal."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The effective rule table."""

    fields: tuple[FieldRule, ...]
    commercial: Commercial
    salesforce: Mapping[str, Names]
    guards: Guards = Guards()
    retention: Retention = Retention()
    bulk: Bulk = Bulk()
    snapshots: Snapshots = Snapshots()

    @property
    def two_way(self) -> frozenset[tuple[str, str]]:
        """The sObjects and fields of Salesforce that sales and the sync both set."""
        return frozenset((self.salesforce[kind].object, self.salesforce[kind].fields[name]) for kind, name in TWO_WAY)
