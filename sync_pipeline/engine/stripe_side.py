"""The Stripe side of a world: the billing of an account's customers, and what else its deals need to know of Stripe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sync_pipeline.core.customers import needs_candidates
from sync_pipeline.core.deal_parts import in_parts
from sync_pipeline.core.discount_terms import changed_discounts
from sync_pipeline.core.late_charges import charged_rates, customers_to_look_at
from sync_pipeline.core.observation import Absent, Observation, Present, Unknown
from sync_pipeline.core.prices import changed_rates
from sync_pipeline.core.product_names import told_products
from sync_pipeline.core.ramp_changes import changed_ramps
from sync_pipeline.core.readings import product_without_line
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import Account, Contract
from sync_pipeline.core.stripe_records import Customer
from sync_pipeline.core.unbilled import unbilled_deals
from sync_pipeline.core.world import Billing, Catalogue, World
from sync_pipeline.engine.context import StripeReads
from sync_pipeline.systems.outcomes import UNKNOWN_SHAPE, ReadFailed


def with_stripe(
    rules: Rules, world: World, known: World | None, stripe: StripeReads, contracts: Sequence[Contract]
) -> World:
    """Adds what Stripe shows, asking only what this account needs and is not known.

    What cannot be read makes its billing unknown. Raises ReadFailed for missing access.
    """
    if not isinstance(world.account, Present):
        return world
    account = world.account.value
    try:
        named = _known_customers(world, account)
        if known is not None and list(known.customers) == named and isinstance(known.billing, Present):
            world = replace(world, customers=known.customers, billing=known.billing)
        else:
            world = _with_billing(world, named, stripe)
        return look_further(rules, in_parts(world, rules, contracts), stripe)
    except ReadFailed as error:
        if error.access:
            raise
        return replace(world, billing=Unknown(str(error)))
    except UNKNOWN_SHAPE as error:
        # One object that this version cannot read must not keep every other account from being served.
        why = f"Stripe: something of Account {world.account_id} cannot be read ({type(error).__name__})"
        return replace(world, billing=Unknown(why))


def look_further(rules: Rules, world: World, stripe: StripeReads) -> World:
    """Adds what the account needs of Stripe beside its billing, where it is not known. Raises ReadFailed."""
    if not isinstance(world.account, Present):
        return world
    account = world.account.value
    plan = product_without_line(world, rules)
    told = told_products(world, rules.commercial) | ({plan} if plan is not None else set())
    if unnamed := told - world.product_names.keys():
        world = replace(world, product_names={**world.product_names, **stripe.product_names(unnamed)})
    if not isinstance(world.charged, Present) and (customers := customers_to_look_at(world, rules.commercial)):
        world = replace(world, charged=Present(stripe.charged_lines(customers)))
    waiting = unbilled_deals(world, rules)
    said = [agreed for _, agreed in waiting.ready] + [agreed for _, agreed, _ in waiting.rescheduled]
    said += changed_ramps(world, rules)
    rates = [rate for agreed in said for rate in agreed.rates] + list(changed_rates(world, rules))
    rates += charged_rates(world, rules)
    discounts = [agreed.discount for agreed in said if agreed.discount is not None]
    discounts += changed_discounts(world, rules)
    known = world.catalogue.value if isinstance(world.catalogue, Present) else Catalogue()
    keys = {rate.lookup_key for rate in rates} - known.prices.keys()
    products = {rate.stripe_product for rate in rates if rate.lookup_key in keys}
    names = {discount.coupon for discount in discounts} - known.coupons.keys()
    if keys or names:
        found = stripe.catalogue(products, keys, names)
        merged = Catalogue(
            products=known.products | found.products,
            prices={**found.prices, **known.prices},
            coupons={**found.coupons, **known.coupons},
        )
        world = replace(world, catalogue=Present(merged))
    if not isinstance(world.candidates, Present) and (
        waiting.ready and needs_candidates(world, account, waiting.currencies, waiting.home)
    ):
        similar = stripe.customers_like(account.id, account.name or "", world.now)
        world = replace(world, candidates=Present(tuple(similar)))
    return world


def _known_customers(world: World, account: Account) -> list[str]:
    """The linked customers, former ones too; and the one that the Account names, unless its first slot has one by
    link."""
    links = [link for link in world.links if link.kind == "customer"]
    ids = {link.external_id for link in links}
    taken = any(link.subject == account.id and link.role != "former" for link in links)
    if account.stripe_customer_id and not taken:
        ids.add(account.stripe_customer_id)
    return sorted(ids)


def _with_billing(world: World, customer_ids: Sequence[str], stripe: StripeReads) -> World:
    customers = {each: stripe.customer(each) for each in customer_ids}
    present = [seen.value for seen in customers.values() if isinstance(seen, Present)]
    billing: Observation[Billing] = Absent("no customer")
    if present:
        billing = Present(sum((_billing(customer, stripe) for customer in present), Billing()))
    return replace(world, customers=customers, billing=billing)


def _billing(customer: Customer, stripe: StripeReads) -> Billing:
    """What Stripe holds for a customer. Of one that was deleted nothing can begin any more (docs.stripe.com/api/
    customers/delete), and the rest can still be listed."""
    held = stripe.billing(customer.id)
    if not customer.deleted:
        return held
    ended = (replace(each, status="canceled") if each.status == "not_started" else each for each in held.schedules)
    return replace(held, schedules=tuple(ended))
