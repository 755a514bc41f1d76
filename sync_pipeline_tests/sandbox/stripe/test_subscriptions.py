"""Creating, ending and changing subscriptions; what each does to status, invoices and events."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox


def test_send_invoice_is_active_at_once(sandbox: Sandbox) -> None:
    """Facts 3.2, 3.7: send_invoice is active whatever is paid; the first invoice is final inside create."""
    customer = sandbox.customer()
    price = sandbox.price(4_500_000, "year")
    subscription = sandbox.subscribe(
        customer, price, collection_method="send_invoice", days_until_due=30, expand=["latest_invoice"],
        metadata={"sf_contract_id": "800"},
    )  # fmt: skip
    invoice = subscription.latest_invoice
    assert subscription.status == "active"
    assert (invoice.status, invoice.billing_reason, invoice.amount_due) == ("open", "subscription_create", 4_500_000)
    assert invoice.due_date == START + 30 * DAY
    assert invoice.parent.subscription_details.metadata.to_dict() == {"sf_contract_id": "800"}
    assert invoice.number.endswith("-0001")
    expected = {"customer.subscription.created", "invoice.created", "invoice.finalized", "invoice.sent"}
    assert expected <= set(sandbox.event_types())
    item = subscription["items"].data[0]
    assert (item.current_period_start, item.current_period_end) == (START, START + 365 * DAY)
    assert "current_period_end" not in subscription


def test_card_that_works(sandbox: Sandbox) -> None:
    """Facts 4.3: created (still incomplete), invoice and payment events, then updated to active."""
    customer = sandbox.customer("pm_card_visa")
    sandbox.v1.customers.retrieve(customer.id)
    subscription = sandbox.subscribe(customer, sandbox.price(1000), expand=["latest_invoice.payments"])
    assert (subscription.status, subscription.latest_invoice.status) == ("active", "paid")
    assert subscription.latest_invoice.payments.data[0].amount_paid == 1000
    types = sandbox.event_types()
    start = types.index("customer.subscription.created")
    assert set(types[start:]) == {
        "customer.subscription.created", "invoice.created", "invoice.finalized", "payment_intent.created",
        "charge.succeeded", "payment_intent.succeeded", "invoice.updated", "invoice_payment.paid", "invoice.paid",
        "invoice.payment_succeeded", "customer.subscription.updated", "customer.updated",
    }  # fmt: skip
    [created] = sandbox.events("customer.subscription.created")
    [updated] = sandbox.events("customer.subscription.updated")
    assert created.data.object.status == "incomplete"
    assert updated.data.previous_attributes.to_dict() == {"status": "incomplete"}


def test_up_to_twenty_items_with_different_prices(sandbox: Sandbox) -> None:
    """Facts 3.2: at most 20 items, one currency, each price once."""
    customer = sandbox.customer("pm_card_visa")
    product = sandbox.v1.products.create({"name": "P"}).id
    prices = [sandbox.price(100 + i, product=product) for i in range(21)]
    items = [{"price": p.id} for p in prices]
    made = sandbox.v1.subscriptions.create({"customer": customer.id, "items": items[:20]})
    assert len(made["items"].data) == 20
    euros = sandbox.price(100, currency="eur", product=product)
    for wrong in (items, [items[0], items[0]], [items[0], {"price": euros.id}]):
        with pytest.raises(stripe.InvalidRequestError):
            sandbox.v1.subscriptions.create({"customer": customer.id, "items": wrong})


@pytest.mark.parametrize(
    ("intervals", "allowed"),
    [
        ([("month", 1), ("month", 3)], True),
        ([("month", 1), ("year", 1)], True),
        ([("day", 1), ("week", 1)], True),
        ([("month", 2), ("month", 3)], False),
        ([("week", 1), ("month", 1)], False),
        ([("month", 5), ("year", 1)], False),
    ],
)
def test_mixed_intervals(sandbox: Sandbox, intervals: list[tuple[str, int]], allowed: bool) -> None:
    """Facts 3.2: on flexible billing every interval is a multiple of the shortest; classic needs one interval."""
    customer = sandbox.customer("pm_card_visa")
    prices = [sandbox.price(1000, None, recurring={"interval": i, "interval_count": c}) for i, c in intervals]
    params = {"customer": customer.id, "items": [{"price": p.id} for p in prices]}
    if allowed:
        made = sandbox.v1.subscriptions.create(params)
        assert len({i.current_period_end for i in made["items"].data}) == 2
    else:
        with pytest.raises(stripe.InvalidRequestError):
            sandbox.v1.subscriptions.create(params)
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.subscriptions.create({**params, "billing_mode": {"type": "classic"}})


def test_second_currency_is_refused(sandbox: Sandbox) -> None:
    """Facts 3.10: no two active subscriptions of a customer in different currencies."""
    customer = sandbox.customer("pm_card_visa")
    sandbox.subscribe(customer, sandbox.price(1000))
    with pytest.raises(stripe.InvalidRequestError, match="cannot combine currencies"):
        sandbox.subscribe(customer, sandbox.price(1000, currency="eur"))


def test_days_until_due_belongs_to_send_invoice(sandbox: Sandbox) -> None:
    """Facts 3.2: days_until_due is valid only with send_invoice, and needed there."""
    customer, price = sandbox.customer("pm_card_visa"), sandbox.price(1000)
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.subscribe(customer, price, days_until_due=3)
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.subscribe(customer, price, collection_method="send_invoice")


def test_declined_first_payment_is_incomplete_for_23_hours(sandbox: Sandbox) -> None:
    """Facts 3.7: the first payment fails, incomplete; after 23 hours incomplete_expired and the invoice void."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_chargeCustomerFail"), sandbox.price(1000))
    assert subscription.status == "incomplete"
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    sandbox.advance(23 * HOUR - 1)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "incomplete"
    sandbox.advance(1)
    expired = sandbox.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert (expired.status, expired.latest_invoice.status) == ("incomplete_expired", "void")


def test_items_of_an_incomplete_subscription_stay_as_they_are(sandbox: Sandbox) -> None:
    """Facts 3.2: until the first invoice is paid only metadata and the payment method can be changed, by any call."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_chargeCustomerFail"), sandbox.price(1000))
    item = subscription["items"].data[0].id
    for call, *arguments in (
        ("create", {"subscription": subscription.id, "price": sandbox.price(500).id}),
        ("update", item, {"quantity": 2}),
    ):
        with pytest.raises(stripe.InvalidRequestError, match="This subscription is incomplete"):
            getattr(sandbox.v1.subscription_items, call)(*arguments)
    assert [i.quantity for i in sandbox.v1.subscriptions.retrieve(subscription.id)["items"].data] == [1]


def test_incomplete_becomes_active_when_paid(sandbox: Sandbox) -> None:
    """Facts 3.7: incomplete, then the first invoice is paid: active, and no expiry."""
    customer = sandbox.customer("pm_card_visa")
    price = sandbox.price(1000)
    subscription = sandbox.subscribe(customer, price, payment_behavior="default_incomplete")
    assert subscription.status == "incomplete"
    invoice = sandbox.v1.invoices.pay(subscription.latest_invoice)
    assert (invoice.status, invoice.attempt_count) == ("paid", 1)
    sandbox.advance(2 * DAY)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_error_if_incomplete_creates_nothing(sandbox: Sandbox) -> None:
    """Facts 3.2: error_if_incomplete is 402 and leaves nothing."""
    customer, price = sandbox.customer("pm_card_chargeCustomerFail"), sandbox.price(1000)
    with pytest.raises(stripe.CardError):
        sandbox.subscribe(customer, price, payment_behavior="error_if_incomplete")
    assert sandbox.v1.subscriptions.list({"status": "all"}).data == []
    assert sandbox.v1.invoices.list().data == []


def test_authentication_needed(sandbox: Sandbox) -> None:
    """Facts 3.7: action required leaves the subscription incomplete, with the intent's next action."""
    subscription = sandbox.subscribe(
        sandbox.customer("pm_card_authenticationRequired"), sandbox.price(1000),
        expand=["latest_invoice.confirmation_secret"],
    )  # fmt: skip
    assert subscription.status == "incomplete"
    assert subscription.latest_invoice.confirmation_secret.type == "payment_intent"
    assert "invoice.payment_action_required" in sandbox.event_types()


def test_trial(sandbox: Sandbox) -> None:
    """Facts 3.8, 4.3: a trial starts with a paid $0 invoice, is announced 3 days ahead, then bills."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(1000), trial_period_days=14, expand=["latest_invoice"])
    first = subscription.latest_invoice
    assert (subscription.status, first.total, first.status) == ("trialing", 0, "paid")
    assert subscription.trial_end == subscription.billing_cycle_anchor == START + 14 * DAY
    sandbox.advance(11 * DAY)
    assert "customer.subscription.trial_will_end" in sandbox.event_types()
    sandbox.advance(3 * DAY)
    after = sandbox.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert (after.status, after.latest_invoice.status, after.latest_invoice.total) == ("active", "draft", 1000)
    sandbox.advance(HOUR)
    assert sandbox.v1.invoices.retrieve(after.latest_invoice.id).status == "paid"


@pytest.mark.parametrize(("behaviour", "status"), [("cancel", "canceled"), ("pause", "paused")])
def test_trial_without_payment_method(sandbox: Sandbox, behaviour: str, status: str) -> None:
    """Facts 3.2: trial_settings.end_behavior.missing_payment_method."""
    subscription = sandbox.subscribe(
        sandbox.customer(), sandbox.price(1000), trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": behaviour}},
    )  # fmt: skip
    sandbox.advance(7 * DAY)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == status


def test_trial_end_now(sandbox: Sandbox) -> None:
    """Facts 3.2: trial_end=now ends the trial and bills at once; the anchor moves to now."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000), trial_period_days=14)
    sandbox.advance(DAY)
    ended = sandbox.v1.subscriptions.update(subscription.id, {"trial_end": "now", "expand": ["latest_invoice"]})
    assert (ended.status, ended.latest_invoice.total, ended.latest_invoice.status) == ("active", 1000, "paid")
    assert ended.billing_cycle_anchor == START + DAY


def test_cancel_now(sandbox: Sandbox) -> None:
    """Facts 3.6: status canceled, ended_at now, deleted event with the request; open debt stays open."""
    subscription = sandbox.subscribe(
        sandbox.customer(), sandbox.price(1000), collection_method="send_invoice", days_until_due=30
    )
    canceled = sandbox.v1.subscriptions.cancel(subscription.id)
    assert (canceled.status, canceled.ended_at, canceled.canceled_at) == ("canceled", START, START)
    assert canceled.cancellation_details.reason == "cancellation_requested"
    [event] = sandbox.events("customer.subscription.deleted")
    assert event.request.id.startswith("req_")
    invoice = sandbox.v1.invoices.retrieve(subscription.latest_invoice)
    assert (invoice.status, invoice.auto_advance) == ("open", False)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.subscriptions.update(subscription.id, {"description": "x"})
    assert caught.value.code == "invalid_canceled_subscription_fields"
    assert sandbox.v1.subscriptions.update(subscription.id, {"metadata": {"a": "b"}}).metadata.to_dict() == {"a": "b"}


def test_cancel_with_credit(sandbox: Sandbox) -> None:
    """Facts 3.6, 3.4: prorate and invoice_now credit the rest of the period to the customer's balance."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(3100))
    sandbox.advance(15 * DAY + HOUR * 12)
    sandbox.v1.subscriptions.cancel(subscription.id, {"prorate": True, "invoice_now": True})
    assert sandbox.v1.customers.retrieve(customer.id).balance == -1550


def test_cancel_at_period_end_and_back(sandbox: Sandbox) -> None:
    """Facts 3.6: updated now, deleted at the period's end by itself (null request); reversible until then."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(1000))
    end = subscription["items"].data[0].current_period_end
    sandbox.advance(DAY)
    asked = sandbox.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert (asked.status, asked.cancel_at, asked.canceled_at) == ("active", end, START + DAY)
    back = sandbox.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert (back.cancel_at, back.canceled_at, back.cancel_at_period_end) == (None, None, False)
    sandbox.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    sandbox.advance(40 * DAY)
    over = sandbox.v1.subscriptions.retrieve(subscription.id)
    assert (over.status, over.ended_at, over.canceled_at) == ("canceled", end, START + DAY)
    assert len(sandbox.v1.invoices.list({"subscription": subscription.id}).data) == 1
    [event] = sandbox.events("customer.subscription.deleted")
    assert (event.request.id, event.request.idempotency_key) == (None, None)


def test_cancel_at_prorates_the_last_period(sandbox: Sandbox) -> None:
    """Facts 3.6: cancel_at in a future period bills that period only up to the end."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(2800))
    sandbox.v1.subscriptions.update(subscription.id, {"cancel_at": START + (31 + 14) * DAY})
    sandbox.advance(60 * DAY)
    totals = [i.total for i in sandbox.v1.invoices.list({"subscription": subscription.id}).data]
    assert totals == [1400, 2800]
    assert sandbox.v1.subscriptions.retrieve(subscription.id).ended_at == START + 45 * DAY


def test_pause_collection_keeps_the_status(sandbox: Sandbox) -> None:
    """Facts 3.7, 4.3: pause_collection changes no status; renewals go on, as drafts or void, until resumes_at."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    past = {"behavior": "void", "resumes_at": START - DAY}
    with pytest.raises(stripe.InvalidRequestError, match="in the future"):
        sandbox.v1.subscriptions.update(subscription.id, {"pause_collection": past})
    paused = sandbox.v1.subscriptions.update(
        subscription.id, {"pause_collection": {"behavior": "void", "resumes_at": START + 40 * DAY}}
    )
    assert (paused.status, paused.pause_collection.behavior) == ("active", "void")
    assert "customer.subscription.paused" not in sandbox.event_types()
    sandbox.advance(45 * DAY)
    statuses = [i.status for i in sandbox.v1.invoices.list({"subscription": subscription.id}).data]
    assert statuses == ["void", "paid"]
    assert sandbox.v1.subscriptions.retrieve(subscription.id).pause_collection is None


def test_pause_and_resume(sandbox: Sandbox) -> None:
    """Facts 1, 3.7: pause stops invoices and periods; resume starts a new cycle now."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    paused = sandbox.v1.subscriptions.pause(subscription.id, {"type": "subscription"})
    assert (paused.status, paused.status_details.paused.subscription.type) == ("paused", "pause_requested")
    sandbox.advance(70 * DAY)
    assert len(sandbox.v1.invoices.list({"subscription": subscription.id}).data) == 1
    resumed = sandbox.v1.subscriptions.resume(subscription.id, {})
    item = resumed["items"].data[0]
    assert (resumed.status, item.current_period_start) == ("active", START + 70 * DAY)
    assert len(sandbox.v1.invoices.list({"subscription": subscription.id}).data) == 2


def test_items_traps(sandbox: Sandbox) -> None:
    """Facts 3.2: without id a second item is added; a new price without quantity means one of it."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(1000), 5)
    item = subscription["items"].data[0].id
    other, third = sandbox.price(2000), sandbox.price(3000)
    added = sandbox.v1.subscriptions.update(subscription.id, {"items": [{"price": other.id}]})
    assert len(added["items"].data) == 2
    moved = sandbox.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "price": third.id}]})
    assert next(i for i in moved["items"].data if i.id == item).quantity == 1
    removed = sandbox.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "deleted": True}]})
    assert [i.price.id for i in removed["items"].data] == [other.id]


def test_item_operations(sandbox: Sandbox) -> None:
    """Facts 3: subscription_items can be created, read, updated and deleted on their own."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000))
    items = sandbox.v1.subscription_items
    extra = sandbox.price(500)
    made = items.create({"subscription": subscription.id, "price": extra.id, "quantity": 2, "metadata": {"l": "1"}})
    assert (made.quantity, made.metadata.to_dict()) == (2, {"l": "1"})
    assert items.update(made.id, {"quantity": 3}).quantity == 3
    assert items.retrieve(made.id).current_period_end == subscription["items"].data[0].current_period_end
    assert items.delete(made.id).deleted is True
    with pytest.raises(stripe.InvalidRequestError):
        items.delete(subscription["items"].data[0].id)


def test_update_event_carries_whole_arrays(sandbox: Sandbox) -> None:
    """Facts 2.7: previous_attributes has a changed array whole, and only *.updated has any."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000), 2)
    item = subscription["items"].data[0].id
    sandbox.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "quantity": 3}]})
    event = sandbox.events("customer.subscription.updated")[-1].to_dict()
    before = event["data"]["previous_attributes"]["items"]["data"][0]
    assert (before["id"], before["quantity"], before["price"]["unit_amount"]) == (item, 2, 1000)
    assert event["data"]["object"]["items"]["data"][0]["quantity"] == 3
    for other in sandbox.events():
        has = "previous_attributes" in other.data
        assert not has or other.type.endswith(".updated")


def test_future_anchor_bills_a_stub(sandbox: Sandbox) -> None:
    """Facts 3.2: the stub up to a later anchor is prorated, unless proration_behavior=none."""
    customer = sandbox.customer("pm_card_visa")
    anchor = START + 11 * DAY
    params: dict[str, Any] = {"billing_cycle_anchor": anchor, "expand": ["latest_invoice"]}
    stub = sandbox.subscribe(customer, sandbox.price(3100), **params)
    assert stub.latest_invoice.total == 1100  # the whole period is 12 Dec to 12 Jan, 31 days
    assert stub["items"].data[0].current_period_end == anchor
    free = sandbox.subscribe(customer, sandbox.price(3100), proration_behavior="none", **params)
    assert free.latest_invoice.total == 0


def test_backdated_start(sandbox: Sandbox) -> None:
    """Facts 3.2: backdate_start_date bills the elapsed time per period and anchors to the backdate."""
    customer = sandbox.customer("pm_card_visa")
    start = START - 61 * DAY  # 1 November
    subscription = sandbox.subscribe(
        customer, sandbox.price(1000), backdate_start_date=start, expand=["latest_invoice"]
    )
    assert (subscription.start_date, subscription.billing_cycle_anchor) == (start, start)
    assert [line.amount for line in subscription.latest_invoice.lines.data] == [1000, 1000, 1000]


def test_add_invoice_items(sandbox: Sandbox) -> None:
    """Facts 3.2: one-time prices on the first invoice."""
    setup = sandbox.price(5000, None)
    subscription = sandbox.subscribe(
        sandbox.customer("pm_card_visa"), sandbox.price(1000), add_invoice_items=[{"price": setup.id}],
        expand=["latest_invoice"],
    )  # fmt: skip
    assert subscription.latest_invoice.total == 6000
    assert {line.parent.type for line in subscription.latest_invoice.lines.data} == {
        "invoice_item_details", "subscription_item_details",
    }  # fmt: skip


def test_the_period_of_a_single_charge_may_be_a_moment(sandbox: Sandbox) -> None:
    """`period[start][type]=timestamp` needs the timestamp that it speaks of. Facts 3.2."""
    customer, price = sandbox.customer("pm_card_visa"), sandbox.price(1000)
    charge = {"price_data": {"currency": "gbp", "product": price.product, "unit_amount": 100}}
    end = {"type": "min_item_period_end"}
    given = charge | {"period": {"start": {"type": "timestamp"}, "end": end}}
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.subscribe(customer, price, add_invoice_items=[given])
    assert (caught.value.code, caught.value.param) == (
        "parameter_missing",
        "add_invoice_items[0][period][start][timestamp]",
    )
    given = charge | {"period": {"start": {"type": "timestamp", "timestamp": START - DAY}, "end": end}}
    made = sandbox.subscribe(customer, price, add_invoice_items=[given], expand=["latest_invoice"])
    periods = [(line.period.start, line.period.end) for line in made.latest_invoice.lines.data]
    assert (START - DAY, START + 31 * DAY) in periods


def test_twenty_single_charges_at_most(sandbox: Sandbox) -> None:
    """Facts 3.2: `add_invoice_items[]` (max 20)."""
    customer, price = sandbox.customer("pm_card_visa"), sandbox.price(1000)
    charge = {"price_data": {"currency": "gbp", "product": price.product, "unit_amount": 100}}
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.subscribe(customer, price, add_invoice_items=[charge] * 21)
    assert caught.value.param == "add_invoice_items"
    made = sandbox.subscribe(customer, price, add_invoice_items=[charge] * 20, expand=["latest_invoice"])
    assert made.latest_invoice.total == 3000


def test_deleting_a_customer_ends_its_subscriptions(sandbox: Sandbox) -> None:
    """Deleting a customer cancels its subscriptions at once (SDK:_customer_service.py, delete)."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(1000))
    sandbox.v1.customers.delete(customer.id)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "canceled"


def test_removing_a_discount(sandbox: Sandbox) -> None:
    """Deleting a subscription's discount answers the discount as deleted, and the next invoice is whole. Appendix C."""
    coupon = sandbox.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    subscription = sandbox.subscribe(
        sandbox.customer("pm_card_visa"), sandbox.price(1000), discounts=[{"coupon": coupon.id}]
    )
    gone = sandbox.v1.subscriptions.delete_discount(subscription.id)
    assert (gone.deleted, gone.source.coupon) == (True, coupon.id)
    assert sandbox.v1.subscriptions.retrieve(subscription.id).discounts == []
    sandbox.advance(31 * DAY)
    assert sandbox.v1.invoices.list({"subscription": subscription.id}).data[0].total == 1000
