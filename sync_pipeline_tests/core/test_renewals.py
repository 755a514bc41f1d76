"""The renewal pipeline: when it opens, what it is worth, whose word stands, how it ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.commands import Agreement, Command, Review
from sync_pipeline.core.conflict import Clash
from sync_pipeline.core.observation import Present
from sync_pipeline.core.renewals import renewal_opportunities
from sync_pipeline.core.salesforce_records import Opportunity
from sync_pipeline.core.stripe_records import Invoice
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Deal, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    OPPORTUNITY,
    ORG,
    RULES,
    SUBSCRIPTION,
    account,
    customer,
    item,
    opportunity,
    subscription,
)

START = date(2026, 11, 23)
KEY = f"{SUBSCRIPTION}:2027-11-23"
RENEWAL = "006Aa0000000009IAA"


def noon(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()) * MICROS


def renewal(**changed: Any) -> Opportunity:
    values: dict[str, Any] = {
        "id": RENEWAL,
        "renewal_key": KEY,
        "amount": Decimal(45000),
        "close_date": "2027-11-23",
        "stage": "Prospecting",
    }
    return Opportunity(**(values | changed))


def world_on(
    day: date, *renewals: Opportunity, seats: int = 10, base: dict[str, str] | None = None, **changed: Any
) -> World:
    """An annual deal that started on 23 November 2026, at 4,500 pounds a seat and year."""
    held = item(interval="year", unit_amount=Decimal(450_000), quantity=seats)
    return World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=noon(day),
        account=Present(account()),
        deals=(Deal(opportunity(name="Northwind")),),
        renewals=renewals,
        customers={CUSTOMER: Present(customer())},
        billing=Present(Billing(subscriptions=(subscription(**({"start_at": noon(START)} | changed)),), items=(held,))),
        links=(Link("customer", ACCOUNT, CUSTOMER), Link("subscription", OPPORTUNITY, SUBSCRIPTION)),
        base={(RENEWAL, f"renewal.{name}"): value for name, value in (base or {}).items()},
    )


def only(world: World) -> Command:
    commands = [entry for entry in renewal_opportunities(world, RULES) if isinstance(entry, Command)]
    (command,) = commands
    return command


def paid_invoice(created: date) -> Invoice:
    return Invoice(
        id="in_2",
        customer=CUSTOMER,
        status="paid",
        currency="GBP",
        created_at=noon(created),
        total=4_500_000,
        amount_due=4_500_000,
        amount_paid=4_500_000,
        amount_remaining=0,
        subscription=SUBSCRIPTION,
    )


def with_invoice(world: World, invoice: Invoice) -> World:
    assert isinstance(world.billing, Present)
    return replace(world, billing=Present(replace(world.billing.value, invoices=(invoice,))))


def test_it_opens_ninety_days_before_the_term_ends_and_not_a_day_earlier() -> None:
    opens = date(2027, 11, 23) - timedelta(days=90)
    assert list(renewal_opportunities(world_on(opens - timedelta(days=1)), RULES)) == []
    assert only(world_on(opens)).body == {
        "object": "Opportunity",
        "external_field": "Stripe_Renewal_Key__c",
        "external_id": KEY,
        "fields": {
            "Name": "Northwind renewal 2027-11",
            "AccountId": ACCOUNT,
            "StageName": "Prospecting",
            "CloseDate": "2027-11-23",
            "Amount": Decimal("45000.00"),
        },
    }


def test_it_is_made_with_its_record_type_or_not_at_all() -> None:
    rules = replace(RULES, commercial=replace(RULES.commercial, renewal_record_type="Renewal"))
    world = world_on(date(2027, 10, 1))
    (review,) = renewal_opportunities(replace(world, record_types={"New_Business": "012B"}), rules)
    assert isinstance(review, Review)
    assert (review.rule, review.subject) == ("renewal_record_type", OPPORTUNITY)
    (command,) = renewal_opportunities(replace(world, record_types={"New_Business": "012B", "Renewal": "012A"}), rules)
    assert isinstance(command, Command)
    assert command.body["fields"]["RecordTypeId"] == "012A"


@pytest.mark.parametrize(
    ("months", "today", "key"),
    [
        (12, date(2028, 10, 1), f"{SUBSCRIPTION}:2028-11-23"),
        (24, date(2028, 10, 1), f"{SUBSCRIPTION}:2028-11-23"),
        (36, date(2029, 10, 1), f"{SUBSCRIPTION}:2029-11-23"),
        (1, date(2026, 12, 1), f"{SUBSCRIPTION}:2026-12-23"),
    ],
)
def test_terms_are_counted_from_the_start(months: int, today: date, key: str) -> None:
    deal = Deal(opportunity(term_months=Decimal(months)))
    assert only(replace(world_on(today), deals=(deal,))).body["external_id"] == key


def test_the_next_term_of_three_years_is_worth_three_years() -> None:
    deal = Deal(opportunity(term_months=Decimal(36)))
    command = only(replace(world_on(date(2029, 10, 1)), deals=(deal,)))
    assert command.body["fields"]["Amount"] == Decimal("135000.00")


def test_what_agrees_is_the_base() -> None:
    assert list(renewal_opportunities(world_on(date(2027, 10, 1), renewal()), RULES)) == [
        Agreement(RENEWAL, "renewal.amount", '"45000"'),
        Agreement(RENEWAL, "renewal.close_date", '"2027-11-23"'),
    ]


def test_more_seats_are_worth_more() -> None:
    world = world_on(date(2027, 10, 1), renewal(), seats=12, base={"amount": '"45000"'})
    assert only(world).body["fields"] == {"Amount": Decimal("54000.00")}


def test_a_persons_forecast_stands() -> None:
    edited = renewal(amount=Decimal(60000))
    world = world_on(date(2027, 10, 1), edited, seats=12, base={"amount": '"45000"'})
    assert [e for e in renewal_opportunities(world, RULES) if isinstance(e, Command)] == []


def test_a_forecast_that_seats_pass_by_is_a_conflict_that_the_person_wins() -> None:
    edited = renewal(amount=Decimal(60000), modified_by_id="005SALES", modified_at=7)
    world = world_on(date(2027, 10, 1), edited, base={"amount": '"45000"', "close_date": '"2027-11-23"'})
    assert [e for e in renewal_opportunities(world, RULES) if isinstance(e, Clash)] == []
    seats_moved = world_on(date(2027, 10, 1), edited, seats=12, base={"amount": '"45000"'})
    (clash,) = [e for e in renewal_opportunities(seats_moved, RULES) if isinstance(e, Clash)]
    assert (clash.standing.rule, clash.base, clash.words) == ("renewal.amount", '"45000"', ("45000", "60000", "54000"))
    assert (clash.winner, clash.about.edited_by_id, clash.about.record_id) == ("Salesforce", "005SALES", RENEWAL)


@pytest.mark.parametrize("base", [None, '"45000"'])
def test_what_sales_quotes_with_products_is_worth_what_they_come_to_and_only_its_date_is_kept(base: str | None) -> None:
    quoted = renewal(has_lines=True, close_date="2027-11-20")
    known = {"close_date": '"2027-11-20"'} | ({"amount": base} if base else {})
    world = world_on(date(2027, 10, 1), quoted, seats=12, base=known)
    assert only(world).body["fields"] == {"CloseDate": "2027-11-23"}


def test_it_is_won_when_the_next_term_is_paid() -> None:
    world = world_on(date(2027, 12, 1), renewal())
    assert only(with_invoice(world, paid_invoice(date(2027, 11, 23)))).body["fields"] == {"StageName": "Closed Won"}


def test_a_payment_of_the_old_term_does_not_win_it() -> None:
    world = with_invoice(world_on(date(2027, 10, 1), renewal()), paid_invoice(date(2027, 9, 1)))
    assert [e for e in renewal_opportunities(world, RULES) if isinstance(e, Command)] == []


def test_it_is_lost_when_the_subscription_has_ended() -> None:
    world = world_on(date(2027, 12, 1), renewal(), status="canceled", ended_at=noon(date(2027, 11, 23)))
    assert only(world).body["fields"] == {"StageName": "Closed Lost"}


def test_what_is_lost_says_why() -> None:
    why: dict[str, Any] = {"cancellation_reason": "cancellation_requested", "cancellation_feedback": "too_expensive"}
    ended: dict[str, Any] = {"status": "canceled", "ended_at": noon(date(2027, 11, 23))}
    world = world_on(date(2027, 12, 1), renewal(), **ended, **why)
    assert only(world).body["fields"] == {
        "StageName": "Closed Lost",
        "Renewal_Lost_Reason__c": "cancellation was requested: too expensive",
    }


def test_a_closed_renewal_is_left_alone() -> None:
    world = world_on(date(2027, 10, 1), renewal(is_closed=True, is_won=True, amount=Decimal(1)))
    assert list(renewal_opportunities(world, RULES)) == []


def reviews(world: World) -> list[str]:
    return [entry.detail for entry in renewal_opportunities(world, RULES) if isinstance(entry, Review)]


def test_a_renewal_that_a_person_lost_while_the_subscription_goes_on_is_asked_about_until_an_end_is_scheduled() -> None:
    lost = renewal(is_closed=True)
    (detail,) = reviews(world_on(date(2027, 10, 1), lost))
    assert detail == (
        f"it is lost, but {SUBSCRIPTION} renews itself on 2027-11-23; "
        "enter a cancel date in the Contract, or open it again"
    )
    assert reviews(world_on(date(2027, 10, 1), lost, cancel_at=noon(date(2027, 11, 23)))) == []


def test_a_renewal_that_is_won_after_the_end_is_never_billed_and_asked_about() -> None:
    won = renewal(is_closed=True, is_won=True)
    (detail,) = reviews(world_on(date(2027, 12, 1), won, status="canceled", ended_at=noon(date(2027, 11, 23))))
    assert "sell it as a new Opportunity" in detail
    lived = world_on(date(2028, 3, 1), won, status="canceled", ended_at=noon(date(2028, 2, 1)))
    assert reviews(lived) == []


def test_it_belongs_to_who_sold_the_deal_else_to_the_accounts_owner_else_to_nobody_who_is_gone() -> None:
    day, seller = date(2027, 10, 1), {"owner_id": "005Seller", "owner_active": True}
    sold = replace(world_on(day), deals=(Deal(opportunity(**seller)),))
    assert only(sold).body["fields"]["OwnerId"] == "005Seller"
    left = replace(sold, deals=(Deal(opportunity(**(seller | {"owner_active": False}))),))
    assert "OwnerId" not in only(left).body["fields"]
    kept = replace(left, account=Present(account(owner_id="005Keeper", owner_active=True)))
    assert only(kept).body["fields"]["OwnerId"] == "005Keeper"


def test_in_an_org_with_several_currencies_it_is_in_the_subscriptions() -> None:
    world = replace(world_on(date(2027, 10, 1), currency="EUR"), account=Present(account(currency="GBP")))
    assert only(world).body["fields"]["CurrencyIsoCode"] == "EUR"


def test_an_amendment_of_the_subscription_is_no_second_renewal() -> None:
    world = world_on(date(2027, 10, 1))
    amendment = Deal(opportunity(id="006A", amends_opportunity_id=OPPORTUNITY, close_date="2026-01-01"))
    links = (*world.links, Link("subscription", "006A", SUBSCRIPTION))
    command = only(replace(world, deals=(amendment, *world.deals), links=links))
    assert (command.body["external_id"], command.subject) == (KEY, OPPORTUNITY)


def test_a_deal_without_a_term_has_no_renewal() -> None:
    world = replace(world_on(date(2027, 10, 1)), deals=(Deal(opportunity(term_months=None)),))
    assert list(renewal_opportunities(world, RULES)) == []
