"""The Stripe customers of an Account: one per currency, because a customer's subscriptions share one.

Each has a slot, which is the subject of its link and the tail of its intent: the first customer ever has the
Account's own id as its slot and is the one that the Account names; each further currency has `{account}:{currency}`.
An existing customer is adopted by link, by the id on the Account, by our metadata or by one strict match; what
cannot be decided becomes a review and creates nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sync_pipeline.core.addresses import billing_address
from sync_pipeline.core.canon import text
from sync_pipeline.core.commands import Command, Review
from sync_pipeline.core.crosswalk import first_customer, linked_customers
from sync_pipeline.core.deal import customer_intent
from sync_pipeline.core.lifecycle import has_ended
from sync_pipeline.core.observation import Absent, Present, Unknown
from sync_pipeline.core.rules import Commercial, Priority
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.stripe_records import Customer
from sync_pipeline.core.tax_types import compact, registration_of
from sync_pipeline.core.world import World


def slot_of_intent(intent: str) -> str:
    """The slot of the customer that was created under an intent (cus:org:slot)."""
    return intent.split(":", 2)[2]


def home_currency(world: World, account: Account, commercial: Commercial, wanted: Collection[str]) -> str:
    """The currency of the Account's first slot.

    That of the customer that has it; while nothing is billed there, the Account's own, or that of a deal (one of the
    `wanted` currencies) where no deal is in the Account's own.
    """
    first = first_customer(world) or _named(world, account)
    if first is not None and (bound := _bound_to(world, first)):
        return bound
    own = commercial.currency_of(account.currency)
    return own if own in wanted or not wanted else min(wanted)


def customer_in(world: World, account: Account, currency: str, home: str) -> Customer | None:
    """The Account's customer for subscriptions in a currency: one that has it already, or one that has none yet."""
    own = linked_customers(world)
    bound = [customer for customer in own if _bound_to(world, customer) == currency]
    if bound:
        return bound[0]
    slot = customer_slot(account, currency, home)
    holders = {link.external_id for link in world.links if link.kind == "customer" and link.subject == slot}
    return next((c for c in own if c.id in holders and _bound_to(world, c) is None), None)


def named_customer(world: World, account: Account) -> Iterator[Command | Review]:
    """What follows from the customers that the ledger or the Account names: adoption, or a person's work."""
    linked = {link.external_id for link in world.links if link.kind == "customer"}
    former = {link.external_id for link in world.links if link.kind == "customer" and link.role == "former"}
    for customer_id, seen in sorted(world.customers.items()):
        if customer_id in former and customer_id != account.stripe_customer_id:
            continue
        if isinstance(seen, Absent):
            detail = (
                f"the Account's Stripe customer does not exist ({seen.proof}); clear or replace its id on the Account"
            )
            yield _review(world, "missing_customer", account.id, detail)
        elif isinstance(seen, Present) and seen.value.deleted:
            detail = f"Stripe customer {customer_id} was deleted; clear or replace its id on the Account"
            yield _review(world, "deleted_customer", account.id, detail)
        elif isinstance(seen, Present) and customer_id not in linked:
            if seen.value.account_id not in (None, account.id):
                detail = (
                    f"the Account names {customer_id}, whose metadata names Account {seen.value.account_id}; "
                    "clear or replace its id on the Account"
                )
                yield _review(world, "customer_of_another", account.id, detail)
            else:
                yield _adopt(world, account.id, seen.value, "the Account names it")


def new_customers(
    world: World, account: Account, currencies: Collection[str], home: str
) -> Iterator[tuple[str, Command | Review]]:
    """For each currency in which a deal waits and no customer is: one adopted, one created, or a review."""
    unknown = any(isinstance(seen, Unknown) for seen in world.customers.values())
    if unknown or not isinstance(world.candidates, Present):
        return
    taken = {link.external_id for link in world.links if link.kind == "customer"}
    for currency in sorted(currencies, key=lambda each: (each != home, each)):
        slot = customer_slot(account, currency, home)
        if customer_in(world, account, currency, home) is not None or _is_taken(world, account, slot):
            continue
        free = [c for c in world.candidates.value if c.id not in taken and c.currency in (None, currency)]
        entry = _adopted_or_created(world, account, slot, free)
        if isinstance(entry, Command) and entry.action == "link":
            taken.add(entry.body["external_id"])
        yield currency, entry


def needs_candidates(world: World, account: Account, currencies: Collection[str], home: str) -> bool:
    """Some deal waits for a customer that nobody named, so that existing ones have to be looked for."""
    return any(
        customer_in(world, account, currency, home) is None
        and not _is_taken(world, account, customer_slot(account, currency, home))
        for currency in currencies
    )


def customer_slot(account: Account, currency: str, home: str) -> str:
    """The slot of the Account's customer in a currency."""
    return account.id if currency == home else f"{account.id}:{currency}"


def _is_taken(world: World, account: Account, slot: str) -> bool:
    """The slot has a customer, whatever is wrong with it; for the first slot, the Account's own word counts too."""
    if slot == account.id and account.stripe_customer_id in world.customers:
        return True
    return any(link.kind == "customer" and (link.role, link.subject) == ("primary", slot) for link in world.links)


def _named(world: World, account: Account) -> Customer | None:
    """The living customer that the Account names and nobody else has; it is the Account's own after this round."""
    seen = world.customers.get(account.stripe_customer_id or "")
    if not isinstance(seen, Present) or seen.value.deleted or seen.value.account_id not in (None, account.id):
        return None
    return seen.value


def _bound_to(world: World, customer: Customer) -> str | None:
    """The currency in which a customer is billed; None while it never was. What runs now counts most."""
    subscriptions = world.billing.value.subscriptions if isinstance(world.billing, Present) else ()
    mine = [s for s in subscriptions if s.customer == customer.id]
    running = min((s.currency for s in mine if not has_ended(s)), default=None)
    return running or customer.currency or min((s.currency for s in mine), default=None)


def _adopted_or_created(world: World, account: Account, slot: str, candidates: list[Customer]) -> Command | Review:
    ours = [c for c in candidates if c.account_id == account.id]
    free = [c for c in candidates if c.account_id is None]
    strict = [c for c in free if _strict_match(account, c)]
    if len(ours) == 1:
        return _adopt(world, slot, ours[0], "its metadata names the Account")
    if not ours and len(strict) == 1:
        return _adopt(world, slot, strict[0], "its name and tax registration are the Account's")
    if ours or free:
        ids = ", ".join(sorted(c.id for c in ours or free))
        mend = "write the right id on the Account" if slot == account.id else "write sf_account_id on the right one"
        detail = f"several or similar Stripe customers may be this Account ({ids}); {mend}"
        return _review(world, "customer_candidates", slot, detail)
    intent = customer_intent(world.org_id, slot)
    # A registration that Stripe refused must not keep the deal from being billed.
    tax_id = None if intent in world.untaxed else registration_of(account)
    return Command(
        key=intent,
        account=world.account_id,
        target=intent,
        action="stripe.create",
        priority=Priority.CREATE,
        reason="a deal was won and the Account has no Stripe customer in its currency",
        subject=account.id,
        body={"object": "customer", "params": _customer_params(account, intent, tax_id)},
    )


def _strict_match(account: Account, customer: Customer) -> bool:
    """The same name and the same tax registration. A name alone is never enough."""
    registration = compact(account.tax_registration)
    registered = {compact(tax_id.partition(":")[2]) for tax_id in customer.tax_ids}
    same_name = (text(account.name) or "").casefold() == (text(customer.name) or "").casefold()
    return same_name and registration != "" and registration in registered


def _customer_params(account: Account, intent: str, tax_id: tuple[str, str] | None) -> dict[str, Any]:
    params: dict[str, Any] = {
        "name": text(account.name),
        "metadata": {"sf_account_id": account.id, "sf_intent": intent},
    }
    address = billing_address(account)
    if address is not None:
        params["address"] = {part: value for part, value in address.items() if text(value)}
    if tax_id is not None:
        kind, registration = tax_id
        params["tax_id_data"] = [{"type": kind, "value": registration}]
    return params


def _adopt(world: World, slot: str, customer: Customer, why: str) -> Command:
    return Command(
        key=f"link:{world.account_id}:{customer.id}",
        account=world.account_id,
        target=f"stripe/customer/{customer.id}",
        action="link",
        priority=Priority.CREATE,
        reason=f"{customer.id} is the Account's customer: {why}",
        subject=slot,
        body={"kind": "customer", "external_id": customer.id},
    )


def _review(world: World, rule: str, subject: str, detail: str) -> Review:
    return Review(f"{rule}:{subject}", world.account_id, rule, subject, detail)
