"""Generated worlds: any mixture of what two systems could show, and worlds that grew from one story.

Independent random halves hardly ever belong together, so ids come from small pools: the same deal, customer and
subscription turn up on both sides, in the links and in the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

from hypothesis import strategies as st

from sync_pipeline.core.deal import customer_intent, subscription_intent
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.observation import Absent, Observation, Present, Unknown
from sync_pipeline.core.salesforce_records import Account, Contract, LineItem, Opportunity
from sync_pipeline.core.stripe_records import Customer, Invoice, Price, Subscription
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Catalogue, Deal, Link, World
from sync_pipeline_tests.core.making import ACCOUNT, NOW, ORG, RULES, item, payment, refund, subscription

T = TypeVar("T")

CANARY = "Zanzibar Canary"
OPPORTUNITIES = ("006A", "006B", "006C")
PRODUCTS = ("01tA", "01tB")
CUSTOMERS = ("cus_a", "cus_b")
SUBSCRIPTIONS = ("sub_a", "sub_b", "sub_c")
CONTRACTS = ("800A", "800B")
ACCOUNTS = (ACCOUNT, "001Aa0000000009IAA")
FIRST = Link("customer", ACCOUNT, "cus_a")
SECOND = Link("customer", f"{ACCOUNT}:EUR", "cus_b")
MERGED = Link("customer", ACCOUNT, "cus_a", "secondary")
STATUSES = ("active", "past_due", "trialing", "canceled", "incomplete_expired", "unpaid", "paused", "of_the_future")


def mostly(usual: Sequence[Any], *unusual: Any) -> st.SearchStrategy[Any]:
    """One of the usual values nine times of ten, so that worlds with one fault are more frequent than with ten."""
    return st.integers(0, 9).flatmap(lambda chance: st.sampled_from(unusual if chance == 9 else usual))


def rarely_none(values: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    return st.one_of(values, values, values, st.none())


moments = st.integers(NOW - 400 * 86400 * MICROS, NOW + 400 * 86400 * MICROS)


def observed(values: st.SearchStrategy[T], *, weight: int = 10) -> st.SearchStrategy[Observation[T]]:
    """Mostly present, sometimes proved absent, sometimes unknown."""
    found: st.SearchStrategy[Observation[T]] = values.map(Present)
    return st.one_of(*[found] * weight, st.just(Absent("404")), st.just(Unknown("timeout")))


accounts = st.builds(
    Account,
    id=st.just(ACCOUNT),
    name=mostly([CANARY], "unknown", None, " "),
    billing_street=rarely_none(st.just(f"1 {CANARY} Street\r\nYard")),
    billing_city=rarely_none(st.just(f"{CANARY}ville")),
    billing_country=st.sampled_from(["United Kingdom", "Deutschland", "Atlantis", None]),
    currency=mostly([None, "GBP"], "EUR", "XXX"),
    tax_registration=rarely_none(st.just("GB123456789")),
    tax_registration_type=rarely_none(st.just("gb_vat")),
    stripe_customer_id=mostly([None], *CUSTOMERS),
    lifetime_value=st.sampled_from([None, Decimal(0), Decimal("450.0")]),
    mrr=st.sampled_from([None, Decimal("0.0"), Decimal("37.5")]),
    billing_status=st.sampled_from([None, "Active", "Written by hand"]),
)


def lines_of(opportunity_id: str) -> st.SearchStrategy[tuple[LineItem, ...]]:
    one = st.builds(
        LineItem,
        id=st.sampled_from([f"00k{opportunity_id}{n}" for n in range(4)]),
        opportunity_id=st.just(opportunity_id),
        product_id=mostly(PRODUCTS, None),
        product_name=st.sampled_from(["Seat", "Platform", None]),
        product_family=st.sampled_from(["Seats", None]),
        quantity=mostly([Decimal(1), Decimal("5.0"), Decimal(20)], Decimal("0.5"), None),
        unit_price=mostly([Decimal(600), Decimal("600.00"), Decimal("0.0125")], Decimal(-1), None),
        stripe_item_id=st.sampled_from([None, "si_0", "si_1"]),
        modified_at=rarely_none(moments),
    )
    return st.lists(one, min_size=1, max_size=4, unique_by=lambda line: line.id).map(tuple)


@st.composite
def deals(draw: st.DrawFn) -> tuple[Deal, ...]:
    found = []
    for opportunity_id in draw(st.lists(st.sampled_from(OPPORTUNITIES), max_size=3, unique=True)):
        opportunity = Opportunity(
            id=opportunity_id,
            account_id=ACCOUNT,
            is_won=draw(mostly([True], False)),
            close_date=draw(st.sampled_from([None, "2026-01-31", "2026-11-23"])),
            currency=draw(mostly([None, "GBP"], "EUR", "XXX")),
            billing_interval=draw(mostly(["Annual", "Monthly"], "Weekly", None)),
            service_start_date=draw(mostly([None, "2026-11-01", "2026-11-23"], "2027-01-01", "soon")),
            term_months=draw(mostly([Decimal(12), Decimal("12.0")], Decimal(0), None)),
            stripe_subscription_id=draw(mostly([None], *SUBSCRIPTIONS)),
            billing_status=draw(st.sampled_from([None, "Active", "Needs Attention"])),
            billing_message=draw(st.sampled_from([None, "Not billed: something"])),
            activation_status=draw(st.sampled_from([None, "Pending", "Activated", "Other"])),
            first_payment_at=draw(st.sampled_from([None, NOW - 86400 * MICROS, NOW])),
        )
        contract_id = draw(st.sampled_from([None, *CONTRACTS]))
        contract = Contract(id=contract_id, account_id=ACCOUNT) if contract_id else None
        found.append(Deal(opportunity, draw(lines_of(opportunity_id)), contract))
    return tuple(found)


def customers(customer_id: st.SearchStrategy[str], *, deleted: bool) -> st.SearchStrategy[Customer]:
    living = st.builds(
        Customer,
        id=customer_id,
        name=st.sampled_from([CANARY, "Renamed", None]),
        line1=st.sampled_from([None, f"1 {CANARY} Street, Yard"]),
        country=st.sampled_from([None, "GB"]),
        tax_ids=st.sampled_from([(), ("gb_vat:GB123456789",), ("gb_vat:GB999999973",)]),
        tax_id_names=st.just(("txi_1",)),
        account_id=mostly([None, ACCOUNT], *ACCOUNTS),
        currency=mostly([None], "GBP", "EUR"),
        intent=st.sampled_from([None, customer_intent(ORG, ACCOUNT)]),
    )
    gone = st.builds(Customer, id=customer_id, deleted=st.just(True))
    return st.one_of(*[living] * 9, gone) if deleted else living


@st.composite
def billings(draw: st.DrawFn) -> Billing:
    subscriptions: list[Subscription] = []
    items = []
    for number, subscription_id in enumerate(draw(st.lists(st.sampled_from(SUBSCRIPTIONS), max_size=3, unique=True))):
        deal = draw(st.sampled_from([None, *OPPORTUNITIES]))
        customer_id, currency = draw(mostly([("cus_a", "GBP"), ("cus_b", "EUR")], ("cus_a", "EUR")))
        made = subscription(
            id=subscription_id,
            customer=customer_id,
            status=draw(st.sampled_from(STATUSES)),
            currency=currency,
            opportunity_id=deal,
            intent=subscription_intent(ORG, deal) if deal and draw(st.booleans()) else None,
            cancel_at=draw(st.sampled_from([None, None, NOW])),
        )
        subscriptions.append(made)
        for index in range(draw(st.integers(0, 2))):
            lines = tuple(sorted(draw(st.sets(st.sampled_from([f"00k{deal}{n}" for n in range(4)]), max_size=2))))
            items.append(
                item(
                    id=f"si_{number}{index}",
                    subscription=subscription_id,
                    product=draw(st.sampled_from(["sf_01tA", "sf_01tB", "prod_x"])),
                    currency=currency,
                    interval=draw(mostly(["month", "year", "week"], "of_the_future")),
                    usage_type=draw(st.sampled_from(["licensed", "licensed", "metered"])),
                    unit_amount=draw(st.sampled_from([Decimal(60000), Decimal("1.25"), None])),
                    quantity=draw(st.sampled_from([1, 5, None])),
                    period_start=NOW - 86400 * MICROS,
                    period_end=NOW + 86400 * MICROS,
                    line_ids=lines,
                )
            )
    invoices = [
        Invoice(
            id=f"in_{number}",
            customer="cus_a",
            status=draw(st.sampled_from(["open", "paid", "void", "draft"])),
            currency="GBP",
            created_at=NOW,
            total=100,
            amount_due=100,
            amount_paid=draw(st.sampled_from([0, 100])),
            amount_remaining=0,
            subscription=draw(st.sampled_from([None, *SUBSCRIPTIONS])),
            paid_at=draw(rarely_none(moments)),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    return Billing(
        subscriptions=tuple(subscriptions),
        items=tuple(items),
        invoices=tuple(invoices),
        payments=tuple(payment(n, customer="cus_a") for n in range(draw(st.integers(0, 2)))),
        refunds=tuple(refund(n, customer="cus_a") for n in range(draw(st.integers(0, 2)))),
    )


def catalogues() -> st.SearchStrategy[Catalogue]:
    keys = [
        f"sf_{p}:gbp:1{every}:{amount}" for p in PRODUCTS for every in ("year", "month") for amount in ("60000", "1.25")
    ]

    def price(key: str) -> Price:
        product, currency, every, amount = key.split(":")
        return Price(
            id=f"price_{keys.index(key)}",
            product=product,
            currency=currency.upper(),
            lookup_key=key,
            unit_amount=Decimal(amount),
            interval=every[1:],
            interval_count=1,
        )

    return st.builds(
        lambda products, chosen: Catalogue(frozenset(products), {key: price(key) for key in chosen}),
        st.sets(st.sampled_from([f"sf_{p}" for p in PRODUCTS])),
        st.one_of(st.just(keys), st.just(keys), st.lists(st.sampled_from(keys), unique=True)),
    )


def facts() -> st.SearchStrategy[tuple[Fact, ...]]:
    one = st.builds(
        Fact,
        kind=st.sampled_from(["payment", "refund"]),
        external_id=st.sampled_from(["inpay_1", "re_1"]),
        revision=st.integers(0, 2),
        account=st.just(ACCOUNT),
        currency=st.sampled_from(["GBP", "GBP", "GBP", "EUR"]),
        amount_minor=st.integers(-(10**6), 10**6),
        occurred_at=moments,
    )
    return st.lists(one, max_size=4, unique_by=lambda f: (f.kind, f.external_id, f.revision)).map(tuple)


@st.composite
def bases(draw: st.DrawFn) -> dict[tuple[str, str], str]:
    subjects = (ACCOUNT, *CUSTOMERS, *OPPORTUNITIES)
    keys = [(subject, rule.target) for subject in subjects for rule in RULES.fields]
    values = ["null", '"Active"', '"cus_a"', '"sub_a"', '"0"', '"37.5"', '"Canceled"']
    return draw(st.dictionaries(st.sampled_from(keys), st.sampled_from(values), max_size=8))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Anything that could ever be looked at."""
    links = [
        *draw(st.sampled_from([[], [FIRST], [FIRST], [FIRST, SECOND], [SECOND], [SECOND, MERGED]])),
        *(
            Link("subscription", opportunity_id, subscription_id)
            for opportunity_id, subscription_id in draw(
                st.dictionaries(st.sampled_from(OPPORTUNITIES), st.sampled_from(SUBSCRIPTIONS), max_size=1)
            ).items()
        ),
    ]
    account = draw(observed(accounts, weight=18))
    linked = {link.external_id for link in links if link.kind == "customer"}
    if isinstance(account, Present) and account.value.stripe_customer_id and FIRST not in links:
        linked.add(account.value.stripe_customer_id)
    found = World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=NOW,
        account=account,
        deals=draw(deals()),
        customers={each: draw(observed(customers(st.just(each), deleted=True))) for each in sorted(linked)},
        candidates=draw(
            observed(
                st.lists(
                    customers(st.sampled_from(CUSTOMERS), deleted=False), max_size=2, unique_by=lambda c: c.id
                ).map(tuple)
            )
        ),
        billing=draw(observed(billings())),
        catalogue=draw(observed(catalogues())),
        links=tuple(links),
        base=draw(bases()),
        facts=draw(facts()),
    )
    return replace(found, blocked=draw(st.sampled_from([frozenset(), frozenset({customer_intent(ORG, ACCOUNT)})])))


@st.composite
def shuffled(draw: st.DrawFn, world: World) -> World:
    """The same world in another order of everything that has no order."""

    def mixed(values: Any) -> Any:
        return tuple(draw(st.permutations(list(values))))

    changed: dict[str, Any] = {
        "deals": tuple(replace(deal, lines=mixed(deal.lines)) for deal in mixed(world.deals)),
        "links": mixed(world.links),
        "customers": dict(mixed(world.customers.items())),
        "facts": mixed(world.facts),
        "base": dict(mixed(world.base.items())),
    }
    if isinstance(world.candidates, Present):
        changed["candidates"] = Present(mixed(world.candidates.value))
    if isinstance(world.billing, Present):
        held = world.billing.value
        names = ("subscriptions", "items", "invoices", "payments", "refunds")
        changed["billing"] = Present(replace(held, **{name: mixed(getattr(held, name)) for name in names}))
    if isinstance(world.catalogue, Present):
        prices = dict(mixed(world.catalogue.value.prices.items()))
        changed["catalogue"] = Present(replace(world.catalogue.value, prices=prices))
    return replace(world, **changed)
