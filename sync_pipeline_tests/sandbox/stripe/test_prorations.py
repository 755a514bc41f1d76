"""Proration to the second: the vectors of facts 3.4, and what must hold for any change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox

APRIL = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp())  # a month of 30 days


def amounts(sandbox: Sandbox, subscription: Any) -> list[int]:
    """Pending prorations, oldest first."""
    rows = sandbox.v1.invoice_items.list({"customer": subscription.customer, "pending": True}).data
    return [row.amount for row in rows[::-1]]


def change(sandbox: Sandbox, subscription: Any, **entry: Any) -> Any:
    how = {k: entry.pop(k) for k in ("proration_behavior", "proration_date") if k in entry}
    item = subscription["items"].data[0].id
    params: Any = {"items": [{"id": item, **entry}], **how}
    return sandbox.v1.subscriptions.update(subscription.id, params)


def test_downgrade_with_a_third_left(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 3.4: 30-day period, 10 days left, 2000 to 1000: -667 and +333, together -334."""
    sandbox = make_sandbox(APRIL)
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(2000))
    lower = sandbox.price(1000)
    sandbox.advance(20 * DAY)
    change(sandbox, subscription, price=lower.id)
    assert amounts(sandbox, subscription) == [-667, 333]


def test_upgrade_in_january(sandbox: Sandbox) -> None:
    """Facts 3.4: January, 16 Jan 00:00Z, 5000 to 10000: ratio 16/31, -2581 and +5161; billed with the renewal."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(5000))
    higher = sandbox.price(10000)
    sandbox.advance(15 * DAY)
    change(sandbox, subscription, price=higher.id)
    assert amounts(sandbox, subscription) == [-2581, 5161]
    sandbox.advance(17 * DAY)
    renewal = sandbox.v1.invoices.list({"subscription": subscription.id}).data[0]
    assert renewal.total == 10000 + 5161 - 2581
    prorated = [line.parent.subscription_item_details.proration for line in renewal.lines.data]
    assert sorted(prorated) == [False, True, True]


def test_to_the_second(sandbox: Sandbox) -> None:
    """Facts 3.4: ratio in seconds, each line rounded by itself: 20 days, 1 hour and 17 seconds into 31 days."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(99_999), 2)
    gone = 20 * DAY + 3617
    sandbox.advance(gone)
    change(sandbox, subscription, quantity=3)
    left, whole = 31 * DAY - gone, 31 * DAY
    expected = [-((2 * 199_998 * left + whole) // (2 * whole)), (2 * 299_997 * left + whole) // (2 * whole)]
    assert amounts(sandbox, subscription) == expected


def test_credit_points_at_what_was_debited(sandbox: Sandbox) -> None:
    """Facts 3.4: flexible credits carry proration_details.credited_items; lines are not discountable."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(3100), expand=["latest_invoice"])
    first = subscription.latest_invoice
    sandbox.advance(DAY)
    change(sandbox, subscription, quantity=2, proration_behavior="always_invoice")
    invoice = sandbox.v1.invoices.list({"subscription": subscription.id}).data[0]
    assert (invoice.billing_reason, invoice.total, invoice.status) == ("subscription_update", 3000, "paid")
    credit = next(line for line in invoice.lines.data if line.amount < 0)
    details = credit.parent.subscription_item_details.proration_details.credited_items
    assert (details.invoice, details.invoice_line_items) == (first.id, [first.lines.data[0].id])
    assert credit.discountable is False


@pytest.mark.parametrize(("mode", "net"), [("flexible", 0), ("classic", -334)])
def test_credit_is_for_what_was_really_debited(make_sandbox: Callable[..., Sandbox], mode: str, net: int) -> None:
    """Facts 3.4: upgrade with none, then downgrade with always_invoice: classic -334, flexible 0."""
    sandbox = make_sandbox(APRIL)
    customer = sandbox.customer("pm_card_visa")
    low, high = sandbox.price(1000), sandbox.price(2000)
    subscription = sandbox.subscribe(customer, low, billing_mode={"type": mode})
    change(sandbox, subscription, price=high.id, proration_behavior="none")
    sandbox.advance(20 * DAY)
    change(sandbox, subscription, price=low.id, proration_behavior="always_invoice")
    assert sandbox.v1.invoices.list({"subscription": subscription.id}).data[0].total == net


def test_there_and_back_nets_to_nothing(sandbox: Sandbox) -> None:
    """Facts: sandbox 4.4: a change and its reversal at one instant cost nothing."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(999), 7)
    sandbox.advance(11 * DAY + 12345)
    for quantity in (13, 7):
        change(sandbox, subscription, quantity=quantity)
    assert sum(amounts(sandbox, subscription)) == 0


def test_a_debit_that_was_deleted_is_not_credited(sandbox: Sandbox) -> None:
    """Facts 3.4: only what was actually debited is credited."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(3100))
    sandbox.advance(DAY)
    change(sandbox, subscription, quantity=2)
    for item in sandbox.v1.invoice_items.list({"customer": subscription.customer}).data:
        sandbox.v1.invoice_items.delete(item.id)
    change(sandbox, subscription, quantity=1)
    assert amounts(sandbox, subscription) == [3000]


def test_addition_in_the_cycle(sandbox: Sandbox) -> None:
    """Facts 3.3: an added item joins the cycle with one debit for the rest, then full price."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(3100))
    sandbox.advance(15 * DAY)
    item = sandbox.v1.subscription_items.create(
        {"subscription": subscription.id, "price": sandbox.price(6200).id, "quantity": 2}
    )
    assert item.current_period_end == subscription["items"].data[0].current_period_end
    assert amounts(sandbox, subscription) == [6400]  # 12400 * 16 / 31
    sandbox.advance(17 * DAY)
    assert sandbox.v1.invoices.list({"subscription": subscription.id}).data[0].total == 3100 + 12400 + 6400


def test_proration_date(sandbox: Sandbox) -> None:
    """Facts 3.4: the change counts from proration_date; outside of the period it is refused."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(3100))
    sandbox.advance(3 * DAY + 7)
    change(sandbox, subscription, quantity=2, proration_date=START + 3 * DAY)
    assert amounts(sandbox, subscription) == [-2800, 5600]
    with pytest.raises(stripe.InvalidRequestError):
        change(sandbox, subscription, quantity=3, proration_date=START - 1)


def test_none_changes_only_the_next_period(sandbox: Sandbox) -> None:
    """Facts 3.4: with none the new amount simply applies next cycle."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    sandbox.advance(DAY)
    change(sandbox, subscription, quantity=4, proration_behavior="none")
    assert amounts(sandbox, subscription) == []
    sandbox.advance(31 * DAY)
    assert sandbox.v1.invoices.list({"subscription": subscription.id}).data[0].total == 4000


def test_metadata_and_coupons_do_not_prorate(sandbox: Sandbox) -> None:
    """Facts 3.4: changing only a coupon or metadata creates no proration."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    coupon = sandbox.v1.coupons.create({"percent_off": 10, "duration": "forever"})
    sandbox.advance(DAY)
    change(sandbox, subscription, metadata={"a": "b"})
    sandbox.v1.subscriptions.update(subscription.id, {"discounts": [{"coupon": coupon.id}]})
    assert amounts(sandbox, subscription) == []


def test_discounted_debit_is_credited_discounted(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 3.4: flexible credits the price less the discount that was allocated to it."""
    sandbox = make_sandbox(APRIL)
    coupon = sandbox.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    subscription = sandbox.subscribe(
        sandbox.customer("pm_card_visa"), sandbox.price(3000), discounts=[{"coupon": coupon.id}]
    )
    sandbox.advance(20 * DAY)
    change(sandbox, subscription, quantity=2)
    assert amounts(sandbox, subscription) == [-500, 1000]


def test_amount_off_is_shared_by_the_items(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 3.4: existing discounts are baked into prorations; an amount off is allocated to the items."""
    sandbox = make_sandbox(APRIL)
    coupon = sandbox.v1.coupons.create(
        {"amount_off": 900, "currency": "gbp", "duration": "repeating", "duration_in_months": 12}
    )
    items = [{"price": sandbox.price(6000).id}, {"price": sandbox.price(3000).id}]
    customer = sandbox.customer("pm_card_visa")
    params = {"customer": customer.id, "items": items, "discounts": [{"coupon": coupon.id}]}
    subscription = sandbox.v1.subscriptions.create(params)
    sandbox.advance(15 * DAY)
    first = next(i for i in subscription["items"].data if i.price.unit_amount == 6000)
    sandbox.v1.subscriptions.update(subscription.id, {"items": [{"id": first.id, "quantity": 2}]})
    # Credited: half of 6000 - 600. Debited: half of 12000 less its share of 900, which is 12/15.
    assert amounts(sandbox, subscription) == [-2700, 5640]


def test_negative_proration_becomes_credit(sandbox: Sandbox) -> None:
    """Facts 3.4: a negative total becomes customer balance at finalisation, never a refund."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(3100), 2)
    sandbox.advance(DAY)
    change(sandbox, subscription, quantity=1, proration_behavior="always_invoice")
    invoice = sandbox.v1.invoices.list({"subscription": subscription.id}).data[0]
    assert (invoice.total, invoice.amount_due, invoice.status) == (-3000, 0, "paid")
    assert sandbox.v1.customers.retrieve(customer.id).balance == -3000
    assert sandbox.v1.refunds.list().data == []


@pytest.mark.parametrize("behaviour", ["create_prorations", "always_invoice"])
def test_preview_equals_what_is_billed(sandbox: Sandbox, behaviour: str) -> None:
    """Facts 3.5, issue B: the preview's lines are those that are then billed; it leaves no trace."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(4321), 3)
    sandbox.advance(5 * DAY + 4711)
    item = subscription["items"].data[0].id
    when = sandbox.clock.now()
    details = {"items": [{"id": item, "quantity": 8}], "proration_behavior": behaviour, "proration_date": when}
    before = sandbox.system.truth()
    preview = sandbox.v1.invoices.create_preview({"subscription": subscription.id, "subscription_details": details})
    assert preview.id.startswith("upcoming_in_")
    assert sandbox.system.truth() == before
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.invoices.retrieve(preview.id)
    sandbox.v1.subscriptions.update(subscription.id, details)
    if behaviour == "create_prorations":
        sandbox.advance(27 * DAY)
    billed = sandbox.v1.invoices.list({"subscription": subscription.id}).data[0]

    def told(invoice: Any) -> list[Any]:
        return [(line.amount, line.description, line.period.start, line.period.end) for line in invoice.lines.data]

    assert told(billed) == told(preview)
    assert (billed.total, billed.amount_due) == (preview.total, preview.amount_due)


@pytest.mark.parametrize(("currency", "amount", "due"), [("gbp", 20, 0), ("kwd", "54703", 54_700)])
def test_previews_and_drafts_show_what_can_be_charged(
    sandbox: Sandbox, currency: str, amount: int | str, due: int
) -> None:
    """Facts 3.8, 3.10: totals below the minimum, and what is no whole step of the currency, are carried; the
    docstring of `amount_due` says so of every invoice."""
    price = sandbox.price(amount, currency=currency)
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), price)
    sandbox.v1.customers.update(subscription.customer, {"balance": 0})
    preview = sandbox.v1.invoices.create_preview({"subscription": subscription.id})
    sandbox.advance(31 * DAY + HOUR // 2)
    draft = sandbox.v1.invoices.list({"subscription": subscription.id}).data[0]
    assert draft.status == "draft"
    assert [i.amount_due for i in (preview, draft, sandbox.v1.invoices.finalize_invoice(draft.id))] == [due] * 3


def test_preview_of_a_new_subscription_and_of_cancelling(sandbox: Sandbox) -> None:
    """Facts 3.5: items of a subscription that does not exist yet; cancel_now; nothing to preview is an error."""
    customer = sandbox.customer("pm_card_visa")
    price = sandbox.price(3100)
    preview = sandbox.v1.invoices.create_preview
    new = preview({"customer": customer.id, "subscription_details": {"items": [{"price": price.id, "quantity": 2}]}})
    assert (new.total, new.status, new.number) == (6200, "draft", None)
    subscription = sandbox.subscribe(customer, price)
    sandbox.advance(DAY)
    ended = preview({"subscription": subscription.id, "subscription_details": {"cancel_now": True}})
    assert ended.total == -3000
    renewal = preview({"subscription": subscription.id})
    assert renewal.total == 3100
    with pytest.raises(stripe.InvalidRequestError):
        preview({"customer": customer.id})


def test_anchor_reset(sandbox: Sandbox) -> None:
    """Facts 1, 3.4: billing_cycle_anchor={type: now} credits the rest, bills a new period, takes no proration_date."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(3100))
    sandbox.advance(DAY)
    with pytest.raises(stripe.InvalidRequestError, match="proration_date"):
        sandbox.v1.subscriptions.update(
            subscription.id, {"billing_cycle_anchor": {"type": "now"}, "proration_date": sandbox.clock.now()}
        )
    moved = sandbox.v1.subscriptions.update(
        subscription.id, {"billing_cycle_anchor": {"type": "now"}, "expand": ["latest_invoice"]}
    )
    assert moved.billing_cycle_anchor == START + DAY
    assert moved.latest_invoice.total == 3100 - 3000


def test_a_preview_of_what_recurs_is_refused_by_name(sandbox: Sandbox) -> None:
    """Not the next invoice in its place: 501 names the parameter; the default may be said. Facts 3.5:
    `preview_mode`."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    preview = sandbox.v1.invoices.create_preview
    assert preview({"subscription": subscription.id, "preview_mode": "next"}).total == 1000
    with pytest.raises(stripe.APIError) as caught:
        preview({"subscription": subscription.id, "preview_mode": "recurring"})
    error = caught.value.error
    assert error is not None
    assert (caught.value.http_status, error.param) == (501, "preview_mode")
