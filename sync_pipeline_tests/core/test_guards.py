"""What is about to be done is counted and held against how much may be done unasked."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.commands import Command
from sync_pipeline.core.foresight import foresee
from sync_pipeline.core.guards import breaches, counted, share_breaches
from sync_pipeline.core.rules import Guards, Priority
from sync_pipeline.core.world import Billing
from sync_pipeline_tests.core.making import ACCOUNT, PERSONAL_KEY, RULES, billed, item, subscription, world

UNLIMITED = Guards(creates=None, changes=None, cancels=None, share=None)


def command(action: Any, kind: str, number: int = 1, *, of: str | None = None, **params: Any) -> Command:
    return Command(
        key=f"{kind}:{number}",
        account=ACCOUNT,
        target=f"stripe/{kind}/{number}",
        action=action,
        priority=Priority.CREATE,
        reason="",
        subject="",
        body={"object": kind, "id": f"{kind}_{number}", "subscription": of, "params": params},
    )


def counts(*commands: Command) -> Counter[str]:
    return counted(commands, world(), world())


def test_a_whole_deal_counts_its_customer_and_its_subscription_and_the_mrr_that_it_brings() -> None:
    """£45,000 a year is £3,750 a month. Products and prices are not counted: nobody is billed by them."""
    ahead = foresee(world(), RULES, PERSONAL_KEY, lambda _: Billing())
    found = counted(ahead.commands, ahead.before, ahead.after)
    assert found == {"creates": 2, "mrr.GBP": 375_000}
    assert breaches(found, Guards(creates=2, mrr={"GBP": Decimal(3750)})) == []
    (made,) = breaches(found, Guards(creates=1))
    assert made.startswith("2 customers and subscriptions made at Stripe within an hour")
    (moved,) = breaches(found, Guards(creates=2, hours=6, mrr={"GBP": Decimal(3749)}))
    assert "GBP 3,750.00 of MRR moved within 6 hours, at most 3,749" in moved


@pytest.mark.parametrize("params", [{"cancel_at": 1}, {"cancel_at_period_end": True}])
def test_a_scheduled_end_counts_as_an_end(params: dict[str, Any]) -> None:
    found = counts(command("stripe.update", "subscription", **params))
    assert found == {"changes": 1, "cancels": 1}
    (told,) = breaches(found, Guards(cancels=0))
    assert told.startswith("1 subscriptions ended")


def test_an_end_that_is_taken_back_is_a_change_only() -> None:
    assert counts(command("stripe.update", "subscription", cancel_at="")) == {"changes": 1}


def test_a_field_of_a_customer_is_no_change_of_what_is_billed() -> None:
    assert not counts(command("stripe.update", "customer", name="Renamed"))


def test_a_subscription_is_changed_once_however_many_of_its_items_are() -> None:
    edited = [command("stripe.update", "subscription_item", number, of="sub_1") for number in range(3)]
    assert counts(*edited, command("stripe.update", "subscription_item", 4, of="sub_2")) == {"changes": 2}


def test_what_goes_down_and_what_goes_up_do_not_cancel_out() -> None:
    """A mistake that doubles one half of the customers and loses the other half moves a lot of money."""
    few, many = (billed(subscription(), items=(item(quantity=quantity),)) for quantity in (10, 30))
    seats = command("stripe.update", "subscription_item")
    assert (counted([seats], few, many) + counted([seats], many, few))["mrr.GBP"] == 40_000


def test_a_missing_limit_is_none() -> None:
    many = counts(*(command("stripe.create", "customer", n) for n in range(1000)))
    assert many == {"creates": 1000}
    assert breaches(many, UNLIMITED) == []


@pytest.mark.parametrize(
    ("written", "accounts", "stops"), [(100, 100, False), (101, 202, False), (101, 201, True), (300, 1000, False)]
)
def test_the_share_counts_once_there_are_enough_accounts(written: int, accounts: int, stops: bool) -> None:
    assert bool(share_breaches(written, accounts, Guards(share=50, share_from=100))) == stops
    assert share_breaches(written, accounts, UNLIMITED) == []
