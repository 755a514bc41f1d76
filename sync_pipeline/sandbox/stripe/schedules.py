"""Subscription schedules: phases that the clock brings in, one after the other.

A phase change at the end of a billing period is billed by the renewal; one within a period prorates as the phase says.
"""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.cycles import schedule_next
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.money import check_currency
from sync_pipeline.sandbox.stripe.operations import merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.periods import add_interval, compatible
from sync_pipeline.sandbox.stripe.settings import DAY
from sync_pipeline.sandbox.stripe.standing import ENDED
from sync_pipeline.sandbox.stripe.subscription_changes import change_subscription
from sync_pipeline.sandbox.stripe.subscription_create import check_collection, create_subscription, plain_fields
from sync_pipeline.sandbox.stripe.subscription_operations import cancel_with
from sync_pipeline.sandbox.stripe.subscriptions import check_items, items_of, new_item, price_for
from sync_pipeline.sandbox.stripe.world import World, timer

KIND = "subscription_schedule"
EXPIRY_NOTICE = 7 * DAY
_ITEM = "price quantity metadata"
_PHASE = (
    "end_date duration proration_behavior metadata collection_method invoice_settings.days_until_due"
    " default_payment_method description currency trial_end "
) + " ".join(f"items.{name}" for name in _ITEM.split())
_PHASES = " ".join(f"phases.{name}" for name in _PHASE.split())
_DEFAULTS = (
    "default_settings.collection_method default_settings.invoice_settings.days_until_due"
    " default_settings.default_payment_method default_settings.description default_settings.billing_cycle_anchor"
)


@operation(
    "POST /v1/subscription_schedules",
    f"customer from_subscription start_date end_behavior metadata billing_mode {_DEFAULTS} {_PHASES}",
)
def create_schedule(world: World, params: Params, args: list[str]) -> Row:
    _check_end(params)
    if params.get("from_subscription"):
        return _from_subscription(world, params)
    for name in ("customer", "phases"):
        if not params.get(name):
            raise errors.required(name)
    customer = world.need("customer", params["customer"], "customer")
    start = params.get("start_date", "now")
    start = world.now() if start == "now" else start
    if start < world.now():
        raise errors.unsupported("schedules that start in the past", "start_date")
    defaults = _default_settings(params)
    phases = _phases(world, params["phases"], start)
    for phase in phases:
        _check_collection(world, customer, {"default_settings": defaults}, phase)
    row = world.create(KIND, {
        "billing_mode": _billing_mode(params, world.now()), "customer": customer["id"], "default_settings": defaults,
        "end_behavior": params.get("end_behavior", "release"), "metadata": merge_metadata(None, params),
        "pause_schedules": [], "phases": phases, "status": "not_started",
    }, event="subscription_schedule.created")  # fmt: skip
    if start <= world.now():
        return _begin(world, row)
    world.set_timer("schedule", row["id"], start)
    return row


def _check_end(params: Params) -> None:
    if params.get("end_behavior") in ("none", "renew"):
        raise errors.unsupported(f"end_behavior={params['end_behavior']}", "end_behavior")


def _billing_mode(params: Params, now: int) -> Row:
    kind = (params.get("billing_mode") or {}).get("type", "flexible")
    return {"type": kind, "flexible": {"proration_discounts": "included"} if kind == "flexible" else None,
            "updated_at": now}  # fmt: skip


def _default_settings(params: Params) -> Row:
    given = params.get("default_settings") or {}
    if given.get("billing_cycle_anchor", "automatic") != "automatic":
        raise errors.unsupported("billing cycle anchors of phases", "default_settings[billing_cycle_anchor]")
    return {
        "automatic_tax": {"enabled": False}, "billing_cycle_anchor": "automatic",
        "collection_method": "charge_automatically",
        **pick(given, "collection_method default_payment_method description"),
        "invoice_settings": {"issuer": {"type": "self"}, **(given.get("invoice_settings") or {})},
    }  # fmt: skip


def _phases(world: World, given: list[Params], start: int) -> list[Row]:
    """Phases with both ends fixed, one after the other from `start`."""
    phases = []
    for i, phase in enumerate(given):
        if not phase.get("items"):
            raise errors.required(f"phases[{i}][items]")
        begin = phase.get("start_date", start)
        begin = start if begin == "now" else begin
        for n, item in enumerate(phase["items"]):
            if item.get("quantity", 1) < 0:
                raise StripeError("This value must be greater than or equal to 0.", code="parameter_invalid_integer",
                                  param=f"phases[{i}][items][{n}][quantity]")  # fmt: skip
        prices = [price_for(world, item, f"phases[{i}][items][{n}]") for n, item in enumerate(phase["items"])]
        intervals = [(p["recurring"]["interval"], p["recurring"]["interval_count"]) for p in prices]
        same_currency = len({p["currency"] for p in prices}) == 1
        if not compatible(intervals) or not same_currency or len({p["id"] for p in prices}) < len(prices):
            raise StripeError("The prices of a phase must differ, share a currency, and have intervals that are "
                              "multiples of the shortest one.", param=f"phases[{i}][items]")  # fmt: skip
        currency = prices[0]["currency"]
        if check_currency(phase.get("currency") or currency) != currency:
            raise StripeError(
                f"The price specified only supports `{currency}`. This doesn't match the expected currency: "
                f"`{phase['currency']}`.", param=f"phases[{i}][items]",
            )  # fmt: skip
        if i and "trial_end" in phase:
            raise errors.unsupported("a trial in a later phase", f"phases[{i}][trial_end]")
        if phase.get("trial_end", begin + 1) <= begin:
            raise StripeError("A trial must end after its phase starts.", param=f"phases[{i}][trial_end]")
        end = phase.get("end_date")
        if end is None:
            recurring = prices[0]["recurring"]
            length = phase.get("duration") or recurring
            end = add_interval(begin, length["interval"], length.get("interval_count", 1))
        elif end == "now":
            end = world.now()
        if end <= begin:
            raise StripeError("A phase must end after it starts.", param=f"phases[{i}][end_date]")
        items = [
            {"discounts": [], "metadata": item.get("metadata") or {}, "price": price["id"], "plan": price["id"],
             "quantity": item.get("quantity", 1), "tax_rates": []}
            for item, price in zip(phase["items"], prices, strict=True)
        ]  # fmt: skip
        phases.append({
            **pick(phase, "collection_method default_payment_method description invoice_settings trial_end"),
            "add_invoice_items": [], "currency": currency, "discounts": [], "end_date": end,
            "items": items, "metadata": phase.get("metadata") or {}, "start_date": begin,
            "proration_behavior": phase.get("proration_behavior", "create_prorations"),
        })  # fmt: skip
        start = end
    return phases


def _from_subscription(world: World, params: Params) -> Row:
    others = params.keys() - {"from_subscription", "expand"}
    if others:
        raise StripeError(
            "You cannot set any other parameter when creating a schedule from a subscription.", param=min(others)
        )
    subscription = world.need("subscription", params["from_subscription"], "from_subscription")
    if subscription.get("schedule") or subscription["status"] in ENDED:
        raise StripeError("The subscription cannot be put under a schedule.", param="from_subscription")
    items = items_of(world, subscription["id"])
    phase = {
        "add_invoice_items": [], "currency": subscription["currency"], "discounts": [],
        "start_date": items[0]["current_period_start"], "end_date": items[0]["current_period_end"],
        "items": [{"discounts": [], "metadata": i["metadata"], "price": i["_price"], "plan": i["_price"],
                   "quantity": i["quantity"], "tax_rates": []} for i in items],
        "metadata": {}, "proration_behavior": "create_prorations",
    }  # fmt: skip
    defaults = {"collection_method": subscription["collection_method"]}
    if "days_until_due" in subscription:
        defaults["invoice_settings"] = {"days_until_due": subscription["days_until_due"]}
    row = world.create(KIND, {
        "billing_mode": subscription["billing_mode"], "customer": subscription["customer"], "metadata": {},
        "default_settings": _default_settings({"default_settings": defaults}), "end_behavior": "release",
        "pause_schedules": [], "phases": [phase], "status": "active", "subscription": subscription["id"],
        "current_phase": pick(phase, "start_date end_date"),
    }, event="subscription_schedule.created")  # fmt: skip
    world.update(subscription, {"schedule": row["id"]}, "customer.subscription.updated")
    _wait(world, row)
    return row


def _begin(world: World, row: Row) -> Row:
    """The first phase starts: the subscription is made, its first invoice a draft for an hour."""
    phase = row["phases"][0]
    items = [pick(item, "price quantity metadata") for item in phase["items"]]
    subscription = create_subscription(world, {
        "customer": row["customer"], "items": items, "metadata": phase["metadata"], **_inherited(row, phase),
        "billing_mode": {"type": row["billing_mode"]["type"]}, "schedule": row["id"],
        **({"trial_end": phase["trial_end"]} if "trial_end" in phase else {}),
    })  # fmt: skip
    current = pick(phase, "start_date end_date")
    changes = {"status": "active", "subscription": subscription["id"], "current_phase": current}
    row = world.update(row, changes, "subscription_schedule.updated")
    _wait(world, row)
    return row


def _inherited(row: Row, phase: Row) -> Params:
    """How the subscription is described and collected in a phase: as it says, else as the schedule does."""
    defaults = row["default_settings"]
    method = phase.get("collection_method") or defaults["collection_method"]
    params: Params = {"collection_method": method}
    if method == "send_invoice":
        days = (phase.get("invoice_settings") or defaults["invoice_settings"]).get("days_until_due")
        params["days_until_due"] = days
    payment = phase.get("default_payment_method") or defaults.get("default_payment_method")
    if payment:
        params["default_payment_method"] = payment
    description = phase.get("description") or defaults.get("description")
    if description:
        params["description"] = description
    return params


def _check_collection(world: World, customer: Row, row: Row, phase: Row) -> None:
    """Refuse now what could not be done when the phase begins."""
    params = _inherited(row, phase)
    check_collection({k: v for k, v in params.items() if v is not None})
    plain_fields(world, params, customer)


def _wait(world: World, row: Row) -> None:
    end = row["current_phase"]["end_date"]
    world.set_timer("schedule", row["id"], end)
    last = row["phases"][-1]["end_date"]
    if last - EXPIRY_NOTICE > world.now():
        world.set_timer("schedule_expiring", row["id"], last - EXPIRY_NOTICE)


@timer("schedule_expiring")
def tell_expiry(world: World, id: str) -> None:
    row = world.get(KIND, id)
    if row and row["status"] == "active":
        world.emit("subscription_schedule.expiring", row)


@timer("schedule")
def turn_phase(world: World, id: str) -> None:
    row = world.get(KIND, id)
    if row is None or row["status"] not in ("not_started", "active"):
        return
    if row["status"] == "not_started":
        _begin(world, row)
        return
    following = [p for p in row["phases"] if p["start_date"] >= row["current_phase"]["end_date"]]
    if not following:
        _complete(world, row)
        return
    phase = following[0]
    row = world.update(row, {"current_phase": pick(phase, "start_date end_date")}, "subscription_schedule.updated")
    enter_phase(world, row, phase, phase["proration_behavior"])
    _wait(world, row)


def enter_phase(world: World, row: Row, phase: Row, behaviour: str) -> None:
    """The subscription becomes what the phase says: items replaced, metadata merged."""
    subscription = world.need("subscription", row["subscription"])
    items = items_of(world, subscription["id"])
    at_end = any(i["current_period_end"] == world.now() for i in items)
    known = {i["_price"]: i for i in items}
    wanted = {i["price"]: i for i in phase["items"]}
    if not at_end:
        entries: list[Params] = [{"id": i["id"], "deleted": True} for p, i in known.items() if p not in wanted]
        entries += [
            {"id": known[p]["id"], "quantity": i["quantity"], "metadata": i["metadata"]} if p in known
            else pick(i, "price quantity metadata") for p, i in wanted.items()
        ]  # fmt: skip
        params = {"items": entries, "proration_behavior": behaviour, "metadata": phase["metadata"]}
        change_subscription(world, subscription, {**params, **_inherited(row, phase)})
        return
    with world.watching("subscription", subscription["id"], "customer.subscription.updated"):
        for price, item in wanted.items():
            if price in known:
                world.update(known[price], pick(item, "quantity metadata"))
            else:  # ends now like the others, so that the renewal of this moment bills it
                period = items[0]["current_period_start"], world.now()
                new_item(world, subscription, pick(item, "price quantity metadata"), period, "items")
        for price, old in known.items():
            if price not in wanted:
                world.delete(old)
        check_items(world, subscription)
        metadata = merge_metadata(subscription, {"metadata": phase["metadata"]})
        fields = plain_fields(world, _inherited(row, phase), world.need("customer", subscription["customer"]))
        subscription = world.update(subscription, fields | {"metadata": metadata})
    schedule_next(world, subscription)


def _complete(world: World, row: Row) -> None:
    """After the last phase: the subscription goes on alone, or ends."""
    if row["end_behavior"] == "release":
        _release(world, row)
        return
    row = world.update(row, {"status": "completed", "completed_at": world.now(), "current_phase": None})
    world.emit("subscription_schedule.completed", row)
    subscription = world.get("subscription", row["subscription"])
    if subscription and subscription["status"] not in ENDED:
        cancel_with(world, subscription, {})


def _release(world: World, row: Row) -> Row:
    _stop(world, row)
    id = row.get("subscription")
    row = world.update(row, {
        "status": "released", "released_at": world.now(), "released_subscription": id, "subscription": None,
        "current_phase": None,
    })  # fmt: skip
    world.emit("subscription_schedule.released", row)
    subscription = world.get("subscription", id)
    if subscription and subscription.get("schedule") == row["id"]:
        world.update(subscription, {"schedule": None}, "customer.subscription.updated")
    return row


def _stop(world: World, row: Row) -> None:
    for name in ("schedule", "schedule_expiring"):
        world.set_timer(name, row["id"], None)


def _live(world: World, id: str) -> Row:
    row = world.need(KIND, id, "schedule", 404)
    if row["status"] not in ("not_started", "active"):
        raise StripeError(f"You cannot change a subscription schedule that is {row['status']}.", param="schedule")
    return row


@operation(
    "POST /v1/subscription_schedules/{schedule}",
    f"end_behavior metadata proration_behavior phases.start_date {_DEFAULTS} {_PHASES}",
)
def update_schedule(world: World, params: Params, args: list[str]) -> Row:
    row = _live(world, args[0])
    _check_end(params)
    changes: Row = {"metadata": merge_metadata(row, params), **pick(params, "end_behavior")}
    if "default_settings" in params:
        changes["default_settings"] = _default_settings(params)
    if params.get("phases"):
        changes["phases"] = _phases(world, params["phases"], row["phases"][0]["start_date"])
        trials = [phases[0].get("trial_end") for phases in (row["phases"], changes["phases"])]
        if row["status"] == "active" and trials[0] != trials[1]:
            raise errors.unsupported("another trial for a phase that has begun", "phases[0][trial_end]")
        for phase in changes["phases"]:
            _check_collection(world, world.need("customer", row["customer"]), row | changes, phase)
    if row["status"] == "active" and "phases" in changes:
        now = world.now()
        current = next((p for p in changes["phases"] if p["start_date"] <= now < p["end_date"]), None)
        if current is None:
            raise StripeError("The phases must include the current one.", param="phases")
        changes["current_phase"] = pick(current, "start_date end_date")
        row = world.update(row, changes, "subscription_schedule.updated")
        enter_phase(world, row, current, params.get("proration_behavior", "create_prorations"))
        _wait(world, row)
        return row
    row = world.update(row, changes, "subscription_schedule.updated")
    if row["status"] == "not_started":
        world.set_timer("schedule", row["id"], row["phases"][0]["start_date"])
    return row


@operation("POST /v1/subscription_schedules/{schedule}/release")
def release_schedule(world: World, params: Params, args: list[str]) -> Row:
    return _release(world, _live(world, args[0]))


@operation("POST /v1/subscription_schedules/{schedule}/cancel", "invoice_now prorate")
def cancel_schedule(world: World, params: Params, args: list[str]) -> Row:
    """Takes the subscription with it; unlike a direct cancel, it prorates and invoices unless told not to."""
    row = _live(world, args[0])
    subscription = world.get("subscription", row.get("subscription"))
    _stop(world, row)
    row = world.update(row, {"status": "canceled", "canceled_at": world.now(), "current_phase": None})
    world.emit("subscription_schedule.canceled", row)
    if subscription and subscription["status"] not in ENDED:
        cancel_with(world, subscription, {"invoice_now": True, "prorate": True, **params})
    return row
