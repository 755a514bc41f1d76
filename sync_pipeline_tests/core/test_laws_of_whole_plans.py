"""The laws of the planner over whole plans: one pair of systems at rest is disturbed twice, on both sides and under any
setting of the rules, and each time every round of the plan is played until nothing is left.

L2, L4, L7, L8, L9, L10 and L11 of sync-theory 1.2; the others are in test_perturbed_twice.py (L1, L3, L5, L6, L12) and,
over anything that could ever be looked at, in test_planner_laws.py.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from sync_pipeline.core import canonical
from sync_pipeline.core.billed_items import QUANTITY, RATE, remembered_rate
from sync_pipeline.core.cancel_dates import RULE as CANCEL_DATE
from sync_pipeline.core.commands import Command, FieldChange, Plan
from sync_pipeline.core.contraction import is_contraction
from sync_pipeline.core.observation import Present, Unknown
from sync_pipeline.core.plan import plan
from sync_pipeline.core.salesforce_records import ChurnRecord
from sync_pipeline.core.stripe_lines import ITEMS
from sync_pipeline.core.world import World
from sync_pipeline_tests.core.disturbances import at_rest, disturb, just_won, settings_of_terms, some_disturbances
from sync_pipeline_tests.core.making import OPPORTUNITY, PERSONAL_KEY, RULES
from sync_pipeline_tests.core.worlds import worlds

some = settings(max_examples=60)
TERMS = frozenset({QUANTITY, RATE, ITEMS, CANCEL_DATE, "customer.name", "customer.address", "line.stripe_item_id"})
"""What people agree on and edit. Everything else follows from what is billed, and moves with it."""
ACCEPTED = {
    "on_stripe_quantity": "accept",
    "on_stripe_price": "accept",
    "on_stripe_items": "accept",
    "changes_after_billing": "carry",
    "removed_lines": "carry",
}


@some
@given(settings_of_terms, some_disturbances, some_disturbances)
def test_a_whole_plan_brings_both_systems_to_rest(rules: dict[str, str], first: list[str], second: list[str]) -> None:
    """L2, L7, L8: applied round by round, a plan ends after four at most, and then nothing is left, now and later. A
    term gets its last value in the round that writes it; what follows from terms is never written without moving."""
    both = at_rest(**rules)
    for names in (first, second):
        disturb(both, names)
        written: dict[tuple[str, str], list[FieldChange]] = defaultdict(list)
        rounds = both.settle(most=4)
        event(f"{len(rounds) - 1} rounds")
        for command in (command for planned in rounds for command in planned.sent_first):
            for change in command.changes:
                written[command.target, change.field].append(change)
        for changes in written.values():
            assert all(before.new != after.new for before, after in pairwise(changes))
            assert len(changes) == 1 or not TERMS & {change.rule for change in changes}
        for _ in range(3):
            assert _is_quiet(both.step())


def _is_quiet(planned: Plan) -> bool:
    return planned.commands == () and planned.conflicts == ()


@some
@given(settings_of_terms, some_disturbances, some_disturbances)
@example(ACCEPTED, [], ["one of two lines is taken off", "seats are bought in the portal", "seats are edited"])
def test_no_side_is_told_what_it_has_the_word_on(rules: dict[str, str], first: list[str], second: list[str]) -> None:
    """L4: a figure that Stripe owns is never written to Stripe, a name that Salesforce owns never to Salesforce, and a
    term of the deal is written in Salesforce only where the rules accept it and Salesforce itself has not moved."""
    both = at_rest(**rules)
    for names in (first, second):
        disturb(both, names)
        for _ in range(5):
            seen, base = both.observe(), dict(both.base)
            for command in both.step().commands:
                for change in command.changes:
                    _is_allowed(rules, seen, base, command, change)


def _is_allowed(
    rules: dict[str, str], seen: World, base: dict[tuple[str, str], str], command: Command, change: FieldChange
) -> None:
    system = command.action.partition(".")[0]
    owners = {rule.target: rule.owner for rule in RULES.fields}
    if change.rule in owners:
        assert system != owners[change.rule]
    in_salesforce = system == "salesforce"
    line = next((line for deal in seen.deals for line in deal.lines if line.id == command.subject), None)
    if change.rule == QUANTITY and in_salesforce:
        assert rules["on_stripe_quantity"] == "accept"
        assert line is not None
        # Seats that moved from one line of an item to another are no edit of what the item bills.
        assert isinstance(seen.billing, Present)
        (item,) = [item for item in seen.billing.value.items if line.id in item.line_ids]
        shown = {each.id: each.quantity or Decimal(0) for deal in seen.deals for each in deal.lines}
        agreed = sum(Decimal(canonical.decode(base[name, QUANTITY])) for name in item.line_ids)
        assert agreed == sum(shown.get(name, Decimal(0)) for name in item.line_ids)
    if change.rule == RATE and in_salesforce:
        assert rules["on_stripe_price"] == "accept"
        assert line is not None
        assert remembered_rate(base[line.id, RATE]).unit_amount == (line.unit_price or Decimal(0)) * 100
    if change.rule == ITEMS and in_salesforce:
        assert rules["on_stripe_items"] == "accept"
    if change.rule in (QUANTITY, RATE) and not in_salesforce and change.put_back is None:
        assert _moved(seen, base, _lines_of(seen, command))
    if change.put_back is not None and change.rule in (QUANTITY, RATE, ITEMS):
        setting = {QUANTITY: "on_stripe_quantity", RATE: "on_stripe_price", ITEMS: "on_stripe_items"}[change.rule]
        assert rules[setting] == "revert"


def _lines_of(seen: World, command: Command) -> tuple[str, ...]:
    assert isinstance(seen.billing, Present)
    entries = command.body["params"].get("items", ())
    changed = {command.body["id"], *(entry.get("id") for entry in entries)}
    return tuple(name for item in seen.billing.value.items if item.id in changed for name in item.line_ids)


def _moved(seen: World, base: dict[tuple[str, str], str], names: tuple[str, ...]) -> bool:
    """Whether Salesforce says something else of these lines than what both last agreed on, or of which there are."""
    lines = {line.id: line for deal in seen.deals for line in deal.lines}
    for name in names:
        line, quantity, rate = lines.get(name), base.get((name, QUANTITY)), base.get((name, RATE))
        if line is None or quantity is None or rate is None:
            return True
        if Decimal(canonical.decode(quantity)) != line.quantity:
            return True
        if remembered_rate(rate).unit_amount != (line.unit_price or Decimal(0)) * 100:
            return True
    return False


@settings(max_examples=80)
@example({}, [["the invoice is paid"], ["the first payment is typed earlier"], ["the deal is set back to Pending"]])
@example({}, [["the deal is set to Activated"], ["seats are edited"]])
@given(settings_of_terms, st.lists(some_disturbances, min_size=2, max_size=4))
def test_what_only_goes_forward_never_goes_back(rules: dict[str, str], life: list[list[str]]) -> None:
    """L10: whatever happens, the sync never takes an activation back, makes a first payment later, opens an episode of
    churn that is over, loses a record that it has made once, or forgets money."""
    both = at_rest(**rules)
    for names in life:
        disturb(both, names)
        for _ in range(4):
            before, facts = dict(both.records), list(both.facts)
            both.step()
            deal, was = both.records[OPPORTUNITY], before[OPPORTUNITY]
            assert (was.activation_status, deal.activation_status) != ("Activated", "Pending")
            if was.first_payment_at is not None:
                assert deal.first_payment_at <= was.first_payment_at
            for key, record in before.items():
                now = both.records[key]
                # What is given up and taken again on one day is told by the sum of the day.
                if isinstance(record, ChurnRecord) and not is_contraction(record) and record.status != "Open":
                    assert now.status == record.status
            assert both.facts[: len(facts)] == facts


@settings(max_examples=100)
@given(
    st.sampled_from(["account", "customers", "billing", "catalogue", "candidates"]),
    st.sampled_from([0, 1, 2, None]),
    settings_of_terms,
    some_disturbances,
)
def test_what_is_not_known_makes_ends_and_clears_nothing(
    part: str, looks: int | None, rules: dict[str, str], names: list[str]
) -> None:
    """L11: while a part of the world is unknown, nothing that hangs on it is made, ended, taken off or cleared: of a
    deal that was just won, is half billed (after so many `looks`), or runs."""
    both = at_rest(**rules) if looks is None else just_won(**rules)
    for _ in range(looks or 0):
        both.step()
    disturb(both, names)
    seen, unknown = both.observe(), Unknown("timeout")
    known = _drastic(plan(seen, both.rules, PERSONAL_KEY))
    event(f"{part}: {', '.join(sorted(known)) or 'nothing drastic'}")
    changed: dict[str, Any] = {part: dict.fromkeys(seen.customers, unknown) if part == "customers" else unknown}
    planned = plan(replace(seen, **changed), both.rules, PERSONAL_KEY)
    left = _drastic(planned)
    if part == "account":
        assert planned == Plan()
    elif part == "candidates":
        assert "make a customer" not in left
    elif part == "catalogue":
        assert not left & {"make a product", "make a price", "make a subscription", "add an item"}
    elif part == "billing" or seen.customers:
        assert left <= {"make a tax_id", "delete a tax_id"}
        assert planned.conflicts == ()


def _drastic(planned: Plan) -> set[str]:
    """What cannot be taken back: things made, ended, taken off or cleared, on either side."""
    found = set()
    for command in planned.commands:
        kind, params = command.body.get("object", command.action), command.body.get("params", {})
        if command.action in ("stripe.create", "stripe.delete"):
            found.add(f"{'make' if command.action == 'stripe.create' else 'delete'} a {kind}")
        if command.action in ("salesforce.upsert", "salesforce.once", "link"):
            found.add(f"make a {kind}")
        if params.get("cancel_at"):
            found.add("end a subscription")
        for entry in params.get("items", ()):
            found.add("take off an item" if entry.get("deleted") else "add an item")
        if command.action == "salesforce.update" and any(change.new in (None, "") for change in command.changes):
            found.add(f"clear a field of {kind}")
    return found


SCRIPT = """
import pickle, sys
from sync_pipeline.core import canonical
from sync_pipeline.core.plan import plan
from sync_pipeline_tests.core.making import PERSONAL_KEY, RULES
print(canonical.sha256([plan(each, RULES, PERSONAL_KEY) for each in pickle.load(sys.stdin.buffer)]))
"""


def _generated() -> list[World]:
    """Worlds of both sorts: of anything that could be looked at, and of two systems that were disturbed."""
    found: list[World] = []

    @settings(max_examples=40, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(worlds(), settings_of_terms, some_disturbances)
    def collect(of: World, rules: dict[str, str], names: list[str]) -> None:
        both = at_rest(**rules)
        disturb(both, names)
        found.extend([of, both.observe()])

    collect()
    return found


def test_a_plan_is_the_same_in_every_process() -> None:
    """L9: whatever a process hashes by, wherever its clock is, and in whatever order its dicts and sets were filled."""
    generated = _generated()
    expected = canonical.sha256([plan(each, RULES, PERSONAL_KEY) for each in generated])
    written = pickle.dumps([_turned(each) for each in generated])
    for seed, zone in (("0", "UTC"), ("4242", "Pacific/Kiritimati"), ("7", "America/St_Johns")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, input=written, capture_output=True)
        assert done.stdout.decode().strip() == expected, done.stderr.decode()


def _turned(of: World) -> World:
    """The same world, whose dicts were filled from the other end."""
    changed: dict[str, Any] = {
        name: dict(reversed(list(getattr(of, name).items())))
        for name in ("customers", "base", "reverts", "record_types")
    }
    if isinstance(of.catalogue, Present):
        prices = dict(reversed(list(of.catalogue.value.prices.items())))
        changed["catalogue"] = Present(replace(of.catalogue.value, prices=prices))
    return replace(of, **changed)
