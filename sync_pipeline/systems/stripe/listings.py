"""Listings of a whole Stripe account as tables of records.

What changes all the time is listed at once. Money and events are listed by when their object was created, so that
every part of them can be read by itself; what belongs to an object is read with it. In the place of what an object
that cannot be read would add to a table stands one Unreadable. Objects of test clocks are not in Stripe's lists, nor
here. Reads of one customer are in `client`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sync_pipeline.core.observation import Unreadable
from sync_pipeline.core.stripe_records import Customer, Dispute
from sync_pipeline.core.world import Billing
from sync_pipeline.systems.outcomes import UNKNOWN_SHAPE
from sync_pipeline.systems.stripe import parse
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline.systems.stripe.holdings import LISTS, WITH_CHARGES, WITH_DISCOUNTS, together

Raw = Mapping[str, Any]
Rows = Mapping[str, list[Any]]
"""Records by table."""


class Pages(Protocol):
    """Reads a list of Stripe to its end."""

    def __call__(self, path: str, **params: Any) -> Iterator[Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Dated:
    """One object of a dated listing with the rows that it makes; `created_at` in microseconds UTC."""

    created_at: int
    rows: Rows


def everything(stripe: Stripe) -> dict[str, list[Any]]:
    """Complete tables of records, by name."""
    tables: dict[str, list[Any]] = dict(state(stripe))
    for listing in ("invoices", "charges"):
        tables |= {name: [] for name in DATED[listing].tables}
        for each in dated(stripe, listing):
            for name, rows in each.rows.items():
                tables[name].extend(rows)
    return tables


def of_customers(stripe: Stripe, wanted: Collection[str], pages: Pages) -> dict[str, tuple[Customer, Billing]]:
    """The wanted customers and all that Stripe holds for them, as `Stripe.customer` and `Stripe.billing` show it.

    Who is in no list is left out, which proves nothing: those of test clocks are not listed, nor those deleted.
    """
    listed = pages("/v1/customers", expand=["data.tax_ids"])
    customers = {raw["id"]: parse.customer(raw) for raw in listed if raw["id"] in wanted}
    parts: dict[str, list[Billing]] = {each: [] for each in customers}
    disputed: dict[str, str] = {}
    credited: dict[str, str] = {}
    for each in LISTS.values():
        for raw in pages(each.path, **each.params):
            if (owner := parse.id_of(raw.get("customer"))) in parts:
                parts[owner].append(each.part(raw, stripe))
                if raw.get("disputed"):
                    disputed[raw["id"]] = owner
                if raw.get("post_payment_credit_notes_amount"):
                    credited[raw["id"]] = owner
    for raw in _of_those(disputed, "charge", pages("/v1/disputes") if disputed else iter(())):
        owner = disputed[str(parse.id_of(raw["charge"]))]
        parts[owner].append(Billing(disputes=(parse.dispute(raw, owner),)))
    for raw in _of_those(credited, "invoice", pages("/v1/credit_notes") if credited else iter(())):
        owner = credited[str(parse.id_of(raw["invoice"]))]
        parts[owner].append(Billing(credit_notes=(parse.credit_note(raw),)))
    return {each: (customer, together(parts[each])) for each, customer in customers.items()}


def _of_those(owners: Mapping[str, str], name: str, listed: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The objects that name one of the owners, in the order of those."""
    found: dict[str | None, list[Mapping[str, Any]]] = {each: [] for each in owners}
    for raw in listed:
        if (owner := parse.id_of(raw[name])) in found:
            found[owner].append(raw)
    for some in found.values():
        yield from some


def state(stripe: Stripe) -> Rows:
    """The tables of what there is now, ended subscriptions included."""
    subscriptions = list(stripe.pages("/v1/subscriptions", status="all", expand=WITH_DISCOUNTS))
    coupons = {raw["id"]: raw for raw in stripe.pages("/v1/coupons", expand=["data.applies_to"])}
    listed = {name: stripe.pages(f"/v1/{name}") for name in ("products", "prices", "credit_notes")}
    customers = stripe.pages("/v1/customers", expand=["data.tax_ids"])
    schedules = stripe.pages("/v1/subscription_schedules")
    disputes = stripe.pages("/v1/disputes", expand=["data.charge"])
    return {
        "customers": _each(customers, parse.customer, _account),
        "products": _each(listed["products"], parse.product, _itself),
        "prices": _each(listed["prices"], parse.price, _itself),
        "subscriptions": _each(subscriptions, parse.subscription, _customer),
        "subscription_items": _rows(
            subscriptions, lambda raw: map(parse.subscription_item, stripe.whole(raw["items"])), _itself
        ),
        "discounts": _rows(subscriptions, lambda raw: stripe.discounts([raw], coupons.get), _itself),
        "disputes": _rows(disputes, _dispute, lambda raw: _customer(raw["charge"])),
        "credit_notes": _each(listed["credit_notes"], parse.credit_note, _customer),
        "subscription_schedules": _each(schedules, parse.subscription_schedule, _customer),
        "coupons": _each(coupons.values(), parse.coupon, _itself),
    }


def _each(raws: Iterable[Raw], record: Callable[[Raw], Any], owner: Callable[[Raw], str]) -> list[Any]:
    """The record of each object."""
    return _rows(raws, lambda raw: [record(raw)], owner)


def _rows(raws: Iterable[Raw], rows: Callable[[Raw], Iterable[Any]], owner: Callable[[Raw], str]) -> list[Any]:
    """What each object adds to a table; `owner` tells by what its rows are looked up."""
    found: list[Any] = []
    for raw in raws:
        try:
            found += list(rows(raw))
        except UNKNOWN_SHAPE as error:
            found.append(_unreadable(raw, owner, error))
    return found


def _unreadable(raw: Raw, owner: Callable[[Raw], str], error: Exception) -> Unreadable:
    try:
        known = owner(raw)
    except UNKNOWN_SHAPE:
        known = None
    name = raw.get("id")
    return Unreadable(str(name), known, f"{raw.get('object')} {name} cannot be read ({type(error).__name__})")


def _itself(raw: Raw) -> str:
    return parse.named(raw)


def _customer(raw: Raw) -> str:
    return parse.named(raw["customer"])


def _account(raw: Raw) -> str:
    return parse.named(raw["metadata"]["sf_account_id"])


def _dispute(raw: Raw) -> Iterator[Dispute]:
    if (customer := parse.id_of(raw["charge"].get("customer"))) is not None:
        yield parse.dispute(raw, customer)


def dated(stripe: Stripe, listing: str, since: int | None = None, until: int | None = None) -> Iterator[Dated]:
    """The objects of one of DATED that were created at or after `since` and before `until` (microseconds UTC, whole
    seconds), newest first."""
    kind = DATED[listing]
    window = {"gte": since, "lt": until}
    created = {name: moment // 1_000_000 for name, moment in window.items() if moment is not None}
    more = {"expand": list(kind.expand)} if kind.expand else {}
    created_at = 0 if until is None else until - 1
    for raw in stripe.pages(kind.path, **({"created": created} if created else {}), **more):
        try:
            # One that does not tell when it was created stays beside the one before it.
            created_at = parse.at(raw["created"])
            rows = kind.rows(stripe, raw)
        except UNKNOWN_SHAPE as error:
            rows = {kind.tables[0]: [_unreadable(raw, _customer, error)]}
        yield Dated(created_at, rows)


def _invoice(stripe: Stripe, raw: Mapping[str, Any]) -> Rows:
    customer = str(parse.id_of(raw["customer"]))
    lines = (parse.invoice_line(each) for each in stripe.whole(raw["lines"]))
    return {
        "invoices": [parse.invoice(raw)],
        "invoice_lines": [line for line in lines if line is not None],
        "invoice_payments": [parse.invoice_payment(each, customer) for each in stripe.whole(raw["payments"])],
    }


def _charge(stripe: Stripe, raw: Mapping[str, Any]) -> Rows:
    if (customer := parse.id_of(raw.get("customer"))) is None:
        return {}
    return {
        "charges": [parse.charge(raw)],
        "refunds": [parse.refund(refund, customer) for refund in stripe.whole(raw["refunds"])],
    }


def _event(_: Stripe, raw: Mapping[str, Any]) -> Rows:
    return {"events": [parse.event(raw)]}


@dataclass(frozen=True, slots=True)
class _Listing:
    path: str
    tables: tuple[str, ...]
    rows: Callable[[Stripe, Mapping[str, Any]], Rows]
    expand: tuple[str, ...] = ()


DATED: Mapping[str, _Listing] = {
    "events": _Listing("/v1/events", ("events",), _event),
    "invoices": _Listing(
        "/v1/invoices", ("invoices", "invoice_lines", "invoice_payments"), _invoice, ("data.payments",)
    ),
    "charges": _Listing("/v1/charges", ("charges", "refunds"), _charge, tuple(WITH_CHARGES)),
}
"""What is listed by creation, with the tables that its rows go to."""
