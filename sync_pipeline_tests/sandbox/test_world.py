"""The sandbox in process: the clock moved event by event, snapshots, answers and faults without HTTP.

Facts: sandbox.md 1, 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.wire import Call, Reply
from sync_pipeline.sandbox.world import Sandbox

START = 1_795_000_000


@dataclass
class Agenda:
    """A system that has things to do at given moments and writes down when each was done.

    With `echo` set, doing something at t makes something due at t + echo, once.
    """

    clock: Clock
    moments: list[int]
    echo: int | None = None
    diary: list[int] = field(default_factory=list)

    def handle(self, call: Call) -> Reply:
        return Reply(200, call.body)

    def next_due(self) -> int | None:
        return min(self.moments, default=None)

    def run_due(self) -> None:
        while self.moments and min(self.moments) <= self.clock.now():
            self.moments.remove(min(self.moments))
            self.diary.append(self.clock.now())
            if self.echo is not None:
                self.moments.append(self.clock.now() + self.echo)
                self.echo = None

    def truth(self) -> dict[str, Any]:
        return {"diary": self.diary}

    def snapshot(self) -> dict[str, Any]:
        return {"moments": list(self.moments), "diary": list(self.diary)}

    def restore(self, state: dict[str, Any]) -> None:
        self.moments, self.diary = list(state["moments"]), list(state["diary"])


def sandbox_of(salesforce: list[int], stripe: list[int], echo: int | None = None) -> tuple[Sandbox, Agenda, Agenda]:
    clock = Clock(START, frozen=True)
    left, right = Agenda(clock, list(salesforce), echo), Agenda(clock, list(stripe))
    return Sandbox(clock, cast(Any, left), cast(Any, right), webhook_secret="whsec_x"), left, right


@given(
    st.lists(st.integers(0, 1000)),
    st.lists(st.integers(0, 1000)),
    st.lists(st.integers(1, 400), min_size=1, max_size=5),
)
def test_each_thing_is_done_when_it_is_due_however_the_clock_is_moved(
    left: list[int], right: list[int], strides: list[int]
) -> None:
    sandbox, salesforce, stripe = sandbox_of([START + m for m in left], [START + m for m in right])
    for stride in strides:
        sandbox.advance(stride)
    end = START + sum(strides)
    assert salesforce.diary == sorted(START + m for m in left if START + m <= end)
    assert stripe.diary == sorted(START + m for m in right if START + m <= end)
    assert sandbox.clock.now() == end


def test_what_one_event_brings_about_is_done_on_the_same_way() -> None:
    sandbox, salesforce, _ = sandbox_of([START + 10], [], echo=3600)
    sandbox.advance(4000)
    assert salesforce.diary == [START + 10, START + 3610]


def test_steps_give_way_once_per_moment() -> None:
    sandbox, _, _ = sandbox_of([START + 10, START + 20], [START + 10, START + 30])
    assert list(sandbox.steps_to(START + 25)) == [START + 10, START + 20]
    assert sandbox.clock.now() == START + 25


def test_the_clock_does_not_go_back() -> None:
    sandbox, _, _ = sandbox_of([], [])
    with pytest.raises(ValueError, match="cannot go back"):
        sandbox.move_to(START - 1)


def test_something_that_stays_due_is_reported_and_not_waited_for() -> None:
    sandbox, salesforce, _ = sandbox_of([START], [])
    salesforce.run_due = lambda: None  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="stays due"):
        sandbox.advance(10)


def test_what_was_overdue_is_done_at_the_present_moment() -> None:
    sandbox, salesforce, _ = sandbox_of([START - 100], [])
    assert sandbox.tick()
    assert salesforce.diary == [START]
    assert not sandbox.tick()


def test_snapshot_and_restore_bring_clock_and_both_systems_back() -> None:
    sandbox, salesforce, stripe = sandbox_of([START + 10], [START + 20])
    before = sandbox.snapshot()
    sandbox.advance(30)
    after = sandbox.truth()
    sandbox.restore(before)
    assert sandbox.clock.now() == START
    assert (salesforce.diary, stripe.diary) == ([], [])
    sandbox.advance(30)
    assert sandbox.truth() == after


def test_in_process_a_fault_shows_as_the_answer_that_the_caller_gets() -> None:
    sandbox, _, _ = sandbox_of([], [])
    sandbox.faults.add([{"kind": "drop_after", "times": 1}, {"kind": "truncate", "times": 1}])
    call = Call("POST", "/v1/x", body=b"hello")
    lost, cut, whole = (sandbox.exchange("stripe", call) for _ in range(3))
    assert lost.reply is None
    assert cut.cut
    assert (whole.reply, whole.cut) == (Reply(200, b"hello"), False)
    assert [entry.fault for entry in sandbox.log.entries()] == ["drop_after", "truncate", None]
