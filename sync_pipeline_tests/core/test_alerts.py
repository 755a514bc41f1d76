"""Which failures are told to people at once: large ones, once, and none that is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sync_pipeline.core.alerts import payment_alerts
from sync_pipeline.core.observation import Present
from sync_pipeline.core.world import World
from sync_pipeline_tests.core.test_payment_failures import charge, failing, noted, with_rules


def told(world: World, threshold: int | None = 45_000) -> list[str]:
    return [command.key for command in payment_alerts(world, with_rules(alert_from=threshold))]


def test_an_alert_says_who_what_and_where() -> None:
    (command,) = payment_alerts(noted(failing(charge(1))), with_rules(alert_from=45_000))
    assert (command.action, command.key, command.target) == ("alert.send", "alert:attempt:ch_1", "alert:attempt:ch_1")
    assert command.body == {
        "title": "Payment failed: GBP 45,000.00, Northwind Analytics Ltd",
        "text": (
            "Attempt 1 to collect GBP 45,000.00 for invoice NW-0002 failed: there are insufficient funds. "
            "The next attempt is on 2026-11-25. "
            "If nothing is collected, the subscription is canceled in 12 days, on 2026-12-05.\n"
            "Monthly recurring revenue at risk: GBP 3,750.00."
        ),
        "link": "https://invoice.example/in_1",
        "link_text": "Invoice NW-0002",
    }
    assert "Northwind" not in command.reason


@pytest.mark.parametrize(("threshold", "alerts"), [(45_000, 1), (45_001, 0), (None, 0)])
def test_the_threshold_is_the_amount_itself(threshold: int | None, alerts: int) -> None:
    assert len(told(noted(failing(charge(1))), threshold)) == alerts


def test_yen_have_no_pennies() -> None:
    """4,500,000 yen are 4,500,000, not 45,000."""
    world = noted(failing(charge(1), currency="JPY"))
    assert (len(told(world, 4_500_000)), told(world, 4_500_001)) == (1, [])


def test_what_was_told_is_not_told_again() -> None:
    world = replace(noted(failing(charge(1), charge(2))), once=frozenset({"alert:attempt:ch_1", "attempt:ch_2"}))
    assert told(world) == ["alert:attempt:ch_2"]


def test_what_is_paid_by_now_is_not_told() -> None:
    world = noted(failing(charge(1)))
    assert isinstance(world.billing, Present)
    paid = tuple(replace(invoice, status="paid") for invoice in world.billing.value.invoices)
    assert told(replace(world, billing=Present(replace(world.billing.value, invoices=paid)))) == []
