"""How the writes of one object become requests."""

from __future__ import annotations

from typing import Any

from sync_pipeline.core.commands import Command
from sync_pipeline.core.plan import _one_per_target
from sync_pipeline.core.rules import Priority


def write(reason: str, **params: Any) -> Command:
    return Command(
        key="set:stripe/subscription/sub_1",
        account="001A",
        target="stripe/subscription/sub_1",
        action="stripe.update",
        priority=Priority.SEATS,
        reason=reason,
        subject="006A",
        body={"object": "subscription", "id": "sub_1", "params": params},
    )


def test_writes_that_agree_are_one_request_with_both_reasons() -> None:
    (one,) = _one_per_target([write("b", metadata={"x": "1"}), write("a", metadata={"y": "2"}, cancel_at=5)])
    assert one.body["params"] == {"metadata": {"x": "1", "y": "2"}, "cancel_at": 5}
    assert one.reason == "a; b"


def test_seats_that_are_prorated_never_travel_with_an_end_that_is_not() -> None:
    """One proration for both would bill the wrong pennies for one of them."""
    seats = write("seats", items=[{"id": "si_1", "quantity": 5}], proration_behavior="create_prorations")
    end = write("end", cancel_at=5, proration_behavior="none")
    assert list(_one_per_target([seats, end])) == [seats]
    assert list(_one_per_target([end, seats])) == [end]
