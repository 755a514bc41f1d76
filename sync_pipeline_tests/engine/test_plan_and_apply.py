"""A plan is shown with its money, kept, and written as it was shown, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sync_pipeline.core import canonical
from sync_pipeline.core.foresight import Foreseen
from sync_pipeline.core.rules import Guards
from sync_pipeline.engine.apply import Applied, apply
from sync_pipeline.engine.apply_plan import apply_plan
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.guard import GuardTripped
from sync_pipeline.engine.plan_text import as_markdown, as_text
from sync_pipeline.engine.planning import PlanDocument, PlanError, document, foresee_accounts, from_json
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import (
    at_stripe,
    create,
    edit,
    is_write,
    mark,
    only,
    pay,
    records,
    requests_since,
    win,
    writes_since,
)
from sync_pipeline_tests.engine.selling import sell


def plan_of(sync: Installation) -> PlanDocument:
    ahead = foresee_accounts(sync.engine, [str(only(sync.sandbox, "Account")["Id"])])
    kept = canonical.encode(document(sync.engine, ahead))
    return from_json(kept)


def seat_line(sync: Installation) -> dict[str, Any]:
    """The line of the deal's 20 analyst seats."""
    (seats,) = [each for each in records(sync.sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
    return seats


def test_a_new_deal_is_written_as_it_was_shown(sync: Installation) -> None:
    """One customer, three products, three prices and one subscription: eight Stripe writes, as its calls say."""
    win(sync.sandbox)
    planned = plan_of(sync)
    assert planned.calls.stripe_writes == 8
    (recurring,) = planned.recurring
    assert (recurring.currency, recurring.before, recurring.after) == ("GBP", 0, 375_000)
    (first,) = planned.invoices
    assert (first.invoice, first.after, first.source) == ("first", 4_500_000, "rate card")
    start = mark(sync.sandbox)
    report = apply_plan(sync.engine, planned, allow=False)
    assert (report.moved, report.total.settled) == ([], 1)
    sent = [each["side"] for each in requests_since(sync.sandbox, start) if is_write(each)]
    assert sent.count("stripe") == planned.calls.stripe_writes
    assert sent.count("salesforce") == planned.calls.salesforce_writes
    (invoice,) = records(sync.sandbox, "invoice")
    assert invoice["total"] == first.after
    assert plan_of(sync).writes == ()
    sync.check_books()


def test_deals_that_share_new_products_are_all_at_rest_when_their_plan_is_written(sync: Installation) -> None:
    """One of them makes each, and costs the others a round: they were told as left for later, with nothing left."""
    accounts = [create(sync.sandbox, "Account", Name=f"Customer {number}") for number in range(6)]
    for number, account in enumerate(accounts):
        lines = [{"product": f"Product {name}", "price": 100 + number} for name in "ABCD"]
        sell(sync.sandbox, *lines, account=account)
    planned = document(sync.engine, foresee_accounts(sync.engine, accounts))
    report = apply_plan(sync.engine, planned, allow=False)
    assert (report.moved, report.total.settled, report.total.deferred) == ([], 6, 0)
    assert len(records(sync.sandbox, "subscription")) == 6
    assert document(sync.engine, foresee_accounts(sync.engine, accounts)).writes == ()
    sync.check_books()


@pytest.mark.parametrize(("fields", "shown"), [({}, 650_000), ({"Free_Months__c": 2}, 50_000)])
def test_what_is_charged_once_and_free_months_are_in_the_first_invoice_that_is_shown(
    sync: Installation, fields: dict[str, Any], shown: int
) -> None:
    """10 seats at 600 a year and 500 once; in free months the seats cost nothing."""
    seats = {"product": "Analyst Seat", "price": 600, "quantity": 10}
    sell(sync.sandbox, seats, {"product": "Onboarding", "price": 500, "Charge_Type__c": "One-Time"}, **fields)
    planned = plan_of(sync)
    assert [(each.invoice, each.after) for each in planned.invoices] == [("first", shown)]
    assert apply_plan(sync.engine, planned, allow=False).moved == []
    (invoice,) = records(sync.sandbox, "invoice")
    assert invoice["total"] == shown
    assert plan_of(sync).writes == ()


@pytest.mark.parametrize("is_known", [True, False])
def test_the_first_invoice_of_a_ramp_is_shown(sync: Installation, is_known: bool) -> None:
    """An attack found it: what a schedule bills at once was in no plan. Stripe computes it where it has the prices."""
    seats = {"product": "Analyst Seat", "price": 600}
    ramp = {**seats, "quantity": 10, "To_Month__c": 12}, {**seats, "quantity": 20, "From_Month__c": 13}
    if is_known:
        sell(sync.sandbox, *ramp, Term_Months__c=24)
        sync.rest()
    sell(sync.sandbox, *ramp, Term_Months__c=24)
    (first,) = plan_of(sync).invoices
    source = "Stripe" if is_known else "rate card"
    assert (first.invoice, first.before, first.after, first.source) == ("first", None, 600_000, source)
    sync.rest()
    assert {each["total"] for each in records(sync.sandbox, "invoice")} == {600_000}


@pytest.mark.parametrize("price", [600, 450])
def test_more_seats_show_the_very_invoice_that_comes(sync: Installation, price: int) -> None:
    """What is shown before the write is what the renewal's invoice comes to, to the penny; also at another price, which
    Stripe does not have yet."""
    win(sync.sandbox)
    sync.rest()
    pay(sync.sandbox)
    sync.wait(40 * 24 * 3600)
    sync.rest()
    seats = seat_line(sync)
    edit(sync.sandbox, "OpportunityLineItem", seats["Id"], Quantity=25, UnitPrice=price)
    sync.wait(60)
    planned = plan_of(sync)
    (next_one,) = planned.invoices
    assert (next_one.invoice, next_one.before, next_one.source) == ("next", 4_500_000, "Stripe")
    assert apply_plan(sync.engine, planned, allow=False).moved == []
    sync.wait(326 * 24 * 3600)
    assert sorted(each["total"] for each in records(sync.sandbox, "invoice")) == sorted([4_500_000, next_one.after])
    (recurring,) = planned.recurring
    assert recurring.after - recurring.before == (25 * price - 20 * 600) * 100 // 12


def test_an_account_that_has_changed_is_left_alone_and_its_moved_lines_are_named(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    pay(sync.sandbox)
    planned = plan_of(sync)
    account = only(sync.sandbox, "Account")
    edit(sync.sandbox, "Account", account["Id"], Lifetime_Value__c=7)
    start = mark(sync.sandbox)
    report = apply_plan(sync.engine, planned, allow=False)
    assert (report.refused, report.begun) == ([account["Id"]], set())
    assert writes_since(sync.sandbox, start) == []
    (line,) = [each for each in report.moved if each.field == "Lifetime_Value__c"]
    assert line.what == 'planned "0" -> "45000", now "7" -> "45000"'


def test_a_change_between_the_look_and_the_write_is_seen(sync: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last look is the one that counts, however short the time since the one before."""
    win(sync.sandbox)
    sync.rest()
    pay(sync.sandbox)
    planned = plan_of(sync)
    account = only(sync.sandbox, "Account")["Id"]

    def look_and_be_overtaken(engine: Engine, accounts: Sequence[str]) -> list[Foreseen]:
        found = foresee_accounts(engine, accounts)
        edit(sync.sandbox, "Account", account, Lifetime_Value__c=7)
        return found

    monkeypatch.setattr("sync_pipeline.engine.apply_plan.foresee_accounts", look_and_be_overtaken)
    report = apply_plan(sync.engine, planned, allow=False)
    assert report.refused == [account]
    assert only(sync.sandbox, "Account")["Lifetime_Value__c"] == 7


def test_an_account_that_changes_while_its_plan_is_written_is_not_said_to_be_untouched(
    sync: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    win(sync.sandbox)
    planned, line = plan_of(sync), seat_line(sync)
    calls = iter(range(99))

    def apply_and_be_overtaken(*given: Any, **more: Any) -> Applied:
        applied = apply(*given, **more)
        if next(calls) == 0:
            edit(sync.sandbox, "OpportunityLineItem", line["Id"], Quantity=21, UnitPrice=600)
        return applied

    monkeypatch.setattr("sync_pipeline.engine.rounds.apply", apply_and_be_overtaken)
    report = apply_plan(sync.engine, planned, allow=False)
    assert report.begun == set(report.refused) == {only(sync.sandbox, "Account")["Id"]}
    assert (len(records(sync.sandbox, "customer")), records(sync.sandbox, "subscription")) == (1, [])


def test_a_plan_of_another_org_or_of_other_rules_is_refused(sync: Installation) -> None:
    planned = plan_of(sync)
    with pytest.raises(PlanError, match=r"made for org 00DOther"):
        apply_plan(sync.engine, replace(planned, org_id="00DOther"), allow=False)
    with pytest.raises(PlanError, match="made for Stripe account acct_other"):
        apply_plan(sync.engine, replace(planned, stripe_account="acct_other"), allow=False)
    with pytest.raises(PlanError, match="rules or the version have changed"):
        apply_plan(replace(sync.engine, code_version="1.0+other"), planned, allow=False)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 3}', "\x00", '{"made_at": "yesterday"}'])
def test_a_file_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="not a plan"):
        from_json(text)


def test_a_plan_of_another_version_is_told_as_that() -> None:
    with pytest.raises(PlanError, match="written by another version"):
        from_json('{"format": 1, "writes": [{"old": "shape"}]}')


def test_a_plan_that_does_too_much_is_not_begun(sync: Installation) -> None:
    win(sync.sandbox)
    rules = replace(sync.engine.rules, guards=Guards(creates=1))
    sync = replace(sync, engine=replace(sync.engine, rules=rules))
    planned = plan_of(sync)
    start = mark(sync.sandbox)
    with pytest.raises(GuardTripped, match="2 customers and subscriptions"):
        apply_plan(sync.engine, planned, allow=False)
    assert writes_since(sync.sandbox, start) == []
    assert apply_plan(sync.engine, planned, allow=True).total.settled == 1


def test_people_read_money_as_money(sync: Installation) -> None:
    win(sync.sandbox)
    planned = plan_of(sync)
    account, opportunity = planned.writes[0].account_id, only(sync.sandbox, "Opportunity")["Id"]
    text = as_text(planned, width=200)
    assert f"MRR of {account}: GBP 0.00 -> GBP 3,750.00 (+3,750.00)" in text
    assert f"the first invoice of (new subscription of {opportunity}): GBP 45,000.00 (by the rate card" in text
    assert "Northwind" not in text
    markdown = as_markdown(planned, most_writes=2).splitlines()
    assert markdown[0].startswith("| Account | Step | Priority | System |")
    assert markdown[2].startswith(f"| {account} | 1 | new deal | Stripe |")
    assert {write.priority for write in planned.writes} == {1, 3}
    rows = [line.split("|") for line in as_markdown(planned).splitlines() if line.startswith(f"| {account} |")]
    assert {row[3].strip() for row in rows} == {"new deal", "write-back"}
    assert "  new deal  " in text
    assert "  write-back  " in text
    assert f"{len(planned.writes) - 2} more writes are not shown." in markdown


def test_people_read_moments_as_moments(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    pay(sync.sandbox)
    sync.wait(5)
    (paid_at,) = [each["status_transitions"]["paid_at"] for each in records(sync.sandbox, "invoice")]
    planned = plan_of(sync)
    (first,) = [write for write in planned.writes if write.field == "First_Payment_At__c"]
    assert first.new == str(paid_at), "machines read seconds"
    shown = f"{datetime.fromtimestamp(paid_at, UTC):%Y-%m-%d %H:%M:%S}"
    assert f"| First_Payment_At__c | empty | {shown} |" in as_markdown(planned)
    text = as_text(planned, width=200)
    assert str(paid_at) not in text
    assert all(part in text for part in shown.split())


def test_a_deal_that_was_amended_before_it_is_billed_is_written_as_shown(sync: Installation) -> None:
    """Its seats come to an item that the plan can only name; what comes to it was refused as something new."""
    win(sync.sandbox)
    deal = str(only(sync.sandbox, "Opportunity")["Id"])
    amends = {"Amends_Opportunity__c": deal, "Service_Start_Date__c": None, "Term_Months__c": None}
    sell(sync.sandbox, {"product": "Analyst Seat", "price": 600, "quantity": 5}, **amends)
    sync.wait(60)
    planned = plan_of(sync)
    assert ('"20"', '"25"') in {(each.old, each.new) for each in planned.writes if each.field == "quantity"}
    report = apply_plan(sync.engine, planned, allow=False)
    assert report.moved == []
    assert 25 in {each["quantity"] for each in records(sync.sandbox, "subscription_item")}
    assert plan_of(sync).writes == ()
    sync.check_books()


def test_a_plan_of_what_a_person_ruled_still_fits_when_it_is_applied_later(sync: Installation) -> None:
    """When it is decided, and from when on the seats count, is told by the moment at which it is written."""
    win(sync.sandbox)
    sync.rest()
    seats = seat_line(sync)
    edit(sync.sandbox, "OpportunityLineItem", seats["Id"], Quantity=28, UnitPrice=600)
    item = seats["Stripe_Subscription_Item_Id__c"]
    at_stripe(sync.sandbox, "POST", f"/v1/subscription_items/{item}", quantity=30)
    sync.wait(60)
    sync.rest()
    conflict = only(sync.sandbox, "Sync_Conflict__c")
    edit(sync.sandbox, "Sync_Conflict__c", conflict["Id"], Ruling__c="Stripe")
    sync.wait(60)
    planned = plan_of(sync)
    sync.wait(300)
    assert apply_plan(sync.engine, planned, allow=False).moved == []
    sync.wait(60)
    assert plan_of(sync).writes == ()
    shown = only(sync.sandbox, "Sync_Conflict__c")
    assert (shown["Status__c"], shown["Winner__c"]) == ("Decided", "Stripe")
    sync.check_books()


def test_an_edit_that_rests_is_told_before_it_is_written(sync: Installation) -> None:
    """Whoever edits and asks at once was told that there is nothing to do."""
    win(sync.sandbox)
    sync.rest()
    seats = seat_line(sync)
    edit(sync.sandbox, "OpportunityLineItem", seats["Id"], Quantity=28, UnitPrice=600)
    planned = plan_of(sync)
    assert planned.writes == ()
    (waits,) = planned.waits
    assert (waits.subject, waits.detail) == (seats["Id"], "edited just now, and written once it has rested for 45 s")
    sync.wait(45)
    planned = plan_of(sync)
    assert planned.waits == ()
    assert ("quantity", '"20"', '"28"') in {(each.field, each.old, each.new) for each in planned.writes}


def test_a_line_whose_day_is_ahead_is_told_before_it_is_billed(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    seats = seat_line(sync)
    later = {"OpportunityId": seats["OpportunityId"], "PricebookEntryId": seats["PricebookEntryId"]}
    line = create(sync.sandbox, "OpportunityLineItem", **later, Quantity=5, UnitPrice=550, ServiceDate="2026-03-01")
    planned = plan_of(sync)
    assert planned.writes == ()
    (subscription,) = records(sync.sandbox, "subscription")
    (waits,) = planned.waits
    assert (waits.subject, waits.detail) == (line, f"Analyst Seat comes to {subscription['id']} on its day")
    assert f"{waits.detail} (sent from 2026-03-01 00:00 UTC)" in as_text(planned, width=200)


def test_amendments_are_foreseen_with_their_seats_and_with_what_waits_for_the_renewal(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    deal = str(only(sync.sandbox, "Opportunity")["Id"])
    sync.wait(20 * 24 * 3600)
    amends = {"Amends_Opportunity__c": deal, "Service_Start_Date__c": None, "Term_Months__c": None}
    more = sell(sync.sandbox, {"product": "Analyst Seat", "price": 600, "quantity": 5}, **amends)
    fewer = sell(sync.sandbox, {"product": "Viewer Seat", "price": 200, "quantity": -3}, **amends)
    planned = plan_of(sync)
    assert (planned.not_whole, planned.open_matters) == ((), ())
    assert (f"salesforce/Opportunity/{more}", "ContractId") in {(each.target, each.field) for each in planned.writes}
    (recurring,) = planned.recurring
    # Five seats at 600 a year; what is taken back is not taken back yet.
    assert (recurring.before, recurring.after) == (375_000, 400_000)
    (waits,) = planned.waits
    assert waits.subject == fewer
    told = as_text(planned, width=200)
    assert f"Takes effect later, by itself:\n  {waits.account_id} {fewer}: {waits.detail} (sent from " in told
    assert apply_plan(sync.engine, planned, allow=False).moved == []
    # The account waits for its renewal from then on, so it is never at rest.
    for _ in range(2):
        sync.wait(60)
        sync.drain()
    assert plan_of(sync).writes == ()
    (brought,) = [each for each in records(sync.sandbox, "OpportunityLineItem") if each.get("Amends_Line__c")]
    assert (brought["OpportunityId"], brought["Quantity"]) == (deal, 5)
    messages = {each["Id"]: each.get("Billing_Message__c") for each in records(sync.sandbox, "Opportunity")}
    assert messages == {deal: None, more: None, fewer: waits.detail}
    sync.check_books()
