"""Setup intents: a payment method is made ready for later, without a charge."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.errors import StripeError, required
from sync_pipeline.sandbox.stripe.operations import merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.payment_methods import attach, card_error, resolve
from sync_pipeline.sandbox.stripe.world import World


@operation(
    "POST /v1/setup_intents",
    "customer payment_method confirm usage description metadata automatic_payment_methods return_url",
)
def create_setup(world: World, params: Params, args: list[str]) -> Row:
    if params.get("customer"):
        world.need("customer", params["customer"], "customer")
    method = resolve(world, params["payment_method"], "payment_method") if params.get("payment_method") else None
    id = world.new_id("seti_")
    row = world.create("setup_intent", {
        **pick(params, "customer description automatic_payment_methods"),
        "client_secret": f"{id}_secret_{world.token(id, 24)}", "metadata": merge_metadata(None, params),
        "payment_method": method["id"] if method else None, "payment_method_options": {},
        "payment_method_types": ["card"],
        "status": "requires_confirmation" if method else "requires_payment_method",
        "usage": params.get("usage", "off_session"),
    }, id=id, event="setup_intent.created")  # fmt: skip
    return _confirm(world, row) if params.get("confirm") else row


@operation("POST /v1/setup_intents/{intent}/confirm", "payment_method return_url")
def confirm_setup(world: World, params: Params, args: list[str]) -> Row:
    row = world.need("setup_intent", args[0], "intent", 404)
    if row["status"] in ("succeeded", "canceled"):
        raise _unexpected(row, "confirmed")
    if params.get("payment_method"):
        method = resolve(world, params["payment_method"], "payment_method")
        row = world.update(row, {"payment_method": method["id"]})
    return _confirm(world, row)


def _confirm(world: World, row: Row) -> Row:
    method = world.get("payment_method", row.get("payment_method"))
    if method is None:
        raise required("payment_method")
    if not method["_attaches"]:
        raise card_error(method["_behaviour"])
    if "customer" in row:
        attach(world, method["id"], world.need("customer", row["customer"]), "payment_method")
    row = world.update(row, {"status": "succeeded"})
    world.emit("setup_intent.succeeded", row)
    return row


@operation("POST /v1/setup_intents/{intent}/cancel", "cancellation_reason")
def cancel_setup(world: World, params: Params, args: list[str]) -> Row:
    row = world.need("setup_intent", args[0], "intent", 404)
    if row["status"] in ("succeeded", "canceled"):
        raise _unexpected(row, "canceled")
    row = world.update(row, {"status": "canceled", **pick(params, "cancellation_reason")})
    world.emit("setup_intent.canceled", row)
    return row


def _unexpected(row: Row, verb: str) -> StripeError:
    return StripeError(f"This SetupIntent cannot be {verb} because it has a status of {row['status']}.",
                       code="setup_intent_unexpected_state", param="intent")  # fmt: skip
