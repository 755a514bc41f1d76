"""The renewal pipeline: one Opportunity per running subscription and end of term, opened in time and kept current.

Its amount is what the next term bills at today's seats and prices, until a person edits it; then the person's
word stands. It is won when an invoice of the next term is paid, and lost when the subscription has ended. A
renewal Opportunity is never billed itself: the subscription that it stands for goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

from dateutil.relativedelta import relativedelta

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import CANON, number
from sync_pipeline.core.commands import Agreement, Command, Entry, FieldChange
from sync_pipeline.core.crosswalk import Match, match_subscription, own_billing
from sync_pipeline.core.deal import midnight, today
from sync_pipeline.core.lifecycle import EARNING, has_ended
from sync_pipeline.core.money import Money, round_half_even
from sync_pipeline.core.mrr import yearly
from sync_pipeline.core.records import Opportunity, Subscription
from sync_pipeline.core.rules import Commercial, Priority, Rules
from sync_pipeline.core.world import Billing, Deal, World

RULE = "renewal"
KEPT = {"amount": "money", "close_date": "text"}
NAME_LENGTH = 120


def renewal_opportunities(world: World, rules: Rules) -> Iterator[Entry]:
    """What has to be opened, kept current or closed, for every deal with a subscription."""
    billing = own_billing(world)
    if billing is None:
        return
    for deal in sorted(world.deals, key=lambda each: each.opportunity.id):
        found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
        if isinstance(found, Match) and deal.opportunity.is_won:
            subscription = next(s for s in billing.subscriptions if s.id == found.id)
            yield from _of_one_deal(world, rules, billing, deal, subscription)


def _of_one_deal(
    world: World, rules: Rules, billing: Billing, deal: Deal, subscription: Subscription
) -> Iterator[Entry]:
    commercial = rules.commercial
    opened = {o.renewal_key: o for o in world.renewals if (o.renewal_key or "").startswith(f"{subscription.id}:")}
    for key, renewal in sorted(opened.items(), key=lambda pair: str(pair[0])):
        if not renewal.is_closed and (stage := _closing_stage(billing, subscription, str(key), commercial)):
            yield _update(world, rules, renewal, {"stage": stage}, "the next term was paid or the subscription ended")
    months = deal.opportunity.term_months
    if subscription.status not in EARNING or not months or months <= 0 or months % 1:
        return
    term_end = _term_end(subscription, int(months), commercial, world.now)
    if today(world.now, commercial) < term_end - timedelta(days=commercial.renewal_days):
        return
    key = f"{subscription.id}:{term_end.isoformat()}"
    wanted = {"amount": _next_term(billing, subscription, int(months)), "close_date": term_end.isoformat()}
    if key not in opened:
        yield _create(world, rules, deal, key, wanted)
    elif not opened[key].is_closed:
        yield from _keep_current(world, rules, opened[key], wanted)


def _term_end(subscription: Subscription, months: int, commercial: Commercial, now: int) -> date:
    """The first end of a term that is still ahead; terms are counted from the start, so month ends do not drift."""
    start, day = today(subscription.start_at, commercial), today(now, commercial)
    terms = 1
    while start + relativedelta(months=months * terms) <= day:
        terms += 1
    return start + relativedelta(months=months * terms)


def _next_term(billing: Billing, subscription: Subscription, months: int) -> Money:
    """What the next term bills at today's seats and prices."""
    items = (item for item in billing.items if item.subscription == subscription.id)
    return Money(round_half_even(sum(map(yearly, items), Fraction(0)) * months / 12), subscription.currency)


def _closing_stage(billing: Billing, subscription: Subscription, key: str, commercial: Commercial) -> str | None:
    """The stage in which a renewal ends, once its fate is known."""
    begins = midnight(date.fromisoformat(key.rpartition(":")[2]), commercial) * 1_000_000
    paid = any(
        invoice.subscription == subscription.id
        and invoice.status == "paid"
        and invoice.amount_paid > 0
        and invoice.created_at >= begins
        for invoice in billing.invoices
    )
    if paid:
        return commercial.won_stage
    return commercial.lost_stage if has_ended(subscription) else None


def _keep_current(world: World, rules: Rules, renewal: Opportunity, wanted: dict[str, Any]) -> Iterator[Entry]:
    changed: dict[str, Any] = {}
    for name, form in KEPT.items():
        shown, value = (CANON[form](v) for v in (getattr(renewal, name), wanted[name]))
        base = world.base.get((renewal.id, f"{RULE}.{name}"))
        if shown == value:
            yield Agreement(renewal.id, f"{RULE}.{name}", canonical.encode(value))
        elif base is None or base == canonical.encode(shown):
            changed[name] = wanted[name]
    if changed:
        yield _update(world, rules, renewal, changed, "what the next term bills has changed")


def _create(world: World, rules: Rules, deal: Deal, key: str, wanted: dict[str, Any]) -> Command:
    names = rules.salesforce["opportunity"]
    term_end = wanted["close_date"]
    values = {
        "name": f"{(deal.opportunity.name or 'Subscription')[: NAME_LENGTH - 20]} renewal {term_end[:7]}",
        "account_id": world.account_id,
        "stage": rules.commercial.renewal_stage,
        "close_date": term_end,
        "amount": wanted["amount"].decimal(),
    }
    fields = {names.fields[name]: value for name, value in values.items()}
    reason = f"a term ends on {term_end}"
    return Command(
        key=f"renewal:{key}",
        account=world.account_id,
        target=f"salesforce/{names.object}/{key}",
        action="salesforce.upsert",
        priority=Priority.WRITE_BACK,
        reason=reason,
        subject=deal.opportunity.id,
        body={
            "object": names.object,
            "external_field": names.fields["renewal_key"],
            "external_id": key,
            "fields": fields,
        },
        changes=(FieldChange(names.fields["amount"], None, number(values["amount"]), RULE, reason),),
    )


def _update(world: World, rules: Rules, renewal: Opportunity, values: dict[str, Any], reason: str) -> Command:
    names = rules.salesforce["opportunity"]
    target = f"salesforce/{names.object}/{renewal.id}"
    fields = {names.fields[n]: v.decimal() if isinstance(v, Money) else v for n, v in values.items()}
    changes = tuple(
        FieldChange(
            names.fields[name],
            CANON[KEPT.get(name, "text")](getattr(renewal, name)),
            CANON[KEPT.get(name, "text")](value),
            RULE,
            reason,
        )
        for name, value in values.items()
    )
    return Command(
        key=f"set:{target}",
        account=world.account_id,
        target=target,
        action="salesforce.update",
        priority=Priority.WRITE_BACK,
        reason=reason,
        subject=renewal.id,
        body={"object": names.object, "id": renewal.id, "fields": fields},
        changes=changes,
    )
