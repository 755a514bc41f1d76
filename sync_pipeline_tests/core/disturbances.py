"""What people and time do to two systems at rest: the £45,000 deal with five analysts more on a line of their own,
under any setting of the rules, and single disturbances on either side by name. Who plays them says what must follow.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

from hypothesis import strategies as st

from sync_pipeline.core.salesforce_records import Contract, PriceBookEntry
from sync_pipeline.core.stripe_records import SubscriptionItem
from sync_pipeline.core.units import MICROS
from sync_pipeline_tests.core.making import ACCOUNT, CONTRACT, OPPORTUNITY, RULES, account, line, story_lines
from sync_pipeline_tests.core.making import opportunity as an_opportunity
from sync_pipeline_tests.core.making import refund as a_refund
from sync_pipeline_tests.core.two_systems import TwoSystems

BOOK = "01sStandard"
PLATFORM, ANALYST, VIEWER = (each.id for each in story_lines())
MORE_ANALYSTS = line(5).id
"""A line that shares its rate, and so its item, with ANALYST."""
SUPPORT = "01tAa0000000009IAA"
MINUTE, DAY = 60 * MICROS, 86_400 * MICROS

SETTINGS: dict[str, tuple[str, ...]] = {
    "on_stripe_quantity": ("accept", "review", "revert"),
    "on_stripe_price": ("accept", "review", "revert"),
    "on_stripe_items": ("accept", "review", "revert"),
    "changes_after_billing": ("carry", "review"),
    "removed_lines": ("carry", "review"),
}
settings_of_terms = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in SETTINGS.items()})
"""Every way in which the rules can take a change of terms."""


def just_won(**settings: Any) -> TwoSystems:
    """The deal with a Contract, won and not looked at yet."""
    both = TwoSystems(replace(RULES, commercial=replace(RULES.commercial, **settings)))
    lines = [replace(each, pricebook_entry_id=f"01u{each.product_name}") for each in story_lines()]
    lines.append(replace(lines[1], id=MORE_ANALYSTS, quantity=Decimal(5)))
    opportunity = an_opportunity(contract_id=CONTRACT, pricebook_id=BOOK)
    both.put(account(), opportunity, *lines, Contract(id=CONTRACT, account_id=ACCOUNT))
    both.listed = [PriceBookEntry(id="01uSupport", pricebook_id=BOOK, product_id=SUPPORT, product_name="Support")]
    return both


@cache
def _at_rest(settings: tuple[tuple[str, Any], ...]) -> TwoSystems:
    both = just_won(**dict(settings))
    both.settle()
    both.step()
    return both


def at_rest(**settings: Any) -> TwoSystems:
    """The same deal, billed and at rest."""
    return deepcopy(_at_rest(tuple(sorted(settings.items()))))


def item_of(both: TwoSystems, line_id: str) -> SubscriptionItem | None:
    return next((item for item in both.items.values() if line_id in item.line_ids), None)


def _edit_line(both: TwoSystems, line_id: str, **changed: Any) -> None:
    if line_id in both.records:
        both.edit(line_id, **changed, modified_at=both.now)


def _edit_item(both: TwoSystems, line_id: str, **changed: Any) -> None:
    item = item_of(both, line_id)
    if item is not None:
        both.items[item.id] = replace(item, **changed)


def _edit_subscription(both: TwoSystems, **changed: Any) -> None:
    """What has ended stays as it is."""
    running = [held for held in both.subscriptions.values() if held.ended_at is None]
    both.subscriptions |= {held.id: replace(held, **changed) for held in running}


def _edit_customer(both: TwoSystems, **changed: Any) -> None:
    for key, held in both.customers.items():
        both.customers[key] = replace(held, **changed)


def _line_added(both: TwoSystems) -> None:
    extra = line(4, product_name="Training", unit_price=Decimal(80), quantity=Decimal(3), modified_at=both.now)
    both.put(replace(extra, pricebook_entry_id="01uTraining"))


def _item_removed(both: TwoSystems) -> None:
    if (item := item_of(both, VIEWER)) is not None:
        del both.items[item.id]


def _item_added(both: TwoSystems) -> None:
    pattern = next(iter(both.items.values()), None)
    if pattern is None:
        return
    made = replace(pattern, id="si_added", price="price_added", product=f"sf_{SUPPORT}", line_ids=())
    both.items[made.id] = replace(made, quantity=2, unit_amount=Decimal(240_000))


def _paid(both: TwoSystems) -> None:
    for invoice in [each.id for each in both.invoices.values() if each.status == "open"]:
        both.pay(invoice)


def _canceled(both: TwoSystems) -> None:
    for key in both.subscriptions:
        both.cancel(key)


def _refunded(both: TwoSystems) -> None:
    for key in both.customers:
        both.refunds["re_1"] = a_refund(customer=key)


DISTURBANCES: dict[str, Callable[[TwoSystems], object]] = {
    # People in Salesforce
    "the Account is renamed": lambda both: both.edit(ACCOUNT, name="Renamed Ltd"),
    "the Account moves": lambda both: both.edit(ACCOUNT, billing_city="Leeds"),
    "a figure is typed over": lambda both: both.edit(ACCOUNT, mrr=Decimal("1.00"), billing_status="Paused"),
    "seats are edited": lambda both: _edit_line(both, ANALYST, quantity=Decimal(25)),
    "seats of another line are edited": lambda both: _edit_line(both, VIEWER, quantity=Decimal(9)),
    "a price is edited": lambda both: _edit_line(both, ANALYST, unit_price=Decimal(650)),
    "the price of one of two lines is edited": lambda both: _edit_line(both, MORE_ANALYSTS, unit_price=Decimal(590)),
    "that price is edited back": lambda both: _edit_line(both, MORE_ANALYSTS, unit_price=Decimal(600)),
    "the price of the other line becomes the same": lambda both: _edit_line(both, ANALYST, unit_price=Decimal(590)),
    "a line is added": _line_added,
    "one of two lines is taken off": lambda both: both.records.pop(MORE_ANALYSTS, None),
    "a line is taken off": lambda both: both.records.pop(VIEWER, None),
    "the deal is set to lost": lambda both: both.edit(OPPORTUNITY, is_won=False, stage="Closed Lost"),
    "the deal is set back to Pending": lambda both: both.edit(OPPORTUNITY, activation_status="Pending"),
    "the deal is set to Activated": lambda both: both.edit(OPPORTUNITY, activation_status="Activated"),
    "the first payment is typed earlier": lambda both: both.edit(OPPORTUNITY, first_payment_at=both.now - 9 * DAY),
    "the first payment is typed later": lambda both: both.edit(OPPORTUNITY, first_payment_at=both.now + 9 * DAY),
    "the id of the subscription is cleared": lambda both: both.edit(OPPORTUNITY, stripe_subscription_id=None),
    "a cancel date is entered": lambda both: both.edit(CONTRACT, cancel_requested_on="2027-03-31"),
    "the cancel date is taken away": lambda both: both.edit(CONTRACT, cancel_requested_on=None),
    # People and time at Stripe
    "the customer is renamed": lambda both: _edit_customer(both, name="Edited at Stripe"),
    "seats are bought in the portal": lambda both: _edit_item(both, ANALYST, quantity=28),
    "seats of another item are given back": lambda both: _edit_item(both, VIEWER, quantity=11),
    "a price is lowered at Stripe": lambda both: _edit_item(
        both, ANALYST, price="price_of_somebody", unit_amount=Decimal(55_000)
    ),
    "an item is removed": _item_removed,
    "an item is added": _item_added,
    "the invoice is paid": _paid,
    "the payment is refunded": _refunded,
    "payments fail": lambda both: _edit_subscription(both, status="past_due"),
    "the end is scheduled": lambda both: _edit_subscription(both, cancel_at=both.now + 30 * DAY),
    "the end is taken back": lambda both: _edit_subscription(both, cancel_at=None, cancel_at_period_end=False),
    "the subscription is canceled": _canceled,
}

some_disturbances = st.lists(st.sampled_from(sorted(DISTURBANCES)), max_size=4, unique=True)
"""What happens at once, on one side or on both; nothing is one of them."""


def disturb(both: TwoSystems, names: list[str]) -> None:
    """Plays disturbances, and a minute in which edits come to rest."""
    for name in names:
        DISTURBANCES[name](both)
    both.now += MINUTE
