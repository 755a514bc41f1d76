"""What a call names must be there, and belong together: one check for all operations."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.world import World

_NAMED = ("customer", "subscription", "invoice", "charge", "payment_intent")


def check_named(world: World, params: Params) -> None:
    """Raises StripeError for a parameter that names nothing, or something of another customer than the call's."""
    named = {name: world.need(name, params[name], name) for name in _NAMED if isinstance(params.get(name), str)}
    if "customer" not in named:
        return
    for name, row in named.items():
        if row.get("customer", params["customer"]) != params["customer"]:
            raise StripeError(f"The {name} `{row['id']}` belongs to another customer.", param=name)


def check_default_method(world: World, id: str | None, customer: Row, param: str) -> None:
    """A default payment method is one of the customer's own."""
    method = world.get("payment_method", id)
    if id and (method is None or method.get("customer") != customer["id"]):
        raise errors.missing("PaymentMethod", id, param)


def check_usable(method: Row | None, customer_id: str | None) -> None:
    """A payment method that somebody has pays for nobody else."""
    if method is not None and method.get("customer") not in (None, customer_id):
        raise StripeError(
            f"The payment method supplied ({method['id']}) belongs to a different Customer, {method['customer']}.",
            param="payment_method",
        )  # fmt: skip
