"""Which writes travel together, and how the guilty ones of a refused collection are found. No network: the org is
a rule that says which collections it refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.systems.outcomes import DeadlinePassed, Outcome
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.connection import Login
from sync_pipeline.systems.salesforce.writes import Once, Part, Update, Upsert, Write, collections, composite_calls


class Org(Salesforce):
    """Refuses every collection that holds a record of `poison`, or the whole call that does; counts calls."""

    def __init__(self, poison: set[str], *, whole_call: bool = False, status: int = 400) -> None:
        super().__init__(Login("x", "y"), {})
        self.poison, self.whole_call, self.status = poison, whole_call, status
        self.written: list[str] = []
        self.sizes: list[list[int]] = []

    def _post(self, parts: Sequence[Part], looks: Sequence[str] = ()) -> Outcome | list[tuple[int, Any]]:
        self.write_calls += 1
        self.sizes.append([len(part.writes) for part in parts])
        bad = [any(name_of(write) in self.poison for write in part.writes) for part in parts]
        if self.whole_call and any(bad):
            return Outcome("rejected", http_status=self.status, code="JSON_PARSER_ERROR")
        answers: list[tuple[int, Any]] = []
        for part, is_bad in zip(parts, bad, strict=True):
            if is_bad:
                answers.append((self.status, [{"errorCode": "INVALID_INPUT", "message": "no type"}]))
            else:
                self.written += [name_of(write) for write in part.writes]
                answers.append((200, [{"success": True, "id": name_of(write)} for write in part.writes]))
        return answers


def name_of(write: Write) -> str:
    assert isinstance(write, Update)
    return write.id


def updates(count: int) -> list[Write]:
    return [Update("Account", f"{n:05}", {}, f"{n:05}") for n in range(count)]


def unguarded() -> None:
    """Nothing keeps the write from being sent."""


def test_a_thousand_records_are_one_call() -> None:
    org = Org(set())
    assert {outcome.state for outcome in org.write(updates(1_000), guard=unguarded)} == {"done"}
    assert org.sizes == [[200] * 5]


def test_a_second_update_of_a_record_follows_in_the_same_call() -> None:
    """Salesforce refuses a collection that names a record twice; the collections of a call are taken in their order."""
    first = Update("Contract", "800A", {"StartDate": "2026-01-15"}, "001A")
    second = Update("Contract", "800A", {"Status": "Activated"}, "001A")
    (parts,) = composite_calls([first, second, Update("Account", "001A", {}, "001A")])
    assert [part.records()[-1].get("Status") for part in parts] == [None, "Activated"]
    assert [len(part.writes) for part in parts] == [2, 1]


def test_a_hundred_thousand_records_are_a_hundred_calls() -> None:
    org = Org(set())
    org.write(updates(100_000), guard=unguarded)
    assert org.write_calls == 100


@given(st.integers(1, 1_000), st.sets(st.integers(0, 999), min_size=1, max_size=6))
def test_bad_records_are_found_alone_and_everything_else_is_written(count: int, chosen: set[int]) -> None:
    """k bad records in collections of 200 cost at most 2k * log2(200) calls more."""
    writes = updates(count)
    poison = {f"{n:05}" for n in chosen if n < count}
    org = Org(poison)
    outcomes = org.write(writes, guard=unguarded)
    states = {name_of(write): outcome.state for write, outcome in zip(writes, outcomes, strict=True)}
    assert {name for name, state in states.items() if state == "rejected"} == poison
    assert sorted(org.written) == sorted(states.keys() - poison)
    assert org.write_calls - 1 <= 2 * len(poison) * math.ceil(math.log2(200))


@given(st.integers(1, 1_000), st.sets(st.integers(0, 999), min_size=1, max_size=3))
def test_a_call_that_is_refused_as_a_whole_is_halved_too(count: int, chosen: set[int]) -> None:
    poison = {f"{n:05}" for n in chosen if n < count}
    org = Org(poison, whole_call=True)
    outcomes = org.write(updates(count), guard=unguarded)
    assert sum(outcome.state == "rejected" for outcome in outcomes) == len(poison)
    assert len(org.written) == count - len(poison)
    assert len(set(org.written)) == len(org.written)


def test_what_is_only_throttled_is_not_halved() -> None:
    org = Org({"00001"}, status=503)
    outcomes = org.write(updates(300), guard=unguarded)
    assert org.write_calls == 1
    assert [outcome.state for outcome in outcomes].count("throttled") == 200


def test_what_a_deadline_cuts_off_is_for_later_and_what_was_answered_keeps_its_outcome() -> None:
    org, left = Org({"00000"}), iter(range(3))

    def three_calls() -> None:
        if next(left, None) is None:
            raise DeadlinePassed

    outcomes = org.write(updates(200), guard=three_calls)
    assert org.write_calls == 3
    written = [outcome.state for outcome in outcomes].count("done")
    assert written == len(org.written) > 0
    assert {outcome.state for outcome in outcomes} == {"done", "throttled"}


writes_of_all_kinds = st.lists(
    st.one_of(
        st.builds(Update, st.sampled_from(["Account", "Opportunity"]), st.text(min_size=1), st.just({}), st.text()),
        st.builds(
            Upsert,
            st.sampled_from(["Churn_Record__c", "Opportunity"]),
            st.just("K__c"),
            st.text(),
            st.just({}),
            st.text(),
        ),
        st.builds(Once, st.builds(lambda key: ("M", {"K": key}), st.text()), st.just(("Task", {})), st.text()),
    ),
    max_size=60,
)


@given(writes_of_all_kinds)
def test_every_write_travels_once_and_pairs_travel_with_pairs(writes: list[Write]) -> None:
    calls = list(composite_calls(writes))
    assert all(1 <= len(parts) <= 5 for parts in calls)
    indexes = [index for parts in calls for part in parts for index in part.indexes]
    assert sorted(indexes) == list(range(len(writes)))
    for part in (part for parts in calls for part in parts):
        assert len(part.records()) <= 200
        assert len({type(write) for write in part.writes}) == 1
        if part.once:
            types = [row["attributes"]["type"] for row in part.records()]
            assert types == ["M"] * len(part.writes) + ["Task"] * len(part.writes), "two changes of object, of ten"
            keys = [write.marker[1]["K"] for write in part.writes if isinstance(write, Once)]
            assert len(set(keys)) == len(keys), "a marker that stands twice in a call could refuse itself"
        if isinstance(part.writes[0], Upsert):
            assert len({(w.object, w.external_field) for w in part.writes if isinstance(w, Upsert)}) == 1


@given(writes_of_all_kinds)
def test_records_of_one_parent_stand_together_within_their_object(writes: list[Write]) -> None:
    for part in collections(writes):
        if not part.once:
            places = [(write.object, write.parent) for write in part.writes if not isinstance(write, Once)]
            assert places == sorted(places)


class Atomic(Salesforce):
    """Makes each collection of pairs as a whole or not at all: markers are unique, and some Tasks are refused."""

    def __init__(self, known: set[str], bad: set[str]) -> None:
        super().__init__(Login("x", "y"), {})
        self.markers, self.bad = set(known), bad
        self.tasks: list[str] = []

    def _post(self, parts: Sequence[Part], looks: Sequence[str] = ()) -> Outcome | list[tuple[int, Any]]:
        self.write_calls += 1
        return [(200, self._collection(part.records())) for part in parts]

    def _collection(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        half = len(rows) // 2
        keys = [row["Key__c"] for row in rows]
        codes = ["DUPLICATE_VALUE" if key in self.markers else "" for key in keys[:half]]
        codes += ["FIELD_INTEGRITY_EXCEPTION" if key in self.bad else "" for key in keys[half:]]
        if any(codes):
            refused = [[{"statusCode": code or "ALL_OR_NONE_OPERATION_ROLLED_BACK", "message": ""}] for code in codes]
            return [{"success": False, "errors": errors} for errors in refused]
        self.markers |= set(keys[:half])
        self.tasks += keys[half:]
        return [{"success": True, "id": key, "errors": []} for key in keys]


def pairs(count: int) -> list[Write]:
    keys = [{"Key__c": f"{n:05}"} for n in range(count)]
    return [Once(("Marker__c", key), ("Task", key), key["Key__c"]) for key in keys]


def test_five_hundred_tasks_with_their_markers_are_one_call() -> None:
    org = Atomic(set(), set())
    assert {outcome.state for outcome in org.write(pairs(500), guard=unguarded)} == {"done"}
    assert (org.write_calls, len(org.tasks)) == (1, 500)


@given(st.integers(1, 700), st.sets(st.integers(0, 699), max_size=6), st.sets(st.integers(0, 699), max_size=6))
def test_pairs_are_made_once_each_whoever_they_travel_with(count: int, known: set[int], bad: set[int]) -> None:
    """Those made before and those refused keep nobody from being made, and take at most a call for each halving."""
    before, refused = ({f"{n:05}" for n in some if n < count} for some in (known, bad - known))
    org = Atomic(before, refused)
    outcomes = org.write(pairs(count), guard=unguarded)
    assert [f"{n:05}" for n, outcome in enumerate(outcomes) if outcome.state == "rejected"] == sorted(refused)
    assert {outcome.state for outcome in outcomes} <= {"done", "rejected"}
    assert sorted(org.tasks) == sorted({f"{n:05}" for n in range(count)} - before - refused)
    assert org.write_calls <= math.ceil(count / 500) + math.ceil(2 * len(before | refused) / 5) + math.ceil(
        math.log2(100)
    )


def test_what_a_deadline_cuts_off_after_a_roll_back_is_for_later() -> None:
    org, left = Atomic({"00000"}, set()), iter(range(1))

    def one_call() -> None:
        if next(left, None) is None:
            raise DeadlinePassed

    states = [outcome.state for outcome in org.write(pairs(3), guard=one_call)]
    assert (states, org.tasks) == (["done", "throttled", "throttled"], [])
