"""One fault at every write of the story, of every kind that the two systems know: the same end, nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from sync_pipeline.ledger.tables import attempt, command
from sync_pipeline_tests.engine.chapters import play
from sync_pipeline_tests.engine.installation import Installation, installed
from sync_pipeline_tests.engine.people import fault, hits, is_write, mark, requests_since
from sync_pipeline_tests.engine.story import story
from sync_pipeline_tests.sandbox_process import SandboxHandle

CONNECTION = ["drop_before", "drop_after", "truncate"]
STRIPE = [
    *CONNECTION,
    "stripe_429",
    "stripe_lock_timeout",
    "stripe_409_in_progress",
    "stripe_500",
    "stripe_503",
]
SALESFORCE = [
    *CONNECTION,
    "salesforce_row_lock",
    "salesforce_503",
    "salesforce_gateway",
    "salesforce_concurrent_limit",
    "salesforce_expired_session",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chapter", "side", "kind"),
    [("won", "stripe", kind) for kind in STRIPE]
    + [("won", "salesforce", kind) for kind in SALESFORCE]
    + [("paid", "salesforce", kind) for kind in SALESFORCE],
)
def test_one_fault_at_any_write_changes_nothing_in_the_end(
    sandbox: SandboxHandle, tmp_path: Path, chapter: str, side: str, kind: str
) -> None:
    played = play(sandbox, tmp_path, chapter)
    writes = [call for call in played.calls if call.is_write and call.side == side]
    # What a vendor says does not depend on which product it is about: one call per endpoint is enough there.
    chosen = (
        writes
        if kind in CONNECTION or side == "salesforce"
        else list({call.endpoint: call for call in writes}.values())
    )
    assert len(chosen) > 0
    for call in chosen:
        url = played.begin(sandbox, tmp_path)
        fault(sandbox, kind, side=side, nth=call.nth)
        since = mark(sandbox)
        with installed(sandbox, tmp_path, url=url) as sync:
            already = _attempts(sync)
            sync.rest()
            assert hits(sandbox) == 1
            assert story(sandbox) == played.wanted, f"{kind} at {call}"
            sync.check_books()
            assert _attempts(sync) == already + _writes(sandbox, since)


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("kind", ["customers", "products", "prices", "subscriptions"])
def test_a_create_that_keeps_failing_with_500_is_looked_up_in_the_list(
    sandbox: SandboxHandle, tmp_path: Path, kind: str, commits: bool
) -> None:
    """Stripe saves a 500 under its key and would repeat it for ever."""
    played = play(sandbox, tmp_path, "won")
    url = played.begin(sandbox, tmp_path)
    fault(sandbox, "stripe_500", side="stripe", method="POST", path=f"^/v1/{kind}$", commit=commits, times=2)
    with installed(sandbox, tmp_path, url=url) as sync:
        sync.rest()
        # What bills a customer is looked for before it is sent again.
        assert hits(sandbox) == (1 if kind == "subscriptions" and commits else 2)
        assert story(sandbox) == played.wanted
        sync.check_books()


@pytest.mark.parametrize("kind", ["products", "prices"])
def test_what_has_a_name_of_our_own_is_made_again_as_soon_as_the_list_shows_none(
    sandbox: SandboxHandle, tmp_path: Path, kind: str
) -> None:
    """It can be made once only: a deal waited six minutes for nothing, and its prices were sent to be refused."""
    played = play(sandbox, tmp_path, "won")
    url = played.begin(sandbox, tmp_path)
    fault(sandbox, "stripe_500", side="stripe", method="POST", path=f"^/v1/{kind}$", commit=False)
    since = mark(sandbox)
    with installed(sandbox, tmp_path, url=url) as sync:
        for _ in range(4):
            sync.drain()
            sync.wait(15)
        assert story(sandbox) == played.wanted
        rate_card = ("POST /v1/products", "POST /v1/prices")
        answers = [e["status"] for e in requests_since(sandbox, since, "stripe") if e["endpoint"] in rate_card]
        # The failure, the kept failure, and each object once.
        assert Counter(answers) == {
            500: 2,
            200: len(played.wanted["stripe"]["products"] + played.wanted["stripe"]["prices"]),
        }
        sync.check_books()


def test_what_stripe_finds_missing_twice_is_no_refusal_for_good(sandbox: SandboxHandle, tmp_path: Path) -> None:
    """A deal would wait for the night: what its price names may be there at the next look."""
    played = play(sandbox, tmp_path, "won")
    url = played.begin(sandbox, tmp_path)
    missing = {"type": "invalid_request_error", "code": "resource_missing", "message": "No such product"}
    at = {"side": "stripe", "method": "POST", "path": "^/v1/prices$"}
    prices = len(played.wanted["stripe"]["prices"])
    fault(sandbox, "http", **at, status=400, body=json.dumps({"error": missing}), commit=False, times=2 * prices)
    with installed(sandbox, tmp_path, url=url) as sync:
        sync.rest()
        assert hits(sandbox) == 2 * prices
        assert sum(report.total.parked for report in sync.reports) == 0
        assert story(sandbox) == played.wanted
        sync.check_books()


@pytest.mark.parametrize("status", [200, 302, 404, 413])
def test_an_answer_that_is_not_stripes_does_not_count_as_a_refusal(
    sandbox: SandboxHandle, tmp_path: Path, status: int
) -> None:
    """A proxy's page in place of Stripe's answer says nothing about what Stripe did."""
    played = play(sandbox, tmp_path, "won")
    for kind in ("customers", "subscriptions"):
        url = played.begin(sandbox, tmp_path)
        fault(
            sandbox,
            "http",
            side="stripe",
            method="POST",
            path=f"^/v1/{kind}$",
            status=status,
            body="<html>proxy</html>",
            commit=True,
        )
        with installed(sandbox, tmp_path, url=url) as sync:
            sync.rest()
            assert sum(report.total.parked for report in sync.reports) == 0
            assert story(sandbox) == played.wanted
            sync.check_books()


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404])
def test_an_answer_that_is_not_salesforces_parks_nothing(sandbox: SandboxHandle, tmp_path: Path, status: int) -> None:
    played = play(sandbox, tmp_path, "won")
    write = next(call for call in played.calls if call.is_write and call.side == "salesforce")
    url = played.begin(sandbox, tmp_path)
    body = "<html>proxy</html>"
    fault(sandbox, "http", side="salesforce", nth=write.nth, status=status, body=body, commit=True)
    with installed(sandbox, tmp_path, url=url) as sync:
        sync.rest()
        assert sum(report.total.parked for report in sync.reports) == 0
        assert story(sandbox) == played.wanted
        sync.check_books()


def _attempts(sync: Installation) -> Counter[str]:
    """How many attempts the ledger has per system."""
    rows = sync.rows(select(command.c.kind).join(attempt, attempt.c.command_id == command.c.id))
    return Counter(row.kind.partition(".")[0] for row in rows)


def _writes(sandbox: SandboxHandle, since: int) -> Counter[str]:
    """How many writes left for each system: calls to Stripe, records in calls to Salesforce.

    With a new session the client sends the refused call again, within the one attempt.
    """
    left = [entry for entry in requests_since(sandbox, since) if is_write(entry) and entry["status"] != 401]
    records = (entry["body"].count('"attributes"') for entry in left if entry["side"] == "salesforce")
    return Counter(stripe=sum(entry["side"] == "stripe" for entry in left), salesforce=sum(records))
