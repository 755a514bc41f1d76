"""The kinds of field rules, exhaustively over small values."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from sync_pipeline.core.kinds import KINDS, earliest, latch, merge3, mirror
from sync_pipeline.core.rules import Kind

VALUES = (None, "a", "b")
STAGES = (None, "Pending", "Activated")


def test_every_kind_of_a_rule_has_its_meaning() -> None:
    assert set(KINDS) == set(get_args(Kind))


@pytest.mark.parametrize(
    ("source", "target", "base", "decision"),
    [
        ("a", "a", None, "agree"),
        ("a", "a", "b", "agree"),
        ("a", "b", None, "write"),  # first contact: the owner's word counts
        ("a", "b", "b", "write"),  # only the source moved
        ("a", "b", "a", "foreign"),  # only the target moved
        ("a", "b", "c", "write"),  # both moved: the owner's word counts
        (None, "a", "a", "write"),
    ],
)
def test_a_mirror_follows_its_source(source: Any, target: Any, base: Any, decision: str) -> None:
    assert mirror(source, target, base) == decision


@pytest.mark.parametrize(("source", "target", "base"), list(product(VALUES, VALUES, VALUES)))
def test_a_mirror_is_at_rest_exactly_when_both_are_equal(source: Any, target: Any, base: Any) -> None:
    decision = mirror(source, target, base)
    assert (decision == "agree") == (source == target)
    assert decision in ("agree", "write", "foreign")


@pytest.mark.parametrize(("source", "target"), list(product(STAGES, STAGES)))
def test_a_latch_never_goes_back(source: Any, target: Any) -> None:
    decision = latch(source, target, None)
    order = STAGES.index(source) - STAGES.index(target)
    assert decision == ("agree" if order == 0 else "write" if order > 0 else "keep")


@pytest.mark.parametrize(("source", "target"), list(product(("Unheard", "Pending"), ("Unheard", "Other"))))
def test_a_latch_knows_what_to_do_with_any_word(source: str, target: str) -> None:
    assert latch(source, target, None) == ("agree" if source == target else "write" if source == "Pending" else "keep")


@pytest.mark.parametrize(("source", "target"), list(product((None, 1, 2), (None, 1, 2))))
def test_the_earliest_only_ever_moves_down(source: Any, target: Any) -> None:
    decision = earliest(source, target, None)
    if source == target:
        assert decision == "agree"
    elif source is None:
        assert decision == "keep"
    else:
        assert decision == ("write" if target is None or source < target else "keep")


@pytest.mark.parametrize(
    ("left", "right", "base"), list(product(("1", "2", "3"), ("1", "2", "3"), (None, "1", "2", "3")))
)
def test_a_merge_follows_the_one_side_that_moved(left: str, right: str, base: str | None) -> None:
    """The table of sync-theory 1.4 in terms of who moved; without a common past, both count as moved."""
    moved = (left != base, right != base)
    expected = {
        (False, False): "agree",
        (True, False): "write_right",
        (False, True): "write_left",
        (True, True): "agree" if left == right else "conflict",
    }
    assert merge3(left, right, base) == expected[moved]


@pytest.mark.parametrize(
    ("left", "right", "base"), list(product(("1", "2", "3"), ("1", "2", "3"), (None, "1", "2", "3")))
)
def test_a_merge_does_not_know_left_from_right(left: str, right: str, base: str | None) -> None:
    other = {"write_left": "write_right", "write_right": "write_left"}
    decision = merge3(left, right, base)
    assert merge3(right, left, base) == other.get(decision, decision)
