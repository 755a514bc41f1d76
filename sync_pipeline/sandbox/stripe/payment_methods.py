"""Payment methods: Stripe's test cards, each with the behaviour that its name promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.world import World

_SUCCEEDS = "succeed"
_ACTION = "action_required"
SUCCEEDING = (_SUCCEEDS, "dispute", "refund_fails_later")
"""The behaviours of cards whose charges go through, whatever comes after."""


@dataclass(frozen=True, slots=True)
class TestCard:
    """`behaviour`: succeed, action_required, or the decline code of its charges. `attaches`: survives attaching."""

    brand: str
    last4: str
    behaviour: str = _SUCCEEDS
    attaches: bool = True
    country: str = "US"
    funding: str = "credit"


_CARDS = {
    "visa": TestCard("visa", "4242"),
    "visa_debit": TestCard("visa", "5556", funding="debit"),
    "mastercard": TestCard("mastercard", "4444"),
    "amex": TestCard("amex", "8431"),
    "discover": TestCard("discover", "9424"),
    "us": TestCard("visa", "4242"),
    "gb": TestCard("visa", "0000", country="GB"),
    "de": TestCard("visa", "0016", country="DE"),
    "fr": TestCard("visa", "0003", country="FR"),
    "chargeCustomerFail": TestCard("visa", "0341", "generic_decline"),
    "visa_chargeDeclined": TestCard("visa", "0002", "generic_decline", attaches=False),
    "chargeDeclined": TestCard("visa", "0002", "generic_decline", attaches=False),
    "chargeDeclinedInsufficientFunds": TestCard("visa", "9995", "insufficient_funds"),
    "visa_chargeDeclinedInsufficientFunds": TestCard("visa", "9995", "insufficient_funds"),
    "chargeDeclinedLostCard": TestCard("visa", "9987", "lost_card", attaches=False),
    "chargeDeclinedStolenCard": TestCard("visa", "9979", "stolen_card", attaches=False),
    "chargeDeclinedExpiredCard": TestCard("visa", "0069", "expired_card", attaches=False),
    "chargeDeclinedIncorrectCvc": TestCard("visa", "0127", "incorrect_cvc", attaches=False),
    "chargeDeclinedProcessingError": TestCard("visa", "0119", "processing_error", attaches=False),
    "chargeDeclinedFraudulent": TestCard("visa", "0019", "fraudulent", attaches=False),
    "authenticationRequired": TestCard("visa", "3184", _ACTION),
    "authenticationRequiredOnSetup": TestCard("visa", "3155"),
    "threeDSecure2Required": TestCard("visa", "3220", _ACTION),
    "createDispute": TestCard("visa", "0259", "dispute"),
    "refundFail": TestCard("visa", "5126", "refund_fails_later"),
}
_NUMBERS = {
    "4242424242424242": "visa", "5555555555554444": "mastercard", "378282246310005": "amex",
    "4000000000000341": "chargeCustomerFail", "4000000000000002": "chargeDeclined",
    "4000000000009995": "chargeDeclinedInsufficientFunds", "4000002500003155": "authenticationRequiredOnSetup",
    "4000002760003184": "authenticationRequired", "4000000000003220": "threeDSecure2Required",
    "4000000000000259": "createDispute", "4000000000005126": "refundFail",
}  # fmt: skip


def behaviour_of(method: Row | None) -> str:
    return method.get("_behaviour", _SUCCEEDS) if method else _SUCCEEDS


def allowed_types(params: Params) -> Row:
    """By which kinds of payment method a payment or a setup may be made, if the call says so: cards among them."""
    types = params.get("allowed_payment_method_types")
    if not types:
        return {}
    if "card" not in types:
        raise errors.unsupported(f"payment methods of type {', '.join(types)}", "allowed_payment_method_types")
    return {"allowed_payment_method_types": types, "payment_method_types": types}


def resolve(world: World, id: str, param: str) -> Row:
    """A payment method by id. The ids of test cards (pm_card_visa) make a new one each time they are used."""
    card = _CARDS.get(id.removeprefix("pm_card_")) if id.startswith("pm_card_") else None
    if card:
        return _create_card(world, card, {})
    return world.need("payment_method", id, param)


def of_token(world: World, token: str, param: str) -> Row:
    """The card that a test token (tok_visa) stands for."""
    card = _CARDS.get(token.removeprefix("tok_")) if token.startswith("tok_") else None
    if card is None:
        raise errors.missing("token", token, param)
    return _create_card(world, card, {})


def _create_card(world: World, card: TestCard, fields: Row) -> Row:
    return world.create("payment_method", {
        "allow_redisplay": "unspecified",
        "billing_details": {"address": {}, "email": None, "name": None, "phone": None, "tax_id": None},
        "card": {
            "brand": card.brand, "checks": {"address_line1_check": None, "address_postal_code_check": None,
                                            "cvc_check": "unchecked"},
            "country": card.country, "display_brand": card.brand, "exp_month": 12, "exp_year": 2034,
            "fingerprint": world.token(card.brand + card.last4, 16), "funding": card.funding, "generated_from": None,
            "last4": card.last4, "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated", "three_d_secure_usage": {"supported": True}, "wallet": None,
        },
        "metadata": {}, "type": "card", "_behaviour": card.behaviour, "_attaches": card.attaches, **fields,
    })  # fmt: skip


def attach(world: World, id: str, customer: Row, param: str) -> Row:
    method = resolve(world, id, param)
    if method.get("customer") == customer["id"]:
        return method
    if "customer" in method:
        raise StripeError(
            "The payment method you provided has already been attached to a customer.",
            code="payment_method_unexpected_state", param=param,
        )  # fmt: skip
    if not method["_attaches"]:
        raise card_error(method["_behaviour"])
    method = world.update(method, {"customer": customer["id"]})
    world.emit("payment_method.attached", method)
    return method


_MESSAGES = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}
_OWN_CODE = ("expired_card", "incorrect_cvc", "processing_error")


def decline(code: str) -> Row:
    """The fields by which a card's refusal is told: code, decline_code, message."""
    return {
        "code": code if code in _OWN_CODE else "card_declined",
        "decline_code": code,
        "message": _MESSAGES.get(code, "Your card was declined."),
    }


def card_error(code: str, *, commits: bool = False, **extra: Any) -> StripeError:
    told = decline(code)
    return StripeError(told["message"], code=told["code"], status=402, type="card_error", commits=commits,
                       decline_code=told["decline_code"], **extra)  # fmt: skip


@operation(
    "POST /v1/payment_methods",
    "type card.number card.exp_month card.exp_year card.cvc card.token billing_details metadata allow_redisplay",
)
def create_method(world: World, params: Params, args: list[str]) -> Row:
    if params.get("type") != "card":
        raise errors.unsupported(f"payment methods of type {params.get('type')}", "type")
    card = params.get("card") or {}
    name = card["token"].removeprefix("tok_") if "token" in card else _NUMBERS.get(card.get("number", ""), "")
    if name not in _CARDS:
        raise StripeError("Your card number is incorrect.", code="incorrect_number", status=402, type="card_error",
                          param="card[number]")  # fmt: skip
    fields: Row = {"metadata": merge_metadata(None, params)}
    if "billing_details" in params:
        fields["billing_details"] = params["billing_details"]
    return _create_card(world, _CARDS[name], fields)


@action("POST /v1/payment_methods/{payment_method}", "metadata billing_details allow_redisplay")
def update_method(world: World, params: Params, row: Row) -> Row:
    changes: Row = {"metadata": merge_metadata(row, params)}
    if params.get("billing_details"):
        changes["billing_details"] = {**row["billing_details"], **params["billing_details"]}
    if "allow_redisplay" in params:
        changes["allow_redisplay"] = params["allow_redisplay"]
    return world.update(row, changes, "payment_method.updated")


@operation("POST /v1/payment_methods/{payment_method}/attach", "customer")
def attach_method(world: World, params: Params, args: list[str]) -> Row:
    if not params.get("customer"):
        raise errors.required("customer")
    customer = world.need("customer", params["customer"], "customer")
    return attach(world, args[0], customer, "payment_method")


@action("POST /v1/payment_methods/{payment_method}/detach")
def detach_method(world: World, params: Params, row: Row) -> Row:
    if "customer" not in row:
        raise StripeError("The payment method you provided is not attached to a customer so detachment is impossible.",
                          code="payment_method_unexpected_state", param="payment_method")  # fmt: skip
    customer = world.get("customer", row["customer"])
    if customer and customer["invoice_settings"].get("default_payment_method") == row["id"]:
        settings = {k: v for k, v in customer["invoice_settings"].items() if k != "default_payment_method"}
        world.update(customer, {"invoice_settings": settings}, "customer.updated")
    row = world.update(row, {"customer": None})
    world.emit("payment_method.detached", row)
    return row


@operation("GET /v1/payment_methods/{payment_method}")
def get_method(world: World, params: Params, args: list[str]) -> Row:
    return resolve(world, args[0], "payment_method")
