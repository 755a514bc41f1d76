"""The same calls give the same bytes; state can be taken, put back, and rebuilt from what was announced."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.stripe.contract import load_contract
from sync_pipeline.sandbox.stripe.operations import IMPLEMENTED
from sync_pipeline.sandbox.stripe.system import StripeSystem
from sync_pipeline.sandbox.wire import Call
from sync_pipeline_tests.sandbox.calls import FORM
from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox

ANNOUNCED = ("customer", "product", "price", "subscription", "invoice", "charge", "refund", "coupon")


def story(sandbox: Sandbox) -> None:
    """A bit of everything that announces itself."""
    customer = sandbox.customer("pm_card_visa")
    coupon = sandbox.v1.coupons.create({"percent_off": 10, "duration": "forever"})
    price = sandbox.price(1000, lookup_key="seat")
    subscription = sandbox.subscribe(customer, price, 3, discounts=[{"coupon": coupon.id}])
    sandbox.advance(10 * DAY)
    item = subscription["items"].data[0].id
    sandbox.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "quantity": 5}], "metadata": {"a": "b"}})
    sent = sandbox.subscribe(sandbox.customer(), price, collection_method="send_invoice", days_until_due=5)
    sandbox.advance(6 * DAY)
    sandbox.system.plan_payment(sent.customer, "succeed")
    intent = sandbox.v1.payment_intents.list({"customer": sent.customer}).data[0]
    sandbox.v1.refunds.create({"payment_intent": intent.id, "amount": 100})
    sandbox.system.plan_payment(customer.id, "fail")
    sandbox.advance(19 * DAY - HOUR)
    sandbox.v1.subscriptions.cancel(sent.id)


def test_same_seed_same_bytes(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts: sandbox 1: the same seed and the same calls give byte-identical answers."""
    runs = []
    for _ in range(2):
        sandbox = make_sandbox()
        before = len(sandbox.traffic)
        story(sandbox)
        # The SDK makes its own random idempotency keys, which events repeat.
        runs.append([e["response"] for e in sandbox.traffic[before:]])
        runs[-1].append(sandbox.system.truth())
    assert json.dumps(runs[0]) == json.dumps(runs[1])


def test_snapshot_and_restore(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts: sandbox 2: after a restore, everything goes on as it did the first time, timers included."""
    sandbox = make_sandbox()
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(1000))
    state, clock = sandbox.system.snapshot(), sandbox.clock.snapshot()
    outcomes = []
    for _ in range(2):
        sandbox.advance(32 * DAY)
        sandbox.v1.subscriptions.update(subscription.id, {"metadata": {"n": "1"}}, {"idempotency_key": "again"})
        outcomes.append(json.dumps(sandbox.system.truth()))
        sandbox.system.restore(state)
        sandbox.clock.restore(clock)
    assert outcomes[0] == outcomes[1]
    assert [s.id for s in sandbox.v1.subscriptions.list({"customer": customer.id}).data] == [subscription.id]


def test_events_tell_everything(sandbox: Sandbox) -> None:
    """Facts: sandbox 4.4: replaying the events onto nothing reproduces the present objects."""
    story(sandbox)
    told: dict[str, Any] = {}
    sandbox_events = sandbox.system.world.store.table("event").values()
    for event in map(sandbox.system.world.render, sandbox_events):
        told[event["data"]["object"]["id"]] = event["data"]["object"]
    truth = sandbox.system.truth()
    old = START + 35 * DAY - 30 * DAY
    for kind in ANNOUNCED:
        for row in truth.get(kind, []):
            if row["created"] >= old or row["id"] in told:
                assert unstamped(told[row["id"]]) == unstamped(row)


def unstamped(row: dict[str, Any]) -> dict[str, Any]:
    """Without what changes and is not announced."""
    return {name: value for name, value in row.items() if name not in ("updated", "times_redeemed")}


def exists(props: dict[str, Any], name: str) -> bool:
    """Whether the contract has the parameter `a.b` (elements of arrays count as their array)."""
    first, _, rest = name.partition(".")
    node = props.get(first)
    if node is None or not rest:
        return node is not None
    for option in node.get("any", [node]):
        option = option.get("items", option)
        if exists(option.get("props", {}), rest):
            return True
    return False


def test_every_accepted_parameter_is_in_the_contract() -> None:
    """What a function claims to give meaning to must exist: the contract is the only vocabulary. Facts 0."""
    StripeSystem(Clock(START, frozen=True))
    contract = load_contract()
    unknown: set[tuple[str, str]] = set()
    for key, implementation in IMPLEMENTED.items():
        method, path = key.split(" ")
        operation, _, _ = contract.route(method, path)
        assert operation is not None, key
        unknown |= {(key, name) for name in implementation.accepts - {"expand"} if not exists(operation.props, name)}
    assert not unknown


def test_a_broken_request_is_an_answer(sandbox: Sandbox) -> None:
    """wire.System.handle never raises, whatever bytes it is given. Facts 5.2."""
    key = {"authorization": f"Bearer {sandbox.system.secret_key}"} | FORM
    for path, body in [
        ("/v1/customers", b"\xff\xfe=%zz&[=]&a[[b]=1"),
        ("/v1/%00", b""),
        ("//", b""),
        ("/v1/customers/", b""),
    ]:
        reply = sandbox.system.handle(Call("POST", path, "", key, body))
        assert reply.status in (400, 404)
