"""What a bulk job is given and what it answers, as text: salesforce.md 3.2 (Bulk API 2.0 guide v66)."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.systems.outcomes import Outcome
from sync_pipeline.systems.salesforce.bulk import BulkUpdate, can_say, cell, upload_text
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.connection import Login


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "#N/A"),
        ("", "#N/A"),
        (True, "true"),
        (False, "false"),
        (Decimal("45000.00"), "45000.00"),
        (Decimal("1E+3"), "1000"),
        (0, "0"),
        ("Renewed", "Renewed"),
        ("2026-01-15", "2026-01-15"),
        ("2026-11-23T09:30:00.000+0000", "2026-11-23T09:30:00.000Z"),
    ],
)
def test_cells(value: Any, text: str) -> None:
    """An empty cell would leave the field as it is; a dateTime has a colon in its offset, or a Z."""
    assert cell(value) == text


def test_records_that_set_different_fields_share_a_file() -> None:
    text = upload_text([{"id": "001A", "fields": {"B__c": 1}}, {"id": "001B", "fields": {"A__c": None, "B__c": "x"}}])
    assert text == "Id,A__c,B__c\r\n001A,,1\r\n001B,#N/A,x\r\n"


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(st.lists(texts, min_size=1, max_size=5))
def test_every_text_comes_through_whole(values: list[str]) -> None:
    bodies = [{"id": f"001{number}", "fields": {"T__c": value}} for number, value in enumerate(values)]
    rows = list(csv.DictReader(io.StringIO(upload_text(bodies), newline="")))
    assert [(row["Id"], row["T__c"]) for row in rows] == [(f"001{n}", value) for n, value in enumerate(values)]


def test_a_text_that_would_clear_the_field_is_not_for_a_job() -> None:
    assert can_say({"A__c": "a", "B__c": None})
    assert not can_say({"A__c": "#N/A"})


class Answers(Salesforce):
    """An org that knows the results of one job."""

    def raw(self, operation: str, method: str, path: str, *more: Any) -> Any:
        self.calls += 1
        if path.endswith("successfulResults"):
            return Answer('"sf__Created","sf__Id","Id","A__c"\n"false","001B","001B","zwei\nZeilen"\n')
        if path.endswith("failedResults"):
            return Answer(
                '"sf__Id","sf__Error","Id","A__c"\n"","UNABLE_TO_LOCK_ROW:unable to obtain exclusive access: 001X:--",'
                '"001A","1"\n"001C","FIELD_CUSTOM_VALIDATION_EXCEPTION:No: not so:A__c,B__c --","001C","2"\n'
            )
        return Answer(
            '{"id":"750","state":"JobComplete","numberRecordsProcessed":3,"numberRecordsFailed":2,"apiVersion":66.0}'
        )


class Answer:
    status_code = 200

    def __init__(self, text: str) -> None:
        self.content = text.encode()


def test_results_are_told_by_record_in_the_words_of_every_other_write() -> None:
    org = Answers(Login("x", "y"), {})
    api = BulkUpdate(org)
    info = api.look("750")
    assert info is not None
    assert info.ended
    found = api.outcomes("750", info)
    assert found["001B"] == Outcome("done", "001B", http_status=200, request_id="750")
    assert (found["001A"].state, found["001A"].code) == ("throttled", "UNABLE_TO_LOCK_ROW")
    assert (found["001C"].state, found["001C"].message) == ("rejected", "No: not so (A__c, B__c)")
    assert len(found) == org.calls == org.write_calls == 3
