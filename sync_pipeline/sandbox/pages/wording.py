"""How values read on the pages: money, dates, statuses. Nothing here decides anything."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sync_pipeline.sandbox.stripe.money import decimal_places, shown_unit_price

_SIGNS = {"gbp": "£", "eur": "€", "usd": "$", "jpy": "¥"}
_GOOD = frozenset({"active", "paid", "activated", "healthy", "closed won", "completed"})
_BAD = frozenset(
    {
        "past_due",
        "past due",
        "unpaid",
        "overdue",
        "uncollectible",
        "canceled",
        "incomplete_expired",
        "at risk",
        "churned",
        "needs attention",
        "closed lost",
    }
)


def minor(amount: int | None, currency: str) -> str:
    """Stripe's integer amount as a person reads it: ``minor(4500000, "gbp")`` is ``£45,000.00``."""
    if amount is None:
        return "–"
    places = decimal_places(currency.lower())
    whole, part = divmod(abs(amount), 10**places)
    digits = f"{whole:,}" + (f".{part:0{places}d}" if places else "")
    return f"{'-' if amount < 0 else ''}{_with_sign(digits, currency)}"


def major(amount: float | str | None, currency: str) -> str:
    """Salesforce's decimal amount as a person reads it."""
    if amount is None:
        return "–"
    exact = Decimal(str(amount))
    return f"{'-' if exact < 0 else ''}{_with_sign(f'{abs(exact):,.{decimal_places(currency.lower())}f}', currency)}"


def unit(price: dict[str, Any]) -> str:
    """What one of a price costs, to the last part of a penny; prices in tiers say so."""
    return shown_unit_price(price) or "in tiers"


def standing(invoice: dict[str, Any], now: int) -> str:
    """How an invoice stands for who waits for the money: an open one may be past its due date."""
    late = invoice["status"] == "open" and (invoice["due_date"] or now) < now
    return "overdue" if late else str(invoice["status"])


def every(recurring: dict[str, Any]) -> str:
    """How often a price bills: ``year``, ``3 months``."""
    count = recurring["interval_count"]
    return recurring["interval"] if count == 1 else f"{count} {recurring['interval']}s"


def plain(value: Any) -> str:
    """A field's value as text; empty fields are a dash, whole numbers lose their ``.0``."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    return str(value)


def moment(value: int | str | None) -> str:
    """Epoch seconds, or Salesforce's date or datetime text, as ``23 Nov 2026`` with the time where it has one."""
    if value is None or value == "":
        return "–"
    if isinstance(value, int):
        return f"{datetime.fromtimestamp(value, UTC):%-d %b %Y %H:%M}"
    if len(value) == 10:
        return f"{date.fromisoformat(value):%-d %b %Y}"
    return f"{datetime.fromisoformat(value):%-d %b %Y %H:%M}"


def day(value: int | None) -> str:
    return "–" if value is None else f"{datetime.fromtimestamp(value, UTC):%-d %b %Y}"


def tone(status: str | None) -> str:
    """The style of a status badge: good, bad, plain or, where nothing is known, none."""
    if not status:
        return "none"
    known = status.lower()
    return "good" if known in _GOOD else "bad" if known in _BAD else "plain"


def _with_sign(digits: str, currency: str) -> str:
    sign = _SIGNS.get(currency.lower())
    return f"{sign}{digits}" if sign else f"{digits} {currency.upper()}"
