"""The tax registrations of the customers that we made, kept equal to the Account's: added later, changed, taken away.

Stripe cannot edit a tax id: the new one is made, then the old one is deleted, so that no invoice is without. Which one
was the old one tells the base, a keyed hash of what both sides last agreed on; others that a customer has stay.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from sync_pipeline.core.canon import country_code, text
from sync_pipeline.core.commands import Agreement, Command, Entry, Review
from sync_pipeline.core.crosswalk import linked_customers
from sync_pipeline.core.fields import keyed_hash
from sync_pipeline.core.observation import Present
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.stripe_records import Customer
from sync_pipeline.core.tax_types import TYPES, compact, named_type, registration_of
from sync_pipeline.core.world import World

RULE = "customer.tax_id"


def keep_registrations(world: World, rules: Rules, personal_key: bytes) -> Iterator[Entry]:
    """What has to be written to a customer, or mended by a person; deals are billed anyhow."""
    if not isinstance(world.account, Present):
        return
    account = world.account.value
    made = [customer for customer in linked_customers(world) if customer.intent]
    country = text(account.billing_country)
    if made and country and country_code(country) is None:
        detail = "the billing country is not known, so Stripe has no address; write its ISO name or code"
        yield Review(f"unknown_country:{account.id}", world.account_id, "unknown_country", account.id, detail)
    for customer in made:
        yield from _of_one(world, rules, account, customer, personal_key)


def _of_one(world: World, rules: Rules, account: Account, customer: Customer, personal_key: bytes) -> Iterator[Entry]:
    base = world.base.get((customer.id, RULE))
    names = dict(zip(customer.tax_ids, customer.tax_id_names, strict=False))
    has = {keyed_hash(_form(*shown.split(":", 1)), personal_key): names.get(shown) for shown in customer.tax_ids}
    registration = registration_of(account)
    if registration is None:
        if text(account.tax_registration) is not None:
            yield _told(world, account, customer, _why_untyped(account))
        elif base in has:
            detail = f"the Account has no tax registration, {customer.id} has one; enter it, or delete it at Stripe"
            yield _told(world, account, customer, detail)
        return
    wanted = keyed_hash(_form(*registration), personal_key)
    old = has.get(base) if base is not None and base != wanted else None
    if wanted in has and old is None:
        yield Agreement(customer.id, RULE, wanted)
    elif old is not None and rules.commercial.changed_registrations == "review":
        detail = f"the Account's tax registration was changed, {customer.id} keeps the one before; make them equal"
        yield _told(world, account, customer, detail)
    elif wanted in has:
        assert old is not None
        yield _delete(world, account, old, Agreement(customer.id, RULE, wanted))
    elif base == wanted:
        detail = f"the tax registration was taken off {customer.id} at Stripe; add it there, or clear it here"
        yield _told(world, account, customer, detail)
    elif has and old is None:
        detail = f"{customer.id} has another tax id, which the sync did not make; make both equal"
        yield _told(world, account, customer, detail)
    else:
        agreed = (Agreement(customer.id, RULE, wanted),) if old is None else ()
        create = _create(world, account, customer, registration, wanted, agreed)
        yield create
        if create.target in world.untaxed:
            detail = f"{customer.id} has no tax id: Stripe refused the Account's registration; correct it"
            yield _told(world, account, customer, detail)


def _why_untyped(account: Account) -> str:
    named = named_type(account)
    if named is None:
        return "which tax id its registration is does not follow from its country and form; name the type"
    near = difflib.get_close_matches(named, sorted(TYPES), n=1)
    return f"{named!r} is no type of tax id that Stripe takes" + (f"; did you mean {near[0]}?" if near else "")


def _form(kind: str, number: str) -> str:
    """A registration however it is written."""
    return f"{kind}:{compact(number)}"


def _create(
    world: World,
    account: Account,
    customer: Customer,
    registration: tuple[str, str],
    wanted: str,
    agreed: tuple[Agreement, ...],
) -> Command:
    kind, number = registration
    target = f"tax_id:{customer.id}:{wanted.removeprefix('hmac:')[:16]}"
    return Command(
        key=target,
        account=world.account_id,
        target=target,
        action="stripe.create",
        priority=Priority.WRITE_BACK,
        reason="the Account has a tax registration that its customer has not",
        subject=account.id,
        body={
            "object": "tax_id",
            "params": {"type": kind, "value": number, "owner": {"type": "customer", "customer": customer.id}},
        },
        agreements=agreed,
    )


def _delete(world: World, account: Account, tax_id: str, agreed: Agreement) -> Command:
    target = f"stripe/tax_id/{tax_id}"
    return Command(
        key=f"delete:{target}",
        account=world.account_id,
        target=target,
        action="stripe.delete",
        priority=Priority.WRITE_BACK,
        reason="the Account's tax registration was changed",
        subject=account.id,
        body={"object": "tax_id", "id": tax_id, "params": {}},
        agreements=(agreed,),
    )


def _told(world: World, account: Account, customer: Customer, detail: str) -> Review:
    return Review(f"tax_id_missing:{customer.id}", world.account_id, "tax_id_missing", account.id, detail)
