"""What each write to Salesforce leaves behind, imagined: the world after it, or None where that cannot be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import Any

from sync_pipeline.core.observation import Present
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import (
    SALESFORCE_RECORDS,
    Contract,
    LineItem,
    Opportunity,
    SyncConflict,
    kind_of,
)
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Deal, World
from sync_pipeline.core.written import ONCE_ONLY


def record_changed(world: World, rules: Rules, body: Mapping[str, Any]) -> World | None:
    """One Salesforce record with its new values, wherever in the world it stands."""

    def changed(record: Any) -> Any:
        return _with_fields(rules, record, body["fields"]) if record and record.id == body["id"] else record

    account = world.account
    deals = tuple(
        replace(
            deal,
            opportunity=changed(deal.opportunity),
            lines=tuple(map(changed, deal.lines)),
            contract=changed(deal.contract),
        )
        for deal in world.deals
    )
    return replace(
        world,
        account=Present(changed(account.value)) if isinstance(account, Present) else account,
        deals=tuple(_with_contracts(deals)),
        churn_records=tuple(map(changed, world.churn_records)),
        renewals=tuple(map(changed, world.renewals)),
        tasks=tuple(map(changed, world.tasks)),
        conflict_records=tuple(map(changed, world.conflict_records)),
    )


def record_with(world: World, rules: Rules, body: Mapping[str, Any]) -> str | None:
    """The id of the record that an update has set, or an upsert made, where one is there and has these values."""
    for each in world.salesforce_records:
        names = rules.salesforce[kind_of(each)]
        if names.object != body["object"] or each.id != body.get("id", each.id):
            continue
        key = {body["external_field"]: body["external_id"]} if "external_field" in body else {}
        if _with_fields(rules, each, {**body["fields"], **key}) == each:
            return str(each.id)
    return None


def record_made(world: World, rules: Rules, body: Mapping[str, Any]) -> World | None:
    """A churn or conflict record, a renewal, a Contract or a line; of others nothing is planned."""
    kind = next((k for k in ONCE_ONLY if rules.salesforce[k].object == body["object"]), None)
    if kind is None or kind not in SALESFORCE_RECORDS:
        return None
    ids = {"id": f"(new {body['object']} {body['external_id']})"}
    if kind == "line":
        ids["opportunity_id"] = body["fields"][rules.salesforce[kind].fields["opportunity_id"]]
    made = SALESFORCE_RECORDS[kind](**ids)
    made = _with_fields(rules, made, {body["external_field"]: body["external_id"], **body["fields"]})
    if isinstance(made, Opportunity):
        return replace(world, renewals=(*world.renewals, made))
    if isinstance(made, Contract):
        bills = {link.subject for link in world.links if link.external_id == made.stripe_subscription_id}
        deals = [replace(deal, contract=made) if deal.opportunity.id in bills else deal for deal in world.deals]
        return replace(world, deals=tuple(_with_contracts(deals)))
    if isinstance(made, LineItem):
        return replace(world, deals=tuple(_with_line(world, deal, made) for deal in world.deals))
    if isinstance(made, SyncConflict):
        return replace(world, conflict_records=(*world.conflict_records, made))
    return replace(world, churn_records=(*world.churn_records, made))


def _with_contracts(deals: Sequence[Deal]) -> Iterator[Deal]:
    """Each deal with the Contract that the next look finds: one that names none has that of the subscription that it
    names."""
    by_subscription = {deal.contract.stripe_subscription_id: deal.contract for deal in deals if deal.contract}
    for deal in deals:
        contract, named = deal.contract, deal.opportunity.stripe_subscription_id
        if contract is None and deal.opportunity.contract_id is None and named is not None:
            contract = by_subscription.get(named)
        yield replace(deal, contract=contract)


def _with_line(world: World, deal: Deal, made: LineItem) -> Deal:
    """The deal with a line that is made on it; Salesforce copies what the line shows of its product."""
    if deal.opportunity.id != made.opportunity_id:
        return deal
    lines = [line for each in world.deals for line in each.lines]
    amended = (line for line in lines if line.id == made.amends_line_id)
    same_entry = (line for line in lines if line.pricebook_entry_id == made.pricebook_entry_id)
    listed = (entry for entry in world.listed if entry.id == made.pricebook_entry_id)
    sold = next(chain(amended, same_entry, listed))
    shown = {name: getattr(sold, name) for name in ("product_id", "product_name", "product_family")}
    return replace(deal, lines=(*deal.lines, replace(made, **shown)))


def _with_fields(rules: Rules, record: Any, fields: Mapping[str, Any]) -> Any:
    names = {api: name for name, api in rules.salesforce[kind_of(record)].fields.items()}
    known = {names[api]: value for api, value in fields.items() if api in names and hasattr(record, names[api])}
    return replace(record, **{name: _as_read(name, value) for name, value in known.items()})


def _as_read(name: str, value: Any) -> Any:
    """A value that is sent, as it will be read: moments are sent as ISO texts."""
    if name.endswith("_at") and isinstance(value, str):
        return int(datetime.fromisoformat(value).timestamp()) * MICROS
    return value
