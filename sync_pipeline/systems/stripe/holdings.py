"""What an object of one of Stripe's lists adds to the billing of its customer: the same whichever list it came in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any, Protocol

from sync_pipeline.core.stripe_records import Discount
from sync_pipeline.core.world import Billing
from sync_pipeline.systems.stripe import parse

Raw = Mapping[str, Any]


class Following(Protocol):
    """Reads what does not fit into an object that came in a list."""

    def whole(self, embedded: Raw) -> Iterator[Raw]: ...

    def discounts_in_full(self, subscription: Raw) -> Iterator[Discount]: ...


@dataclass(frozen=True, slots=True)
class Listed:
    """One of Stripe's lists: where it is, what to ask for, and what an object of it adds to its customer's billing."""

    path: str
    part: Callable[[Raw, Following], Billing]
    params: Mapping[str, Any] = field(default_factory=dict)


def of_subscription(raw: Raw, stripe: Following) -> Billing:
    return Billing(
        subscriptions=(parse.subscription(raw),),
        items=tuple(parse.subscription_item(item) for item in stripe.whole(raw["items"])),
        discounts=tuple(stripe.discounts_in_full(raw)),
    )


def of_invoice(raw: Raw, stripe: Following) -> Billing:
    customer = parse.named(raw["customer"])
    paid = tuple(parse.invoice_payment(payment, customer) for payment in stripe.whole(raw["payments"]))
    return Billing(invoices=(parse.invoice(raw),), payments=paid)


def of_charge(raw: Raw, stripe: Following) -> Billing:
    customer = parse.named(raw["customer"])
    refunds = tuple(parse.refund(refund, customer) for refund in stripe.whole(raw["refunds"]))
    return Billing(charges=(parse.charge(raw),), refunds=refunds)


def of_schedule(raw: Raw, _: Following) -> Billing:
    return Billing(schedules=(parse.subscription_schedule(raw),))


WITH_DISCOUNTS = ["data.discounts.source.coupon", "data.items.data.discounts"]
WITH_CHARGES = ["data.balance_transaction", "data.refunds.data.balance_transaction"]
LISTS: Mapping[str, Listed] = {
    "subscriptions": Listed("/v1/subscriptions", of_subscription, {"status": "all", "expand": WITH_DISCOUNTS}),
    "invoices": Listed("/v1/invoices", of_invoice, {"expand": ["data.payments"]}),
    "charges": Listed("/v1/charges", of_charge, {"expand": WITH_CHARGES}),
    "schedules": Listed("/v1/subscription_schedules", of_schedule),
}
"""What every customer has. Disputes and credit notes are few, and read where a charge or an invoice says so."""


def together(parts: Iterable[Billing]) -> Billing:
    """All parts as one, in their order."""
    some = list(parts)
    return Billing(*(tuple(chain.from_iterable(getattr(part, each.name) for part in some)) for each in fields(Billing)))
