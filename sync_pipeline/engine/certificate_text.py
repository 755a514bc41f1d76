"""The certificate of a reconcile as text for people and as data for machines. Amounts in data are minor units."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sync_pipeline.core.money import Money
from sync_pipeline.engine.reconcile import Certificate, Figure, Total

MEASURES = {"mrr": "MRR", "lifetime_value": "Lifetime value"}
MOST_SHOWN = 100


def as_data(certificate: Certificate) -> dict[str, Any]:
    return {
        "agrees": certificate.agrees,
        "at": datetime.fromtimestamp(certificate.at // 1_000_000, UTC).isoformat(),
        "accounts": certificate.accounts,
        "agreed": certificate.agreed,
        "repaired": certificate.repaired,
        "writes": certificate.writes,
        "calls": certificate.cost.report(),
        "left": [{"account": each.account, "subject": each.subject, "what": each.what} for each in certificate.left],
        "differences": [
            {
                "account": each.account,
                "measure": each.measure,
                "currency": each.currency,
                "salesforce_minor": each.salesforce,
                "stripe_minor": each.stripe,
                "difference_minor": each.difference,
                "difference_class": each.difference_class,
                "repair": _repair(each),
                "left_minor": each.left,
            }
            for each in certificate.differences
        ],
        "totals": [
            {
                "measure": measure,
                "currency": currency,
                "salesforce_minor": total.salesforce,
                "stripe_minor": total.stripe,
                "difference_minor": total.difference,
            }
            for measure, by_currency in sorted(certificate.totals.items())
            for currency, total in sorted(by_currency.items())
        ],
        "not_in_totals": [{"account": name, "what": what} for name, what in sorted(certificate.beside.items())],
    }


def as_text(certificate: Certificate) -> str:
    when = datetime.fromtimestamp(certificate.at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    verdict = "Salesforce and Stripe agree" if certificate.agrees else "Salesforce and Stripe differ"
    counts = (
        f"{certificate.accounts} accounts compared, {certificate.agreed} agreed, {certificate.repaired} repaired "
        f"with {certificate.writes} writes, {len(certificate.left)} matters left"
    )
    lines = [f"Certificate of {when}: {verdict}", f"  {counts}", f"  {certificate.cost.in_words()}"]
    for measure, by_currency in sorted(certificate.totals.items()):
        for currency, total in sorted(by_currency.items()):
            lines.append(f"  {MEASURES[measure]} {currency}: {_sides(total, currency)}")
    for name, what in sorted(certificate.beside.items())[:MOST_SHOWN]:
        lines.append(f"  not in these totals: {name} {what}")
    if (more := len(certificate.beside) - MOST_SHOWN) > 0:
        lines.append(f"  and {more} Accounts more that are billed in further currencies: --json has them all")
    for each in certificate.differences[:MOST_SHOWN]:
        what = f"{each.difference_class}: {_repair(each)}"
        lines.append(
            f"  {each.account} {MEASURES[each.measure]} {each.currency}: {_sides(each, each.currency)}, {what}"
        )
    if (more := len(certificate.differences) - MOST_SHOWN) > 0:
        lines.append(f"  and {more} figures more that differed: --json has them all")
    lines.extend(f"  left: {each.account} {each.subject}: {each.what}" for each in certificate.left)
    return "\n".join(lines)


def _sides(found: Total | Figure, currency: str) -> str:
    shown, billed, off = (
        f"{Money(minor, currency).decimal():,}" for minor in (found.salesforce, found.stripe, found.difference)
    )
    return f"Salesforce {shown}, Stripe {billed}, difference {off}"


def _repair(figure: Figure) -> str:
    return "not yet: see what is left for this Account" if figure.left else "written to the Account"
