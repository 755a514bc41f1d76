"""Coupons and promotion codes. What they take off an invoice is `discounts`."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.expand import included
from sync_pipeline.sandbox.stripe.money import check_currency
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.world import World, timer


@operation(
    "POST /v1/coupons",
    "id amount_off currency percent_off duration duration_in_months max_redemptions metadata name redeem_by"
    " applies_to.products",
)
def create_coupon(world: World, params: Params, args: list[str]) -> Row:
    if ("amount_off" in params) == ("percent_off" in params):
        raise StripeError("You must pass exactly one of `amount_off` and `percent_off`.", param="percent_off")
    if "amount_off" in params and "currency" not in params:
        raise errors.required("currency")
    if "percent_off" in params and not 0 < params["percent_off"] <= 100:
        raise StripeError("Invalid percent_off: must be more than 0 and at most 100.", param="percent_off")
    duration = params.get("duration", "once")
    if (duration == "repeating") != ("duration_in_months" in params):
        raise StripeError("`duration_in_months` goes with `duration=repeating`, and only with it.",
                          param="duration_in_months")  # fmt: skip
    if duration == "forever" and "amount_off" in params:
        # docs.stripe.com/changelog/basil/2025-03-31/restrict-coupon-duration
        raise StripeError("Coupons with `amount_off` cannot have `duration=forever`.", param="duration")
    id = params.get("id") or world.new_id("", 8)
    if world.get("coupon", id):
        raise StripeError(f"Coupon already exists: {id}.", code="resource_already_exists", param="id")
    return world.create("coupon", {
        **pick(params, "amount_off percent_off duration_in_months max_redemptions name redeem_by"),
        "currency": check_currency(params["currency"]) if "amount_off" in params else None, "duration": duration,
        "metadata": merge_metadata(None, params), "times_redeemed": 0, "valid": True,
        "_applies_to": params.get("applies_to"),
    }, id=id, event="coupon.created")  # fmt: skip


@included("coupon", "applies_to")
def applies_to(world: World, coupon: Row) -> Row | None:
    found: Row | None = world.store.table("coupon")[coupon["id"]].get("_applies_to")
    return found


@action("POST /v1/coupons/{coupon}", "metadata name")
def update_coupon(world: World, params: Params, row: Row) -> Row:
    return world.update(row, pick(params, "name") | {"metadata": merge_metadata(row, params)}, "coupon.updated")


@action("DELETE /v1/coupons/{coupon}")
def delete_coupon(world: World, params: Params, row: Row) -> Row:
    return world.delete(row, "coupon.deleted")


@operation("POST /v1/promotion_codes", "promotion active code customer expires_at max_redemptions metadata")
def create_promotion_code(world: World, params: Params, args: list[str]) -> Row:
    promotion = params["promotion"]
    coupon = world.need("coupon", promotion.get("coupon") or "", "promotion[coupon]")
    code = params.get("code") or world.new_id("", 8).upper()
    if any(p["active"] for p in world.find("promotion_code", code=code)):
        raise StripeError(f"An active promotion code with `code: {code}` already exists.", param="code",
                          code="resource_already_exists")  # fmt: skip
    end = params.get("expires_at")
    if end is not None and end <= world.now():
        raise StripeError("Invalid timestamp: must be in the future.", param="expires_at")
    row = world.create("promotion_code", {
        "active": True, **pick(params, "active customer expires_at max_redemptions"), "code": code,
        "metadata": merge_metadata(None, params), "promotion": {"type": "coupon", "coupon": coupon["id"]},
        "restrictions": {"first_time_transaction": False}, "times_redeemed": 0, "_coupon": coupon["id"],
    }, event="promotion_code.created")  # fmt: skip
    world.set_timer("expire_promotion_code", row["id"], end)
    return row


@timer("expire_promotion_code")
def expire_promotion_code(world: World, id: str) -> None:
    row = world.get("promotion_code", id)
    if row and row["active"]:
        world.update(row, {"active": False}, "promotion_code.updated")


@action("POST /v1/promotion_codes/{promotion_code}", "active metadata")
def update_promotion_code(world: World, params: Params, row: Row) -> Row:
    spent = row["times_redeemed"] >= row.get("max_redemptions", row["times_redeemed"] + 1)
    if params.get("active") and (spent or row.get("expires_at", world.now() + 1) <= world.now()):
        raise StripeError("This promotion code has expired or was redeemed as often as it can be; it cannot be "
                          "activated again.", param="active")  # fmt: skip
    changes = pick(params, "active") | {"metadata": merge_metadata(row, params)}
    return world.update(row, changes, "promotion_code.updated")
