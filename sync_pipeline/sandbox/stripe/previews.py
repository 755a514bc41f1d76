"""Previews: the billing engine really does what is asked, the invoice is shown, and everything is undone."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors, pictures
from sync_pipeline.sandbox.stripe.billing import add_pending, begin_invoice, pending_items
from sync_pipeline.sandbox.stripe.cycles import renew
from sync_pipeline.sandbox.stripe.discounts import grant
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.invoice_items import put_item
from sync_pipeline.sandbox.stripe.invoices import new_draft, sum_up
from sync_pipeline.sandbox.stripe.operations import operation, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.proration import credit
from sync_pipeline.sandbox.stripe.schedules import PHASES, create_schedule, turn_phase, update_schedule
from sync_pipeline.sandbox.stripe.standing import ENDED
from sync_pipeline.sandbox.stripe.subscription_changes import change_subscription
from sync_pipeline.sandbox.stripe.subscription_create import create_subscription
from sync_pipeline.sandbox.stripe.subscription_operations import resume
from sync_pipeline.sandbox.stripe.subscriptions import items_of, period_end
from sync_pipeline.sandbox.stripe.world import World, timer

_DETAILS = (
    "billing_cycle_anchor billing_mode cancel_at cancel_at_period_end cancel_now default_tax_rates items"
    " proration_behavior proration_date resume_at start_date trial_end"
)

_SCHEDULE = f"end_behavior proration_behavior billing_mode phases.start_date {PHASES}"


@timer("upcoming_invoice")
def announce_upcoming(world: World, id: str) -> None:
    """Some days before a renewal that will be charged: its preview, as an event."""
    subscription = world.get("subscription", id)
    if subscription is None or subscription["status"] not in ("active", "trialing", "past_due"):
        return
    try:
        with world.store.trial():
            picture = pictures.take(world, _next(world, subscription, {}))
    except StripeError:
        return  # it ends before: there is nothing to announce
    upcoming = {**picture["row"], "id": upcoming_id(picture["row"]["id"]), "billing_reason": "upcoming"}
    world.emit_picture("invoice.upcoming", {**picture, "row": upcoming})


def upcoming_id(id: str) -> str:
    """An id that cannot be retrieved."""
    return "upcoming_in_" + id.removeprefix("in_")


@operation(
    "POST /v1/invoices/create_preview",
    "customer subscription schedule currency discounts preview_mode invoice_items automatic_tax.enabled "
    + " ".join(f"subscription_details.{name}" for name in _DETAILS.split())
    + " "
    + " ".join(f"schedule_details.{name}" for name in _SCHEDULE.split()),
)
def create_preview(world: World, params: Params, args: list[str]) -> Row:
    if not params.keys() & {"customer", "subscription", "schedule"}:
        raise errors.required("customer")
    if params.get("preview_mode") == "recurring":
        raise errors.unsupported("previews of what recurs", "preview_mode")
    world.request = None  # what is only tried out counts towards no limit
    with world.store.trial():
        return _preview(world, params)


def _preview(world: World, params: Params) -> Row:
    details = params.get("subscription_details") or {}
    if details.get("proration_date") is not None and details.get("proration_behavior") == "none":
        raise StripeError("You cannot specify `proration_date` when `proration_behavior=none`.",
                          param="subscription_details[proration_date]")  # fmt: skip
    if params.get("schedule_details"):
        invoice = _of_new_phases(world, params, params["schedule_details"])
    elif params.get("schedule") and not params.get("subscription"):
        schedule = world.need("subscription_schedule", params["schedule"], "schedule")
        invoice = _of_schedule(world, schedule, params, details)
    elif params.get("subscription"):
        subscription = world.need("subscription", params["subscription"], "subscription")
        invoice = _of_subscription(world, subscription, params, details)
    else:
        customer = world.need("customer", params["customer"], "customer")
        if details.get("items"):
            invoice = _of_new_subscription(world, customer, params, details)
        elif params.get("invoice_items"):
            invoice = _of_items(world, customer, params)
        else:
            raise StripeError(
                "You must provide a `subscription`, a `schedule`, `subscription_details[items]` or `invoice_items` "
                "to preview an invoice.", param="subscription",
            )  # fmt: skip
    return _shown(world, invoice)


def _shown(world: World, invoice: Row) -> Row:
    """As an upcoming invoice: under an id that cannot be retrieved."""
    shown = world.render(world.store.table("invoice")[invoice["id"]])
    id = upcoming_id(shown["id"])
    shown["lines"] = {**shown["lines"], "url": f"/v1/invoices/{id}/lines",
                      "data": [{**line, "invoice": id} for line in shown["lines"]["data"]]}  # fmt: skip
    return shown | {"id": id, "status": "draft", "billing_reason": "upcoming", "auto_advance": True}


def _add_items(world: World, customer: Row, params: Params, subscription: Row | None) -> None:
    for i, entry in enumerate(params.get("invoice_items") or ()):
        put_item(world, customer, entry, None, subscription, f"invoice_items[{i}]")


def _of_items(world: World, customer: Row, params: Params) -> Row:
    currency = params.get("currency") or customer.get("currency") or world.settings.default_currency
    invoice = new_draft(world, customer, {
        "billing_reason": "upcoming", "currency": currency, "collection_method": "charge_automatically",
        "auto_advance": True,
    })  # fmt: skip
    for i, entry in enumerate(params["invoice_items"]):
        put_item(world, customer, entry, invoice, None, f"invoice_items[{i}]")
    return _discount(world, invoice, params)


def _of_new_phases(world: World, params: Params, given: Params) -> Row:
    """The next invoice under a schedule that would be made, or changed."""
    if not params.get("schedule"):
        phases = given.get("phases") or [{}]
        start = {"start_date": phases[0].get("start_date", "now")}
        schedule = create_schedule(world, {**given, **start, "customer": params.get("customer")}, [])
        before = None
    else:
        schedule = world.need("subscription_schedule", params["schedule"], "schedule")
        before = _latest(world, schedule)
        schedule = update_schedule(world, given, schedule)
    latest = _latest(world, schedule)
    if latest != before:  # it begins, or what the phase prorates is invoiced, at once
        return _discount(world, world.need("invoice", latest or ""), params)
    return _of_schedule(world, schedule, params, {})


def _latest(world: World, schedule: Row) -> str | None:
    subscription = world.get("subscription", schedule.get("subscription")) or {}
    return subscription.get("latest_invoice")


def _of_schedule(world: World, schedule: Row, params: Params, details: Params) -> Row:
    """The next invoice of its subscription, or the first one that it will make."""
    if schedule["status"] != "not_started":
        subscription = world.need("subscription", schedule.get("subscription") or "", "schedule")
        return _of_subscription(world, subscription, params, details)
    with world.at(schedule["phases"][0]["start_date"], world.clock_id):
        turn_phase(world, schedule["id"])
    begun = world.need("subscription_schedule", schedule["id"])
    latest = world.need("subscription", begun["subscription"])["latest_invoice"]
    return _discount(world, world.need("invoice", latest), params)


def _nothing_upcoming() -> StripeError:
    return StripeError("No upcoming invoices for customer", code="invoice_upcoming_none", status=404)


def _of_subscription(world: World, subscription: Row, params: Params, details: Params) -> Row:
    if subscription["status"] in ENDED:
        raise _nothing_upcoming()
    customer = world.store.table("customer")[subscription["customer"]]
    _add_items(world, customer, params, subscription)
    if details.get("cancel_now"):
        if details.get("proration_behavior") != "none":
            for item in items_of(world, subscription["id"]):
                credit(world, subscription, item, details.get("proration_date") or world.now())
        return _pending_only(world, subscription, params)
    before = subscription["latest_invoice"]
    if details.get("resume_at"):
        how = pick(details, "billing_cycle_anchor proration_behavior proration_date")
        subscription, details = resume(world, how, subscription), {}
    immediate = details.get("proration_behavior") == "always_invoice"
    changes = {k: v for k, v in details.items() if k not in ("cancel_now", "start_date", "billing_mode")}
    if immediate:
        changes["proration_behavior"] = "create_prorations"
    if changes:
        subscription = change_subscription(world, subscription, changes)
    if subscription["latest_invoice"] != before:  # a new anchor, the end of a trial or of a pause bills at once
        return _discount(world, world.need("invoice", subscription["latest_invoice"]), params)
    if immediate:
        return _pending_only(world, subscription, params)
    return _next(world, subscription, params)


def _pending_only(world: World, subscription: Row, params: Params) -> Row:
    waiting = pending_items(world, subscription, loose=False)
    start = min((i["period"]["start"] for i in waiting), default=world.now())
    invoice = begin_invoice(world, subscription, "subscription_update", (start, world.now()))
    add_pending(world, invoice, waiting)
    return _discount(world, invoice, params)


def _next(world: World, subscription: Row, params: Params) -> Row:
    end, before = period_end(world, subscription), subscription["latest_invoice"]
    while (turn := _next_turn(world, subscription)) is not None and turn <= end:
        with world.at(turn, world.clock_id):
            turn_phase(world, subscription["schedule"])
        subscription = world.need("subscription", subscription["id"])
        if subscription["status"] in ENDED:
            raise _nothing_upcoming()
        if subscription["latest_invoice"] != before:  # what the phase prorates is invoiced at once
            return _discount(world, world.need("invoice", subscription["latest_invoice"]), params)
        end = period_end(world, subscription)
    if subscription.get("cancel_at") is not None and subscription["cancel_at"] <= end:
        waiting = pending_items(world, subscription, loose=False)
        if not waiting:
            raise _nothing_upcoming()
        return _pending_only(world, subscription, params)
    with world.at(end, world.clock_id):
        renew(world, subscription)
    latest = world.need("subscription", subscription["id"])["latest_invoice"]
    return _discount(world, world.need("invoice", latest), params)


def _next_turn(world: World, subscription: Row) -> int | None:
    """When the schedule of a subscription turns to its next phase, or ends."""
    schedule = world.get("subscription_schedule", subscription.get("schedule"))
    return schedule["current_phase"]["end_date"] if schedule and schedule["status"] == "active" else None


def _of_new_subscription(world: World, customer: Row, params: Params, details: Params) -> Row:
    _add_items(world, customer, params, None)
    given = {
        k: v
        for k, v in details.items()
        if k
        in (
            "items",
            "billing_mode",
            "default_tax_rates",
            "cancel_at",
            "cancel_at_period_end",
            "trial_end",
            "proration_behavior",
        )
    }
    if (details.get("billing_cycle_anchor") or {}).get("type") == "timestamp":
        given["billing_cycle_anchor"] = details["billing_cycle_anchor"]["timestamp"]
    if details.get("start_date") not in (None, "now") and details["start_date"] < world.now():
        given["backdate_start_date"] = details["start_date"]
    subscription = create_subscription(world, {
        **given, "customer": customer["id"], "payment_behavior": "default_incomplete",
        **({"discounts": params["discounts"]} if "discounts" in params else {}),
    })  # fmt: skip
    invoice = world.need("invoice", subscription["latest_invoice"])
    # It was issued inside the create; a preview shows it as it was before.
    return world.update(invoice, {"number": None, "hosted_invoice_url": None, "invoice_pdf": None, "effective_at": None,
                                  "status_transitions": {}, "due_date": None})  # fmt: skip


def _discount(world: World, invoice: Row, params: Params) -> Row:
    if "discounts" in params:
        owner = {"redeemer": invoice["customer"], "currency": invoice["currency"], "invoice": invoice["id"]}
        given = grant(world, params["discounts"], "discounts", **owner)
        invoice = world.update(invoice, {"discounts": given})
    return sum_up(world, invoice) if invoice["status"] == "draft" else invoice
