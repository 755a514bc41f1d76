"""Products, prices and tax rates: what is sold, for how much, and with which tax."""

from __future__ import annotations

from decimal import Decimal

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.expand import included
from sync_pipeline.sandbox.stripe.money import check_currency, check_largest, check_step
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.world import World

_PRODUCT = "active description images marketing_features name package_dimensions shippable statement_descriptor"
_PRODUCT += " tax_code unit_label url"
_LONGEST = {"day": 1095, "week": 156, "month": 36, "year": 3}


@operation("POST /v1/products", f"id type metadata default_price_data {_PRODUCT}")
def create_product(world: World, params: Params, args: list[str]) -> Row:
    id = params.get("id")
    if id and world.get("product", id):
        raise StripeError(f"Product already exists: {id}", code="resource_already_exists", param="id")
    row = world.create("product", {
        "active": True, "images": [], "marketing_features": [], "type": "service", "updated": world.now(),
        **_product_fields(params, f"type {_PRODUCT}"), "metadata": merge_metadata(None, params),
    }, id=id)  # fmt: skip
    if params.get("default_price_data"):
        price = _create_price(world, {**params["default_price_data"], "product": row["id"]})
        row = world.update(row, {"default_price": price["id"]})
    world.emit("product.created", row)
    return row


def _product_fields(params: Params, names: str) -> Row:
    """As given; a list that is unset becomes empty."""
    fields = pick(params, names)
    return {k: [] if v is None and k in ("images", "marketing_features") else v for k, v in fields.items()}


@action("POST /v1/products/{id}", f"default_price metadata {_PRODUCT}")
def update_product(world: World, params: Params, row: Row) -> Row:
    if params.get("default_price"):
        price = world.need("price", params["default_price"], "default_price")
        if price["product"] != row["id"]:
            raise StripeError(f"The price `{price['id']}` belongs to another product.", param="default_price")
    if "name" in params and not params["name"]:
        raise errors.required("name")
    changes = _product_fields(params, f"default_price {_PRODUCT}") | {"metadata": merge_metadata(row, params)}
    return world.update(row, changes | {"updated": world.now()}, "product.updated")


@action("DELETE /v1/products/{id}")
def delete_product(world: World, params: Params, row: Row) -> Row:
    if any("_gone" not in price for price in world.find("price", product=row["id"])):
        raise StripeError("This product cannot be deleted because it has one or more user-created prices.")
    return world.delete(row, "product.deleted")


@operation(
    "POST /v1/prices",
    "active billing_scheme currency lookup_key metadata nickname product product_data recurring tax_behavior tiers"
    " tiers_mode transfer_lookup_key transform_quantity unit_amount unit_amount_decimal",
)
def create_price(world: World, params: Params, args: list[str]) -> Row:
    return new_price(world, params)


def new_price(world: World, params: Params, id: str | None = None) -> Row:
    """A price from the parameters of POST /v1/prices, under an id of its own or this one."""
    if ("product" in params) == ("product_data" in params):
        if "product" in params:
            raise errors.exclusive("product", "product_data")
        raise errors.required("product")
    if "product" in params:
        if not world.get("product", params["product"]):
            raise errors.missing("product", params["product"], "product")
    else:
        data = params["product_data"]
        if data.get("id") and world.get("product", data["id"]):
            raise StripeError(f"Product already exists: {data['id']}", code="resource_already_exists",
                              param="product_data[id]")  # fmt: skip
        params = {**params, "product": create_product(world, data, [])["id"]}
    return _create_price(world, params, id)


def inline_price(world: World, data: Params, param: str) -> Row:
    """The price that `price_data` of a subscription or invoice item makes."""
    if not world.get("product", data.get("product")):
        raise errors.missing("product", data.get("product", ""), f"{param}[product]")
    return _create_price(world, {**data, "active": False})


def _create_price(world: World, params: Params, id: str | None = None) -> Row:
    currency = check_currency(params["currency"])
    recurring = params.get("recurring")
    if recurring:
        count = recurring.get("interval_count", 1)
        if not 1 <= count <= _LONGEST[recurring["interval"]]:
            raise StripeError(
                f"Invalid interval_count: a {recurring['interval']} price can recur at most every "
                f"{_LONGEST[recurring['interval']]} {recurring['interval']}s.", param="recurring[interval_count]",
            )  # fmt: skip
        recurring = {"interval_count": 1, "usage_type": "licensed", **recurring}
    tiered = params.get("billing_scheme") == "tiered"
    row = {
        "active": True, "billing_scheme": "per_unit", "currency": currency, "product": params["product"],
        "recurring": recurring, "type": "recurring" if recurring else "one_time", "tax_behavior": "unspecified",
        **pick(params, "active billing_scheme nickname tax_behavior transform_quantity tiers_mode"),
        "metadata": merge_metadata(None, params), **({} if tiered else _unit_amount(params, currency)),
    }  # fmt: skip
    if tiered:
        row["_tiers"] = _tiers(params, currency)
    elif "tiers" in params:
        raise StripeError("`tiers` needs `billing_scheme` to be `tiered`.", param="tiers")
    if params.get("lookup_key"):
        _take_lookup_key(world, params, None)
        row["lookup_key"] = params["lookup_key"]
    return world.create("price", row, id=id, event="price.created")


def _unit_amount(params: Params, currency: str) -> Row:
    if "unit_amount" in params and "unit_amount_decimal" in params:
        raise errors.exclusive("unit_amount", "unit_amount_decimal")
    if params.get("unit_amount") is None and params.get("unit_amount_decimal") is None:
        raise StripeError("Missing required param: unit_amount.", code="parameter_missing", param="unit_amount")
    check_step(params.get("unit_amount") or 0, currency, "unit_amount")
    given = params.get("unit_amount_decimal") or params["unit_amount"]
    return amounts("unit_amount", _amount(given, currency, "unit_amount"))


def _amount(given: str | int, currency: str, param: str) -> Decimal:
    amount = Decimal(given)
    if amount < 0:
        raise StripeError("Invalid non-negative integer", code="parameter_invalid_integer", param=param)
    check_largest(amount, currency, param)
    return amount


def amounts(name: str, amount: Decimal) -> Row:
    """Both forms of an amount: the integer is null where the decimal has a fraction of a minor unit."""
    whole = amount == amount.to_integral_value()
    text = str(int(amount)) if whole else format(amount.normalize(), "f")
    return {name: int(amount) if whole else None, f"{name}_decimal": text}


def _tiers(params: Params, currency: str) -> list[Row]:
    """Tiers that reach further each, the last one without an end."""
    for name in ("tiers", "tiers_mode"):
        if not params.get(name):
            raise errors.required(name)
    for name in ("unit_amount", "unit_amount_decimal"):
        if params.get(name) is not None:
            raise errors.exclusive(name, "tiers")
    tiers = [_tier(t, i, currency) for i, t in enumerate(params["tiers"])]
    if tiers[-1]["up_to"] is not None:
        raise StripeError("The last tier must have `up_to` set to `inf`.", param="tiers")
    reach = 0
    for i, tier in enumerate(tiers[:-1]):
        if tier["up_to"] is None or tier["up_to"] <= reach:
            raise StripeError("Each tier must have an `up_to` greater than that of the tier before it, and only the "
                              "last one `inf`.", param=f"tiers[{i}][up_to]")  # fmt: skip
        reach = tier["up_to"]
    return tiers


def _tier(tier: Params, index: int, currency: str) -> Row:
    row: Row = {"up_to": None if tier["up_to"] == "inf" else tier["up_to"]}
    for name in ("unit_amount", "flat_amount"):
        param = f"tiers[{index}][{name}]"
        if name in tier and f"{name}_decimal" in tier:
            raise errors.exclusive(name, f"{name}_decimal", param)
        check_step(tier.get(name) or 0, currency, param)
        text = tier.get(f"{name}_decimal", tier.get(name))
        row |= {name: None, f"{name}_decimal": None} if text is None else amounts(name, _amount(text, currency, param))
    if row["unit_amount_decimal"] is None and row["flat_amount_decimal"] is None:
        raise errors.required(f"tiers[{index}][unit_amount]")
    return row


@included("price", "tiers")
def price_tiers(world: World, price: Row) -> list[Row] | None:
    tiers: list[Row] | None = world.store.table("price")[price["id"]].get("_tiers")
    return tiers


@action("POST /v1/prices/{price}", "active lookup_key metadata nickname tax_behavior transfer_lookup_key")
def update_price(world: World, params: Params, row: Row) -> Row:
    if "_gone" in row:
        raise errors.missing("price", row["id"], "price", status=404)
    if "tax_behavior" in params and row["tax_behavior"] not in ("unspecified", params["tax_behavior"]):
        raise StripeError("You cannot change `tax_behavior` once it is set to exclusive or inclusive.",
                          param="tax_behavior")  # fmt: skip
    if params.get("lookup_key"):
        _take_lookup_key(world, params, row["id"])
    changes = pick(params, "active lookup_key nickname tax_behavior")
    return world.update(row, changes | {"metadata": merge_metadata(row, params)}, "price.updated")


def _take_lookup_key(world: World, params: Params, own: str | None) -> None:
    key = params["lookup_key"]
    for other in world.find("price", lookup_key=key):
        if other["id"] == own:
            continue
        if not params.get("transfer_lookup_key"):
            raise StripeError(
                f"A price (`{other['id']}`) already uses that lookup key. To move it, pass `transfer_lookup_key`.",
                code="resource_already_exists", param="lookup_key",
            )  # fmt: skip
        world.update(other, {"lookup_key": None}, "price.updated")


_TAX_RATE = "active country description display_name jurisdiction state tax_type"


@operation("POST /v1/tax_rates", f"inclusive percentage metadata {_TAX_RATE}")
def create_tax_rate(world: World, params: Params, args: list[str]) -> Row:
    if not 0 <= params["percentage"] <= 100:
        raise StripeError("Invalid percentage: must be at least 0 and at most 100.", param="percentage")
    return world.create("tax_rate", {
        "active": True, **pick(params, f"inclusive percentage {_TAX_RATE}"), "rate_type": "percentage",
        "effective_percentage": None, "metadata": merge_metadata(None, params),
    }, event="tax_rate.created")  # fmt: skip


@action("POST /v1/tax_rates/{tax_rate}", f"metadata {_TAX_RATE}")
def update_tax_rate(world: World, params: Params, row: Row) -> Row:
    return world.update(row, pick(params, _TAX_RATE) | {"metadata": merge_metadata(row, params)}, "tax_rate.updated")


def plan_of(price: Row) -> Row:
    """The legacy `plan` that every subscription item still carries beside its price."""
    recurring = price["recurring"]
    return {
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price.get("unit_amount"),
        "amount_decimal": price.get("unit_amount_decimal"), "billing_scheme": price["billing_scheme"],
        "created": price["created"], "currency": price["currency"], "interval": recurring["interval"],
        "interval_count": recurring["interval_count"], "livemode": False, "metadata": price["metadata"],
        "meter": recurring.get("meter"), "nickname": price.get("nickname"), "product": price["product"],
        "tiers_mode": price.get("tiers_mode"), "transform_usage": price.get("transform_quantity"),
        "trial_period_days": recurring.get("trial_period_days"), "usage_type": recurring["usage_type"],
    }  # fmt: skip
