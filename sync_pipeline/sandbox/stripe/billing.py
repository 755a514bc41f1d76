"""Invoicing a subscription: lines for periods that begin, pending items that wait, and the invoice around them."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import pending_updates
from sync_pipeline.sandbox.stripe.finalization import collect, finalize
from sync_pipeline.sandbox.stripe.invoices import add_line, new_draft, price_pricing, sum_up
from sync_pipeline.sandbox.stripe.limits import check_subscription
from sync_pipeline.sandbox.stripe.money import exact_amount, shown_unit_price
from sync_pipeline.sandbox.stripe.subscriptions import price_of
from sync_pipeline.sandbox.stripe.world import World


def begin_invoice(world: World, subscription: Row, reason: str, period: tuple[int, int]) -> Row:
    check_subscription(world, subscription["id"])
    customer = world.store.table("customer")[subscription["customer"]]
    return new_draft(world, customer, {
        "billing_reason": reason, "currency": subscription["currency"], "auto_advance": True,
        "collection_method": subscription["collection_method"], "period_start": period[0], "period_end": period[1],
        "_days_until_due": subscription.get("days_until_due"),
    }, subscription)  # fmt: skip


def add_item_line(
    world: World, invoice: Row, subscription: Row, item: Row, period: tuple[int, int], exact: Fraction | None = None
) -> Row:
    """The line that bills an item for a period, remembered on the item as what was debited for it."""
    price = price_of(world, item)
    amount = exact_amount(price, item["quantity"]) if exact is None else exact
    line = add_line(world, invoice, amount, {
        "description": describe(world, price, item["quantity"]), "metadata": subscription["metadata"],
        "parent": {"type": "subscription_item_details", "subscription_item_details": {
            "invoice_item": None, "proration": False, "proration_details": {"credited_items": None},
            "subscription": subscription["id"], "subscription_item": item["id"],
        }},
        "period": {"start": period[0], "end": period[1]}, "pricing": price_pricing(price),
        "quantity": item["quantity"], "quantity_decimal": str(item["quantity"]),
        "subscription": subscription["id"], "discounts": item["discounts"], "_tax_rates": item.get("_tax_rates"),
        "_group": 1,
    })  # fmt: skip
    debit = {"line": line["id"], "start": period[0], "end": period[1]}
    world.update(item, {"_debits": [debit] if amount else []})
    return line


def describe(world: World, price: Row, quantity: int) -> str:
    product = world.store.table("product")[price["product"]]
    name = product.get("name", "Product")
    recurring = price.get("recurring")
    each = shown_unit_price(price)
    if not recurring or not each:
        return f"{quantity} × {name}"
    count = recurring["interval_count"]
    every = recurring["interval"] if count == 1 else f"{count} {recurring['interval']}s"
    return f"{quantity} × {name} (at {each} / {every})"


def day(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%d %b %Y}"


def pending_items(world: World, subscription: Row, *, loose: bool = True) -> list[Row]:
    """Invoice items that wait for this subscription's next invoice; `loose` ones belong to no subscription."""
    rows = world.find("invoiceitem", customer=subscription["customer"])
    return [
        r for r in rows
        if "invoice" not in r and r["currency"] == subscription["currency"]
        and (r.get("_subscription") == subscription["id"] or (loose and "_subscription" not in r))
    ]  # fmt: skip


def add_pending(world: World, invoice: Row, items: list[Row]) -> None:
    for item in items:
        add_invoice_item_line(world, invoice, item)


def add_invoice_item_line(world: World, invoice: Row, item: Row) -> Row:
    """An invoice item becomes a line of this invoice."""
    credited = (item.get("proration_details") or {}).get("credited_items") or {}
    details: Row = {
        "invoice_item": item["id"], "proration": item["proration"], "subscription": item.get("_subscription"),
        "proration_details": {"credited_items": credited.get("invoice_line_item_details")},
    }  # fmt: skip
    kind = "invoice_item_details"
    if item.get("_item"):
        kind, details["subscription_item"] = "subscription_item_details", item["_item"]
    line = add_line(world, invoice, Fraction(item["_exact"]), {
        "description": item.get("description"), "discountable": item["discountable"], "discounts": item["discounts"],
        "metadata": item["metadata"], "parent": {"type": kind, kind: details}, "period": item["period"],
        "pricing": item.get("pricing"), "quantity": item["quantity"], "quantity_decimal": item["quantity_decimal"],
        "subscription": item.get("_subscription"), "_tax_rates": item.get("_tax_rates"), "_group": 0,
    })  # fmt: skip
    world.update(item, {"invoice": invoice["id"], "_line": line["id"]})
    return line


def issue_now(world: World, subscription: Row, invoice: Row, payment_behavior: str = "allow_incomplete") -> Row:
    """Finalise within the request, and collect as `payment_behavior` says. The invoice as it then is."""
    invoice = sum_up(world, invoice)
    world.emit("invoice.created", invoice)
    world.update(subscription, {"latest_invoice": invoice["id"]})
    return settle_now(world, invoice, payment_behavior)


def settle_now(world: World, invoice: Row, payment_behavior: str) -> Row:
    invoice = finalize(world, invoice)
    automatic = invoice["status"] == "open" and invoice["collection_method"] == "charge_automatically"
    if automatic and payment_behavior == "default_incomplete":
        return world.update(invoice, {"auto_advance": False})
    if automatic and payment_behavior == pending_updates.BEHAVIOUR:
        return invoice  # collected once the change has been put aside
    return collect(world, invoice)
