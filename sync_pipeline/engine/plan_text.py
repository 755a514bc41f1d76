"""The plan for people: as text for a terminal, and as Markdown for a pull request or a page of Dagster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from io import StringIO
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sync_pipeline.core import canonical
from sync_pipeline.core.money import Money
from sync_pipeline.core.rules import Priority
from sync_pipeline.engine.explain_text import in_words
from sync_pipeline.engine.markdown import table
from sync_pipeline.engine.planning import InvoiceEffect, PlanDocument, RecurringEffect, Waiting
from sync_pipeline.frames.rows import PlannedWrite

HEADINGS = ("Step", "Priority", "System", "Record", "Field", "Before", "After", "Follows", "Why")
PRIORITIES = {
    Priority.PAYMENT_FAILED: "failed payment",
    Priority.CREATE: "new deal",
    Priority.SEATS: "seats and terms",
    Priority.WRITE_BACK: "write-back",
    Priority.BULK: "may wait",
    Priority.SWEEP: "last",
}
"""The class of work that a write belongs to, in words; the most urgent first."""
LONGEST_VALUE = 48
INVOICES = {
    "first": "the first invoice",
    "next": "the next invoice",
    "immediate": "an invoice at once",
}
SYSTEMS = {"stripe": "Stripe", "salesforce": "Salesforce", "alert": "Alert"}


def as_text(plan: PlanDocument, *, width: int) -> str:
    """Each Account with its writes in their order, the matters for a person, and what it all comes to.

    Longer lines than `width` characters are wrapped within their column.
    """
    by_account = groupby(plan.writes, key=lambda write: write.account_id)
    parts = [f"Account {account}\n{_table(map(_cells, writes), width)}" for account, writes in by_account]
    return "\n\n".join([*parts, *_closing(plan)])


def as_markdown(plan: PlanDocument, *, most_writes: int | None = None) -> str:
    """The same as one table; a plan of more writes than `most_writes` is cut, and says so."""
    first = plan.writes[:most_writes]
    parts = [table(("Account", *HEADINGS), [(write.account_id, *_cells(write)) for write in first])] if first else []
    if len(first) < len(plan.writes):
        parts.append(f"{len(plan.writes) - len(first)} more writes are not shown.")
    return "\n\n".join([*parts, *(part.replace("\n  ", "\n- ") for part in _closing(plan))])


def _table(rows: Iterable[Sequence[str]], width: int) -> str:
    lines = Table(*HEADINGS, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        lines.add_row(*row)
    text = StringIO()
    Console(file=text, width=width, highlight=False, markup=False, color_system=None).print(lines)
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines())


def _cells(write: PlannedWrite) -> list[str]:
    system, _, record = write.target.partition("/")
    if system not in SYSTEMS:
        system, record = write.action.partition(".")[0], write.target
        system = system if system in SYSTEMS else "stripe"
    after = shown(_decoded(write.new)) if write.field or write.new is None else _made(write)
    return [
        str(write.step),
        PRIORITIES[Priority(write.priority)],
        SYSTEMS[system],
        record,
        write.field or write.action.partition(".")[2] or write.action,
        shown(_decoded(write.old)) if write.field else "",
        after if write.field or write.new is not None else "",
        SYSTEMS[write.owner],
        write.reason,
    ]


def _made(write: PlannedWrite) -> str:
    """What a create sends, in a few words."""
    sent = canonical.decode(write.new or "{}")
    if items := sent.get("items"):
        return f"{len(items)} items, {sum(item.get('quantity', 1) for item in items)} units"
    if "unit_amount_decimal" in sent:
        every = "{interval_count} {interval}".format(**sent["recurring"]) if "recurring" in sent else "once"
        return f"{sent['currency'].upper()} {sent['unit_amount_decimal']} minor units every {every}"
    return _cut(str(sent.get("id", "")))


def shown(value: Any) -> str:
    """A canonical value in a cell: a personal one, which is a hash, is only called so."""
    if value is None:
        return "empty"
    return "(personal)" if isinstance(value, str) and value.startswith("hmac:") else _cut(in_words(value))


def _decoded(encoded: str | None) -> Any:
    return None if encoded is None else canonical.decode(encoded)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _closing(plan: PlanDocument) -> Iterator[str]:
    if plan.open_matters:
        told = (f"  {each.account_id} {each.subject}: {each.detail}" for each in plan.open_matters)
        yield "For a person to decide, nothing is written:\n" + "\n".join(told)
    if plan.refused:
        told = (f"  {each.account_id} {each.target}: {each.why}" for each in plan.refused)
        yield "Was refused before, and is tried again when the plan is applied:\n" + "\n".join(told)
    if plan.unread:
        told = (f"  {each.account_id}: {each.why}" for each in plan.unread)
        yield "Could not be read, so that nothing is known of what they need:\n" + "\n".join(told)
    if plan.in_doubt:
        told = (f"  {each.account_id} {each.target}: {each.why}" for each in plan.in_doubt)
        yield "Was sent before, and waits for certainty, as does what needs it:\n" + "\n".join(told)
    if plan.waits:
        yield "Takes effect later, by itself:\n" + "\n".join(map(_waiting, plan.waits))
    if money := [*map(_recurring, plan.recurring), *_recurring_totals(plan), *map(_invoice, plan.invoices)]:
        yield "Money:\n" + "\n".join(f"  {line}" for line in money)
    if plan.not_whole:
        yield "More may follow, which cannot be told beforehand, for:\n" + "\n".join(f"  {a}" for a in plan.not_whole)
    commands = {(w.account_id, w.step, w.target, w.action) for w in plan.writes}
    links = sum(action == "link" for *_, action in commands)
    touched = len({write.account_id for write in plan.writes})
    unread = f", {len(plan.unread)} accounts not read" if plan.unread else ""
    yield (
        f"{len(commands) - links} writes and {links} links of customers that exist, to {touched} of {plan.accounts} "
        f"accounts, {len(plan.open_matters)} matters for a person{unread}; {plan.calls.stripe_writes} Stripe and "
        f"{plan.calls.salesforce_writes} Salesforce calls"
    )


def _waiting(wait: Waiting) -> str:
    due = datetime.fromtimestamp(wait.due_at // 1_000_000, UTC)
    return f"  {wait.account_id} {wait.subject}: {wait.detail} (sent from {due:%Y-%m-%d %H:%M} UTC)"


def _recurring(effect: RecurringEffect) -> str:
    return f"MRR of {effect.account_id}: {_change(effect.before, effect.after, effect.currency)}"


def _recurring_totals(plan: PlanDocument) -> Iterator[str]:
    ordered = sorted(plan.recurring, key=lambda effect: effect.currency)
    for currency, effects in groupby(ordered, key=lambda effect: effect.currency):
        moved = list(effects)
        if len(moved) > 1:
            before, after = sum(e.before for e in moved), sum(e.after for e in moved)
            yield f"MRR of these {len(moved)} accounts: {_change(before, after, currency)}"


def _invoice(effect: InvoiceEffect) -> str:
    what = f"{INVOICES[effect.invoice]} of {effect.subscription}"
    exact = "computed by Stripe" if effect.source == "Stripe" else "by the rate card, before discounts and taxes"
    if effect.before is None:
        return f"{what}: {_amount(effect.after, effect.currency)} ({exact})"
    return f"{what}: {_change(effect.before, effect.after, effect.currency)} ({exact})"


def _change(before: int, after: int, currency: str) -> str:
    difference = Money(after - before, currency).decimal()
    return f"{_amount(before, currency)} -> {_amount(after, currency)} ({difference:+,})"


def _amount(minor: int, currency: str) -> str:
    return f"{currency} {Money(minor, currency).decimal():,}"
