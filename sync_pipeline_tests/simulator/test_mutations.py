"""Defects on purpose: each must break its invariant, or the simulator would not see the like of it."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest
import stripe

from sync_pipeline.core import (
    amendments,
    cancel_dates,
    cash,
    churn,
    customers,
    ensure,
    facts,
    failure_tasks,
    fields,
    kinds,
    late_charges,
    line_terms,
    prices,
    readings,
    two_way,
    unbilled,
)
from sync_pipeline.core import plan as planner
from sync_pipeline.core.commands import Command, Entry
from sync_pipeline.core.commands import Plan as Planned
from sync_pipeline.core.conflict import Clash
from sync_pipeline.core.money import Money
from sync_pipeline.core.observation import Absent, Observation, Present
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.world import World
from sync_pipeline.engine import (
    apply,
    apply_plan,
    budget,
    bulk_lane,
    gathering,
    intake,
    observe,
    reconcile,
    resolve,
    rounds,
    stripe_side,
)
from sync_pipeline.engine.snapshot import SalesforceTables
from sync_pipeline.frames import cash as frames_cash
from sync_pipeline.ledger import attempts, audit, base, bulk_jobs, commands, conflicts, inbox
from sync_pipeline.ledger.tables import audit_head
from sync_pipeline.receiver import app as receiver
from sync_pipeline.simulator.people import Action
from sync_pipeline.simulator.play import Plan, play
from sync_pipeline.simulator.single_faults import differences, faults, undisturbed
from sync_pipeline.simulator.stage import StagedEnv, Weather
from sync_pipeline.systems.outcomes import Outcome
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.writes import Once, Part
from sync_pipeline.systems.stripe import client, errors
from sync_pipeline.systems.stripe.client import Stripe

Defect = Callable[[pytest.MonkeyPatch], None]


def put(place: Any, name: str, value: Any) -> Defect:
    return lambda patch: patch.setattr(place, name, value)


def _fresh_keys(patch: pytest.MonkeyPatch) -> None:
    number = itertools.count()
    patch.setattr(attempts, "idempotency_key", lambda *_: f"fresh-{next(number)}")


def _payments_twice(account: str, billing: Any, now: int) -> Iterator[Any]:
    for fact in PAYMENTS(account, billing, now):
        yield from (fact, replace(fact, external_id=f"{fact.external_id}-again"))


PAYMENTS = cash._payments


def _unaudited(patch: pytest.MonkeyPatch) -> None:
    real = audit.append
    patch.setattr(audit, "append", lambda conn, **row: 0 if "throttled" in row["what"] else real(conn, **row))


def _deletes(self: Stripe, kind: str, object_id: str, params: Any, *, key: str, guard: Any, **_: Any) -> Any:
    with suppress(stripe.StripeError):
        self._client.raw_request("delete", f"/v1/customers/{object_id}")
    return Outcome("rejected", message="on purpose")


def _deaf_to_stripe(patch: pytest.MonkeyPatch) -> None:
    real = inbox.receive

    def receive(conn: Any, events: Any, **told: Any) -> int:
        return real(conn, [each for each in events if each.source == "salesforce"], **told)

    patch.setattr(inbox, "receive", receive)


def _agrees_on(field: str, value: str) -> Defect:
    def put_in(patch: pytest.MonkeyPatch) -> None:
        real = base.put

        def put_other(conn: Any, account: str, entries: Any, now: int) -> None:
            real(conn, account, (replace(each, value=value) if each.field == field else each for each in entries), now)

        patch.setattr(base, "put", put_other)

    return put_in


ENSURE = ensure.ensure_everything


def _no_subscriptions(world: World, rules: Rules) -> Iterator[Entry]:
    for entry in ENSURE(world, rules):
        if not (isinstance(entry, Command) and entry.target.startswith("sub:")):
            yield entry


def _marked_otherwise(kind: str, account: str, body: Mapping[str, Any]) -> Any:
    write = WRITE(kind, account, body)
    if not isinstance(write, Once):
        return write
    name, marked = write.marker
    return replace(write, marker=(name, {**marked, "Key__c": f"another {marked['Key__c']}"}))


WRITE = apply.salesforce_write


def _a_second_late(patch: pytest.MonkeyPatch) -> None:
    def late(world: World, rules: Rules, subject: readings.Subject) -> Observation[Any]:
        seen = readings.first_payment_at(world, rules, subject)
        return Present(seen.value + 1_000_000) if isinstance(seen, Present) else seen

    patch.setitem(cast(Any, readings.READINGS), "first_payment_at", late)


def _loses_the_end(patch: pytest.MonkeyPatch) -> None:
    real = audit.append

    def append(conn: Any, **row: Any) -> int:
        seq = real(conn, **row)
        conn.execute(audit_head.update().where(audit_head.c.account == row["account"]).values(hash="lost"))
        return seq

    patch.setattr(audit, "append", append)


def _counts_days(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(
        cast(Any, readings.READINGS), "account_seats", lambda world, *_: Present(Decimal(world.now // DAY // 1_000_000))
    )


def _ends_for_a_while(patch: pytest.MonkeyPatch) -> None:
    looks = itertools.count()
    patch.setattr(churn, "is_ending", lambda _: next(looks) < 2)


def _refuses_what_passes(patch: pytest.MonkeyPatch) -> None:
    real = errors.outcome_of

    def outcome_of(error: stripe.StripeError) -> Outcome:
        found = real(error)
        return replace(found, state="rejected") if found.state == "throttled" else found

    patch.setattr(client, "outcome_of", outcome_of)
    # Without this, the comparison after the storm would try again what was refused, and mend it.
    patch.setattr(reconcile, "try_again", lambda *_: None)


def _another_conflict_each_time(patch: pytest.MonkeyPatch) -> None:
    number = itertools.count()
    patch.setattr(Clash, "digest", property(lambda _: f"{next(number):016x}"))


def _sends_twice(self: Salesforce, parts: Any, **told: Any) -> Any:
    SEND(self, parts, **told)
    return SEND(self, parts, **told)


def _reads_three_times(world: World, customers: Any, stripe: Any) -> World:
    return BILLING(BILLING(BILLING(world, customers, stripe), customers, stripe), customers, stripe)


def _one_record_more(self: Part) -> list[dict[str, Any]]:
    return [*RECORDS(self), {"attributes": {"type": "Account"}, "id": "001Aa0000000003IAA", "Seats__c": 1}]


def _writes_without_account(world: World, rules: Rules, personal_key: bytes) -> Planned:
    if not isinstance(world.account, Absent):
        return PLAN(world, rules, personal_key)
    name = next(link.external_id for link in world.links if link.kind == "customer")
    written = Command(
        key=f"set:stripe/customer/{name}",
        account=world.account_id,
        target=f"stripe/customer/{name}",
        action="stripe.update",
        priority=Priority.BULK,
        reason="on purpose",
        subject=name,
        body={"object": "customer", "id": name, "params": {"name": f"Deleted at {world.now // 10**10}"}},
    )
    return Planned(commands=(written,))


def _charged_twice_as_much(*told: Any) -> Command:
    made = LATE_CHARGE(*told)
    doubled = str(2 * Decimal(made.body["params"]["quantity_decimal"]))
    return replace(made, body={**made.body, "params": {**made.body["params"], "quantity_decimal": doubled}})


LATE_CHARGE, FRAME_OF_REFUNDS = late_charges._made, frames_cash._refunds


def _loses_merges(patch: pytest.MonkeyPatch) -> None:
    for place in (intake, observe):
        patch.setattr(place, "follow_merges", lambda *_: {})


def _knows_no_amendments(patch: pytest.MonkeyPatch) -> None:
    for place in (amendments, unbilled):
        patch.setattr(place, "is_amendment", lambda *_: False)


def _churns_each_time(patch: pytest.MonkeyPatch) -> None:
    number, real = itertools.count(), churn._new
    patch.setattr(churn, "_new", lambda world, rules, key, values: real(world, rules, f"{key}{next(number)}", values))
    patch.setattr(churn, "churn_records", lambda world, rules: CHURN(replace(world, churn_records=()), rules))
    patch.setattr(planner, "churn_records", churn.churn_records)


PARAMS, NAME = customers._customer_params, fields.field_name
PLAN = planner.plan
SEND, RECORDS, BILLING, CHURN = Salesforce.send, Part.records, stripe_side._with_billing, churn.churn_records

HOUR, DAY = 3600, 86_400
DEAL = (Action(0, "win", 0, 0),)
FAILING = (
    Action(0, "win", 1, 0),
    Action(HOUR, "fail to pay", 1, 0),
    Action(31 * DAY, "rename the Account", 0, 7),
    Action(HOUR, "rename the Account", 0, 8),
)
PAID = (*DEAL, Action(4 * DAY, "pay", 0, 0))
LOST = "lost after, writes"
LOST_ANSWERS = dict.fromkeys(range(1, 400), LOST)


def plan(
    *actions: Action,
    trouble: dict[int, str] | None = None,
    seed: int = 1,
    pause: float = 0,
    by_card: bool = False,
    by_bulk: bool = False,
) -> Plan:
    return Plan(seed, actions, tuple((trouble or {}).items()), Weather(pause=pause), by_card, by_bulk)


CLASH = plan(*DEAL, Action(HOUR, "edit seats on both sides", 0, 28))

DEFECTS: dict[str, tuple[str, Plan, Defect]] = {
    "won deals are not billed": ("I1", plan(*DEAL), put(planner, "ensure_everything", _no_subscriptions)),
    "seats are nobody's business": (
        "I3",
        plan(*DEAL, Action(HOUR, "edit seats in Salesforce", 0, 28)),
        put(line_terms, "decide_quantity", lambda *_: two_way.Decision("leave")),
    ),
    "failed payments are not told": (
        "I5",
        plan(*FAILING, by_card=True),
        put(failure_tasks, "is_failure", lambda _: False),
    ),
    "a Task without its marker": (
        "I5",
        plan(*FAILING, by_card=True),
        put(apply, "salesforce_write", _marked_otherwise),
    ),
    "the first payment came a second later": ("I8", plan(*PAID), _a_second_late),
    "the end of the audit is lost": ("I13", plan(*DEAL), _loses_the_end),
    "a figure moves with time": ("I18", plan(*DEAL), _counts_days),
    "what passes is taken for a refusal, and left so": (
        "I21",
        plan(*DEAL, trouble=dict.fromkeys(range(1, 400), "stripe_lock_timeout, writes")),
        _refuses_what_passes,
    ),
    "the comparison overlooks won deals": (
        "I25",
        plan(Action(0, "rename the Account", 0, 7)),
        put(SalesforceTables, "to_compare", lambda _: iter(())),
    ),
    "a fresh key for each attempt": ("I2", plan(*DEAL, trouble=LOST_ANSWERS), _fresh_keys),
    "refunds are forgotten": (
        "I6",
        plan(*PAID, Action(HOUR, "refund", 0, 12)),
        put(cash, "_refunds", lambda *_: iter(())),
    ),
    "payments count twice": ("I7", plan(*PAID), put(cash, "_payments", _payments_twice)),
    "half of the lifetime value": (
        "I7",
        plan(*PAID),
        put(readings, "lifetime_value", lambda f, c: Money(facts.lifetime_value(f, c).minor // 2, c)),
    ),
    "who has paid is not activated": ("I9", plan(*PAID), put(readings, "invoices_of", lambda *_: [])),
    "what has ended is not churn": (
        "I10",
        plan(*DEAL, Action(HOUR, "cancel at once", 0, 0)),
        put(churn, "has_ended", lambda _: False),
    ),
    "a scheduled end is not seen": (
        "I10",
        plan(*DEAL, Action(HOUR, "schedule the end", 0, 0)),
        put(churn, "is_ending", lambda _: False),
    ),
    "no recurring revenue": (
        "I4",
        plan(*DEAL),
        put(readings, "monthly_recurring_revenue", lambda *_, **__: Money(0, "GBP")),
    ),
    "personal values in the open": (
        "I22",
        plan(*DEAL, Action(HOUR, "rename the Account", 0, 7)),
        put(fields, "remembered", lambda rule, value, key: str(value)),
    ),
    "Stripe's seats never reach Salesforce": (
        "I16",
        plan(*DEAL, Action(HOUR, "edit seats at Stripe", 0, 28)),
        put(two_way, "merge3", lambda left, right, base: "agree" if left == right else "write_right"),
    ),
    "Salesforce's seats never reach Stripe": (
        "I16",
        plan(*DEAL, Action(HOUR, "edit seats in Salesforce", 0, 28)),
        put(two_way, "merge3", lambda left, right, base: "agree" if left == right else "write_left"),
    ),
    "another field is written": ("I11", plan(*DEAL), put(fields, "field_name", lambda rules, rule: "Industry")),
    "another field is written at Stripe": (
        "I11",
        plan(*DEAL),
        put(customers, "_customer_params", lambda *told: {**PARAMS(*told), "email": "somebody@example.com"}),
    ),
    "an end that nobody takes back is rescinded": (
        "I10",
        plan(*DEAL, Action(HOUR, "rename the Account", 0, 7)),
        _ends_for_a_while,
    ),
    "customers are deleted": (
        "I17",
        plan(*DEAL, Action(HOUR, "rename the Account", 0, 7)),
        put(Stripe, "update", _deletes),
    ),
    "what was throttled is not audited": (
        "I12",
        plan(*DEAL, trouble=dict.fromkeys(range(1, 400), "stripe_429, writes")),
        _unaudited,
    ),
    "old keys are used for ever": (
        "I14",
        plan(
            *DEAL,
            Action(25 * HOUR, "rename the Account", 0, 7),
            trouble=dict.fromkeys(range(1, 400), "lost before, writes"),
        ),
        put(resolve, "_key_is_spent", lambda *_: False),
    ),
    "nobody looks at the deadline": (
        "I14",
        plan(*DEAL, *(Action(300, "rename the Account", 0, n) for n in range(6)), pause=0.05, seed=2),
        put(apply, "_guard", lambda *_: lambda: None),
    ),
    "a fresh key for each attempt of an update": (
        "I15",
        plan(*DEAL, Action(HOUR, "rename the Account", 0, 7), trouble=dict.fromkeys(range(45, 400), "late, writes")),
        _fresh_keys,
    ),
    "what is as it should be is written again": (
        "I19",
        plan(*DEAL),
        lambda patch: patch.setitem(cast(Any, kinds.KINDS), "mirror", lambda *_: "write"),
    ),
    "events of Stripe wake nobody": (
        "I20",
        plan(*FAILING, by_card=True),
        _deaf_to_stripe,
    ),
    "the reserves are anybody's": (
        "I20",
        plan(*PAID, Action(60, "use the calls of the day", 0, 2), Action(HOUR, "edit seats in Salesforce", 0, 28)),
        put(budget, "least_urgent", lambda *_: max(Priority)),
    ),
    "what is charged once is not charged": (
        "I4",
        plan(*DEAL, Action(HOUR, "sell a one-time charge", 0, 28)),
        put(planner, "late_charges", lambda *_: iter(())),
    ),
    "what is charged once is charged at another price": (
        "I4",
        plan(*DEAL, Action(HOUR, "sell a one-time charge", 0, 28)),
        put(late_charges, "_made", _charged_twice_as_much),
    ),
    "Polars forgets what went back": (
        "I6",
        plan(*PAID, Action(HOUR, "refund", 0, 12)),
        put(frames_cash, "_refunds", lambda listings: FRAME_OF_REFUNDS(listings).clear()),
    ),
    "anybody may post": (
        "I23",
        plan(*DEAL),
        put(receiver, "verify", lambda payload, *_: json.loads(payload)),
    ),
    "the base remembers what nobody held": (
        "I27",
        plan(*DEAL, Action(HOUR, "rename the Account", 0, 7)),
        _agrees_on("item.quantity", '"21"'),
    ),
    "the base remembers a name that nobody had": (
        "I27",
        plan(*DEAL, Action(HOUR, "rename the Account", 0, 7)),
        _agrees_on("customer.name", "hmac:strange"),
    ),
    "the base remembers an end that nobody scheduled": (
        "I27",
        plan(*DEAL),
        _agrees_on(cancel_dates.RULE, '"2030-01-01"'),
    ),
    "the base remembers revenue that nobody billed": ("I27", plan(*DEAL), _agrees_on("account.mrr", '"12"')),
    "conflicts are not written down": ("I16", CLASH, put(conflicts, "put", lambda *_: None)),
    "a conflict is written down whenever it is seen": ("I16", CLASH, _another_conflict_each_time),
    "prices in Salesforce are nobody's business": (
        "I4",
        plan(*DEAL, Action(HOUR, "edit a price in Salesforce", 0, 28)),
        put(prices, "_decide", lambda *_: two_way.Decision("leave")),
    ),
    "every call to Salesforce is made twice": ("I19", plan(*DEAL), put(Salesforce, "send", _sends_twice)),
    "a customer is read three times": ("I19", plan(*DEAL), put(stripe_side, "_with_billing", _reads_three_times)),
    "a record goes along that nobody wrote ahead": ("I12", plan(*DEAL), put(Part, "records", _one_record_more)),
    "the outbox forgets nothing": ("I22", plan(*DEAL), put(commands, "prune", lambda *_: 0)),
    "customers name another Account": (
        "I2",
        plan(*DEAL),
        lambda patch: patch.setitem(
            cast(Any, readings.READINGS), "account_id", lambda *_: Present("001xx0000000001AAA")
        ),
    ),
    "disputes are forgotten": (
        "I6",
        plan(*PAID, Action(HOUR, "dispute a payment", 0, 0)),
        put(cash, "_disputes", lambda *_: iter(())),
    ),
    "nobody hears a ruling": (
        "I16",
        plan(*DEAL, Action(HOUR, "edit seats on both sides", 0, 28), Action(HOUR, "rule on a conflict", 0, 1)),
        put(two_way, "ruling_on", lambda *_: None),
    ),
    "cancel dates are nobody's business": (
        "I16",
        plan(*DEAL, Action(HOUR, "enter a cancel date", 0, 28)),
        put(planner, "keep_cancel_dates", lambda *_: iter(())),
    ),
    "merged Accounts keep what they had": (
        "I2",
        plan(*DEAL, Action(HOUR, "merge the Account", 0, 0)),
        _loses_merges,
    ),
    "an amendment is a deal like any other": (
        "I1",
        plan(*DEAL, Action(HOUR, "win an amendment", 0, 5)),
        _knows_no_amendments,
    ),
    "what a deleted Account bills is written": (
        "I17",
        plan(
            Action(0, "change a rule", 0, 0),
            Action(HOUR, "win", 0, 0),
            Action(HOUR, "delete the Account", 0, 0),
            Action(HOUR, "rename the customer", 0, 5),
        ),
        put(rounds, "plan", _writes_without_account),
    ),
    "every look finds another end": ("I10", plan(*DEAL, Action(HOUR, "schedule the end", 0, 0)), _churns_each_time),
    "what a kept plan does not say is applied with it": (
        "I11",
        plan(
            *DEAL,
            Action(HOUR, "keep a plan and apply it", 0, 5),
            Action(5, "edit seats in Salesforce", 0, 28),
            Action(240, "pay", 0, 0),
            Action(85, "rename the Account", 0, 7),
        ),
        put(apply_plan, "_moved", lambda *_: iter(())),
    ),
    "what sales edits goes by a bulk job": (
        "I16",
        plan(
            *DEAL,
            Action(DAY, "set the end on both sides", 0, 4),
            Action(4 * DAY, "rule on a conflict", 0, 4),
            by_bulk=True,
        ),
        put(gathering, "sets_what_sales_edits", lambda *_: False),
    ),
    "an update is taken out of a bulk job that is under way": (
        "I15",
        plan(*DEAL, Action(31 * DAY, "edit seats in Salesforce", 0, 17), by_bulk=True),
        put(bulk_jobs, "gathers", lambda *_: True),
    ),
    "what a bulk job has not come to is taken for written": (
        "I27",
        plan(*PAID, Action(HOUR, "refund", 0, 12), seed=3, by_bulk=True),
        put(bulk_lane, "NOT_REACHED", Outcome("done")),
    ),
    "a deal is named by the sync": (
        "I11",
        plan(*DEAL),
        put(fields, "field_name", lambda rules, rule: "Name" if rule.object == "opportunity" else NAME(rules, rule)),
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_breaks_its_invariant(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    invariant, plan, put_in = DEFECTS[defect]
    put_in(monkeypatch)
    found = play(plan).violations
    assert any(each.startswith(f"{invariant}:") for each in found), found


def test_without_a_defect_all_of_them_hold() -> None:
    plans = {plan: name for name, (_, plan, _) in DEFECTS.items()}
    assert {name: found for plan, name in plans.items() if (found := play(plan).violations)} == {}


def test_chance_from_outside_makes_another_story_of_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """I24: the digest tells."""
    once = plan(*DEAL, trouble=dict.fromkeys(range(1, 40), "stripe_503, writes"))
    assert play(once).digest == play(once).digest
    monkeypatch.setattr(StagedEnv, "jitter", lambda _: random.SystemRandom().random())
    assert play(once).digest != play(once).digest


def test_what_a_process_alone_knows_is_missed_when_it_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """I26: keys that are made up anew make a second customer, where a worker dies between the answer and its note."""
    story = undisturbed("paid")
    wanted = play(story)
    killed = next(f.plan for f in faults(story, wanted) if f.words.endswith("after POST /v1/customers: killed"))
    assert differences(play(killed), wanted) == []
    _fresh_keys(monkeypatch)
    assert any(each.startswith("I2: 2 customers") for each in differences(play(killed), wanted))


def test_every_invariant_catches_something() -> None:
    """I24 and I26 are no claims of one play: they have tests of their own above."""
    caught = {invariant for invariant, _, _ in DEFECTS.values()}
    assert {f"I{n}" for n in range(1, 28)} - caught == {"I24", "I26"}
