"""Stories as they are written: what a mistake is told as, with its file and line; how values are read."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sync_pipeline.demo.story import Step, StoryError
from sync_pipeline.demo.story_file import read_stories, shipped_stories

HEAD = """topic: Seats
stories:
  one:
    title: A title
    shows: what it shows
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(StoryError) as told:
        read_stories(text, "seats.yaml")
    return str(told.value).splitlines()


def steps(*lines: str) -> str:
    return HEAD + "    timeline:\n" + "".join(f"      {line}\n" for line in lines)


def test_numbers_with_a_point_are_exact_and_dates_stay_texts() -> None:
    text = steps("- sales edits: {Line Analyst Seat: {UnitPrice: 0.1, Quantity: 3, Day: 2026-01-31, Gone: null}}")
    (step,) = read_stories(text, "seats.yaml")["one"].timeline
    fields = {"UnitPrice": Decimal("0.1"), "Quantity": 3, "Day": "2026-01-31", "Gone": None}
    assert step == Step("sales edits", {"records": {"Line Analyst Seat": fields}}, 7)


def test_steps_inside_a_step_are_read_as_steps() -> None:
    text = steps("- at the same moment:", "    - sales closes the deal", "    - time passes: 1 minute")
    (step,) = read_stories(text, "seats.yaml")["one"].timeline
    assert step.given["steps"] == (Step("sales closes the deal", {}, 8), Step("time passes", {"span": "1 minute"}, 9))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "seats.yaml: it is empty"),
        ("a: [", "seats.yaml:1: expected the node content, but found '<stream end>'"),
        ("topic: Seats\n", "seats.yaml:1: needs 'topic' and 'stories'"),
        ("topic: Seats\nstories: {}\n", "seats.yaml:2: tells no story"),
        (HEAD, "seats.yaml:4: the story 'one' has no timeline"),
        (HEAD + "    titel: x\n    timeline: []\n", "seats.yaml:6: 'titel' is not known here; did you mean 'title'?"),
        (HEAD + "    title: x\n    timeline: []\n", "seats.yaml:6: 'title' stands twice"),
        (HEAD + "    timeline: sales closes the deal\n", "seats.yaml:6: expected a list of steps"),
        (HEAD + "    rules: []\n    timeline: []\n", "seats.yaml:6: rules is no mapping"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_was_meant(text: str, told: str) -> None:
    assert told in mistakes(text)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("- sales close the deal", "'sales close the deal' is no verb; did you mean 'sales closes the deal'?"),
        ("- the customer pays: 12", "deal is 12, not a text"),
        ("- the customer pays part of the invoice", "'the customer pays part of the invoice' needs 'amount'"),
        ("- the customer pays part of the invoice: lots", "amount is 'lots', not a number"),
        ("- the nightly reconcile runs: twice", "'the nightly reconcile runs' takes nothing, it was given 'twice'"),
        ("- the customer cancels: soon", "when is 'soon'; choose one of at the end of the period, at once"),
        ("- the customer cancels: {becuase: x}", "'the customer cancels' takes no 'becuase'; did you mean 'because'?"),
        (
            "- {sales closes the deal: null, the customer pays: null}",
            "one step at a time, not sales closes the deal, the customer pays",
        ),
        ("- expect: {Acount: {MRR__c: 1}}", "'Acount' begins with no kind of record; did you mean 'Account'?"),
        (
            "- expect: {Account: some}",
            "Account: 'some' is no number of records, no mapping of fields and no list of mappings",
        ),
        (
            "- expect: {Account: {Name: {begins: N}}}",
            "Account.Name: {'begins': 'N'} is no test; known: between, contains, filled, id of, one of",
        ),
        ("- expect: {written: few}", "written is 'few'; give a number"),
    ],
)
def test_a_step_that_cannot_be_done_is_told_before_anything_is_played(step: str, told: str) -> None:
    assert mistakes(steps(step)) == [f"seats.yaml:7: {told}"]


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    text = steps("- sales close the deal", "- the customer pay", "- expect: {Acount: 1}")
    assert [each.split(":")[1] for each in mistakes(text)] == ["7", "8", "9"]


def test_every_shipped_story_says_in_words_what_it_shows() -> None:
    for story in shipped_stories().values():
        assert len(story.title) > 10
        assert len(story.shows) > 10
        assert any(step.phrase == "expect" for step in story.timeline), story.name
