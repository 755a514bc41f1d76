"""What a phase of a schedule can say (facts 2.5): charges, discounts, tax, trials, prices of its own, a past start."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox

MONTH = {"interval": "month", "interval_count": 1}


def schedule(sandbox: Sandbox, *phases: dict[str, Any], **fields: Any) -> Any:
    customer = fields.pop("customer", None) or sandbox.customer("pm_card_visa")
    phases = tuple({"duration": MONTH, **phase} for phase in phases)
    return sandbox.v1.subscription_schedules.create(
        {"customer": customer.id, "start_date": "now", "phases": list(phases), **fields}
    )


def invoices(sandbox: Sandbox, subscription: str) -> list[Any]:
    """Oldest first."""
    return list(sandbox.v1.invoices.list({"subscription": subscription}).data)[::-1]


def amounts(invoice: Any) -> list[int]:
    return [line.amount for line in invoice.lines.data]


def test_charges_of_a_phase_come_on_its_next_invoice_once(sandbox: Sandbox) -> None:
    """SDK: items "appended to the next invoice for this phase"; resending a phase does not bill them again."""
    seats, setup = sandbox.price(1000), sandbox.price(5000, None)
    charge = {"price": setup.id, "quantity": 2, "metadata": {"line": "L1"}}
    first = {"items": [{"price": seats.id}], "add_invoice_items": [charge]}
    second = {"items": [{"price": seats.id, "quantity": 3}], "add_invoice_items": [
        {"price_data": {"currency": "gbp", "product": seats.product, "unit_amount": 700}},
    ]}  # fmt: skip
    made = schedule(sandbox, first, second)
    (opening,) = invoices(sandbox, made.subscription)
    assert amounts(opening) == [10_000, 1000]
    item = opening.lines.data[0]
    assert (item.quantity, item.metadata.to_dict()) == (2, {"line": "L1"})
    assert (item.period.start, item.period.end) == (START, START + 31 * DAY)
    shown = made.to_dict()["phases"]
    again = {"start_date": START, "end_date": shown[0]["end_date"]} | first
    sandbox.v1.subscription_schedules.update(made.id, {"phases": [again, second | {"duration": MONTH}]})
    assert not sandbox.v1.invoice_items.list({"pending": True}).data
    late = {"price": setup.id, "quantity": 1}
    sandbox.v1.subscription_schedules.update(made.id, {
        "phases": [again | {"add_invoice_items": [charge, late]}, second | {"duration": MONTH}],
    })  # fmt: skip
    assert [i.amount for i in sandbox.v1.invoice_items.list({"pending": True}).data] == [5000]
    sandbox.advance(31 * DAY)
    renewal = invoices(sandbox, made.subscription)[1]
    assert sorted(amounts(renewal)) == [700, 3000, 5000]
    (own,) = [line for line in renewal.lines.data if line.amount == 700]
    assert (own.period.start, own.period.end) == (START + 31 * DAY, START + 59 * DAY)


def test_discounts_of_phases_and_their_items(sandbox: Sandbox) -> None:
    """Item discounts apply before the phase's (facts 6.2); a coupon that the next phase names too goes on instead of
    beginning again, one that it does not name ends."""
    price, coupons = sandbox.price(1000).id, sandbox.v1.coupons
    repeating = coupons.create({"percent_off": 50, "duration": "repeating", "duration_in_months": 2})
    off = coupons.create({"amount_off": 200, "currency": "gbp", "duration": "repeating", "duration_in_months": 12})
    both = {"items": [{"price": price, "discounts": [{"coupon": off.id}]}], "discounts": [{"coupon": repeating.id}]}
    made = schedule(sandbox, both, both, both, {"items": [{"price": price}]})
    sandbox.advance(31 * DAY)
    sandbox.advance(28 * DAY)
    sandbox.advance(31 * DAY)
    # (1000 - 200) halved for two months, then only the item's, then nothing.
    assert [i.total for i in invoices(sandbox, made.subscription)] == [400, 400, 800, 1000]
    assert coupons.retrieve(repeating.id).times_redeemed == 1


def test_tax_rates_of_phases_and_their_items(sandbox: Sandbox) -> None:
    """An item's rates replace the defaults; the schedule shows whole tax rates; a phase without rates has none.

    Facts 2.5.
    """
    create = sandbox.v1.tax_rates.create
    vat = create({"display_name": "VAT", "percentage": 20, "inclusive": False})
    low = create({"display_name": "VAT", "percentage": 5, "inclusive": False})
    first, second = sandbox.price(1000).id, sandbox.price(2000).id
    made = schedule(
        sandbox,
        {"items": [{"price": first}, {"price": second, "tax_rates": [low.id]}], "default_tax_rates": [vat.id]},
        {"items": [{"price": first}, {"price": second}]},
    )
    shown = made.to_dict()["phases"][0]
    assert [rate["percentage"] for rate in shown["default_tax_rates"]] == [20]
    assert [[rate["percentage"] for rate in item["tax_rates"]] for item in shown["items"]] == [[], [5]]
    sandbox.advance(31 * DAY)
    assert [i.total for i in invoices(sandbox, made.subscription)] == [1000 + 200 + 2000 + 100, 3000]


def test_a_phase_can_be_a_trial(sandbox: Sandbox) -> None:
    """SDK: `trial` makes the whole phase one; nothing is charged until it is over, wherever it stands."""
    price = sandbox.price(1000).id
    paid, free = {"items": [{"price": price}]}, {"items": [{"price": price, "quantity": 4}], "trial": True}
    opened = schedule(sandbox, free, paid)
    between = schedule(sandbox, paid, free, paid)
    sandbox.advance(HOUR)
    assert sandbox.v1.subscriptions.retrieve(opened.subscription).status == "trialing"
    sandbox.advance(31 * DAY)
    assert sandbox.v1.subscriptions.retrieve(opened.subscription).status == "active"
    assert [i.total for i in invoices(sandbox, opened.subscription)] == [0, 1000]
    during = sandbox.v1.subscriptions.retrieve(between.subscription)
    assert (during.status, during.trial_end) == ("trialing", START + 59 * DAY)
    assert during["items"].data[0].quantity == 4
    assert [i.total for i in invoices(sandbox, between.subscription)] == [1000]
    sandbox.advance(28 * DAY)
    after = sandbox.v1.subscriptions.retrieve(between.subscription)
    assert (after.status, after["items"].data[0].current_period_end) == ("active", START + 90 * DAY)
    assert [i.total for i in invoices(sandbox, between.subscription)] == [1000, 1000]


def test_a_start_in_the_past_dates_the_subscription_back(sandbox: Sandbox) -> None:
    """SDK: a timestamp may "backdate the subscription"; flexible billing has a line for each period (facts 3.2)."""
    sandbox.advance(70 * DAY)
    phase = {"items": [{"price": sandbox.price(1000).id}], "duration": {"interval": "month", "interval_count": 6}}
    made = schedule(sandbox, phase, start_date=START)
    (invoice,) = invoices(sandbox, made.subscription)
    periods = [((line.period.start - START) // DAY, line.amount) for line in invoice.lines.data]
    assert sorted(periods) == [(0, 1000), (31, 1000), (59, 1000)]
    assert made.current_phase.start_date == START
    assert sandbox.v1.subscriptions.retrieve(made.subscription).start_date == START


def test_prices_and_metadata_given_in_a_phase(sandbox: Sandbox) -> None:
    """Facts 2.5: phase metadata is merged into the subscription's, item metadata replaces the item's."""
    product = sandbox.v1.products.create({"name": "Seats"}).id
    data = {"currency": "gbp", "product": product, "recurring": {"interval": "month"}, "unit_amount": 900}
    made = schedule(
        sandbox,
        {"items": [{"price_data": data, "quantity": 2, "metadata": {"a": "1", "b": "1"}}], "metadata": {"x": "1"}},
    )
    price = made.to_dict()["phases"][0]["items"][0]["price"]
    now = {
        "items": [{"price": price, "quantity": 2, "metadata": {"b": "2"}}],
        "start_date": START,
        "metadata": {"y": "1"},
    }
    sandbox.v1.subscription_schedules.update(made.id, {"phases": [now | {"duration": MONTH}]})
    subscription = sandbox.v1.subscriptions.retrieve(made.subscription)
    assert subscription.metadata.to_dict() == {"x": "1", "y": "1"}
    assert subscription["items"].data[0].metadata.to_dict() == {"b": "2"}
    assert [i.total for i in invoices(sandbox, made.subscription)] == [1800]


def test_a_phase_may_set_the_anchor(sandbox: Sandbox) -> None:
    """SDK: `phase_start` resets the billing cycle: what is unused is credited, a new period billed at once."""
    price = sandbox.price(3100).id
    made = schedule(
        sandbox,
        {"items": [{"price": price}], "duration": None, "end_date": START + 21 * DAY},
        {"items": [{"price": price}], "billing_cycle_anchor": "phase_start"},
    )
    sandbox.advance(21 * DAY)
    subscription = sandbox.v1.subscriptions.retrieve(made.subscription)
    assert subscription.billing_cycle_anchor == START + 21 * DAY
    # Ten of 31 days come back; the next month is billed whole.
    assert [i.total for i in invoices(sandbox, made.subscription)] == [3100, 3100 - 1000]


@pytest.mark.parametrize(
    ("phase", "settings", "param"),
    [
        ({"trial": True, "trial_end": START + DAY}, {}, "phases[0][trial]"),
        ({"trial_end": START + 32 * DAY}, {}, "phases[0][trial_end]"),
        ({"trial": True, "billing_cycle_anchor": "phase_start"}, {}, "phases[0][billing_cycle_anchor]"),
        ({"end_date": START + DAY}, {}, "phases[0][end_date]"),
        ({"duration": {"interval": "year", "interval_count": 10_000}}, {}, "phases[0][duration][interval_count]"),
        ({"discounts": [{"coupon": "none"}]}, {}, "phases[discounts][coupon]"),
    ],
)
def test_phases_that_contradict_themselves(
    sandbox: Sandbox, phase: dict[str, Any], settings: dict[str, Any], param: str
) -> None:
    """Facts 2.5: what a phase is made of; 5.2: a refusal names the parameter."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        schedule(sandbox, {"items": [{"price": sandbox.price(1000).id}], **phase}, default_settings=settings)
    assert caught.value.param == param


def test_what_schedules_cannot_do_is_refused_by_name(sandbox: Sandbox) -> None:
    """Nothing is accepted and then dropped: 501 and the name of the parameter. Sandbox facts 1."""
    plain = {"items": [{"price": sandbox.price(1000).id}]}
    for phase, fields, param in (
        (plain | {"billing_thresholds": {"amount_gte": 5}}, {}, "phases[0][billing_thresholds]"),
        (plain, {"end_behavior": "renew"}, "end_behavior"),
        (plain, {"start_date": START - 90 * DAY}, "start_date"),
        (plain, {"default_settings": {"automatic_tax": {"enabled": True}}}, "automatic_tax[enabled]"),
    ):
        with pytest.raises(stripe.APIError) as caught:
            schedule(sandbox, phase, **fields)
        error = caught.value.error
        assert error is not None
        assert (caught.value.http_status, error.code, error.param) == (501, "sandbox_unsupported", param)
