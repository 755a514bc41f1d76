"""What must hold at every call and at every moment, told from the wire, without asking the engine.

Numbers are those of the invariants that this product promises (the README lists them in words).
"""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from sqlalchemy import select

from sync_pipeline.core.rules import Rules
from sync_pipeline.core.units import MICROS
from sync_pipeline.ledger.tables import attempt, command
from sync_pipeline.sandbox.salesforce.bulk.jobs import TABLE as JOBS
from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.wire import Call, Reply
from sync_pipeline.sandbox.world import Sandbox
from sync_pipeline.simulator.alone import Alone
from sync_pipeline.simulator.bound import Bound
from sync_pipeline.simulator.calls import (
    is_create,
    is_of_a_job,
    lets_job_run,
    target,
    targets,
    written_records,
)
from sync_pipeline.simulator.edits import Edits
from sync_pipeline.simulator.held import Held
from sync_pipeline.simulator.oracle import collected_minor, owners, recurring_minor, rows, untold_failures
from sync_pipeline.simulator.reserves import Reserves
from sync_pipeline.simulator.stage import Agreed, Stage, StagedLedger
from sync_pipeline.simulator.transport import is_write

MADE_WITH = {
    "Opportunity": "Name AccountId OwnerId StageName CloseDate Amount",
    "OpportunityLineItem": "OpportunityId PricebookEntryId Quantity UnitPrice ServiceDate",
    "Contract": "AccountId Status StartDate ContractTerm",
    "Task": "WhatId OwnerId Subject Description ActivityDate Priority Status",
}
"""Fields of Salesforce's own with which the sync makes records; all others that it writes are in its permission set."""
KEPT = {"OpportunityLineItem": "Quantity UnitPrice", "Contract": "Status StartDate ContractTerm", "Task": "Status"}
"""Those of them that it keeps afterwards. Of Opportunities it keeps renewals."""
RENEWAL = "StageName CloseDate Amount"
STRIPE_FIELDS = {
    "customers": "name address metadata tax_id_data",
    "tax_ids": "type value owner",
    "products": "id name metadata",
    "prices": "product currency unit_amount_decimal lookup_key recurring",
    "subscriptions": "customer items metadata collection_method days_until_due backdate_start_date billing_mode "
    "add_invoice_items discounts trial_end cancel_at cancel_at_period_end proration_behavior proration_date",
    "invoiceitems": "customer subscription pricing quantity_decimal metadata",
    "subscription_items": "quantity price metadata discounts proration_behavior proration_date",
}
"""What of Stripe's objects the sync may write: who is billed, the rate card and the terms of the deal. How it is paid,
invoices and whatever else stands in the metadata are not its own."""
TWO_WAY = {"Quantity", "UnitPrice", "Cancel_Requested_On__c", "Amount", "CloseDate"}
"""Fields of Salesforce that people edit, and the sync as well."""
REPLAYED = "Idempotent-Replayed"
"""A failure that is told again is what has become of the first attempt: nothing of it is under way."""
KEY_LIVES_SECONDS = 23 * 3600
DELETED_SECONDS = 60
"""So long a look at an Account may take that began before it was deleted."""


class Watch:
    """Every call of the sync. `ledger` is set once it is open.

    What does not hold is noted in `violations`, not raised: an SDK would take it for trouble of the network.
    `undisturbed`: nothing goes wrong in this seed, so that there is no excuse for a write that changes nothing.
    """

    def __init__(
        self, stage: Stage, sandbox: Sandbox, writable: frozenset[str], rules: Rules, *, undisturbed: bool
    ) -> None:
        self._stage, self._sandbox, self._writable, self._undisturbed = stage, sandbox, writable, undisturbed
        self.ledger: StagedLedger | None = None
        self.edits = Edits(stage, sandbox, ZoneInfo(rules.commercial.time_zone), self.breaks)
        self.bound = Bound(self.breaks)
        self._reserves = Reserves(self.breaks)
        self._alone = Alone(stage, self._jobs, self.breaks)
        self._held = Held(sandbox, rules, bytes(32))
        self._agreed: Mapping[Agreed, str] = {}
        self._events = 0
        self._moments: dict[str, int] = {}
        self._looks: dict[str, int] = {}
        self._deleted: dict[str, int] = {}
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
        self._before: dict[str, Any] | None = None
        self._kept: dict[str, tuple[str, int]] = {}

    def holds_to(self, worker: str, plan: str) -> None:
        """From now on a worker writes to Stripe what a kept plan says, and nothing else."""
        self._kept[worker] = plan, self._stage.micros // MICROS

    def sent(self, side: str, call: Call) -> None:
        assert self.ledger is not None
        if self.ledger.in_transaction():
            self.breaks("I14: a call leaves inside a ledger transaction")
        self._check_agreed(self.ledger)
        if side == "stripe" and call.method == "DELETE" and "/tax_ids/" not in call.path:
            self.breaks(f"I17: the sync deletes at Stripe: {call.path}")
        if not is_write(side, call):
            if self._undisturbed:
                self.bound.read(self._worker, side, call)
            return
        self.writes += 1
        if self._undisturbed:
            self.bound.wrote(side, call)
        columns = select(attempt.c.idempotency_key, attempt.c.deadline_wall, attempt.c.outcome, command.c.target)
        key = call.headers.get("idempotency-key", "")
        wanted = attempt.c.outcome.is_(None) | (attempt.c.idempotency_key == key)
        with self.ledger.read() as conn:
            known = conn.execute(columns.join(command, command.c.id == attempt.c.command_id).where(wanted)).all()
        waiting = [row for row in known if row.outcome is None]
        if side == "stripe":
            self._alone.at_stripe(call, key)
            self._check_params(call)
            self._check_present(call)
            self._check_planned(call)
            self._before = self._stripe_object(call)
            # What is late may have been given up by somebody else meanwhile.
            of_key = [row for row in known if row.idempotency_key == key]
            is_late = all(row.deadline_wall + 1 < self._stage.micros for row in of_key)
            own = of_key if is_late else [row for row in of_key if row.outcome is None]
            first = self._first_sent.setdefault(key, self._stage.micros)
            if call.path.count("/") == 2 and self._stage.micros - first > KEY_LIVES_SECONDS * MICROS:
                self.breaks(f"I14: a create goes out with a key older than 23 h: {call.path}")
        else:
            records = written_records(call, self._jobs())
            self._alone.in_salesforce(self._worker, records)
            self._check_fields(call, records)
            own = []
            for names, times in Counter(targets(records)).items():
                of_this = [row for row in waiting if row.target.removesuffix("/status") in names]
                if len(of_this) != times:
                    self.breaks(f"I12: {names[0]} is written {times} times, {len(of_this)} attempts are written ahead")
                own += of_this
        if not own:
            self.breaks(f"I12: a write without an attempt written ahead: {call.method} {call.path}")
        if any(row.deadline_wall + 1 < self._stage.micros for row in own):
            self.breaks(f"I14: a write leaves after its deadline: {call.method} {call.path}")

    def took_effect(self, side: str, call: Call, reply: Reply | None) -> None:
        self._moments[self._worker] = self._stage.micros
        self._stage.sometimes["a bulk job was let run"] += lets_job_run(call)
        if is_write(side, call):
            self._alone.given_up(self._worker)
            if side == "stripe" and reply is not None and not is_create(call):
                # Whoever looks at the object sees it.
                self._alone.is_known(call)
            if self._undisturbed and side == "stripe" and self._before and self._before == self._stripe_object(call):
                self.breaks(f"I19: a write to Stripe changes nothing: {call.path} {call.body.decode()}")
            self._events = len(self._sandbox.stripe.world.store.table("event"))
            if self._stage.current is not None:
                self.edits.look(self._worker)
            self.look()
            self.written()

    def answered(self, side: str, call: Call, reply: Reply) -> None:
        moment = self._moments[self._worker]
        if side == "salesforce":
            self._reserves.told(self._worker, self._stage.micros, reply.headers)
        if is_of_a_job(call):
            return
        if side == "salesforce" and (not is_write(side, call) or b'"look' in call.body):
            self._looks[self._worker] = moment
            self.edits.seen(self._worker, side, moment, reply.body)
        elif not is_write(side, call) and not call.path.startswith("/v1/events"):
            self.edits.seen(self._worker, side, moment, reply.body)
        elif side == "stripe" and is_write(side, call) and (reply.status < 500 or REPLAYED in reply.headers):
            self._alone.is_known(call)

    def claimed(self, account: str, priority: int, due_at: int) -> None:
        """A worker takes an Account from the queue; who is told of by name, is not taken by its turn."""
        if self._stage.current is not None and self._worker not in self._kept:
            self._reserves.claimed(self._worker, self._stage.micros, account, priority, due_at)

    def given_up(self) -> None:
        """The worker waits no longer: its write may still arrive, and is not in its hands any more."""
        self._alone.given_up(self._worker)

    def acted(self) -> None:
        """A person has done something."""
        self.bound.changed()
        self.look()

    @property
    def _worker(self) -> str:
        return self._stage.current.name if self._stage.current else "nobody"

    def look(self) -> None:
        """After anything that may have changed a figure: what was ever true, and what never goes back."""
        seen = (self._sandbox.salesforce.org.store.writes, self._sandbox.stripe.world.store.writes)
        if seen == self._seen:
            return
        self._seen = seen
        if len(self._sandbox.stripe.world.store.table("event")) != self._events:
            self._events = len(self._sandbox.stripe.world.store.table("event"))
            self.bound.changed()
        for name, account in self._sandbox.salesforce.org.store.table("Account").items():
            if not account.get("IsDeleted"):
                self._deleted.pop(name, None)
            elif not account.get("MasterRecordId"):
                self._deleted.setdefault(name, self._stage.micros)
        self._held.look()
        self.edits.look()
        self._note_figures(merged=True)
        if any(
            account.get("MasterRecordId") for account in self._sandbox.salesforce.org.store.table("Account").values()
        ):
            # Nobody is told of a merge: until it is found out, the figures of each are those of its own customers.
            self._note_figures(merged=False)
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

    def comes_late(self, side: str) -> None:
        """A write that nobody waits for is about to take effect: in Salesforce it may set back what only goes forward,
        which the next look puts right. What holds at rest is not touched by it."""
        if side == "salesforce":
            self._activated.clear()
            self._first_payment.clear()

    def _note_figures(self, *, merged: bool) -> None:
        collected, recurring = (read(self._sandbox, merged=merged) for read in (collected_minor, recurring_minor))
        for account in rows(self._sandbox, "salesforce", "Account"):
            name = account["Id"]
            self._values[name].add(Fraction(collected.get(name, 0)))
            self._held.figure(name, "account.lifetime_value", int(collected.get(name, 0)))
            self._held.figure(name, "account.mrr", int(recurring.get(name, 0)))

    def look_for_untold(self) -> None:
        """I20: with workers at work and nothing in their way, somebody is told of a failed payment within a minute."""
        if self._undisturbed:
            for name in untold_failures(self._sandbox, older_than=60):
                self.breaks(f"I20: nobody was told of the failed payment {name} within a minute")

    def dies(self, defect: Exception) -> None:
        """Whoever is at work now meets what nothing in the two systems can be the cause of."""
        place = traceback.extract_tb(defect.__traceback__)[-1]
        self.breaks(f"liveness: {self._worker} dies of {type(defect).__name__} in {place.name}: {defect}")

    def breaks(self, what: str) -> None:
        self._stage.say(f"BREAKS {what}")
        self.violations.append(what)

    def _check_agreed(self, ledger: StagedLedger) -> None:
        """I27, of what the base has learned since the last call."""
        before, self._agreed = self._agreed, ledger.agreed()
        if before is self._agreed:
            return
        for (field, subject), value in self._agreed.items():
            if before.get((field, subject)) != value:
                for side in self._held.strange(subject, field, value):
                    self.breaks(f"I27: {field} of {subject} was agreed on as {value}, which {side} never held")

    def _check_present(self, call: Call) -> None:
        """I17: what a deleted Account bills is left alone, by everybody who has looked since."""
        _, _, kind, *rest = call.path.split("/")
        row = self._row(kind, rest[0]) if rest else None
        if kind == "subscription_items" and row:
            row = self._row("subscriptions", row["subscription"])
        customer = row["id"] if row and kind == "customers" else (row or {}).get("customer")
        since = self._deleted.get(owners(self._sandbox).get(customer or "", ""))
        if since is not None and since + DELETED_SECONDS * MICROS < self._looks.get(self._worker, -1):
            self.breaks(f"I17: {call.path} is written, and its Account is deleted")

    def _check_planned(self, call: Call) -> None:
        """Who applies a plan makes nothing at Stripe that it does not name, and changes nothing of which it does not
        speak, unless it was made since."""
        plan, since = self._kept.get(self._worker, ("", 0))
        if not plan:
            return
        _, _, kind, *rest = call.path.split("/")
        if kind == "tax_ids" and not rest:
            # A registration has no name of its own, and is the customer's.
            kind, rest = "customers", parse_qs(call.body.decode())["owner[customer]"]
        name = rest[0] if rest else target(call).rpartition(" ")[2]
        row = self._row(kind, name)
        if name not in plan and (row is None or row["created"] < since):
            self.breaks(f"I11: {call.path} is written, and is not in the plan that is applied: {name}")

    def _stripe_object(self, call: Call) -> dict[str, Any] | None:
        """The object that an update is about, as Stripe shows it; None for a create."""
        _, _, kind, *rest = call.path.split("/")
        row = self._row(kind, rest[0]) if len(rest) == 1 else None
        return self._sandbox.stripe.world.render(row) if row is not None else None

    def _row(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object at Stripe by the `kind` of its path."""
        return self._sandbox.stripe.world.store.table(kind.removesuffix("s")).get(name)

    def _check_params(self, call: Call) -> None:
        kind = call.path.split("/")[-1 if is_create(call) or "/tax_ids" in call.path else 2]
        allowed = STRIPE_FIELDS.get(kind, "").split()
        names = [name.replace("]", "").split("[") for name in parse_qs(call.body.decode(), keep_blank_values=True)]
        strange = {".".join(name) for name in names if name[0] not in allowed}
        for name in names:
            if "metadata" in name and not name[name.index("metadata") + 1].startswith("sf_"):
                strange.add(".".join(name))
        if strange:
            self.breaks(f"I11: {', '.join(sorted(strange))} of {kind} at Stripe are not ours")

    def _jobs(self) -> Mapping[str, Row]:
        return self._sandbox.salesforce.org.store.table(JOBS)

    def _check_fields(self, call: Call, records: Iterable[dict[str, Any]]) -> None:
        for record in records:
            if not is_of_a_job(call):
                # What has joined a job may be set by a person before it leaves.
                self._check_changes(record)
            elif edited := TWO_WAY & record.keys():
                self.breaks(f"I16: {', '.join(sorted(edited))} is set by a bulk job, and people edit it while it runs")
            kind = record.get("attributes", {}).get("type", "")
            names = {f"{kind}.{name}" for name in record if name not in ("attributes", "id", "Id")}
            strange = names - self._writable - {f"{kind}.{name}" for name in self._own_fields(kind, record).split()}
            if strange:
                self.breaks(f"I11: fields are written that are not ours: {', '.join(sorted(strange))}")
            if "Lifetime_Value__c" in record and (value := record["Lifetime_Value__c"]) is not None:
                known = self._values[record.get("id", record.get("Id", ""))]
                if Fraction(str(value)) * 100 not in known:
                    self.breaks(f"I7: a lifetime value of {value} was never true")

    def _own_fields(self, kind: str, record: dict[str, Any]) -> str:
        if "id" not in record:
            return MADE_WITH.get(kind, "")
        stands = self._sandbox.salesforce.org.store.table(kind).get(record["id"]) or {}
        return RENEWAL if stands.get("Stripe_Renewal_Key__c") else KEPT.get(kind, "")

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
