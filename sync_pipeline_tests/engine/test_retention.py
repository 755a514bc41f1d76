"""The ledger forgets what the rules let it forget, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sync_pipeline.config.rules import load_rules
from sync_pipeline.core.rules import Retention
from sync_pipeline.core.units import DAY_US
from sync_pipeline.engine.env import SystemEnv
from sync_pipeline.engine.retention import Retained, retain
from sync_pipeline.ledger import attempts, audit, commands, inbox, work, workers
from sync_pipeline.ledger.attempts import Outcome
from sync_pipeline.ledger.commands import State
from sync_pipeline.ledger.database import Ledger, open_ledger
from sync_pipeline.ledger.inbox import InboxEvent
from sync_pipeline.ledger.status import ledger_status
from sync_pipeline_tests.databases import ledger_database
from sync_pipeline_tests.ledger.making import counter, new_command

KEPT_DAYS = Retention(audit_days=100, attempts_days=50, commands_days=40, inbox_days=31)
ENDS: tuple[tuple[Outcome, State], ...] = (("done", "done"), ("rejected", "parked"))


class Later(SystemEnv):
    """So many days after the first of all moments."""

    def __init__(self, days: int) -> None:
        super().__init__()
        self._now = days * DAY_US

    def wall(self) -> int:
        return self._now


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """On day 0 one command was sent and done, another was refused; an event came in, and a worker died."""
    ledger = open_ledger(ledger_database("sqlite", tmp_path))
    with ledger.tx() as conn:
        event = InboxEvent("stripe", "evt_1", "invoice.paid", ("in_1",), 0, "A")
        inbox.receive(conn, [event], received_wall=0, priority=1)
        workers.beat(conn, name="dead", kind="drain", now_wall=0, ends_wall=None)
        (claim,) = work.claim(conn, owner="me", limit=1, now_wall=0, lease_us=DAY_US)
        wanted = [new_command("done"), new_command("refused")]
        rows = commands.propose(conn, wanted, now=0, code_version="v1", new_id=counter("cmd"))
        made = attempts.begin(
            conn,
            [(claim, row) for row in rows],
            now=0,
            now_wall=0,
            deadline_wall=1,
            min_lease_us=1,
            instance_id="org",
            new_id=counter("att"),
        )
        for row, (outcome, state) in zip(rows, ENDS, strict=True):
            attempts.finish(
                conn,
                made[row.id].id,
                outcome=outcome,
                state=state,
                http_status=200,
                request_id=None,
                error=None,
                now=0,
            )
            audit.append(
                conn, account="A", attempt_id=made[row.id].id, at=0, actor="sync", what=row.key, fields="[]",
                reason="", evidence="[]", run="run-1", code_version="v1", request_id=None,
            )  # fmt: skip
    yield ledger
    ledger.close()


@pytest.mark.parametrize(
    ("days", "removed"),
    [
        (30, Retained(workers=1)),
        (32, Retained(workers=1, inbox=1)),
        (41, Retained(workers=1, inbox=1, commands=1)),
        # What was refused is still wanted: its command stays, and so does the attempt that says why.
        (51, Retained(workers=1, inbox=1, commands=1, attempts=1)),
        (101, Retained(workers=1, inbox=1, commands=1, attempts=1, audit=2, chains=1)),
    ],
)
def test_every_kind_of_row_has_its_days(ledger: Ledger, days: int, removed: Retained) -> None:
    rules = replace(load_rules(), retention=KEPT_DAYS)
    assert retain(ledger, rules, Later(days), run="retain-1") == removed
    assert retain(ledger, rules, Later(days), run="retain-2") == Retained()
    with ledger.read() as conn:
        assert audit.verify(conn) == []
        assert commands.counts(conn)["parked"] == 1
        newest = audit.for_account(conn, "A", 1)[0]
        assert (newest.actor, newest.reason) == (
            ("retain-1", "rows older than 100 days are removed") if removed.audit else ("sync", "")
        )


def test_what_has_no_days_stays_for_ever(ledger: Ledger) -> None:
    rules = replace(load_rules(), retention=Retention(None, None, None, None))
    assert retain(ledger, rules, Later(36_500), run="retain-1") == Retained(workers=1)
    with ledger.read() as conn:
        assert ledger_status(conn, now_wall=0, stale_us=1).audit_rows == 2
