"""The `ensure` rules: which objects must exist at Stripe, once ever, for the deals that were won.

A thing that exists is found by link, by the intent in its metadata or by a deterministic key; an ended
subscription still exists. An adopted customer is linked, never made again. What cannot be decided becomes a
review and creates nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sync_pipeline.core.canon import country_code, number, text
from sync_pipeline.core.commands import Command, Review
from sync_pipeline.core.crosswalk import Ambiguous, linked_customer, match_subscription, named_subscriptions
from sync_pipeline.core.deal import (
    Incomplete,
    Rate,
    Terms,
    customer_intent,
    is_billable,
    midnight,
    subscription_intent,
    terms,
    today,
)
from sync_pipeline.core.observation import Absent, Present, Unknown
from sync_pipeline.core.readings import billing_address
from sync_pipeline.core.records import Account, Customer, Price
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.seats import agreed_quantities
from sync_pipeline.core.world import Catalogue, Deal, World

EUROPEAN_UNION = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split()
TAX_TYPE_OF_COUNTRY = {
    "GB": "gb_vat",
    "US": "us_ein",
    "CH": "ch_vat",
    "NO": "no_vat",
    "AU": "au_abn",
    "IN": "in_gst",
    **dict.fromkeys(EUROPEAN_UNION, "eu_vat"),
}


def deals_to_bill(world: World, rules: Rules) -> list[tuple[Deal, Terms | Incomplete]]:
    """Won deals that never had a subscription, with their terms or what is missing; none while Stripe is unknown."""
    if not isinstance(world.account, Present) or isinstance(world.billing, Unknown):
        return []
    subscriptions = world.billing.value.subscriptions if isinstance(world.billing, Present) else ()
    return [
        (deal, terms(deal, world.account.value, rules.commercial, world.now))
        for deal in sorted(world.deals, key=lambda deal: deal.opportunity.id)
        if is_billable(deal, rules.commercial)
        and match_subscription(deal.opportunity, subscriptions, world.links, world.org_id) is None
        and not named_subscriptions(deal.opportunity, world.links)
    ]


def ensure_everything(world: World, rules: Rules) -> Iterator[Command | Review]:
    """What has to be created or adopted now, and what a person has to mend first."""
    waiting = deals_to_bill(world, rules)
    for deal, agreed in waiting:
        if isinstance(agreed, Incomplete):
            detail = "Not billed: " + "; ".join(agreed.missing)
            yield _review(world, "incomplete_deal", deal.opportunity.id, detail)
    yield from _ambiguous_subscriptions(world)
    ready = [(deal, agreed) for deal, agreed in waiting if isinstance(agreed, Terms)]
    if isinstance(world.customer, Present) and world.customer.value.deleted:
        detail = f"Stripe customer {world.customer.value.id} was deleted; clear or replace its id on the Account"
        yield _review(world, "deleted_customer", world.account_id, detail)
        return
    yield from _missing_subscriptions(world)
    customer = list(_customer(world, rules, needed=bool(ready)))
    yield from customer
    decided = linked_customer(world) is not None or any(isinstance(entry, Command) for entry in customer)
    if ready and decided and isinstance(world.catalogue, Present):
        yield from _rate_card(world, world.catalogue.value, [rate for _, t in ready for rate in t.rates])
        yield from _subscriptions(world, world.catalogue.value, rules, ready)


def _customer(world: World, rules: Rules, *, needed: bool) -> Iterator[Command | Review]:
    if not isinstance(world.account, Present):
        return
    account = world.account.value
    linked = any(link.kind == "customer" for link in world.links)
    if isinstance(world.customer, Present):
        customer = world.customer.value
        if not linked and customer.account_id not in (None, account.id):
            detail = f"the Account names {customer.id}, whose metadata names Account {customer.account_id}"
            yield _review(world, "customer_of_another", account.id, detail)
        elif not linked:
            yield _adopt(world, customer, "the Account names it")
        return
    if isinstance(world.customer, Absent) and (linked or account.stripe_customer_id):
        detail = f"the Account's Stripe customer does not exist ({world.customer.proof})"
        yield _review(world, "missing_customer", account.id, detail)
        return
    if linked or not needed or not isinstance(world.customer, Absent) or not isinstance(world.candidates, Present):
        return
    candidates = world.candidates.value
    ours = [c for c in candidates if c.account_id == account.id]
    free = [c for c in candidates if c.account_id is None]
    strict = [c for c in free if _strict_match(account, c)]
    if len(ours) == 1:
        yield _adopt(world, ours[0], "its metadata names the Account")
    elif not ours and len(strict) == 1:
        yield _adopt(world, strict[0], "its name and tax registration are the Account's")
    elif ours or free:
        ids = ", ".join(sorted(c.id for c in ours or free))
        detail = f"several or similar Stripe customers may be this Account ({ids}); write the right id on the Account"
        yield _review(world, "customer_candidates", account.id, detail)
    else:
        yield Command(
            key=customer_intent(world.org_id, account.id),
            account=world.account_id,
            target=customer_intent(world.org_id, account.id),
            action="stripe.create",
            priority=Priority.CREATE,
            reason="a deal was won and the Account has no Stripe customer",
            subject=account.id,
            body={"object": "customer", "params": _customer_params(world, account)},
        )


def _strict_match(account: Account, customer: Customer) -> bool:
    """The same name and the same tax registration. A name alone is never enough."""
    registration = _compact(account.tax_registration)
    registered = {_compact(tax_id.partition(":")[2]) for tax_id in customer.tax_ids}
    same_name = (text(account.name) or "").casefold() == (text(customer.name) or "").casefold()
    return same_name and registration != "" and registration in registered


def _compact(registration: str | None) -> str:
    return "".join(character for character in registration or "" if character.isalnum()).upper()


def _customer_params(world: World, account: Account) -> dict[str, Any]:
    params: dict[str, Any] = {
        "name": text(account.name),
        "metadata": {"sf_account_id": account.id, "sf_intent": customer_intent(world.org_id, account.id)},
    }
    address = billing_address(account)
    if address is not None:
        params["address"] = {part: value for part, value in address.items() if text(value)}
    if registration := text(account.tax_registration):
        kind = text(account.tax_registration_type) or tax_type(account)
        if kind:
            params["tax_id_data"] = [{"type": kind, "value": registration}]
    return params


def tax_type(account: Account) -> str | None:
    """Stripe's tax id type for the Account's country, where one country has one obvious type."""
    return TAX_TYPE_OF_COUNTRY.get(country_code(account.billing_country) or "")


def _adopt(world: World, customer: Customer, why: str) -> Command:
    return Command(
        key=f"link:{world.account_id}:{customer.id}",
        account=world.account_id,
        target=f"stripe/customer/{customer.id}",
        action="link",
        priority=Priority.CREATE,
        reason=f"{customer.id} is the Account's customer: {why}",
        subject=world.account_id,
        body={"kind": "customer", "external_id": customer.id},
    )


def _rate_card(world: World, catalogue: Catalogue, rates: list[Rate]) -> Iterator[Command]:
    for product, rate in sorted({rate.stripe_product: rate for rate in rates}.items()):
        if product not in catalogue.products:
            metadata = {"sf_product_id": rate.product_id}
            params: dict[str, Any] = {"id": product, "name": rate.product_name, "metadata": metadata}
            yield _create(world, "product", product, f"the rate card has {rate.product_name}", params)
    for key, rate in sorted({rate.lookup_key: rate for rate in rates}.items()):
        if key not in catalogue.prices:
            params = {
                "product": rate.stripe_product,
                "currency": rate.currency.lower(),
                "unit_amount_decimal": number(rate.unit_amount),
                "recurring": {"interval": rate.interval, "interval_count": rate.interval_count},
                "lookup_key": key,
            }
            yield _create(world, "price", key, f"a new negotiated rate of {rate.product_name}", params)


def _create(world: World, kind: str, key: str, reason: str, params: dict[str, Any]) -> Command:
    return Command(
        key=f"{kind}:{key}@{world.account_id}",
        account=world.account_id,
        target=f"{kind}:{key}",
        action="stripe.create",
        priority=Priority.CREATE,
        reason=reason,
        subject="",
        body={"object": kind, "params": params},
    )


def _subscriptions(
    world: World, catalogue: Catalogue, rules: Rules, ready: list[tuple[Deal, Terms]]
) -> Iterator[Command | Review]:
    customer = linked_customer(world)
    if customer is None or not isinstance(world.billing, Present):
        return
    commercial = rules.commercial
    for deal, agreed in ready:
        if any(rate.lookup_key not in catalogue.prices for rate in agreed.rates):
            continue
        opportunity = deal.opportunity
        if moved := [rate for rate in agreed.rates if not _is_priced_at(catalogue.prices[rate.lookup_key], rate)]:
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
            agreements=agreed_quantities((line.id, line.quantity) for line in deal.lines),
        )


def _is_priced_at(price: Price, rate: Rate) -> bool:
    """A person can archive a price or move its lookup key to another, and a wrong amount must never be billed."""
    promised = (rate.stripe_product, rate.currency, rate.interval, rate.interval_count, rate.unit_amount)
    terms_of_price = (price.product, price.currency, price.interval, price.interval_count, price.unit_amount)
    return price.active and terms_of_price == promised


def _missing_subscriptions(world: World) -> Iterator[Review]:
    """Deals that were billed once, by a subscription that the customer does not have: never billed again."""
    if isinstance(world.billing, Unknown):
        return
    subscriptions = world.billing.value.subscriptions if isinstance(world.billing, Present) else ()
    for deal in world.deals:
        opportunity = deal.opportunity
        named = named_subscriptions(opportunity, world.links)
        if named and match_subscription(opportunity, subscriptions, world.links, world.org_id) is None:
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
