"""Commands, case by case: admission, the write-ahead, outcomes, generations, what a crash leaves behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import FieldChange
from sync_pipeline.ledger import attempts, commands, links, work
from sync_pipeline.ledger.attempts import Attempt, Outcome
from sync_pipeline.ledger.commands import CommandRow, NewCommand, State
from sync_pipeline.ledger.database import Ledger, LedgerError, open_ledger
from sync_pipeline.ledger.tables import attempt
from sync_pipeline_tests.ledger.making import counter, new_command

LEASE, MARGIN = 1_000, 50


@dataclass
class Outbox:
    """One account's claim and a connection, with the arguments that the cases do not vary filled in."""

    conn: Connection
    claim: work.Claim
    now: int = 10
    new_id: Any = field(default_factory=counter)

    def propose(self, *items: NewCommand, code_version: str = "v1") -> list[CommandRow]:
        return commands.propose(self.conn, items, now=self.now, code_version=code_version, new_id=self.new_id)

    def begin(self, *rows: CommandRow, now_wall: int = 10, claim: work.Claim | None = None) -> list[Attempt]:
        made = attempts.begin(
            self.conn,
            [(claim or self.claim, row) for row in rows],
            now=self.now,
            now_wall=now_wall,
            deadline_wall=now_wall + MARGIN,
            min_lease_us=MARGIN,
            instance_id="org/acct",
            new_id=self.new_id,
        )
        return [made[row.id] for row in rows if row.id in made]

    def finish(self, made: Attempt, outcome: Outcome, state: State, **details: Any) -> bool:
        known = {"http_status": None, "request_id": None, "error": None, **details}
        return attempts.finish(self.conn, made.id, outcome=outcome, state=state, now=self.now, **known) is not None

    def state(self, row: CommandRow) -> State:
        return commands.get(self.conn, row.id).state


@pytest.fixture
def outbox(ledger: Ledger) -> Iterator[Outbox]:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["A"], priority=1, now_wall=0)
        yield Outbox(conn, work.claim(conn, owner="me", limit=1, now_wall=0, lease_us=LEASE)[0])


def test_commands_are_admitted_in_the_order_given(outbox: Outbox) -> None:
    rows = outbox.propose(new_command("z"), new_command("a", body='{"b":1}'), new_command("z"))
    assert [(row.key, row.state, row.generation, row.number) for row in rows] == [
        ("z", "planned", 0, 1),
        ("a", "planned", 0, 1),
    ]
    assert rows[1].body == '{"b":1}'
    assert outbox.propose() == []


def test_the_same_plan_again_keeps_its_rows_and_another_body_replaces_it(outbox: Outbox) -> None:
    (first,) = outbox.propose(new_command("k"))
    assert outbox.propose(new_command("k")) == [first]
    (again,) = outbox.propose(replace(new_command("k"), reason="better words", input_hash="other"), code_version="v2")
    assert (again.id, again.reason, again.input_hash, again.code_version) == (first.id, "better words", "other", "v2")
    assert commands.get(outbox.conn, first.id) == again
    (other,) = outbox.propose(new_command("k", body="[]"))
    assert (other.number, other.generation, other.body) == (2, 0, "[]")
    assert outbox.state(first) == "superseded"
    assert commands.counts(outbox.conn) == {"planned": 1, "superseded": 1}


@pytest.mark.parametrize("outcome", [None, "ambiguous"])
def test_an_unknown_outcome_blocks_its_key_and_its_target(outbox: Outbox, outcome: Outcome | None) -> None:
    (row,) = outbox.propose(new_command("k", target="cus"))
    (made,) = outbox.begin(row)
    if outcome:
        outbox.finish(made, outcome, "ambiguous")
    same_key, same_target = new_command("k", target="other", body="[]"), new_command("other", target="cus")
    elsewhere = new_command("third", target="cus", account="B")
    assert [found.key for found in outbox.propose(same_key, same_target, elsewhere)] == ["third"]
    (open_,) = commands.unresolved(outbox.conn, ["A", "B"])["A"]
    assert (open_.id, open_.attempt_id, open_.deadline_wall) == (row.id, made.id, made.deadline_wall)
    assert commands.retire(outbox.conn, "A", wanted=[], now=11) == 0


def test_what_moved_to_another_account_since_it_was_read_is_left_to_that(outbox: Outbox) -> None:
    """It would have killed the worker, which has looked at the account meanwhile."""
    (row,) = outbox.propose(new_command("k"))
    (made,) = outbox.begin(row)
    outbox.finish(made, "ambiguous", "ambiguous")
    (known,) = commands.unresolved(outbox.conn, ["A"])["A"]
    links.move_account(outbox.conn, "A", "B", 11)
    assert outbox.begin(known) == []
    assert [each.id for each in commands.unresolved(outbox.conn, ["B"])["B"]] == [row.id]


def test_what_was_put_back_is_counted_once_it_is_done_and_while_it_is_recent(outbox: Outbox) -> None:
    def put_back(number: int, *subjects: str | None) -> NewCommand:
        made = [FieldChange("price", "1", "2", "item.unit_price", "put back", put_back=each) for each in subjects]
        return replace(new_command(f"k{number}"), changes=canonical.encode(made))

    for number, subjects in enumerate([("line",), ("line", None), (None,), ("line", "other")], start=1):
        outbox.now = number * 10
        (row,) = outbox.propose(put_back(number, *subjects))
        (made,) = outbox.begin(row)
        outbox.finish(made, "done", "done")
    outbox.propose(put_back(5, "line"))
    found = commands.put_back(outbox.conn, ["A", "B"], since=10)
    assert found == {"A": {("line", "item.unit_price"): (20, 40), ("other", "item.unit_price"): (40,)}}


def test_the_write_ahead_freezes_key_and_time(outbox: Outbox) -> None:
    one, two = outbox.propose(new_command("k"), new_command("l"))
    first, second = outbox.begin(one, two)
    assert (first.number, first.command_id, first.deadline_wall) == (1, one.id, 60)
    assert first.idempotency_key == "sfs1:" + hashlib.sha256(b"org/acct|k|0").hexdigest()[:40]
    assert first.idempotency_key != second.idempotency_key
    stored = commands.get(outbox.conn, one.id)
    assert (stored.state, stored.first_sent, stored.last_sent) == ("sending", 10, 10)


def test_ambiguous_commands_are_sent_again_under_the_same_key(outbox: Outbox) -> None:
    (row,) = outbox.propose(new_command("k"))
    (first,) = outbox.begin(row)
    outbox.finish(first, "ambiguous", "ambiguous", error="timeout")
    outbox.now = 20
    (second,) = outbox.begin(row)
    assert (second.number, second.idempotency_key) == (2, first.idempotency_key)
    stored = commands.get(outbox.conn, row.id)
    assert (stored.state, stored.first_sent, stored.last_sent) == ("sending", 10, 20)
    assert outbox.finish(second, "done", "done", http_status=200, request_id="req_2", cost_calls=2)
    assert outbox.state(row) == "done"
    found = outbox.conn.execute(select(attempt).order_by(attempt.c.number)).all()
    assert [(item.outcome, item.request_id, item.error, item.cost_calls) for item in found] == [
        ("ambiguous", None, "timeout", 1),
        ("done", "req_2", None, 2),
    ]


def test_a_finish_counts_once(outbox: Outbox) -> None:
    (row,) = outbox.propose(new_command("k"))
    (made,) = outbox.begin(row)
    assert outbox.finish(made, "done", "done")
    assert not outbox.finish(made, "done", "done")
    assert not outbox.finish(made, "ambiguous", "ambiguous")
    assert outbox.state(row) == "done"
    with pytest.raises(LedgerError, match="no attempt nobody"):
        outbox.finish(replace(made, id="nobody"), "done", "done")


@pytest.mark.parametrize(("outcome", "state"), [("done", "done"), ("rejected", "parked")])
def test_a_look_may_resolve_an_ambiguous_attempt(outbox: Outbox, outcome: Outcome, state: State) -> None:
    (row,) = outbox.propose(new_command("k"))
    (made,) = outbox.begin(row)
    assert outbox.finish(made, "ambiguous", "ambiguous")
    assert not outbox.finish(made, "ambiguous", "ambiguous")
    assert not outbox.finish(made, "stale", "planned")
    assert outbox.finish(made, outcome, state)
    assert outbox.state(row) == state


def test_an_old_attempt_has_no_say_once_a_newer_one_runs(outbox: Outbox) -> None:
    (row,) = outbox.propose(new_command("k"))
    (first,) = outbox.begin(row)
    outbox.finish(first, "ambiguous", "ambiguous")
    (second,) = outbox.begin(row)
    assert not outbox.finish(first, "done", "done")
    outbox.finish(second, "ambiguous", "ambiguous")
    assert not outbox.finish(first, "done", "done")
    assert outbox.state(row) == "ambiguous"


@pytest.mark.parametrize("outcome", ["throttled", "stale"])
def test_a_command_that_did_not_reach_its_target_is_planned_again(outbox: Outbox, outcome: Outcome) -> None:
    (row,) = outbox.propose(new_command("k"))
    (made,) = outbox.begin(row)
    assert outbox.finish(made, outcome, "planned", http_status=429)
    (again,) = outbox.propose(new_command("k"))
    assert (again.id, again.state, again.first_sent) == (row.id, "planned", 10)


@pytest.mark.parametrize(
    ("outcome", "state"), [("done", "planned"), ("ambiguous", "done"), ("stale", "superseded"), ("rejected", "done")]
)
def test_a_state_must_follow_from_the_outcome(outbox: Outbox, outcome: Outcome, state: State) -> None:
    (made,) = outbox.begin(*outbox.propose(new_command("k")))
    with pytest.raises(LedgerError, match=f"ended {outcome} cannot become {state}"):
        outbox.finish(made, outcome, state)


def test_a_parked_command_waits_for_other_inputs_or_other_code(outbox: Outbox) -> None:
    (row,) = outbox.propose(new_command("k"))
    (made,) = outbox.begin(row)
    outbox.finish(made, "rejected", "parked", http_status=400, error="parameter_invalid")
    assert outbox.propose(new_command("k")) == []
    assert outbox.propose(new_command("k", body="[]")) == []
    assert [found.id for found in commands.parked(outbox.conn)] == [row.id]
    (changed,) = outbox.propose(new_command("k", input_hash="h2"))
    assert (changed.number, changed.generation, changed.first_sent) == (2, 0, 10)
    assert commands.parked(outbox.conn) == []
    outbox.finish(outbox.begin(changed)[0], "rejected", "parked")
    (newer_code,) = outbox.propose(new_command("k", input_hash="h2"), code_version="v2")
    assert newer_code.number == 3


def test_a_rejected_command_may_be_tried_again(outbox: Outbox) -> None:
    (row,) = outbox.propose(new_command("k"))
    outbox.finish(outbox.begin(row)[0], "rejected", "rejected")
    assert [found.number for found in outbox.propose(new_command("k"))] == [2]


def test_what_the_plan_dropped_is_retired(outbox: Outbox) -> None:
    parked, kept, dropped = outbox.propose(new_command("parked"), new_command("kept"), new_command("dropped"))
    outbox.finish(outbox.begin(parked)[0], "rejected", "parked")
    outbox.propose(new_command("elsewhere", account="B"))
    assert commands.retire(outbox.conn, "A", wanted=["kept", "parked"], now=11) == 1
    assert [outbox.state(row) for row in (parked, kept, dropped)] == ["parked", "planned", "superseded"]
    assert commands.retire(outbox.conn, "A", wanted=["kept"], now=11) == 1
    assert commands.parked(outbox.conn) == []


@pytest.mark.parametrize("crashed", [True, False])
def test_a_proven_absence_gives_a_new_key(outbox: Outbox, crashed: bool) -> None:
    (row,) = outbox.propose(new_command("k"))
    (first,) = outbox.begin(row)
    if crashed:
        assert commands.get(outbox.conn, row.id).attempt_number == 1
    else:
        outbox.finish(first, "ambiguous", "ambiguous", http_status=503)
        assert commands.get(outbox.conn, row.id).http_status == 503
    assert attempts.next_generation(outbox.conn, row.id) == 1
    stored = commands.get(outbox.conn, row.id)
    assert (stored.state, stored.generation, stored.first_sent) == ("planned", 1, None)
    assert not outbox.finish(first, "done", "done")
    (second,) = outbox.begin(row)
    assert second.number == 2
    assert second.idempotency_key != first.idempotency_key


def test_an_ended_command_hands_a_new_generation_to_the_next_one(outbox: Outbox) -> None:
    (row,) = outbox.propose(new_command("k"))
    outbox.finish(outbox.begin(row)[0], "done", "done")
    assert outbox.propose(new_command("k"))[0].generation == 0
    commands.retire(outbox.conn, "A", wanted=[], now=11)
    with pytest.raises(LedgerError, match="not the newest"):
        attempts.next_generation(outbox.conn, row.id)
    newest = commands.get(outbox.conn, "id-000003")
    assert attempts.next_generation(outbox.conn, newest.id) == 1
    assert commands.get(outbox.conn, newest.id).generation == 0
    (fresh,) = outbox.propose(new_command("k"))
    assert (fresh.generation, fresh.first_sent) == (1, None)


def test_without_the_claim_nothing_may_be_sent(outbox: Outbox) -> None:
    (row,) = outbox.propose(new_command("k"))
    assert outbox.begin(row, claim=replace(outbox.claim, fence=outbox.claim.fence - 1)) == []
    assert outbox.begin(row, now_wall=LEASE - MARGIN) == []
    assert outbox.state(row) == "planned"
    assert outbox.conn.execute(select(attempt)).all() == []
    assert outbox.begin(row, now_wall=LEASE - MARGIN - 1)


def test_a_deadline_after_the_lease_is_refused(outbox: Outbox) -> None:
    rows = outbox.propose(new_command("k"))
    for deadline in (LEASE, LEASE + 1):
        made = attempts.begin(
            outbox.conn, [(outbox.claim, row) for row in rows], now=1, now_wall=1, deadline_wall=deadline,
            min_lease_us=0, instance_id="i", new_id=counter(),
        )  # fmt: skip
        assert made == {}


def test_a_command_of_another_account_is_refused(outbox: Outbox) -> None:
    with pytest.raises(LedgerError, match="of account B"):
        outbox.begin(*outbox.propose(new_command("k", account="B")))


def test_a_command_that_is_under_way_or_over_is_refused(outbox: Outbox) -> None:
    (row,) = outbox.propose(new_command("k"))
    (made,) = outbox.begin(row)
    with pytest.raises(LedgerError, match="is sending: it cannot be sent"):
        outbox.begin(row, now_wall=made.deadline_wall)
    outbox.finish(made, "done", "done")
    with pytest.raises(LedgerError, match="is done: it cannot be sent"):
        outbox.begin(commands.get(outbox.conn, row.id))


def test_a_command_that_has_ended_since_it_was_read_is_left_alone(outbox: Outbox) -> None:
    """The next holder reads that an outcome is missing, and the one before it tells it right then."""
    (row,) = outbox.propose(new_command("k"))
    (late,) = outbox.begin(row)
    as_read = commands.get(outbox.conn, row.id)
    outbox.finish(late, "done", "done")
    assert outbox.begin(as_read, now_wall=late.deadline_wall + 1) == []
    assert outbox.state(row) == "done"


def test_two_commands_on_one_target_cannot_be_under_way_together(outbox: Outbox) -> None:
    one, two = outbox.propose(new_command("k", target="cus"), new_command("l", target="cus"))
    (made,) = outbox.begin(one)
    with pytest.raises(LedgerError, match="cus has another command"):
        outbox.begin(two)
    outbox.finish(made, "done", "done")
    assert outbox.begin(two)


def test_one_lost_claim_keeps_nobody_else_from_sending(outbox: Outbox) -> None:
    work.mark_dirty(outbox.conn, ["B"], priority=1, now_wall=0)
    (other,) = work.claim(outbox.conn, owner="me", limit=1, now_wall=0, lease_us=LEASE)
    mine, theirs = outbox.propose(new_command("k"), new_command("l", account="B"))
    made = attempts.begin(
        outbox.conn, [(outbox.claim, mine), (replace(other, fence=0), theirs)], now=1, now_wall=1, deadline_wall=20,
        min_lease_us=0, instance_id="i", new_id=counter(),
    )  # fmt: skip
    assert list(made) == [mine.id]
    assert (outbox.state(mine), outbox.state(theirs)) == ("sending", "planned")


def test_two_commands_on_one_target_cannot_leave_in_one_pool(outbox: Outbox) -> None:
    with pytest.raises(LedgerError, match="cus has another command"):
        outbox.begin(*outbox.propose(new_command("k", target="cus"), new_command("l", target="cus")))


def test_after_a_crash_the_next_holder_sends_the_same_key_again(outbox: Outbox) -> None:
    (row,) = outbox.propose(new_command("k"))
    (lost,) = outbox.begin(row)
    # The process dies here. Its lease runs out, and another one claims the account.
    (claim,) = work.claim(outbox.conn, owner="other", limit=1, now_wall=LEASE, lease_us=LEASE)
    (found,) = commands.unresolved(outbox.conn, ["A"])["A"]
    assert (found.state, found.attempt_id) == ("sending", lost.id)
    assert found.deadline_wall is not None
    assert found.deadline_wall < LEASE
    (again,) = outbox.begin(found, now_wall=LEASE, claim=claim)
    assert (again.number, again.idempotency_key) == (2, lost.idempotency_key)
    # The dead one was only slow: what it says now comes too late to matter.
    assert not outbox.finish(lost, "done", "done")
    assert outbox.finish(again, "done", "done")
    outcomes = outbox.conn.execute(select(attempt.c.outcome).order_by(attempt.c.number)).scalars().all()
    assert outcomes == ["ambiguous", "done"]


def test_pruning_keeps_what_still_matters(outbox: Outbox) -> None:
    keys = ("done", "parked", "ambiguous", "throttled", "superseded", "unsent")
    rows = {row.key: row for row in outbox.propose(*map(new_command, keys))}
    made = {key: outbox.begin(rows[key])[0] for key in keys[:4]}
    outbox.finish(made["done"], "done", "done")
    outbox.finish(made["parked"], "rejected", "parked")
    outbox.finish(made["ambiguous"], "ambiguous", "ambiguous")
    outbox.finish(made["throttled"], "throttled", "planned")
    outbox.propose(new_command("superseded", body="[]"))
    assert commands.prune(outbox.conn, 10) == 0
    assert commands.prune(outbox.conn, 11) == 4
    assert commands.counts(outbox.conn) == {"ambiguous": 1, "parked": 1, "planned": 1}
    assert attempts.prune(outbox.conn, 10) == 0
    assert attempts.prune(outbox.conn, 11) == 1


@pytest.mark.postgres
def test_nobody_can_take_the_account_while_its_send_is_written_down(postgres_ledger_url: str) -> None:
    """The lease may end, by another machine's clock, before the write-ahead is committed."""
    mine, theirs = open_ledger(postgres_ledger_url), open_ledger(postgres_ledger_url)
    with mine.tx() as conn:
        work.mark_dirty(conn, ["A"], priority=1, now_wall=0)
        outbox = Outbox(conn, work.claim(conn, owner="me", limit=1, now_wall=0, lease_us=LEASE)[0])
        (row,) = outbox.propose(new_command("k"))
    with mine.tx() as conn:
        Outbox(conn, outbox.claim, new_id=counter("attempt")).begin(row)
        with theirs.tx() as other:
            assert work.claim(other, owner="they", limit=1, now_wall=2 * LEASE, lease_us=LEASE) == []
    with theirs.tx() as other:
        assert len(work.claim(other, owner="they", limit=1, now_wall=2 * LEASE, lease_us=LEASE)) == 1
    mine.close()
    theirs.close()
