"""Charges by themselves: made from a card's token, as clients did before there were intents, and changed.

One of a customer's saved source is refused with 501.
"""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors, holds, payments
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.payment_intents import checked_amount
from sync_pipeline.sandbox.stripe.payment_methods import SUCCEEDING, behaviour_of, card_error, decline, of_token
from sync_pipeline.sandbox.stripe.world import World

_PLAIN = "receipt_email shipping statement_descriptor statement_descriptor_suffix transfer_group"


@operation("POST /v1/charges", f"amount currency source capture description metadata {_PLAIN}")
def create_charge(world: World, params: Params, args: list[str]) -> Row:
    for name in ("amount", "currency"):
        if name not in params:
            raise errors.required(name)
    amount, currency = checked_amount(params)
    if not params.get("source"):
        raise StripeError("Must provide source or customer.", code="parameter_missing")
    method = of_token(world, params["source"], "source")
    paying = {"amount": amount, "currency": currency, "metadata": merge_metadata(None, params),
              **pick(params, "description")}  # fmt: skip
    outcome = behaviour_of(method)
    if outcome in SUCCEEDING:
        if params.get("capture") is False:
            charge = holds.hold(world, paying, method)
        else:
            charge = payments.take_money(world, paying, method, params.get("description"))
        return world.update(charge, pick(params, _PLAIN))
    # Without an intent nobody can be asked: a card that wants its holder is declined.
    code = "authentication_required" if outcome == "action_required" else outcome
    charge = payments.take_no_money(world, paying, method, decline(code))
    raise card_error(code, commits=True, charge=charge["id"])


@action("POST /v1/charges/{charge}", "description metadata receipt_email customer fraud_details")
def update_charge(world: World, params: Params, charge: Row) -> Row:
    changes = pick(params, "description receipt_email customer")
    if params.get("fraud_details"):
        changes["fraud_details"] = {k: v for k, v in params["fraud_details"].items() if v is not None}
    return world.update(charge, changes | {"metadata": merge_metadata(charge, params)}, "charge.updated")
