"""Discounts: a coupon given to a customer, subscription, item or invoice, and what it takes off the lines."""

from __future__ import annotations

from fractions import Fraction

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.money import round_half_up, spread
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.periods import add_interval
from sync_pipeline.sandbox.stripe.world import World

MAX_DISCOUNTS = 20


def grant(
    world: World, given: list[Params] | None, param: str, *, redeemer: str, currency: str, **owner: str
) -> list[str]:
    """Discount ids for a `discounts` parameter. `redeemer` is the id of the customer who redeems, `currency` that of
    what is discounted; `owner`: subscription, subscription_item, invoice_item or invoice."""
    if len(given or ()) > MAX_DISCOUNTS:
        raise StripeError(f"You can give at most {MAX_DISCOUNTS} discounts.", param=param)
    return [_grant_one(world, entry, f"{param}[{i}]", redeemer, currency, owner) for i, entry in enumerate(given or ())]


def _grant_one(
    world: World, entry: Params, param: str, redeemer: str, currency: str, owner: dict[str, str]
) -> str:  # fmt: skip
    if entry.get("discount"):
        discount = world.need("discount", entry["discount"], f"{param}[discount]")
        _check_currency(discount["_terms"], currency, f"{param}[discount]")
        return str(discount["id"])
    promotion = None
    if entry.get("promotion_code"):
        promotion = world.need("promotion_code", entry["promotion_code"], f"{param}[promotion_code]")
        _check_redeemable(world, promotion, redeemer, f"{param}[promotion_code]")
        entry = {"coupon": promotion["_coupon"]}
    if not entry.get("coupon"):
        raise errors.required(f"{param}[coupon]")
    coupon = world.need("coupon", entry["coupon"], f"{param}[coupon]")
    if not coupon["valid"] or coupon.get("redeem_by", world.now() + 1) <= world.now():
        raise StripeError(f"Coupon expired: {coupon['id']}", code="coupon_expired", param=f"{param}[coupon]")
    _check_currency(coupon, currency, f"{param}[coupon]")
    redeemed = coupon["times_redeemed"] + 1
    world.update(coupon, {
        "times_redeemed": redeemed, "valid": redeemed < coupon.get("max_redemptions", redeemed + 1),
    })  # fmt: skip
    if promotion:
        used = promotion["times_redeemed"] + 1
        world.update(promotion, {
            "times_redeemed": used, "active": used < promotion.get("max_redemptions", used + 1),
        })  # fmt: skip
    end = None
    if coupon["duration"] == "repeating":
        end = add_interval(world.now(), "month", coupon["duration_in_months"])
    row = world.create("discount", {
        **owner, "source": {"type": "coupon", "coupon": coupon["id"]}, "start": world.now(), "end": end,
        "promotion_code": promotion["id"] if promotion else None,
        "_terms": coupon,  # a coupon that is deleted later goes on for those who have it
    })  # fmt: skip
    return str(row["id"])


def held(world: World, discounts: list[str], entries: list[Params]) -> list[Params]:
    """`entries` of a `discounts` parameter, where a coupon that one of `discounts` already gives goes on as that
    discount: redeemed anew it would begin again."""
    by_coupon = {world.need("discount", id)["source"]["coupon"]: id for id in discounts if world.get("discount", id)}
    return [{"discount": by_coupon[e["coupon"]]} if e.get("coupon") in by_coupon else e for e in entries]


def _check_redeemable(world: World, promotion: Row, redeemer: str, param: str) -> None:
    """Inactive after its last redemption and its end; a code of one customer is of no use to another."""
    if not promotion["active"] or promotion.get("expires_at", world.now() + 1) <= world.now():
        raise StripeError("This promotion code is not active.", param=param)
    if promotion.get("customer") not in (None, redeemer):
        raise StripeError("This promotion code cannot be redeemed by this customer.", param=param)


def _check_currency(coupon: Row, currency: str, param: str) -> None:
    if coupon.get("currency") not in (None, currency):
        raise StripeError(
            f"The coupon {coupon['id']} is in `{coupon['currency']}`. This doesn't match the expected currency: "
            f"`{currency}`.", param=param,
        )  # fmt: skip


def discounts_for_invoice(world: World, subscription: Row | None) -> list[str]:
    """What a new invoice inherits from its subscription; spent and ended discounts are left out."""
    return [i for i in (subscription or {}).get("discounts", ()) if _holds(world, i)]


def _holds(world: World, id: str) -> bool:
    discount = world.get("discount", id)
    if discount is None or (discount.get("end") is not None and discount["end"] <= world.now()):
        return False
    return not (discount["_terms"]["duration"] == "once" and discount.get("_used"))


def spend(world: World, invoice: Row) -> None:
    """A finalised invoice has used its `once` discounts: its subscription has them no longer (stripe/stripe-go#944)."""
    for id in invoice["discounts"]:
        discount = world.get("discount", id)
        if discount:
            world.update(discount, {"_used": True})
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    subscription = world.get("subscription", details.get("subscription") or "")
    if subscription is not None:
        left = [id for id in subscription["discounts"] if _holds(world, id)]
        if left != subscription["discounts"]:
            world.update(subscription, {"discounts": left})


def apply_discounts(world: World, invoice: Row, lines: list[Row]) -> list[Row]:
    """Item discounts first, then the invoice's; each takes from what the one before left."""
    left = {line["id"]: line["amount"] if line["discountable"] else 0 for line in lines}
    parts: dict[str, list[Row]] = {line["id"]: [] for line in lines}
    for line in lines:
        for id in line["discounts"]:
            _take(world, id, [line], left, parts)
    for id in invoice["discounts"]:
        _take(world, id, lines, left, parts)
    return [{**line, "discount_amounts": parts[line["id"]]} for line in lines]


def _take(world: World, id: str, lines: list[Row], left: dict[str, int], parts: dict[str, list[Row]]) -> None:
    discount = world.get("discount", id)
    if discount is None:  # taken away meanwhile
        return
    coupon = discount["_terms"]
    products = (coupon.get("_applies_to") or {}).get("products")
    eligible = [
        line for line in lines
        if left[line["id"]] > 0
        and (not products or line.get("pricing", {}).get("price_details", {}).get("product") in products)
    ]  # fmt: skip
    if coupon.get("percent_off") is not None:
        percent = Fraction(str(coupon["percent_off"])) / 100
        cuts = [round_half_up(left[line["id"]] * percent) for line in eligible]
    else:
        weights = [left[line["id"]] for line in eligible]
        cuts = spread(min(coupon["amount_off"], sum(weights)), weights)
    for line, cut in zip(eligible, cuts, strict=True):
        left[line["id"]] -= cut
        parts[line["id"]].append({"amount": cut, "discount": id})
