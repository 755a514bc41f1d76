"""Deals that cannot be billed: nothing is created, the Opportunity and the ledger say exactly what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sync_pipeline_tests.engine.installation import Installation, installed
from sync_pipeline_tests.engine.people import delete, edit, mark, only, records, requests_since, win
from sync_pipeline_tests.engine.story import story
from sync_pipeline_tests.sandbox_process import SandboxHandle


def _line(sandbox: SandboxHandle) -> str:
    return str(records(sandbox, "OpportunityLineItem")[0]["Id"])


def _opportunity(sandbox: SandboxHandle, **fields: object) -> None:
    edit(sandbox, "Opportunity", only(sandbox, "Opportunity")["Id"], **fields)


def _account(sandbox: SandboxHandle, **fields: object) -> None:
    edit(sandbox, "Account", only(sandbox, "Account")["Id"], **fields)


FAULTS: dict[str, tuple[Callable[[SandboxHandle], None], Callable[[SandboxHandle], None], str]] = {
    "missing term": (
        lambda s: _opportunity(s, Term_Months__c=None),
        lambda s: _opportunity(s, Term_Months__c=12),
        "the term in months is empty",
    ),
    "no billing interval": (
        lambda s: _opportunity(s, Billing_Interval__c=None),
        lambda s: _opportunity(s, Billing_Interval__c="Annual"),
        "the billing interval is empty (known: Monthly, Quarterly, Annual)",
    ),
    "negative price": (
        lambda s: edit(s, "OpportunityLineItem", _line(s), UnitPrice=-30000),
        lambda s: edit(s, "OpportunityLineItem", _line(s), UnitPrice=30000),
        "line Analytics Platform: the unit price is negative (-30000)",
    ),
    "half a seat": (
        lambda s: edit(s, "OpportunityLineItem", _line(s), Quantity=1.5),
        lambda s: edit(s, "OpportunityLineItem", _line(s), Quantity=1),
        "line Analytics Platform: the quantity is 1.5, not a positive whole number",
    ),
    "unusable name": (
        lambda s: _account(s, Name="TBD"),
        lambda s: _account(s, Name="Northwind Analytics Ltd"),
        "the Account has no usable name",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_an_incomplete_deal_says_what_is_missing_and_is_billed_once_that_is_mended(
    sandbox: SandboxHandle, tmp_path: Path, what: str
) -> None:
    spoil, mend, sentence = FAULTS[what]
    with installed(sandbox, tmp_path) as sync:
        win(sandbox)
        sync.drain()
        wanted = story(sandbox)
    sandbox.control("POST", "/reset")
    with installed(sandbox, tmp_path) as sync:
        spoil(sandbox)
        win(sandbox)
        _check_not_billed(sync, sentence)
        mend(sandbox)
        sync.rest()
        assert story(sandbox) == wanted
        assert "Billing_Message__c" not in only(sandbox, "Opportunity")
        assert sync.open_reviews() == {}
        sync.check_books()


def test_a_deal_without_lines_waits_for_them(sync: Installation) -> None:
    sandbox = sync.sandbox
    for line in records(sandbox, "OpportunityLineItem"):
        delete(sandbox, "OpportunityLineItem", line["Id"])
    win(sandbox)
    _check_not_billed(sync, "there are no line items")


def test_a_deal_in_an_unknown_currency_is_not_billed(sync: Installation) -> None:
    """As a record of an org with several currencies can be."""
    commercial = replace(sync.engine.rules.commercial, default_currency="XTS")
    sync.engine = replace(sync.engine, rules=replace(sync.engine.rules, commercial=commercial))
    win(sync.sandbox)
    _check_not_billed(sync, "currency 'XTS' is not known")


def test_everything_that_is_missing_is_said_at_once(sync: Installation) -> None:
    _opportunity(sync.sandbox, Term_Months__c=None, Billing_Interval__c=None)
    _account(sync.sandbox, Name="n/a")
    win(sync.sandbox)
    for sentence in ("the term in months", "the billing interval", "no usable name"):
        _check_not_billed(sync, sentence)


def test_the_message_follows_what_is_missing(sync: Installation) -> None:
    _opportunity(sync.sandbox, Term_Months__c=None, Billing_Interval__c=None)
    win(sync.sandbox)
    _check_not_billed(sync, "the term in months is empty")
    _opportunity(sync.sandbox, Term_Months__c=12)
    sync.rest()
    assert "term" not in only(sync.sandbox, "Opportunity")["Billing_Message__c"]
    assert "term" not in sync.open_reviews()["incomplete_deal"]


def test_a_deal_that_is_not_won_after_all_keeps_no_message(sync: Installation) -> None:
    _opportunity(sync.sandbox, Term_Months__c=None)
    win(sync.sandbox)
    _check_not_billed(sync, "the term in months is empty")
    _opportunity(sync.sandbox, StageName="Negotiation/Review")
    sync.rest()
    opportunity = only(sync.sandbox, "Opportunity")
    assert (opportunity.get("Billing_Message__c"), opportunity.get("Billing_Status__c")) == (None, None)
    assert sync.open_reviews() == {}


def _check_not_billed(sync: Installation, sentence: str) -> None:
    start = mark(sync.sandbox)
    sync.rest()
    assert [entry for entry in requests_since(sync.sandbox, start, "stripe") if entry["method"] != "GET"] == []
    opportunity = only(sync.sandbox, "Opportunity")
    assert opportunity["Billing_Message__c"].startswith("Not billed: ")
    assert sentence in opportunity["Billing_Message__c"]
    assert opportunity["Billing_Status__c"] == "Needs Attention"
    assert sentence in sync.open_reviews()["incomplete_deal"]
    sync.check_books()
