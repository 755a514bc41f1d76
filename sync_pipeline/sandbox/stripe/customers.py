"""Customers: who pays. Their tax ids, payment methods and balance have modules of their own."""

from __future__ import annotations

import re

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.balances import adjust_balance
from sync_pipeline.sandbox.stripe.dunning import forget
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.expand import included
from sync_pipeline.sandbox.stripe.listing import embedded
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.payment_methods import attach
from sync_pipeline.sandbox.stripe.references import check_default_method
from sync_pipeline.sandbox.stripe.schedules import call_off
from sync_pipeline.sandbox.stripe.subscriptions import cancel_now
from sync_pipeline.sandbox.stripe.tax_ids import create_tax_id
from sync_pipeline.sandbox.stripe.test_clocks import adopt
from sync_pipeline.sandbox.stripe.world import World

_PLAIN = (
    "address business_name description email individual_name invoice_prefix name next_invoice_sequence phone"
    " preferred_locales shipping tax_exempt"
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_INVOICE = (
    "invoice_settings.custom_fields invoice_settings.default_payment_method invoice_settings.footer"
    " invoice_settings.rendering_options"
)


@operation("POST /v1/customers", f"balance metadata payment_method tax_id_data test_clock {_PLAIN} {_INVOICE}")
def create_customer(world: World, params: Params, args: list[str]) -> Row:
    _check_email(params)
    adopt(world, params.get("test_clock"))
    row = world.create("customer", {
        "balance": 0, "delinquent": False, "next_invoice_sequence": 1, "preferred_locales": [], "tax_exempt": "none",
        **pick(params, _PLAIN), "metadata": merge_metadata(None, params), "invoice_settings": {},
    })  # fmt: skip
    if "invoice_prefix" not in row:
        row = world.update(row, {"invoice_prefix": world.token(row["id"], 8).upper()})
    if params.get("payment_method"):
        method = attach(world, params["payment_method"], row, "payment_method")
        _set_default(params, params["payment_method"], method["id"])
    row = world.update(row, {"invoice_settings": _invoice_settings(world, row, params)})
    world.emit("customer.created", row)
    if params.get("balance"):
        row, _ = adjust_balance(world, row, params["balance"], "adjustment")
    for i, data in enumerate(params.get("tax_id_data") or ()):
        create_tax_id(world, row, data, f"tax_id_data[{i}][value]")
    return row


def _check_email(params: Params) -> None:
    email = params.get("email")
    if email and not _EMAIL.fullmatch(email):
        raise StripeError(f"Invalid email address: {email}", code="email_invalid", param="email")


def _set_default(params: Params, given: str, real: str) -> None:
    """A test id such as pm_card_visa becomes a real one when it is attached: the same call may name it twice."""
    settings = params.get("invoice_settings") or {}
    if settings.get("default_payment_method") == given:
        settings["default_payment_method"] = real


@action("POST /v1/customers/{customer}", f"balance metadata {_PLAIN} {_INVOICE}")
def update_customer(world: World, params: Params, row: Row) -> Row:
    _check_email(params)
    changes = pick(params, _PLAIN) | {"metadata": merge_metadata(row, params)}
    if "invoice_settings" in params:
        changes["invoice_settings"] = _invoice_settings(world, row, params)
    if "preferred_locales" in changes:
        changes["preferred_locales"] = changes["preferred_locales"] or []
    if "tax_exempt" in changes:
        changes["tax_exempt"] = changes["tax_exempt"] or "none"
    with world.watching("customer", row["id"], "customer.updated"):
        row = world.update(row, changes)
        if "balance" in params and params["balance"] != row["balance"]:
            row, _ = adjust_balance(world, row, params["balance"] - row["balance"], "adjustment", event=False)
    return row


def _invoice_settings(world: World, row: Row, params: Params) -> Row:
    settings = {**row["invoice_settings"], **(params.get("invoice_settings") or {})}
    param = "invoice_settings[default_payment_method]"
    check_default_method(world, settings.get("default_payment_method"), row, param)
    return {k: v for k, v in settings.items() if v is not None}


@action("DELETE /v1/customers/{customer}")
def delete_customer(world: World, params: Params, row: Row) -> Row:
    """Ends the customer's subscriptions at once, and none can be added any more (docs.stripe.com/api/customers/delete):
    a schedule does not begin. The rest of its history stays readable."""
    for schedule in world.find("subscription_schedule", customer=row["id"]):
        if schedule["status"] == "not_started":
            call_off(world, schedule)
    for subscription in world.find("subscription", customer=row["id"]):
        if subscription["status"] not in ("canceled", "incomplete_expired"):
            cancel_now(world, subscription)
    for invoice in world.find("invoice", customer=row["id"]):
        if invoice["status"] in ("draft", "open"):
            forget(world, invoice)
    return world.delete(row, "customer.deleted")


@included("customer", "tax_ids")
def tax_ids(world: World, customer: Row) -> Row:
    rows = world.find("tax_id", customer=customer["id"])[::-1]
    return embedded(world, rows, f"/v1/customers/{customer['id']}/tax_ids")


@included("customer", "subscriptions")
def subscriptions(world: World, customer: Row) -> Row:
    rows = [s for s in world.find("subscription", customer=customer["id"])[::-1]
            if s["status"] not in ("canceled", "incomplete_expired")]  # fmt: skip
    return embedded(world, rows, f"/v1/customers/{customer['id']}/subscriptions")


@included("customer", "sources")
def sources(world: World, customer: Row) -> Row:
    """Always empty: the sandbox has payment methods only. Connectors ask for it of every customer."""
    return embedded(world, [], f"/v1/customers/{customer['id']}/sources")


@included("customer", "invoice_credit_balance")
def invoice_credit_balance(world: World, customer: Row) -> dict[str, int]:
    """Per currency, positive for credit: the opposite sign of `balance`."""
    return {customer["currency"]: -customer["balance"]} if customer["currency"] and customer["balance"] else {}


@action("DELETE /v1/customers/{customer}/discount")
def delete_discount(world: World, params: Params, row: Row) -> Row:
    """In this version discounts are given to subscriptions and invoices, so a customer never has one of its own."""
    raise errors.missing("discount", row["id"], "customer", status=404)
