"""Refunds: money back on a charge. They never touch the invoice."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors, pictures
from sync_pipeline.sandbox.stripe.balances import move_money
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.expand import included
from sync_pipeline.sandbox.stripe.listing import embedded
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.payment_methods import behaviour_of
from sync_pipeline.sandbox.stripe.settings import DAY
from sync_pipeline.sandbox.stripe.world import World, timer


@operation("POST /v1/refunds", "amount charge payment_intent metadata reason")
def create_refund(world: World, params: Params, args: list[str]) -> Row:
    if params.get("payment_intent"):
        intent = world.need("payment_intent", params["payment_intent"], "payment_intent")
        charge = world.get("charge", intent.get("latest_charge"))
        if charge is None or not charge["paid"]:
            raise StripeError(f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                              param="payment_intent")  # fmt: skip
    elif params.get("charge"):
        charge = world.need("charge", params["charge"], "charge")
    else:
        raise errors.required("charge")
    return refund(world, charge, params.get("amount"), params)


def refund(world: World, charge: Row, amount: int | None, params: Params) -> Row:
    """Give back `amount` (default: all that is left) of a charge."""
    if not charge["paid"]:
        raise StripeError(f"Charge {charge['id']} has failed; there is nothing to refund.", param="charge")
    if not charge["captured"]:
        if "payment_intent" in charge:
            raise StripeError(f"Charge {charge['id']} is not captured yet: cancel its PaymentIntent instead.",
                              code="payment_intent_unexpected_state", param="charge")  # fmt: skip
        if amount not in (None, charge["amount"]):
            raise StripeError("A charge that is not captured yet can only be refunded in full.", param="amount")
        return let_go(world, charge)
    left = charge["amount"] - charge["amount_refunded"]
    if left <= 0:
        raise StripeError(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if charge["disputed"]:
        raise StripeError(f"Charge {charge['id']} has been charged back; cannot issue a refund.",
                          code="charge_disputed")  # fmt: skip
    amount = left if amount is None else amount
    if amount <= 0:
        raise StripeError("Invalid positive integer", code="parameter_invalid_integer", param="amount")
    if amount > left:
        raise StripeError(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", param="amount",
            code="charge_already_refunded" if left == 0 else None,
        )  # fmt: skip
    later = world.settings.refund_settles_after
    row = _record(world, charge, amount, {
        "metadata": merge_metadata(None, params), "reason": params.get("reason"),
        "status": "pending" if later else "succeeded", "pending_reason": "processing" if later else None,
        "destination_details": {"type": "card", "card": {
            "type": "refund", "reference_type": "acquirer_reference_number", "reference_status": "pending"}},
    })  # fmt: skip
    transaction = move_money(world, row, "refund" if charge["payment_method_details"]["type"] == "card"
                             else "payment_refund", -amount, category="refund")  # fmt: skip
    row = world.update(row, {"balance_transaction": transaction["id"]})
    _count(world, charge, row)
    if later:
        world.set_timer("settle_refund", row["id"], world.now() + later)
    if behaviour_of(world.get("payment_method", charge.get("payment_method"))) == "refund_fails_later":
        world.set_timer("fail_refund", row["id"], world.now() + DAY)
    return row


def let_go(world: World, charge: Row) -> Row:
    """What was held on the card and not captured is the customer's again: a refund that moves no money."""
    row = _record(world, charge, charge["amount"] - charge["amount_captured"], {
        "metadata": {}, "status": "succeeded",
        "destination_details": {"type": "card", "card": {"type": "reversal"}},
    })  # fmt: skip
    world.set_timer("hold_ends", charge["id"], None)
    return _count(world, charge, row)


def _record(world: World, charge: Row, amount: int, fields: Row) -> Row:
    return world.create("refund", {
        "amount": amount, "charge": charge["id"], "currency": charge["currency"],
        "payment_intent": charge.get("payment_intent"), "customer": charge.get("customer"),
        "payment_method": charge.get("payment_method"), **fields,
    })  # fmt: skip


def _count(world: World, charge: Row, row: Row) -> Row:
    """The charge with this refund counted, and both announced; the refund."""
    refunded = charge["amount_refunded"] + row["amount"]
    charge = world.update(charge, {"amount_refunded": refunded, "refunded": refunded == charge["amount"]})
    world.emit("refund.created", row)
    world.emit("charge.refunded", charge)
    return row


@timer("settle_refund")
def settle(world: World, id: str) -> None:
    row = world.get("refund", id)
    if row and row["status"] == "pending":
        _tell(world, row, {"status": "succeeded", "pending_reason": None})


@timer("fail_refund")
def fail_refund(world: World, id: str) -> None:
    """The bank sends the money back: the refund failed, and the charge is not refunded any more."""
    row = world.get("refund", id)
    if row is None or row["status"] not in ("pending", "succeeded"):
        return
    transaction = move_money(world, row, "refund_failure", row["amount"])
    row = _tell(world, row, {
        "status": "failed", "failure_reason": "expired_or_canceled_card", "pending_reason": None,
        "failure_balance_transaction": transaction["id"],
    })  # fmt: skip
    _unrefund(world, row)
    world.emit("refund.failed", row)


def _tell(world: World, row: Row, changes: Row) -> Row:
    """A change of a refund is announced under both of its names."""
    before = pictures.take(world, row)
    row = world.update(row, changes, "refund.updated")
    world.announce("charge.refund.updated", before, row)
    return row


def _unrefund(world: World, row: Row) -> None:
    charge = world.need("charge", row["charge"])
    left = charge["amount_refunded"] - row["amount"]
    world.update(charge, {"amount_refunded": left, "refunded": False}, "charge.updated")


@action("POST /v1/refunds/{refund}", "metadata")
def update_refund(world: World, params: Params, row: Row) -> Row:
    return _tell(world, row, {"metadata": merge_metadata(row, params)})


@action("POST /v1/refunds/{refund}/cancel")
def cancel_refund(world: World, params: Params, row: Row) -> Row:
    if row["status"] not in ("pending", "requires_action"):
        raise StripeError(f"Refunds with status {row['status']} cannot be canceled.", param="refund")
    transaction = move_money(world, row, "refund_failure", row["amount"])
    row = _tell(world, row, {
        "status": "canceled", "pending_reason": None, "failure_balance_transaction": transaction["id"],
    })  # fmt: skip
    _unrefund(world, row)
    return row


@included("charge", "refunds")
def refunds_of_charge(world: World, charge: Row) -> Row:
    return embedded(world, world.find("refund", charge=charge["id"])[::-1], f"/v1/charges/{charge['id']}/refunds")
