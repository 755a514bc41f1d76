"""Contracts: one per subscription, made in Draft from the deal, activated by itself, named by the deals that it covers.

Its dates are rows of the rule table. Activation is a write of its own, because Salesforce takes no other field with
it; a Contract that waits for somebody's approval is not activated for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sync_pipeline.core import writing
from sync_pipeline.core.commands import Command
from sync_pipeline.core.crosswalk import deals_by_subscription, own_billing
from sync_pipeline.core.deal import today
from sync_pipeline.core.lifecycle import has_ended
from sync_pipeline.core.part_ids import is_further_part
from sync_pipeline.core.readings import contract_subjects, subscription_of
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import Contract
from sync_pipeline.core.stripe_records import Subscription
from sync_pipeline.core.term import months_of_contract, whole_months
from sync_pipeline.core.world import Deal, World

RULE = "contract"


def keep_contracts(world: World, rules: Rules) -> Iterator[Command]:
    """What has to be made, named or activated, for every subscription that bills a won deal."""
    billing = own_billing(world)
    if billing is None or rules.commercial.contracts == "leave":
        return
    for subscription, deals in deals_by_subscription(world, billing):
        won = [deal for deal in deals if deal.opportunity.is_won]
        if not any(deal.contract for deal in won):
            yield from _new(world, rules, subscription, won)
        yield from _named(world, rules, subscription, won)
    for subject in contract_subjects(world):
        covered = subscription_of(world, subject.deal) if subject.deal is not None else None
        if covered is not None and not has_ended(covered):
            yield from _activated(world, rules, subject.record)


def _new(world: World, rules: Rules, subscription: Subscription, deals: Sequence[Deal]) -> Iterator[Command]:
    """A Contract for a running subscription whose deals name none; an amendment has its deal's."""
    first = next((deal.opportunity for deal in deals if not deal.opportunity.amends_opportunity_id), None)
    named = any(deal.opportunity.contract_id for deal in deals)
    if first is None or named or has_ended(subscription) or rules.commercial.contracts != "create":
        return
    months = whole_months(first)
    values = {
        "account_id": world.account_id,
        "status": rules.commercial.contract_draft,
        "start_date": today(subscription.start_at, rules.commercial).isoformat(),
        "term_months": months and months_of_contract(subscription, months, rules.commercial, world.now),
    }
    yield writing.create(
        world,
        rules,
        "contract",
        subscription.id,
        values,
        key_field="stripe_subscription_id",
        intent=f"contract:{subscription.id}",
        subject=first.id,
        rule=RULE,
        reason="a billed deal has its Contract",
    )


def _named(world: World, rules: Rules, subscription: Subscription, deals: Sequence[Deal]) -> Iterator[Command]:
    """Each Opportunity names the Contract that names its subscription; of one in parts, that of the first."""
    for deal in (each for each in deals if not is_further_part(each.opportunity.id)):
        contract = deal.contract
        if contract is not None and contract.stripe_subscription_id == subscription.id:
            values = {"contract_id": contract.id} if deal.opportunity.contract_id is None else {}
            reason = "the deal names its Contract"
            named = writing.update(world, rules, "opportunity", deal.opportunity, values, rule=RULE, reason=reason)
            if named is not None:
                yield named


def _activated(world: World, rules: Rules, contract: Contract) -> Iterator[Command]:
    commercial = rules.commercial
    if contract.status != commercial.contract_draft:
        return
    values, reason = {"status": commercial.contract_activated}, "its subscription is billed"
    command = writing.update(world, rules, "contract", contract, values, rule=RULE, reason=reason)
    if command is not None:
        target = f"{command.target}/status"
        yield replace(command, key=f"set:{target}", target=target)
