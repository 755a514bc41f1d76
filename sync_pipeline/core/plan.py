"""The planner: one world in, every write that can be done now out. Pure, total and deterministic.

It emits only what is possible at this moment (the customer first; the subscription in the next round, when
the customer is known), so a plan needs no order between accounts and no compensation: apply, look again, plan
again, until nothing is left. What is wanted stands in the rule modules; here it is collected, and the writes of
one object become one command.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sync_pipeline.core.agreed_terms import unapplied_changes
from sync_pipeline.core.alerts import payment_alerts
from sync_pipeline.core.amended_lines import amended_lines
from sync_pipeline.core.cancel_dates import keep_cancel_dates
from sync_pipeline.core.churn import churn_records
from sync_pipeline.core.commands import Agreement, Command, Entry, LookAgain, Plan, Review
from sync_pipeline.core.conflict import Clash, Conflict
from sync_pipeline.core.conflict_inbox import keep_conflicts
from sync_pipeline.core.contraction import contractions
from sync_pipeline.core.contracts import keep_contracts
from sync_pipeline.core.deal_terms import keep_deal_terms
from sync_pipeline.core.discount_terms import keep_discounts
from sync_pipeline.core.ensure import ensure_everything
from sync_pipeline.core.failure_tasks import payment_failure_tasks
from sync_pipeline.core.fields import keep_fields
from sync_pipeline.core.late_charges import late_charges
from sync_pipeline.core.line_terms import keep_line_terms
from sync_pipeline.core.observation import Absent, Unknown
from sync_pipeline.core.ramp_changes import keep_ramps
from sync_pipeline.core.registrations import keep_registrations
from sync_pipeline.core.renewals import renewal_opportunities
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.term_ends import end_terms
from sync_pipeline.core.world import World


def plan(world: World, rules: Rules, personal_key: bytes) -> Plan:
    """Everything to do now for one account.

    `personal_key` keys the hashes by which personal fields are remembered in the base and the audit.
    """
    if isinstance(world.account, Unknown):
        return Plan()
    if isinstance(world.account, Absent):
        return Plan(reviews=tuple(_deleted_account(world, world.account.proof)))
    entries: list[Entry] = [
        *ensure_everything(world, rules),
        *keep_fields(world, rules, personal_key),
        *amended_lines(world, rules),
        *keep_registrations(world, rules, personal_key),
        *keep_line_terms(world, rules),
        *late_charges(world, rules),
        *keep_deal_terms(world, rules),
        *keep_discounts(world, rules),
        *keep_ramps(world, rules),
        *payment_failure_tasks(world, rules),
        *payment_alerts(world, rules),
        *keep_cancel_dates(world, rules),
        *keep_contracts(world, rules),
        *churn_records(world, rules),
        *renewal_opportunities(world, rules),
        *end_terms(world, rules),
        *unapplied_changes(world, rules),
    ]
    changing = {each.subscription for each in entries if isinstance(each, Command) and each.subscription}
    entries += contractions(world, rules, changing)
    inbox = list(keep_conflicts(world, rules, entries))
    wanted = _one_per_target(entry for entry in (*entries, *inbox) if isinstance(entry, Command))
    commands = sorted(wanted, key=Command.order)
    reviews = [entry for entry in entries if isinstance(entry, Review)]
    reviews += [_undecided(entry) for entry in entries if isinstance(entry, Clash) and entry.winner is None]
    agreements = (entry for entry in entries if isinstance(entry, Agreement))
    later = {entry for entry in entries if isinstance(entry, LookAgain)}
    return Plan(
        commands=tuple(each for each in commands if each.target not in world.blocked),
        reviews=tuple(sorted(reviews, key=lambda review: review.key)),
        agreements=tuple(sorted(agreements, key=lambda agreement: (agreement.subject, agreement.rule))),
        conflicts=tuple(entry for entry in inbox if isinstance(entry, Conflict)),
        waits=tuple(sorted((each for each in later if each.detail), key=lambda each: (each.at, each.subject))),
        look_again_at=min((entry.at for entry in later), default=None),
        # Of all that waits, not of what comes first: a look that may be put off would take that along which may not.
        look_again_as=min((entry.priority for entry in later), default=Priority.BULK),
        in_doubt=tuple(each for each in commands if each.target in world.blocked),
    )


def _one_per_target(commands: Iterable[Command]) -> Iterator[Command]:
    """Merges the writes of one object: all its fields in one request.

    One that asks for something else than the first of them (another proration, another end) waits for the next round.
    """
    merged: dict[str, Command] = {}
    for command in commands:
        first = merged.get(command.key)
        if first is None:
            merged[command.key] = command
        elif not _contradict(first.body, command.body):
            merged[command.key] = _merged(first, command)
    yield from merged.values()


def _merged(first: Command, second: Command) -> Command:
    reasons = sorted({*first.reason.split("; "), *second.reason.split("; ")})
    return replace(
        first,
        priority=min(first.priority, second.priority),
        reason="; ".join(reasons),
        body=_deep_union(first.body, second.body),
        changes=first.changes + second.changes,
        agreements=first.agreements + second.agreements,
    )


def _contradict(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether the two say different things of one part."""
    for key in first.keys() & second.keys():
        mine, theirs = first[key], second[key]
        both = isinstance(mine, Mapping) and isinstance(theirs, Mapping)
        if _contradict(mine, theirs) if both else mine != theirs:
            return True
    return False


def _deep_union(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    united = dict(first)
    for key, value in second.items():
        held = united.get(key)
        both = isinstance(held, Mapping) and isinstance(value, Mapping)
        united[key] = _deep_union(held, value) if both and held is not None else value
    return united


def _undecided(clash: Clash) -> Review:
    rule, subject = clash.standing.rule, clash.standing.subject
    return Review(f"{rule}:{subject}", clash.account, rule, subject, clash.detail)


def _deleted_account(world: World, proof: str) -> Iterator[Review]:
    if any(link.kind == "customer" and link.role != "former" for link in world.links):
        detail = (
            f"the Account is gone ({proof}); its billing goes on untouched: restore it from the recycle bin, "
            "or end its subscriptions at Stripe"
        )
        account = world.account_id
        yield Review(f"deleted_account:{account}", account, "deleted_account", account, detail)
