"""What stays true of the sandbox whatever is asked of it, in whatever order, and whatever goes wrong on the way."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.sandbox.desk import Desk
from sync_pipeline.sandbox.wire import Call, Reply
from sync_pipeline.sandbox.world import Sandbox, build

START = 1_795_000_000
DAY = 86_400


@cache
def _first() -> tuple[Sandbox, dict[str, Any]]:
    sandbox = build(now=START)
    desk = Desk(sandbox)
    for name, pence in (("platform", 3_000_000), ("seat", 61_337)):
        desk.stripe("POST", "/v1/products", {"id": name, "name": name})
        price = {"product": name, "currency": "gbp", "unit_amount": pence, "recurring": {"interval": "month"}}
        desk.stripe("POST", "/v1/prices", price | {"lookup_key": name})
    return sandbox, sandbox.snapshot()


def fresh() -> Sandbox:
    """A sandbox with two monthly prices and nobody in it."""
    sandbox, state = _first()
    sandbox.restore(state)
    sandbox.faults.clear()
    sandbox.log.clear()
    return sandbox


def post(sandbox: Sandbox, path: str, params: dict[str, str], key: str) -> Reply:
    """A client that asks again with the same key until it gets a whole answer."""
    headers = {"authorization": f"Bearer {sandbox.stripe.secret_key}", "idempotency-key": key}
    while True:
        call = Call("POST", path, headers=headers, body=urlencode(params).encode())
        answer = sandbox.exchange("stripe", call)
        if answer.reply is not None and not answer.cut and answer.reply.status < 500:
            return answer.reply


@given(
    names=st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=8),
    fault=st.sampled_from(["drop_before", "drop_after", "truncate", "stripe_500"]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60)
def test_one_key_commits_once_however_often_the_answer_is_lost(names: list[str], fault: str, seed: int) -> None:
    sandbox = fresh()
    sandbox.faults.add([{"kind": fault, "probability": 0.5, "seed": seed}])
    made = [json.loads(post(sandbox, "/v1/customers", {"name": n}, f"key {i}").body) for i, n in enumerate(names)]
    sandbox.faults.clear()
    assert Counter(c["name"] for c in Desk(sandbox).stripe_all("/v1/customers")) == Counter(names)
    assert len({customer["id"] for customer in made}) == len(names)


@given(before=st.integers(1, 30), limit=st.integers(1, 7), inserted=st.lists(st.integers(0, 3), max_size=40))
@settings(max_examples=60)
def test_walking_a_list_loses_nothing_that_was_there_while_more_comes_in(
    before: int, limit: int, inserted: list[int]
) -> None:
    desk = Desk(fresh())
    there = {desk.stripe("POST", "/v1/customers", {"name": str(n)})["id"] for n in range(before)}
    seen: list[str] = []
    comes = iter(inserted)
    page: dict[str, Any] = {"has_more": True}
    while page["has_more"]:
        after = {"starting_after": seen[-1]} if seen else {}
        page = desk.stripe("GET", "/v1/customers", {"limit": limit} | after)
        seen += [customer["id"] for customer in page["data"]]
        for _ in range(next(comes, 0)):
            desk.stripe("POST", "/v1/customers", {"name": "new"})
    assert there <= set(seen)
    assert len(seen) == len(set(seen))


ACTS = st.one_of(
    st.tuples(st.just("seats"), st.integers(1, 50)),
    st.tuples(st.just("time"), st.integers(1, 40 * DAY)),
    st.tuples(st.just("fail"), st.integers(1, 2)),
    st.tuples(st.just("cancel"), st.booleans().map(int)),
    st.tuples(st.just("refund"), st.integers(1, 100)),
)


def act(desk: Desk, sandbox: Sandbox, customer: str, subscription: dict[str, Any], what: str, number: int) -> None:
    alive = desk.stripe("GET", f"/v1/subscriptions/{subscription['id']}")["status"] in ("active", "past_due")
    seats = subscription["items"]["data"][1]["id"]
    match what:
        case "time":
            sandbox.advance(number)
        case "fail":
            desk.plan_payment(customer, "fail", times=number)
        case "seats" if alive:
            desk.stripe("POST", f"/v1/subscription_items/{seats}", {"quantity": number})
        case "cancel" if alive:
            later = {"cancel_at_period_end": bool(number)}
            desk.stripe("POST", f"/v1/subscriptions/{subscription['id']}", later)
        case "refund":
            for charge in desk.stripe_all("/v1/charges", {"customer": customer}, 1):
                left = charge["amount_captured"] - charge["amount_refunded"]
                if charge["status"] == "succeeded" and left >= number:
                    desk.stripe("POST", "/v1/refunds", {"charge": charge["id"], "amount": number})


def bill(desk: Desk) -> tuple[str, dict[str, Any]]:
    """A customer who pays by card for the platform and ten seats."""
    card = {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    customer = desk.stripe("POST", "/v1/customers", {"name": "A", **card})["id"]
    prices = {p["lookup_key"]: p["id"] for p in desk.stripe_all("/v1/prices")}
    items = [{"price": prices["platform"]}, {"price": prices["seat"], "quantity": 10}]
    return customer, desk.stripe("POST", "/v1/subscriptions", {"customer": customer, "items": items})


@given(st.lists(ACTS, max_size=12))
@settings(max_examples=60)
def test_money_adds_up_whatever_happens(acts: list[tuple[str, int]]) -> None:
    sandbox = fresh()
    desk = Desk(sandbox)
    customer, subscription = bill(desk)
    for what, number in acts:
        act(desk, sandbox, customer, subscription, what, number)
    truth = sandbox.truth()["stripe"]
    lines: Counter[str] = Counter()
    for line in truth["line_item"]:
        lines[line["invoice"]] += line["amount"]
    for invoice in truth["invoice"]:
        assert lines[invoice["id"]] == invoice["subtotal"] == invoice["total"]
        assert invoice["amount_due"] == invoice["amount_paid"] + invoice["amount_remaining"]
    charged = sum(charge["amount_captured"] for charge in truth["charge"] if charge["status"] == "succeeded")
    assert charged == sum(invoice["amount_paid"] for invoice in truth["invoice"])
    refunded = sum(charge["amount_refunded"] for charge in truth["charge"])
    moved = sum(row["amount"] for row in truth["balance_transaction"] if row["type"] in ("charge", "refund"))
    assert moved == charged - refunded


@given(st.lists(ACTS, max_size=10), st.integers(1, 90 * DAY), st.integers(2, 6))
@settings(max_examples=40)
def test_how_the_clock_gets_there_makes_no_difference(acts: list[tuple[str, int]], way: int, strides: int) -> None:
    def truth(hops: list[int]) -> str:
        sandbox = fresh()
        desk = Desk(sandbox)
        customer, subscription = bill(desk)
        for what, number in acts:
            act(desk, sandbox, customer, subscription, what, number)
        for hop in hops:
            sandbox.advance(hop)
        return json.dumps(sandbox.truth(), sort_keys=True)

    stride = way // strides
    assert truth([way]) == truth([stride] * strides + [way - stride * strides])
