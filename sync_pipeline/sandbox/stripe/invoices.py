"""Invoices as documents: drafts, their lines, and the sums over them.

What happens to a finished document (finalising, paying, dunning) is elsewhere.
"""

from __future__ import annotations

from fractions import Fraction

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.discounts import apply_discounts, discounts_for_invoice
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.expand import included
from sync_pipeline.sandbox.stripe.listing import embedded
from sync_pipeline.sandbox.stripe.money import round_half_up, settle_balance
from sync_pipeline.sandbox.stripe.pictures import all_of, page, parts
from sync_pipeline.sandbox.stripe.taxes import apply_taxes
from sync_pipeline.sandbox.stripe.world import World

MAX_LINES = 250
EMPTY_SUMS = dict.fromkeys(
    "amount_due amount_overpaid amount_paid amount_paid_off_stripe amount_remaining amount_shipping attempt_count"
    " post_payment_credit_notes_amount pre_payment_credit_notes_amount starting_balance subtotal total".split(),
    0,
)


def new_draft(world: World, customer: Row, fields: Row, subscription: Row | None = None) -> Row:
    """A draft without lines. `fields` give at least billing_reason, currency, collection_method and auto_advance."""
    row = {
        **EMPTY_SUMS, "attempted": False, "automatic_tax": {"enabled": False}, "customer": customer["id"],
        "period_start": world.now(), "period_end": world.now(), "discounts": [], "issuer": {"type": "self"},
        "metadata": {}, "payment_settings": {}, "status": "draft", "status_transitions": {}, "total_taxes": [],
        "total_discount_amounts": [], "total_pretax_credit_amounts": [], "account_country": world.settings.country,
        "account_name": world.settings.business_name, **fields, **_customer_fields(world, customer),
    }  # fmt: skip
    if subscription is not None:
        row |= {
            "_subscription": subscription["id"], "parent": subscription_parent(subscription),
            "_tax_rates": row.get("_tax_rates") or subscription.get("_tax_rates"),
        }  # fmt: skip
        for name in ("default_payment_method", "description"):
            if name in subscription:
                row.setdefault(name, subscription[name])
    row.setdefault("discounts", [])
    row["discounts"] = row["discounts"] or discounts_for_invoice(world, subscription)
    return world.create("invoice", row)


def subscription_parent(subscription: Row, proration_date: int | None = None) -> Row:
    details = {"subscription": subscription["id"], "metadata": subscription["metadata"]}
    if proration_date is not None:
        details["subscription_proration_date"] = proration_date
    return {"type": "subscription_details", "quote_details": None, "subscription_details": details}


def _customer_fields(world: World, customer: Row) -> Row:
    """What an invoice says of its customer; it follows the customer while it is a draft."""
    tax_ids = [{"type": t["type"], "value": t["value"]} for t in world.find("tax_id", customer=customer["id"])]
    names = ("address", "email", "name", "phone", "shipping", "tax_exempt")
    return {f"customer_{n}": customer.get(n) for n in names} | {"customer_tax_ids": tax_ids}


def refresh_customer(world: World, invoice: Row) -> Row:
    customer = world.get("customer", invoice["customer"])
    return world.update(invoice, _customer_fields(world, customer)) if customer else invoice


def add_line(world: World, invoice: Row, exact: Fraction | int, fields: Row) -> Row:
    """A line for an exact amount, rounded once. The exact amount is kept for later credits."""
    exact = Fraction(exact)
    amount = round_half_up(exact)
    return world.create("line_item", {
        "amount": amount, "currency": invoice["currency"], "discount_amounts": [], "discountable": True,
        "discounts": [], "invoice": invoice["id"], "metadata": {}, "pretax_credit_amounts": [], "subtotal": amount,
        "taxes": [], "_exact": str(exact), **fields,
    })  # fmt: skip


def price_pricing(price: Row) -> Row:
    return {
        "type": "price_details", "price_details": {"price": price["id"], "product": price["product"]},
        "unit_amount_decimal": price.get("unit_amount_decimal"),
    }  # fmt: skip


def lines_of(world: World, invoice_id: str) -> list[Row]:
    """In Stripe's order: pending items, then subscription items, then what was added by hand; newest first."""
    return sorted(world.find("line_item", invoice=invoice_id), key=lambda r: (r.get("_group", 2), -r["_seq"]))


def sum_up(world: World, invoice: Row) -> Row:
    """Discounts, taxes and totals again from the lines of a draft."""
    invoice = world.store.table("invoice")[invoice["id"]]
    lines = world.find("line_item", invoice=invoice["id"])
    if len(lines) > MAX_LINES:
        raise StripeError(f"An invoice can have at most {MAX_LINES} line items.", param="invoice")
    customer = world.store.table("customer")[invoice["customer"]]
    lines = apply_discounts(world, invoice, lines)
    lines, taxes, inclusive, exclusive = apply_taxes(world, invoice, lines, customer.get("tax_exempt", "none"))
    for line in lines:
        if line != world.store.table("line_item")[line["id"]]:
            world.put(line)
    subtotal = sum(line["amount"] for line in lines)
    discounted: dict[str, int] = {}
    for line in lines:
        for part in line["discount_amounts"]:
            discounted[part["discount"]] = discounted.get(part["discount"], 0) + part["amount"]
    total = subtotal - sum(discounted.values()) + exclusive
    balance = customer.get("balance", 0)
    due, _ = settle_balance(total, balance, invoice["currency"])
    return world.update(invoice, {
        "subtotal": subtotal, "total": total, "total_taxes": taxes, "subtotal_excluding_tax": subtotal - inclusive,
        "total_excluding_tax": total - exclusive - inclusive, "starting_balance": balance,
        "total_discount_amounts": [{"amount": a, "discount": d} for d, a in discounted.items()],
        "amount_due": due, "amount_remaining": due - invoice["amount_paid"],
    })  # fmt: skip


@parts("invoice")
def parts_of_invoice(world: World, row: Row) -> Row:
    return {
        "lines": page(world, lines_of(world, row["id"]), f"/v1/invoices/{row['id']}/lines"),
        "default_tax_rates": all_of(world, "tax_rate", row.get("_tax_rates")),
    }


@included("invoice", "payments")
def payments(world: World, invoice: Row) -> Row:
    rows = world.find("invoice_payment", invoice=invoice["id"])[::-1]
    return embedded(world, rows, f"/v1/invoice_payments?invoice={invoice['id']}")


@included("invoice", "confirmation_secret")
def confirmation_secret(world: World, invoice: Row) -> Row | None:
    for payment in world.find("invoice_payment", invoice=invoice["id"]):
        intent = world.get("payment_intent", payment.get("_payment"))
        if payment["status"] == "open" and intent:
            return {"client_secret": intent["client_secret"], "type": "payment_intent"}
    return None
