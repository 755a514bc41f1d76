"""Customers that exist already: adopted by id, by our metadata, by one strict match; else a person decides."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.observation import Absent, Present, Unknown
from sync_pipeline.core.plan import plan
from sync_pipeline.core.stripe_records import Customer, SubscriptionSchedule
from sync_pipeline.core.world import Billing, Catalogue, Deal, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    NOW,
    OPPORTUNITY,
    ORG,
    PERSONAL_KEY,
    RULES,
    SUBSCRIPTION,
    account,
    billed,
    customer,
    deal,
    item,
    opportunity,
    story_lines,
    subscription,
    world,
)

STRICT = customer(id="cus_strict", name="NORTHWIND ANALYTICS LTD", tax_ids=("gb_vat:GB 123 456 789",))
NAMESAKE = customer(id="cus_namesake", tax_ids=("gb_vat:GB999999999",))
OURS = customer(id="cus_ours", name="Renamed plc", account_id=ACCOUNT)
ANOTHERS = customer(id="cus_anothers", account_id="001Aa0000000009IAA")


def planned(of: World) -> Plan:
    return plan(of, RULES, PERSONAL_KEY)


def creates(of: Plan) -> list[str]:
    return [command.body["object"] for command in of.commands if command.action == "stripe.create"]


def adopted(of: Plan) -> list[str]:
    return [command.body["external_id"] for command in of.commands if command.action == "link"]


def reviews(of: Plan) -> list[str]:
    return [review.rule for review in of.reviews]


def candidates(*found: Customer) -> World:
    return world(candidates=Present(found))


def named(found: Customer | None, **changed: Any) -> World:
    """A world whose Account names a customer that no link confirms yet."""
    seen = Present(found) if found is not None else Absent(f"404 for {CUSTOMER}")
    return world(
        **{
            "account": Present(account(stripe_customer_id=CUSTOMER)),
            "customer": seen,
            "billing": Present(Billing()) if found is not None else Absent("no customer"),
        }
        | changed
    )


def assert_only_told_on_the_deal(found: Plan) -> None:
    """The Opportunity says what the review does, and nothing else is written."""
    (write,), (review,) = found.commands, found.reviews
    message = f"Not billed: {review.detail}"
    assert write.body == {
        "object": "Opportunity",
        "id": OPPORTUNITY,
        "fields": {
            "Billing_Status__c": "Needs Attention",
            "Billing_Message__c": message if len(message) <= 255 else f"{message[:252]}...",
        },
    }


def test_without_candidates_a_customer_is_created() -> None:
    assert creates(planned(candidates()))[0] == "customer"


@pytest.mark.parametrize("origin", [None, ACCOUNT])
def test_the_id_on_the_account_counts_first(origin: str | None) -> None:
    found = planned(named(customer(account_id=origin), candidates=Present((STRICT, OURS))))
    assert adopted(found) == [CUSTOMER]
    assert "customer" not in creates(found)


def test_our_metadata_counts_second() -> None:
    for order in permutations([OURS, STRICT, NAMESAKE]):
        found = planned(candidates(*order))
        assert adopted(found) == ["cus_ours"]
        assert "customer" not in creates(found)


@pytest.mark.parametrize("others", [(), (ANOTHERS,), (NAMESAKE,), (NAMESAKE, ANOTHERS)])
def test_exactly_one_strict_match_is_adopted(others: tuple[Customer, ...]) -> None:
    found = planned(candidates(STRICT, *others))
    assert adopted(found) == ["cus_strict"]
    assert "customer" not in creates(found)


@pytest.mark.parametrize(
    "found",
    [
        (NAMESAKE,),
        (STRICT, replace(STRICT, id="cus_strict2")),
        (OURS, replace(OURS, id="cus_ours2")),
        (customer(id="cus_bare", tax_ids=()),),
    ],
)
def test_anything_else_is_a_review_and_told_on_the_deal(found: tuple[Customer, ...]) -> None:
    for order in permutations(found):
        result = planned(candidates(*order))
        assert_only_told_on_the_deal(result)
        assert reviews(result) == ["customer_candidates"]
        assert all(each.id in result.reviews[0].detail for each in found)


def test_a_customer_of_another_account_is_no_candidate() -> None:
    found = planned(candidates(ANOTHERS))
    assert creates(found)[0] == "customer"


def test_the_same_name_without_a_registration_is_never_enough() -> None:
    bare = world(account=Present(account(tax_registration=None)), candidates=Present((customer(tax_ids=()),)))
    assert reviews(planned(bare)) == ["customer_candidates"]
    assert_only_told_on_the_deal(planned(bare))


def test_a_named_customer_of_another_account_is_left_alone_entirely() -> None:
    """Neither its name, its address nor its metadata are written, and nothing of it shows on our Account."""
    running = Present(Billing(subscriptions=(subscription(status="past_due"),)))
    found = planned(named(customer(account_id="001Aa0000000009IAA"), billing=running))
    assert reviews(found) == ["customer_of_another"]
    assert_only_told_on_the_deal(found)


def test_a_named_customer_that_does_not_exist_is_a_review_and_told_on_the_deal() -> None:
    found = planned(named(None))
    assert reviews(found) == ["missing_customer"]
    assert_only_told_on_the_deal(found)


def test_a_linked_customer_that_is_gone_is_a_review_and_told_on_the_deal() -> None:
    found = planned(world(customer=Absent(f"404 for {CUSTOMER}"), links=(Link("customer", ACCOUNT, CUSTOMER),)))
    assert reviews(found) == ["missing_customer"]
    assert_only_told_on_the_deal(found)


def test_a_deleted_customer_is_a_review_and_told_on_the_deal_that_was_never_billed() -> None:
    found = planned(named(Customer(id=CUSTOMER, deleted=True), billing=Absent("no customer")))
    assert reviews(found) == ["deleted_customer"]
    assert_only_told_on_the_deal(found)


@pytest.mark.parametrize("role", ["primary", "former"])
def test_a_customer_that_was_deleted_leaves_its_history_and_ends_what_it_had(role: Any) -> None:
    """The first look at it finds its link as it was; from then on the link is a former one's."""
    gone, ended = Customer(id=CUSTOMER, deleted=True), subscription(status="canceled", ended_at=NOW)
    found = planned(
        billed(
            ended,
            items=(item(interval="year", unit_amount=Decimal(4_500_000)),),
            account=Present(account(stripe_customer_id=CUSTOMER, mrr=Decimal(3750), retention_status="Healthy")),
            customer=Present(gone),
            links=(Link("customer", ACCOUNT, CUSTOMER, role), Link("subscription", OPPORTUNITY, SUBSCRIPTION)),
        )
    )
    assert reviews(found) == ["deleted_customer"]
    written = {command.body["object"]: command.body["fields"] for command in found.commands}
    assert written["Account"] | {"MRR__c": 0, "Retention_Status__c": "Churned"} == written["Account"]
    assert written["Opportunity"]["Billing_Status__c"] == "Canceled"
    churn = written["Churn_Record__c"]
    assert (churn["Status__c"], churn["Lost_MRR__c"]) == ("Final", Decimal(3750))
    assert not [command for command in found.commands if command.action.startswith("stripe.")]


def test_once_its_id_is_cleared_a_new_deal_gets_a_new_customer_and_the_old_one_stays_history() -> None:
    won_back = deal(*(replace(each, id=each.id.replace("00k", "00m")) for each in story_lines()), id="006Won")
    found = planned(
        billed(
            subscription(status="canceled", ended_at=NOW),
            deals=(deal(), won_back),
            account=Present(account()),
            customer=Present(Customer(id=CUSTOMER, deleted=True)),
            links=(Link("customer", ACCOUNT, CUSTOMER, "former"), Link("subscription", OPPORTUNITY, SUBSCRIPTION)),
        )
    )
    assert creates(found)[0] == "customer"
    assert reviews(found) == []


def test_a_schedule_that_was_canceled_before_it_began_is_told_on_its_deal_and_not_made_again() -> None:
    canceled = SubscriptionSchedule(
        id="sub_sched_1",
        customer=CUSTOMER,
        status="canceled",
        starts_at=NOW,
        opportunity_id=OPPORTUNITY,
        terms="as they were",
    )
    found = planned(billed(billing=Present(Billing(schedules=(canceled,)))))
    assert creates(found) == []
    (told,) = [each for each in found.commands if each.body["object"] == "Opportunity"]
    assert "sub_sched_1" in told.body["fields"]["Billing_Message__c"]
    assert reviews(found) == ["incomplete_deal"]


def test_a_deleted_account_is_a_review_and_no_write() -> None:
    gone = billed(subscription(), account=Absent("deleted"), deals=())
    assert reviews(planned(gone)) == ["deleted_account"]
    assert planned(gone).commands == ()
    assert planned(replace(gone, links=())) == Plan()


def test_a_customer_is_only_made_for_a_deal_that_can_be_billed() -> None:
    assert planned(world(deals=())).commands == ()
    incomplete = planned(world(deals=(Deal(opportunity()),)))
    assert creates(incomplete) == []
    assert reviews(incomplete) == ["incomplete_deal"]


def test_an_incomplete_deal_says_on_the_opportunity_and_in_the_review_what_is_missing() -> None:
    found = planned(world(deals=(deal(term_months=None),)))
    (write,) = found.commands
    assert write.body == {
        "object": "Opportunity",
        "id": OPPORTUNITY,
        "fields": {
            "Billing_Status__c": "Needs Attention",
            "Billing_Message__c": "Not billed: the term in months is empty",
        },
    }
    assert [review.detail for review in found.reviews] == ["Not billed: the term in months is empty"]


def test_one_incomplete_deal_does_not_hold_up_another() -> None:
    other = deal(
        *(replace(each, id=each.id.replace("00k", "00m")) for each in story_lines()), id="006Other", term_months=None
    )
    found = planned(world(deals=(deal(), other)))
    assert creates(found)[0] == "customer"
    assert [review.subject for review in found.reviews] == ["006Other"]


@pytest.mark.parametrize("link", [True, False])
def test_a_deal_that_names_a_subscription_we_do_not_see_is_never_billed_again(link: bool) -> None:
    """It was billed once, under another customer or by hand; a second subscription would charge twice."""
    links = (Link("customer", ACCOUNT, CUSTOMER),)
    if link:
        of = billed(links=(*links, Link("subscription", OPPORTUNITY, "sub_elsewhere")))
    else:
        of = billed(deals=(deal(stripe_subscription_id="sub_elsewhere"),))
    found = planned(replace(of, catalogue=Present(Catalogue())))
    assert creates(found) == []
    assert reviews(found) == ["missing_subscription"]
    assert "sub_elsewhere" in found.reviews[0].detail
    assert [c.target for c in found.commands if "Opportunity" in c.target] == []


def test_stripe_being_unknown_says_nothing_about_a_deal() -> None:
    """A deal that is billed but whose lines are gone must not be called unbilled while Stripe does not answer."""
    unknown = Unknown("timeout")
    found = planned(world(customer=unknown, billing=unknown, catalogue=unknown, deals=(Deal(opportunity()),)))
    assert found.commands == ()
    assert found.reviews == ()


@pytest.mark.parametrize("part", ["customer", "candidates", "billing", "catalogue"])
def test_what_stripe_does_not_tell_creates_nothing_that_depends_on_it(part: str) -> None:
    found = planned(world(**{part: Unknown("timeout")}))
    made = creates(found)
    assert made == (["customer"] if part == "catalogue" else [])


def test_two_subscriptions_that_claim_one_deal_are_for_a_person() -> None:
    both = (subscription(id="sub_a", opportunity_id=OPPORTUNITY), subscription(id="sub_b", opportunity_id=OPPORTUNITY))
    found = planned(billed(*both))
    assert reviews(found) == ["ambiguous_subscription"]
    assert creates(found) == []


def commands_for(of: Plan, kind: str) -> list[Command]:
    return [command for command in of.commands if command.body.get("object") == kind]


def test_a_contract_that_two_deals_share_is_written_once() -> None:
    from sync_pipeline.core.salesforce_records import Contract

    shared = Contract(id="800Aa0000000001IAA", account_id=ACCOUNT)
    first = Deal(opportunity(close_date="2026-01-01"), (), shared)
    second = Deal(opportunity(id="006Second", close_date="2026-06-01"), (), shared)
    for order in permutations([first, second]):
        found = planned(
            billed(
                subscription(opportunity_id=OPPORTUNITY),
                subscription(id="sub_second", opportunity_id="006Second"),
                deals=order,
            )
        )
        (write,) = commands_for(found, "Contract")
        assert write.body["fields"]["Stripe_Subscription_Id__c"] == SUBSCRIPTION


def test_a_price_that_somebody_moved_to_another_amount_is_never_billed() -> None:
    """The lookup key promises an amount; where the price behind it says otherwise, a person decides."""
    from decimal import Decimal

    from sync_pipeline.core.stripe_records import Price

    one_line = story_lines()[:1]
    key = "sf_01tAa0000000001IAA:gbp:1year:3000000"
    product = "sf_01tAa0000000001IAA"
    right = Price(
        id="price_1",
        product=product,
        currency="GBP",
        lookup_key=key,
        unit_amount=Decimal(3_000_000),
        interval="year",
        interval_count=1,
    )

    def with_price(price: Price) -> Plan:
        catalogue = Present(Catalogue(frozenset({product}), {key: price}))
        return planned(billed(deals=(deal(*one_line),), catalogue=catalogue))

    assert creates(with_price(right)) == ["subscription"]
    # As the parser reads a price of packages.
    of_packages = {"unit_amount": None, "package_amount": right.unit_amount, "package_size": 10}
    plain = ({"unit_amount": Decimal(300)}, {"currency": "USD"}, {"interval": "month"}, {"product": "prod_x"})
    for wrong in (*plain, {**of_packages, "package_rounding": "up"}):
        found = with_price(replace(right, **wrong))
        assert creates(found) == []
        assert reviews(found) == ["price_mismatch"]


def test_the_org_is_part_of_every_intent() -> None:
    (made,) = [c for c in planned(candidates()).commands if c.body.get("object") == "customer"]
    assert made.key == f"cus:{ORG}:{ACCOUNT}"


def _tax_ids(of: World) -> Any:
    (made,) = [command for command in planned(of).commands if command.body.get("object") == "customer"]
    return made.body["params"].get("tax_id_data")


def test_a_registration_that_was_refused_is_left_out_of_the_next_create() -> None:
    first = candidates()
    (made,) = [command for command in planned(first).commands if command.body.get("object") == "customer"]
    assert _tax_ids(first) == [{"type": "gb_vat", "value": "GB123456789"}]
    assert _tax_ids(replace(first, untaxed=frozenset({made.target}))) is None
