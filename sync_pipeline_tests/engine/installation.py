"""One installation of the sync against a really running sandbox: its engine, its ledger, and the people around it.

Time is the test's: the sandbox's clock stands still until it is moved, and waiting moves the wall clock of the
installation instead of passing time. Nothing here replaces a part of the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from sync_pipeline.config.settings import Settings, load_settings, sandbox_environment
from sync_pipeline.core import canonical
from sync_pipeline.core.rules import Priority
from sync_pipeline.engine import queue
from sync_pipeline.engine.assembly import open_engine
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.drain import DrainPlan, DrainReport, drain
from sync_pipeline.engine.env import SystemEnv
from sync_pipeline.engine.rounds import bring_to_rest
from sync_pipeline.ledger import audit, audit_witness, work
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.tables import attempt, command, review
from sync_pipeline.ledger.tables import audit as audit_table
from sync_pipeline_tests.databases import ledger_database
from sync_pipeline_tests.sandbox_process import SandboxHandle

NOW = 1_768_471_200
"""2026-01-15 10:00 UTC: where the sandbox's clock stands at the start."""
DAY = 24 * 3600
FOUR_DAYS = 4 * DAY
LEASE_SECONDS = 130
"""Longer than any lease or deadline of a dead process."""
ONCE = DrainPlan(poll_seconds=0, sweep_seconds=0)


class WaitingEnv(SystemEnv):
    """The real environment, except that to wait is to move the wall clock of this installation on."""

    def __init__(self, clock_url: str | None) -> None:
        super().__init__(clock_url, at_once=1)
        self.ahead_us = 0

    def wall(self) -> int:
        return super().wall() + self.ahead_us

    def sleep(self, seconds: float) -> None:
        self.ahead_us += int(seconds * 1_000_000)

    def jitter(self) -> float:
        """Whoever has to wait does so beyond the end of a drain, in every run of a test."""
        return 0.5


@dataclass
class Installation:
    """`engine` is open as long as the block of `installed`. `sandbox` is the world around it."""

    sandbox: SandboxHandle
    settings: Settings
    engine: Engine
    env: WaitingEnv
    reports: list[DrainReport] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return self.engine.ledger

    def drain(self) -> DrainReport:
        """What `worker --once` does."""
        report = drain(self.engine, ONCE)
        self.reports.append(report)
        return report

    def serve_once(self, account: str) -> None:
        """One batch for an account: what gets no answer stays so, because nothing is tried again in it."""
        claims = queue.claim_named(self.engine, "once", [account], Priority.CREATE)
        bring_to_rest(self.engine, claims, owner="once")

    def rest(self) -> int:
        """Drain, waiting as long as delays ask for, until no account waits; how many drains it took."""
        for drains in range(1, 12):
            self.drain()
            with self.ledger.read() as conn:
                if not work.status(conn, self.env.wall()).dirty:
                    return drains
            self.wait(700)
        raise AssertionError(f"still not at rest: {self.sandbox.control('GET', '/faults')}")

    def wait(self, seconds: int) -> None:
        """Time passes for both systems and for this installation."""
        self.env.sleep(seconds)
        self.sandbox.control("POST", "/clock", {"advance_seconds": seconds})

    def rows(self, statement: Any) -> list[Any]:
        with self.ledger.read() as conn:
            return list(conn.execute(statement).all())

    def open_reviews(self) -> dict[str, str]:
        """rule -> detail of the matters that wait for a person."""
        rows = self.rows(select(review.c.rule, review.c.detail).where(review.c.closed_at.is_(None)))
        return {row.rule: row.detail for row in rows}

    def in_doubt(self) -> tuple[dict[str, Any], str]:
        """The body and the key of the one request that has no answer."""
        sent = select(command.c.body, attempt.c.idempotency_key).join(attempt, attempt.c.command_id == command.c.id)
        (row,) = self.rows(sent.where(command.c.state == "ambiguous"))
        return canonical.decode(row.body), row.idempotency_key

    def arrives(self, body: Mapping[str, Any], key: str) -> None:
        """A request for whose answer nobody waits takes effect after all."""
        kind, params, stripe = body["object"], body["params"], self.engine.stripe
        if "id" in body:
            of = body.get("subscription")
            late = stripe.update(kind, body["id"], params, key=key, guard=lambda: None, subscription=of)
        else:
            late = stripe.create(kind, params, key=key, guard=lambda: None)
        assert late.state == "done"

    def check_books(self) -> None:
        """What must hold of the ledger after anything: outcomes for all attempts, one audit row each, whole chains."""
        with self.ledger.read() as conn:
            assert audit.verify(conn) == []
            assert audit_witness.missing_rows(conn) == []
        open_attempts = self.rows(select(attempt.c.id).where(attempt.c.outcome.is_(None)))
        assert open_attempts == []
        doubled = self.rows(
            select(audit_table.c.attempt_id)
            .where(audit_table.c.attempt_id.is_not(None))
            .group_by(audit_table.c.attempt_id)
            .having(func.count() > 1)
        )
        assert doubled == []
        unresolved = self.rows(select(command.c.target).where(command.c.state.in_(("sending", "ambiguous"))))
        assert unresolved == []


@contextmanager
def installed(
    sandbox: SandboxHandle, folder: Path, *, url: str | None = None, extra: Mapping[str, str] | None = None
) -> Iterator[Installation]:
    """An installation with an empty ledger (or the one at `url`); `extra` are more environment variables."""
    environment = {
        **sandbox_environment(sandbox.ready),
        "SYNC_HOME": str(folder),
        "SYNC_DATABASE_URL": url or ledger_database("sqlite", folder),
        **(extra or {}),
    }
    settings = load_settings(environment)
    env = WaitingEnv(settings.clock_url)
    with open_engine(settings, run="test") as engine:
        yield Installation(sandbox, settings, replace(engine, env=env), env)
