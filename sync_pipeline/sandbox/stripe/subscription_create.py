"""Creating a subscription: anchor, trial, items, and the first invoice inside the request."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime
from fractions import Fraction

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors, pending_updates, taxes
from sync_pipeline.sandbox.stripe.billing import add_item_line, add_pending, begin_invoice, pending_items, settle_now
from sync_pipeline.sandbox.stripe.cycles import full_period, schedule_next
from sync_pipeline.sandbox.stripe.discounts import grant
from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.invoice_items import add_charges
from sync_pipeline.sandbox.stripe.invoices import sum_up
from sync_pipeline.sandbox.stripe.money import check_currency, exact_amount
from sync_pipeline.sandbox.stripe.operations import merge_metadata, pick
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.payment_methods import card_error
from sync_pipeline.sandbox.stripe.payments import method_for
from sync_pipeline.sandbox.stripe.periods import add_interval, period_at
from sync_pipeline.sandbox.stripe.references import check_default_method
from sync_pipeline.sandbox.stripe.settings import DAY
from sync_pipeline.sandbox.stripe.standing import ENDED
from sync_pipeline.sandbox.stripe.subscriptions import check_items, items_of, named_price, new_item, price_for, price_of
from sync_pipeline.sandbox.stripe.world import World

MAX_PER_CUSTOMER = 500
MAX_ON_TEST_CLOCK = 3  # for each customer, with those that a schedule will start
COLLECTION = "collection_method days_until_due default_payment_method default_tax_rates description invoice_settings"
COLLECTION += " payment_settings.payment_method_types payment_settings.save_default_payment_method metadata discounts"
COLLECTION += " trial_end trial_settings cancel_at cancel_at_period_end add_invoice_items off_session payment_behavior"
COLLECTION += " proration_behavior automatic_tax.enabled items"


def create_subscription(world: World, params: Params) -> Row:
    if not params.get("customer"):
        raise errors.required("customer")
    customer = world.need("customer", params["customer"], "customer")
    check_collection(params)
    given = params.get("items") or []
    if not given:
        raise errors.required("items")
    now = world.now()
    given = [named_price(world, entry, f"items[{i}]") for i, entry in enumerate(given)]
    first_price = price_for(world, given[0], "items[0]")
    currency = check_currency(params["currency"]) if "currency" in params else first_price["currency"]
    _check_customer(world, customer, currency)
    if not params.get("schedule"):
        check_test_clock(world, customer)
    trial_end = _trial_end(params, now)
    start = params.get("backdate_start_date", now)
    anchor = _anchor(world, params, first_price["recurring"], start, trial_end)
    id = world.new_id("sub_")
    subscription = world.create("subscription", {
        "automatic_tax": {"enabled": False}, "billing_cycle_anchor": anchor,
        "billing_cycle_anchor_config": params.get("billing_cycle_anchor_config"),
        "billing_mode": _billing_mode(params, now), "billing_schedules": [], "cancel_at_period_end": False,
        "cancellation_details": {}, "currency": currency, "customer": customer["id"], "start_date": start,
        "collection_method": "charge_automatically", "metadata": merge_metadata(None, params),
        "discounts": grant(world, params.get("discounts"), "discounts", redeemer=customer["id"], currency=currency,
                           subscription=id),
        "status": "trialing" if trial_end else "active", "trial_end": trial_end,
        "trial_start": now if trial_end else None, "_tax_rates": taxes.check_rates(
            world, params.get("default_tax_rates"), "default_tax_rates"),
        "invoice_settings": {"issuer": {"type": "self"}}, "payment_settings": {"save_default_payment_method": "off"},
        "trial_settings": _trial_settings(params), "schedule": params.get("schedule"),
        **plain_fields(world, params, customer),
    }, id=id)  # fmt: skip
    for i, entry in enumerate(given):
        price = price_for(world, entry, f"items[{i}]")
        period = (now, trial_end) if trial_end else _first_period(subscription, price["recurring"], now)
        new_item(world, subscription, entry, period, f"items[{i}]")
    check_items(world, subscription)
    add_charges(world, customer, subscription, params.get("add_invoice_items") or ())
    set_cancellation(world, subscription, params)
    return _first_invoice(world, world.need("subscription", id), params)


def _first_period(subscription: Row, recurring: Row, now: int) -> tuple[int, int]:
    anchor = subscription["billing_cycle_anchor"]
    if anchor > now:
        return subscription["start_date"], anchor
    return period_at(anchor, recurring["interval"], recurring["interval_count"], now)


def _first_invoice(world: World, subscription: Row, params: Params) -> Row:
    now, trial = world.now(), subscription.get("trial_end")
    invoice = begin_invoice(world, subscription, "subscription_create", (now, now))
    for item in items_of(world, subscription["id"]):
        period = item["current_period_start"], item["current_period_end"]
        if trial:
            add_item_line(world, invoice, subscription, item, period, Fraction(0))
        else:
            _bill_first(world, invoice, subscription, item, params)
    add_pending(world, invoice, pending_items(world, subscription))
    invoice = sum_up(world, invoice)
    if params.get("schedule"):
        return _leave_draft(world, subscription, invoice)
    automatic = subscription["collection_method"] == "charge_automatically"
    behaviour = params.get("payment_behavior", "allow_incomplete")
    changes: Row = {"latest_invoice": invoice["id"]}
    if automatic and invoice["amount_due"]:
        changes["status"] = "incomplete"
        if behaviour != "default_incomplete" and method_for(world, invoice) is None:
            raise StripeError(
                "This customer has no attached payment source or default payment method. Please consider adding a "
                "default payment method. For more information, visit "
                "https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.",
                code="resource_missing",
            )  # fmt: skip
    subscription = world.update(subscription, changes)
    world.emit("customer.subscription.created", subscription)
    world.emit("invoice.created", invoice)
    if automatic and invoice["amount_due"]:
        limit = now + world.settings.incomplete_seconds
        world.set_timer("expire_incomplete", subscription["id"], limit)
    invoice = settle_now(world, invoice, behaviour)
    if behaviour == "error_if_incomplete" and invoice["status"] == "open" and automatic:
        raise card_error("generic_decline")
    subscription = world.need("subscription", subscription["id"])
    schedule_next(world, subscription)
    return subscription


def _leave_draft(world: World, subscription: Row, invoice: Row) -> Row:
    """A schedule starts its subscription with a draft, which is collected after an hour like a renewal."""
    due = world.now() + world.settings.draft_seconds
    invoice = world.update(invoice, {"automatically_finalizes_at": due})
    subscription = world.update(subscription, {"latest_invoice": invoice["id"]})
    world.emit("customer.subscription.created", subscription)
    world.emit("invoice.created", invoice)
    world.set_timer("finalize", invoice["id"], due)
    schedule_next(world, subscription)
    return subscription


def _bill_first(world: World, invoice: Row, subscription: Row, item: Row, params: Params) -> None:
    """The first period: whole, cut short by a later anchor, or together with those that a backdate passed."""
    price = price_of(world, item)
    start, end = item["current_period_start"], item["current_period_end"]
    prorate = params.get("proration_behavior") != "none"
    begun = subscription["start_date"]
    if prorate and begun < start:
        recurring = price["recurring"]
        while begun < start:
            _, until = period_at(
                subscription["billing_cycle_anchor"], recurring["interval"], recurring["interval_count"], begun
            )
            add_item_line(world, invoice, subscription, item, (begun, until))
            begun = until
    whole = full_period(subscription, price, start)
    exact = exact_amount(price, item["quantity"])
    if (start, end) != whole:
        exact = exact * Fraction(end - start, whole[1] - whole[0]) if prorate else Fraction(0)
    add_item_line(world, invoice, subscription, world.need("subscription_item", item["id"]), (start, end), exact)


def _check_customer(world: World, customer: Row, currency: str) -> None:
    live = [s for s in world.find("subscription", customer=customer["id"]) if s["status"] not in ENDED]
    if len(live) >= MAX_PER_CUSTOMER:
        raise StripeError(f"Customer {customer['id']} already has the maximum {MAX_PER_CUSTOMER} current "
                          "subscriptions.", code="customer_max_subscriptions", param="customer")  # fmt: skip
    for other in live:
        if other["currency"] != currency:
            raise StripeError(
                "You cannot combine currencies on a single customer. This customer has had a subscription, coupon, or "
                f"invoice item with currency {other['currency']}", param="customer",
            )  # fmt: skip


def check_test_clock(world: World, customer: Row) -> None:
    """What a customer on a test clock may have, in subscriptions and those that a schedule will start."""
    if "_clock" not in customer:
        return
    live = [s for s in world.find("subscription", customer=customer["id"]) if s["status"] not in ENDED]
    waiting = world.find("subscription_schedule", customer=customer["id"], status="not_started")
    if len(live) + len(waiting) >= MAX_ON_TEST_CLOCK:
        raise StripeError(f"Customer {customer['id']} already has the maximum {MAX_ON_TEST_CLOCK} subscriptions of a "
                          "customer on a test clock.", code="customer_max_subscriptions",
                          param="customer")  # fmt: skip


def check_collection(params: Params, current: Row | None = None) -> None:
    taxes.unsupported_automatic(params)
    method = params.get("collection_method") or (current or {}).get("collection_method", "charge_automatically")
    days = params.get("days_until_due", (current or {}).get("days_until_due"))
    if method == "send_invoice" and days is None:
        raise StripeError("If `collection_method` is `send_invoice`, you must pass `days_until_due`.",
                          code="parameter_missing", param="days_until_due")  # fmt: skip
    if method == "charge_automatically" and params.get("days_until_due") is not None:
        raise StripeError("You can only set `days_until_due` if `collection_method` is set to `send_invoice`.",
                          param="days_until_due")  # fmt: skip
    if current is None and params.get("payment_behavior") == pending_updates.BEHAVIOUR:
        raise StripeError("`pending_if_incomplete` is for updates: there is nothing yet that could go on as it was.",
                          param="payment_behavior")  # fmt: skip


def plain_fields(world: World, params: Params, customer: Row) -> Row:
    """The parameters that are kept as they are, checked where they name something."""
    fields = pick(params, "collection_method days_until_due description default_payment_method")
    if fields.get("collection_method") == "charge_automatically":
        fields["days_until_due"] = None
    check_default_method(world, fields.get("default_payment_method"), customer, "default_payment_method")
    if "payment_settings" in params:
        fields["payment_settings"] = {"save_default_payment_method": "off", **(params["payment_settings"] or {})}
    if "invoice_settings" in params:
        fields["invoice_settings"] = {"issuer": {"type": "self"}, **(params["invoice_settings"] or {})}
    return fields


def _billing_mode(params: Params, now: int) -> Row:
    mode = params.get("billing_mode") or {}
    if mode.get("type", "flexible") == "classic":
        return {"type": "classic", "flexible": None}
    flexible = {"proration_discounts": "included", **(mode.get("flexible") or {})}
    return {"type": "flexible", "flexible": flexible, "updated_at": now}


def _trial_settings(params: Params) -> Row:
    given = (params.get("trial_settings") or {}).get("end_behavior") or {}
    return {"end_behavior": {"missing_payment_method": "create_invoice", **given}}


def _trial_end(params: Params, now: int) -> int | None:
    days = params.get("trial_period_days")
    end = params.get("trial_end")
    if days is not None and end is not None:
        raise errors.exclusive("trial_end", "trial_period_days")
    if days:
        end = now + days * DAY
    if end is None or end == "now" or days == 0:
        return None
    if end <= now:
        raise StripeError("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")
    if end > add_interval(now, "year", 2):
        raise StripeError("Invalid trial_end: a trial can last at most two years.", param="trial_end")
    return int(end)


def _anchor(world: World, params: Params, recurring: Row, start: int, trial_end: int | None) -> int:
    now = world.now()
    if start > now:
        raise StripeError("`backdate_start_date` must be in the past.", param="backdate_start_date")
    if "billing_cycle_anchor_config" in params:
        if "billing_cycle_anchor" in params:
            raise errors.exclusive("billing_cycle_anchor", "billing_cycle_anchor_config")
        return _configured_anchor(params["billing_cycle_anchor_config"], trial_end or now)
    anchor = params.get("billing_cycle_anchor")
    if anchor is None:
        return trial_end or start
    if anchor <= now:
        raise StripeError("`billing_cycle_anchor` must be in the future.", param="billing_cycle_anchor")
    natural = add_interval(trial_end or now, recurring["interval"], recurring["interval_count"])
    if anchor > natural:
        raise StripeError(
            f"`billing_cycle_anchor` cannot be later than next natural billing date ({natural}) for plan.",
            param="billing_cycle_anchor",
        )  # fmt: skip
    return int(anchor)


def _configured_anchor(config: Row, after: int) -> int:
    """The first moment from `after` with this day of the month (and time of day); short months clamp the day."""
    for name, low, high in (("day_of_month", 1, 31), ("month", 1, 12), ("hour", 0, 23), ("minute", 0, 59),
                            ("second", 0, 59)):  # fmt: skip
        if not low <= config.get(name, low) <= high:
            raise StripeError(f"This value must be between {low} and {high}.", code="parameter_invalid_integer",
                              param=f"billing_cycle_anchor_config[{name}]")  # fmt: skip
    base = datetime.fromtimestamp(after, UTC)
    for step in range(14):
        year, month = divmod(base.year * 12 + base.month - 1 + step, 12)
        month += 1
        if config.get("month") and month != config["month"]:
            continue
        moment = datetime(
            year, month, min(config["day_of_month"], monthrange(year, month)[1]), config.get("hour", base.hour),
            config.get("minute", base.minute), config.get("second", base.second), tzinfo=UTC,
        )  # fmt: skip
        if moment.timestamp() >= after:
            return int(moment.timestamp())
    raise StripeError("Invalid billing_cycle_anchor_config.", param="billing_cycle_anchor_config")


def set_cancellation(world: World, subscription: Row, params: Params) -> Row:
    """Take note of an end that was asked for; the clock brings it about."""
    changes: Row = {}
    items = items_of(world, subscription["id"])
    ends = [i["current_period_end"] for i in items]
    if "cancel_at" in params and params.get("cancel_at_period_end"):
        raise errors.exclusive("cancel_at", "cancel_at_period_end")
    if "cancel_at" in params:
        at = {"min_period_end": min(ends), "max_period_end": max(ends)}.get(params["cancel_at"], params["cancel_at"])
        if isinstance(at, str):
            raise errors.unsupported(f"cancel_at={at}", "cancel_at")
        if at is not None and at < world.now():
            raise StripeError("`cancel_at` must be in the future.", param="cancel_at")
        changes = {"cancel_at": at, "cancel_at_period_end": False}
    if "cancel_at_period_end" in params:
        if params["cancel_at_period_end"]:
            changes = {"cancel_at": min(ends), "cancel_at_period_end": True}
        elif subscription["cancel_at_period_end"]:
            changes = {"cancel_at": None, "cancel_at_period_end": False}
    details = dict(subscription.get("cancellation_details") or {})
    if changes:
        wanted = changes["cancel_at"] is not None
        changes["canceled_at"] = world.now() if wanted else None
        details["reason"] = "cancellation_requested" if wanted else None
    if params.get("cancellation_details"):
        details |= pick(params["cancellation_details"], "comment feedback")
    if details != (subscription.get("cancellation_details") or {}):
        changes["cancellation_details"] = details
    return world.update(subscription, changes) if changes else subscription
