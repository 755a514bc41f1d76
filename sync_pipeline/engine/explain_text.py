"""Explanations as text for people and as data for machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from textwrap import wrap
from typing import Any

from sync_pipeline.core.evidence import Evidence
from sync_pipeline.core.money import Money
from sync_pipeline.core.rules import FieldRule
from sync_pipeline.engine.explanation import MADE, Explanation, Written

INDENT = 11
REACTIONS = {"revert": "is put back", "review": "goes to a person", "accept": "is left so"}


def as_data(explanations: Sequence[Explanation]) -> list[dict[str, Any]]:
    """Plain values; amounts are {minor, currency}, moments microseconds UTC."""
    return [asdict(each) for each in explanations]


def as_text(explanations: Sequence[Explanation], *, width: int | None = None) -> str:
    """A paragraph for each field; with `width`, longer lines are wrapped below what they say."""
    return "\n\n".join("\n".join(_wrapped(_lines(each), width)) for each in explanations)


def _wrapped(lines: Iterator[str], width: int | None) -> Iterator[str]:
    for line in lines:
        yield from [line] if width is None else wrap(line, width, subsequent_indent=" " * INDENT)


def _lines(each: Explanation) -> Iterator[str]:
    if each.field == MADE:
        yield f"{each.object}/{each.id}" if each.object else each.id
    else:
        value = each.shown if _is_kept(each) else each.wanted
        yield f"{each.object}/{each.id} {each.field} = {_value(each.rule, value)}"
    yield f"  now      {each.verdict}" + _difference(each)
    if _is_kept(each):
        yield f"  rule     {_rule(each.rule) if each.rule is not None else each.authority}"
    for n, behind in enumerate(each.behind):
        yield f"  {'from' if n == 0 else '':8} {_evidence(behind)}"
    yield from (f"  {'':8} {total}" for total in _totals(each.behind))
    for n, written in enumerate(each.writes):
        yield f"  {'written' if n == 0 else '':8} {_written(each, written)}"
    older = f"since {_moment(each.known_since)}; older entries were removed" if each.known_since is not None else ""
    if not each.writes:
        yield f"  written  not {older}" if older else "  written  never by this installation"
    elif older:
        yield f"  {'':8} all {older}"


def _difference(each: Explanation) -> str:
    """What else was wanted or agreed on, where anything was."""
    if not _is_kept(each) or (each.shown == each.wanted and (each.rule or each.agreed in (None, each.shown))):
        return ""
    wanted = f"wanted {_value(each.rule, each.wanted)}, " if each.shown != each.wanted else ""
    return f" ({wanted}last agreed on {_value(each.rule, each.agreed)})"


def _is_kept(each: Explanation) -> bool:
    """Somebody says whose value counts."""
    return each.rule is not None or each.authority is not None


def _rule(rule: FieldRule) -> str:
    return (
        f"{rule.target}: {rule.why} ({rule.kind} of {rule.source}; {rule.owner} owns it, "
        f"an edit by hand {REACTIONS[rule.on_foreign_edit]})"
    )


def _evidence(behind: Evidence) -> str:
    parts = [
        _moment(behind.at) if behind.at is not None else "",
        _amount(behind.amount) if behind.amount else "",
        behind.object_id,
        behind.what,
    ]
    return "  ".join(part for part in parts if part)


def _totals(behind: Sequence[Evidence]) -> Iterator[str]:
    """What the parts of each figure add up to, where there is more than one."""
    parts: dict[tuple[str, str], list[int]] = {}
    for each in behind:
        if each.amount is not None and each.figure is not None:
            parts.setdefault((each.figure, each.amount.currency), []).append(each.amount.minor)
    for (figure, currency), amounts in parts.items():
        if len(amounts) > 1:
            yield f"= {_amount(Money(sum(amounts), currency))} {figure}"


def _written(each: Explanation, written: Written) -> str:
    where = ", ".join(
        part
        for part in (
            written.outcome,
            written.target if f"/{each.id}/" not in f"{written.target}/" else "",
            f"by {written.actor}",
            f"run {written.run}" if written.run else "",
            f"request {written.request_id}" if written.request_id else "",
            f"the newest event then was {written.evidence['events'][0]}" if written.evidence.get("events") else "",
            f"from {' '.join(written.evidence['invoices'])}" if written.evidence.get("invoices") else "",
        )
        if part
    )
    if written.field == MADE:
        change = f"made {written.evidence.get('object') or ''}".rstrip()
    else:
        change = f"{_value(each.rule, written.old)} -> {_value(each.rule, written.new)}"
    return f"{_moment(written.at)}  {change}  {written.reason} ({where})"


def _value(rule: FieldRule | None, value: Any) -> str:
    """A canonical value as a person reads it."""
    if value is None:
        return "nothing"
    if rule is not None and rule.personal:
        return f"a personal value ({str(value)[:13]})"
    return in_words(value)


def in_words(value: Any) -> str:
    """A canonical value: numbers and amounts are texts in it, and what is a whole number is a moment in seconds UTC."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _moment(value * 1_000_000)
    return str(value)


def _amount(money: Money) -> str:
    return f"{money.currency} {money.decimal():,}"


def _moment(micros: int) -> str:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
