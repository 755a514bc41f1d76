"""Bulk jobs in the ledger: one gathers per object, one worker drives one, what it holds is blocked until it tells."""

from __future__ import annotations

from dataclasses import replace

from sync_pipeline.ledger import attempts, bulk_jobs, commands, work
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.database import Ledger
from sync_pipeline_tests.ledger.making import counter, new_command

HOUR = 3_600_000_000
LEASE = 120_000_000


def test_one_job_gathers_per_object_until_it_is_frozen(ledger: Ledger) -> None:
    new_id = counter("job")
    with ledger.tx() as conn:
        first = bulk_jobs.gathering(conn, "Account", now_wall=1, lasts_us=HOUR, new_id=new_id)
        other = bulk_jobs.gathering(conn, "Opportunity", now_wall=2, lasts_us=HOUR, new_id=new_id)
        assert bulk_jobs.gathering(conn, "Account", now_wall=3, lasts_us=HOUR, new_id=new_id) == first
        assert (first.deadline_wall, first.state, first.salesforce_id) == (1 + HOUR, "gathering", None)
        bulk_jobs.freeze(conn, first.id)
        assert bulk_jobs.gathers(conn, first.id) is False
        second = bulk_jobs.gathering(conn, "Account", now_wall=4, lasts_us=HOUR, new_id=new_id)
        assert bulk_jobs.gathers(conn, second.id) is True
        assert [job.id for job in bulk_jobs.open_jobs(conn)] == [first.id, other.id, second.id]
        bulk_jobs.settled(conn, first.id)
        assert bulk_jobs.gathers(conn, first.id) is None


def test_a_job_is_driven_by_one_until_its_lease_ends(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        job = bulk_jobs.gathering(conn, "Account", now_wall=1, lasts_us=HOUR, new_id=counter())
        assert bulk_jobs.take(conn, job.id, owner="a", now_wall=1, lease_us=LEASE)
        assert bulk_jobs.take(conn, job.id, owner="a", now_wall=2, lease_us=LEASE)
        assert not bulk_jobs.take(conn, job.id, owner="b", now_wall=1 + LEASE, lease_us=LEASE)
        assert bulk_jobs.take(conn, job.id, owner="b", now_wall=2 + LEASE, lease_us=LEASE)
        assert not bulk_jobs.take(conn, job.id, owner="a", now_wall=3 + LEASE, lease_us=LEASE)


def test_what_a_job_holds_needs_no_lease_and_takes_no_other_command(ledger: Ledger) -> None:
    """Its account may be claimed by anybody; another command of the target waits, and the update is sent once."""
    claim, row = _gathered(ledger)
    with ledger.tx() as conn:
        assert [each[:2] for each in commands.in_job(conn, "job")] == [("A", row.id)]
        work.release(conn, claim, now=2, now_wall=2)
        work.mark_dirty(conn, ["A"], priority=0, now_wall=3)
        (again,) = work.claim(conn, owner="b", limit=1, now_wall=3, lease_us=LEASE)
        assert again.fence == claim.fence + 1
        other = new_command("other", target=row.target)
        assert commands.propose(conn, [other], now=3, code_version="v", new_id=counter("more")) == []
        held = commands.unresolved(conn, ["A"])["A"]
        assert [(each.id, each.job, each.deadline_wall) for each in held] == [(row.id, "job", HOUR)]
        attempts.finish(
            conn, "attempt-000001", outcome="done", state="done", http_status=200, request_id="750", error=None, now=4
        )
        assert commands.in_job(conn, "job") == []


def test_a_job_under_way_holds_its_accounts_until_their_rows_have_outcomes(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        job = bulk_jobs.gathering(conn, "Account", now_wall=1, lasts_us=HOUR, new_id=lambda: "job")
    _gathered(ledger)
    with ledger.tx() as conn:
        assert bulk_jobs.holds(conn, ["A", "B"]) == set()
        bulk_jobs.freeze(conn, job.id)
        assert bulk_jobs.holds(conn, ["A", "B"]) == {"A"}
        assert bulk_jobs.holds(conn, ["B"]) == set()
        attempts.finish(
            conn, "attempt-000001", outcome="done", state="done", http_status=200, request_id="750", error=None, now=4
        )
        assert bulk_jobs.holds(conn, ["A", "B"]) == set()


def test_a_job_waits_for_calls_that_write_for_its_accounts(ledger: Ledger) -> None:
    """Those of other accounts, to Stripe, and those whose deadline is long over are none of its business."""
    claim, _ = _gathered(ledger)
    new_id = counter("more")
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["B"], priority=5, now_wall=1)
        (other,) = work.claim(conn, owner="a", limit=1, now_wall=1, lease_us=LEASE)

    def sent(claim: work.Claim, key: str, kind: str, deadline_wall: int) -> None:
        with ledger.tx() as conn:
            command = replace(new_command(key, account=claim.account, target=key), kind=kind)
            rows = commands.propose(conn, [command], now=1, code_version="v", new_id=new_id)
            attempts.begin(
                conn,
                [(claim, row) for row in rows],
                now=1,
                now_wall=1,
                deadline_wall=deadline_wall,
                min_lease_us=10,
                instance_id="i",
                new_id=new_id,
            )

    def waits(since_wall: int) -> bool:
        with ledger.read() as conn:
            return bulk_jobs.must_wait(conn, "job", since_wall=since_wall)

    sent(other, "of-another-account", "salesforce.update", 100)
    sent(claim, "to-stripe", "stripe.update", 100)
    assert not waits(1)
    sent(claim, "of-its-account", "salesforce.upsert", 100)
    assert waits(99)
    assert not waits(100)


def _gathered(ledger: Ledger) -> tuple[work.Claim, CommandRow]:
    """An update that has joined a job whose deadline lies far behind its claim's lease."""
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["A"], priority=5, now_wall=1)
        (claim,) = work.claim(conn, owner="a", limit=1, now_wall=1, lease_us=LEASE)
        (row,) = commands.propose(conn, [new_command("k")], now=1, code_version="v", new_id=counter("command"))
        made = attempts.begin(
            conn,
            [(claim, row)],
            now=1,
            now_wall=1,
            deadline_wall=HOUR,
            min_lease_us=10,
            instance_id="i",
            new_id=counter("attempt"),
            job="job",
        )
        assert made.keys() == {row.id}
    return claim, row


def test_waking_makes_those_due_that_wait_and_leaves_clean_ones_alone(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        work.mark_dirty(conn, ["clean", "waits"], priority=1, now_wall=1)
        for claim in work.claim(conn, owner="a", limit=2, now_wall=1, lease_us=LEASE):
            if claim.account == "clean":
                work.release(conn, claim, now=2, now_wall=2)
            else:
                work.defer(conn, claim, due_at_wall=HOUR, now_wall=2)
        assert work.due(conn, 5) == 0
        work.wake(conn, ["clean", "waits", "unknown"], now_wall=5)
        assert [claim.account for claim in work.claim(conn, owner="b", limit=9, now_wall=5, lease_us=1)] == ["waits"]
