"""Tax by fixed rates: per line, exclusive on top or inclusive within, nothing where the customer is exempt."""

from __future__ import annotations

from fractions import Fraction

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.money import round_half_up
from sync_pipeline.sandbox.stripe.world import World

_REASONS = {"none": "standard_rated", "exempt": "customer_exempt", "reverse": "reverse_charge"}


def check_rates(world: World, ids: list[str] | None, param: str) -> list[str] | None:
    for i, id in enumerate(ids or ()):
        world.need("tax_rate", id, f"{param}[{i}]")
    return ids or None


def apply_taxes(world: World, invoice: Row, lines: list[Row], exemption: str) -> tuple[list[Row], list[Row], int, int]:
    """The lines with their taxes, the invoice's `total_taxes`, and the sums of inclusive and exclusive tax."""
    totals: dict[str, Row] = {}
    taxed, sums = [], {"inclusive": 0, "exclusive": 0}
    for line in lines:
        rates = line.get("_tax_rates") or invoice.get("_tax_rates") or ()
        net = line["amount"] - sum(part["amount"] for part in line["discount_amounts"])
        taxes = []
        for id in rates:
            rate = world.store.table("tax_rate")[id]
            tax = _tax(rate, net, exemption)
            taxes.append(tax)
            sums[tax["tax_behavior"]] += tax["amount"]
            total = totals.setdefault(id, {**tax, "amount": 0, "taxable_amount": 0})
            total["amount"] += tax["amount"]
            total["taxable_amount"] += tax["taxable_amount"]
        taxed.append({**line, "taxes": taxes})
    return taxed, list(totals.values()), sums["inclusive"], sums["exclusive"]


def _tax(rate: Row, net: int, exemption: str) -> Row:
    percent = Fraction(str(rate["percentage"])) / 100 if exemption == "none" else Fraction(0)
    if rate["inclusive"]:
        amount = round_half_up(net - net / (1 + percent))
        taxable = net - amount
    else:
        amount, taxable = round_half_up(net * percent), net
    return {
        "amount": amount, "tax_behavior": "inclusive" if rate["inclusive"] else "exclusive",
        "tax_rate_details": {"tax_rate": rate["id"]}, "taxability_reason": _REASONS[exemption],
        "taxable_amount": taxable, "type": "tax_rate_details",
    }  # fmt: skip


def unsupported_automatic(params: Row) -> None:
    if (params.get("automatic_tax") or {}).get("enabled"):
        raise errors.unsupported("automatic tax", "automatic_tax[enabled]")
