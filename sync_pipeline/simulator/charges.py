"""I4 of what is charged once: it is charged once, and at its price, or a person is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from sync_pipeline.sandbox.world import Sandbox
from sync_pipeline.simulator.people import ENDED, ONE_TIME

Row = Mapping[str, Any]


def charges(
    sandbox: Sandbox, salesforce: Mapping[str, Sequence[Row]], subscriptions: Sequence[Row], told: Collection[str]
) -> Iterator[str]:
    """What does not hold, in words. `told` are the matters of which a person was told, as rule:subject."""
    items: dict[str, list[Row]] = defaultdict(list)
    for item in sandbox.stripe.world.store.table("invoiceitem").values():
        for name in _named(item):
            items[name].append(item)
    won = {o["Id"] for o in salesforce["Opportunity"] if o["StageName"] == "Closed Won"}
    running = {each["metadata"].get("sf_opportunity_id") for each in subscriptions if each["status"] not in ENDED}
    lines = [line for line in salesforce["OpportunityLineItem"] if is_charged_once(sandbox, line)]
    price = {line["Id"]: Fraction(str(line["Quantity"])) * Fraction(str(line["UnitPrice"])) * 100 for line in lines}
    for line in lines:
        found, deal = items[line["Id"]], line["OpportunityId"]
        if len(found) > 1:
            yield f"I4: {line['Id']} is charged {len(found)} times"
        is_told = f"late_charge:{line['Id']}" in told or f"missing_subscription:{deal}" in told
        if deal not in won & running or is_told:
            continue
        if not found:
            yield f"I4: {line['Id']} of {deal} is not charged, and nobody is told"
        for charge in found:
            wanted = sum((price.get(name, Fraction(0)) for name in _named(charge)), Fraction(0))
            if wanted != charge["amount"] and not any(f"late_charge:{name}" in told for name in _named(charge)):
                yield f"I4: {charge['id']} charges {charge['amount']}, its lines come to {wanted}"


def is_charged_once(sandbox: Sandbox, line: Row) -> bool:
    """Whether a line of an Opportunity is of a product that is charged once."""
    store = sandbox.salesforce.org.store
    product = store.table("PricebookEntry")[line["PricebookEntryId"]]["Product2Id"]
    return bool(store.table("Product2")[product].get("Family") == ONE_TIME)


def _named(item: Row) -> list[str]:
    """The lines that an invoice item charges. Nothing is left of a deleted one but its id."""
    said = (item.get("metadata") or {}).get("sf_line_id") or ""
    return [each for each in said.split(",") if each]
