"""Updates that wait for their payment (`payment_behavior=pending_if_incomplete`): put aside, applied, or dropped.

The change is made first, so that its invoice is what it would be; while that invoice is open, the subscription
goes on as it was before.
"""

from __future__ import annotations

from collections.abc import Iterable

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.subscriptions import items_of
from sync_pipeline.sandbox.stripe.world import World

BEHAVIOUR = "pending_if_incomplete"
_SUPPORTED = frozenset(
    "add_invoice_items billing_cycle_anchor deleted expand id item items off_session payment_behavior plan price"
    " price_data proration_behavior proration_date quantity subscription trial_end".split()
)
_OWN = ("billing_cycle_anchor", "status", "trial_end", "trial_start")


def check(subscription: Row, params: Params) -> None:
    """Raises StripeError for what cannot wait: only what is invoiced can, and only where it is charged."""
    if params.get("payment_behavior") != BEHAVIOUR:
        return
    if subscription["collection_method"] != "charge_automatically":
        raise StripeError(f"`payment_behavior={BEHAVIOUR}` needs `collection_method=charge_automatically`.",
                          param="payment_behavior")  # fmt: skip
    given = {(name, name) for name in params}
    given |= {(name, f"items[{i}][{name}]") for i, entry in enumerate(params.get("items") or ()) for name in entry}
    others = sorted(shown for name, shown in given if name not in _SUPPORTED)
    if others:
        raise StripeError(f"`{others[0]}` cannot be changed with `payment_behavior={BEHAVIOUR}`.", param=others[0])


def put_aside(world: World, before: Row, items_before: Iterable[Row]) -> Row | None:
    """If what was just changed made an invoice that is open: everything but it as it was `before`. That invoice."""
    after, items = world.need("subscription", before["id"]), items_of(world, before["id"])
    invoice = world.get("invoice", after.get("latest_invoice"))
    if invoice is None or invoice["id"] == before.get("latest_invoice") or invoice["status"] != "open":
        return None
    _replace_items(world, items, items_before)
    world.put(before)
    own = {name: after.get(name) for name in _OWN if after.get(name) != before.get(name)}
    world.update(before, {"latest_invoice": invoice["id"], "_waiting": {
        "invoice": invoice["id"], "items": items, "own": own, "shown": [world.render(i) for i in items],
    }})  # fmt: skip
    return invoice


def show(world: World, subscription: Row, longest: int) -> Row:
    """The payment failed: the update is pending until the period or the trial ends, but no longer than `longest`."""
    waiting = subscription["_waiting"]
    ends = [i["current_period_end"] for i in items_of(world, subscription["id"])]
    expiry = min([world.now() + longest, *ends, *filter(None, [subscription.get("trial_end")])])
    world.set_timer("expire_pending_update", subscription["id"], expiry)
    return world.update(subscription, {"pending_update": {
        "billing_cycle_anchor": waiting["own"].get("billing_cycle_anchor"), "expires_at": expiry,
        "subscription_items": waiting["shown"], "trial_end": waiting["own"].get("trial_end"), "trial_from_plan": None,
    }})  # fmt: skip


def apply(world: World, subscription: Row) -> None:
    """The invoice is paid: the change takes place."""
    waiting, told = subscription["_waiting"], "pending_update" in subscription
    with world.watching("subscription", subscription["id"], "customer.subscription.updated"):
        _replace_items(world, items_of(world, subscription["id"]), waiting["items"])
        subscription = drop(world, world.update(subscription, waiting["own"]))
    world.set_timer("subscription", subscription["id"], world.now())  # when it turns next may have changed too
    if told:
        world.emit("customer.subscription.pending_update_applied", subscription)


def drop(world: World, subscription: Row) -> Row:
    world.set_timer("expire_pending_update", subscription["id"], None)
    return world.update(subscription, {"_waiting": None, "pending_update": None})


def _replace_items(world: World, items: Iterable[Row], others: Iterable[Row]) -> None:
    kept = {item["id"]: item for item in others}
    for item in items:
        if item["id"] not in kept:
            world.delete(item)
    for item in kept.values():
        world.put(item)
