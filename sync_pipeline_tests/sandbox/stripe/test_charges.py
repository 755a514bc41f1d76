"""Charges without an intent, as clients of old still make them, and money that is held first and captured later."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, Sandbox


def test_a_charge_of_a_cards_token_is_money_and_can_be_given_back(sandbox: Sandbox) -> None:
    """Sandbox facts 3: `charges`. It has no intent; it moves money, is listed, and is refunded by its own id."""
    charge = sandbox.v1.charges.create({
        "amount": 1000, "currency": "gbp", "source": "tok_visa", "description": "Setup", "metadata": {"deal": "006"},
    })  # fmt: skip
    assert (charge.status, charge.paid, charge.amount_captured, charge.payment_intent) == (
        "succeeded",
        True,
        1000,
        None,
    )
    assert (charge.payment_method_details.card.last4, charge.description, charge.metadata["deal"]) == (
        "4242", "Setup", "006",
    )  # fmt: skip
    # 1.5 % of 1000 and 20 are 35.
    assert sandbox.v1.balance_transactions.retrieve(charge.balance_transaction).net == 965
    assert [each.id for each in sandbox.v1.charges.list().data] == [charge.id]
    assert sandbox.v1.refunds.create({"charge": charge.id}).payment_intent is None
    assert sandbox.v1.charges.retrieve(charge.id).refunded
    assert sandbox.event_types() == ["charge.succeeded", "refund.created", "charge.refunded"]
    assert sandbox.v1.payment_intents.list().data == []


def test_a_declined_token_leaves_a_failed_charge(sandbox: Sandbox) -> None:
    """Facts 5.2: 402 with the code and the decline code; the charge that failed is named and stays on record."""
    with pytest.raises(stripe.CardError) as caught:
        sandbox.v1.charges.create({"amount": 1000, "currency": "gbp", "source": "tok_chargeDeclinedInsufficientFunds"})
    told: Any = caught.value.error
    assert (told.code, told.decline_code) == ("card_declined", "insufficient_funds")
    failed = sandbox.v1.charges.retrieve(told.charge)
    assert (failed.status, failed.paid, failed.failure_code) == ("failed", False, "card_declined")
    assert sandbox.v1.balance_transactions.list().data == []


@pytest.mark.parametrize(
    ("given", "status", "param"),
    [
        ({"currency": "gbp", "source": "tok_visa"}, 400, "amount"),
        ({"amount": 10, "currency": "gbp", "source": "tok_visa"}, 400, "amount"),
        ({"amount": 1000, "currency": "gbp", "source": "tok_unknown"}, 400, "source"),
        ({"amount": 1000, "currency": "gbp"}, 400, None),
        ({"amount": 1000, "currency": "gbp", "customer": "cus_1"}, 501, "customer"),
    ],
)
def test_what_no_charge_can_be_made_of(sandbox: Sandbox, given: dict[str, Any], status: int, param: str | None) -> None:
    """Facts 5.2: a refusal names the parameter. Sandbox facts 1: 501 for what is not imitated."""
    with pytest.raises(stripe.StripeError) as caught:
        sandbox.v1.charges.create(given)
    assert caught.value.http_status == status
    body: Any = caught.value.json_body
    assert body["error"].get("param") == param


def held(sandbox: Sandbox, **fields: Any) -> Any:
    return sandbox.v1.payment_intents.create({
        "amount": 1000, "currency": "gbp", "payment_method": "pm_card_visa", "capture_method": "manual",
        "confirm": True, "allowed_payment_method_types": ["card"], **fields,
    })  # fmt: skip


def test_money_is_held_and_a_part_of_it_captured(sandbox: Sandbox) -> None:
    """Facts 2.7: amount_capturable, then amount_received. The contract on capturing: it may be less than was held."""
    intent = held(sandbox)
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("requires_capture", 1000, 0)
    assert intent.payment_method_types == ["card"]
    charge = sandbox.v1.charges.retrieve(intent.latest_charge)
    assert (charge.captured, charge.amount_captured, charge.paid, charge.balance_transaction) == (False, 0, True, None)
    assert charge.payment_method_details.card.capture_before == sandbox.clock.now() + 7 * DAY
    assert sandbox.v1.balance_transactions.list().data == []
    done = sandbox.v1.payment_intents.capture(intent.id, {"amount_to_capture": 400})
    assert (done.status, done.amount, done.amount_capturable, done.amount_received) == ("succeeded", 1000, 0, 400)
    charge = sandbox.v1.charges.retrieve(intent.latest_charge, {"expand": ["balance_transaction", "refunds"]})
    assert (charge.captured, charge.amount_captured, charge.amount_refunded, charge.refunded) == (True, 400, 600, False)
    # 1.5 % of 400 and 20 are 26. What was let go had never moved.
    assert (charge.balance_transaction.amount, charge.balance_transaction.fee) == (400, 26)
    assert [(r.amount, r.balance_transaction) for r in charge.refunds.data] == [(600, None)]
    assert sandbox.event_types() == [
        "payment_intent.created", "charge.succeeded", "payment_intent.amount_capturable_updated",
        "charge.captured", "refund.created", "charge.refunded", "payment_intent.succeeded",
    ]  # fmt: skip
    assert sandbox.v1.refunds.create({"payment_intent": intent.id}).amount == 400
    assert sandbox.v1.charges.retrieve(intent.latest_charge).refunded
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.payment_intents.capture(intent.id)
    assert caught.value.code == "payment_intent_unexpected_state"


@pytest.mark.parametrize("by", ["cancelling", "time"])
def test_what_is_held_is_let_go(sandbox: Sandbox, by: str) -> None:
    """The contract on cancelling: the rest of amount_capturable is refunded. On capturing: after 7 days, by itself."""
    intent = held(sandbox)
    if by == "cancelling":
        intent = sandbox.v1.payment_intents.cancel(intent.id)
    else:
        sandbox.advance(7 * DAY - 1)
        assert sandbox.v1.payment_intents.retrieve(intent.id).status == "requires_capture"
        sandbox.advance(1)
        intent = sandbox.v1.payment_intents.retrieve(intent.id)
        assert intent.cancellation_reason == "automatic"
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("canceled", 0, 0)
    charge = sandbox.v1.charges.retrieve(intent.latest_charge)
    assert (charge.captured, charge.amount_refunded, charge.refunded) == (False, 1000, True)
    assert sandbox.v1.balance_transactions.list().data == []
    expired = [] if by == "cancelling" else ["charge.expired"]
    assert sandbox.event_types()[3:] == ["refund.created", "charge.refunded", *expired, "payment_intent.canceled"]
    sandbox.advance(8 * DAY)
    assert len(sandbox.event_types()) == 6 + len(expired)


@pytest.mark.parametrize(
    ("given", "status", "param"),
    [
        ({"amount_to_capture": 1001}, 400, "amount_to_capture"),
        ({"amount_to_capture": 0}, 400, "amount_to_capture"),
        ({"final_capture": False}, 501, "final_capture"),
        ({"amount": 100}, 400, "amount"),
    ],
)
def test_what_cannot_be_captured(sandbox: Sandbox, given: dict[str, Any], status: int, param: str) -> None:
    """Facts 5.2: a refusal names the parameter, and changes nothing. Sandbox facts 1: 501 for several captures."""
    intent = held(sandbox)
    with pytest.raises(stripe.StripeError) as caught:
        sandbox.v1.payment_intents.capture(intent.id, given)
    body: Any = caught.value.json_body
    assert (caught.value.http_status, body["error"]["param"]) == (status, param)
    assert sandbox.v1.payment_intents.retrieve(intent.id).amount_capturable == 1000


def test_a_held_intent_is_captured_or_cancelled_and_nothing_else(sandbox: Sandbox) -> None:
    """Facts 2.7: money that is held is no money yet; a refund of it, and another amount, are refused."""
    intent = held(sandbox)
    for service, call, *arguments in (
        ("refunds", "create", {"payment_intent": intent.id}),
        ("payment_intents", "update", intent.id, {"amount": 2000}),
        ("payment_intents", "confirm", intent.id),
        ("charges", "capture", intent.latest_charge),
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            getattr(getattr(sandbox.v1, service), call)(*arguments)
        assert caught.value.code == "payment_intent_unexpected_state"
    assert sandbox.v1.payment_intents.update(intent.id, {"metadata": {"a": "b"}}).metadata["a"] == "b"


def test_a_plain_charge_is_held_captured_or_refunded(sandbox: Sandbox) -> None:
    """The contract on capturing a charge that was made with `capture=false`."""
    made = {"amount": 1000, "currency": "gbp", "source": "tok_visa", "capture": False}
    kept, given_back = sandbox.v1.charges.create(made), sandbox.v1.charges.create(made)
    assert (kept.captured, kept.balance_transaction) == (False, None)
    assert sandbox.v1.charges.capture(kept.id).amount_captured == 1000
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.charges.capture(kept.id)
    assert caught.value.code == "charge_already_captured"
    assert sandbox.v1.refunds.create({"charge": given_back.id}).balance_transaction is None
    assert sandbox.v1.charges.retrieve(given_back.id).refunded
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.charges.capture(given_back.id)


def test_kinds_of_payment_method_that_a_setup_may_use(sandbox: Sandbox) -> None:
    """The contract: allowed_payment_method_types. Sandbox facts 1: without cards among them, 501."""
    allowed = {"allowed_payment_method_types": ["card", "sepa_debit"]}
    setup = sandbox.v1.setup_intents.create({"customer": sandbox.customer().id, **allowed})
    assert setup.payment_method_types == ["card", "sepa_debit"]
    changed = sandbox.v1.setup_intents.update(setup.id, {"payment_method": "pm_card_visa", "description": "mandate"})
    assert (changed.status, changed.description) == ("requires_confirmation", "mandate")
    assert sandbox.v1.setup_intents.confirm(setup.id).status == "succeeded"
    with pytest.raises(stripe.APIError) as caught:
        sandbox.v1.setup_intents.create({"allowed_payment_method_types": ["sepa_debit"]})
    assert caught.value.http_status == 501
