"""Test clocks as their users meet them: polled until they are ready, and refused beyond Stripe's limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox


def clocked(sandbox: Sandbox) -> tuple[Any, Any]:
    clock = sandbox.v1.test_helpers.test_clocks.create({"frozen_time": START})
    return clock, sandbox.customer("pm_card_visa", test_clock=clock.id)


def test_polling_ends_while_the_sandbox_stands_still(sandbox: Sandbox) -> None:
    """Facts 7: advancing first, then ready, though no time passes in the sandbox; what was due has happened."""
    clocks = sandbox.v1.test_helpers.test_clocks
    clock, customer = clocked(sandbox)
    subscription = sandbox.subscribe(customer, sandbox.price(1000))
    for months, to in enumerate((START + 31 * DAY + HOUR, START + 59 * DAY + HOUR), start=2):
        assert clocks.advance(clock.id, {"frozen_time": to}).status == "advancing"
        first, second = clocks.retrieve(clock.id), clocks.retrieve(clock.id)
        assert (first.status, first.status_details.advancing.target_frozen_time) == ("advancing", to)
        assert (second.status, second.frozen_time) == ("ready", to)
        invoices = sandbox.v1.invoices.list({"subscription": subscription.id}).data
        assert [i.status for i in invoices] == ["paid"] * months
    ready = sandbox.events("test_helpers.test_clock.ready")
    assert [e.request.id for e in ready] == [None, None]
    sandbox.advance(DAY)
    assert clocks.retrieve(clock.id).frozen_time == START + 59 * DAY + HOUR


def test_a_second_advance_waits_for_the_first(sandbox: Sandbox) -> None:
    """Facts 7: advancing a clock that advances is an error, and changes nothing about the advance under way."""
    clocks = sandbox.v1.test_helpers.test_clocks
    clock, _ = clocked(sandbox)
    clocks.advance(clock.id, {"frozen_time": START + DAY})
    with pytest.raises(stripe.RateLimitError) as caught:
        clocks.advance(clock.id, {"frozen_time": START + 2 * DAY})
    assert caught.value.error is not None
    assert caught.value.error.code == "test_clock_advancing"
    clocks.retrieve(clock.id)
    assert clocks.retrieve(clock.id).frozen_time == START + DAY
    assert clocks.advance(clock.id, {"frozen_time": START + 2 * DAY}).status == "advancing"


def test_three_subscriptions_for_each_customer(sandbox: Sandbox) -> None:
    """Facts 7: at most three subscriptions, scheduled ones counted; ended ones and other customers do not count."""
    clock, customer = clocked(sandbox)
    price = sandbox.price(1000)
    first = sandbox.subscribe(customer, price)
    sandbox.subscribe(customer, price)
    phase = {"items": [{"price": price.id}], "duration": {"interval": "month", "interval_count": 2}}
    sandbox.v1.subscription_schedules.create({
        "customer": customer.id, "start_date": START + DAY, "phases": [phase],
    })  # fmt: skip
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.subscribe(customer, price)
    assert (caught.value.http_status, caught.value.param) == (400, "customer")
    sandbox.v1.subscriptions.cancel(first.id)
    assert sandbox.subscribe(customer, price).status == "active"
    clocks = sandbox.v1.test_helpers.test_clocks
    clocks.advance(clock.id, {"frozen_time": START + 2 * DAY})
    sandbox.advance(1)
    running = sandbox.v1.subscriptions.list({"customer": customer.id}).data
    assert [s.status for s in running] == ["active"] * 3
    other, free = sandbox.customer("pm_card_visa", test_clock=clock.id), sandbox.customer("pm_card_visa")
    assert sandbox.subscribe(other, price).test_clock == clock.id
    assert [sandbox.subscribe(free, price).status for _ in range(4)] == ["active"] * 4


def test_nothing_on_a_clock_changes_while_it_advances(sandbox: Sandbox) -> None:
    """Facts 7: while it is `advancing` its objects can be read but not changed, nor customers added; afterwards all
    goes on, and the refused call may be sent again with the same key."""
    clock, customer = clocked(sandbox)
    price = sandbox.price(1000)
    subscription = sandbox.subscribe(customer, price)
    sandbox.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": START + DAY})
    v1, key = sandbox.v1, {"idempotency_key": "again"}
    changes: tuple[Callable[[], Any], ...] = (
        lambda: v1.customers.update(customer.id, {"name": "New"}, key),
        lambda: v1.subscriptions.update(subscription.id, {"metadata": {"a": "b"}}),
        lambda: v1.subscriptions.cancel(subscription.id),
        lambda: sandbox.subscribe(customer, price),
        lambda: v1.customers.create({"test_clock": clock.id}),
    )
    for change in changes:
        with pytest.raises(stripe.RateLimitError) as caught:
            change()
        assert caught.value.error is not None
        assert (caught.value.error.code, caught.value.http_status) == ("test_clock_advancing", 429)
    assert v1.subscriptions.retrieve(subscription.id).status == "active"
    assert sandbox.customer("pm_card_visa").test_clock is None
    v1.test_helpers.test_clocks.retrieve(clock.id)
    v1.test_helpers.test_clocks.retrieve(clock.id)
    assert v1.customers.update(customer.id, {"name": "New"}, key).name == "New"


def test_a_scheduled_subscription_is_one_of_the_three(sandbox: Sandbox) -> None:
    """Facts 7: "3 subscriptions (incl. scheduled)/customer": a schedule cannot plan a fourth."""
    _, customer = clocked(sandbox)
    price = sandbox.price(1000)
    phase = {"items": [{"price": price.id}], "duration": {"interval": "month"}}
    plan = {"customer": customer.id, "start_date": START + DAY, "phases": [phase]}
    sandbox.subscribe(customer, price)
    for _ in range(2):
        sandbox.v1.subscription_schedules.create(plan)
    for start in (START + DAY, "now"):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            sandbox.v1.subscription_schedules.create(plan | {"start_date": start})
        assert caught.value.param == "customer"


def test_a_clock_for_a_customer_that_exists(sandbox: Sandbox) -> None:
    """Facts 7: `customer` attaches an existing one, for good."""
    customer = sandbox.customer("pm_card_visa")
    clock = sandbox.v1.test_helpers.test_clocks.create({"frozen_time": START + DAY, "customer": customer.id})
    assert sandbox.v1.customers.retrieve(customer.id).test_clock == clock.id
    assert [c.id for c in sandbox.v1.customers.list({"test_clock": clock.id}).data] == [customer.id]
    assert sandbox.v1.customers.list().data == []
    made = sandbox.subscribe(customer, sandbox.price(1000))
    assert (made.test_clock, made.created) == (clock.id, START + DAY)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.test_helpers.test_clocks.create({"frozen_time": START, "customer": customer.id})
    assert caught.value.param == "customer"
