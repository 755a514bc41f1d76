"""Test clocks: customers that live in a time of their own, moved by their user in bounded steps."""

from __future__ import annotations

from datetime import UTC, datetime

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.operations import action, operation
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.periods import add_interval
from sync_pipeline.sandbox.stripe.settings import DAY
from sync_pipeline.sandbox.stripe.world import World, timer

KIND = "test_helpers.test_clock"
MAX_CUSTOMERS = 3
_IN_TIME = ("subscription", "subscription_schedule", "invoice", "invoiceitem")
LIFE = 30 * DAY
# An advance is over after so much of the sandbox's time, or at this look: that time may stand still.
ADVANCE_SECONDS = 1
ADVANCE_LOOKS = 2


def refuse_while_advancing(clock: Row | None) -> None:
    """Nothing that lives on a clock can be changed while it moves; reading shows what it has lived through so far."""
    if clock and clock["status"] != "ready":
        raise StripeError("Test clock advancement underway - cannot perform modifications.",
                          code="test_clock_advancing", param="test_clock", status=429, keep=False)  # fmt: skip


def adopt(world: World, id: str | None) -> None:
    """Make what the current call creates live with this clock."""
    if not id:
        return
    clock = world.need(KIND, id, "test_clock")
    refuse_while_advancing(clock)
    if len(world.find("customer", _clock=id)) >= MAX_CUSTOMERS:
        raise StripeError(f"A test clock can have at most {MAX_CUSTOMERS} customers.", param="test_clock")
    world.enter(clock)


@operation("POST /v1/test_helpers/test_clocks", "frozen_time name customer")
def create_clock(world: World, params: Params, args: list[str]) -> Row:
    customer = world.need("customer", params["customer"], "customer") if params.get("customer") else None
    if customer is not None and "_clock" in customer:
        raise StripeError("The customer already belongs to a test clock.", param="customer")
    if customer is not None and any(world.find(kind, customer=customer["id"]) for kind in _IN_TIME):
        raise errors.unsupported("a test clock for a customer that has been billed or is to be", "customer")
    row = world.create(KIND, {
        "frozen_time": params["frozen_time"], "name": params.get("name"), "status": "ready", "status_details": {},
        "deletes_after": world.now() + LIFE,
    }, event="test_helpers.test_clock.created")  # fmt: skip
    world.set_timer("expire_clock", row["id"], row["deletes_after"])
    if customer is not None:
        world.update(customer, {"_clock": row["id"], "test_clock": row["id"]}, "customer.updated")
    return row


@action("POST /v1/test_helpers/test_clocks/{test_clock}/advance", "frozen_time")
def advance_clock(world: World, params: Params, clock: Row) -> Row:
    now, target = clock["frozen_time"], params["frozen_time"]
    refuse_while_advancing(clock)
    if target <= now:
        raise StripeError("The frozen time must be after the current frozen time of the clock.", param="frozen_time")
    latest = _furthest(world, clock)
    if target > latest:
        raise StripeError(
            f"The frozen time of this clock is {_told(now)}. You can only advance it up to {_told(latest)}. You can "
            "only advance a test clock up to two intervals from the current frozen time at a time, based on the "
            "shortest subscription interval in the test clock. If you have an hourly, daily, weekly, and monthly "
            "subscription on a test clock, you can only advance the clock up to two hours at a time.",
            param="frozen_time",
        )  # fmt: skip
    status = {"status": "advancing", "status_details": {"advancing": {"target_frozen_time": target}}}
    clock = world.update(clock, {**status, "_looks": 0})
    world.emit("test_helpers.test_clock.advancing", clock)
    world.set_timer("advance_clock", clock["id"], world.now() + ADVANCE_SECONDS)
    return clock


@timer("advance_clock")
def finish_advance(world: World, id: str) -> None:
    """Live through everything that is due on the clock, each at its own moment, then stand at the target."""
    clock = world.get(KIND, id)
    if clock is None:
        return
    target = clock["status_details"]["advancing"]["target_frozen_time"]
    while (first := _first_timer(world, id)) is not None and first[0] <= target:
        due, key = first
        clock = world.update(clock, {"frozen_time": max(due, clock["frozen_time"])})
        world.fire(key, clock["frozen_time"])
    clock = world.update(clock, {"frozen_time": target, "status": "ready", "status_details": {}, "_looks": None})
    world.emit("test_helpers.test_clock.ready", clock)


def _first_timer(world: World, id: str) -> tuple[int, str] | None:
    """By time, then by key as on the sandbox's own clock: a schedule turns before its subscription renews."""
    return min(((r["due"], k) for k, r in world.store.table("timer").items() if r["_clock"] == id), default=None)


def _furthest(world: World, clock: Row) -> int:
    now: int = clock["frozen_time"]
    ends = [add_interval(now, "year", 2)]
    for subscription in world.find("subscription", _clock=clock["id"]):
        if subscription["status"] in ("canceled", "incomplete_expired"):
            continue
        for item in world.find("subscription_item", subscription=subscription["id"]):
            recurring = world.store.table("price")[item["_price"]]["recurring"]
            ends.append(add_interval(now, recurring["interval"], 2 * recurring["interval_count"]))
    return min(ends)


def _told(moment: int) -> str:
    return f"{moment} ({datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S UTC})"


@action("DELETE /v1/test_helpers/test_clocks/{test_clock}")
def delete_clock(world: World, params: Params, clock: Row) -> Row:
    remove(world, clock)
    return {"id": clock["id"], "object": KIND, "deleted": True}


@timer("expire_clock")
def expire(world: World, id: str) -> None:
    clock = world.get(KIND, id)
    if clock:
        remove(world, clock)


def remove(world: World, clock: Row) -> None:
    """Takes its customers with it; their subscriptions end."""
    for customer in world.find("customer", _clock=clock["id"]):
        for subscription in world.find("subscription", customer=customer["id"]):
            world.update(subscription, {"status": "canceled"})
        world.delete(customer)
    for key, row in list(world.store.table("timer").items()):
        if row["_clock"] == clock["id"]:
            world.store.delete("timer", key)
    world.set_timer("expire_clock", clock["id"], None)
    world.delete(clock, "test_helpers.test_clock.deleted")


@operation("GET /v1/test_helpers/test_clocks/{test_clock}")
def get_clock(world: World, params: Params, args: list[str]) -> Row:
    """Whoever polls sees it `advancing` first, then `ready`."""
    row = world.get(KIND, args[0])
    if row is None:
        raise errors.missing("test clock", args[0], "test_clock", status=404)
    if row["status"] != "advancing":
        return row
    row = world.update(row, {"_looks": row["_looks"] + 1})
    if row["_looks"] >= ADVANCE_LOOKS:
        world.fire(f"advance_clock:{row['id']}", world.now())
    return world.need(KIND, row["id"])
