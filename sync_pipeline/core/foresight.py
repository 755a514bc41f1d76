"""What a plan leads to: the writes of all its rounds, told beforehand, and the world after them.

A round plans only what is possible at its moment; a person who has to approve wants to see the subscription, not
only the customer that must come before it. So the effects of the writes are imagined, record by record, and the
same planner plans again. It serves previews and guards; what is sent is always planned from a fresh look.

What a vendor makes gets a telling name instead of an id. Effects that only a vendor can know (an invoice, a tax, a
derived field) are left out: what would follow from them is not foreseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.conflict_inbox import with_conflicts
from sync_pipeline.core.crosswalk import SCHEDULE
from sync_pipeline.core.foreseen_salesforce import record_changed, record_made, record_with
from sync_pipeline.core.foreseen_stripe import CREATES, DELETES, UPDATES
from sync_pipeline.core.observation import Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.stripe_records import Subscription, SubscriptionSchedule
from sync_pipeline.core.unrecorded import unrecorded_facts
from sync_pipeline.core.world import Billing, Link, World

MAX_ROUNDS = 8
LOOKED_AT = ("salesforce.update", "salesforce.upsert")
"""Writes of absolute values to Salesforce: a look at the record tells what became of one."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`now` is the plan of this moment, `rounds` the writes in the order in which they become possible, the first of
    them now's; `before` and `after` are the worlds around them. `in_doubt` are those that are wanted and were sent
    already, without an answer. `is_whole` is false where some effect could not be imagined, or something is in doubt,
    so that more may follow.
    """

    before: World
    after: World
    now: Plan
    rounds: tuple[tuple[Command, ...], ...]
    is_whole: bool
    in_doubt: tuple[Command, ...] = ()

    @property
    def commands(self) -> tuple[Command, ...]:
        return tuple(command for commands in self.rounds for command in commands)


def foresee(
    world: World,
    rules: Rules,
    personal_key: bytes,
    billing_of: Callable[[str], Billing],
    look: Callable[[World], World] = lambda world: world,
) -> Foreseen:
    """Plays the planner against the world as its own writes would leave it, until nothing is left to write.

    `billing_of` reads what Stripe holds for a customer that the plan adopts, `look` what a later round needs of Stripe
    that the first did not.
    """
    first = planned = plan(world, rules, personal_key)
    rounds: list[tuple[Command, ...]] = []
    now, is_whole = world, True
    while (planned.commands or planned.conflicts) and len(rounds) < MAX_ROUNDS:
        rounds.append(planned.sent_first)
        now, told = imagine(with_conflicts(now, planned.conflicts), planned.sent_first, rules, billing_of)
        is_whole = is_whole and told
        now = look(now)
        planned = plan(now, rules, personal_key)
    wrote = tuple(filter(None, rounds))
    in_doubt = tuple(command for command in planned.in_doubt if command.target in world.blocked)
    return Foreseen(world, now, first, wrote, is_whole and not planned.commands and not in_doubt, in_doubt)


def imagine(
    world: World, commands: Iterable[Command], rules: Rules, billing_of: Callable[[str], Billing]
) -> tuple[World, bool]:
    """The world after the commands, and whether all their effects could be told."""
    is_whole = True
    for command in commands:
        imagined = _imagine(world, command, rules, billing_of)
        is_whole = is_whole and imagined is not None
        # An effect that cannot be imagined blocks its target, or it would be planned again for ever.
        world = imagined or replace(world, blocked=world.blocked | {command.target})
        base = {(a.subject, a.rule): a.value for a in command.agreements}
        world = replace(world, base={**world.base, **base})
    return replace(world, facts=(*world.facts, *unrecorded_facts(world, rules))), is_whole


def shown(world: World, rules: Rules, action: str, body: Mapping[str, Any]) -> str | None:
    """The object that an update has changed, a create at Stripe has made that customers are billed for, or an upsert
    has made in Salesforce, where the world shows that it has; None where that cannot be told."""
    try:
        if action == "stripe.create":
            return _made(world, body)
        if action in LOOKED_AT:
            return record_with(world, rules, body)
        is_done = UPDATES[body["object"]](world, body) == world or _names_its_lines(world, body)
        return str(body["id"]) if is_done else None
    except LookupError:
        # Another version of this program has written it down, in a form that is not used any more.
        return None


def _names_its_lines(world: World, body: Mapping[str, Any]) -> bool:
    """Whether an item names the lines that an update was to give it, whatever somebody has edited of it since: nobody
    else writes these names, and they are only sent to an item that has others."""
    params = body["params"]
    entries = params.get("items", ()) if body["object"] == "subscription" else ({"id": body["id"], **params},)
    given = {entry["id"]: (entry.get("metadata") or {}).get("sf_line_id") for entry in entries if "id" in entry}
    items = world.billing.value.items if isinstance(world.billing, Present) else ()
    return any(item.line_ids and given.get(item.id) == ",".join(item.line_ids) for item in items)


def _made(world: World, body: Mapping[str, Any]) -> str | None:
    metadata = body["params"]["metadata"]
    if body["object"] == "invoiceitem":
        return world.charged.value.get(metadata["sf_line_id"]) if isinstance(world.charged, Present) else None
    held = world.billing.value if isinstance(world.billing, Present) else Billing()
    # A subscription that a schedule has begun has its metadata.
    of_kind: Mapping[str, Iterable[Subscription | SubscriptionSchedule]] = {
        "subscription": held.subscriptions,
        SCHEDULE: held.schedules,
    }
    return next((each.id for each in of_kind[body["object"]] if each.intent == metadata["sf_intent"]), None)


def _imagine(world: World, command: Command, rules: Rules, billing_of: Callable[[str], Billing]) -> World | None:
    """The world after the command; None when that cannot be told."""
    body = command.body
    match command.action:
        case "link":
            return _linked(world, command, billing_of)
        case "stripe.create":
            create = CREATES.get(body["object"])
            return create(world, command) if create else None
        case "stripe.update":
            update = UPDATES.get(body["object"])
            return update(world, body) if update else None
        case "stripe.delete":
            delete = DELETES.get(body["object"])
            return delete(world, command) if delete else None
        case "salesforce.update":
            return record_changed(world, rules, body)
        case "salesforce.upsert":
            return record_made(world, rules, body)
        case "salesforce.once" | "alert.send":
            return replace(world, once=world.once | {command.key})


def _linked(world: World, command: Command, billing_of: Callable[[str], Billing]) -> World:
    kind, external_id = command.body["kind"], command.body["external_id"]
    links = (*world.links, Link(kind, command.subject, external_id))
    candidates = world.candidates.value if isinstance(world.candidates, Present) else ()
    known = {c.id: c for c in candidates} | {
        name: seen.value for name, seen in world.customers.items() if isinstance(seen, Present)
    }
    if kind != "customer" or external_id not in known:
        return replace(world, links=links)
    billing = world.billing.value if isinstance(world.billing, Present) else Billing()
    if external_id not in world.customers:
        billing += billing_of(external_id)
    customers = {**world.customers, external_id: Present(known[external_id])}
    return replace(world, links=links, customers=customers, billing=Present(billing))
