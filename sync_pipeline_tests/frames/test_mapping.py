"""The mapping of whole tables decides as the planner's own crosswalk does, account by account."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.crosswalk import Ambiguous, Match, match_item, match_subscription
from sync_pipeline.core.deal import customer_intent, subscription_intent
from sync_pipeline.core.part_ids import MAX_PARTS, opportunity_of, part_id
from sync_pipeline.core.salesforce_records import Account, LineItem, Opportunity
from sync_pipeline.core.stripe_records import Customer, Subscription, SubscriptionItem
from sync_pipeline.core.world import Link
from sync_pipeline.frames.convert import to_frame, to_records
from sync_pipeline.frames.mapping import LINKS, account_customers, billed_lines, deal_subscriptions
from sync_pipeline.frames.rows import AccountCustomer, DealSubscription
from sync_pipeline.frames.schema import violations
from sync_pipeline.frames.tables import ACCOUNT_CUSTOMERS, BILLED_LINES, DEAL_SUBSCRIPTIONS, SNAPSHOTS
from sync_pipeline_tests.core.making import item

ORG = "00D000000000001AAA"
ACCOUNTS = ("001A", "001B")
DEALS = ("006A", "006B", "006C")
# What links and metadata may name: an Opportunity, or a further part of one that is split.
NAMED = (*DEALS, "006A:2", "006A:3", "006B:2")
CUSTOMERS = ("cus_1", "cus_2", "cus_3")
SUBSCRIPTIONS = ("sub_1", "sub_2", "sub_3")


def links_frame(links: Iterable[tuple[str, str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(list(links), schema=LINKS, orient="row")


def mapped(
    accounts: Sequence[Account], customers: Sequence[Customer], links: Iterable[tuple[str, str, str, str]] = ()
) -> list[AccountCustomer]:
    frame = account_customers(
        to_frame(accounts, SNAPSHOTS["salesforce/accounts"]),
        to_frame(customers, SNAPSHOTS["stripe/customers"]),
        links_frame(links),
        ORG,
    )
    assert violations(frame, ACCOUNT_CUSTOMERS) == []
    found: list[AccountCustomer] = to_records(frame.sort("customer_id", "account_id"), ACCOUNT_CUSTOMERS)
    return found


def pairs(found: Iterable[AccountCustomer]) -> list[tuple[str, str, str, str]]:
    return [(each.customer_id, each.account_id, each.evidence, each.state) for each in found]


def test_a_link_counts_more_than_metadata_and_metadata_more_than_the_field() -> None:
    customer = Customer(id="cus_1", account_id="001B")
    claimed = [Account(id="001A", stripe_customer_id="cus_1"), Account(id="001B")]
    assert pairs(mapped(claimed, [customer])) == [("cus_1", "001B", "metadata.sf_account_id", "matched")]
    linked = [("001A", "customer", "001A", "cus_1")]
    assert pairs(mapped(claimed, [customer], linked)) == [("cus_1", "001A", "link", "matched")]
    assert pairs(mapped(claimed, [Customer(id="cus_1")])) == [("cus_1", "001A", "Account field", "matched")]


def test_our_own_intent_is_named_as_evidence_and_a_copied_one_is_not() -> None:
    own = Customer(id="cus_1", account_id="001A", intent=customer_intent(ORG, "001A"))
    assert pairs(mapped([Account(id="001A")], [own])) == [("cus_1", "001A", "metadata.sf_intent", "matched")]
    copied = Customer(id="cus_1", account_id="001A", intent=customer_intent("00DX00000000009AAA", "001A"))
    assert pairs(mapped([Account(id="001A")], [copied])) == [("cus_1", "001A", "metadata.sf_account_id", "matched")]


def test_two_accounts_that_name_one_customer_are_both_shown_as_ambiguous() -> None:
    claimed = [Account(id=name, stripe_customer_id="cus_1") for name in ACCOUNTS]
    assert pairs(mapped(claimed, [Customer(id="cus_1")])) == [
        ("cus_1", "001A", "Account field", "ambiguous"),
        ("cus_1", "001B", "Account field", "ambiguous"),
    ]


def test_a_row_says_whether_each_side_is_listed() -> None:
    (gone,) = mapped([], [], [("001A", "customer", "001A", "cus_1")])
    assert (gone.in_salesforce, gone.in_stripe) == (False, False)
    (there,) = mapped([Account(id="001A")], [Customer(id="cus_1", account_id="001A")])
    assert (there.in_salesforce, there.in_stripe) == (True, True)


opportunities = st.builds(
    Opportunity,
    id=st.sampled_from(DEALS),
    account_id=st.none() | st.sampled_from(ACCOUNTS),
    stripe_subscription_id=st.none() | st.sampled_from(SUBSCRIPTIONS),
    amends_opportunity_id=st.none() | st.sampled_from(DEALS),
)
subscriptions = st.builds(
    Subscription,
    id=st.sampled_from(SUBSCRIPTIONS),
    customer=st.sampled_from(CUSTOMERS),
    status=st.sampled_from(["active", "canceled"]),
    currency=st.just("GBP"),
    created_at=st.just(1),
    start_at=st.just(1),
    collection_method=st.just("send_invoice"),
    opportunity_id=st.none() | st.sampled_from(NAMED),
    intent=st.none() | st.sampled_from([subscription_intent(ORG, deal) for deal in NAMED]),
)
links = st.tuples(
    st.sampled_from(ACCOUNTS), st.just("subscription"), st.sampled_from(NAMED), st.sampled_from(SUBSCRIPTIONS)
)


@given(
    deals=st.lists(opportunities, max_size=3, unique_by=lambda each: each.id),
    billed=st.lists(subscriptions, max_size=3, unique_by=lambda each: each.id),
    linked=st.lists(links, max_size=3, unique=True),
    owners=st.dictionaries(st.sampled_from(CUSTOMERS), st.sampled_from(ACCOUNTS)),
)
def test_deals_are_matched_as_the_crosswalk_matches_them(
    deals: list[Opportunity],
    billed: list[Subscription],
    linked: list[tuple[str, str, str, str]],
    owners: dict[str, str],
) -> None:
    mapping = [
        AccountCustomer(
            customer_id=customer,
            account_id=account,
            evidence="link",
            state="matched",
            in_salesforce=True,
            in_stripe=True,
        )
        for customer, account in owners.items()
    ]
    frame = deal_subscriptions(
        to_frame(deals, SNAPSHOTS["salesforce/opportunities"]),
        to_frame(billed, SNAPSHOTS["stripe/subscriptions"]),
        to_frame(mapping, ACCOUNT_CUSTOMERS),
        links_frame(linked),
        ORG,
    )
    assert violations(frame, DEAL_SUBSCRIPTIONS) == []
    found = {(each.deal_id, each.subscription_id): each for each in to_records(frame, DEAL_SUBSCRIPTIONS)}
    wanted = {}
    parts = [
        replace(deal, id=part_id(deal.id, number), stripe_subscription_id=None)
        for deal in deals
        for number in range(2, MAX_PARTS + 1)
    ]
    for deal in [*deals, *parts]:
        own = [each for each in billed if deal.account_id and owners.get(each.customer) == deal.account_id]
        known = [
            Link(kind, subject, external) for account, kind, subject, external in linked if account == deal.account_id
        ]
        match match_subscription(deal, own, known, ORG):
            case Match(id=name, evidence=evidence):
                wanted[deal.id, name] = (deal.account_id, evidence, "matched")
            case Ambiguous(ids=names, evidence=evidence):
                wanted |= {(deal.id, name): (deal.account_id, evidence, "ambiguous") for name in names}
    assert {key: (each.account_id, each.evidence, each.state) for key, each in found.items()} == wanted
    assert all(each.opportunity_id == opportunity_of(each.deal_id) for each in found.values())


lines = st.builds(
    LineItem,
    id=st.sampled_from(("00kA", "00kB", "00kC")),
    opportunity_id=st.sampled_from(DEALS),
    stripe_item_id=st.none() | st.sampled_from(("si_1", "si_2", "si_3")),
)
items = st.builds(
    SubscriptionItem,
    id=st.sampled_from(("si_1", "si_2", "si_3")),
    subscription=st.sampled_from(SUBSCRIPTIONS),
    price=st.just("price"),
    product=st.just("prod"),
    currency=st.just("GBP"),
    interval=st.just("month"),
    interval_count=st.just(1),
    usage_type=st.just("licensed"),
    line_ids=st.lists(st.sampled_from(("00kA", "00kB", "00kC")), max_size=2, unique=True).map(tuple),
)


@given(
    sold=st.lists(lines, max_size=3, unique_by=lambda each: each.id),
    billed=st.lists(items, max_size=3, unique_by=lambda each: each.id),
    deals=st.dictionaries(st.sampled_from(DEALS), st.sampled_from(SUBSCRIPTIONS)),
)
def test_lines_are_matched_as_the_crosswalk_matches_them(
    sold: list[LineItem], billed: list[SubscriptionItem], deals: dict[str, str]
) -> None:
    mapping = [
        DealSubscription(
            deal_id=deal, opportunity_id=deal, subscription_id=name, account_id="001A", evidence="link", state="matched"
        )
        for deal, name in deals.items()
    ]
    frame = billed_lines(
        to_frame(sold, SNAPSHOTS["salesforce/opportunity_line_items"]),
        to_frame(billed, SNAPSHOTS["stripe/subscription_items"]),
        to_frame(mapping, DEAL_SUBSCRIPTIONS),
    )
    assert violations(frame, BILLED_LINES) == []
    rows = to_records(frame, BILLED_LINES)
    wanted = {
        line.id: (found.id, found.evidence)
        for line in sold
        if line.opportunity_id in deals and (found := match_item(line, billed, deals[line.opportunity_id])) is not None
    }
    assert {each.line_id: (each.item_id, each.evidence) for each in rows if each.state == "matched"} == wanted
    for other in (each for each in rows if each.state == "ambiguous"):
        assert other.line_id in wanted
        assert other.item_id > wanted[other.line_id][0]


def test_two_items_that_claim_a_line_are_both_shown() -> None:
    sold = LineItem(id="00kA", opportunity_id="006A")
    claiming = [item(id=name, subscription="sub_1", line_ids=("00kA",)) for name in ("si_2", "si_1")]
    deal = DealSubscription(
        deal_id="006A",
        opportunity_id="006A",
        subscription_id="sub_1",
        account_id="001A",
        evidence="link",
        state="matched",
    )
    frame = billed_lines(
        to_frame([sold], SNAPSHOTS["salesforce/opportunity_line_items"]),
        to_frame(claiming, SNAPSHOTS["stripe/subscription_items"]),
        to_frame([deal], DEAL_SUBSCRIPTIONS),
    )
    assert sorted(frame.select("item_id", "state").rows()) == [("si_1", "matched"), ("si_2", "ambiguous")]
