"""The plan of a run as a document: every write of every round with its reason, and the money that it moves.

It can be kept, read by people, and applied later: `apply_plan.py` writes only what still fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Literal

import msgspec

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.crosswalk import SCHEDULE
from sync_pipeline.core.foreseen_stripe import LENGTHS
from sync_pipeline.core.foresight import Foreseen, foresee
from sync_pipeline.core.guards import recurring
from sync_pipeline.core.money import Money, round_half_even
from sync_pipeline.core.observation import Present, Unknown
from sync_pipeline.core.stripe_records import Price
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import World
from sync_pipeline.engine.apply import salesforce_write
from sync_pipeline.engine.binding import bound
from sync_pipeline.engine.context import Engine, StripeReads
from sync_pipeline.engine.cost import NOTHING, Calls, least_salesforce_writes
from sync_pipeline.engine.defects import contained
from sync_pipeline.engine.lists import by_cost
from sync_pipeline.engine.observe import observe
from sync_pipeline.engine.stripe_side import look_further
from sync_pipeline.frames.plan import planned_writes
from sync_pipeline.frames.rows import PlannedWrite
from sync_pipeline.ledger import commands
from sync_pipeline.systems.outcomes import ReadFailed

FORMAT = 3
OF_ITEMS = frozenset({"price", "quantity", "deleted"})
OF_A_PRICE = ("currency", "product", "recurring", "unit_amount_decimal")
PRORATION = ("proration_behavior", "proration_date")
PREVIEWED_PARAMS = frozenset(
    {"items", "proration_behavior", "proration_date", "trial_end", "cancel_at", "cancel_at_period_end"}
)
MOVES_NO_AMOUNT = frozenset({"metadata", "collection_method", "days_until_due"})
OF_A_NEW_SUBSCRIPTION = PREVIEWED_PARAMS | {
    "customer",
    "billing_mode",
    "collection_method",
    "days_until_due",
    "metadata",
    "backdate_start_date",
}


class PlanError(ValueError):
    """A plan file that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class RecurringEffect:
    """An Account's monthly recurring revenue in one currency, minor units, before and after the writes."""

    account_id: str
    currency: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class InvoiceEffect:
    """What an invoice of a subscription comes to, minor units; `before` is without the writes, None if it is new.

    `source` is Stripe where Stripe has computed it, taxes and prorations included; otherwise it is what the new
    subscription's items cost in a period, before discounts and taxes.
    """

    account_id: str
    subscription: str
    currency: str
    invoice: Literal["first", "next", "immediate"]
    before: int | None
    after: int
    source: Literal["Stripe", "rate card"]


@dataclass(frozen=True, slots=True)
class OpenMatter:
    """Something that a person has to decide; nothing is written for it."""

    account_id: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A write of the plan that was refused before and is parked since; `why` is in the refusing system's words."""

    account_id: str
    target: str
    why: str


@dataclass(frozen=True, slots=True)
class Unread:
    """An Account of which something could not be read, and why: nothing is known of what it needs."""

    account_id: str
    why: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A write that is needed and was sent already: nobody knows yet whether it took effect, and what needs it waits."""

    account_id: str
    target: str
    why: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something agreed on that takes effect later, by itself; `due_at` is microseconds UTC."""

    account_id: str
    subject: str
    due_at: int
    detail: str


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """`not_whole` are Accounts whose writes lead to more that cannot be told beforehand; `calls` are those of the
    writes. It belongs to one org, one Stripe account and one state of code and rules."""

    format: int
    made_at: int
    org_id: str
    stripe_account: str
    code_version: str
    accounts: int
    writes: tuple[PlannedWrite, ...] = ()
    open_matters: tuple[OpenMatter, ...] = ()
    waits: tuple[Waiting, ...] = ()
    recurring: tuple[RecurringEffect, ...] = ()
    invoices: tuple[InvoiceEffect, ...] = ()
    not_whole: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()
    unread: tuple[Unread, ...] = ()
    in_doubt: tuple[InDoubt, ...] = ()
    calls: Calls = NOTHING


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What every version of a plan begins with."""

    format: int


def from_json(text: str | bytes) -> PlanDocument:
    """A plan as `canonical.encode` wrote it. Raises PlanError for what is not a plan of this version."""
    try:
        if msgspec.json.decode(text, type=_Stamp).format == FORMAT:
            return msgspec.json.decode(text, type=PlanDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PlanError(f"it is not a plan of `sync-pipeline plan --out` ({error})") from None
    raise PlanError("the plan was written by another version; make it anew with `sync-pipeline plan --out`")


def foresee_accounts(engine: Engine, accounts: Sequence[str]) -> list[Foreseen]:
    """What bringing each of the accounts to rest would write, from fresh reads of both systems."""
    worlds = observe(engine, list(accounts), listed=by_cost(engine, accounts))
    return [foresee_one(engine, world, engine.stripe) for world in worlds.values()]


def foresee_one(engine: Engine, world: World, stripe: StripeReads) -> Foreseen:
    """The same for an account that was looked at. One that cannot be planned is as if it had not been read."""
    ahead = contained(world.account_id, lambda: foresee_world(engine, world, stripe))
    if isinstance(ahead, Unknown):
        unread = replace(world, account=ahead)
        return Foreseen(unread, unread, Plan(), (), is_whole=True)
    return ahead


def foresee_world(engine: Engine, world: World, stripe: StripeReads) -> Foreseen:
    """The same, where a defect of ours is not contained; `stripe` tells what later rounds need."""

    def look(now: World) -> World:
        return look_further(engine.rules, now, stripe)

    return foresee(world, engine.rules, engine.personal_key, stripe.billing, look)


def document(engine: Engine, ahead: Sequence[Foreseen], *, invoices: bool = True) -> PlanDocument:
    """The plan of these accounts. Asks Stripe what the changed `invoices` come to, unless told not to."""
    return PlanDocument(
        format=FORMAT,
        made_at=engine.env.now(),
        org_id=engine.salesforce.org_id,
        stripe_account=stripe_account(engine),
        code_version=engine.code_version,
        accounts=len(ahead),
        writes=tuple(planned_writes(ahead)),
        open_matters=tuple(
            OpenMatter(review.account, review.subject, review.detail) for each in ahead for review in each.now.reviews
        ),
        waits=tuple(
            Waiting(each.before.account_id, wait.subject, wait.at, wait.detail)
            for each in ahead
            for wait in each.now.waits
        ),
        recurring=tuple(effect for each in ahead for effect in recurring_effects(each)),
        invoices=tuple(effect for each in ahead if invoices for effect in _invoice_effects(engine, each)),
        not_whole=tuple(each.before.account_id for each in ahead if not each.is_whole),
        refused=tuple(_refused(engine, ahead)),
        unread=tuple(not_read(each.before for each in ahead)),
        in_doubt=tuple(without_answer(command for each in ahead for command in each.in_doubt)),
        calls=_calls(ahead),
    )


def stripe_account(engine: Engine) -> str:
    """The Stripe account that the ledger belongs to, empty where it is bound to none."""
    with engine.ledger.read() as conn:
        own = bound(conn)
    return own.stripe_account if own is not None else ""


def not_read(worlds: Iterable[World]) -> Iterator[Unread]:
    """The accounts of which something could not be read."""
    for world in worlds:
        if why := world.unknown_parts:
            yield Unread(world.account_id, "; ".join(why))


def without_answer(writes: Iterable[Command]) -> Iterator[InDoubt]:
    """The writes that are in doubt, for people."""
    for each in writes:
        why = f"{each.reason}; it is in doubt: no answer has come, and it is looked for again"
        yield InDoubt(each.account, each.target, why)


def _refused(engine: Engine, ahead: Sequence[Foreseen]) -> Iterator[Refused]:
    planned = {(command.account, command.key) for each in ahead for command in each.commands}
    with engine.ledger.read() as conn:
        parked = commands.parked(conn)
    for row in parked:
        if (row.account, row.key) in planned:
            yield Refused(row.account, row.target, row.error or "")


def recurring_effects(ahead: Foreseen) -> Iterator[RecurringEffect]:
    """In each currency in which the writes change what recurs. Nothing where it is not known beforehand or after."""
    if not ahead.commands:
        return
    for currency, before, after in recurring(ahead.before, ahead.after):
        if before != after:
            yield RecurringEffect(ahead.before.account_id, currency, before, after)


def _calls(ahead: Sequence[Foreseen]) -> Calls:
    """The writes of one round travel together, over all accounts."""
    calls = NOTHING
    for number in range(max((len(each.rounds) for each in ahead), default=0)):
        writes = [c for each in ahead if number < len(each.rounds) for c in each.rounds[number]]
        to_salesforce = (c for c in writes if c.system == "salesforce")
        calls += Calls(
            salesforce_writes=least_salesforce_writes(
                [salesforce_write(c.action, c.account, c.body) for c in to_salesforce]
            ),
            stripe_writes=sum(c.system == "stripe" for c in writes),
        )
    return calls


def _invoice_effects(engine: Engine, ahead: Foreseen) -> Iterator[InvoiceEffect]:
    changed: dict[str, list[Command]] = {}
    for command in ahead.commands:
        if command.action == "stripe.create" and command.body["object"] in ("subscription", SCHEDULE):
            yield from _first_invoice(engine, ahead, command)
        elif (subscription := command.subscription or _charged(command)) is not None:
            changed.setdefault(subscription, []).append(command)
    for subscription, writes in changed.items():
        yield from _next_invoice(engine, ahead, subscription, writes)


def _charged(command: Command) -> str | None:
    """The subscription whose next invoice has a charge that is to be made."""
    is_charge = command.action == "stripe.create" and command.body["object"] == "invoiceitem"
    return command.body["params"].get("subscription") if is_charge else None


def _next_invoice(
    engine: Engine, ahead: Foreseen, subscription: str, writes: Sequence[Command]
) -> Iterator[InvoiceEffect]:
    """The subscription's next invoice without the writes and with all of them, as Stripe computes it.

    Nothing where Stripe cannot be asked for all of them: no number is better than a wrong one.
    """
    details: dict[str, Any] = {"items": []}
    charges: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for command in writes:
        params = dict(command.body["params"])
        if command.action == "stripe.create":
            one = {"price": params["pricing"]["price"], "quantity": int(params["quantity_decimal"])}
            charges.append({**_previewed_item(one, ahead.commands), "quantity": one["quantity"]})
            continue
        items = params.pop("items", [])
        if command.body["object"] == "subscription_item":
            items = [{"id": command.body["id"], **{name: params.pop(name) for name in OF_ITEMS & params.keys()}}]
        details["items"] += [_previewed_item(item, ahead.commands) for item in items]
        if params.keys() - PREVIEWED_PARAMS - MOVES_NO_AMOUNT:
            return
        said.append({name: value for name, value in params.items() if name not in MOVES_NO_AMOUNT})
    prorated = {canonical.encode({name: each.get(name) for name in PRORATION}) for each in said if each}
    if len(prorated) > 1:
        # A preview prorates all of its changes alike.
        return
    details |= {name: value for each in said for name, value in each.items()}
    if not details["items"]:
        del details["items"]
    asked: dict[str, Any] = {"subscription": subscription}
    asked |= {"subscription_details": details} if details else {}
    asked |= {"invoice_items": charges} if charges else {}
    at_once = details.get("proration_behavior") == "always_invoice"
    try:
        after = engine.stripe.preview(asked)
        before = None if at_once else engine.stripe.preview({"subscription": subscription})
    except ReadFailed as failure:
        if failure.access:
            raise
        return
    yield InvoiceEffect(
        account_id=ahead.before.account_id,
        subscription=subscription,
        currency=after.currency,
        invoice="immediate" if at_once else "next",
        before=None if before is None else before.minor,
        after=after.minor,
        source="Stripe",
    )


def _previewed_item(item: Mapping[str, Any], writes: Sequence[Command]) -> dict[str, Any]:
    """An item of a request; a price that does not exist yet is told by what it will be."""
    told = {name: value for name, value in item.items() if name in OF_ITEMS or name == "id"}
    for command in writes:
        params = command.body.get("params", {})
        if command.body.get("object") == "price" and told.get("price") == f"(new price {params.get('lookup_key')})":
            del told["price"]
            data = {name: params[name] for name in OF_A_PRICE if name in params}
            return told | {"price_data": data}
    return told


def _first_invoice(engine: Engine, ahead: Foreseen, command: Command) -> Iterator[InvoiceEffect]:
    """What a new subscription bills first: by Stripe where all that it needs is there, else by its items."""
    exact = _by_stripe(engine, command)
    total = exact or _by_items(ahead, command)
    if total is not None:
        yield InvoiceEffect(
            account_id=command.account,
            subscription=f"(new subscription of {command.subject})",
            currency=total.currency,
            invoice="first",
            before=None,
            after=total.minor,
            source="Stripe" if exact else "rate card",
        )


def _by_stripe(engine: Engine, command: Command) -> Money | None:
    params = command.body["params"]
    phases = params.get("phases", [params])
    needed = [params["customer"], *(entry.get("price") for phase in phases for entry in phase["items"])]
    if any(str(each).startswith("(new ") for each in needed):
        return None
    asked: dict[str, Any] = {"customer": params["customer"]}
    if command.body["object"] == SCHEDULE:
        first, *others = phases
        asked["schedule_details"] = {"phases": [{"start_date": params["start_date"], **first}, *others]}
    elif params.keys() - OF_A_NEW_SUBSCRIPTION:
        return None
    else:
        details = {name: value for name, value in params.items() if name in PREVIEWED_PARAMS}
        if "backdate_start_date" in params:
            details["start_date"] = params["backdate_start_date"]
        asked["subscription_details"] = details
    try:
        return engine.stripe.preview(asked)
    except ReadFailed as failure:
        if failure.access:
            raise
        return None


def _begun(price: Price, start: int, now: int) -> int:
    """How many of its periods have begun since the start, seconds UTC; the first is billed even before."""
    if price.interval is None:
        return 1
    begin, length = datetime.fromtimestamp(start, UTC), LENGTHS[price.interval] * (price.interval_count or 1)
    periods = 1
    while int((begin + length * periods).timestamp()) <= now:
        periods += 1
    return periods


def _by_items(ahead: Foreseen, command: Command) -> Money | None:
    """Its items for a whole period, unless it begins with a trial, and what is charged once."""
    if not isinstance(ahead.after.catalogue, Present):
        return None
    params, now = command.body["params"], ahead.before.now // MICROS
    first = params.get("phases", [params])[0]
    prices = {price.id: price for price in ahead.after.catalogue.value.prices.values()}
    # One that begins in the past bills all the periods that have begun since.
    start = params.get("start_date", params.get("backdate_start_date", now))
    items, charges = first["items"], first.get("add_invoice_items", ())
    entries = [*([] if "trial_end" in first else items), *charges]
    billed = [(prices.get(entry["price"]), entry.get("quantity", 1)) for entry in entries]
    # Each line of an invoice is a whole number of minor units.
    lines = [
        round_half_even(Fraction(price.unit_amount) * quantity) * _begun(price, start, now)
        for price, quantity in billed
        if price is not None and price.unit_amount is not None
    ]
    sold = prices.get(items[0]["price"])
    return Money(sum(lines), sold.currency) if sold is not None and len(lines) == len(billed) else None
