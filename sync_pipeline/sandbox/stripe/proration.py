"""Proration to the second: a credit for the rest of what was debited, a debit for the rest of what now holds.

Credits go back to the debits themselves (flexible billing) or to the old price (classic). Every line is rounded by
itself, from exact fractions.
"""

from __future__ import annotations

from fractions import Fraction

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.billing import day
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.invoices import price_pricing
from sync_pipeline.sandbox.stripe.money import exact_amount, round_half_up
from sync_pipeline.sandbox.stripe.periods import share
from sync_pipeline.sandbox.stripe.subscriptions import items_of, price_of
from sync_pipeline.sandbox.stripe.world import World


def check_date(world: World, subscription: Row, date: int | None) -> int:
    """The moment from which changes count."""
    if date is None:
        return world.now()
    items = items_of(world, subscription["id"])
    start = max(i["current_period_start"] for i in items)
    end = min(i["current_period_end"] for i in items)
    if not start <= date <= end:
        raise StripeError(
            "Cannot specify `proration_date` outside of the current billing period of the subscription.",
            param="proration_date",
        )  # fmt: skip
    return date


def credit(world: World, subscription: Row, item: Row, at: int, until: int | None = None) -> None:
    """Give back what an item was debited for [at, until or the period's end)."""
    price, quantity = price_of(world, item), item["quantity"]
    end = until or item["current_period_end"]
    if subscription["billing_mode"]["type"] == "classic":
        period = item["current_period_start"], item["current_period_end"]
        exact = exact_amount(price, quantity) * (share(at, *period) - share(end, *period))
        _record(world, subscription, item, -exact, price, quantity, (at, end), None)
        return
    for debit in item["_debits"]:
        if debit["end"] <= at:
            continue
        paid = debited(world, debit)
        reach = min(end, debit["end"])
        exact = paid * Fraction(reach - at, debit["end"] - debit["start"])
        if exact:
            _record(world, subscription, item, -exact, price, quantity, (at, reach), _credited(world, debit))
    world.update(item, {"_debits": []})


def debit(world: World, subscription: Row, item: Row, at: int, until: int | None = None) -> None:
    """Charge what an item now is for [at, until or the period's end), and remember it as debited."""
    price = price_of(world, item)
    period = item["current_period_start"], item["current_period_end"]
    end = until or period[1]
    exact = _discounted(world, subscription, item, exact_amount(price, item["quantity"]))
    exact *= share(at, *period) - share(end, *period)
    row = _record(world, subscription, item, exact, price, item["quantity"], (at, end), None)
    world.update(item, {"_debits": [{"item": row["id"], "start": at, "end": end}]})


def debited(world: World, debit: Row) -> Fraction:
    """What the customer was really charged by a debit: after discounts, and nothing if it was taken off again."""
    row = world.get("line_item", debit["line"]) if "line" in debit else world.get("invoiceitem", debit["item"])
    if row is None:
        return Fraction(0)
    off = sum(part["amount"] for part in row.get("discount_amounts", ()))
    return Fraction(str(row["_exact"])) - int(off)


def _credited(world: World, debit: Row) -> Row:
    """Where a credit points: at the lines it takes back, or at a pending item that has no line yet."""
    line_id = debit.get("line")
    if line_id is None:
        line_id = world.store.table("invoiceitem")[debit["item"]].get("_line")
    if line_id is None:
        return {"type": "invoice_item", "invoice_item": debit["item"]}
    line = world.store.table("line_item")[line_id]
    lines = {"invoice": line["invoice"], "invoice_line_items": [line_id]}
    return {"type": "invoice_line_items", "invoice_line_item_details": lines}


def _discounted(world: World, subscription: Row, item: Row, exact: Fraction) -> Fraction:
    """Discounts that hold are part of a prorated debit, as prorations themselves are not discountable.

    An amount off the whole subscription is shared among its items in proportion to what they cost.
    """
    for id in (*item["discounts"], *subscription["discounts"]):
        discount = world.get("discount", id)
        if discount is None or discount.get("end", world.now() + 1) <= world.now():
            continue
        coupon = discount["_terms"]
        if coupon["duration"] == "once":
            continue
        if coupon.get("percent_off") is not None:
            exact *= 1 - Fraction(str(coupon["percent_off"])) / 100
            continue
        sharers = [item] if id in item["discounts"] else items_of(world, subscription["id"])
        whole = sum(exact_amount(price_of(world, i), i["quantity"]) for i in sharers)
        own = exact_amount(price_of(world, item), item["quantity"])
        exact = max(Fraction(0), exact - coupon["amount_off"] * own / whole) if whole else exact
    return exact


def _record(
    world: World, subscription: Row, item: Row, exact: Fraction, price: Row, quantity: int,
    period: tuple[int, int], credited: Row | None,
) -> Row:  # fmt: skip
    amount = round_half_up(exact)
    product = world.store.table("product")[price["product"]].get("name", "Product")
    word = "Remaining" if exact >= 0 and credited is None else "Unused"
    return world.create("invoiceitem", {
        "amount": amount, "currency": subscription["currency"], "customer": subscription["customer"],
        "date": world.now(), "description": f"{word} time on {quantity} × {product} after {day(period[0])}",
        "discountable": False, "discounts": [], "metadata": subscription["metadata"], "net_amount": amount,
        "parent": {"type": "subscription_details", "subscription_details": {
            "subscription": subscription["id"], "subscription_item": item["id"]}},
        "period": {"start": period[0], "end": period[1]}, "pricing": price_pricing(price), "proration": True,
        "proration_details": {"credited_items": credited, "discount_amounts": []}, "quantity": quantity,
        "quantity_decimal": str(quantity), "_subscription": subscription["id"], "_item": item["id"],
        "_exact": str(exact), "_tax_rates": item.get("_tax_rates") or subscription.get("_tax_rates"),
    }, event="invoiceitem.created")  # fmt: skip
