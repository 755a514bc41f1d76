"""A worker that stands still between its last look at the deadline and the socket, for longer than its lease."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from sqlalchemy import select

from sync_pipeline.engine.leases import LEASE_US
from sync_pipeline.engine.settling import settle
from sync_pipeline.ledger import commands, work
from sync_pipeline.ledger.tables import attempt, audit
from sync_pipeline.systems.outcomes import Outcome
from sync_pipeline_tests.engine.installation import LEASE_SECONDS, Installation
from sync_pipeline_tests.engine.people import mark, only, records, requests_since, win
from sync_pipeline_tests.sandbox_process import SandboxHandle


def _writes(request: requests.PreparedRequest, side: str) -> bool:
    body = request.body if isinstance(request.body, str) else (request.body or b"").decode()
    return "Idempotency-Key" in request.headers if side == "stripe" else '"PATCH"' in body


@pytest.mark.parametrize("side", ["stripe", "salesforce"])
def test_what_a_frozen_worker_was_about_to_write_does_not_leave_and_is_written_once(
    sync: Installation, sandbox: SandboxHandle, side: str
) -> None:
    hand_over, frozen, arrived = requests.adapters.HTTPAdapter.send, list[str](), list[dict[str, Any]]()

    def standing_still(self: Any, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if frozen or not _writes(request, side):
            return hand_over(self, request, **options)
        frozen.append(str(request.url))
        sync.env.sleep(LEASE_SECONDS)
        since = mark(sandbox)
        try:
            return hand_over(self, request, **options)
        finally:
            arrived.extend(requests_since(sandbox, since))

    win(sandbox)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(requests.adapters.HTTPAdapter, "send", standing_still)
        sync.drain()
    assert (len(frozen), arrived) == (1, [])
    outcomes = sync.rows(select(attempt.c.outcome, attempt.c.error).where(attempt.c.outcome != "done"))
    assert {tuple(row) for row in outcomes} == {("throttled", "it was not sent in time")}
    sync.rest()
    assert len(records(sandbox, "customer")) == len(records(sandbox, "subscription")) == 1
    assert only(sandbox, "Account")["MRR__c"] == 3750.0
    sync.check_books()


class _Killed(BaseException):
    """The process ends here: nothing that comes after is done."""


def test_whom_a_frozen_worker_has_come_before_settles_nothing(sync: Installation, sandbox: SandboxHandle) -> None:
    """Its successor has read that the answer is missing, and before he acts on that it is written down after all."""
    hand_over = requests.adapters.HTTPAdapter.send

    def dying(self: Any, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if _writes(request, "salesforce"):
            raise _Killed
        return hand_over(self, request, **options)

    win(sandbox)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(requests.adapters.HTTPAdapter, "send", dying)
        with pytest.raises(_Killed):
            sync.drain()
    sync.wait(LEASE_SECONDS)
    with sync.ledger.tx() as conn:
        (claim,) = work.claim(conn, owner="successor", limit=1, now_wall=sync.env.wall(), lease_us=LEASE_US)
        missing = commands.unresolved(conn, [claim.account])[claim.account]
    known = select(attempt.c.id, attempt.c.outcome, attempt.c.error)
    told = Outcome("throttled", message="it comes late")
    for row in missing:
        settle(sync.engine, claim, row, told)
    settled = sync.rows(known), sync.rows(select(audit.c.what))
    for row in missing:
        settle(sync.engine, claim, row, Outcome("throttled", message="no answer; the record is read again"))
    assert (sync.rows(known), sync.rows(select(audit.c.what))) == settled
    assert {row.error for row in sync.rows(known.where(attempt.c.outcome == "throttled"))} == {"it comes late"}
    sync.wait(LEASE_SECONDS)
    sync.rest()
    assert only(sandbox, "Account")["MRR__c"] == 3750.0
    sync.check_books()
