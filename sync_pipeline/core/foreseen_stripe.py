"""What each write to Stripe leaves behind, imagined: the world after it, or None where that cannot be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from dateutil.relativedelta import relativedelta

from sync_pipeline.core.commands import Command
from sync_pipeline.core.crosswalk import SCHEDULE
from sync_pipeline.core.customers import slot_of_intent
from sync_pipeline.core.deal import months_after
from sync_pipeline.core.observation import Present
from sync_pipeline.core.schedule_phases import phase_form
from sync_pipeline.core.stripe_records import (
    Coupon,
    Customer,
    Discount,
    Price,
    Subscription,
    SubscriptionItem,
    SubscriptionSchedule,
)
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Catalogue, Link, World

Body = Mapping[str, Any]
ADDRESS = ("line1", "city", "state", "postal_code", "country")
LENGTHS = {
    "day": relativedelta(days=1),
    "week": relativedelta(weeks=1),
    "month": relativedelta(months=1),
    "year": relativedelta(years=1),
}


def _customer(world: World, command: Command) -> World:
    params = command.body["params"]
    slot = slot_of_intent(params["metadata"]["sf_intent"])
    address = params.get("address", {})
    made = Customer(
        id=f"(new customer of {slot})",
        name=params["name"],
        account_id=params["metadata"]["sf_account_id"],
        intent=params["metadata"]["sf_intent"],
        tax_ids=tuple(f"{each['type']}:{each['value']}" for each in params.get("tax_id_data", ())),
        tax_id_names=tuple(f"(new tax id of {slot})" for _ in params.get("tax_id_data", ())),
        **{part: address.get(part) for part in ADDRESS},
    )
    billing = world.billing.value if isinstance(world.billing, Present) else Billing()
    return replace(
        world,
        customers={**world.customers, made.id: Present(made)},
        links=(*world.links, Link("customer", slot, made.id)),
        billing=Present(billing),
    )


def _tax_id(world: World, command: Command) -> World | None:
    params = command.body["params"]
    seen = world.customers.get(params["owner"]["customer"])
    if not isinstance(seen, Present):
        return None
    customer = seen.value
    given = replace(
        customer,
        tax_ids=(*customer.tax_ids, f"{params['type']}:{params['value']}"),
        tax_id_names=(*customer.tax_id_names, f"(new tax id of {customer.id})"),
    )
    return replace(world, customers={**world.customers, customer.id: Present(given)})


def _tax_id_deleted(world: World, command: Command) -> World | None:
    customers = dict(world.customers)
    for customer_id, seen in world.customers.items():
        if isinstance(seen, Present):
            pairs = zip(seen.value.tax_ids, seen.value.tax_id_names, strict=False)
            left = [(value, name) for value, name in pairs if name != command.body["id"]]
            values, names = (tuple(pair[part] for pair in left) for part in (0, 1))
            customers[customer_id] = Present(replace(seen.value, tax_ids=values, tax_id_names=names))
    return replace(world, customers=customers)


def _product(world: World, command: Command) -> World | None:
    if not isinstance(world.catalogue, Present):
        return None
    catalogue = world.catalogue.value
    products = catalogue.products | {command.body["params"]["id"]}
    return replace(world, catalogue=Present(replace(catalogue, products=products)))


def _price(world: World, command: Command) -> World | None:
    if not isinstance(world.catalogue, Present):
        return None
    catalogue, params = world.catalogue.value, command.body["params"]
    recurring = params.get("recurring", {})
    made = Price(
        id=f"(new price {params['lookup_key']})",
        product=params["product"],
        currency=params["currency"].upper(),
        lookup_key=params["lookup_key"],
        unit_amount=Decimal(params["unit_amount_decimal"]),
        interval=recurring.get("interval"),
        interval_count=recurring.get("interval_count"),
    )
    prices = {**catalogue.prices, params["lookup_key"]: made}
    return replace(world, catalogue=Present(replace(catalogue, prices=prices)))


def _coupon(world: World, command: Command) -> World | None:
    if not isinstance(world.catalogue, Present):
        return None
    catalogue, params = world.catalogue.value, command.body["params"]
    percent, currency = params.get("percent_off"), params.get("currency")
    made = Coupon(
        id=params["id"],
        valid=True,
        duration=params["duration"],
        months=params.get("duration_in_months"),
        percent=None if percent is None else Decimal(percent),
        amount=params.get("amount_off"),
        currency=currency and currency.upper(),
    )
    return replace(world, catalogue=Present(replace(catalogue, coupons={**catalogue.coupons, made.id: made})))


def _schedule(world: World, command: Command) -> World | None:
    """A schedule; where its first phase begins at once or before, its subscription too."""
    if not isinstance(world.billing, Present):
        return None
    params = command.body["params"]
    first, metadata, start = params["phases"][0], params["metadata"], params["start_date"]
    begun = start * MICROS <= world.now
    made = SubscriptionSchedule(
        id=f"(new schedule of {command.subject})",
        customer=params["customer"],
        status="active" if begun else "not_started",
        starts_at=start * MICROS,
        phase_starts_at=start * MICROS if begun else None,
        phases=tuple(_phase_forms(params["phases"], start)),
        subscription=f"(new subscription of {command.subject})" if begun else None,
        account_id=metadata["sf_account_id"],
        opportunity_id=metadata["sf_opportunity_id"],
        intent=metadata["sf_intent"],
        terms=metadata["sf_terms"],
    )
    billing = replace(world.billing.value, schedules=(*world.billing.value.schedules, made))
    links = (*world.links, Link(SCHEDULE, command.subject, made.id))
    world = replace(world, billing=Present(billing), links=links)
    if not begun:
        return world
    body = {
        "customer": params["customer"],
        **params["default_settings"].get("invoice_settings", {}),
        "collection_method": params["default_settings"]["collection_method"],
        "items": first["items"],
        "metadata": metadata,
        "backdate_start_date": start,
        "trial_end": first.get("trial_end"),
        "discounts": first.get("discounts", ()),
    }
    return _subscription(world, replace(command, body={"object": "subscription", "params": body}))


def _subscription(world: World, command: Command) -> World | None:
    if not isinstance(world.billing, Present) or not isinstance(world.catalogue, Present):
        return None
    params, prices = command.body["params"], _by_id(world.catalogue.value)
    metadata = params["metadata"]
    trial_end = params.get("trial_end")
    items = [
        _item(f"(new item {number} of {command.subject})", f"(new subscription of {command.subject})", entry, prices)
        for number, entry in enumerate(params["items"], start=1)
    ]
    start = params.get("backdate_start_date", world.now // MICROS) * MICROS
    whole = [_in_its_first_period(item, start, world.now) for item in items if item is not None]
    if len(whole) < len(items):
        return None
    made = Subscription(
        id=f"(new subscription of {command.subject})",
        customer=params["customer"],
        status="trialing" if trial_end is not None else "active",
        currency=whole[0].currency,
        created_at=world.now,
        start_at=start,
        collection_method=params["collection_method"],
        days_until_due=params.get("days_until_due"),
        trial_start_at=None if trial_end is None else start,
        trial_end_at=None if trial_end is None else trial_end * MICROS,
        anchor_at=start if trial_end is None else trial_end * MICROS,
        account_id=metadata["sf_account_id"],
        opportunity_id=metadata["sf_opportunity_id"],
        intent=metadata["sf_intent"],
    )
    billing = world.billing.value
    granted = _granted(world.catalogue.value, params.get("discounts", ()), made.id, start)
    billing = replace(
        billing,
        subscriptions=(*billing.subscriptions, made),
        items=(*billing.items, *whole),
        discounts=(*billing.discounts, *granted),
    )
    links = (*world.links, Link("subscription", command.subject, made.id))
    return replace(world, billing=Present(billing), links=links)


def _granted(
    catalogue: Catalogue, entries: Iterable[Mapping[str, Any]], subscription: str, start: int
) -> Iterator[Discount]:
    """The discounts of a new subscription, from coupons that we know."""
    for position, entry in enumerate(entries):
        if (coupon := catalogue.coupons.get(entry["coupon"])) is not None:
            ends = None if coupon.months is None else months_after(start // MICROS, coupon.months) * MICROS
            yield Discount(
                id=f"(new discount of {subscription})",
                subscription=subscription,
                position=position,
                coupon=coupon.id,
                duration=coupon.duration,
                percent_off=coupon.percent,
                amount_off=coupon.amount,
                start_at=start,
                end_at=ends,
            )


def _customer_changed(world: World, body: Body) -> World | None:
    """Its name, its address and the Account that it says it is of."""
    seen, params = world.customers.get(body["id"]), body["params"]
    if not isinstance(seen, Present):
        return None
    changed: dict[str, Any] = {"name": params["name"] or None} if "name" in params else {}
    if "address" in params:
        changed |= {part: (params["address"] or {}).get(part) or None for part in ADDRESS}
    if "sf_account_id" in params.get("metadata", {}):
        changed["account_id"] = params["metadata"]["sf_account_id"] or None
    return replace(world, customers={**world.customers, seen.value.id: Present(replace(seen.value, **changed))})


def _subscription_changed(world: World, body: Body) -> World | None:
    """Its end, how it is collected, its discounts, its items; other params are not imagined."""
    params, imagined = body["params"], False
    for names, change in PARTS_OF_A_SUBSCRIPTION.items():
        if not params.keys().isdisjoint(names):
            imagined, changed = True, change(world, body)
            if changed is None:
                return None
            world = changed
    return world if imagined else None


def _discounts_changed(world: World, body: Body) -> World | None:
    """What is given is all that the subscription has; items are only taken off theirs."""
    if not isinstance(world.billing, Present):
        return None
    name, params, billing = body["id"], body["params"], world.billing.value
    entries = params["discounts"] or ()
    goes_on = {entry["discount"] for entry in entries if "discount" in entry}
    bare = {entry["id"] for entry in params.get("items", ()) if entry.get("discounts") == ""}
    has = {each.coupon: each.id for each in billing.discounts if each.subscription == name and each.item is None}
    goes_on |= {has[entry["coupon"]] for entry in entries if entry.get("coupon") in has}
    new = [entry for entry in entries if "coupon" in entry and entry["coupon"] not in has]
    kept = (
        each
        for each in billing.discounts
        if each.subscription != name or each.id in goes_on or (each.item is not None and each.item not in bare)
    )
    catalogue = world.catalogue.value if isinstance(world.catalogue, Present) else Catalogue()
    if any(entry["coupon"] not in catalogue.coupons for entry in new):
        return None
    granted = _granted(catalogue, new, name, world.now)
    return replace(world, billing=Present(replace(billing, discounts=(*kept, *granted))))


def _end_changed(world: World, body: Body) -> World | None:
    """A subscription whose end is scheduled, moved or taken back."""
    params = body["params"]
    if not isinstance(world.billing, Present):
        return None
    billing, at = world.billing.value, params.get("cancel_at") or None
    if all(s.id != body["id"] for s in billing.subscriptions):
        return None
    end: dict[str, Any] = {
        "cancel_at": at and at * MICROS,
        "cancel_at_period_end": False,
        "canceled_at": at and world.now,
        "cancellation_comment": params.get("cancellation_details", {}).get("comment"),
        "cancellation_reason": at and "cancellation_requested",
    }
    changed = (
        replace(s, **end) if s.id == body["id"] and not _ends(s, end["cancel_at"]) else s for s in billing.subscriptions
    )
    return replace(world, billing=Present(replace(billing, subscriptions=tuple(changed))))


def _collection_changed(world: World, body: Body) -> World | None:
    """How a subscription's invoices are collected from now on."""
    if not isinstance(world.billing, Present):
        return None
    params, billing = body["params"], world.billing.value
    collected = {name: params.get(name) for name in ("collection_method", "days_until_due")}
    changed = (replace(s, **collected) if s.id == body["id"] else s for s in billing.subscriptions)
    return replace(world, billing=Present(replace(billing, subscriptions=tuple(changed))))


def _ends(subscription: Subscription, at: int | None) -> bool:
    return subscription.cancel_at == at and not subscription.cancel_at_period_end


def _items_changed(world: World, body: Body) -> World | None:
    """A subscription's or an item's quantities and prices."""
    if not isinstance(world.billing, Present):
        return None
    billing = world.billing.value
    by_item = body["object"] == "subscription_item"
    entries = [{"id": body["id"], **body["params"]}] if by_item else body["params"].get("items")
    if entries is None:
        return None
    catalogue = _by_id(world.catalogue.value) if isinstance(world.catalogue, Present) else {}
    items = {item.id: item for item in billing.items}
    for number, entry in enumerate(entries, start=1):
        if entry.get("deleted"):
            items.pop(entry["id"], None)
            continue
        old = items.get(entry.get("id", ""))
        if old is None and "id" in entry:
            # Somebody has taken it off.
            return None
        if old is None and any(_bills(item, body["id"], entry) for item in items.values()):
            continue
        name = old.id if old else f"(new item {number} of {body['id']})"
        changed = _item(name, old.subscription if old else body["id"], entry, catalogue, old)
        if changed is None:
            return None
        items[name] = changed
    return replace(world, billing=Present(replace(billing, items=tuple(items.values()))))


def _bills(item: SubscriptionItem, subscription: str, entry: Mapping[str, Any]) -> bool:
    """Whether what is to be added is there already: Stripe refuses two items of one price."""
    lines = tuple(sorted(entry.get("metadata", {}).get("sf_line_id", "").split(",")))
    shown = (item.subscription, item.price, item.quantity, item.line_ids)
    return shown == (subscription, entry["price"], entry.get("quantity", 1), lines)


def _phase_forms(phases: Iterable[Mapping[str, Any]], starts: int) -> Iterator[str]:
    for phase in phases:
        yield phase_form(starts, phase["end_date"], ((each["price"], each["quantity"]) for each in phase["items"]))
        starts = phase["end_date"]


def _schedule_changed(world: World, body: Body) -> World | None:
    """The terms that a schedule says; where it runs, its subscription bills those of the first phase that is said."""
    params = body["params"]
    if not isinstance(world.billing, Present):
        return None
    billing = world.billing.value
    prices = _by_id(world.catalogue.value) if isinstance(world.catalogue, Present) else {}
    old = next((each for each in billing.schedules if each.id == body["id"]), None)
    if old is None:
        return None
    first = params["phases"][0]
    starts = first["start_date"] if isinstance(first["start_date"], int) else world.now // MICROS
    new = replace(old, terms=params["metadata"]["sf_terms"], phases=tuple(_phase_forms(params["phases"], starts)))
    if new == old:
        return world
    if old.status == "not_started":
        new = replace(new, starts_at=starts * MICROS)
    items = list(billing.items)
    if old.status == "active":
        held = {item.price: item for item in items if item.subscription == old.subscription}
        now = [
            _item(
                f"(new item {number} of {body['id']})", str(old.subscription), entry, prices, held.get(entry["price"])
            )
            for number, entry in enumerate(first["items"], start=1)
        ]
        whole = [_in_its_first_period(item, starts * MICROS, world.now) for item in now if item is not None]
        if len(whole) < len(now):
            return None
        kept = {item.price: item.id for item in held.values()}
        whole = [replace(item, id=kept.get(item.price, item.id)) for item in whole]
        items = [item for item in items if item.subscription != old.subscription] + whole
    schedules = tuple(new if each.id == old.id else each for each in billing.schedules)
    return replace(world, billing=Present(replace(billing, schedules=schedules, items=tuple(items))))


PARTS_OF_A_SUBSCRIPTION: Mapping[tuple[str, ...], Callable[[World, Body], World | None]] = {
    ("cancel_at", "cancel_at_period_end"): _end_changed,
    ("collection_method",): _collection_changed,
    ("discounts",): _discounts_changed,
    ("items",): _items_changed,
}


def _charge(world: World, command: Command) -> World:
    """It waits for an invoice; that its line is charged is remembered with the command."""
    return world


CREATES: Mapping[str, Callable[[World, Command], World | None]] = {
    "customer": _customer,
    "tax_id": _tax_id,
    "product": _product,
    "price": _price,
    "coupon": _coupon,
    "subscription": _subscription,
    SCHEDULE: _schedule,
    "invoiceitem": _charge,
}
UPDATES: Mapping[str, Callable[[World, Body], World | None]] = {
    "customer": _customer_changed,
    "subscription": _subscription_changed,
    "subscription_item": _items_changed,
    SCHEDULE: _schedule_changed,
}


DELETES: Mapping[str, Callable[[World, Command], World | None]] = {"tax_id": _tax_id_deleted}


def _by_id(catalogue: Catalogue) -> dict[str, Price]:
    return {price.id: price for price in catalogue.prices.values()}


def _item(
    name: str,
    subscription: str,
    entry: Mapping[str, Any],
    prices: Mapping[str, Price],
    old: SubscriptionItem | None = None,
) -> SubscriptionItem | None:
    """An item as an entry of a request leaves it; None when its price is not known."""
    quantity = entry.get("quantity", old.quantity if old else 1)
    line_ids = entry.get("metadata", {}).get("sf_line_id")
    lines = tuple(sorted(line_ids.split(","))) if line_ids else old.line_ids if old else ()
    if old is not None and entry.get("price", old.price) == old.price:
        return replace(old, quantity=quantity, line_ids=lines)
    price = prices.get(entry["price"])
    if price is None or price.interval is None or price.interval_count is None:
        return None
    return SubscriptionItem(
        id=name,
        subscription=subscription,
        price=price.id,
        product=price.product,
        currency=price.currency,
        interval=price.interval,
        interval_count=price.interval_count,
        usage_type="licensed",
        unit_amount=price.unit_amount,
        quantity=quantity,
        period_start=old.period_start if old else None,
        period_end=old.period_end if old else None,
        line_ids=lines,
    )


def _in_its_first_period(item: SubscriptionItem, start: int, now: int) -> SubscriptionItem:
    """With the period that runs now; periods are counted from the start in UTC, as Stripe counts them."""
    begin = datetime.fromtimestamp(start // MICROS, UTC)
    length = LENGTHS[item.interval] * item.interval_count
    passed = 0
    while int((begin + length * (passed + 1)).timestamp()) * MICROS <= now:
        passed += 1
    period_start, period_end = (int((begin + length * n).timestamp()) * MICROS for n in (passed, passed + 1))
    return replace(item, period_start=period_start, period_end=period_end)
