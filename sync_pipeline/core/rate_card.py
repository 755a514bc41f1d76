"""The negotiated rate card at Stripe: reusable products, prices and coupons, each found by a key that we choose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Command
from sync_pipeline.core.discounts import AgreedDiscount
from sync_pipeline.core.rates import Rate
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.stripe_records import Coupon, Price
from sync_pipeline.core.stripe_terms import coupon_params
from sync_pipeline.core.world import Catalogue, World


def rate_card(world: World, catalogue: Catalogue, rates: Sequence[Rate]) -> Iterator[Command]:
    """Creates the products and prices of the rates that do not exist yet.

    A product of which it is not known whether it was made has no prices yet: Stripe would refuse them.
    """
    for product, rate in sorted({rate.stripe_product: rate for rate in rates}.items()):
        if product not in catalogue.products:
            metadata = {"sf_product_id": rate.product_id}
            params: dict[str, Any] = {"id": product, "name": rate.product_name, "metadata": metadata}
            yield _create(world, "product", product, f"the rate card has {rate.product_name}", params)
    for key, rate in sorted({rate.lookup_key: rate for rate in rates}.items()):
        if key not in catalogue.prices and f"product:{rate.stripe_product}" not in world.blocked:
            params = {
                "product": rate.stripe_product,
                "currency": rate.currency.lower(),
                "unit_amount_decimal": number(rate.unit_amount),
                "lookup_key": key,
            }
            if rate.interval is not None:
                unit, count = rate.interval
                params["recurring"] = {"interval": unit, "interval_count": count}
            yield _create(world, "price", key, f"a new negotiated rate of {rate.product_name}", params)


def coupons(world: World, catalogue: Catalogue, discounts: Iterable[AgreedDiscount]) -> Iterator[Command]:
    """Creates the coupons of the discounts that do not exist yet."""
    for coupon, discount in sorted({discount.coupon: discount for discount in discounts}.items()):
        if coupon not in catalogue.coupons:
            yield _create(world, "coupon", coupon, "a discount on a whole deal", coupon_params(discount))


def _create(world: World, kind: str, key: str, reason: str, params: dict[str, Any]) -> Command:
    return Command(
        key=f"{kind}:{key}@{world.account_id}",
        account=world.account_id,
        target=f"{kind}:{key}",
        action="stripe.create",
        priority=Priority.CREATE,
        reason=reason,
        subject="",
        body={"object": kind, "params": params},
    )


def is_priced_at(price: Price, rate: Rate) -> bool:
    """A person can archive a price or move its lookup key to another, and a wrong amount must never be billed."""
    promised = (rate.stripe_product, rate.currency, rate.interval or (None, None), rate.unit_amount)
    terms_of_price = (price.product, price.currency, (price.interval, price.interval_count), price.unit_amount)
    return price.active and terms_of_price == promised


def is_discount(coupon: Coupon, discount: AgreedDiscount) -> bool:
    """A person can delete a coupon and make another with its id."""
    promised = (discount.percent, discount.amount, discount.duration, discount.months)
    currency = discount.currency if discount.amount is not None else None
    said = (coupon.percent, coupon.amount, coupon.duration, coupon.months)
    return coupon.valid and said == promised and coupon.currency == currency
