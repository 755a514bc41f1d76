"""The lifecycle of a subscription in Salesforce's words: total over every status that Stripe has or may get."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.lifecycle import MOST_URGENT_FIRST, STATUS_WORDS, billing_status, has_ended, most_urgent
from sync_pipeline_tests.core.making import NOW, subscription

# docs.stripe.com/api/subscriptions/object
STRIPE_STATUSES = (
    "incomplete",
    "incomplete_expired",
    "trialing",
    "active",
    "past_due",
    "canceled",
    "unpaid",
    "paused",
)


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("incomplete", "Incomplete"),
        ("incomplete_expired", "Canceled"),
        ("trialing", "Trialing"),
        ("active", "Active"),
        ("past_due", "Past Due"),
        ("canceled", "Canceled"),
        ("unpaid", "Unpaid"),
        ("paused", "Paused"),
    ],
)
def test_each_status_has_its_word(status: str, word: str) -> None:
    assert billing_status(subscription(status=status)) == word


def test_no_status_is_forgotten() -> None:
    assert set(STRIPE_STATUSES) == set(STATUS_WORDS)
    assert set(STATUS_WORDS.values()) | {"Cancel Scheduled"} == set(MOST_URGENT_FIRST)


@given(st.text())
def test_a_status_of_the_future_is_unknown_not_an_error(status: str) -> None:
    word = billing_status(subscription(status=status))
    assert (word is None) == (status not in STRIPE_STATUSES)


@pytest.mark.parametrize("how", [{"cancel_at": NOW}, {"cancel_at_period_end": True}])
@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("active", "Cancel Scheduled"),
        ("trialing", "Cancel Scheduled"),
        ("past_due", "Past Due"),
        ("unpaid", "Unpaid"),
        ("canceled", "Canceled"),
    ],
)
def test_both_ways_to_schedule_an_end_show_while_nothing_is_more_urgent(
    how: dict[str, object], status: str, word: str
) -> None:
    assert billing_status(subscription(status=status, **how)) == word


@given(st.lists(st.sampled_from(MOST_URGENT_FIRST)))
def test_an_account_shows_its_most_urgent_status_whatever_the_order(words: list[str]) -> None:
    worst = most_urgent(words)
    assert worst == most_urgent(reversed(words))
    assert (worst is None) == (not words)
    assert all(MOST_URGENT_FIRST.index(worst) <= MOST_URGENT_FIRST.index(word) for word in words if worst)


def test_an_ended_subscription_never_hides_a_running_one() -> None:
    assert most_urgent(["Canceled", "Active"]) == "Active"


def test_what_counts_as_ended() -> None:
    assert {s for s in STRIPE_STATUSES if has_ended(subscription(status=s))} == {"canceled", "incomplete_expired"}
