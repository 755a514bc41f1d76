"""From Stripe's JSON (API version 2026-10-28.endive) to records. Currencies become upper case, times microseconds.

Shapes follow the current version: periods sit on the items, an invoice names its subscription in `parent`, and
what was collected is in `invoice.payments`. An object of another shape raises one of UNKNOWN_SHAPE: a value that its
column cannot hold would be found only where it is stored, in the middle of everybody's work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache, wraps
from types import UnionType
from typing import Any, ParamSpec, TypeVar, cast, get_args, get_origin, get_type_hints

from sync_pipeline.core.facts import BEYOND
from sync_pipeline.core.schedule_phases import phase_form
from sync_pipeline.core.stripe_records import (
    Charge,
    Coupon,
    CreditNote,
    Customer,
    Discount,
    Dispute,
    Event,
    Invoice,
    InvoiceLine,
    InvoicePayment,
    Price,
    Product,
    Refund,
    Subscription,
    SubscriptionItem,
    SubscriptionSchedule,
)

Json = Mapping[str, Any]
Raw = ParamSpec("Raw")
Record = TypeVar("Record")


def checked(parse: Callable[Raw, Record]) -> Callable[Raw, Record]:
    """Raises ValueError for a record that has a value which is not of its column's type, or beyond 64 bits."""

    @wraps(parse)
    def parsed(*args: Raw.args, **named: Raw.kwargs) -> Record:
        record = parse(*args, **named)
        for name, types in _columns(cast(Any, type(record))) if record is not None else ():
            value = getattr(record, name)
            if type(value) not in types or not _fits(value):
                raise ValueError(f"{type(record).__name__}.{name}")
        return record

    return parsed


@cache
def _columns(kind: Any) -> tuple[tuple[str, frozenset[Any]], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, frozenset(_types(hints[field.name]))) for field in dataclasses.fields(kind))


def _types(hint: Any) -> Iterable[Any]:
    return get_args(hint) if isinstance(hint, UnionType) else [get_origin(hint) or hint]


def _fits(value: Any) -> bool:
    match value:
        case int():
            return -BEYOND <= value < BEYOND
        case Decimal():
            return value.is_finite() and abs(value) < BEYOND
        case tuple():
            return all(type(each) is str for each in value)
    return True


def number(value: Any) -> int:
    """A whole number, for what is made of it before its record is checked: a text can be multiplied as well."""
    if type(value) is not int:
        raise TypeError
    return value


def micros(seconds: Any) -> int | None:
    return None if seconds is None else at(seconds)


def at(seconds: Any) -> int:
    return number(seconds) * 1_000_000


def id_of(value: Any) -> str | None:
    """The id of an expandable field, expanded or not."""
    return named(value["id"]) if isinstance(value, Mapping) else value


def named(value: Any) -> str:
    """The id of an expandable field that is never empty."""
    found = id_of(value)
    if type(found) is not str:
        raise TypeError
    return found


@checked
def customer(raw: Json) -> Customer:
    if raw.get("deleted"):
        return Customer(id=raw["id"], deleted=True)
    address = raw.get("address") or {}
    metadata = raw.get("metadata") or {}
    listed = (raw.get("tax_ids") or {}).get("data", [])
    tax_ids = sorted((f"{each['type']}:{each['value']}", each["id"]) for each in listed)
    currency = raw.get("currency")
    return Customer(
        id=raw["id"],
        name=raw.get("name"),
        email=raw.get("email"),
        line1=address.get("line1"),
        city=address.get("city"),
        state=address.get("state"),
        postal_code=address.get("postal_code"),
        country=address.get("country"),
        currency=currency.upper() if currency else None,
        payment_method=id_of((raw.get("invoice_settings") or {}).get("default_payment_method"))
        or id_of(raw.get("default_source")),
        tax_ids=tuple(value for value, _ in tax_ids),
        tax_id_names=tuple(name for _, name in tax_ids),
        created_at=micros(raw.get("created")),
        account_id=metadata.get("sf_account_id"),
        intent=metadata.get("sf_intent"),
    )


@checked
def product(raw: Json) -> Product:
    return Product(id=raw["id"], name=raw["name"], active=raw["active"])


@checked
def price(raw: Json) -> Price:
    recurring = raw.get("recurring") or {}
    return Price(
        id=raw["id"],
        product=named(raw["product"]),
        currency=raw["currency"].upper(),
        active=raw["active"],
        lookup_key=raw.get("lookup_key"),
        **_amounts(raw),
        interval=recurring.get("interval"),
        interval_count=recurring.get("interval_count"),
    )


@checked
def subscription(raw: Json) -> Subscription:
    metadata = raw.get("metadata") or {}
    cancellation = raw.get("cancellation_details") or {}
    return Subscription(
        id=raw["id"],
        customer=named(raw["customer"]),
        status=raw["status"],
        currency=raw["currency"].upper(),
        created_at=at(raw["created"]),
        start_at=at(raw["start_date"]),
        collection_method=raw["collection_method"],
        days_until_due=raw.get("days_until_due"),
        cancel_at=micros(raw.get("cancel_at")),
        cancel_at_period_end=bool(raw.get("cancel_at_period_end")),
        canceled_at=micros(raw.get("canceled_at")),
        ended_at=micros(raw.get("ended_at")),
        trial_start_at=micros(raw.get("trial_start")),
        trial_end_at=micros(raw.get("trial_end")),
        anchor_at=micros(raw.get("billing_cycle_anchor")),
        cancellation_reason=cancellation.get("reason"),
        cancellation_feedback=cancellation.get("feedback"),
        cancellation_comment=cancellation.get("comment"),
        latest_invoice=id_of(raw.get("latest_invoice")),
        collection_paused=raw.get("pause_collection") is not None,
        payment_method=id_of(raw.get("default_payment_method")) or id_of(raw.get("default_source")),
        account_id=metadata.get("sf_account_id"),
        opportunity_id=metadata.get("sf_opportunity_id"),
        intent=metadata.get("sf_intent"),
    )


@checked
def subscription_schedule(raw: Json) -> SubscriptionSchedule:
    metadata = raw.get("metadata") or {}
    return SubscriptionSchedule(
        id=raw["id"],
        customer=named(raw["customer"]),
        status=raw["status"],
        starts_at=at(raw["phases"][0]["start_date"]),
        phase_starts_at=micros((raw.get("current_phase") or {}).get("start_date")),
        phases=tuple(_phase(phase) for phase in raw["phases"]),
        subscription=id_of(raw.get("subscription")) or id_of(raw.get("released_subscription")),
        account_id=metadata.get("sf_account_id"),
        opportunity_id=metadata.get("sf_opportunity_id"),
        intent=metadata.get("sf_intent"),
        terms=metadata.get("sf_terms"),
    )


def _phase(raw: Json) -> str:
    items = ((named(item["price"]), number(item.get("quantity") or 0)) for item in raw["items"])
    return phase_form(number(raw["start_date"]), number(raw["end_date"]), items)


@checked
def coupon(raw: Json) -> Coupon:
    percent, currency = raw.get("percent_off"), raw.get("currency")
    return Coupon(
        id=raw["id"],
        valid=raw["valid"],
        duration=raw["duration"],
        months=raw.get("duration_in_months"),
        percent=None if percent is None else Decimal(str(percent)),
        amount=raw.get("amount_off"),
        currency=currency.upper() if currency else None,
    )


def line_ids(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The Salesforce lines that an object of ours names in its metadata."""
    named = (raw.get("metadata") or {}).get("sf_line_id") or ""
    return tuple(sorted(filter(None, named.split(","))))


@checked
def subscription_item(raw: Json) -> SubscriptionItem:
    priced = raw["price"]
    recurring = priced["recurring"]
    return SubscriptionItem(
        id=raw["id"],
        subscription=named(raw["subscription"]),
        price=priced["id"],
        product=named(priced["product"]),
        currency=priced["currency"].upper(),
        interval=recurring["interval"],
        interval_count=recurring["interval_count"],
        usage_type=recurring["usage_type"],
        **_amounts(priced),
        quantity=raw.get("quantity"),
        period_start=micros(raw.get("current_period_start")),
        period_end=micros(raw.get("current_period_end")),
        line_ids=line_ids(raw),
    )


@checked
def discount(raw: Json, coupon: Json, subscription_id: str, item: str | None, position: int) -> Discount:
    """A discount as a subscription or an item lists it. `coupon` is what was read of its coupon apart from it.

    What is embedded comes first: a coupon can be deleted and another made with its id.
    """
    named = raw["source"]["coupon"]
    embedded = named if isinstance(named, Mapping) else {}
    coupon = {**coupon, **embedded}
    percent = coupon.get("percent_off")
    return Discount(
        id=raw["id"],
        subscription=subscription_id,
        item=item,
        position=position,
        coupon=id_of(named),
        duration=coupon.get("duration"),
        # The SDK makes a float of a percentage with at most two decimals, which its shortest text gives back.
        percent_off=None if percent is None else Decimal(str(percent)),
        amount_off=coupon.get("amount_off"),
        products=tuple(sorted((coupon.get("applies_to") or {}).get("products", ()))),
        start_at=at(raw["start"]),
        end_at=micros(raw.get("end")),
    )


@checked
def invoice_line(raw: Json) -> InvoiceLine | None:
    """A line that bills a subscription item; None for any other."""
    details = (raw.get("parent") or {}).get("subscription_item_details")
    if not details or not details.get("subscription"):
        return None
    pricing = raw.get("pricing") or {}
    unit = pricing.get("unit_amount_decimal")
    return InvoiceLine(
        id=raw["id"],
        invoice=raw["invoice"],
        subscription=details["subscription"],
        item=details["subscription_item"],
        price=id_of((pricing.get("price_details") or {}).get("price")),
        currency=raw["currency"].upper(),
        amount=raw["amount"],
        quantity=raw.get("quantity"),
        unit_amount=None if unit is None else Decimal(unit),
        is_proration=bool(details.get("proration")),
        period_start=at(raw["period"]["start"]),
        period_end=at(raw["period"]["end"]),
        discounts=tuple(f"{id_of(part['discount'])}:{part['amount']}" for part in raw.get("discount_amounts") or ()),
    )


@checked
def invoice(raw: Json) -> Invoice:
    parent = raw.get("parent") or {}
    details = parent.get("subscription_details") or {}
    transitions = raw.get("status_transitions") or {}
    return Invoice(
        id=raw["id"],
        customer=named(raw["customer"]),
        status=raw["status"],
        currency=raw["currency"].upper(),
        created_at=at(raw["created"]),
        total=raw["total"],
        amount_due=raw["amount_due"],
        amount_paid=raw["amount_paid"],
        amount_remaining=raw["amount_remaining"],
        subscription=id_of(details.get("subscription")),
        number=raw.get("number"),
        billing_reason=raw.get("billing_reason"),
        collection_method=raw.get("collection_method"),
        due_at=micros(raw.get("due_date")),
        finalized_at=micros(transitions.get("finalized_at")),
        paid_at=micros(transitions.get("paid_at")),
        attempt_count=raw.get("attempt_count") or 0,
        next_attempt_at=micros(raw.get("next_payment_attempt")),
        hosted_url=raw.get("hosted_invoice_url"),
        credited_before_payment=raw.get("pre_payment_credit_notes_amount") or 0,
        tax=sum(each["amount"] for each in raw.get("total_taxes") or ()),
        credited_after_payment=raw.get("post_payment_credit_notes_amount") or 0,
    )


@checked
def invoice_payment(raw: Json, customer_id: str) -> InvoicePayment:
    """An invoice payment does not name its customer; the invoice that it was read with does."""
    payment = raw["payment"]
    return InvoicePayment(
        id=raw["id"],
        invoice=named(raw["invoice"]),
        customer=customer_id,
        status=raw["status"],
        currency=raw["currency"].upper(),
        amount_paid=raw.get("amount_paid"),
        paid_at=micros((raw.get("status_transitions") or {}).get("paid_at")),
        payment=id_of(payment.get(payment["type"])),
    )


@checked
def charge(raw: Json) -> Charge:
    outcome = raw.get("outcome") or {}
    settled_currency, settled = _settled([raw.get("balance_transaction")])
    return Charge(
        id=raw["id"],
        customer=named(raw["customer"]),
        status=raw["status"],
        currency=raw["currency"].upper(),
        amount=raw["amount"],
        created_at=at(raw["created"]),
        payment_intent=id_of(raw.get("payment_intent")),
        failure_code=outcome.get("reason") or raw.get("failure_code"),
        advice_code=outcome.get("advice_code"),
        disputed=bool(raw.get("disputed")),
        settled_currency=settled_currency,
        settled=settled,
    )


@checked
def refund(raw: Json, customer_id: str) -> Refund:
    """A refund does not name its customer; the charge that it was read with does."""
    settled_currency, settled = _settled([raw.get("balance_transaction")])
    return Refund(
        id=raw["id"],
        customer=customer_id,
        status=raw.get("status") or "pending",
        currency=raw["currency"].upper(),
        amount=raw["amount"],
        created_at=at(raw["created"]),
        payment=id_of(raw.get("payment_intent")) or id_of(raw.get("charge")),
        settled_currency=settled_currency,
        settled=settled,
    )


@checked
def dispute(raw: Json, customer_id: str) -> Dispute:
    """A dispute does not name its customer; its charge does."""
    movements = raw["balance_transactions"]
    currency = raw["currency"].upper()
    settled_currency, settled = _settled(movements)
    # Stripe shows up to two movements: withdrawn, and reinstated. In another currency only their number counts.
    same = all(each["currency"].upper() == currency for each in movements)
    withdrawn = -sum(each["amount"] for each in movements) if same else raw["amount"] * (len(movements) % 2)
    return Dispute(
        id=raw["id"],
        customer=customer_id,
        charge=named(raw["charge"]),
        status=raw["status"],
        currency=currency,
        amount=raw["amount"],
        withdrawn=withdrawn,
        created_at=at(raw["created"]),
        reason=raw.get("reason"),
        payment_intent=id_of(raw.get("payment_intent")),
        settled_currency=settled_currency,
        settled=settled,
    )


@checked
def credit_note(raw: Json) -> CreditNote:
    return CreditNote(
        id=raw["id"],
        customer=named(raw["customer"]),
        invoice=named(raw["invoice"]),
        status=raw["status"],
        currency=raw["currency"].upper(),
        total=raw["total"],
        out_of_band=raw.get("out_of_band_amount") or 0,
        created_at=at(raw["created"]),
        number=raw.get("number"),
        reason=raw.get("reason"),
    )


def event(raw: Json) -> Event:
    """An event without its payload: what it is about, and what that belongs to."""
    thing = raw["data"]["object"]
    kind = thing.get("object")
    return Event(
        id=raw["id"],
        type=raw["type"],
        created_at=at(raw["created"]),
        object_type=kind,
        object_id=thing.get("id"),
        object_created_at=micros(thing.get("created")),
        customer=thing.get("id") if kind == "customer" else id_of(thing.get("customer")),
        invoice=id_of(thing.get("invoice")),
        charge=id_of(thing.get("charge")),
    )


def _settled(movements: Iterable[Any]) -> tuple[str | None, int | None]:
    """The sum of the balance transactions that are shown in full, with their currency.

    These are integers that Stripe settled; its `exchange_rate` is a float and never multiplied by.
    """
    shown = [each for each in movements if isinstance(each, Mapping)]
    currencies = {each["currency"].upper() for each in shown}
    if len(currencies) != 1:
        return None, None
    return currencies.pop(), sum(each["amount"] for each in shown)


def _amounts(priced: Json) -> dict[str, Any]:
    """Always from `unit_amount_decimal`: `unit_amount` is null for prices with a fraction of a cent.

    With `transform_quantity` the amount is that of a package (docs.stripe.com/api/prices/object), and never taken for
    that of a unit. Raises ValueError for packages that cannot be reckoned.
    """
    text, packages = priced.get("unit_amount_decimal"), priced.get("transform_quantity")
    amount = None if text is None else Decimal(text)
    if packages is None:
        return {"unit_amount": amount}
    size, rounding = number(packages["divide_by"]), packages["round"]
    if size < 1 or rounding not in ("up", "down"):
        raise ValueError("transform_quantity")
    return {"package_amount": amount, "package_size": size, "package_rounding": rounding}
