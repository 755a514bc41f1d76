"""What the doctor finds of the clocks."""

from __future__ import annotations

import time
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
import requests

from sync_pipeline.engine.doctor import examine
from sync_pipeline.systems.wire import Wire
from sync_pipeline_tests.engine.installation import Installation


@pytest.mark.parametrize(
    ("behind", "verdict", "words"),
    [(0, "ok", "s ahead of Salesforce's"), (3_600, "failed", "s ahead of"), (-3_600, "failed", "s behind")],
)
def test_a_clock_that_is_wrong_is_told(
    sync: Installation, monkeypatch: pytest.MonkeyPatch, behind: int, verdict: str, words: str
) -> None:
    send = Wire.send

    def dated(self: Wire, *request: Any, **options: Any) -> requests.Response:
        answer = send(self, *request, **options)
        answer.headers["Date"] = formatdate(time.time() - behind, usegmt=True)
        return answer

    monkeypatch.setattr(Wire, "send", dated)
    (told,) = [each for each in examine(replace(sync.settings, clock_url=None)) if each.check == "clock"]
    assert told.verdict == verdict
    assert words in told.detail


def test_the_clock_of_the_sandbox_is_its_own(sync: Installation) -> None:
    (told,) = [each for each in examine(sync.settings) if each.check == "clock"]
    assert (told.verdict, told.detail.partition(",")[0]) == ("ok", "the sandbox's virtual clock")
