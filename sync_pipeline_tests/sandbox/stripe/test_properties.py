"""What must hold whatever is done: facts/sandbox 4, item 4, over generated histories."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import pytest
import stripe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.stripe.money import spread
from sync_pipeline.sandbox.stripe.parameters import decode
from sync_pipeline.sandbox.stripe.settings import StripeSettings
from sync_pipeline.sandbox.stripe.system import StripeSystem
from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox, Server, check_invoices
from sync_pipeline_tests.sandbox.stripe.test_determinism import ANNOUNCED, unstamped

FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def fresh(server: Server) -> Sandbox:
    clock = Clock(START, frozen=True)
    server.system = StripeSystem(clock, seed=3, settings=StripeSettings(search_lag=0))
    client = stripe.StripeClient(server.system.secret_key, base_addresses={"api": server.url})
    return Sandbox(server.system, clock, client, server.url)


@FEW
@given(
    amount=st.integers(1, 5_000_000),
    quantities=st.lists(st.integers(0, 200), min_size=1, max_size=4),
    after=st.integers(0, 30 * DAY),
)
def test_there_and_back_at_one_instant_costs_nothing(
    server: Server, amount: int, quantities: list[int], after: int
) -> None:
    """Credits and debits of a there-and-back change net to nothing at one instant, by whatever way it goes.

    Facts 3.4.
    """
    sandbox = fresh(server)
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(amount), 7)
    item = subscription["items"].data[0].id
    sandbox.advance(after)
    for quantity in [*quantities, 7]:
        sandbox.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "quantity": quantity}]})
    pending = sandbox.v1.invoice_items.list({"customer": subscription.customer, "pending": True, "limit": 100})
    assert sum(row.amount for row in pending.auto_paging_iter()) == 0


@FEW
@given(count=st.integers(1, 30), limit=st.integers(1, 7), inserts=st.lists(st.integers(0, 2), max_size=30))
def test_paging_loses_nothing_while_rows_are_added(server: Server, count: int, limit: int, inserts: list[int]) -> None:
    """Walking a list by pages while rows are added shows everything that existed at the start, once. Facts 5.5."""
    sandbox = fresh(server)
    known = [sandbox.v1.products.create({"name": f"P{i}"}).id for i in range(count)]
    seen: list[str] = []
    plan = iter(inserts)
    page = sandbox.v1.products.list({"limit": limit})
    while True:
        assert page.data
        seen += [p.id for p in page.data]
        for _ in range(next(plan, 0)):
            sandbox.v1.products.create({"name": "new"})
        if not page.has_more:
            break
        page = sandbox.v1.products.list({"limit": limit, "starting_after": seen[-1]})
    assert seen == known[::-1]


@FEW
@given(keys=st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=12))
def test_a_key_never_commits_twice(server: Server, keys: list[str]) -> None:
    """However often and in whatever order keys are repeated, each does its work once. Facts 5.4."""
    sandbox = fresh(server)
    answers: dict[str, str] = {}
    for key in keys:
        customer = sandbox.v1.customers.create({"name": key}, {"idempotency_key": key})
        assert answers.setdefault(key, customer.id) == customer.id
    assert len(sandbox.v1.customers.list({"limit": 100}).data) == len(answers)


STEPS = st.one_of(
    st.tuples(st.just("advance"), st.sampled_from([HOUR, DAY, 9 * DAY, 31 * DAY])),
    st.tuples(st.just("quantity"), st.integers(0, 9)),
    st.tuples(st.just("immediate"), st.integers(0, 9)),
    st.tuples(st.just("plan"), st.sampled_from(["succeed", "fail"])),
    st.tuples(st.just("refund"), st.integers(1, 500)),
    st.tuples(st.just("credit"), st.integers(1, 500)),
    st.tuples(st.just("balance"), st.integers(-2000, 2000)),
    st.tuples(st.just("add"), st.integers(1, 3)),
    st.tuples(st.just("end"), st.sampled_from([True, False])),
    st.tuples(st.just("void"), st.just(0)),
)


def step(sandbox: Sandbox, subscription: Any, extra: Any, what: str, value: Any) -> None:
    """One thing that may happen to a customer. Whatever is not possible now is refused and changes nothing."""
    v1, customer = sandbox.v1, subscription.customer
    item = subscription["items"].data[0].id
    if what == "advance":
        sandbox.advance(value)
    elif what in ("quantity", "immediate"):
        behaviour = "always_invoice" if what == "immediate" else "create_prorations"
        params = {"items": [{"id": item, "quantity": value}], "proration_behavior": behaviour}
        v1.subscriptions.update(subscription.id, params)
    elif what == "plan":
        sandbox.system.plan_payment(customer, value)
    elif what == "refund":
        charge = next((c for c in v1.charges.list({"customer": customer}).data if c.paid and not c.refunded), None)
        if charge:
            v1.refunds.create({"charge": charge.id, "amount": min(value, charge.amount - charge.amount_refunded)})
    elif what in ("credit", "void"):
        invoice = next((i for i in v1.invoices.list({"customer": customer}).data if i.status == "open"), None)
        if invoice and what == "void":
            v1.invoices.void_invoice(invoice.id)
        elif invoice:
            v1.credit_notes.create({"invoice": invoice.id, "amount": min(value, invoice.amount_remaining)})
    elif what == "balance":
        v1.customers.balance_transactions.create(customer, {"amount": value, "currency": "gbp"})
    elif what == "add":
        v1.subscription_items.create({"subscription": subscription.id, "price": extra.id, "quantity": value})
    else:
        v1.subscriptions.update(subscription.id, {"cancel_at_period_end": value})


@FEW
@given(history=st.lists(STEPS, max_size=12), sent=st.booleans())
def test_sums_hold_in_every_history(server: Server, history: list[tuple[str, Any]], sent: bool) -> None:
    """Lines add up to subtotals, what is due less what is paid remains, money never appears from nowhere. Facts 2.6."""
    sandbox = fresh(server)
    customer, extra = sandbox.customer("pm_card_visa"), sandbox.price(777)
    how = {"collection_method": "send_invoice", "days_until_due": 10} if sent else {}
    subscription = sandbox.subscribe(customer, sandbox.price(1234), 3, **how)
    for what, value in history:
        before = sandbox.system.truth()
        try:
            step(sandbox, subscription, extra, what, value)
        except stripe.StripeError:
            assert sandbox.system.truth() == before or what == "plan"
        check_invoices(sandbox)
    truth = sandbox.system.truth()
    charged = sum(c["amount"] for c in truth.get("charge", []) if c["paid"])
    refunded = sum(r["amount"] for r in truth.get("refund", []))
    net = sum(t["amount"] for t in truth.get("balance_transaction", []))
    assert net == charged - refunded
    paid = sum(p["amount_paid"] or 0 for p in truth.get("invoice_payment", []) if p["status"] == "paid")
    assert paid == charged
    balance = sum(t["amount"] for t in truth.get("customer_balance_transaction", []))
    assert truth["customer"][0]["balance"] == balance


@dataclass
class Listening(Sandbox):
    """Keeps what the last event about each object showed. It looks often enough that no event is forgotten unseen."""

    told: dict[str, Any] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)

    def listen(self) -> None:
        events = self.system.world.store.table("event")
        for name in [name for name in events if name not in self.heard]:
            shown = self.system.world.render(events[name])["data"]["object"]
            self.heard.add(name)
            self.told[shown["id"]] = shown

    def advance(self, seconds: int) -> None:
        for _ in range(seconds // (9 * DAY)):
            super().advance(9 * DAY)
            self.listen()
        super().advance(seconds % (9 * DAY))


@FEW
@given(history=st.lists(STEPS, max_size=12), sent=st.booleans())
def test_events_tell_everything_in_every_history(server: Server, history: list[tuple[str, Any]], sent: bool) -> None:
    """Facts: sandbox 4.4: replaying the events onto nothing reproduces the present objects of every kind."""
    plain = fresh(server)
    sandbox = Listening(plain.system, plain.clock, plain.client, plain.url)
    customer, extra = sandbox.customer("pm_card_visa"), sandbox.price(777)
    how = {"collection_method": "send_invoice", "days_until_due": 10} if sent else {}
    subscription = sandbox.subscribe(customer, sandbox.price(1234), 3, **how)
    for what, value in [*history, ("advance", HOUR)]:
        with suppress(stripe.StripeError):
            step(sandbox, subscription, extra, what, value)
        sandbox.listen()
    truth = sandbox.system.truth()
    for row in (row for kind in (*ANNOUNCED, "credit_note") for row in truth.get(kind, [])):
        assert unstamped(sandbox.told[row["id"]]) == unstamped(row)


@given(st.recursive(st.text(max_size=8), lambda inner: st.dictionaries(
    st.text("abcdefgh_", min_size=1, max_size=5), inner, min_size=1, max_size=3), max_leaves=6)
    .filter(lambda v: isinstance(v, dict)))  # fmt: skip
def test_decoding_is_the_inverse_of_encoding(params: Any) -> None:
    """Facts 5.5: nested hashes come back as they were sent, brackets percent-encoded or not."""
    pairs: list[tuple[str, str]] = []

    def flatten(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                flatten(inner, f"{path}[{key}]" if path else key)
        else:
            pairs.append((path, value))

    flatten(params, "")
    assert decode("&".join(f"{k}={quote_plus(v)}" for k, v in pairs)) == params
    assert decode("&".join(f"{quote_plus(k)}={quote_plus(v)}" for k, v in pairs)) == params


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_spread_is_exact(amount: int, weights: list[int]) -> None:
    """An amount that is spread over lines adds up again, and no part is off by a whole unit. Facts 2.6:
    the discount amounts of the lines are those of the invoice."""
    parts = spread(amount, weights)
    total = sum(weights)
    if total == 0:
        assert parts == [0] * len(weights)
        return
    assert sum(parts) == amount
    assert all(abs(part - amount * w / total) < 1 for part, w in zip(parts, weights, strict=True))


def test_step_names_are_all_known(sandbox: Sandbox) -> None:
    """The generated histories above must not be empty of effect: each step works on a fresh subscription.

    Sandbox facts 4.4.
    """
    customer, extra = sandbox.customer("pm_card_visa"), sandbox.price(777)
    subscription = sandbox.subscribe(customer, sandbox.price(1234), 3)
    for what, value in [("quantity", 5), ("immediate", 4), ("refund", 5), ("balance", -5), ("add", 1), ("end", True)]:
        before = sandbox.system.truth()
        step(sandbox, subscription, extra, what, value)
        assert sandbox.system.truth() != before
    with pytest.raises(stripe.InvalidRequestError):
        step(sandbox, subscription, extra, "add", 1)
