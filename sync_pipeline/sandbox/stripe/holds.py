"""Money that is held on a card first and captured later, of intents (`capture_method=manual`) and of plain charges.

A hold lasts seven days. What is not captured of it is let go: by the capture of a part, by cancelling, or by time.
"""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors, payments, refunds
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.settings import DAY
from sync_pipeline.sandbox.stripe.world import World, timer

_LASTS = 7 * DAY
_STATEMENT = "statement_descriptor statement_descriptor_suffix"


def hold(world: World, paying: Row, method: Row) -> Row:
    """A charge that is authorised and no more. `paying`: an intent, or the same fields without id."""
    until = world.now() + _LASTS
    charge = payments.create_charge(world, paying, method, paying.get("description"), paid=True)
    details = charge["payment_method_details"]
    charge = world.update(charge, {
        "captured": False, "amount_captured": 0,
        "payment_method_details": {**details, "card": {**details["card"], "capture_before": until}},
    })  # fmt: skip
    world.set_timer("hold_ends", charge["id"], until)
    world.emit("charge.succeeded", charge)
    return charge


def hold_for(world: World, intent: Row, method: Row) -> Row:
    """The intent whose money is held now."""
    charge = hold(world, intent, method)
    intent = world.update(intent, {
        "status": "requires_capture", "amount_capturable": charge["amount"], "latest_charge": charge["id"],
        "payment_method": method["id"], "last_payment_error": None, "next_action": None,
    })  # fmt: skip
    world.emit("payment_intent.amount_capturable_updated", intent)
    return intent


@action("POST /v1/payment_intents/{intent}/capture", f"amount_to_capture final_capture metadata {_STATEMENT}")
def capture_intent(world: World, params: Params, intent: Row) -> Row:
    if intent["status"] != "requires_capture":
        raise StripeError(
            f"This PaymentIntent could not be captured because it has a status of {intent['status']}. Only a "
            "PaymentIntent with one of the following statuses may be captured: requires_capture.",
            code="payment_intent_unexpected_state", param="intent",
        )  # fmt: skip
    if params.get("final_capture") is False:
        raise errors.unsupported("captures in several parts", "final_capture")
    charge = world.need("charge", intent["latest_charge"])
    charge = _capture(world, charge, params.get("amount_to_capture"), "amount_to_capture")
    intent = world.update(intent, {
        "status": "succeeded", "amount_received": charge["amount_captured"], "amount_capturable": 0,
        "metadata": merge_metadata(intent, params), **pick(params, _STATEMENT),
    })  # fmt: skip
    world.emit("payment_intent.succeeded", intent)
    for payment in world.find("invoice_payment", _payment=intent["id"]):
        if payment["status"] == "open":
            payments.count_attached(world, payment)
    return intent


@action("POST /v1/charges/{charge}/capture", f"amount receipt_email transfer_group {_STATEMENT}")
def capture_charge(world: World, params: Params, charge: Row) -> Row:
    if "payment_intent" in charge:
        raise StripeError(
            f"This charge belongs to the PaymentIntent {charge['payment_intent']}: capture that instead.",
            code="payment_intent_unexpected_state", param="charge",
        )  # fmt: skip
    if charge["captured"]:
        raise StripeError(f"Charge {charge['id']} has already been captured.", code="charge_already_captured")
    if not charge["paid"] or charge["refunded"]:
        raise StripeError(f"Charge {charge['id']} holds no money that could be captured.", param="charge")
    charge = _capture(world, charge, params.get("amount"), "amount")
    return world.update(charge, pick(params, f"receipt_email transfer_group {_STATEMENT}"))


def _capture(world: World, charge: Row, amount: int | None, param: str) -> Row:
    amount = charge["amount"] if amount is None else amount
    if amount <= 0:
        raise StripeError("Invalid positive integer", code="parameter_invalid_integer", param=param)
    if amount > charge["amount"]:
        raise StripeError(f"The amount to capture ({amount}) is greater than what is held ({charge['amount']}).",
                          code="amount_too_large", param=param)  # fmt: skip
    charge = payments.book(world, world.update(charge, {"captured": True, "amount_captured": amount}))
    world.set_timer("hold_ends", charge["id"], None)
    world.emit("charge.captured", charge)
    if amount < charge["amount"]:
        refunds.let_go(world, charge)
    return world.need("charge", charge["id"])


def let_go_of(world: World, intent: Row) -> Row:
    """The intent without the money that was held for it."""
    refunds.let_go(world, world.need("charge", intent["latest_charge"]))
    return world.update(intent, {"amount_capturable": 0})


@timer("hold_ends")
def end_hold(world: World, charge_id: str) -> None:
    """Nobody captured it in time: the charge expires, and its intent is cancelled with it."""
    charge = world.need("charge", charge_id)
    refunds.let_go(world, charge)
    world.emit("charge.expired", world.need("charge", charge_id))
    intent = world.get("payment_intent", charge.get("payment_intent"))
    if intent:
        intent = world.update(intent, {
            "status": "canceled", "canceled_at": world.now(), "cancellation_reason": "automatic",
            "amount_capturable": 0,
        })  # fmt: skip
        world.emit("payment_intent.canceled", intent)
