"""Readings of an Account over all its subscriptions and products."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from sync_pipeline.core.addresses import billing_address
from sync_pipeline.core.money import Money
from sync_pipeline.core.observation import Present, Unknown
from sync_pipeline.core.readings import READINGS, product_without_line, subjects
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import PriceBookEntry
from sync_pipeline.core.stripe_records import Invoice
from sync_pipeline.core.world import Billing, Deal, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    NOW,
    OPPORTUNITY,
    RULES,
    SUBSCRIPTION,
    account,
    billed,
    deal,
    item,
    line,
    opportunity,
    payment,
    story_lines,
    subscription,
    world,
)


def reading(name: str, of: World, kind: str = "account", rules: Rules = RULES) -> Any:
    subject = next(each for each in subjects(of) if each.object == kind)
    found = READINGS[name](of, rules, subject)
    return found.value if isinstance(found, Present) else found


def story_items(**changed: Any) -> tuple[Any, ...]:
    return tuple(
        item(
            id=f"si_{n}",
            product=f"sf_{each.product_id}",
            interval="year",
            unit_amount=each.unit_price * 100,
            quantity=int(each.quantity),
        )
        for n, each in enumerate(story_lines())
        if each.unit_price is not None and each.quantity is not None
    )


def test_the_plan_is_the_product_with_most_revenue_not_the_largest_item() -> None:
    """Two rates of one product count together: 2 x £20,000 of seats beat a £30,000 platform."""
    seats, platform = "sf_01tAa0000000002IAA", "sf_01tAa0000000001IAA"
    items = (
        item(id="si_1", product=platform, interval="year", unit_amount=Decimal(3_000_000)),
        item(id="si_2", product=seats, interval="year", unit_amount=Decimal(40_000), quantity=50),
        item(id="si_3", product=seats, interval="year", unit_amount=Decimal(50_000), quantity=40),
    )
    for order in permutations(items):
        assert reading("account_plan", billed(subscription(), items=order)) == "Analyst Seat"


def test_the_plan_of_nothing_running_is_empty() -> None:
    assert reading("account_plan", billed(subscription(status="canceled"), items=story_items())) is None


def test_seats_are_the_quantities_of_seat_products() -> None:
    assert reading("account_seats", billed(subscription(), items=story_items())) == 35


@pytest.mark.parametrize(("families", "expected"), [(["Seats"], 0), ([], 7)])
def test_who_is_billed_no_seats_has_none_unless_every_quantity_is_a_seat(families: list[str], expected: int) -> None:
    items = (item(product="sf_x", quantity=3), item(id="si_2", product="sf_y", quantity=4))
    lines = tuple(line(n, product_id=product, product_family="Platform") for n, product in ((1, "x"), (2, "y")))
    of = replace(billed(subscription(), items=items), deals=(Deal(opportunity(), lines),))
    rules = replace(RULES, commercial=replace(RULES.commercial, seat_families=frozenset(families)))
    assert reading("account_seats", of, rules=rules) == expected


def test_a_product_that_is_on_no_line_leaves_seats_alone() -> None:
    """A removed line must not turn the rest into seats."""
    of = billed(subscription(), items=(item(product="sf_of_no_line", quantity=3),))
    assert isinstance(reading("account_seats", of), Unknown)


def test_a_plan_that_no_line_sells_has_the_name_of_what_is_billed() -> None:
    """Salesforce's own name of the product where it is listed there, else Stripe's, and never an id."""
    extra = item(id="si_extra", product="sf_01tAa0000000009IAA", interval="year", unit_amount=Decimal(9_000_000))
    of = billed(subscription(), items=(*story_items(), extra))
    assert product_without_line(of, RULES) == "sf_01tAa0000000009IAA"
    assert isinstance(reading("account_plan", of), Unknown)
    named = replace(of, product_names={"sf_01tAa0000000009IAA": "Platform Max (2024)"})
    assert reading("account_plan", named) == "Platform Max (2024)"
    entry = PriceBookEntry(id="01uMax", product_id="01tAa0000000009IAA", product_name="Platform Max")
    assert reading("account_plan", replace(named, listed=(entry,))) == "Platform Max"


@pytest.mark.parametrize("status", ["active", "canceled"])
def test_the_name_of_a_product_is_asked_for_only_where_no_line_has_it(status: str) -> None:
    small = item(id="si_extra", product="prod_extra", interval="year", unit_amount=Decimal(5))
    sold = billed(subscription(status=status), items=(*story_items(), small))
    assert product_without_line(sold, RULES) is None
    assert product_without_line(world(), RULES) is None
    future = billed(subscription(), items=(item(interval="of_the_future"),))
    assert product_without_line(future, RULES) is None


@pytest.mark.parametrize(("intent", "expected"), [("subscription:of-the-sync", 35), (None, Unknown)])
def test_what_was_added_at_stripe_and_never_sold_in_salesforce_is_no_seat(intent: str | None, expected: Any) -> None:
    """Of a subscription that was there before the sync nobody knows yet what its own products are."""
    extra = item(id="si_extra", product="prod_extra", quantity=3)
    seats = reading("account_seats", billed(subscription(intent=intent), items=(*story_items(), extra)))
    assert seats == expected or (isinstance(seats, Unknown) and expected is Unknown)


def test_products_that_were_at_stripe_before_are_known_by_the_lines_that_their_items_bill() -> None:
    seat = line(2, product_name="Analyst Seat", product_family="Seats", stripe_item_id="si_1")
    sold = Deal(opportunity(stripe_subscription_id=SUBSCRIPTION), (seat,))
    of = replace(billed(subscription(), items=(item(product="prod_of_old", quantity=20),)), deals=(sold,))
    assert (reading("account_seats", of), reading("account_plan", of)) == (20, "Analyst Seat")


def test_seats_of_ended_subscriptions_are_gone() -> None:
    assert reading("account_seats", billed(subscription(status="canceled"), items=story_items())) == 0


def test_an_unknown_status_leaves_the_accounts_status_alone() -> None:
    of = billed(subscription(), subscription(id="sub_2", status="hibernating"))
    assert isinstance(reading("account_billing_status", of), Unknown)


def test_the_most_urgent_status_shows() -> None:
    of = billed(subscription(status="canceled"), subscription(id="sub_2"), subscription(id="sub_3", status="past_due"))
    assert reading("account_billing_status", of) == "Past Due"


def test_mrr_over_several_subscriptions() -> None:
    items = (*story_items(), item(id="si_9", subscription="sub_2", unit_amount=Decimal(12_550)))
    of = billed(subscription(), subscription(id="sub_2", status="past_due"), items=items)
    assert reading("account_mrr", of) == Money(387_550, "GBP")


def paid(number: int, at: int, **changed: Any) -> Invoice:
    values: dict[str, Any] = {
        "id": f"in_{number}",
        "customer": CUSTOMER,
        "status": "paid",
        "currency": "GBP",
        "created_at": NOW,
        "total": 100,
        "amount_due": 100,
        "amount_paid": 100,
        "amount_remaining": 0,
        "subscription": SUBSCRIPTION,
        "paid_at": at,
    }
    return Invoice(**(values | changed))


NOTHING_PAID = Unknown("no money has come in yet")


@pytest.mark.parametrize(
    ("invoices", "first", "stage"),
    [
        ((), NOTHING_PAID, "Pending"),
        ((paid(1, NOW + 5), paid(2, NOW)), NOW, "Activated"),
        # Credited to nothing while it was open: paid, without cash.
        ((paid(1, NOW, amount_paid=0),), NOTHING_PAID, "Pending"),
        # A part of it has come in.
        ((paid(1, NOW, status="open"),), NOW, "Pending"),
        ((paid(1, NOW, subscription="sub_other"),), NOTHING_PAID, "Pending"),
    ],
)
def test_the_first_payment_of_the_deals_own_invoices(invoices: tuple[Invoice, ...], first: Any, stage: str) -> None:
    payments = tuple(
        payment(n, invoice=each.id, amount_paid=each.amount_paid, paid_at=each.paid_at)
        for n, each in enumerate(invoices)
        if each.amount_paid
    )
    held = Billing((subscription(opportunity_id=OPPORTUNITY),), invoices=invoices, payments=payments)
    of = billed(deals=(deal(),), billing=Present(held))
    assert reading("first_payment_at", of, "opportunity") == first
    assert reading("activation", of, "opportunity") == stage


def test_a_street_of_several_lines_is_one_line_without_blanks() -> None:
    found = billing_address(account(billing_street="Unit 4 \r\n\r\n14 Fleet Street\n"))
    assert found is not None
    assert found["line1"] == "Unit 4, 14 Fleet Street"


def test_a_country_that_is_not_known_makes_no_address() -> None:
    assert billing_address(account(billing_country="Atlantis")) is None


def test_a_won_deal_whose_first_payment_never_came_says_so_and_its_account_lost_nobody() -> None:
    never = subscription(status="incomplete_expired", ended_at=NOW, opportunity_id=OPPORTUNITY)
    of = billed(never, deals=(deal(),))
    assert reading("opportunity_billing_status", of, "opportunity") == "Needs Attention"
    told = f"Not billed: {SUBSCRIPTION} expired at Stripe, because its first payment did not come; "
    assert reading("opportunity_billing_message", of, "opportunity").startswith(told)
    assert reading("account_retention", of) is None
    lost = replace(of, deals=(deal(is_won=False),))
    assert reading("opportunity_billing_message", lost, "opportunity") is None


def test_a_long_message_fits_its_field() -> None:
    lines = [each for n in range(1, 9) for each in [story_lines()[0]]]
    broken = deal(
        *(
            type(each)(id=f"00k{n}", opportunity_id=OPPORTUNITY, product_name="A product with a long name")
            for n, each in enumerate(lines)
        )
    )
    of = billed(deals=(broken,))
    message = reading("opportunity_billing_message", of, "opportunity")
    assert len(message) <= 255
    assert message.endswith("...")


def test_every_record_of_the_world_is_a_subject_once() -> None:
    found = [(each.object, each.id) for each in subjects(billed(subscription()))]
    assert ("account", ACCOUNT) in found
    assert ("customer", CUSTOMER) in found
    assert len(found) == len(set(found)) == 6


@pytest.mark.parametrize("part", ["customers", "billing"])
@pytest.mark.parametrize("name", ["opportunity_billing_status", "opportunity_billing_message"])
def test_a_deal_that_was_reopened_keeps_its_billing_fields_while_stripe_does_not_answer(part: str, name: str) -> None:
    """Its subscription may be running: to a look that failed it only seems to have none."""
    of = billed()
    (won,) = of.deals
    reopened = Deal(replace(won.opportunity, is_won=False, billing_status="Active"), won.lines)
    unknown = Unknown("timeout")
    changed: dict[str, Any] = {part: {CUSTOMER: unknown} if part == "customers" else unknown}
    assert isinstance(reading(name, replace(of, deals=(reopened,), **changed), "opportunity"), Unknown)
