"""The certificate of a reconcile as text for people and as data for machines. Amounts in data are minor units."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sync_pipeline.core.money import Money
from sync_pipeline.engine.reconcile import Certificate

MEASURES = {"mrr": "MRR", "lifetime_value": "Lifetime value"}


def as_data(certificate: Certificate) -> dict[str, Any]:
    return {
        "agrees": certificate.agrees,
        "at": datetime.fromtimestamp(certificate.at // 1_000_000, UTC).isoformat(),
        "accounts": certificate.accounts,
        "agreed": certificate.agreed,
        "repaired": certificate.repaired,
        "writes": certificate.writes,
        "left": [{"account": each.account, "subject": each.subject, "what": each.what} for each in certificate.left],
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
    }


def as_text(certificate: Certificate) -> str:
    when = datetime.fromtimestamp(certificate.at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    verdict = "Salesforce and Stripe agree" if certificate.agrees else "Salesforce and Stripe differ"
    counts = (
        f"{certificate.accounts} accounts compared, {certificate.agreed} agreed, {certificate.repaired} repaired "
        f"with {certificate.writes} writes, {len(certificate.left)} matters left"
    )
    lines = [f"Certificate of {when}: {verdict}", f"  {counts}"]
    for measure, by_currency in sorted(certificate.totals.items()):
        for currency, total in sorted(by_currency.items()):
            shown, billed, off = (
                f"{Money(minor, currency).decimal():,}" for minor in (total.salesforce, total.stripe, total.difference)
            )
            lines.append(f"  {MEASURES[measure]} {currency}: Salesforce {shown}, Stripe {billed}, difference {off}")
    lines.extend(f"  left: {each.account} {each.subject}: {each.what}" for each in certificate.left)
    return "\n".join(lines)
