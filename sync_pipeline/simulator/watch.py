"""What must hold at every call and at every moment, told from the wire, without asking the engine.

Numbers are those of the invariants that this product promises (the README lists them in words).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qs

from sqlalchemy import select

from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.tables import attempt, base
from sync_pipeline.sandbox.wire import Call, Reply
from sync_pipeline.sandbox.world import Sandbox
from sync_pipeline.simulator.oracle import collected_minor, rows, untold_failures
from sync_pipeline.simulator.stage import MICROS, Stage
from sync_pipeline.simulator.transport import is_write

STANDARD_FIELDS = frozenset(
    f"{kind}.{name}"
    for kind, names in {
        "Opportunity": "Name AccountId OwnerId StageName CloseDate Amount",
        "OpportunityLineItem": "Quantity UnitPrice",
        "Contract": "AccountId Status StartDate ContractTerm",
        "Task": "WhatId OwnerId Subject Description ActivityDate Priority Status",
    }.items()
    for name in names.split()
)
"""Fields of Salesforce's own that the sync may write; everything else that it writes is in its permission set."""
STRIPE_FIELDS = {
    "customers": "name address metadata tax_id_data",
    "tax_ids": "type value owner",
    "products": "id name metadata",
    "prices": "product currency unit_amount_decimal lookup_key recurring",
    "subscriptions": "customer items metadata collection_method days_until_due backdate_start_date billing_mode "
    "add_invoice_items discounts trial_end cancel_at cancel_at_period_end proration_behavior proration_date",
    "subscription_items": "quantity price metadata discounts proration_behavior proration_date",
}
"""What of Stripe's objects the sync may write: who is billed, the rate card and the terms of the deal. How it is paid,
invoices and whatever else stands in the metadata are not its own."""
KEY_LIVES_SECONDS = 23 * 3600
NAMED_BY_US = ("/v1/products", "/v1/prices", "/v1/coupons")
"""Accounts share these and each may make one: Stripe refuses a second of the name (seed 405: two did at a time)."""
GRACE_SECONDS = 120
"""So long after its last call an object may still come into being; then the list tells whether it did."""


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A write to Stripe of which the engine cannot know whether it took effect."""

    key: str
    sent_at: int


class Watch:
    """Every call of the sync. `ledger` is set once it is open.

    What does not hold is noted in `violations`, not raised: an SDK would take it for trouble of the network.
    `undisturbed`: nothing goes wrong in this seed, so that there is no excuse for a write that changes nothing.
    """

    def __init__(self, stage: Stage, sandbox: Sandbox, writable: frozenset[str], *, undisturbed: bool) -> None:
        self._stage, self._sandbox, self._writable, self._undisturbed = stage, sandbox, writable, undisturbed
        self.ledger: Ledger | None = None
        self.violations: list[str] = []
        self.written: Callable[[], None] = lambda: None
        self.writes = 0
        self._first_sent: dict[str, int] = {}
        self._values: dict[str, set[Fraction]] = defaultdict(set)
        self._activated: set[str] = set()
        self._first_payment: dict[str, str] = {}
        self.ever_won: set[str] = set()
        self.taken_back: Counter[str] = Counter()
        self._ending: set[str] = set()
        self._seen = (-1, -1)
        self._unanswered: dict[str, _Unanswered] = {}
        self._before: dict[str, Any] | None = None
        self._quantities: dict[str, defaultdict[str, set[Fraction]]] = {
            side: defaultdict(set) for side in ("salesforce", "stripe")
        }

    def sent(self, side: str, call: Call) -> None:
        assert self.ledger is not None
        if self.ledger.in_transaction():
            self.breaks("I14: a call leaves inside a ledger transaction")
        if side == "stripe" and call.method == "DELETE" and "/tax_ids/" not in call.path:
            self.breaks(f"I17: the sync deletes at Stripe: {call.path}")
        if not is_write(side, call):
            return
        self.writes += 1
        with self.ledger.read() as conn:
            waiting = conn.execute(
                select(attempt.c.idempotency_key, attempt.c.deadline_wall).where(attempt.c.outcome.is_(None))
            ).all()
            agreed = conn.execute(select(base.c.subject, base.c.value).where(base.c.field == "item.quantity")).all()
        for row in agreed:
            self._check_agreed(row.subject, Fraction(json.loads(row.value)))
        if side == "stripe":
            key = call.headers.get("idempotency-key", "")
            self._check_alone(call, key)
            self._check_params(call)
            self._before = self._stripe_object(call)
            own = [row for row in waiting if row.idempotency_key == key]
            first = self._first_sent.setdefault(key, self._stage.micros)
            if call.path.count("/") == 2 and self._stage.micros - first > KEY_LIVES_SECONDS * MICROS:
                self.breaks(f"I14: a create goes out with a key older than 23 h: {call.path}")
        else:
            own = list(waiting)
            self._check_fields(call)
        if not own:
            self.breaks(f"I12: a write without an attempt written ahead: {call.method} {call.path}")
        if all(row.deadline_wall + 1 < self._stage.micros for row in own):
            self.breaks(f"I14: a write leaves after its deadline: {call.method} {call.path}")

    def took_effect(self, side: str, call: Call, reply: Reply | None) -> None:
        if is_write(side, call):
            if self._undisturbed and side == "stripe" and self._before and self._before == self._stripe_object(call):
                self.breaks(f"I19: a write to Stripe changes nothing: {call.path} {call.body.decode()}")
            self.written()
            self.look()

    def answered(self, side: str, call: Call, reply: Reply) -> None:
        if side == "stripe" and is_write(side, call) and reply.status < 500:
            self._unanswered.pop(_target(call), None)

    def look(self) -> None:
        """After anything that may have changed a figure: what was ever true, and what never goes back."""
        seen = (self._sandbox.salesforce.org.store.writes, self._sandbox.stripe.world.store.writes)
        if seen == self._seen:
            return
        self._seen = seen
        collected = collected_minor(self._sandbox)
        for account, minor in collected.items():
            self._values[account].add(minor)
        for line in rows(self._sandbox, "salesforce", "OpportunityLineItem"):
            self._quantities["salesforce"][line["Id"]].add(Fraction(str(line["Quantity"])))
        for item in self._sandbox.stripe.world.store.table("subscription_item").values():
            if not item.get("deleted"):
                self._quantities["stripe"][item["metadata"].get("sf_line_id", "")].add(Fraction(item["quantity"]))
        for subscription in self._sandbox.stripe.world.store.table("subscription").values():
            name, ends = subscription["id"], subscription.get("cancel_at") or subscription["cancel_at_period_end"]
            if ends:
                self._ending.add(name)
            elif name in self._ending:
                self._ending.remove(name)
                self.taken_back[name] += 1
        for row in rows(self._sandbox, "salesforce", "Opportunity"):
            if row["IsWon"]:
                self.ever_won.add(row["Id"])
            if row["Id"] in self._activated and row.get("Activation_Status__c") != "Activated":
                self.breaks(f"I9: {row['Id']} was Activated and is {row.get('Activation_Status__c')}")
            if row.get("Activation_Status__c") == "Activated":
                self._activated.add(row["Id"])
            if paid_at := row.get("First_Payment_At__c"):
                before = self._first_payment.setdefault(row["Id"], paid_at)
                if paid_at > before:
                    self.breaks(f"I8: the first payment of {row['Id']} moved from {before} to {paid_at}")
                self._first_payment[row["Id"]] = paid_at

    def look_for_untold(self) -> None:
        """I20: with workers at work and nothing in their way, somebody is told of a failed payment within a minute."""
        if self._undisturbed:
            for name in untold_failures(self._sandbox, older_than=60):
                self.breaks(f"I20: nobody was told of the failed payment {name} within a minute")

    def breaks(self, what: str) -> None:
        self._stage.say(f"BREAKS {what}")
        self.violations.append(what)

    def _check_agreed(self, line: str, quantity: Fraction) -> None:
        for side, seen in self._quantities.items():
            # Lines that share an item are agreed on one by one, and Stripe knows only their sum.
            if line in seen and quantity not in seen[line]:
                self.breaks(f"I27: {line} was agreed on as {quantity}, which {side} never held")

    def _check_alone(self, call: Call, key: str) -> None:
        """A write that may be on its way is resolved before the same object is written again."""
        target = _target(call)
        if _is_create(call) and call.path in NAMED_BY_US:
            return
        before = self._unanswered.get(target)
        if before is not None and before.key != key:
            waited = self._stage.micros - before.sent_at
            if not (_is_create(call) and waited >= GRACE_SECONDS * MICROS):
                self.breaks(f"I15: {target} is written again while another write to it is open")
        self._unanswered[target] = _Unanswered(key, self._stage.micros)

    def _stripe_object(self, call: Call) -> dict[str, Any] | None:
        """The object that an update is about, as Stripe shows it; None for a create."""
        _, _, kind, *rest = call.path.split("/")
        world = self._sandbox.stripe.world
        row = world.store.table(kind.removesuffix("s")).get(rest[0]) if len(rest) == 1 else None
        return world.render(row) if row is not None else None

    def _check_params(self, call: Call) -> None:
        kind = call.path.split("/")[-1 if _is_create(call) or "/tax_ids" in call.path else 2]
        allowed = STRIPE_FIELDS.get(kind, "").split()
        names = [name.replace("]", "").split("[") for name in parse_qs(call.body.decode(), keep_blank_values=True)]
        strange = {".".join(name) for name in names if name[0] not in allowed}
        for name in names:
            if "metadata" in name and not name[name.index("metadata") + 1].startswith("sf_"):
                strange.add(".".join(name))
        if strange:
            self.breaks(f"I11: {', '.join(sorted(strange))} of {kind} at Stripe are not ours")

    def _check_fields(self, call: Call) -> None:
        for record in written_records(call):
            self._check_changes(record)
            kind = record.get("attributes", {}).get("type", "")
            strange = (
                {f"{kind}.{name}" for name in record if name not in ("attributes", "id", "Id")}
                - self._writable
                - STANDARD_FIELDS
            )
            if strange:
                self.breaks(f"I11: fields are written that are not ours: {', '.join(sorted(strange))}")
            if "Lifetime_Value__c" in record and (value := record["Lifetime_Value__c"]) is not None:
                known = self._values[record.get("id", record.get("Id", ""))] | {Fraction(0)}
                if Fraction(str(value)) * 100 not in known:
                    self.breaks(f"I7: a lifetime value of {value} was never true")

    def _check_changes(self, record: dict[str, Any]) -> None:
        kind, record_id = record["attributes"]["type"], record.get("id", record.get("Id", ""))
        stands = self._sandbox.salesforce.org.store.table(kind).get(record_id)
        written = {name: value for name, value in record.items() if name not in ("attributes", "id", "Id")}
        if self._undisturbed and stands and all(_same(stands.get(name), value) for name, value in written.items()):
            self.breaks(f"I19: a write to Salesforce changes nothing: {kind} {record_id} {written}")


def _same(stands: Any, written: Any) -> bool:
    if isinstance(written, int | float) and isinstance(stands, int | float | Decimal):
        return Fraction(str(stands)) == Fraction(str(written))
    return bool(stands == written or (stands in (None, "") and written in (None, "")))


def _is_create(call: Call) -> bool:
    return call.path.count("/") == 2


def _target(call: Call) -> str:
    """What a write to Stripe is about: an object, or the intent by which one is made."""
    if not _is_create(call):
        return call.path
    said = parse_qs(call.body.decode())
    names = ("metadata[sf_intent]", "id", "lookup_key")
    return f"{call.path} {next((said[name][0] for name in names if name in said), call.body.decode())}"


def written_records(call: Call) -> Iterator[dict[str, Any]]:
    """The records in a composite's collections and single writes."""
    for part in json.loads(call.body or b"{}").get("compositeRequest", ()):
        body = part.get("body") or {}
        yield from body.get("records", [body] if part["method"] in ("PATCH", "POST") and "attributes" in body else ())
