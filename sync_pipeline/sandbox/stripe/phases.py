"""Phases of subscription schedules: what their parameters say, and a subscription that enters one.

When phases begin and end is `schedules`. A phase that begins at the end of a billing period is billed by the renewal of
that moment; one within a period prorates as it says.
"""

from __future__ import annotations

from collections import Counter

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors, taxes
from sync_pipeline.sandbox.stripe.cycles import schedule_next
from sync_pipeline.sandbox.stripe.discounts import held
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.invoice_items import CHARGE_PERIOD, add_charges, check_charge_count, one_time_price
from sync_pipeline.sandbox.stripe.money import check_currency
from sync_pipeline.sandbox.stripe.operations import pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.periods import add_interval, compatible
from sync_pipeline.sandbox.stripe.pictures import all_of, finish, show
from sync_pipeline.sandbox.stripe.subscription_changes import (
    change_items,
    change_terms,
    invoice_pending,
    restart_periods,
    start_trial,
    swap_items,
)
from sync_pipeline.sandbox.stripe.subscription_create import check_collection, plain_fields
from sync_pipeline.sandbox.stripe.subscriptions import items_of, named_price, price_for
from sync_pipeline.sandbox.stripe.world import World

ITEM = "price plan price_data quantity metadata tax_rates discounts"
PHASE = (
    "end_date duration proration_behavior metadata collection_method invoice_settings.days_until_due trial trial_end"
    " default_payment_method description currency discounts default_tax_rates billing_cycle_anchor"
    " automatic_tax.enabled add_invoice_items "
) + " ".join(f"items.{name}" for name in ITEM.split())
_KEPT = "collection_method default_payment_method description invoice_settings billing_cycle_anchor"


def read_phases(world: World, given: list[Params], start: int) -> list[Row]:
    """Phases with both ends fixed, one after the other from `start`."""
    phases: list[Row] = []
    for i, phase in enumerate(given):
        phases.append(_phase(world, phase, start, f"phases[{i}]"))
        start = phases[-1]["end_date"]
    return phases


def _phase(world: World, phase: Params, start: int, param: str) -> Row:
    if not phase.get("items"):
        raise errors.required(f"{param}[items]")
    taxes.unsupported_automatic(phase)
    begin = phase.get("start_date", start)
    begin = start if begin == "now" else begin
    items = [_item(world, item, f"{param}[items][{n}]") for n, item in enumerate(phase["items"])]
    prices = [world.need("price", item["price"]) for item in items]
    currency = _one_currency(phase, prices, param)
    end = _end(world, phase, begin, prices[0]["recurring"], param)
    charges = phase.get("add_invoice_items") or ()
    check_charge_count(charges, f"{param}[add_invoice_items]")
    row = {
        **pick(phase, _KEPT), "trial_end": _trial_end(phase, begin, end, param),
        "add_invoice_items": [
            _charge(world, entry, currency, f"{param}[add_invoice_items][{n}]") for n, entry in enumerate(charges)
        ],
        "automatic_tax": {"enabled": False}, "currency": currency, "discounts": phase.get("discounts") or [],
        "end_date": end, "items": items, "metadata": phase.get("metadata") or {}, "start_date": begin,
        "proration_behavior": phase.get("proration_behavior", "create_prorations"),
        "default_tax_rates": taxes.check_rates(world, phase.get("default_tax_rates"), f"{param}[default_tax_rates]"),
    }  # fmt: skip
    return {name: value for name, value in row.items() if value is not None}


def _item(world: World, item: Params, param: str) -> Row:
    item = named_price(world, item, param)
    price = price_for(world, item, param)
    return {
        "discounts": item.get("discounts") or [], "metadata": item.get("metadata") or {}, "price": price["id"],
        "plan": price["id"], "quantity": item.get("quantity", 1),
        "tax_rates": taxes.check_rates(world, item.get("tax_rates"), f"{param}[tax_rates]") or [],
    }  # fmt: skip


def _charge(world: World, entry: Params, currency: str, param: str) -> Row:
    """A single charge of the phase, its price made first where it is only described."""
    price = one_time_price(world, entry)
    if price is None:
        raise errors.required(f"{param}[price]")
    if price["currency"] != currency:
        raise StripeError(f"The price {price['id']} is in {price['currency']}, the phase in {currency}.",
                          param=f"{param}[price]")  # fmt: skip
    return {
        "discounts": entry.get("discounts") or [], "metadata": entry.get("metadata") or {}, "price": price["id"],
        "quantity": entry.get("quantity", 1), "discountable": entry.get("discountable", True),
        "period": CHARGE_PERIOD | (entry.get("period") or {}),
        "tax_rates": taxes.check_rates(world, entry.get("tax_rates"), f"{param}[tax_rates]") or [],
    }  # fmt: skip


def _one_currency(phase: Params, prices: list[Row], param: str) -> str:
    intervals = [(p["recurring"]["interval"], p["recurring"]["interval_count"]) for p in prices]
    same_currency = len({p["currency"] for p in prices}) == 1
    if not compatible(intervals) or not same_currency or len({p["id"] for p in prices}) < len(prices):
        raise StripeError("The prices of a phase must differ, share a currency, and have intervals that are "
                          "multiples of the shortest one.", param=f"{param}[items]")  # fmt: skip
    currency: str = prices[0]["currency"]
    if check_currency(phase.get("currency") or currency) != currency:
        raise StripeError(
            f"The price specified only supports `{currency}`. This doesn't match the expected currency: "
            f"`{phase['currency']}`.", param=f"{param}[items]",
        )  # fmt: skip
    return currency


def _end(world: World, phase: Params, begin: int, recurring: Row, param: str) -> int:
    end = phase.get("end_date")
    if end is not None and phase.get("duration"):
        raise errors.exclusive("end_date", "duration", f"{param}[end_date]")
    if end is None:
        length = phase.get("duration") or recurring
        try:
            end = add_interval(begin, length["interval"], length.get("interval_count", 1))
        except (OverflowError, ValueError):
            raise StripeError("A phase cannot last that long.", param=f"{param}[duration][interval_count]") from None
    elif end == "now":
        end = world.now()
    if end <= begin:
        raise StripeError("A phase must end after it starts.", param=f"{param}[end_date]")
    return int(end)


def _trial_end(phase: Params, begin: int, end: int, param: str) -> int | None:
    """`trial` makes a trial of the whole phase, `trial_end` of its first part."""
    trial_end = phase.get("trial_end")
    if phase.get("trial") and trial_end is not None:
        raise errors.exclusive("trial", "trial_end", f"{param}[trial]")
    if phase.get("trial"):
        trial_end = end
    if trial_end is None:
        return None
    if not begin < trial_end <= end:
        raise StripeError("A trial must end within its phase.", param=f"{param}[trial_end]")
    if phase.get("billing_cycle_anchor") == "phase_start":
        raise StripeError("`billing_cycle_anchor` cannot be `phase_start` if the phase specifies a trial.",
                          param=f"{param}[billing_cycle_anchor]")  # fmt: skip
    return int(trial_end)


# what a phase makes of its subscription


def check_phase(world: World, customer: Row, schedule: Row, phase: Row) -> None:
    """Refuse now what could not be done when the phase begins."""
    collection = _collection(schedule, phase)
    check_collection({k: v for k, v in collection.items() if v is not None})
    plain_fields(world, collection, customer)
    for entry in (*phase["discounts"], *(d for i in phase["items"] for d in i["discounts"])):
        for name in ("coupon", "promotion_code", "discount"):
            if entry.get(name):
                world.need(name, entry[name], f"phases[discounts][{name}]")


def first_subscription(schedule: Row, phase: Row) -> Params:
    """The parameters of the subscription that a schedule's first phase starts."""
    return {
        "items": [_item_params(item) for item in phase["items"]],
        "metadata": phase["metadata"], "discounts": phase["discounts"],
        "default_tax_rates": phase.get("default_tax_rates"),
        "add_invoice_items": phase["add_invoice_items"],
        **pick(phase, "trial_end"),
        **_collection(schedule, phase),
    }  # fmt: skip


def _collection(schedule: Row, phase: Row) -> Params:
    """How the subscription is described and collected in a phase: as it says, else as the schedule does."""
    defaults = schedule["default_settings"]
    method = phase.get("collection_method") or defaults["collection_method"]
    params: Params = {"collection_method": method}
    if method == "send_invoice":
        days = (phase.get("invoice_settings") or defaults["invoice_settings"]).get("days_until_due")
        params["days_until_due"] = days
    for name in ("default_payment_method", "description"):
        params[name] = phase.get(name) or defaults.get(name)
    return params


def enter(world: World, schedule: Row, phase: Row, behaviour: str, charges: list[Row]) -> None:
    """The subscription becomes what the phase says: items replaced, metadata merged, `charges` added to its next
    invoice. `behaviour`: whether and when what changes within a period is prorated."""
    subscription = world.need("subscription", schedule["subscription"])
    customer = world.need("customer", subscription["customer"])
    add_charges(world, customer, subscription, charges, (phase["start_date"], phase["end_date"]))
    now, trial_end = world.now(), phase.get("trial_end", 0)
    at_end = any(i["current_period_end"] == now for i in items_of(world, subscription["id"]))
    how = {"proration_behavior": behaviour}
    with world.watching("subscription", subscription["id"], "customer.subscription.updated"):
        subscription = change_terms(world, subscription, {
            "metadata": phase["metadata"], "discounts": held(world, subscription["discounts"], phase["discounts"]),
            "default_tax_rates": phase.get("default_tax_rates"), **_collection(schedule, phase),
        })  # fmt: skip
        entries = _entries(world, subscription, phase)
        anchored = _resets_anchor(schedule, phase) and phase["start_date"] == now
        if trial_end > now:
            if subscription.get("trial_end") != trial_end:
                how = {"proration_behavior": "none"} if at_end else how
                subscription = start_trial(world, subscription, trial_end, how)
            change_items(world, subscription, entries, how)
        elif at_end:
            swap_items(world, subscription, entries)
            if anchored:
                world.update(world.need("subscription", subscription["id"]), {"billing_cycle_anchor": now})
        else:
            change_items(world, subscription, entries, how)
            subscription = world.need("subscription", subscription["id"])
            if anchored:
                restart_periods(world, world.update(subscription, {"billing_cycle_anchor": now}), now, how)
            elif behaviour == "always_invoice":
                invoice_pending(world, subscription, how)
    schedule_next(world, world.need("subscription", subscription["id"]))


def _resets_anchor(schedule: Row, phase: Row) -> bool:
    said = phase.get("billing_cycle_anchor") or schedule["default_settings"]["billing_cycle_anchor"]
    return bool(said == "phase_start")


def _entries(world: World, subscription: Row, phase: Row) -> list[Params]:
    """The phase's items as changes to those of the subscription, which are told apart by price."""
    known = {i["_price"]: i for i in items_of(world, subscription["id"])}
    wanted = {i["price"]: i for i in phase["items"]}
    entries: list[Params] = [{"id": i["id"], "deleted": True} for p, i in known.items() if p not in wanted]
    for price, item in wanted.items():
        if price not in known:
            entries.append(_item_params(item))
            continue
        dropped = dict.fromkeys(known[price]["metadata"].keys() - item["metadata"].keys(), "")
        entries.append({
            "id": known[price]["id"], **pick(item, "quantity tax_rates"), "metadata": item["metadata"] | dropped,
            "discounts": held(world, known[price]["discounts"], item["discounts"]),
        })  # fmt: skip
    return entries


def _item_params(item: Row) -> Params:
    return pick(item, "price quantity metadata tax_rates discounts")


def charge_key(world: World, charge: Row) -> tuple[str, str, str, int]:
    """What makes two single charges of a phase the same one, however their price was given."""
    price = world.need("price", charge["price"])
    return price["product"], price["currency"], price["unit_amount_decimal"], charge["quantity"]


def fresh_charges(world: World, before: list[Row], after: list[Row]) -> list[Row]:
    """The charges of a phase that has begun which were not in it before: what is resent is not billed again."""
    seen = Counter(charge_key(world, charge) for charge in before)
    fresh = []
    for charge in after:
        key = charge_key(world, charge)
        if seen[key]:
            seen[key] -= 1
        else:
            fresh.append(charge)
    return fresh


@finish("subscription_schedule")
def show_tax_rates(world: World, shown: Row) -> None:
    """Phases name their tax rates by id; Stripe shows them whole."""

    def whole(owner: Row, name: str) -> Row:
        return {**owner, name: [show(world, p) for p in all_of(world, "tax_rate", owner.get(name))]}

    shown["phases"] = [
        {
            **whole(phase, "default_tax_rates"),
            **{part: [whole(each, "tax_rates") for each in phase[part]] for part in ("items", "add_invoice_items")},
        }
        for phase in shown["phases"]
    ]
