"""When something is tried again: delays, budgets, breakers, and what waits for a person or for new code."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.engine import retries
from sync_pipeline.engine.drain import drain
from sync_pipeline.engine.gate import TEST, LedgerGate, Rates
from sync_pipeline.engine.intake import resync
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.engine.retries import LONGEST_DELAY_SECONDS, delay_us
from sync_pipeline.ledger import breakers, buckets, commands
from sync_pipeline.ledger.breakers import FAILURES_TO_OPEN
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.systems.outcomes import Burden, NotNow, Outcome
from sync_pipeline.systems.stripe.client import burdens_on
from sync_pipeline_tests.databases import ledger_database
from sync_pipeline_tests.engine.installation import ONCE, Installation, installed
from sync_pipeline_tests.engine.people import another_deal, edit, fault, mark, only, records, requests_since, win
from sync_pipeline_tests.sandbox_process import SandboxHandle

SECOND = 1_000_000
CREATE = "POST /v1/subscriptions"
UPDATE = "POST /v1/subscriptions/:id"
REUSED = {
    "error": {
        "type": "idempotency_error",
        "message": "Keys for idempotent requests can only be used with the same parameters they were first used with.",
    }
}


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_delays_grow_to_ten_minutes_with_full_jitter(fails: int, jitter: float) -> None:
    delay = delay_us(fails, jitter)
    assert 0 <= delay <= LONGEST_DELAY_SECONDS * SECOND
    assert delay <= 2 * SECOND * 2**fails
    assert delay_us(fails, 0.0) == 0
    assert delay_us(fails, 0.5) == min(600, 2 ** (fails + 1)) * SECOND // 2


def row(state: commands.State, attempt: str | None) -> CommandRow:
    known: Any = dict.fromkeys(CommandRow.__dataclass_fields__, "")
    return replace(CommandRow(**known), state=state, attempt_id=attempt)


def test_first_tries_are_free_and_retries_stop_when_their_budget_is_spent(sync: Installation) -> None:
    """500 tokens: forty answers that never came cost 10 each, twenty refusals to serve 5 each, and then it is over."""
    first, lost, throttled = row("planned", None), row("ambiguous", "a1"), row("planned", "a1")
    for _ in range(40):
        assert retries.allowed(sync.engine, "stripe", [lost, throttled])
    for _ in range(20):
        assert retries.allowed(sync.engine, "stripe", [throttled])
    assert not retries.allowed(sync.engine, "stripe", [throttled])
    assert retries.allowed(sync.engine, "stripe", [first])
    assert retries.allowed(sync.engine, "salesforce", [lost])
    sync.env.sleep(5)
    assert retries.allowed(sync.engine, "stripe", [throttled])


@pytest.mark.parametrize(
    ("outcome", "more"),
    [
        (Outcome("throttled", message="left alone for 5 s"), 50),
        (Outcome("throttled", http_status=429), 49),
        (Outcome("ambiguous", message="no answer"), 49),
        (Outcome("done", http_status=200), 49),
    ],
)
def test_a_retry_that_the_gate_turns_away_costs_nothing(sync: Installation, outcome: Outcome, more: int) -> None:
    together = [row("planned", "a1"), row("ambiguous", "a2")]
    assert retries.allowed(sync.engine, "stripe", together)
    with sync.ledger.tx() as conn:
        retries.settled(conn, sync.engine, "stripe", [(each, outcome) for each in together])
    assert sum(retries.allowed(sync.engine, "stripe", [together[1]]) for _ in range(51)) == more


def test_an_outage_of_one_endpoint_costs_few_calls_and_heals_by_itself(sync: Installation) -> None:
    """Ten deals are won while subscriptions cannot be made; customers can, and are."""
    sandbox = sync.sandbox
    win(sandbox)
    for number in range(9):
        another_deal(sandbox, f"Customer {number} plc")
    since = mark(sandbox)
    fault(sandbox, "stripe_503", side="stripe", method="POST", path="^/v1/subscriptions$", times=10_000)
    for _ in range(20):
        sync.drain()
    tried = [each for each in requests_since(sandbox, since, "stripe") if each["endpoint"] == CREATE]
    assert FAILURES_TO_OPEN <= len(tried) <= FAILURES_TO_OPEN + 8
    assert len(records(sandbox, "customer")) == 10
    with sync.ledger.read() as conn:
        (open_one,) = breakers.troubled(conn)
    assert open_one.operation == f"stripe {CREATE}"
    sandbox.control("DELETE", "/faults")
    sync.rest()
    assert len(records(sandbox, "subscription")) == 10
    with sync.ledger.read() as conn:
        assert breakers.troubled(conn) == []
    sync.check_books()


def test_refusals_and_contention_open_no_breaker(sync: Installation) -> None:
    win(sync.sandbox)
    fault(sync.sandbox, "stripe_lock_timeout", side="stripe", method="POST", path="^/v1/customers$", times=8)
    sync.rest()
    assert len(records(sync.sandbox, "subscription")) == 1
    with sync.ledger.read() as conn:
        assert breakers.troubled(conn) == []


def test_calls_leave_at_the_rate_that_stripe_allows(sync: Installation) -> None:
    """A test key may make 25 calls a second: in no second of virtual time leave more, whoever makes them."""
    gates = [LedgerGate(sync.ledger, sync.env, TEST) for _ in range(2)]
    left = []
    for number in range(150):
        gates[number % 2].before("stripe", f"GET /v1/{number % 4}")
        left.append(sync.env.wall())
    assert all(later - earlier >= SECOND for earlier, later in zip(left, left[25:], strict=False))
    assert left[-1] - left[0] < 9 * SECOND


def test_a_rate_limit_makes_everybody_wait_a_second_out(sync: Installation) -> None:
    gates = [LedgerGate(sync.ledger, sync.env, Rates(account=10)) for _ in range(2)]
    gates[0].throttled("stripe", "GET /v1/prices")
    before = sync.env.wall()
    gates[1].before("stripe", "GET /v1/customers")
    assert sync.env.wall() - before >= 9 * SECOND // 10


def test_whoever_would_wait_too_long_makes_no_call(sync: Installation) -> None:
    gate = LedgerGate(sync.ledger, sync.env, Rates(account=1))
    with sync.ledger.tx() as conn:
        for limit in gate._limits("stripe", "GET /v1/prices"):
            buckets.give(conn, limit, tokens=-20, now_wall=sync.env.wall())
    with pytest.raises(NotNow, match="more calls wait than its rate limit lets through"):
        gate.before("stripe", "GET /v1/prices")


def test_one_subscription_takes_no_more_invoices_and_quantities_than_stripe_allows(sync: Installation) -> None:
    """Facts 5.1: 10 new invoices a minute, 20 a day, 200 quantity updates an hour, whoever makes them; others go on."""
    gates = [LedgerGate(sync.ledger, sync.env, None) for _ in range(2)]
    left: dict[str, list[int]] = {"invoice": [], "quantity": []}
    asked: list[tuple[Literal["invoice", "quantity"], int, int, int]] = [
        ("invoice", 105, 900, 2),
        ("quantity", 75, 60, 6),
    ]
    for kind, steps, pause, at_a_time in asked:
        for _ in range(steps):
            for number in range(at_a_time):
                with contextlib.suppress(NotNow):
                    gates[number % 2].before("stripe", UPDATE, [Burden("sub_1", kind)])
                    left[kind].append(sync.env.wall())
            sync.env.sleep(pause)
        gates[0].before("stripe", UPDATE, [Burden("sub_2", kind)])
    invoices, quantities = left["invoice"], left["quantity"]
    assert 18 <= most_within(24 * 3600 * SECOND, invoices) <= 20
    assert 180 <= most_within(3600 * SECOND, quantities) <= 200


def most_within(span: int, moments: list[int]) -> int:
    return max(sum(0 <= other - one < span for other in moments[place:]) for place, one in enumerate(moments))


def test_what_a_subscription_may_not_take_now_is_not_sent_and_its_account_comes_back(sync: Installation) -> None:
    """Ten changes that bill at once: five may come together, and Stripe, which would take ten, never has to refuse."""
    win(sync.sandbox)
    sync.rest()
    subscription, since = only(sync.sandbox, "subscription"), mark(sync.sandbox)
    item = subscription["items"]["data"][0]["id"]
    outcomes = [
        sync.engine.stripe.update(
            "subscription_item",
            item,
            {"quantity": 40 + number, "proration_behavior": "always_invoice"},
            key=f"seats-{number}",
            guard=lambda: None,
            subscription=subscription["id"],
        )
        for number in range(10)
    ]
    assert [each.state for each in outcomes] == [*["done"] * 5, *["throttled"] * 5]
    assert outcomes[-1].message == (
        f"Stripe allows {subscription['id']} no more new invoices a minute for now; one becomes free every 12 s"
    )
    assert len(requests_since(sync.sandbox, since, "stripe")) == 5


def test_what_an_update_counts_as() -> None:
    seats = {"items": [{"id": "si_1", "quantity": 3}, {"id": "si_2", "deleted": True}, {"price": "p", "quantity": 1}]}
    assert burdens_on("sub_1", seats) == [Burden("sub_1", "quantity", 2)]
    at_once = {"quantity": 3, "proration_behavior": "always_invoice"}
    assert burdens_on("sub_1", at_once) == [Burden("sub_1", "quantity"), Burden("sub_1", "invoice")]
    assert burdens_on("sub_1", {"cancel_at": 1, "proration_behavior": "none"}) == []


def test_a_key_that_was_used_for_something_else_stops_its_account_until_somebody_has_looked(
    sync: Installation,
) -> None:
    sandbox = sync.sandbox
    win(sandbox)
    account = only(sandbox, "Account")["Id"]
    fault(sandbox, "http", side="stripe", method="POST", path="^/v1/subscriptions$", status=400, body=REUSED)
    another_deal(sandbox, "Other plc")
    sync.rest()
    (told,) = [text for rule, text in sync.open_reviews().items() if rule == "idempotency_error"]
    assert "run resync" in told
    since = mark(sandbox)
    edit(sandbox, "Account", account, Name="Northwind Analytics PLC")
    sync.rest()
    reconcile(sync.engine)
    assert [each["endpoint"] for each in requests_since(sandbox, since, "stripe") if each["method"] == "POST"] == []
    assert len(records(sandbox, "subscription")) == 1
    resync(sync.ledger, [account], sync.env)
    sync.rest()
    assert len(records(sandbox, "subscription")) == 2
    assert sync.open_reviews() == {}
    sync.check_books()


def test_a_ledger_from_a_backup_gets_past_what_it_has_forgotten(sandbox: SandboxHandle, tmp_path: Path) -> None:
    """It does not give a change the key that was used for another one since."""

    def seats(quantity: int) -> None:
        edit(sandbox, "OpportunityLineItem", line["Id"], Quantity=quantity, UnitPrice=600)

    def billed() -> set[int]:
        return {item["quantity"] for item in records(sandbox, "subscription_item")}

    url, backup = ledger_database("sqlite", tmp_path), tmp_path / "backup.db"
    line = next(each for each in records(sandbox, "OpportunityLineItem") if each["UnitPrice"] == 600)
    win(sandbox)
    with installed(sandbox, tmp_path, url=url) as sync:
        sync.rest()
        kept = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(kept)) as opened, closing(sqlite3.connect(backup)) as copy:
            opened.backup(copy)
        seats(41)
        sync.rest()
    assert 41 in billed()
    seats(42)
    with installed(sandbox, tmp_path, url=f"sqlite:///{backup}") as sync:
        sync.rest()
        assert 42 in billed()
        assert sync.open_reviews() == {}


def test_new_rules_or_a_new_version_try_again_what_was_refused_under_the_old_ones(sync: Installation) -> None:
    sandbox = sync.sandbox
    win(sandbox)
    refusal = {"error": {"type": "invalid_request_error", "code": "parameter_unknown", "message": "No such parameter."}}
    fault(sandbox, "http", side="stripe", method="POST", path="^/v1/subscriptions$", status=400, body=refusal)
    sync.rest()
    with sync.ledger.read() as conn:
        (parked,) = commands.parked(conn)
    assert parked.error == "400 parameter_unknown No such parameter. - this program sent it wrongly: please report it"
    sync.rest()
    assert records(sandbox, "subscription") == []
    drain(replace(sync.engine, code_version="the next one"), ONCE)
    assert len(records(sandbox, "subscription")) == 1
