"""What a plan leads to: the writes of all its rounds, told beforehand, and the world after them.

A round plans only what is possible at its moment; a person who has to approve wants to see the subscription, not
only the customer that must come before it. So the effects of the writes are imagined, record by record, and the
same planner plans again. It serves previews and guards; what is sent is always planned from a fresh look.

What a vendor makes gets a telling name instead of an id. Effects that only a vendor can know (an invoice, a tax, a
derived field) are left out: what would follow from them is not foreseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from dateutil.relativedelta import relativedelta

from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.crosswalk import SCHEDULE
from sync_pipeline.core.customers import slot_of_intent
from sync_pipeline.core.deal import months_after
from sync_pipeline.core.observation import Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.records import (
    SALESFORCE_RECORDS,
    Contract,
    Coupon,
    Customer,
    Discount,
    LineItem,
    Opportunity,
    Price,
    Subscription,
    SubscriptionItem,
    SubscriptionSchedule,
)
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.unrecorded import unrecorded_facts
from sync_pipeline.core.world import Billing, Catalogue, Deal, Link, World
from sync_pipeline.core.written import ONCE_ONLY

MAX_ROUNDS = 8
MICROS = 1_000_000
LENGTHS = {
    "day": relativedelta(days=1),
    "week": relativedelta(weeks=1),
    "month": relativedelta(months=1),
    "year": relativedelta(years=1),
}


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`now` is the plan of this moment, `rounds` the writes in the order in which they become possible, the first of
    them now's; `before` and `after` are the worlds around them. `is_whole` is false where some effect could not be
    imagined, so that more may follow.
    """

    before: World
    after: World
    now: Plan
    rounds: tuple[tuple[Command, ...], ...]
    is_whole: bool

    @property
    def commands(self) -> tuple[Command, ...]:
        return tuple(command for commands in self.rounds for command in commands)


def foresee(world: World, rules: Rules, personal_key: bytes, billing_of: Callable[[str], Billing]) -> Foreseen:
    """Plays the planner against the world as its own writes would leave it, until nothing is left to write.

    `billing_of` reads what Stripe holds for a customer that the plan adopts.
    """
    first = planned = plan(world, rules, personal_key)
    rounds: list[tuple[Command, ...]] = []
    now, is_whole = world, True
    while planned.commands and len(rounds) < MAX_ROUNDS:
        rounds.append(planned.commands)
        now, told = imagine(now, planned.commands, rules, billing_of)
        is_whole = is_whole and told
        planned = plan(now, rules, personal_key)
    return Foreseen(world, now, first, tuple(rounds), is_whole and not planned.commands)


def imagine(
    world: World, commands: Iterable[Command], rules: Rules, billing_of: Callable[[str], Billing]
) -> tuple[World, bool]:
    """The world after the commands, and whether all their effects could be told."""
    is_whole = True
    for command in commands:
        imagined = _imagine(world, command, rules, billing_of)
        is_whole = is_whole and imagined is not None
        # An effect that cannot be imagined blocks its target, or it would be planned again for ever.
        world = imagined or replace(world, blocked=world.blocked | {command.target})
        base = {(a.subject, a.rule): a.value for a in command.agreements}
        world = replace(world, base={**world.base, **base})
    return replace(world, facts=(*world.facts, *unrecorded_facts(world, rules))), is_whole


def _imagine(world: World, command: Command, rules: Rules, billing_of: Callable[[str], Billing]) -> World | None:
    """The world after the command; None when that cannot be told."""
    body = command.body
    match command.action:
        case "link":
            return _linked(world, command, billing_of)
        case "stripe.create":
            create = CREATES.get(body["object"])
            return create(world, command) if create else None
        case "stripe.update":
            update = UPDATES.get(body["object"])
            return update(world, command) if update else None
        case "stripe.delete":
            delete = DELETES.get(body["object"])
            return delete(world, command) if delete else None
        case "salesforce.update":
            return _record_changed(world, rules, body)
        case "salesforce.upsert":
            return _record_made(world, rules, body)
        case "salesforce.once" | "alert.send":
            return replace(world, once=world.once | {command.key})


def _linked(world: World, command: Command, billing_of: Callable[[str], Billing]) -> World:
    kind, external_id = command.body["kind"], command.body["external_id"]
    links = (*world.links, Link(kind, command.subject, external_id))
    candidates = world.candidates.value if isinstance(world.candidates, Present) else ()
    known = {c.id: c for c in candidates} | {
        name: seen.value for name, seen in world.customers.items() if isinstance(seen, Present)
    }
    if kind != "customer" or external_id not in known:
        return replace(world, links=links)
    billing = world.billing.value if isinstance(world.billing, Present) else Billing()
    if external_id not in world.customers:
        billing += billing_of(external_id)
    customers = {**world.customers, external_id: Present(known[external_id])}
    return replace(world, links=links, customers=customers, billing=Present(billing))


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
        **{part: address.get(part) for part in ("line1", "city", "state", "postal_code", "country")},
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
        trial_start_at=None if trial_end is None else start,
        trial_end_at=None if trial_end is None else trial_end * MICROS,
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


def _customer_changed(world: World, command: Command) -> World | None:
    """What a rule writes to a customer it does not read back into anything else: the customer is done with."""
    return replace(world, blocked=world.blocked | {command.target})


def _subscription_changed(world: World, command: Command) -> World | None:
    """Its end, its discounts, its items; other params are not imagined."""
    params, imagined = command.body["params"], False
    for names, change in PARTS_OF_A_SUBSCRIPTION.items():
        if not params.keys().isdisjoint(names):
            imagined, changed = True, change(world, command)
            if changed is None:
                return None
            world = changed
    return world if imagined else None


def _discounts_changed(world: World, command: Command) -> World | None:
    """What is given is all that the subscription has; items are only taken off theirs."""
    if not isinstance(world.billing, Present):
        return None
    name, params, billing = command.body["id"], command.body["params"], world.billing.value
    entries = params["discounts"] or ()
    goes_on = {entry["discount"] for entry in entries if "discount" in entry}
    bare = {entry["id"] for entry in params.get("items", ()) if entry.get("discounts") == ""}
    kept = (
        each
        for each in billing.discounts
        if each.subscription != name or each.id in goes_on or (each.item is not None and each.item not in bare)
    )
    catalogue = world.catalogue.value if isinstance(world.catalogue, Present) else Catalogue()
    granted = _granted(catalogue, (entry for entry in entries if "coupon" in entry), name, world.now)
    return replace(world, billing=Present(replace(billing, discounts=(*kept, *granted))))


def _end_changed(world: World, command: Command) -> World | None:
    """A subscription whose end is scheduled, moved or taken back."""
    params = command.body["params"]
    if not isinstance(world.billing, Present):
        return None
    billing, at = world.billing.value, params.get("cancel_at") or None
    end: dict[str, Any] = {
        "cancel_at": at and at * MICROS,
        "cancel_at_period_end": False,
        "canceled_at": at and world.now,
        "cancellation_comment": params.get("cancellation_details", {}).get("comment"),
        "cancellation_reason": at and "cancellation_requested",
    }
    changed = (replace(s, **end) if s.id == command.body["id"] else s for s in billing.subscriptions)
    return replace(world, billing=Present(replace(billing, subscriptions=tuple(changed))))


def _items_changed(world: World, command: Command) -> World | None:
    """A subscription's or an item's quantities and prices."""
    if not isinstance(world.billing, Present):
        return None
    body, billing = command.body, world.billing.value
    by_item = body["object"] == "subscription_item"
    entries = [{"id": body["id"], **body["params"]}] if by_item else body["params"].get("items")
    if entries is None:
        return None
    catalogue = _by_id(world.catalogue.value) if isinstance(world.catalogue, Present) else {}
    items = {item.id: item for item in billing.items}
    for number, entry in enumerate(entries, start=1):
        if entry.get("deleted"):
            items.pop(entry["id"])
            continue
        old = items.get(entry.get("id", ""))
        name = old.id if old else f"(new item {number} of {body['id']})"
        changed = _item(name, old.subscription if old else body["id"], entry, catalogue, old)
        if changed is None:
            return None
        items[name] = changed
    return replace(world, billing=Present(replace(billing, items=tuple(items.values()))))


PARTS_OF_A_SUBSCRIPTION: Mapping[tuple[str, ...], Callable[[World, Command], World | None]] = {
    ("cancel_at", "cancel_at_period_end"): _end_changed,
    ("discounts",): _discounts_changed,
    ("items",): _items_changed,
}
CREATES: Mapping[str, Callable[[World, Command], World | None]] = {
    "customer": _customer,
    "tax_id": _tax_id,
    "product": _product,
    "price": _price,
    "coupon": _coupon,
    "subscription": _subscription,
    SCHEDULE: _schedule,
}
UPDATES: Mapping[str, Callable[[World, Command], World | None]] = {
    "customer": _customer_changed,
    "subscription": _subscription_changed,
    "subscription_item": _items_changed,
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


def _record_changed(world: World, rules: Rules, body: Mapping[str, Any]) -> World | None:
    """One Salesforce record with its new values, wherever in the world it stands."""

    def changed(record: Any) -> Any:
        return _with_fields(rules, record, body["fields"]) if record and record.id == body["id"] else record

    account = world.account
    deals = tuple(
        replace(
            deal,
            opportunity=changed(deal.opportunity),
            lines=tuple(map(changed, deal.lines)),
            contract=changed(deal.contract),
        )
        for deal in world.deals
    )
    return replace(
        world,
        account=Present(changed(account.value)) if isinstance(account, Present) else account,
        deals=deals,
        churn_records=tuple(map(changed, world.churn_records)),
        renewals=tuple(map(changed, world.renewals)),
        tasks=tuple(map(changed, world.tasks)),
    )


def _record_made(world: World, rules: Rules, body: Mapping[str, Any]) -> World | None:
    """A churn record, a renewal, a Contract or a line; nothing is planned from other records that are made."""
    kind = next((k for k in ONCE_ONLY if rules.salesforce[k].object == body["object"]), None)
    if kind is None or kind not in SALESFORCE_RECORDS:
        return None
    ids = {"id": f"(new {body['object']} {body['external_id']})"}
    if kind == "line":
        ids["opportunity_id"] = body["fields"][rules.salesforce[kind].fields["opportunity_id"]]
    made = SALESFORCE_RECORDS[kind](**ids)
    made = _with_fields(rules, made, {body["external_field"]: body["external_id"], **body["fields"]})
    if isinstance(made, Opportunity):
        return replace(world, renewals=(*world.renewals, made))
    if isinstance(made, Contract):
        bills = {link.subject for link in world.links if link.external_id == made.stripe_subscription_id}
        deals = (replace(deal, contract=made) if deal.opportunity.id in bills else deal for deal in world.deals)
        return replace(world, deals=tuple(deals))
    if isinstance(made, LineItem):
        return replace(world, deals=tuple(_with_line(world, deal, made) for deal in world.deals))
    return replace(world, churn_records=(*world.churn_records, made))


def _with_line(world: World, deal: Deal, made: LineItem) -> Deal:
    """The deal with a line that is made on it; Salesforce copies what the line shows of its product."""
    if deal.opportunity.id != made.opportunity_id:
        return deal
    amended = next(line for each in world.deals for line in each.lines if line.id == made.amends_line_id)
    shown = {name: getattr(amended, name) for name in ("product_id", "product_name", "product_family")}
    return replace(deal, lines=(*deal.lines, replace(made, **shown)))


def _with_fields(rules: Rules, record: Any, fields: Mapping[str, Any]) -> Any:
    kind = next(name for name, cls in SALESFORCE_RECORDS.items() if isinstance(record, cls))
    names = {api: name for name, api in rules.salesforce[kind].fields.items()}
    known = {names[api]: value for api, value in fields.items() if api in names and hasattr(record, names[api])}
    return replace(record, **{name: _as_read(name, value) for name, value in known.items()})


def _as_read(name: str, value: Any) -> Any:
    """A value that is sent, as it will be read: moments are sent as ISO texts."""
    if name.endswith("_at") and isinstance(value, str):
        return int(datetime.fromisoformat(value).timestamp()) * MICROS
    return value
