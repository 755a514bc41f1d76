"""Fault rules: which calls they strike, and how bad ones are refused (facts: sandbox.md 2)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.sandbox.faults import KINDS, VENDOR_FAULTS, Faults, read_rule
from sync_pipeline.sandbox.inputs import BadInputError
from sync_pipeline.sandbox.wire import Call

CREATE = Call("POST", "/v1/customers")
READ = Call("GET", "/v1/customers")


def struck(rule: dict[str, Any], calls: int, call: Call = CREATE, side: str = "stripe") -> list[int]:
    """The numbers (from 1) of those of `calls` equal calls that go wrong under this rule."""
    faults = Faults()
    faults.add([rule])
    return [n for n in range(1, calls + 1) if faults.strike(side, call) is not None]


def test_a_rule_strikes_every_call_that_it_matches_until_its_times_are_used_up() -> None:
    assert struck({"kind": "drop_after", "times": 2}, 5) == [1, 2]


def test_nth_and_every_choose_among_the_matching_calls() -> None:
    assert struck({"kind": "drop_after", "nth": 3}, 6) == [3]
    assert struck({"kind": "drop_after", "every": 2}, 6) == [2, 4, 6]
    assert struck({"kind": "drop_after", "every": 2, "times": 2}, 8) == [2, 4]


def test_probability_is_drawn_from_the_seed() -> None:
    rule = {"kind": "drop_before", "probability": 0.3, "seed": 7}
    first = struck(rule, 200)
    assert first == struck(rule, 200)
    assert first != struck(rule | {"seed": 8}, 200)
    assert 30 <= len(first) <= 90


@pytest.mark.parametrize(
    "match",
    [{"side": "salesforce"}, {"method": "DELETE"}, {"path": "^/v1/invoices"}],
)
def test_a_call_that_does_not_match_is_neither_struck_nor_counted(match: dict[str, str]) -> None:
    faults = Faults()
    faults.add([{"match": match, "kind": "drop_before"}])
    assert faults.strike("stripe", CREATE) is None
    assert faults.listing()[0]["matched"] == 0


def test_a_method_matches_in_any_case() -> None:
    assert struck({"match": {"method": "post"}, "kind": "drop_before"}, 1) == [1]
    assert struck({"match": {"method": "post"}, "kind": "drop_before"}, 1, READ) == []


def test_a_vendor_fault_befalls_only_its_vendor() -> None:
    assert struck({"kind": "stripe_429"}, 1, side="salesforce") == []
    assert struck({"kind": "salesforce_503"}, 1, side="stripe") == []


def test_the_first_rule_that_strikes_decides() -> None:
    faults = Faults()
    faults.add([{"kind": "drop_before", "times": 1}, {"kind": "truncate"}])
    kinds = [fault.kind for fault in (faults.strike("stripe", CREATE) for _ in range(3)) if fault]
    assert kinds == ["drop_before", "truncate", "truncate"]


def test_only_a_lock_timeout_comes_without_the_reason_of_a_rate_limit() -> None:
    """facts/stripe.md 5.1: a 429 without Stripe-Rate-Limited-Reason is contention for an object."""
    assert VENDOR_FAULTS["stripe_429"].headers["stripe-rate-limited-reason"] == "global-rate"
    assert "stripe-rate-limited-reason" not in VENDOR_FAULTS["stripe_lock_timeout"].headers


def test_a_declined_card_is_told_as_stripe_tells_it() -> None:
    """facts/stripe.md 5.1: 402, type card_error, with the code and the issuer's reason."""
    fault = read_rule({"kind": "stripe_402"}).fault
    assert fault.reply is not None
    error = json.loads(fault.reply.body)["error"]
    assert (fault.reply.status, fault.commits, error["type"]) == (402, False, "card_error")
    assert (error["code"], error["decline_code"]) == ("card_declined", "generic_decline")


@pytest.mark.parametrize(
    ("rule", "field", "right"),
    [
        ({"action": "drop_before"}, "rules[0].action", "kind"),
        ({"kind": "drop_before", "match": {"path_regex": "."}}, "rules[0].match.path_regex", "path"),
        ({"kind": "drop_before", "path_regex": "."}, "rules[0].path_regex", "match.path"),
    ],
)
def test_another_name_of_a_field_is_answered_with_the_right_one(rule: Any, field: str, right: str) -> None:
    with pytest.raises(BadInputError, match=f"is called {right} here") as refused:
        Faults().add([rule])
    assert refused.value.field == field


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_described(kind: str) -> None:
    described: dict[str, Any] = {"kind": kind}
    if kind == "http":
        described["status"] = 418
    if kind in ("delay", "withhold", "stale"):
        described["seconds"] = 0.5
    assert read_rule(described).fault.kind == kind


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({}, "rules[0].kind"),
        ({"kind": "explode"}, "rules[0].kind"),
        ({"kind": "http"}, "rules[0].status"),
        ({"kind": "http", "status": "500"}, "rules[0].status"),
        ({"kind": "http", "status": 99}, "rules[0].status"),
        ({"kind": "http", "status": 500, "headers": {"a": 1}}, "rules[0].headers.a"),
        ({"kind": "delay"}, "rules[0].seconds"),
        ({"kind": "stale"}, "rules[0].seconds"),
        ({"kind": "drop_before", "times": 0}, "rules[0].times"),
        ({"kind": "drop_before", "times": True}, "rules[0].times"),
        ({"kind": "drop_before", "probability": 1.5}, "rules[0].probability"),
        ({"kind": "drop_before", "tmies": 1}, "rules[0].tmies"),
        ({"kind": "drop_before", "match": {"side": "both"}}, "rules[0].match.side"),
        ({"kind": "drop_before", "match": {"path": "("}}, "rules[0].match.path"),
        ({"kind": "drop_before", "match": {"url": "/"}}, "rules[0].match.url"),
        ("drop", "rules[0]"),
    ],
)
def test_a_wrong_rule_is_refused_by_the_name_of_its_field(rule: Any, field: str) -> None:
    faults = Faults()
    with pytest.raises(BadInputError) as refused:
        faults.add([rule])
    assert refused.value.field == field
    assert faults.listing() == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "match", "times"]), inner),
    max_leaves=6,
)


@given(JSON)
def test_no_json_without_a_known_kind_is_a_rule(described: object) -> None:
    with pytest.raises(BadInputError, match=r"kind|must be a JSON object|match"):
        read_rule(described)
