"""Stripe's rate limits, where the settings ask for them: per account, endpoint, and subscription."""

from __future__ import annotations

from collections import Counter

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.settings import DAY, HOUR
from sync_pipeline.sandbox.stripe.world import World
from sync_pipeline.sandbox.wire import Call


def check_subscription(world: World, subscription_id: str) -> None:
    """Calls may make only so many invoices of one subscription; the clock's own renewals are not limited."""
    if world.request is None:
        return
    made = [i["created"] for i in world.find("invoice", _subscription=subscription_id)]
    for limit, window in (
        (world.settings.subscription_invoices_per_minute, 60),
        (world.settings.subscription_invoices_per_day, DAY),
    ):
        if limit is not None and sum(created > world.now() - window for created in made) >= limit:
            raise _refusal("resource-specific")


def count_quantity_update(world: World, subscription: Row) -> None:
    """Calls may change the quantities of one subscription's items only so often in an hour of the sandbox's clock."""
    limit = world.settings.subscription_quantity_updates_per_hour
    if limit is None or world.request is None:
        return
    now = world.clock.now()
    current = world.need("subscription", subscription["id"])
    recent = [at for at in current.get("_quantity_updates", ()) if at > now - HOUR]
    if len(recent) >= limit:
        raise _refusal("resource-specific")
    world.update(current, {"_quantity_updates": [*recent, now]})


def _refusal(reason: str) -> StripeError:
    return StripeError(
        "Request rate limit exceeded. You can learn more about rate limits here "
        "https://stripe.com/docs/rate-limits.", code="rate_limit", status=429, keep=False,
        headers={"Stripe-Rate-Limited-Reason": reason},
    )  # fmt: skip


class Limits:
    def __init__(self) -> None:
        self._second = -1
        self._counts: Counter[str] = Counter()

    def check(self, world: World, call: Call) -> None:
        settings = world.settings
        per_second = settings.requests_per_second, settings.endpoint_requests_per_second, settings.searches_per_second
        if per_second == (None, None, None):
            return
        now = world.clock.now()
        if now != self._second:
            self._second, self._counts = now, Counter()
        operation, _, _ = world.contract.route(call.method, call.path)
        for scope, limit, reason in (
            ("", settings.requests_per_second, "global-rate"),
            (operation.key if operation else call.path, settings.endpoint_requests_per_second, "endpoint-rate"),
            ("every search", settings.searches_per_second if call.path.endswith("/search") else None, "endpoint-rate"),
        ):
            if limit is None:
                continue
            self._counts[scope] += 1
            if self._counts[scope] > limit:
                raise _refusal(reason)
