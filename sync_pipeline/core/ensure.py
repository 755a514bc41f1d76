"""The `ensure` rules: which objects must exist at Stripe, once ever, for the deals that were won.

A thing that exists is found by link, by the intent in its metadata or by a deterministic key; an ended
subscription still exists. What cannot be decided becomes a review and creates nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sync_pipeline.core.commands import Command, Review
from sync_pipeline.core.crosswalk import Ambiguous, match_subscription, named_subscriptions, owner_of_named
from sync_pipeline.core.customers import customer_in, named_customer, new_customers
from sync_pipeline.core.deal import Terms, midnight, subscription_intent, today
from sync_pipeline.core.observation import Present, Unknown
from sync_pipeline.core.prices import agreed_rates, as_agreed
from sync_pipeline.core.rate_card import is_priced_at, rate_card
from sync_pipeline.core.records import Customer
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.seats import agreed_quantities
from sync_pipeline.core.unbilled import unbilled_deals
from sync_pipeline.core.world import Catalogue, Deal, World


def ensure_everything(world: World, rules: Rules) -> Iterator[Command | Review]:
    """What has to be created or adopted now, and what a person has to mend first."""
    if not isinstance(world.account, Present):
        return
    account, waiting = world.account.value, unbilled_deals(world, rules)
    for opportunity_id, incomplete in waiting.incomplete.items():
        yield _review(world, "incomplete_deal", opportunity_id, "Not billed: " + "; ".join(incomplete.missing))
    yield from _ambiguous_subscriptions(world)
    if not any(isinstance(seen, Present) and seen.value.deleted for seen in world.customers.values()):
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
        yield from rate_card(world, world.catalogue.value, [rate for _, t in ready for rate in t.rates])
        yield from _subscriptions(world, world.catalogue.value, rules, ready, customers)


def _subscriptions(
    world: World,
    catalogue: Catalogue,
    rules: Rules,
    ready: list[tuple[Deal, Terms]],
    customers: Mapping[str, Customer],
) -> Iterator[Command | Review]:
    if not isinstance(world.billing, Present):
        return
    commercial = rules.commercial
    for deal, agreed in ready:
        customer = customers.get(agreed.currency)
        if customer is None or any(rate.lookup_key not in catalogue.prices for rate in agreed.rates):
            continue
        opportunity = deal.opportunity
        if moved := [rate for rate in agreed.rates if not is_priced_at(catalogue.prices[rate.lookup_key], rate)]:
            ids = ", ".join(catalogue.prices[rate.lookup_key].id for rate in moved)
            detail = f"{ids} is archived or has not the terms that its lookup key says; move the key to one that fits"
            yield _review(world, "price_mismatch", opportunity.id, detail)
            continue
        intent = subscription_intent(world.org_id, opportunity.id)
        params: dict[str, Any] = {
            "customer": customer.id,
            "billing_mode": {"type": "flexible"},
            "collection_method": commercial.collection_method,
            "items": [
                {
                    "price": catalogue.prices[rate.lookup_key].id,
                    "quantity": rate.quantity,
                    "metadata": {"sf_line_id": ",".join(rate.line_ids)},
                }
                for rate in agreed.rates
            ],
            "metadata": {
                "sf_account_id": world.account_id,
                "sf_opportunity_id": opportunity.id,
                "sf_intent": intent,
            },
        }
        if commercial.collection_method == "send_invoice":
            params["days_until_due"] = commercial.days_until_due
        if agreed.starts_on is not None and agreed.starts_on < today(world.now, commercial):
            params["backdate_start_date"] = midnight(agreed.starts_on, commercial)
        yield Command(
            key=intent,
            account=world.account_id,
            target=intent,
            action="stripe.create",
            priority=Priority.CREATE,
            reason=f"Opportunity {opportunity.id} was won",
            subject=opportunity.id,
            body={"object": "subscription", "params": params},
            agreements=(
                *agreed_quantities((line.id, line.quantity) for line in deal.lines),
                *(each for rate in agreed.rates for each in agreed_rates(rate.line_ids, as_agreed(rate))),
            ),
        )


def _missing_subscriptions(world: World) -> Iterator[Review]:
    """Deals that were billed once, by a subscription that the customer does not have: never billed again."""
    if isinstance(world.billing, Unknown):
        return
    subscriptions = world.billing.value.subscriptions if isinstance(world.billing, Present) else ()
    for deal in world.deals:
        opportunity = deal.opportunity
        named = named_subscriptions(opportunity, world.links)
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
