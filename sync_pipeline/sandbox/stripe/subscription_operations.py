"""The operations on subscriptions: create, update, cancel, pause, resume, migrate."""

from __future__ import annotations

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.billing import add_pending, begin_invoice, issue_now, pending_items
from sync_pipeline.sandbox.stripe.cycles import schedule_next
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.invoice_items import remove_item
from sync_pipeline.sandbox.stripe.operations import action, operation
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.proration import credit
from sync_pipeline.sandbox.stripe.standing import ENDED
from sync_pipeline.sandbox.stripe.subscription_changes import change_subscription, restart_periods
from sync_pipeline.sandbox.stripe.subscription_create import COLLECTION, create_subscription
from sync_pipeline.sandbox.stripe.subscriptions import cancel_now, items_of
from sync_pipeline.sandbox.stripe.world import World


@operation(
    "POST /v1/subscriptions",
    f"customer currency backdate_start_date billing_cycle_anchor billing_cycle_anchor_config billing_mode"
    f" trial_period_days {COLLECTION}",
)
def create(world: World, params: Params, args: list[str]) -> Row:
    return create_subscription(world, params)


@action(
    "POST /v1/subscriptions/{subscription_exposed_id}",
    f"billing_cycle_anchor cancellation_details.comment cancellation_details.feedback pause_collection proration_date"
    f" {COLLECTION}",
)
def update(world: World, params: Params, subscription: Row) -> Row:
    return change_subscription(world, subscription, params)


@action(
    "DELETE /v1/subscriptions/{subscription_exposed_id}",
    "invoice_now prorate cancellation_details.comment cancellation_details.feedback",
)
def cancel(world: World, params: Params, subscription: Row) -> Row:
    if subscription["status"] in ENDED:
        raise errors.missing("subscription", subscription["id"], status=404)
    return cancel_with(world, subscription, params)


def cancel_with(world: World, subscription: Row, params: Params) -> Row:
    """End now. `prorate`: credit the rest of the period; `invoice_now`: bill what waits instead of dropping it."""
    if params.get("prorate") and subscription["status"] != "trialing":
        for item in items_of(world, subscription["id"]):
            credit(world, subscription, item, world.now())
    waiting = pending_items(world, subscription, loose=False)
    if params.get("invoice_now") and waiting:
        span = min(i["period"]["start"] for i in waiting), world.now()
        invoice = begin_invoice(world, subscription, "subscription_update", span)
        add_pending(world, invoice, waiting)
        issue_now(world, subscription, invoice)
        subscription = world.need("subscription", subscription["id"])
    elif not params.get("prorate"):
        for item in waiting:
            if item["proration"]:
                remove_item(world, item)
    given = {k: v for k, v in (params.get("cancellation_details") or {}).items() if v is not None}
    return cancel_now(world, subscription, details=given, asked_at=world.now())


@action("POST /v1/subscriptions/{subscription}/resume", "proration_behavior proration_date billing_cycle_anchor")
def resume(world: World, params: Params, subscription: Row) -> Row:
    if subscription["status"] != "paused":
        raise StripeError("This subscription cannot be resumed because it is not paused.", param="subscription")
    anchor = (params.get("billing_cycle_anchor") or {}).get("type", "now")
    now = world.now()
    with world.watching("subscription", subscription["id"], "customer.subscription.updated"):
        changes: Row = {"status": "active", "status_details": None}
        if anchor == "now":
            changes["billing_cycle_anchor"] = now
        subscription = world.update(subscription, changes)
        bill = any(i["current_period_end"] <= now for i in items_of(world, subscription["id"])) or anchor == "now"
        if bill:
            subscription = restart_periods(world, subscription, now, params)
    world.emit("customer.subscription.resumed", subscription)
    schedule_next(world, subscription)
    return world.need("subscription", subscription["id"])


@action("POST /v1/subscriptions/{subscription}/pause", "type")
def pause(world: World, params: Params, subscription: Row) -> Row:
    """Stops service and billing: no invoices and no new periods until it is resumed."""
    if subscription["billing_mode"]["type"] != "flexible":
        raise StripeError("Only subscriptions with `billing_mode.type=flexible` can be paused.", param="subscription")
    if subscription.get("schedule"):
        raise StripeError("A subscription with a schedule cannot be paused directly.", param="subscription")
    if subscription["status"] not in ("active", "trialing", "past_due", "unpaid"):
        raise StripeError(f"A subscription with status {subscription['status']} cannot be paused.",
                          param="subscription")  # fmt: skip
    paused = {"type": "subscription", "transitioned_at": world.now(), "subscription": {"type": "pause_requested"}}
    with world.watching("subscription", subscription["id"], "customer.subscription.updated"):
        subscription = world.update(subscription, {"status": "paused", "status_details": {"paused": paused}})
    world.emit("customer.subscription.paused", subscription)
    schedule_next(world, subscription)
    return subscription


@action("POST /v1/subscriptions/{subscription}/migrate", "billing_mode")
def migrate(world: World, params: Params, subscription: Row) -> Row:
    if subscription["billing_mode"]["type"] == "flexible":
        raise StripeError("The subscription is already in flexible billing mode.", param="billing_mode[type]")
    mode = {"type": "flexible", "flexible": {"proration_discounts": "included"}, "updated_at": world.now()}
    return world.update(subscription, {"billing_mode": mode}, "customer.subscription.updated")


@action("DELETE /v1/subscriptions/{subscription_exposed_id}/discount")
def delete_discount(world: World, params: Params, subscription: Row) -> Row:
    if not subscription["discounts"]:
        raise errors.missing("discount", subscription["id"], "subscription_exposed_id", status=404)
    discount = world.need("discount", subscription["discounts"][-1])
    world.update(subscription, {"discounts": subscription["discounts"][:-1]}, "customer.subscription.updated")
    shown = {k: v for k, v in world.render(discount).items() if k != "end"} | {"deleted": True}
    world.delete(discount, "customer.discount.deleted")
    return shown
