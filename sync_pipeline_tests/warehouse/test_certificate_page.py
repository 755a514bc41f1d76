"""The certificate's page: whole by itself, says what the tables say, and lets no text become markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from playwright.sync_api import Page

from sync_pipeline.frames.convert import to_frame
from sync_pipeline.frames.schema import empty
from sync_pipeline.frames.tables import (
    CERTIFICATE_ACCOUNTS,
    CERTIFICATE_HISTORY,
    MRR_AT_RISK,
    MRR_ROLLFORWARD,
)
from sync_pipeline.warehouse.certificate_page import Shown
from sync_pipeline.warehouse.certificate_page import page as certificate_page
from sync_pipeline_tests.core.making import NOW

DAY = 86_400_000_000


def amount(**changed: Any) -> Any:
    values: dict[str, Any] = {
        "account_id": "001A", "measure": "mrr", "currency": "GBP", "subject": "001A", "difference_class": "human_edit",
        "salesforce_minor": 1_234, "stripe_minor": 1_000, "difference_minor": 234, "repair": "written to the Account",
        "left_minor": 0, "since_at": NOW - DAY,
    }  # fmt: skip
    return CERTIFICATE_ACCOUNTS.row(**(values | changed))


def month(date: str, start: int, **parts: int) -> Any:
    kinds = {f"{name}_minor": 0 for name in ("new", "expansion", "contraction", "churn", "reactivation", "fx")}
    moved = kinds | {f"{name}_minor": minor for name, minor in parts.items()}
    return MRR_ROLLFORWARD.row(
        definition="stripe", period="month", from_date=date, currency="GBP", in_currency="GBP", start_minor=start,
        end_minor=start + sum(moved.values()), **moved,
    )  # fmt: skip


def summed(at: int, cause: str, figures: int, left: int = 0) -> Any:
    return CERTIFICATE_HISTORY.row(
        certified_at=at, measure="mrr", currency="GBP", difference_class=cause, figures=figures, still_different=left,
        difference_minor=0, left_minor=0,
    )  # fmt: skip


def risky() -> Any:
    return MRR_AT_RISK.row(
        subscription="sub_<b>", customer="cus_1", payer="001A", account_id="001A", currency="GBP", status="past_due",
        cause="failing_payment", other_causes=(), in_mrr=True, mrr_minor=250_000, open_minor=300_000,
        oldest_due_at=NOW - 9 * DAY,
    )  # fmt: skip


def shown(**changed: Any) -> Shown:
    values: dict[str, Any] = {
        "at": NOW,
        "agrees": True,
        "amounts": to_frame([amount(), amount(account_id="001B", subject="001B", difference_class="none",
                                              difference_minor=0, salesforce_minor=1_000)], CERTIFICATE_ACCOUNTS),
        "history": to_frame([summed(NOW - DAY, "none", 3), summed(NOW, "none", 1), summed(NOW, "human_edit", 1)],
                            CERTIFICATE_HISTORY),
        "rollforward": to_frame([month("2026-10-01", 0, new=1_000), month("2026-11-01", 1_000, expansion=500,
                                                                          churn=-200)], MRR_ROLLFORWARD),
        "at_risk": to_frame([risky()], MRR_AT_RISK),
        "reporting": "GBP",
    }  # fmt: skip
    return Shown(**(values | changed))


class Tags(HTMLParser):
    """Collects tags and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [str(value) for name, value in attrs if name in ("src", "href")]


def test_it_needs_nothing_else_and_runs_nothing() -> None:
    found = Tags()
    found.feed(certificate_page(shown()))
    assert found.references == []
    assert "script" not in found.tags
    assert "b" not in found.tags
    assert found.tags.count("svg") == 2


def test_it_says_what_the_tables_say() -> None:
    text = re.sub(r"<[^>]+>", " ", certificate_page(shown()))
    assert "agree to the penny" in text
    # 12.34 and 10.00 against twice 10.00.
    assert "22.34 GBP" in text
    assert "20.00 GBP" in text
    assert "2.34 GBP" in text
    assert "2,500.00 GBP" in text
    assert "human_edit" in text
    assert "2026-11-14" in text


def test_a_first_night_with_nothing_is_a_page_too() -> None:
    tables = {
        "amounts": empty(CERTIFICATE_ACCOUNTS),
        "history": empty(CERTIFICATE_HISTORY),
        "rollforward": empty(MRR_ROLLFORWARD),
        "at_risk": empty(MRR_AT_RISK),
    }
    text = certificate_page(shown(agrees=False, **tables))
    assert "Nothing differed." in text
    assert "Nothing is at risk." in text
    assert ">differ<" in text


@pytest.mark.browser
def test_a_browser_shows_the_charts(page: Page) -> None:
    page.set_content(certificate_page(shown()))
    assert page.title() == "Certificate of agreement"
    waterfall = page.get_by_role("img", name="Waterfall of recurring revenue")
    # Start, six kinds of movement and end.
    assert waterfall.locator("rect").count() == 8
