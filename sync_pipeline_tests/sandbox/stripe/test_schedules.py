"""Subscription schedules: phases come in with the clock, are released, canceled, or end with their subscription."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox


def schedule(sandbox: Sandbox, *amounts: int, **fields: Any) -> Any:
    """One monthly phase per amount."""
    customer = fields.pop("customer", None) or sandbox.customer("pm_card_visa")
    month = {"interval": "month", "interval_count": 1}
    phases = [{"items": [{"price": sandbox.price(a).id}], "duration": month} for a in amounts]
    params = {"customer": customer.id, "start_date": "now", "phases": phases, **fields}
    return sandbox.v1.subscription_schedules.create(params)


def totals(sandbox: Sandbox, subscription: str) -> list[int]:
    return [i.total for i in sandbox.v1.invoices.list({"subscription": subscription}).data][::-1]


def test_phases_follow_each_other(sandbox: Sandbox) -> None:
    """Facts 2.5, 3.2: starts with a draft; the next phase replaces the items; then it is released."""
    made = schedule(sandbox, 1000, 2500, metadata={"a": "b"})
    assert (made.status, made.current_phase.start_date) == ("active", START)
    subscription = sandbox.v1.subscriptions.retrieve(made.subscription, {"expand": ["latest_invoice"]})
    assert (subscription.schedule, subscription.latest_invoice.status) == (made.id, "draft")
    sandbox.advance(HOUR)
    assert sandbox.v1.invoices.retrieve(subscription.latest_invoice.id).status == "paid"
    sandbox.advance(31 * DAY)
    again = sandbox.v1.subscription_schedules.retrieve(made.id)
    assert again.current_phase.start_date == START + 31 * DAY
    assert totals(sandbox, made.subscription) == [1000, 2500]
    sandbox.advance(30 * DAY)
    done = sandbox.v1.subscription_schedules.retrieve(made.id)
    assert (done.status, done.released_subscription, done.subscription) == ("released", made.subscription, None)
    after = sandbox.v1.subscriptions.retrieve(made.subscription)
    assert (after.status, after.schedule) == ("active", None)
    assert totals(sandbox, made.subscription) == [1000, 2500, 2500]
    found = [e.type for e in sandbox.events() if e.type.startswith("subscription_schedule")]
    assert found == ["subscription_schedule.expiring", "subscription_schedule.released"]


def test_a_preview_knows_the_next_phase(sandbox: Sandbox) -> None:
    """Facts 3.5, issue B: a preview is what is then billed, also where the schedule turns before that."""
    preview = sandbox.v1.invoices.create_preview
    planned = schedule(sandbox, 1000, 2500, start_date=START + DAY, end_behavior="cancel")
    assert preview({"schedule": planned.id}).total == 1000
    assert sandbox.v1.subscriptions.list().data == []
    sandbox.advance(DAY + HOUR)
    subscription = sandbox.v1.subscription_schedules.retrieve(planned.id).subscription
    told = [preview({"subscription": subscription}).total, preview({"schedule": planned.id}).total]
    sandbox.advance(31 * DAY)
    assert told == [totals(sandbox, subscription)[1]] * 2 == [2500] * 2
    with pytest.raises(stripe.InvalidRequestError) as caught:
        preview({"subscription": subscription})
    assert caught.value.code == "invoice_upcoming_none"


def test_a_preview_knows_what_a_turn_within_the_period_prorates(sandbox: Sandbox) -> None:
    """Facts 3.4, 3.5: 15 of January's 31 days at 1000 become 15 days at 2500, on the invoice of February."""
    made = schedule(sandbox, 1000, phases=[
        {"items": [{"price": sandbox.price(amount).id}], "end_date": START + end * DAY}
        for amount, end in ((1000, 16), (2500, 90))
    ])  # fmt: skip
    told = sandbox.v1.invoices.create_preview({"subscription": made.subscription}).total
    sandbox.advance(31 * DAY + HOUR)
    assert told == totals(sandbox, made.subscription)[1] == 2500 - 484 + 1210


def test_start_in_the_future(sandbox: Sandbox) -> None:
    """Facts 2.5: not_started until its start date."""
    made = schedule(sandbox, 1000, start_date=START + 5 * DAY)
    assert (made.status, made.subscription) == ("not_started", None)
    sandbox.advance(5 * DAY)
    begun = sandbox.v1.subscription_schedules.retrieve(made.id)
    assert begun.status == "active"
    assert sandbox.v1.subscriptions.retrieve(begun.subscription).start_date == START + 5 * DAY


def test_end_behavior_cancel(sandbox: Sandbox) -> None:
    """Facts 2.5: with cancel the subscription ends with the last phase."""
    made = schedule(sandbox, 1000, end_behavior="cancel")
    sandbox.advance(31 * DAY)
    assert sandbox.v1.subscription_schedules.retrieve(made.id).status == "completed"
    assert sandbox.v1.subscriptions.retrieve(made.subscription).status == "canceled"
    assert totals(sandbox, made.subscription) == [1000]


def test_from_subscription_then_next_phase(sandbox: Sandbox) -> None:
    """Facts 2.5: from_subscription takes no other parameter; update resends the current phase and adds one."""
    customer = sandbox.customer("pm_card_visa")
    first, second = sandbox.price(1000), sandbox.price(3000)
    subscription = sandbox.subscribe(customer, first, 2)
    create = sandbox.v1.subscription_schedules.create
    with pytest.raises(stripe.InvalidRequestError):
        create({"from_subscription": subscription.id, "end_behavior": "cancel"})
    made = create({"from_subscription": subscription.id})
    shown = made.to_dict()["phases"][0]
    assert (shown["items"][0]["quantity"], shown["start_date"]) == (2, START)
    current = {"items": [{"price": first.id, "quantity": 2}], "start_date": START, "end_date": shown["end_date"]}
    following = {"items": [{"price": second.id}], "duration": {"interval": "month"}}
    sandbox.v1.subscription_schedules.update(made.id, {"phases": [current, following]})
    sandbox.advance(32 * DAY)
    assert totals(sandbox, subscription.id) == [2000, 3000]


def test_mid_period_phase_change_prorates(sandbox: Sandbox) -> None:
    """Facts 4.3: a phase change inside a period prorates as the phase says."""
    customer = sandbox.customer("pm_card_visa")
    price = sandbox.price(3100)
    phases = [
        {"items": [{"price": price.id}], "end_date": START + 15 * DAY},
        {"items": [{"price": price.id, "quantity": 2}], "duration": {"interval": "month"},
         "proration_behavior": "always_invoice"},
    ]  # fmt: skip
    made = sandbox.v1.subscription_schedules.create({"customer": customer.id, "start_date": "now", "phases": phases})
    sandbox.advance(15 * DAY)
    assert totals(sandbox, made.subscription) == [3100, 1600]


def test_release_and_cancel(sandbox: Sandbox) -> None:
    """Facts 2.5: release leaves the subscription alone; cancel takes it along, prorated and invoiced."""
    customer = sandbox.customer("pm_card_visa")
    kept = schedule(sandbox, 3100, customer=customer)
    released = sandbox.v1.subscription_schedules.release(kept.id)
    assert released.status == "released"
    assert sandbox.v1.subscriptions.retrieve(kept.subscription).schedule is None
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.subscription_schedules.cancel(kept.id)
    gone = schedule(sandbox, 3100, customer=customer)
    sandbox.advance(DAY)
    assert sandbox.v1.subscription_schedules.cancel(gone.id).status == "canceled"
    assert sandbox.v1.subscriptions.retrieve(gone.subscription).status == "canceled"
    assert totals(sandbox, gone.subscription)[-1] == -3000


def test_canceling_the_subscription_ends_its_schedule(sandbox: Sandbox) -> None:
    """Facts 4.3: a schedule does not outlive its subscription."""
    made = schedule(sandbox, 1000, 2000)
    sandbox.v1.subscriptions.cancel(made.subscription)
    assert sandbox.v1.subscription_schedules.retrieve(made.id).status == "canceled"


def test_a_phase_at_the_end_of_a_period_says_how_it_is_collected_and_described(sandbox: Sandbox) -> None:
    """A phase's collection method, days until due and description reach the subscription and its renewal. Facts 2.5."""
    price = sandbox.price(1000).id
    month = {"interval": "month"}
    phases = [
        {"items": [{"price": price}], "duration": month},
        {"items": [{"price": price}], "duration": month, "collection_method": "send_invoice",
         "invoice_settings": {"days_until_due": 14}, "description": "By invoice", "metadata": {"po": "7"}},
    ]  # fmt: skip
    made = sandbox.v1.subscription_schedules.create({
        "customer": sandbox.customer("pm_card_visa").id, "start_date": "now", "phases": phases,
        "default_settings": {"description": "By card"},
    })  # fmt: skip
    assert sandbox.v1.subscriptions.retrieve(made.subscription).description == "By card"
    sandbox.advance(31 * DAY)
    after = sandbox.v1.subscriptions.retrieve(made.subscription, {"expand": ["latest_invoice"]})
    assert (after.collection_method, after.days_until_due) == ("send_invoice", 14)
    assert (after.description, after.metadata.to_dict()) == ("By invoice", {"po": "7"})
    assert after.latest_invoice.collection_method == "send_invoice"


def test_the_currency_of_a_phase_is_that_of_its_prices(sandbox: Sandbox) -> None:
    """Facts 2.5, 3.2: a phase has one currency, that of its items."""
    phase = {"items": [{"price": sandbox.price(1000).id}], "duration": {"interval": "month"}, "currency": "usd"}
    with pytest.raises(stripe.InvalidRequestError, match="expected currency: `usd`"):
        sandbox.v1.subscription_schedules.create(
            {"customer": sandbox.customer("pm_card_visa").id, "start_date": "now", "phases": [phase]}
        )


def test_release_refuses_to_keep_a_cancel_date(sandbox: Sandbox) -> None:
    """Sandbox facts 1: `preserve_cancel_date` has no meaning here, so it is refused and not dropped."""
    made = schedule(sandbox, 1000)
    with pytest.raises(stripe.APIError, match="preserve_cancel_date"):
        sandbox.v1.subscription_schedules.release(made.id, {"preserve_cancel_date": True})


def test_default_settings_that_are_not_sent_stay(sandbox: Sandbox) -> None:
    """A hash that is updated changes by its keys; the subscription of the running phase follows. Facts 2.5."""
    made = schedule(sandbox, 1000, default_settings={
        "collection_method": "send_invoice", "invoice_settings": {"days_until_due": 30}, "description": "First",
    })  # fmt: skip
    update = sandbox.v1.subscription_schedules.update
    after = update(made.id, {"default_settings": {"description": "Second"}}).default_settings
    assert (after.collection_method, after.invoice_settings.days_until_due) == ("send_invoice", 30)
    assert after.description == "Second"
    subscription = sandbox.v1.subscriptions.retrieve(made.subscription)
    assert (subscription.description, subscription.days_until_due) == ("Second", 30)
    assert update(made.id, {"default_settings": {"description": ""}}).default_settings.description is None
    assert sandbox.v1.subscriptions.retrieve(made.subscription).description is None


def test_a_schedule_of_a_subscription_keeps_how_it_is_paid_and_described(sandbox: Sandbox) -> None:
    """Facts 2.5: `from_subscription` takes over what is there; the subscription stays what it was."""
    customer = sandbox.customer("pm_card_visa")
    card = sandbox.v1.payment_methods.attach("pm_card_mastercard", {"customer": customer.id})
    price = sandbox.price(1000)
    subscription = sandbox.subscribe(customer, price, description="Ours", default_payment_method=card.id)
    made = sandbox.v1.subscription_schedules.create({"from_subscription": subscription.id})
    assert (made.default_settings.description, made.default_settings.default_payment_method) == ("Ours", card.id)
    phase = {"items": [{"price": price.id, "quantity": 2}], "start_date": made.phases[0].start_date,
             "duration": {"interval": "month"}}  # fmt: skip
    sandbox.v1.subscription_schedules.update(made.id, {"phases": [phase]})
    after = sandbox.v1.subscriptions.retrieve(subscription.id)
    assert (after.description, after.default_payment_method) == ("Ours", card.id)


def test_the_end_of_a_scheduled_subscription_is_set_on_its_schedule(sandbox: Sandbox) -> None:
    """Stripe refuses `cancel_at` and `cancel_at_period_end` while a schedule owns the subscription
    (Nine-Minds/alga-psa#1802); once released it can be ended."""
    made = schedule(sandbox, 1000)
    for change in ({"cancel_at_period_end": True}, {"cancel_at": START + 40 * DAY}):
        with pytest.raises(stripe.InvalidRequestError, match="managed by the subscription schedule"):
            sandbox.v1.subscriptions.update(made.subscription, change)
    sandbox.v1.subscription_schedules.release(made.id)
    assert sandbox.v1.subscriptions.update(made.subscription, {"cancel_at_period_end": True}).cancel_at_period_end


def test_previews_of_phases_that_are_not_there_yet(sandbox: Sandbox) -> None:
    """Facts 3.5: `schedule_details` previews a schedule that would be made, or changed; nothing is left behind."""
    customer, ten, twenty = sandbox.customer("pm_card_visa"), sandbox.price(1000), sandbox.price(2000)
    month = {"interval": "month"}
    made = sandbox.v1.invoices.create_preview({
        "customer": customer.id, "schedule_details": {"phases": [{"items": [{"price": ten.id, "quantity": 3}],
                                                                  "duration": month}]},
    })  # fmt: skip
    assert (made.total, made.id[:12]) == (3000, "upcoming_in_")
    assert sandbox.v1.subscription_schedules.list().data == []

    subscription = sandbox.subscribe(customer, ten)
    schedule = sandbox.v1.subscription_schedules.create({"from_subscription": subscription.id})
    now = {"start_date": START, "items": [{"price": ten.id, "quantity": 1}], "end_date": START + 31 * DAY}
    phases = [now, {"items": [{"price": twenty.id, "quantity": 2}], "duration": month}]
    changed = sandbox.v1.invoices.create_preview({"schedule": schedule.id, "schedule_details": {"phases": phases}})
    assert changed.total == 4000
    assert len(sandbox.v1.subscription_schedules.retrieve(schedule.id).phases) == 1


def test_preview_of_a_resumed_subscription(sandbox: Sandbox) -> None:
    """Facts 3.5: `resume_at=now` shows the invoice of resuming a paused subscription: a whole period from now."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000), 2)
    sandbox.v1.subscriptions.pause(subscription.id)
    sandbox.advance(40 * DAY)
    shown = sandbox.v1.invoices.create_preview({
        "subscription": subscription.id, "subscription_details": {"resume_at": "now"},
    })  # fmt: skip
    assert [(line.amount, line.period.start) for line in shown.lines.data] == [(2000, START + 40 * DAY)]
    assert sandbox.v1.subscriptions.retrieve(subscription.id).status == "paused"


def test_defaults_that_leave_a_phase_without_terms_are_refused(sandbox: Sandbox) -> None:
    """`send_invoice` needs `days_until_due`, also where it comes to the phases as a default. Facts 2.5, 3.2."""
    made = schedule(sandbox, 1000, 2000)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.subscription_schedules.update(made.id, {"default_settings": {"collection_method": "send_invoice"}})
    assert caught.value.code == "parameter_missing"
    terms = {"collection_method": "send_invoice", "invoice_settings": {"days_until_due": 14}}
    sandbox.v1.subscription_schedules.update(made.id, {"default_settings": terms})
    sandbox.advance(32 * DAY)
    latest = sandbox.v1.invoices.list({"limit": 1}).data[0]
    assert latest.due_date == latest.status_transitions.finalized_at + 14 * DAY
