"""Defects on purpose: each must break its invariant, or the simulator would not see the like of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest
import stripe

from sync_pipeline.core import cash, churn, facts, fields, kinds, readings, two_way
from sync_pipeline.core.money import Money
from sync_pipeline.engine import apply, resolve
from sync_pipeline.ledger import attempts, audit, base, inbox
from sync_pipeline.receiver import app as receiver
from sync_pipeline.simulator.people import Action
from sync_pipeline.simulator.play import Plan, play
from sync_pipeline.simulator.stage import Weather
from sync_pipeline.systems.outcomes import Outcome
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


def _deletes(self: Stripe, kind: str, object_id: str, params: Any, *, key: str, guard: Any) -> Any:
    with suppress(stripe.StripeError):
        self._client.raw_request("delete", f"/v1/customers/{object_id}")
    return Outcome("rejected", message="on purpose")


def _deaf_to_stripe(patch: pytest.MonkeyPatch) -> None:
    real = inbox.receive

    def receive(conn: Any, events: Any, **told: Any) -> int:
        return real(conn, [each for each in events if each.source == "salesforce"], **told)

    patch.setattr(inbox, "receive", receive)


def _agrees_on_one_more(patch: pytest.MonkeyPatch) -> None:
    real = base.put

    def put_more(conn: Any, account: str, entries: Any, now: int) -> None:
        more = (
            replace(each, value=f'"{int(each.value.strip(chr(34))) + 1}"') if each.field == "item.quantity" else each
            for each in entries
        )
        real(conn, account, more, now)

    patch.setattr(base, "put", put_more)


HOUR, DAY = 3600, 86_400
DEAL = (Action(0, "win", 0, 0),)
PAID = (*DEAL, Action(4 * DAY, "pay", 0, 0))
LOST = "lost after, writes"
LOST_ANSWERS = dict.fromkeys(range(1, 400), LOST)


def plan(
    *actions: Action, trouble: dict[int, str] | None = None, seed: int = 1, pause: float = 0, by_card: bool = False
) -> Plan:
    return Plan(seed, actions, tuple((trouble or {}).items()), Weather(pause=pause), by_card)


DEFECTS: dict[str, tuple[str, Plan, Defect]] = {
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
    "who has paid is not activated": ("I9", plan(*PAID), put(readings, "_invoices", lambda *_: [])),
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
        plan(*DEAL, Action(HOUR, "rename the Account", 0, 7), trouble=dict.fromkeys(range(45, 400), LOST)),
        _fresh_keys,
    ),
    "what is as it should be is written again": (
        "I19",
        plan(*DEAL),
        lambda patch: patch.setitem(cast(Any, kinds.KINDS), "mirror", lambda *_: "write"),
    ),
    "events of Stripe wake nobody": (
        "I20",
        plan(
            Action(0, "win", 1, 0),
            Action(HOUR, "fail to pay", 1, 0),
            Action(31 * DAY, "rename the Account", 0, 7),
            Action(HOUR, "rename the Account", 0, 8),
            by_card=True,
        ),
        _deaf_to_stripe,
    ),
    "anybody may post": (
        "I23",
        plan(*DEAL),
        put(receiver, "verify", lambda payload, *_: json.loads(payload)),
    ),
    "the base remembers what nobody held": (
        "I27",
        plan(*DEAL, Action(HOUR, "rename the Account", 0, 7)),
        _agrees_on_one_more,
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_breaks_its_invariant(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    invariant, plan, put_in = DEFECTS[defect]
    put_in(monkeypatch)
    found = play(plan).violations
    assert any(each.startswith(f"{invariant}:") for each in found), found


def test_without_a_defect_all_of_them_hold() -> None:
    assert {name: found for name, (_, plan, _) in DEFECTS.items() if (found := play(plan).violations)} == {}
