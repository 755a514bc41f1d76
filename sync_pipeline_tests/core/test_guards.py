"""What a run is about to do is counted and held against how much it may do unasked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.commands import Command
from sync_pipeline.core.foresight import foresee
from sync_pipeline.core.guards import Tally
from sync_pipeline.core.rules import Guards, Priority
from sync_pipeline.core.world import Billing
from sync_pipeline_tests.core.making import ACCOUNT, PERSONAL_KEY, RULES, billed, item, subscription, world

UNLIMITED = Guards(creates=None, changes=None, cancels=None, share=None)


def command(action: Any, kind: str, number: int = 1, **params: Any) -> Command:
    return Command(
        key=f"{kind}:{number}",
        account=ACCOUNT,
        target=f"stripe/{kind}/{number}",
        action=action,
        priority=Priority.CREATE,
        reason="",
        subject="",
        body={"object": kind, "params": params},
    )


def tally(*commands: Command) -> Tally:
    found = Tally()
    found.add(commands, world(), world())
    return found


def test_a_whole_deal_counts_its_customer_and_its_subscription_and_the_mrr_that_it_brings() -> None:
    """£45,000 a year is £3,750 a month. Products and prices are not counted: nobody is billed by them."""
    ahead = foresee(world(), RULES, PERSONAL_KEY, lambda _: Billing())
    found = Tally()
    found.add(ahead.commands, ahead.before, ahead.after)
    assert (found.creates, found.changes, found.cancels, found.mrr) == (2, 0, 0, {"GBP": 375_000})
    assert found.breaches(Guards(creates=2, mrr={"GBP": Decimal(3750)})) == []
    (made,) = found.breaches(Guards(creates=1))
    assert made.startswith("2 customers and subscriptions")
    (moved,) = found.breaches(Guards(creates=2, mrr={"GBP": Decimal(3749)}))
    assert "GBP 3,750.00 of MRR moved, at most 3,749" in moved


@pytest.mark.parametrize("params", [{"cancel_at": 1}, {"cancel_at_period_end": True}])
def test_a_scheduled_end_counts_as_an_end(params: dict[str, Any]) -> None:
    found = tally(command("stripe.update", "subscription", **params))
    assert (found.changes, found.cancels) == (1, 1)
    (told,) = found.breaches(Guards(cancels=0))
    assert told.startswith("1 subscriptions ended")


def test_an_end_that_is_taken_back_is_a_change_only() -> None:
    assert tally(command("stripe.update", "subscription", cancel_at="")).cancels == 0


def test_a_field_of_a_customer_is_no_change_of_what_is_billed() -> None:
    assert tally(command("stripe.update", "customer", name="Renamed")).changes == 0


def test_what_goes_down_and_what_goes_up_do_not_cancel_out() -> None:
    """A mistake that doubles one half of the customers and loses the other half moves a lot of money."""
    found = Tally()
    few, many = (billed(subscription(), items=(item(quantity=quantity),)) for quantity in (10, 30))
    seats = command("stripe.update", "subscription_item")
    found.add([seats], few, many)
    found.add([seats], many, few)
    assert found.mrr == {"GBP": 40_000}


def test_a_missing_limit_is_none() -> None:
    many = tally(*(command("stripe.create", "customer", n) for n in range(1000)))
    assert many.creates == 1000
    assert many.breaches(UNLIMITED) == []


@pytest.mark.parametrize(
    ("written", "accounts", "stops"), [(100, 100, False), (101, 202, False), (101, 201, True), (300, 1000, False)]
)
def test_the_share_counts_once_there_are_enough_accounts(written: int, accounts: int, stops: bool) -> None:
    found = Tally(accounts=accounts, written=written)
    assert bool(found.share_breaches(Guards(share=50, share_from=100))) == stops
    assert found.share_breaches(UNLIMITED) == []
