"""Why so many seats are billed, and at that price: a subscription's items and the lines of the deal that ask for them.

Both are judged by the planner's own modules (core/seats.py, core/prices.py); here it is only put into words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from sync_pipeline.core.billed_items import QUANTITY, RATE, BilledItem, agreed_price
from sync_pipeline.core.canon import number
from sync_pipeline.core.commands import Review
from sync_pipeline.core.conflict import Clash
from sync_pipeline.core.crosswalk import SCHEDULE, Match, match_subscription, own_billing
from sync_pipeline.core.evidence import Evidence, interval_in_words, price_in_words
from sync_pipeline.core.money import MoneyError, exponent
from sync_pipeline.core.prices import decide_price
from sync_pipeline.core.rules import Commercial, Reaction, Rules
from sync_pipeline.core.running_deals import running_deals
from sync_pipeline.core.salesforce_records import LineItem
from sync_pipeline.core.seats import agreed_quantity, decide_quantity, line_quantity, quantity_of, spread
from sync_pipeline.core.stripe_records import SubscriptionItem
from sync_pipeline.core.world import World
from sync_pipeline.engine.explanation import MADE, Explanation, Written, history
from sync_pipeline.ledger.audit import AuditRow

Which = Literal["quantity", "price"]
WHICH: tuple[Which, ...] = ("quantity", "price")
OF_LINE: dict[Which, str] = {"quantity": "quantity", "price": "unit_price"}
THERE: dict[Reaction, str] = {"accept": "is followed", "revert": "is put back", "review": "goes to a person"}
VERDICTS = {
    "agree": "both systems agree",
    "to_stripe": "Stripe will be told: the deal was edited in Salesforce",
    "to_salesforce": "the deal will show it: it was changed at Stripe",
    "put_back": "it was changed at Stripe and is put back",
    "leave": "nothing is written",
}


def explained_terms(
    world: World, rules: Rules, name: str, record_id: str, rows: Sequence[AuditRow]
) -> Iterator[Explanation]:
    """The seats and prices of an item or a line, those of all items for a subscription; and whose deal a subscription
    or a schedule bills. `name` is the object as its own system calls it."""
    line_object = rules.salesforce["line"].object
    if name in ("subscription", SCHEDULE):
        yield from _deal_of(world, name, record_id, rows)
    items = [each for each in _items(world) if record_id in (each.id, each.subscription)]
    billed = [each for running in running_deals(world, rules.commercial) for each in running.items]
    for item in items if name != line_object else ():
        matched = next((each for each in billed if each.item.id == item.id), None)
        for which in WHICH:
            yield _of_item(world, rules, item, matched, which, rows)
    lines = {line.id: line for deal in world.deals for line in deal.lines} if name == line_object else {}
    if (line := lines.get(record_id)) is not None:
        home = next((each for each in billed if line in (*each.lines, *each.leaving)), None)
        for which in WHICH:
            yield _of_line(world, rules, home, line, which, rows)


def billing_with(world: World, ids: Collection[str]) -> Iterator[Evidence]:
    """The items of an Account that bill some prices or products."""
    for item in _items(world):
        if item.price in ids or item.product in ids:
            yield _billed(item)


def _items(world: World) -> tuple[SubscriptionItem, ...]:
    billing = own_billing(world)
    return billing.items if billing is not None else ()


def _deal_of(world: World, name: str, record_id: str, rows: Sequence[AuditRow]) -> Iterator[Explanation]:
    billing = own_billing(world)
    deals = {link.subject: "is linked to it in the ledger" for link in world.links if link.external_id == record_id}
    subscriptions = billing.subscriptions if billing is not None else ()
    for deal in world.deals:
        found = match_subscription(deal.opportunity, subscriptions, world.links, world.org_id)
        if isinstance(found, Match) and found.id == record_id:
            deals[deal.opportunity.id] = f"belongs to it by {found.evidence}"
    for opportunity, how in sorted(deals.items()):
        yield Explanation(
            object=name,
            id=record_id,
            account=world.account_id,
            rule=None,
            field="deal",
            authority="deal: every won deal has one subscription, or a schedule that begins it",
            shown=opportunity,
            wanted=opportunity,
            agreed=opportunity,
            verdict="it bills this deal",
            behind=(Evidence(opportunity, how),),
            writes=tuple(each for each in history(rows, {record_id}) if each.field in (MADE, "terms")),
        )


def _of_item(
    world: World,
    rules: Rules,
    item: SubscriptionItem,
    billed: BilledItem | None,
    which: Which,
    rows: Sequence[AuditRow],
) -> Explanation:
    shown = wanted = item.quantity if which == "quantity" else item.unit_amount
    agreed: Decimal | None = None
    if billed is not None and which == "quantity":
        agreed = agreed_quantity(world, billed.agreed_lines)
        quantity, concerned = decide_quantity(world, rules, billed)
        wanted = line_quantity(concerned.lines) if quantity.writes_stripe else shown
    elif billed is not None:
        agreed = _one(agreed_price(world, line) for line in billed.lines)
        rate = decide_price(world, rules, billed).rate
        wanted = rate.unit_amount if rate is not None else shown
    return Explanation(
        object="subscription_item",
        id=item.id,
        account=world.account_id,
        field=which,
        rule=None,
        shown=number(shown),
        wanted=number(wanted),
        agreed=number(agreed),
        verdict=_verdict(world, rules, billed, which) if billed else "no line of a running deal asks for it",
        behind=tuple(_behind(world, billed, which)) if billed else (),
        writes=_writes(rules, _line_ids(item, billed), item, which, rows),
        authority=_authority(rules.commercial, which),
    )


def _of_line(
    world: World, rules: Rules, billed: BilledItem | None, line: LineItem, which: Which, rows: Sequence[AuditRow]
) -> Explanation:
    names = rules.salesforce["line"]
    shown = wanted = line.quantity if which == "quantity" else line.unit_price
    agreed = agreed_quantity(world, [line.id]) if which == "quantity" else None
    if billed is not None and which == "quantity":
        quantity, concerned = decide_quantity(world, rules, billed)
        shares = spread(concerned.lines, quantity_of(quantity.value)) if quantity.value is not None else None
        if shares is not None and line.id in shares:
            wanted = Decimal(shares[line.id])
    elif billed is not None:
        agreed = _major(agreed_price(world, line), billed.item.currency)
        if (rate := decide_price(world, rules, billed).following.get(line.id)) is not None:
            wanted = _major(rate.unit_amount, billed.item.currency)
    return Explanation(
        object=names.object,
        id=line.id,
        account=world.account_id,
        field=names.fields[OF_LINE[which]],
        rule=None,
        shown=number(shown),
        wanted=number(wanted),
        agreed=number(agreed),
        verdict=_verdict(world, rules, billed, which) if billed else _not_billed(world, rules, line),
        behind=tuple(_behind(world, billed, which)) if billed else (),
        writes=_writes(rules, {line.id}, billed.item if billed else None, which, rows),
        authority=_authority(rules.commercial, which),
    )


def _authority(commercial: Commercial, which: Which) -> str:
    there = THERE[commercial.on_stripe_quantity if which == "quantity" else commercial.on_stripe_price]
    here = "goes to a person" if commercial.changes_after_billing == "review" else "is billed from then on"
    if which == "quantity":
        return (
            f"{QUANTITY}: the seats of an item are the sum of its lines; Salesforce owns the terms of a deal: an edit "
            f"there is billed, a change at Stripe {there}"
        )
    return (
        f"{RATE}: an item bills the unit price of its lines; Salesforce owns the terms of a deal: an edit there "
        f"{here}, a change at Stripe {there}"
    )


def _verdict(world: World, rules: Rules, billed: BilledItem, which: Which) -> str:
    if which == "quantity":
        decided, _ = decide_quantity(world, rules, billed)
        move, told = decided.move, decided.told
    else:
        prices = decide_price(world, rules, billed)
        move, told = prices.decision.move, prices.decision.told
        if move == "leave" and prices.following:
            move = "to_salesforce"
    said = [each.detail for each in told if isinstance(each, (Clash, Review))]
    return "; ".join(dict.fromkeys((VERDICTS[move], *said)))


def _behind(world: World, billed: BilledItem, which: Which) -> Iterator[Evidence]:
    """What each side says: the item, then every line that it bills, and what people had to decide between them."""
    item, opportunity = billed.item, billed.deal.opportunity
    yield _billed(item)
    for line in (*billed.lines, *billed.leaving):
        said = number(line.quantity if which == "quantity" else line.unit_price)
        by = f", edited last by {line.modified_by_id}" if line.modified_by_id else ""
        what = f"line {line.called} of {opportunity.id} asks for {said}{by}"
        yield Evidence(line.id, what, at=line.modified_at)
    rule, about = (QUANTITY, {item.id}) if which == "quantity" else (RATE, {line.id for line in billed.lines})
    for conflict in world.conflicts:
        if conflict.rule == rule and conflict.subject in about:
            ruled = f"; {conflict.decided_by} decided: {conflict.winner} counts" if conflict.status == "Decided" else ""
            told = f"conflict ({conflict.status}): {conflict.reason}{ruled}"
            yield Evidence(conflict.key, told, at=conflict.opened_at)


def _billed(item: SubscriptionItem) -> Evidence:
    price = f"{price_in_words(item)} ({item.currency}) every {interval_in_words(item)}"
    return Evidence(item.id, f"Stripe bills {item.quantity} x {price}, on {item.subscription}")


def _line_ids(item: SubscriptionItem, billed: BilledItem | None) -> set[str]:
    return set(item.line_ids) if billed is None else {line.id for line in (*billed.lines, *billed.leaving)}


def _not_billed(world: World, rules: Rules, line: LineItem) -> str:
    for running in running_deals(world, rules.commercial):
        if line in running.new:
            return f"no item of {running.subscription.id} bills it"
        for each, at in running.waiting:
            if each == line:
                day = datetime.fromtimestamp(at // 1_000_000, UTC).date()
                return f"it comes to {running.subscription.id} on {day}"
    return "no running subscription bills it"


def _writes(
    rules: Rules, lines: set[str], item: SubscriptionItem | None, which: Which, rows: Sequence[AuditRow]
) -> tuple[Written, ...]:
    """Every write of the term on either side, newest first, down to the one that made the subscription."""
    fields = {which, rules.salesforce["line"].fields[OF_LINE[which]]}
    if item is None:
        return tuple(each for each in history(rows, lines) if each.field in fields)
    of_item = f"items.{item.product}"
    fields_of_subscription = {MADE, "terms", "phases", of_item, f"{of_item}.{which}"}
    return tuple(
        each
        for each in history(rows, {item.id, item.subscription, *lines})
        if each.field in (fields_of_subscription if _is_of(each, item.subscription) else fields)
    )


def _is_of(written: Written, subscription: str) -> bool:
    return f"/{subscription}/" in f"{written.target}/" or written.evidence.get("object") == subscription


def _one(values: Iterable[Decimal | None]) -> Decimal | None:
    """The value that all of them are, if they are one."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _major(minor: Decimal | None, currency: str) -> Decimal | None:
    if minor is None:
        return None
    try:
        return minor.scaleb(-exponent(currency))
    except MoneyError:
        return None
