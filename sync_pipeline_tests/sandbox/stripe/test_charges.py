"""Charges without an intent, as clients of old still make them."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import Sandbox


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
        ({"amount": 1000, "currency": "gbp", "source": "tok_visa", "capture": False}, 501, "capture"),
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
