"""How often the systems are looked at: what was seen under a claim and not written to since is not read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from sync_pipeline.core.observation import Present, Unknown
from sync_pipeline.engine.drain import DrainPlan, drain
from sync_pipeline.engine.env import SystemEnv
from sync_pipeline.engine.observe import observe
from sync_pipeline.ledger import work
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.salesforce.writes import Update, composite_calls
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import (
    at_stripe,
    create,
    edit,
    fault,
    mark,
    only,
    pay,
    records,
    requests_since,
    win,
)

T = TypeVar("T")
R = TypeVar("R")


def test_what_is_only_written_to_salesforce_costs_one_look_at_stripe(sync: Installation) -> None:
    sandbox = sync.sandbox
    win(sandbox)
    sync.rest()
    account = only(sandbox, "Account")["Id"]
    edit(sandbox, "Account", account, MRR__c=1)
    with sync.ledger.tx() as conn:
        work.mark_dirty(conn, [account], priority=1, now_wall=sync.env.wall())
    since = mark(sandbox)
    # Without polls: our own write would come back as a change, and be looked at.
    drain(sync.engine, DrainPlan(poll_seconds=10**6, sweep_seconds=10**6))
    assert sorted(each["endpoint"] for each in requests_since(sandbox, since, "stripe")) == [
        "GET /v1/charges",
        "GET /v1/customers/{id}",
        "GET /v1/invoices",
        "GET /v1/subscription_schedules",
        "GET /v1/subscriptions",
    ]
    assert only(sandbox, "Account")["MRR__c"] == 3750.0
    # A look, and a write whose own call shows what it came to.
    assert [(each["method"], "PATCH" in each["body"]) for each in requests_since(sandbox, since, "salesforce")] == [
        ("POST", False),
        ("POST", True),
    ]


class FourDaysLater(SystemEnv):
    """The sandbox's clock is moved while an Account is looked at, and no time passes."""

    days = 0

    def now(self) -> int:
        return super().now() + self.days * 86_400_000_000

    def each(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        found = super().each(function, items)
        self.days = 4
        return found


def test_money_is_noted_at_once_though_the_clock_of_the_sandbox_moves_during_the_look(sync: Installation) -> None:
    """It was taken for a worker that stood still, and the lifetime value went out in a second call."""
    win(sync.sandbox)
    sync.rest()
    pay(sync.sandbox)
    account = only(sync.sandbox, "Account")["Id"]
    env = FourDaysLater(sync.settings.clock_url, at_once=1)
    seen = observe(replace(sync.engine, env=env), [account])[account]
    assert [fact.amount_minor for fact in seen.facts if fact.kind == "payment"] == [4_500_000]


def test_what_an_automation_makes_of_a_write_is_seen_in_the_call_of_the_write(sync: Installation) -> None:
    """The write's call also shows its Account: a price that the org's own rules computed from it, and all the rest."""
    sandbox, org = sync.sandbox, sync.engine.salesforce
    win(sandbox)
    sync.rest()
    account = only(sandbox, "Account")["Id"]
    line = max(records(sandbox, "OpportunityLineItem"), key=lambda each: each["Quantity"])
    write = Update("OpportunityLineItem", line["Id"], {"Quantity": line["Quantity"] + 1}, account)
    (parts,) = composite_calls([write])
    calls = org.calls
    sent = org.send(parts, guard=lambda: None, look=[account])
    assert org.calls == calls + 1
    assert sent.outcomes[0].state == "done"
    fresh = org.accounts([account])[account]
    assert sent.seen == {account: fresh}
    (changed,) = [each for each in fresh.lines if each.id == line["Id"]]
    # Salesforce keeps the line's total when only its quantity is set (salesforce.md 6.3): the price follows.
    assert changed.quantity == 21
    assert round(21 * (changed.unit_price or 0)) == 12_000


def test_a_full_call_shows_nothing_and_a_refused_one_neither(sync: Installation) -> None:
    sandbox, org = sync.sandbox, sync.engine.salesforce
    sync.rest()
    account = only(sandbox, "Account")["Id"]
    write = Update("Account", account, {"MRR__c": 1}, account)
    four = [part for parts in composite_calls([write] * 4) for part in parts]
    assert org.send(four, guard=lambda: None, look=[account]).seen == {}
    fault(sandbox, "salesforce_503", side="salesforce", path="composite")
    (parts,) = composite_calls([write])
    assert org.send(parts, guard=lambda: None, look=[account]).seen == {}


def test_a_change_at_stripe_after_the_look_is_not_missed(sync: Installation) -> None:
    """A customer takes more seats in the portal while the first write of the round is on its way to Salesforce."""
    sandbox = sync.sandbox
    win(sandbox)
    sync.rest()
    item = max(only(sandbox, "subscription")["items"]["data"], key=lambda each: each["quantity"])
    edit(sandbox, "Account", only(sandbox, "Account")["Id"], MRR__c=1)
    send = sync.engine.salesforce.send

    def sent(*parts: Any, **options: Any) -> Any:
        sync.engine.salesforce.send = send  # type: ignore[method-assign]
        at_stripe(sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=item["quantity"] + 5)
        return send(*parts, **options)

    sync.engine.salesforce.send = sent  # type: ignore[method-assign]
    drain(sync.engine, DrainPlan(poll_seconds=0, sweep_seconds=0))
    sync.rest()
    (line,) = [each for each in records(sandbox, "OpportunityLineItem") if each["Quantity"] == item["quantity"] + 5]
    assert line["Stripe_Subscription_Item_Id__c"] == item["id"]


def test_a_price_book_that_cannot_be_read_leaves_billing_unknown(
    sync: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is billed and on no line must not be told to a person, or left, because of a failed look-up."""
    sandbox = sync.sandbox
    win(sandbox)
    sync.rest()
    account = only(sandbox, "Account")["Id"]
    support = create(sandbox, "Product2", Name="Support", Family="Seats", IsActive=True)
    subscription = only(sandbox, "subscription")["id"]
    at_stripe(sandbox, "POST", "/v1/products", id=f"sf_{support}", name="Support")
    price = {"currency": "gbp", "product": f"sf_{support}", "unit_amount": 100, "recurring": {"interval": "year"}}
    at_stripe(sandbox, "POST", "/v1/subscription_items", subscription=subscription, quantity=2, price_data=price)

    def unread(_: object) -> None:
        raise ReadFailed("Salesforce", "it is down")

    with monkeypatch.context() as failing:
        failing.setattr(sync.engine.salesforce, "price_book_entries", unread)
        assert isinstance(observe(sync.engine, [account])[account].billing, Unknown)
    book = records(sandbox, "Pricebook2")[0]["Id"]
    entry = create(sandbox, "PricebookEntry", Pricebook2Id=book, Product2Id=support, UnitPrice=1, IsActive=True)
    seen = observe(sync.engine, [account])[account]
    assert isinstance(seen.billing, Present)
    assert [each.id for each in seen.listed] == [entry]
    sync.rest()
    # It is in a family of seats: 35 and 2, though a person is to decide what becomes of it.
    assert only(sandbox, "Account")["Seats__c"] == 37
