"""Setup intents: a payment method is made ready for later, without a charge."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.errors import StripeError, required
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.payment_methods import allowed_types, attach, card_error, resolve
from sync_pipeline.sandbox.stripe.world import World


@operation(
    "POST /v1/setup_intents",
    "customer payment_method confirm usage description metadata automatic_payment_methods return_url"
    " allowed_payment_method_types",
)
def create_setup(world: World, params: Params, args: list[str]) -> Row:
    id = world.new_id("seti_")
    row = world.create("setup_intent", {
        **pick(params, "customer description automatic_payment_methods"),
        "client_secret": f"{id}_secret_{world.token(id, 24)}", "metadata": merge_metadata(None, params),
        "payment_method_options": {}, "status": "requires_payment_method", **_method(world, params),
        "payment_method_types": ["card"], **allowed_types(params),
        "usage": params.get("usage", "off_session"),
    }, id=id, event="setup_intent.created")  # fmt: skip
    return _confirm(world, row) if params.get("confirm") else row


@action("POST /v1/setup_intents/{intent}", "customer payment_method description metadata allowed_payment_method_types")
def update_setup(world: World, params: Params, row: Row) -> Row:
    _check_open(row, "updated")
    return world.update(row, _method(world, params) | allowed_types(params) | pick(params, "customer description") | {
        "metadata": merge_metadata(row, params),
    })  # fmt: skip


def _method(world: World, params: Params) -> Row:
    """What changes with the payment method that a call names, if it names one."""
    if not params.get("payment_method"):
        return {}
    method = resolve(world, params["payment_method"], "payment_method")
    return {"payment_method": method["id"], "status": "requires_confirmation"}


@action("POST /v1/setup_intents/{intent}/confirm", "payment_method return_url allowed_payment_method_types")
def confirm_setup(world: World, params: Params, row: Row) -> Row:
    _check_open(row, "confirmed")
    return _confirm(world, world.update(row, _method(world, params) | allowed_types(params)))


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


@action("POST /v1/setup_intents/{intent}/cancel", "cancellation_reason")
def cancel_setup(world: World, params: Params, row: Row) -> Row:
    _check_open(row, "canceled")
    row = world.update(row, {"status": "canceled", **pick(params, "cancellation_reason")})
    world.emit("setup_intent.canceled", row)
    return row


def _check_open(row: Row, verb: str) -> None:
    if row["status"] in ("succeeded", "canceled"):
        raise StripeError(f"This SetupIntent cannot be {verb} because it has a status of {row['status']}.",
                          code="setup_intent_unexpected_state", param="intent")  # fmt: skip
