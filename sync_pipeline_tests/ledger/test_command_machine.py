"""Any sequence of plans, sends, answers, crashes and probes keeps the promises of the outbox.

The model below knows nothing of the ledger's statements; it keeps one record per command and per
attempt, and after every step the stored rows must equal it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from sqlalchemy import select

from sync_pipeline.ledger import attempts, commands, work
from sync_pipeline.ledger.attempts import Outcome
from sync_pipeline.ledger.commands import State
from sync_pipeline.ledger.database import LedgerError, open_ledger
from sync_pipeline.ledger.tables import attempt, command
from sync_pipeline_tests.databases import ledger_database
from sync_pipeline_tests.ledger.making import counter, new_command

FOREVER = 10**15
OPEN, UNRESOLVED = ("planned", "sending", "ambiguous"), ("sending", "ambiguous")
ENDS: list[tuple[Outcome, State]] = [
    ("done", "done"),
    ("rejected", "rejected"),
    ("rejected", "parked"),
    ("ambiguous", "ambiguous"),
    ("throttled", "planned"),
    ("stale", "planned"),
]
PLANNED = st.builds(
    new_command,
    st.sampled_from(["k1", "k2", "k3"]),
    target=st.sampled_from(["t1", "t2"]),
    body=st.sampled_from(["{}", "[]"]),
    input_hash=st.sampled_from(["h1", "h2"]),
)


@dataclass
class Command:
    key: str
    target: str
    body: str
    inputs: tuple[str, str]
    generation: int
    successor: int
    state: str = "planned"


@dataclass
class Attempt:
    command: str
    generation: int
    sent_at: int
    deadline: int
    idempotency_key: str
    outcome: str | None = None


class Outbox(RuleBasedStateMachine):
    kind = "sqlite"
    attempts_made = Bundle("attempts_made")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-"))
        self.ledger = open_ledger(ledger_database(self.kind, self.folder))
        self.now = 1
        self.commands: dict[str, Command] = {}
        self.attempts: dict[str, Attempt] = {}
        self.new_id = counter()
        with self.ledger.tx() as conn:
            work.mark_dirty(conn, ["A"], priority=1, now_wall=0)
            (self.claim,) = work.claim(conn, owner="me", limit=1, now_wall=0, lease_us=FOREVER)

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    def newest(self, key: str) -> tuple[str, Command] | None:
        of_key = [(name, item) for name, item in self.commands.items() if item.key == key]
        return of_key[-1] if of_key else None

    def latest(self, command_id: str) -> tuple[str, Attempt] | None:
        of_command = [(name, item) for name, item in self.attempts.items() if item.command == command_id]
        return of_command[-1] if of_command else None

    @rule(plan=st.lists(PLANNED, max_size=4), code=st.sampled_from(["v1", "v2"]))
    def propose(self, plan: list[commands.NewCommand], code: str) -> None:
        with self.ledger.tx() as conn:
            rows = commands.propose(conn, plan, now=self.now, code_version=code, new_id=self.new_id)
        admitted: list[str] = []
        for item in plan:
            last = self.newest(item.key)
            inputs = (item.input_hash, code)
            blocked = {other.target for other in self.commands.values() if other.state in UNRESOLVED}
            if item.key in admitted or item.target in blocked:
                continue
            if last and (last[1].state in UNRESOLVED or (last[1].state == "parked" and last[1].inputs == inputs)):
                continue
            row = rows[len(admitted)]
            admitted.append(item.key)
            assert (row.key, row.target, row.body, row.state) == (item.key, item.target, item.body, "planned")
            if last and last[1].state == "planned" and last[1].body == item.body:
                assert row.id == last[0]
                last[1].inputs, last[1].target = inputs, item.target
                continue
            assert row.id not in self.commands
            generation = 0 if last is None else last[1].successor
            if last and last[1].state in ("planned", "parked"):
                last[1].state = "superseded"
            self.commands[row.id] = Command(item.key, item.target, item.body, inputs, generation, generation)
        assert len(rows) == len(admitted)

    @rule(data=st.data(), target=attempts_made)
    def begin(self, data: st.DataObject) -> object:
        # Mostly those that can be sent: the ended ones soon outnumber them.
        open_ones = [name for name, item in self.commands.items() if item.state in OPEN]
        choices = open_ones * 4 + list(self.commands)[-2:]
        if not choices:
            return multiple()
        chosen = data.draw(st.sampled_from(choices))
        item, last = self.commands[chosen], self.latest(chosen)
        orphaned = item.state == "sending" and last is not None and last[1].deadline < self.now
        rivals = [
            name
            for name, other in self.commands.items()
            if other.target == item.target and other.state in UNRESOLVED and name != chosen
        ]
        with self.ledger.tx() as conn:
            row = commands.get(conn, chosen)
            try:
                (made,) = attempts.begin(
                    conn, [(self.claim, row)], now=self.now, now_wall=self.now,
                    deadline_wall=self.now + 5, min_lease_us=5, instance_id="i", new_id=self.new_id,
                ).values()  # fmt: skip
            except LedgerError:
                assert item.state not in ("planned", "ambiguous") or rivals
                assert not orphaned
                return multiple()
        assert orphaned or (item.state in ("planned", "ambiguous") and not rivals)
        if orphaned and last is not None:
            last[1].outcome = "ambiguous"
        self.attempts[made.id] = Attempt(chosen, item.generation, self.now, self.now + 5, made.idempotency_key)
        item.state = "sending"
        return made.id

    @rule(chosen=attempts_made, end=st.sampled_from(ENDS))
    def finish(self, chosen: str, end: tuple[Outcome, State]) -> None:
        item = self.attempts[chosen]
        owner = self.commands[item.command]
        is_latest = self.latest(item.command) == (chosen, item)
        settles = end[0] in ("done", "rejected", "throttled")
        late = item.outcome == owner.state == "ambiguous" and is_latest and settles
        with self.ledger.tx() as conn:
            owned_by = attempts.finish(
                conn, chosen, outcome=end[0], state=end[1], http_status=None, request_id=None, error=None, now=self.now
            )
        changed = owned_by is not None
        assert changed == (item.outcome is None or late)
        if changed:
            item.outcome, owner.state = end

    @rule(chosen=consumes(attempts_made))
    def prove_absent(self, chosen: str) -> None:
        name = self.attempts[chosen].command
        item = self.commands[name]
        allowed = self.newest(item.key) == (name, item)
        with self.ledger.tx() as conn:
            if not allowed:
                with pytest.raises(LedgerError):
                    attempts.next_generation(conn, name)
                return
            item.successor = attempts.next_generation(conn, name)
        last = self.latest(name)
        if item.state == "sending" and last is not None:
            last[1].outcome = "ambiguous"
        if item.state in OPEN:
            item.state, item.generation = "planned", item.successor

    @rule(wanted=st.sets(st.sampled_from(["k1", "k2", "k3"])))
    def retire(self, wanted: set[str]) -> None:
        with self.ledger.tx() as conn:
            count = commands.retire(conn, "A", wanted=wanted, now=self.now)
        obsolete = [
            item for item in self.commands.values() if item.state in ("planned", "parked") and item.key not in wanted
        ]
        assert count == len(obsolete)
        for item in obsolete:
            item.state = "superseded"

    @rule(by=st.integers(1, 10))
    def time_passes(self, by: int) -> None:
        self.now += by

    @invariant()
    def stored_rows_equal_the_model(self) -> None:
        with self.ledger.read() as conn:
            rows = {row.id: row for row in conn.execute(select(command))}
            tries = {row.id: row for row in conn.execute(select(attempt))}
            unresolved = commands.unresolved(conn, ["A"]).get("A", [])
            parked = {row.id for row in commands.parked(conn)}
        assert {
            name: (item.key, item.target, item.body, item.state, item.generation)
            for name, item in self.commands.items()
        } == {name: (row.key, row.target, row.body, row.state, row.generation) for name, row in rows.items()}
        assert {name: (item.command, item.outcome) for name, item in self.attempts.items()} == {
            name: (row.command_id, row.outcome) for name, row in tries.items()
        }
        assert {row.id for row in unresolved} == {n for n, item in self.commands.items() if item.state in UNRESOLVED}
        assert parked == {name for name, item in self.commands.items() if item.state == "parked"}
        for name, row in rows.items():
            self.check_key_age(name, row.first_sent)

    def check_key_age(self, command_id: str, first_sent: int | None) -> None:
        """first_sent is never later than the first use of the key that the command would be sent with."""
        item = self.commands[command_id]
        uses = [
            use.sent_at
            for use in self.attempts.values()
            if self.commands[use.command].key == item.key and use.generation == item.generation
        ]
        if item.state in OPEN:
            assert first_sent == min(uses, default=None)

    @invariant()
    def nothing_is_sent_twice_at_once(self) -> None:
        blocked = [item.target for item in self.commands.values() if item.state in UNRESOLVED]
        assert len(blocked) == len(set(blocked))
        open_keys = [item.key for item in self.commands.values() if item.state in OPEN]
        assert len(open_keys) == len(set(open_keys))

    @invariant()
    def the_idempotency_key_is_the_intent_and_its_generation(self) -> None:
        for use in self.attempts.values():
            intent = f"i|{self.commands[use.command].key}|{use.generation}"
            assert use.idempotency_key == "sfs1:" + hashlib.sha256(intent.encode()).hexdigest()[:40]


class OutboxOnPostgres(Outbox):
    kind = "postgres"


TestOutboxOnSqlite = Outbox.TestCase
TestOutboxOnSqlite.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestOutboxOnPostgres = pytest.mark.postgres(OutboxOnPostgres.TestCase)
TestOutboxOnPostgres.settings = settings(max_examples=10, stateful_step_count=30, deadline=None)
