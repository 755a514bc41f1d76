"""Sandboxes that lack one behaviour each: what a switch turns off, and a process that runs without it.

A switch replaces a function of the sandbox, so the product needs no hidden flags. Run as a module, it starts the
sandbox's own command line with the switch that the environment variable names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sync_pipeline.sandbox import connections
from sync_pipeline.sandbox.command import sandbox as command
from sync_pipeline.sandbox.courier import Courier
from sync_pipeline.sandbox.faults import Rule
from sync_pipeline.sandbox.salesforce.database import Database
from sync_pipeline.sandbox.salesforce.rest import collections
from sync_pipeline.sandbox.salesforce.rest.request import Answer
from sync_pipeline.sandbox.salesforce.saving import Saver
from sync_pipeline.sandbox.store import Store
from sync_pipeline.sandbox.stripe import idempotency, listing, pictures, subscription_changes, webhooks, world
from sync_pipeline.sandbox.stripe.world import World
from sync_pipeline.sandbox.world import Sandbox

CHOSEN = "SANDBOX_MUTANT"
# (owner, name of the attribute, replacement): `setattr`, or a patch that is undone.
Patch = Callable[[Any, str, Any], None]
Switch = Callable[[Patch], None]


def what_was_dropped_was_done(patch: Patch) -> None:
    _with_faults(patch, "drop_before", True)


def what_was_dropped_after_was_not_done(patch: Patch) -> None:
    _with_faults(patch, "drop_after", False)


def _with_faults(patch: Patch, kind: str, commits: bool) -> None:
    answer = Sandbox.answer

    def wrong(self: Sandbox, side: str, call: Any, fault: Any = None) -> Any:
        if fault is not None and fault.kind == kind:
            fault = replace(fault, commits=commits)
        return answer(self, side, call, fault)

    patch(Sandbox, "answer", wrong)


def truncated_answers_are_whole(patch: Patch) -> None:
    patch(connections, "_first_half", lambda body: body)


def faults_strike_for_ever(patch: Patch) -> None:
    strikes = Rule.strikes

    def wrong(self: Rule, side: str, call: Any) -> bool:
        self.times = None
        return strikes(self, side, call)

    patch(Rule, "strikes", wrong)


def failed_deliveries_are_given_up(patch: Patch) -> None:
    patch(webhooks, "record", lambda world, key, status: webhooks._settle(world, key, {}))


def signatures_carry_the_sandboxes_time(patch: Patch) -> None:
    due = webhooks.due
    patch(webhooks, "due", lambda world: due(world, wall=lambda: float(world.clock.now())))


def signatures_are_made_once(patch: Patch) -> None:
    headers = webhooks._headers
    made: dict[str, dict[str, str]] = {}
    patch(webhooks, "_headers", lambda body, secrets, at: made.setdefault(str(secrets), headers(body, secrets, at)))


def doubled_deliveries_come_once(patch: Patch) -> None:
    _with_fate(patch, doubled=False)


def lost_deliveries_arrive(patch: Patch) -> None:
    _with_fate(patch, lost=False)


def _with_fate(patch: Patch, **wrong: Any) -> None:
    draw = Courier._draw_fate
    patch(Courier, "_draw_fate", lambda self: replace(draw(self), **wrong))


def reset_changes_nothing(patch: Patch) -> None:
    patch(Sandbox, "restore", lambda self, state: None)


def snapshots_forget_idempotency_keys(patch: Patch) -> None:
    snapshot = Store.snapshot
    patch(Store, "snapshot", lambda self: {k: v for k, v in snapshot(self).items() if k != "idempotency"})


def idempotency_keys_are_forgotten(patch: Patch) -> None:
    patch(idempotency, "recall", lambda *_: None)


def external_ids_are_not_looked_up(patch: Patch) -> None:
    patch(Database, "where", lambda self, o, f, value: [])


def collections_answer_backwards(patch: Patch) -> None:
    run = collections._run

    def wrong(request: Any, writes: Any) -> Answer:
        answer = run(request, writes)
        return Answer(answer.status, answer.body[::-1])

    patch(collections, "_run", wrong)


def roll_ups_leave_the_parents_stamp(patch: Patch) -> None:
    stamp = Saver.stamp

    def wrong(self: Saver, o: Any, row: Any, changes: Any, actor: Any) -> Any:
        return self.db.put(o, row | changes) if changes else stamp(self, o, row, changes, actor)

    patch(Saver, "stamp", wrong)


def pages_skip_a_row(patch: Patch) -> None:
    newest_first = World.newest_first

    def wrong(self: World, kind: str, before: int | None = None, after: int | None = None) -> Iterator[Any]:
        rows = newest_first(self, kind, before, after)
        if before is not None:
            next(rows, None)
        return rows

    patch(World, "newest_first", wrong)


def updates_tell_the_new_values_as_previous(patch: Patch) -> None:
    difference = pictures.difference
    patch(pictures, "difference", lambda before, after: difference(after, before))


def timers_fire_when_the_clock_stops(patch: Patch) -> None:
    def wrong(self: Sandbox, now: int) -> Iterator[int]:
        self.clock.move_to(now)
        self.tick()
        yield now

    fire = World.fire
    patch(Sandbox, "steps_to", wrong)
    patch(World, "fire", lambda self, key, due: fire(self, key, self.clock.now()))


def canceled_subscriptions_are_listed(patch: Patch) -> None:
    matching = listing._matching

    def wrong(world: World, kind: str, filters: Any, *bounds: Any, **named: Any) -> Any:
        shown = {"status": "all"} | filters if kind == "subscription" else filters
        return matching(world, kind, shown, *bounds, **named)

    patch(listing, "_matching", wrong)


def endpoints_hear_everything(patch: Patch) -> None:
    patch(world, "hears", lambda endpoint, type: True)


def changes_are_not_credited(patch: Patch) -> None:
    patch(subscription_changes, "credit", lambda *_: None)


def requests_do_not_roll_back(patch: Patch) -> None:
    @contextmanager
    def wrong(self: Store) -> Iterator[None]:
        yield

    patch(Store, "transaction", wrong)


if __name__ == "__main__":
    globals()[os.environ[CHOSEN]](setattr)
    command()
