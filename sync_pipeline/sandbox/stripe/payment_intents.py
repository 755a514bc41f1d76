"""Payment intents by themselves: create, confirm, cancel. What they hold to capture later is `holds`."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors, holds, payments
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.money import check_currency, check_largest, check_step, minimum_charge
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.payment_methods import (
    SUCCEEDING,
    allowed_types,
    behaviour_of,
    card_error,
    decline,
    resolve,
)
from sync_pipeline.sandbox.stripe.references import check_usable
from sync_pipeline.sandbox.stripe.world import World

_PLAIN = "description receipt_email setup_future_usage statement_descriptor statement_descriptor_suffix shipping"
_PLAIN += " transfer_group"
_WAYS = "capture_method allowed_payment_method_types"
_CONFIRM = f"payment_method off_session return_url error_on_requires_action {_WAYS}"
_SETTLED = ("requires_capture", "succeeded", "canceled")


def checked_amount(params: Params) -> tuple[int, str]:
    """Amount and currency of what is to be paid. Raises StripeError for what no payment can be."""
    currency = check_currency(params["currency"])
    amount: int = params["amount"]
    if amount < max(1, minimum_charge(currency)):
        raise StripeError("Amount must be at least the minimum charge of this currency.", code="amount_too_small",
                          param="amount")  # fmt: skip
    check_largest(amount, currency, "amount")
    check_step(amount, currency, "amount")
    return amount, currency


@operation(
    "POST /v1/payment_intents",
    f"amount currency customer confirm metadata automatic_payment_methods {_CONFIRM} {_PLAIN}",
)
def create_intent(world: World, params: Params, args: list[str]) -> Row:
    amount, currency = checked_amount(params)
    method = _method(world, params)
    intent = payments.create_intent(world, amount, currency, params.get("customer"), {
        **pick(params, f"automatic_payment_methods {_PLAIN}"), "capture_method": "automatic_async",
        **_ways(params),
        "metadata": merge_metadata(None, params), "payment_method": method["id"] if method else None,
        "status": "requires_confirmation" if method else "requires_payment_method",
    })  # fmt: skip
    if params.get("confirm"):
        return _confirm(world, intent, method)
    return intent


def _ways(params: Params) -> Row:
    """How the money may come, and when it is taken: at once, or held first."""
    return pick(params, "capture_method") | allowed_types(params)


def _method(world: World, params: Params) -> Row | None:
    return resolve(world, params["payment_method"], "payment_method") if params.get("payment_method") else None


@action("POST /v1/payment_intents/{intent}", f"amount metadata customer payment_method {_WAYS} {_PLAIN}")
def update_intent(world: World, params: Params, intent: Row) -> Row:
    if intent["status"] in _SETTLED and params.keys() - {"metadata", "description", "expand"}:
        raise _unexpected(intent, "updated")
    if "amount" in params:
        check_step(params["amount"], intent["currency"], "amount")
    changes = pick(params, f"amount customer {_PLAIN}") | _ways(params) | {"metadata": merge_metadata(intent, params)}
    method = _method(world, params)
    if method:
        changes |= {"payment_method": method["id"], "status": "requires_confirmation"}
    return world.update(intent, changes)


@action("POST /v1/payment_intents/{intent}/confirm", _CONFIRM)
def confirm_intent(world: World, params: Params, intent: Row) -> Row:
    if intent["status"] in _SETTLED:
        raise _unexpected(intent, "confirmed")
    method = _method(world, params) or world.get("payment_method", intent.get("payment_method"))
    return _confirm(world, world.update(intent, _ways(params)), method)


def _confirm(world: World, intent: Row, method: Row | None) -> Row:
    """Charge now. The intent of an invoice is collected as the invoice's payment."""
    if method is None:
        raise errors.required("payment_method")
    check_usable(method, intent.get("customer"))
    for payment in world.find("invoice_payment", _payment=intent["id"]):
        if payment["is_default"] and payment["status"] == "open":
            invoice = payments.attempt(world, world.need("invoice", payment["invoice"]), method, automatic=False)
            after = world.need("payment_intent", intent["id"])
            if invoice["status"] != "paid" and after["status"] == "requires_payment_method":
                raise _refused(world, after)
            return after
    planned = payments.planned_outcome(world, intent["customer"]) if "customer" in intent else None
    outcome = planned or behaviour_of(method)
    if outcome == "action_required":
        intent = world.update(intent, {
            "status": "requires_action", "payment_method": method["id"],
            "next_action": {"type": "use_stripe_sdk", "use_stripe_sdk": {}},
        })  # fmt: skip
        world.emit("payment_intent.requires_action", intent)
        return intent
    if outcome not in SUCCEEDING:
        payments.refuse_charge(world, intent, method, {**decline(outcome), "type": "card_error"})
        raise _refused(world, world.need("payment_intent", intent["id"]))
    if intent["capture_method"] == "manual":
        return holds.hold_for(world, intent, method)
    payments.charge_intent(world, intent, method, intent.get("description"))
    for payment in world.find("invoice_payment", _payment=intent["id"]):
        if payment["status"] == "open":
            payments.count_attached(world, payment)
    return world.need("payment_intent", intent["id"])


def _refused(world: World, intent: Row) -> StripeError:
    told = intent["last_payment_error"]
    return card_error(told["decline_code"], commits=True, charge=told["charge"], payment_intent=world.render(intent))


@action("POST /v1/payment_intents/{intent}/cancel", "cancellation_reason")
def cancel_intent(world: World, params: Params, intent: Row) -> Row:
    if intent["status"] in ("succeeded", "canceled"):
        raise _unexpected(intent, "canceled")
    if any(p["is_default"] and p["status"] == "open" for p in world.find("invoice_payment", _payment=intent["id"])):
        raise StripeError("You cannot cancel the PaymentIntent of an open invoice: void the invoice instead.",
                          code="payment_intent_unexpected_state", param="intent")  # fmt: skip
    if intent["status"] == "requires_capture":
        intent = holds.let_go_of(world, intent)
    intent = world.update(intent, {
        "status": "canceled", "canceled_at": world.now(), **pick(params, "cancellation_reason"),
    })  # fmt: skip
    world.emit("payment_intent.canceled", intent)
    return intent


def _unexpected(intent: Row, verb: str) -> StripeError:
    return StripeError(
        f"This PaymentIntent could not be {verb} because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state", param="intent",
    )  # fmt: skip
