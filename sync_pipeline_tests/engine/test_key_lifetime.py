"""Creates whose outcome stays unknown for longer than their key lives: the list decides, never a second send."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from sync_pipeline.engine.leases import LEASE_US
from sync_pipeline.ledger import attempts, commands, work
from sync_pipeline.ledger.tables import command
from sync_pipeline_tests.engine.chapters import play
from sync_pipeline_tests.engine.installation import LEASE_SECONDS, Installation, installed
from sync_pipeline_tests.engine.people import edit, fault, mark, only, records, requests_since, win
from sync_pipeline_tests.engine.story import story
from sync_pipeline_tests.sandbox_process import SandboxHandle

A_DAY_AND_AN_HOUR = 25 * 3600
KINDS = ["customers", "products", "prices", "subscriptions"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("happened", [True, False])
def test_after_a_day_the_list_says_whether_the_object_was_made(
    sandbox: SandboxHandle, tmp_path: Path, kind: str, happened: bool
) -> None:
    played = play(sandbox, tmp_path, "won")
    url = played.begin(sandbox, tmp_path)
    path = f"^/v1/{kind}$"
    fault(sandbox, "drop_after" if happened else "drop_before", side="stripe", method="POST", path=path)
    fault(sandbox, "drop_before", side="stripe", method="POST", path=path, times=20)
    with installed(sandbox, tmp_path, url=url) as sync:
        sync.serve_once(only(sandbox, "Account")["Id"])
        stuck = _ambiguous(sync)
        assert stuck
        sandbox.control("DELETE", "/faults")
        sync.wait(A_DAY_AND_AN_HOUR)
        since = mark(sandbox)
        sync.rest()
        assert story(sandbox) == played.wanted
        sync.check_books()
        posts = [e for e in requests_since(sandbox, since, "stripe") if e["endpoint"] == f"POST /v1/{kind}"]
        wanted = len(played.wanted["stripe"][kind])
        rows = sync.rows(select(command.c.state, command.c.generation).where(command.c.key.in_(stuck)))
        generations = {row.generation for row in rows if row.state == "done"}
        # The first call is the one that may have happened; those after it did not.
        assert len(posts) == wanted - 1 if happened else wanted
        assert (0 in generations) == happened


def test_within_the_day_the_same_key_is_sent_again(sandbox: SandboxHandle, tmp_path: Path) -> None:
    played = play(sandbox, tmp_path, "won")
    url = played.begin(sandbox, tmp_path)
    fault(sandbox, "drop_after", side="stripe", method="POST", path="^/v1/subscriptions$")
    with installed(sandbox, tmp_path, url=url) as sync:
        sync.rest()
        assert story(sandbox) == played.wanted
        rows = sync.rows(select(command.c.generation).where(command.c.key.startswith("sub:")))
        assert [row.generation for row in rows] == [0]


def test_an_object_that_was_made_is_not_made_again_while_the_list_cannot_be_read(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    played = play(sandbox, tmp_path, "won")
    url = played.begin(sandbox, tmp_path)
    fault(sandbox, "stripe_500", side="stripe", method="POST", path="^/v1/subscriptions$", commit=True, times=2)
    with installed(sandbox, tmp_path, url=url) as sync:
        sync.drain()
        sync.wait(700)
        sync.drain()
        since = mark(sandbox)
        fault(sandbox, "stripe_503", side="stripe", method="GET", path="^/v1/subscriptions$", times=50)
        sync.wait(700)
        sync.drain()
        assert [e for e in requests_since(sandbox, since, "stripe") if e["method"] == "POST"] == []
        sandbox.control("DELETE", "/faults")
        sync.rest()
        assert story(sandbox) == played.wanted
        sync.check_books()


def test_a_retry_that_is_turned_away_settles_nothing_of_the_attempt_before(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    """A simulated seed (21) found it: with "planned" the list was not asked, and after a day the key was forgotten."""
    played = play(sandbox, tmp_path, "won")
    url = played.begin(sandbox, tmp_path)
    at = {"side": "stripe", "method": "POST", "path": "^/v1/customers$"}
    fault(sandbox, "drop_after", **at)
    fault(sandbox, "stripe_429", **at, times=5)
    with installed(sandbox, tmp_path, url=url) as sync:
        for _ in range(3):
            sync.serve_once(only(sandbox, "Account")["Id"])
            sync.wait(700)
        assert _ambiguous(sync)
        sandbox.control("DELETE", "/faults")
        sync.wait(A_DAY_AND_AN_HOUR)
        since = mark(sandbox)
        sync.rest()
        assert story(sandbox) == played.wanted
        assert [e for e in requests_since(sandbox, since, "stripe") if e["endpoint"] == "POST /v1/customers"] == []
        sync.check_books()


@pytest.mark.parametrize("happened", [True, False])
def test_a_change_whose_failure_stripe_keeps_is_sent_with_a_new_key(
    sandbox: SandboxHandle, tmp_path: Path, happened: bool
) -> None:
    """Stripe answers a key for a day with the failure that it has kept: seats would be billed a day late."""
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        sync.rest()
        (line,) = [each for each in records(sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
        edit(sandbox, "OpportunityLineItem", line["Id"], Quantity=25, UnitPrice=600)
        sync.wait(60)
        path = "^/v1/subscription_items/"
        fault(sandbox, "stripe_500", side="stripe", method="POST", path=path, commit=happened)
        since = mark(sandbox)
        for _ in range(3):
            sync.drain()
            sync.wait(10)
        items = only(sandbox, "subscription")["items"]["data"]
        assert sorted(item["quantity"] for item in items if item["price"]["unit_amount"] == 60_000) == [25]
        sent = [
            e for e in requests_since(sandbox, since, "stripe") if e["endpoint"] == "POST /v1/subscription_items/{id}"
        ]
        # Where nothing had happened: the failure, the kept failure, and the change. What had happened is seen.
        assert [each["status"] for each in sent] == ([500] if happened else [500, 500, 200])
        assert len(records(sandbox, "invoiceitem")) == 2
        sync.check_books()


def test_what_never_happened_gets_a_new_key_after_a_day(sandbox: SandboxHandle, tmp_path: Path) -> None:
    played = play(sandbox, tmp_path, "won")
    url = played.begin(sandbox, tmp_path)
    fault(sandbox, "stripe_429", side="stripe", method="POST", path="^/v1/subscriptions$", times=20)
    with installed(sandbox, tmp_path, url=url) as sync:
        sync.drain()
        sandbox.control("DELETE", "/faults")
        sync.wait(A_DAY_AND_AN_HOUR)
        sync.rest()
        assert story(sandbox) == played.wanted
        sent = select(command.c.generation).where(command.c.key.startswith("sub:"), command.c.state == "done")
        assert [row.generation for row in sync.rows(sent)] == [1]
        sync.check_books()


def _ambiguous(sync: Installation) -> list[str]:
    return [row.key for row in sync.rows(select(command.c.key).where(command.c.state == "ambiguous"))]


def test_who_has_lost_the_account_gives_no_new_key_after_a_list_that_it_read_before(
    sandbox: SandboxHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker has sent it meanwhile, and is about to be killed: a third would make the object once more."""
    url = play(sandbox, tmp_path, "won").begin(sandbox, tmp_path)
    fault(sandbox, "drop_before", side="stripe", method="POST", path="^/v1/customers$", times=20)
    with installed(sandbox, tmp_path, url=url) as sync:
        sync.drain()
        (stuck,) = _ambiguous(sync)
        sandbox.control("DELETE", "/faults")
        sync.wait(A_DAY_AND_AN_HOUR)
        look = sync.engine.stripe.find_created

        def slow(*args: Any, **options: Any) -> str | None:
            found = look(*args, **options)
            sync.env.sleep(LEASE_SECONDS)
            with sync.ledger.tx() as conn:
                (taken,) = work.claim(conn, owner="other", limit=1, now_wall=sync.env.wall(), lease_us=LEASE_US)
                row = commands.unresolved(conn, [taken.account])[taken.account][0]
                attempts.begin(
                    conn,
                    [(taken, row)],
                    now=sync.env.now(),
                    now_wall=sync.env.wall(),
                    deadline_wall=sync.env.wall() + 1,
                    min_lease_us=1,
                    instance_id="other",
                    new_id=sync.env.token,
                )
            return found

        monkeypatch.setattr(sync.engine.stripe, "find_created", slow)
        sync.drain()
        rows = sync.rows(select(command.c.state, command.c.generation).where(command.c.key == stuck))
        assert [(row.state, row.generation) for row in rows] == [("sending", 0)]


def test_a_ledger_from_a_backup_does_not_use_the_keys_of_what_it_has_forgotten(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    """A cancel date that was entered and taken away since the backup is entered again: Stripe answered as it had then,
    did nothing, and the date vanished without a word."""
    (tmp_path / "after").mkdir()
    copy = tmp_path / "after" / "ledger.db"
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        sync.rest()
        contract = only(sandbox, "Contract")["Id"]
        with (
            closing(sqlite3.connect(str(sync.settings.database_url).partition("///")[2])) as ledger,
            closing(sqlite3.connect(copy)) as backup,
        ):
            ledger.backup(backup)
        for day in ("2026-06-30", None):
            edit(sandbox, "Contract", contract, Cancel_Requested_On__c=day)
            sync.wait(60)
            sync.rest()
    with installed(sandbox, tmp_path / "after", url=f"sqlite:///{copy}") as sync:
        sync.rest()
        edit(sandbox, "Contract", contract, Cancel_Requested_On__c="2026-06-30")
        sync.wait(60)
        sync.rest()
        assert only(sandbox, "subscription")["cancel_at"]
        assert only(sandbox, "Contract")["Cancel_Requested_On__c"] == "2026-06-30"
