"""Subscription schedules: begun, turned from phase to phase by the clock, changed, released, ended.

What a phase says and makes of its subscription is `phases`.
"""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.operations import action, merge_metadata, operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.phases import (
    PHASE,
    check_phase,
    enter,
    first_subscription,
    fresh_charges,
    read_phases,
)
from sync_pipeline.sandbox.stripe.settings import DAY
from sync_pipeline.sandbox.stripe.standing import ENDED
from sync_pipeline.sandbox.stripe.subscription_create import check_test_clock, create_subscription
from sync_pipeline.sandbox.stripe.subscription_operations import cancel_with
from sync_pipeline.sandbox.stripe.subscriptions import items_of
from sync_pipeline.sandbox.stripe.taxes import unsupported_automatic
from sync_pipeline.sandbox.stripe.world import World, timer

KIND = "subscription_schedule"
EXPIRY_NOTICE = 7 * DAY
_FIRST_DEFAULTS: Row = {
    "automatic_tax": {"enabled": False}, "billing_cycle_anchor": "automatic",
    "collection_method": "charge_automatically", "invoice_settings": {"issuer": {"type": "self"}},
}  # fmt: skip
PHASES = " ".join(f"phases.{name}" for name in PHASE.split())
_DEFAULTS = (
    "default_settings.collection_method default_settings.invoice_settings.days_until_due"
    " default_settings.default_payment_method default_settings.description default_settings.billing_cycle_anchor"
    " default_settings.automatic_tax.enabled"
)


@operation(
    "POST /v1/subscription_schedules",
    f"customer from_subscription start_date end_behavior metadata billing_mode {_DEFAULTS} {PHASES}",
)
def create_schedule(world: World, params: Params, args: list[str]) -> Row:
    _check_end(params)
    if params.get("from_subscription"):
        return _from_subscription(world, params)
    for name in ("customer", "phases"):
        if not params.get(name):
            raise errors.required(name)
    customer = world.need("customer", params["customer"], "customer")
    check_test_clock(world, customer)
    start = params.get("start_date", "now")
    start = world.now() if start == "now" else start
    defaults = _default_settings(params, _FIRST_DEFAULTS)
    phases = read_phases(world, params["phases"], start)
    if phases[0]["end_date"] <= world.now():
        raise errors.unsupported("a schedule whose first phase is over", "start_date")
    for phase in phases:
        check_phase(world, customer, {"default_settings": defaults}, phase)
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


def _default_settings(params: Params, current: Row) -> Row:
    """What is given changes, the rest stays."""
    given = params.get("default_settings") or {}
    unsupported_automatic(given)
    return {
        **current, **pick(given, "billing_cycle_anchor collection_method default_payment_method description"),
        "invoice_settings": {**current["invoice_settings"], **(given.get("invoice_settings") or {})},
    }  # fmt: skip


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
        "add_invoice_items": [], "currency": subscription["currency"], "discounts": _as_given(subscription),
        "start_date": items[0]["current_period_start"], "end_date": items[0]["current_period_end"],
        "items": [{"discounts": _as_given(i), "metadata": i["metadata"], "price": i["_price"], "plan": i["_price"],
                   "quantity": i["quantity"], "tax_rates": i.get("_tax_rates", [])} for i in items],
        "metadata": {}, "proration_behavior": "create_prorations",
        "default_tax_rates": subscription.get("_tax_rates", []),
    }  # fmt: skip
    if subscription["status"] == "trialing":
        phase["trial_end"] = subscription["trial_end"]
    defaults = pick(subscription, "collection_method default_payment_method description")
    if "days_until_due" in subscription:
        defaults["invoice_settings"] = {"days_until_due": subscription["days_until_due"]}
    row = world.create(KIND, {
        "billing_mode": subscription["billing_mode"], "customer": subscription["customer"], "metadata": {},
        "default_settings": _default_settings({"default_settings": defaults}, _FIRST_DEFAULTS),
        "end_behavior": "release", "pause_schedules": [], "phases": [phase], "status": "active",
        "subscription": subscription["id"], "current_phase": pick(phase, "start_date end_date"),
    }, event="subscription_schedule.created")  # fmt: skip
    world.update(subscription, {"schedule": row["id"]}, "customer.subscription.updated")
    _wait(world, row)
    return row


def _as_given(owner: Row) -> list[Row]:
    return [{"discount": id} for id in owner["discounts"]]


def _begin(world: World, row: Row) -> Row:
    """The first phase starts: the subscription is made, its first invoice a draft for an hour. A start in the past
    dates it back."""
    phase = row["phases"][0]
    backdate = {"backdate_start_date": phase["start_date"]} if phase["start_date"] < world.now() else {}
    subscription = create_subscription(world, {
        "customer": row["customer"], **first_subscription(row, phase), **backdate,
        "billing_mode": {"type": row["billing_mode"]["type"]}, "schedule": row["id"],
    })  # fmt: skip
    current = pick(phase, "start_date end_date")
    changes = {"status": "active", "subscription": subscription["id"], "current_phase": current}
    row = world.update(row, changes, "subscription_schedule.updated")
    _wait(world, row)
    return row


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
    enter(world, row, phase, phase["proration_behavior"], phase["add_invoice_items"])
    _wait(world, row)


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


def _check_live(row: Row) -> None:
    if row["status"] not in ("not_started", "active"):
        raise StripeError(f"You cannot change a subscription schedule that is {row['status']}.", param="schedule")


@action(
    "POST /v1/subscription_schedules/{schedule}",
    f"end_behavior metadata proration_behavior phases.start_date {_DEFAULTS} {PHASES}",
)
def update_schedule(world: World, params: Params, row: Row) -> Row:
    _check_live(row)
    _check_end(params)
    changes: Row = {"metadata": merge_metadata(row, params), **pick(params, "end_behavior")}
    changes["default_settings"] = _default_settings(params, row["default_settings"])
    if params.get("phases"):
        if "start_date" not in params["phases"][0]:
            raise errors.required("phases[0][start_date]")
        changes["phases"] = read_phases(world, params["phases"], row["phases"][0]["start_date"])
    ahead = [p for p in row["phases"] if p["end_date"] > world.now()]
    for phase in changes.get("phases") or ahead:
        check_phase(world, world.need("customer", row["customer"]), row | changes, phase)
    if row["status"] == "active" and params.keys() & {"phases", "default_settings"}:
        return _change_running(world, row, changes, params.get("proration_behavior", "create_prorations"))
    row = world.update(row, changes, "subscription_schedule.updated")
    if row["status"] == "not_started":
        world.set_timer("schedule", row["id"], row["phases"][0]["start_date"])
    return row


def _phase_at(phases: list[Row], moment: int) -> Row | None:
    return next((p for p in phases if p["start_date"] <= moment < p["end_date"]), None)


def _change_running(world: World, row: Row, changes: Row, behaviour: str) -> Row:
    """The current phase may change too: the subscription follows at once."""
    now = world.now()
    before = _phase_at(row["phases"], now)
    current = _phase_at(changes.get("phases") or row["phases"], now)
    if current is None:
        raise StripeError("The phases must include the current one.", param="phases")
    changes["current_phase"] = pick(current, "start_date end_date")
    row = world.update(row, changes, "subscription_schedule.updated")
    charges = fresh_charges(world, before["add_invoice_items"] if before else [], current["add_invoice_items"])
    enter(world, row, current, behaviour, charges)
    _wait(world, row)
    return row


@action("POST /v1/subscription_schedules/{schedule}/release")
def release_schedule(world: World, params: Params, row: Row) -> Row:
    _check_live(row)
    return _release(world, row)


@action("POST /v1/subscription_schedules/{schedule}/cancel", "invoice_now prorate")
def cancel_schedule(world: World, params: Params, row: Row) -> Row:
    """Takes the subscription with it; unlike a direct cancel, it prorates and invoices unless told not to."""
    _check_live(row)
    subscription = world.get("subscription", row.get("subscription"))
    row = call_off(world, row)
    if subscription and subscription["status"] not in ENDED:
        cancel_with(world, subscription, {"invoice_now": True, "prorate": True, **params})
    return row


def call_off(world: World, row: Row) -> Row:
    """No phase of it comes any more."""
    _stop(world, row)
    row = world.update(row, {"status": "canceled", "canceled_at": world.now(), "current_phase": None})
    world.emit("subscription_schedule.canceled", row)
    return row
