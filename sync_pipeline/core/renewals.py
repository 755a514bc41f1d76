"""The renewal pipeline: one Opportunity per running subscription and end of term, opened in time and kept current.

Its amount is what the next term bills at today's seats and prices and with the amendments that take effect until then,
until a person edits it; then the person's word stands, and where the other changes too, a conflict says what would be
billed. One that sales quotes with products of its own is worth what they come to: Salesforce adds them up, and answers
success to another Amount without taking it. A renewal is won when an invoice of the next term is paid, and lost when
the subscription has ended. It is never billed itself: the subscription that it stands for goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from sync_pipeline.core import canonical, writing
from sync_pipeline.core.amendments import with_pending
from sync_pipeline.core.churn import churn_reason
from sync_pipeline.core.commands import Agreement, Command, Entry, Review
from sync_pipeline.core.conflict import About, Clash, Standing
from sync_pipeline.core.conflict_inbox import is_kept, ruling_on, standing_on
from sync_pipeline.core.crosswalk import deals_by_subscription, own_billing
from sync_pipeline.core.deal import today
from sync_pipeline.core.lifecycle import EARNING, has_ended, is_ending
from sync_pipeline.core.next_term import billed_in_term
from sync_pipeline.core.observation import Present
from sync_pipeline.core.rules import Commercial, Rules
from sync_pipeline.core.salesforce_records import Opportunity
from sync_pipeline.core.stripe_records import Subscription
from sync_pipeline.core.term import Term, running_term, term_of_name, whole_months
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Deal, World

RULE = "renewal"
KEPT = ("amount", "close_date")
NAME_LENGTH = 120


def renewal_opportunities(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be opened, kept current or closed, for every subscription that bills a won deal."""
    billing = own_billing(world)
    if billing is None:
        return
    for subscription, deals in deals_by_subscription(world, billing):
        if (deal := leading_deal(deals)) is not None:
            yield from _of_one_deal(world, rules, billing, deal, subscription)


def leading_deal(deals: Sequence[Deal]) -> Deal | None:
    """The won deal whose term a subscription follows: an amendment has the term of what it amends."""
    won = [deal for deal in deals if deal.opportunity.is_won]
    return next((deal for deal in won if not deal.opportunity.amends_opportunity_id), won[0] if won else None)


def renewals_of(world: World, subscription: Subscription) -> dict[str, Opportunity]:
    """The renewal Opportunities of a subscription, by their keys in the order of the terms' ends."""
    prefix = f"{subscription.id}:"
    keyed = {o.renewal_key: o for o in world.renewals if o.renewal_key and o.renewal_key.startswith(prefix)}
    return dict(sorted(keyed.items()))


def renewal_key(subscription: Subscription, term: Term) -> str:
    return f"{subscription.id}:{term.name.isoformat()}"


def is_open_for_renewal(term: Term, commercial: Commercial, now: int) -> bool:
    """The term ends soon enough for its renewal to be worked on."""
    return today(now, commercial) >= term.day - timedelta(days=commercial.renewal_days)


def _of_one_deal(
    world: World, rules: Rules, billing: Billing, deal: Deal, subscription: Subscription
) -> Iterator[Entry]:
    commercial, opened = rules.commercial, renewals_of(world, subscription)
    for key, renewal in opened.items():
        closed = _closing(billing, subscription, key, commercial)
        if not renewal.is_closed and closed:
            yield from _update(world, rules, renewal, closed, "the next term was paid or the subscription ended")
        elif renewal.is_won and _ended_by(subscription, key, commercial):
            detail = (
                f"it is won, but {subscription.id} has ended and is never billed again; sell it as a new Opportunity"
            )
            yield Review(f"renewal_won_late:{renewal.id}", world.account_id, "renewal_won_late", renewal.id, detail)
    months = whole_months(deal.opportunity)
    if subscription.status not in EARNING or months is None:
        return
    term = running_term(subscription, months, commercial, world.now)
    if not is_open_for_renewal(term, commercial, world.now):
        return
    key, end = renewal_key(subscription, term), term.day.isoformat()
    then = with_pending(world, rules, billing, subscription, term.day)
    amount = billed_in_term(then, subscription, term.ends_at // MICROS, months)
    wanted = {"amount": amount, "close_date": end}
    if key not in opened:
        yield _open(world, rules, deal, key, wanted)
    elif not opened[key].is_closed:
        yield from _keep_current(world, rules, subscription, opened[key], wanted)
    elif not opened[key].is_won and not is_ending(subscription):
        detail = (
            f"it is lost, but {subscription.id} renews itself on {end}; "
            "enter a cancel date in the Contract, or open it again"
        )
        yield Review(f"renewal_lost:{key}", world.account_id, "renewal_lost", opened[key].id, detail)


def _closing(billing: Billing, subscription: Subscription, key: str, commercial: Commercial) -> dict[str, Any]:
    """The fields in which a renewal ends, once its fate is known."""
    begins = _term_of(subscription, key, commercial).ends_at
    paid = any(
        invoice.subscription == subscription.id
        and invoice.status == "paid"
        and invoice.amount_paid > 0
        and invoice.created_at >= begins
        for invoice in billing.invoices
    )
    if paid:
        return {"stage": commercial.won_stage}
    if has_ended(subscription):
        return {"stage": commercial.lost_stage, "lost_reason": churn_reason(subscription)}
    return {}


def _term_of(subscription: Subscription, key: str, commercial: Commercial) -> Term:
    """The term that ends where the renewal of this key begins."""
    return term_of_name(subscription, date.fromisoformat(key.rpartition(":")[2]), commercial)


def _ended_by(subscription: Subscription, key: str, commercial: Commercial) -> bool:
    """Whether the subscription did not live to see the term that the renewal is for."""
    ended_at = subscription.ended_at
    if not has_ended(subscription) or ended_at is None:
        return False
    return today(ended_at, commercial) <= _term_of(subscription, key, commercial).day


def _keep_current(
    world: World, rules: Rules, subscription: Subscription, renewal: Opportunity, wanted: dict[str, Any]
) -> Iterator[Entry]:
    changed: dict[str, Any] = {}
    for name in KEPT:
        if name == "amount" and renewal.has_lines:
            continue
        shown, value = (writing.canonical_value(name, v) for v in (getattr(renewal, name), wanted[name]))
        base = world.base.get((renewal.id, f"{RULE}.{name}"))
        standing = Standing(
            rule=f"{RULE}.{name}",
            subject=renewal.id,
            salesforce=canonical.encode(shown),
            stripe=canonical.encode(value),
            keeps="Salesforce",
        )
        yield from standing_on(world, standing)
        ruling = ruling_on(world, standing)
        if shown == value:
            yield Agreement(renewal.id, standing.rule, standing.stripe)
        elif base in (None, standing.salesforce) or (ruling is not None and ruling.side == "Stripe"):
            changed[name] = wanted[name]
        elif base != standing.stripe and ruling is None and not is_kept(world, standing):
            yield _both_moved(world, subscription, renewal, standing, base)
    yield from _update(world, rules, renewal, changed, "what the next term bills has changed")


def _both_moved(world: World, subscription: Subscription, renewal: Opportunity, standing: Standing, base: str) -> Clash:
    """A person's forecast of a renewal whose next term bills something else than it did when they made it."""
    words = (str(canonical.decode(each)) for each in (base, standing.salesforce, standing.stripe))
    before, shown, value = words
    return Clash(
        account=world.account_id,
        standing=standing,
        about=About.of(renewal, opportunity_id=renewal.id, stripe_object=subscription.id),
        base=base,
        words=(before, shown, value),
        winner="Salesforce",
        detail="edited by a person, while what the next term bills changed too; the person's word stands",
    )


def _open(world: World, rules: Rules, deal: Deal, key: str, wanted: dict[str, Any]) -> Command | Review:
    end, opportunity, record_type = wanted["close_date"], deal.opportunity, rules.commercial.renewal_record_type
    if record_type is not None and record_type not in world.record_types:
        detail = (
            f"the term of Opportunity {opportunity.id} ends on {end}, but its renewal cannot be opened: no record type "
            f"{record_type!r} is there for the integration user; see `sync-pipeline rules check`"
        )
        return Review(f"renewal_record_type:{key}", world.account_id, "renewal_record_type", opportunity.id, detail)
    values = {
        "name": f"{(opportunity.name or 'Subscription')[: NAME_LENGTH - 20]} renewal {end[:7]}",
        "account_id": world.account_id,
        "owner_id": _owner(world, opportunity),
        "currency": writing.record_currency(world, wanted["amount"].currency),
        "stage": rules.commercial.renewal_stage,
        "record_type_id": world.record_types[record_type] if record_type is not None else None,
        **wanted,
    }
    return writing.create(
        world,
        rules,
        "opportunity",
        key,
        values,
        key_field="renewal_key",
        intent=f"renewal:{key}",
        subject=opportunity.id,
        rule=RULE,
        reason=f"a term ends on {end}",
    )


def _owner(world: World, opportunity: Opportunity) -> str | None:
    """Who sold the deal, else whose Account it is; one who is gone can own nothing."""
    if opportunity.owner_id and opportunity.owner_active:
        return opportunity.owner_id
    account = world.account.value if isinstance(world.account, Present) else None
    return account.owner_id if account is not None and account.owner_active else None


def _update(world: World, rules: Rules, renewal: Opportunity, values: dict[str, Any], reason: str) -> Iterator[Command]:
    command = writing.update(world, rules, "opportunity", renewal, values, rule=RULE, reason=reason)
    if command is not None:
        yield command
