"""Stories with exactly one thing going wrong, at every place where it can: the end must be as if nothing had.

A story is played undisturbed first, which tells its calls and boundaries. Then it is played again for every call with
every way in which its system can fail, and with a worker killed, and one that stands still, wherever that makes a
difference. Whoever is killed leaves behind what he has written: it is the same everywhere from one transaction or write
to the next. Whoever stands still has seen what he has read, and has done nothing more before he begins the next thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sync_pipeline.simulator.campaign import campaign
from sync_pipeline.simulator.people import DAY, HOUR, Action
from sync_pipeline.simulator.play import Plan, Result, play
from sync_pipeline.simulator.stage import Strike, Weather
from sync_pipeline.simulator.transport import SALESFORCE_TROUBLE, STRIPE_TROUBLE

WON = Action(0, "win", 0, 0)
PAID = (WON, Action(4 * DAY, "pay", 0, 0))
MONTHLY = 1
"""The customer who is billed by the month."""

STORIES: Mapping[str, tuple[Action, ...]] = {
    "golden": (
        *PAID,
        Action(31 * DAY, "edit seats at Stripe", 0, 28),
        Action(180 * DAY, "rename the Account", 0, 7),
        Action(31 * DAY, "schedule the end", 0, 0),
        Action(HOUR, "take the end back", 0, 0),
        Action(4 * DAY, "cancel at once", 0, 0),
    ),
    "paid": PAID,
    "seats_in_salesforce": (*PAID, Action(31 * DAY, "edit seats in Salesforce", 0, 28)),
    "seats_at_stripe": (*PAID, Action(31 * DAY, "edit seats at Stripe", 0, 28)),
    "names": (WON, Action(HOUR, "rename the Account", 0, 7), Action(HOUR, "rename the customer", 0, 8)),
    "failed_payment": (
        Action(0, "win", MONTHLY, 0),
        Action(HOUR, "fail to pay", MONTHLY, 0),
        Action(31 * DAY + 2 * HOUR, "rename the Account", 0, 7),
        Action(HOUR, "pay", MONTHLY, 0),
        Action(7 * DAY, "rename the Account", 0, 8),
    ),
    "refund": (*PAID, Action(HOUR, "refund", 0, 12)),
    "end_taken_back": (WON, Action(HOUR, "schedule the end", 0, 0), Action(HOUR, "take the end back", 0, 0)),
    "cancelled": (*PAID, Action(31 * DAY, "cancel at once", 0, 0)),
    "reopened": (WON, Action(HOUR, "reopen the deal", 0, 0), Action(HOUR, "win", 0, 0)),
    "figures_by_hand": (*PAID, Action(HOUR, "edit figures by hand", 0, 3)),
    "two_deals": (WON, Action(0, "win", MONTHLY, 0)),
}
BY_CARD = frozenset({"failed_payment"})
KINDS = {"stripe": STRIPE_TROUBLE, "salesforce": SALESFORCE_TROUBLE}
OF_WRITES = frozenset({"lost after", "late", "stripe_500 committed"})
"""They differ from the others by what the call has done at its system: of a call that only reads, by nothing."""
READS = ("after GET ", "after POST /services/oauth2/")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong in a story: its plan, and in words."""

    words: str
    plan: Plan


def undisturbed(story: str) -> Plan:
    return Plan(0, STORIES[story], (), Weather(), by_card=story in BY_CARD, patient=True)


def faults(plan: Plan, found: Result) -> Iterator[Fault]:
    """Everything that can go wrong once in a plan, whose undisturbed result is `found`."""
    for number, (side, name, writes) in enumerate(found.calls, start=1):
        for kind in KINDS[side]:
            if kind in OF_WRITES and not writes:
                continue
            yield Fault(f"call {number}, {name}: {kind}", replace(plan, trouble=((number, kind),)))
    for number, boundary in enumerate(found.boundaries, start=1):
        place = f"boundary {number}, {boundary.name}"
        if not boundary.name.startswith("after "):
            continue
        if not boundary.name.startswith(READS):
            yield Fault(f"{place}: killed", replace(plan, strike=Strike(number, "kill")))
        if boundary.may_stand:
            yield Fault(f"{place}: stands still", replace(plan, strike=Strike(number, "pause")))


def play_faults(story: str, *, every: int, processes: int) -> Iterator[tuple[str, list[str]]]:
    """Each `every`-th fault of a story in words, and what it changes in the end: nothing, where all is well."""
    plan = undisturbed(story)
    wanted = play(plan)
    yield "undisturbed", wanted.violations
    chosen = list(faults(plan, wanted))[::every]
    results = campaign((fault.plan for fault in chosen), processes)
    for fault, result in zip(chosen, results, strict=True):
        yield fault.words, differences(result, wanted)


def differences(found: Result, wanted: Result) -> list[str]:
    """What of a faulty result is not as it should be."""
    missing = [f"missing: {line}" for line in wanted.end_state if line not in found.end_state]
    beyond = [f"beyond: {line}" for line in found.end_state if line not in wanted.end_state]
    counted = (
        ["some lines stand another number of times"]
        if not missing and not beyond and found.end_state != wanted.end_state
        else []
    )
    return [*found.violations, *missing, *beyond, *counted]
