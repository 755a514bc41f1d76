"""The `ensure` rules: which objects must exist at Stripe, once ever, for the deals that were won.

A thing that exists is found by link, by the intent in its metadata or by a deterministic key; an ended
subscription still exists. What cannot be decided becomes a review and creates nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sync_pipeline.core import stripe_writing
from sync_pipeline.core.charged import charged, not_charged_after_all
from sync_pipeline.core.commands import Agreement, Command, FieldChange, Review
from sync_pipeline.core.crosswalk import (
    SCHEDULE,
    Ambiguous,
    match_schedule,
    match_subscription,
    named_schedules,
    named_subscriptions,
    owner_of_named,
)
from sync_pipeline.core.customers import customer_in, customer_slot, named_customer, new_customers
from sync_pipeline.core.deal import Terms, subscription_intent
from sync_pipeline.core.deal_parts import agreed_parts
from sync_pipeline.core.deal_terms import agreed_deal_terms
from sync_pipeline.core.discount_terms import agreed_on
from sync_pipeline.core.observation import Present, Unknown
from sync_pipeline.core.part_ids import opportunity_of
from sync_pipeline.core.prices import agreed_rates, as_agreed
from sync_pipeline.core.rate_card import coupons, is_discount, is_priced_at, rate_card
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.seats import agreed_quantities
from sync_pipeline.core.stripe_records import Customer, SubscriptionSchedule
from sync_pipeline.core.stripe_terms import (
    bills_at_once,
    is_scheduled,
    reschedule_params,
    schedule_params,
    subscription_params,
)
from sync_pipeline.core.unbilled import unbilled_deals
from sync_pipeline.core.world import Billing, Catalogue, Deal, World


def ensure_everything(world: World, rules: Rules) -> Iterator[Command | Review]:
    """What has to be created or adopted now, and what a person has to mend first."""
    if not isinstance(world.account, Present):
        return
    account, waiting = world.account.value, unbilled_deals(world, rules)
    for opportunity_id, incomplete in waiting.incomplete.items():
        yield _review(world, "incomplete_deal", opportunity_id, "Not billed: " + "; ".join(incomplete.missing))
    yield from _ambiguous_subscriptions(world)
    yield from _missing_subscriptions(world)
    named = list(named_customer(world, account))
    new = list(new_customers(world, account, waiting.currencies, waiting.home))
    yield from (*named, *(entry for _, entry in new))
    decided = {currency for currency, entry in new if isinstance(entry, Command)}
    if any(isinstance(entry, Command) for entry in named):
        decided.add(waiting.home)
    customers = {
        currency: customer
        for currency in waiting.currencies
        if (customer := customer_in(world, account, currency, waiting.home)) is not None
    }
    if isinstance(world.catalogue, Present):
        ready = [(deal, agreed) for deal, agreed in waiting.ready if agreed.currency in decided | customers.keys()]
        said = [agreed for _, agreed in ready] + [agreed for _, agreed, _ in waiting.rescheduled]
        yield from rate_card(world, world.catalogue.value, [rate for agreed in said for rate in agreed.rates])
        discounts = [agreed.discount for agreed in said if agreed.discount is not None]
        yield from coupons(world, world.catalogue.value, discounts)
        yield from _begin_billing(world, world.catalogue.value, rules, ready, customers)
        yield from _reschedule(world, world.catalogue.value, rules, waiting.rescheduled)


def obstacles(world: World, rules: Rules) -> dict[str, tuple[str, ...]]:
    """By Opportunity what a person has to mend before a won deal with whole terms is billed."""
    if not isinstance(world.account, Present):
        return {}
    account, waiting = world.account.value, unbilled_deals(world, rules)
    reviews = [entry for entry in ensure_everything(world, rules) if isinstance(entry, Review)]
    found: dict[str, tuple[str, ...]] = {}
    for deal, agreed in waiting.ready:
        about = {deal.opportunity.id, customer_slot(account, agreed.currency, waiting.home)}
        if details := tuple(review.detail for review in reviews if review.subject in about):
            name = opportunity_of(deal.opportunity.id)
            found[name] = found.get(name, ()) + details
    return found


def _begin_billing(
    world: World,
    catalogue: Catalogue,
    rules: Rules,
    ready: list[tuple[Deal, Terms]],
    customers: Mapping[str, Customer],
) -> Iterator[Command | Review]:
    """A subscription or a schedule for each deal whose customer, prices and coupon are there."""
    for deal, agreed in ready:
        customer, opportunity = customers.get(agreed.currency), deal.opportunity
        if customer is None or not isinstance(world.billing, Present):
            continue
        charged = agreed.collection == "charge_automatically" and bills_at_once(agreed, rules.commercial, world.now)
        if charged and customer.payment_method is None:
            detail = f"{customer.id} has no default payment method to charge; add one at Stripe, or send invoices"
            yield _review(world, "no_payment_method", opportunity.id, detail)
            continue
        if fault := catalogue_fault(catalogue, agreed):
            yield from _reviews(world, opportunity.id, fault)
            continue
        prices = {rate.lookup_key: catalogue.prices[rate.lookup_key].id for rate in agreed.rates}
        intent = subscription_intent(world.org_id, opportunity.id)
        scheduled = is_scheduled(agreed, rules.commercial, world.now)
        body = schedule_params if scheduled else subscription_params
        metadata = deal_metadata(world, opportunity.id)
        yield Command(
            key=intent,
            account=world.account_id,
            target=intent,
            action="stripe.create",
            priority=Priority.CREATE,
            reason=f"Opportunity {opportunity.id} was won",
            subject=opportunity.id,
            body={
                "object": SCHEDULE if scheduled else "subscription",
                "params": body(agreed, prices, customer.id, metadata, rules.commercial, world.now),
            },
            agreements=(
                *_agreed_once(deal, agreed),
                *agreed_parts(world, deal),
                *agreements_of(deal, agreed),
            ),
        )


def _reschedule(
    world: World,
    catalogue: Catalogue,
    rules: Rules,
    changed: Iterable[tuple[Deal, Terms, SubscriptionSchedule]],
) -> Iterator[Command | Review]:
    """A deal that was edited before its service starts: its schedule says the new terms from then on."""
    for deal, agreed, schedule in changed:
        opportunity_id = deal.opportunity.id
        if fault := catalogue_fault(catalogue, agreed):
            yield from _reviews(world, opportunity_id, fault)
            continue
        prices = {rate.lookup_key: catalogue.prices[rate.lookup_key].id for rate in agreed.rates}
        metadata = deal_metadata(world, opportunity_id)
        reason = "the deal was edited before its service starts"
        yield stripe_writing.update(
            world,
            SCHEDULE,
            schedule.id,
            reschedule_params(agreed, prices, metadata, rules.commercial, world.now),
            subject=opportunity_id,
            priority=Priority.WRITE_BACK,
            reason=reason,
            changes=(FieldChange("terms", schedule.terms, agreed.digest, "schedule.terms", reason),),
            agreements=(
                *_agreed_once(deal, agreed),
                *not_charged_after_all(world, deal, agreed.charges),
                *agreements_of(deal, agreed),
            ),
        )


def _agreed_once(deal: Deal, agreed: Terms) -> tuple[Agreement, ...]:
    """What both sides hold besides once a subscription or a schedule is made, or said anew before it begins."""
    once = {line for rate in agreed.charges for line in rate.line_ids}
    return (
        *agreed_on(deal.opportunity.id, agreed.discount),
        *agreed_deal_terms(deal.opportunity, agreed.collection, agreed.net_days),
        *(charged(deal, line) for line in deal.lines if line.id in once),
    )


def agreements_of(deal: Deal, agreed: Terms) -> tuple[Agreement, ...]:
    """The quantities and prices that both sides hold once the terms are said."""
    recurring = {rate.line_ids: rate for phase in agreed.phases for rate in phase.rates}
    return (
        *agreed_quantities((line.id, line.quantity) for line in deal.lines),
        *(each for ids, rate in recurring.items() for each in agreed_rates(ids, as_agreed(rate))),
    )


def deal_metadata(world: World, opportunity_id: str) -> dict[str, str]:
    """What the Stripe objects of a deal say of where they belong."""
    return {
        "sf_account_id": world.account_id,
        "sf_opportunity_id": opportunity_id,
        "sf_intent": subscription_intent(world.org_id, opportunity_id),
    }


def catalogue_fault(catalogue: Catalogue, agreed: Terms) -> tuple[str, str] | None:
    """Why the terms cannot be said with this catalogue, as rule and detail; no detail where something is being made."""
    if any(rate.lookup_key not in catalogue.prices for rate in agreed.rates):
        return ("", "")
    if moved := [rate for rate in agreed.rates if not is_priced_at(catalogue.prices[rate.lookup_key], rate)]:
        ids = ", ".join(catalogue.prices[rate.lookup_key].id for rate in moved)
        detail = f"{ids} is archived or has not the terms that its lookup key says; move the key to one that fits"
        return ("price_mismatch", detail)
    if (discount := agreed.discount) is None:
        return None
    if (coupon := catalogue.coupons.get(discount.coupon)) is None:
        return ("", "")
    if not is_discount(coupon, discount):
        detail = f"coupon {coupon.id} cannot be applied or is not the discount that its id says; delete it"
        return ("coupon_mismatch", detail)
    return None


def _reviews(world: World, subject: str, fault: tuple[str, str]) -> Iterator[Review]:
    rule, detail = fault
    if detail:
        yield _review(world, rule, subject, detail)


def _missing_subscriptions(world: World) -> Iterator[Review]:
    """Deals that were billed once, by a subscription that the customer does not have: never billed again."""
    if isinstance(world.billing, Unknown):
        return
    billing = world.billing.value if isinstance(world.billing, Present) else Billing()
    subscriptions = billing.subscriptions
    for deal in world.deals:
        opportunity = deal.opportunity
        named = named_subscriptions(opportunity, world.links)
        if match_schedule(opportunity, billing.schedules, world.links, world.org_id) is None:
            named |= named_schedules(opportunity, world.links)
        copied = owner_of_named(opportunity, subscriptions, world.links) is not None
        if named and not copied and match_subscription(opportunity, subscriptions, world.links, world.org_id) is None:
            detail = f"{', '.join(sorted(named))} bills this Opportunity, but the Account's customer does not have it"
            yield _review(world, "missing_subscription", opportunity.id, detail)


def _ambiguous_subscriptions(world: World) -> Iterator[Review]:
    if not isinstance(world.billing, Present):
        return
    for deal in world.deals:
        opportunity = deal.opportunity
        found = match_subscription(opportunity, world.billing.value.subscriptions, world.links, world.org_id)
        if isinstance(found, Ambiguous):
            detail = f"{', '.join(found.ids)} all claim this Opportunity by {found.evidence}"
            yield _review(world, "ambiguous_subscription", opportunity.id, detail)


def _review(world: World, rule: str, subject: str, detail: str) -> Review:
    return Review(f"{rule}:{subject}", world.account_id, rule, subject, detail)
