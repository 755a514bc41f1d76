"""Invoice items: single charges and credits that wait for an invoice or are put on a draft."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.billing import add_invoice_item_line
from sync_pipeline.sandbox.stripe.catalog import inline_price
from sync_pipeline.sandbox.stripe.cycles import full_period
from sync_pipeline.sandbox.stripe.discounts import grant
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.invoices import price_pricing, sum_up
from sync_pipeline.sandbox.stripe.money import check_currency, check_step, decimal_text, exact_amount, round_half_up
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.pictures import all_of, parts
from sync_pipeline.sandbox.stripe.subscriptions import items_of, price_of
from sync_pipeline.sandbox.stripe.taxes import check_rates
from sync_pipeline.sandbox.stripe.world import World

CHARGE_PERIOD: Row = {"start": {"type": "max_item_period_start"}, "end": {"type": "min_item_period_end"}}
MAX_CHARGES = 20
AMOUNT_PARAMETERS = "amount currency description discountable discounts metadata period price_data pricing quantity"
AMOUNT_PARAMETERS += " quantity_decimal tax_rates unit_amount_decimal"


@operation("POST /v1/invoiceitems", f"customer invoice subscription {AMOUNT_PARAMETERS}")
def create_item(world: World, params: Params, args: list[str]) -> Row:
    invoice = world.need("invoice", params["invoice"], "invoice") if params.get("invoice") else None
    if not params.get("customer") and invoice is None:
        raise errors.required("customer")
    customer = world.need("customer", params.get("customer") or (invoice or {})["customer"], "customer")
    if invoice is not None:
        require_draft(invoice)
    subscription = None
    if params.get("subscription"):
        subscription = world.need("subscription", params["subscription"], "subscription")
    return put_item(world, customer, params, invoice, subscription, "")


def put_item(
    world: World, customer: Row, params: Params, invoice: Row | None, subscription: Row | None, param: str
) -> Row:
    """An invoice item from its parameters; straight onto `invoice` if there is one, else pending."""
    default = (invoice or subscription or customer).get("currency") or world.settings.default_currency
    fields = amount_fields(world, params, default)
    if invoice is not None and fields["currency"] != invoice["currency"]:
        raise StripeError(f"The currency of the invoice item is {fields['currency']}, that of the invoice "
                          f"{invoice['currency']}.", param=f"{param}currency")  # fmt: skip
    id = world.new_id("ii_")
    item = world.create("invoiceitem", {
        **fields, "customer": customer["id"], "date": world.now(), "proration": False,
        "discounts": grant(world, params.get("discounts"), f"{param}discounts", redeemer=customer["id"],
                           currency=fields["currency"], invoice_item=id),
        "metadata": merge_metadata(None, params),
        "period": params.get("period") or {"start": world.now(), "end": world.now()},
        "_tax_rates": check_rates(world, params.get("tax_rates"), f"{param}tax_rates"),
        "_subscription": subscription["id"] if subscription else None,
        "parent": subscription and {"type": "subscription_details",
                                    "subscription_details": {"subscription": subscription["id"]}},
    }, id=id, event="invoiceitem.created")  # fmt: skip
    if invoice is not None:
        add_invoice_item_line(world, invoice, item)
        _resum(world, invoice["id"])
    return world.store.table("invoiceitem")[item["id"]]


def add_charges(
    world: World, customer: Row, subscription: Row, entries: Sequence[Params], phase: tuple[int, int] | None = None
) -> None:
    """Single charges on the next invoice of a subscription: its `add_invoice_items`, or those of a schedule's phase.

    They are for the time that all items have in common, unless they say otherwise.
    """
    check_charge_count(entries, "add_invoice_items")
    now = world.now()
    spans = [
        (i["current_period_start"], i["current_period_end"]) if i["current_period_end"] > now
        else full_period(subscription, price_of(world, i), now) for i in items_of(world, subscription["id"])
    ]  # fmt: skip
    moments = {"now": now, "max_item_period_start": max(s for s, _ in spans),
               "min_item_period_end": min(e for _, e in spans)}  # fmt: skip
    if phase:
        moments |= {"phase_start": phase[0], "phase_end": phase[1]}
    for i, entry in enumerate(entries):
        given = CHARGE_PERIOD | (entry.get("period") or {})
        param = f"add_invoice_items[{i}][period]"
        period = {side: _moment(given[side], moments, f"{param}[{side}]") for side in ("start", "end")}
        if period["end"] < period["start"]:
            raise StripeError("The period of an invoice item must not end before it starts.",
                              param=f"{param}[end]")  # fmt: skip
        put_item(world, customer, {"discountable": True, **entry, "period": period}, None, subscription,
                 f"add_invoice_items[{i}]")  # fmt: skip


def _moment(given: Params, moments: dict[str, int], param: str) -> int:
    if given["type"] != "timestamp":
        return moments[given["type"]]
    if "timestamp" not in given:
        raise errors.required(f"{param}[timestamp]")
    return int(given["timestamp"])


def check_charge_count(entries: Sequence[Params], param: str) -> None:
    if len(entries) > MAX_CHARGES:
        raise StripeError(f"Array must contain at most {MAX_CHARGES} elements.", param=param)


def amount_fields(world: World, params: Params, currency: str) -> Row:
    """Amount, quantity, price and text of an item, from whichever of the ways they were given."""
    if params.get("quantity_decimal") is not None and params.get("quantity") is not None:
        raise errors.exclusive("quantity", "quantity_decimal")
    quantity = Fraction(params.get("quantity_decimal") or params.get("quantity", 1))
    fields: Row = {"description": params.get("description"), "quantity": int(quantity)}
    price = one_time_price(world, params)
    if price is not None:
        exact, currency = exact_amount(price, quantity), price["currency"]
        fields |= {"pricing": price_pricing(price)}
        fields["description"] = fields["description"] or world.store.table("product")[price["product"]].get("name")
    elif params.get("amount") is not None:
        if params.keys() & {"quantity", "quantity_decimal", "unit_amount_decimal"}:
            raise errors.exclusive("amount", "quantity")
        check_step(params["amount"], (params.get("currency") or currency).lower(), "amount")
        exact = Fraction(params["amount"])
        fields |= {"pricing": _plain(Decimal(params["amount"]))}
    elif params.get("unit_amount_decimal") is not None:
        exact = Fraction(params["unit_amount_decimal"]) * quantity
        fields |= {"pricing": _plain(Decimal(params["unit_amount_decimal"]))}
    else:
        raise errors.required("amount")
    amount = round_half_up(exact)
    given = params.get("currency")
    return fields | {
        "amount": amount, "net_amount": amount, "currency": check_currency(given) if given else currency,
        "discountable": params.get("discountable", amount > 0), "quantity_decimal": decimal_text(quantity),
        "_exact": str(exact),
    }  # fmt: skip


def one_time_price(world: World, params: Params) -> Row | None:
    """The price that an item names or describes; None if it gives an amount instead."""
    if params.get("price_data"):
        return inline_price(world, params["price_data"], "price_data")
    id = (params.get("pricing") or params).get("price")
    if not id:
        return None
    price = world.need("price", id, "pricing[price]")
    if price["type"] != "one_time":
        raise StripeError("The price specified is set to `type=recurring` but this field only accepts prices with "
                          "`type=one_time`.", param="pricing[price]")  # fmt: skip
    return price


def _plain(unit: Decimal) -> Row | None:
    return {"type": "price_details", "unit_amount_decimal": decimal_text(Fraction(unit))} if unit else None


def require_draft(invoice: Row) -> None:
    if invoice["status"] != "draft":
        raise StripeError("This invoice is no longer editable", code="invoice_not_editable", param="invoice")


@action("POST /v1/invoiceitems/{invoiceitem}", AMOUNT_PARAMETERS.replace("currency ", ""))
def update_item(world: World, params: Params, item: Row) -> Row:
    return change_item(world, item, params)


def change_item(world: World, item: Row, params: Params) -> Row:
    """An invoice item by its parameters; the line it stands on, and the sums of that draft, follow."""
    invoice = world.get("invoice", item.get("invoice"))
    if invoice:
        require_draft(invoice)
    changes: Row = {"metadata": merge_metadata(item, params)}
    for name in ("description", "discountable", "period"):
        if name in params:
            changes[name] = params[name]
    if "tax_rates" in params:
        changes["_tax_rates"] = check_rates(world, params["tax_rates"], "tax_rates")
    if "discounts" in params:
        changes["discounts"] = grant(world, params["discounts"], "discounts", redeemer=item["customer"],
                                     currency=item["currency"], invoice_item=item["id"])  # fmt: skip
    if params.keys() & {"amount", "quantity", "quantity_decimal", "unit_amount_decimal", "pricing", "price_data"}:
        old = item.get("pricing") or {}
        known = (old.get("price_details") or {}).get("price")
        kept = {} if "quantity" in params else {"quantity_decimal": item["quantity_decimal"]}
        given = {**kept, "discountable": item["discountable"], **params}
        if not params.keys() & {"amount", "unit_amount_decimal", "pricing", "price_data"}:
            given |= {"price": known} if known else {"unit_amount_decimal": old.get("unit_amount_decimal", "0")}
        if "amount" in params:
            given.pop("quantity_decimal", None)
        changes |= {k: v for k, v in amount_fields(world, given, item["currency"]).items() if k != "description"}
    item = world.update(item, changes)
    if invoice:
        line = world.need("line_item", item["_line"])
        shared = ("amount", "description", "discountable", "discounts", "metadata", "period", "pricing", "quantity",
                  "quantity_decimal", "_exact", "_tax_rates")  # fmt: skip
        world.update(line, {k: item.get(k) for k in shared} | {"subtotal": item["amount"]})
        _resum(world, invoice["id"])
    return item


@action("DELETE /v1/invoiceitems/{invoiceitem}")
def delete_item(world: World, params: Params, item: Row) -> Row:
    return remove_item(world, item)


def remove_item(world: World, item: Row) -> Row:
    invoice = world.get("invoice", item.get("invoice"))
    if invoice:
        require_draft(invoice)
        world.delete(world.need("line_item", item["_line"]))
    stub = world.delete(item, "invoiceitem.deleted")
    if invoice:
        _resum(world, invoice["id"])
    return stub


def _resum(world: World, invoice_id: str) -> None:
    with world.watching("invoice", invoice_id, "invoice.updated"):
        sum_up(world, world.need("invoice", invoice_id))


@parts("invoiceitem")
def parts_of_item(world: World, row: Row) -> Row:
    return {"tax_rates": all_of(world, "tax_rate", row.get("_tax_rates"))}
