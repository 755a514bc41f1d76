"""A plan tells what will happen, or says that it cannot: what was found when previews were held against the invoices
that came, and kept plans against what their application wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core import canonical
from sync_pipeline.core.rules import Guards, Priority
from sync_pipeline.core.world import World
from sync_pipeline.engine import queue, rounds
from sync_pipeline.engine.apply_plan import apply_plan
from sync_pipeline.engine.context import Engine, Halted
from sync_pipeline.engine.guard import GuardTripped, hold
from sync_pipeline.engine.observe import observe
from sync_pipeline.engine.planning import PlanDocument, document, foresee_accounts, from_json
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import DAY, Installation
from sync_pipeline_tests.engine.people import another_deal, create, edit, mark, only, pay, records, win, writes_since
from sync_pipeline_tests.engine.selling import entry, sell

OF_AN_AMENDMENT = {"Service_Start_Date__c": None, "Term_Months__c": None}


def test_two_changes_that_are_prorated_otherwise_are_given_no_number(sync: Installation) -> None:
    """Stripe previews with one proration: the end, which gives nothing back, was told with the credit of the seats."""
    _billed(sync)
    edit(sync.sandbox, "Contract", only(sync.sandbox, "Contract")["Id"], Cancel_Requested_On__c="2026-06-30")
    edit(sync.sandbox, "OpportunityLineItem", _line(sync, 600), Quantity=25, UnitPrice=600)
    sync.wait(60)
    planned = _plan(sync)
    assert {"cancel_at", "quantity"} <= {write.field for write in planned.writes}
    assert planned.invoices == ()


def test_a_product_that_an_amendment_adds_is_foreseen(sync: Installation) -> None:
    """What a later round needs of the rate card was not read: the plan ended there, and said that it was whole."""
    deal = _billed(sync)
    sell(sync.sandbox, {"product": "Addon", "price": 60, "quantity": 5}, Amends_Opportunity__c=deal, **OF_AN_AMENDMENT)
    sync.wait(60)
    planned = _plan(sync)
    assert planned.not_whole == ()
    assert [(each.before, each.after) for each in planned.recurring] == [(375_000, 377_500)]
    assert apply_plan(sync.engine, planned, allow=False).moved == []
    sync.rest()
    assert only(sync.sandbox, "Account")["MRR__c"] == 3775


def test_a_comparison_counts_what_an_amendment_will_add(sync: Installation) -> None:
    deal = _billed(sync)
    large = {"product": "Addon", "price": 60_000, "quantity": 5}
    sell(sync.sandbox, large, Amends_Opportunity__c=deal, **OF_AN_AMENDMENT)
    sync.wait(60)
    with pytest.raises(GuardTripped, match="MRR"):
        reconcile(_under(sync, Guards(mrr={"GBP": Decimal(1000)})).engine)


def test_another_price_than_the_planned_one_is_not_billed(sync: Installation) -> None:
    """In its free months no figure tells of it."""
    both = ({"product": "Addon", "price": price, "quantity": 1} for price in (100, 900))
    sell(sync.sandbox, *both)
    sync.rest()
    deal = sell(sync.sandbox, {"product": "Analyst Seat", "price": 600, "quantity": 10}, Free_Months__c=2)
    sync.rest()
    book = {each["Pricebook2Id"] for each in records(sync.sandbox, "Opportunity") if each["Id"] == deal}.pop()
    addon = entry(sync.sandbox, {"product": "Addon"}, None, book)
    line = create(
        sync.sandbox, "OpportunityLineItem", OpportunityId=deal, PricebookEntryId=addon, Quantity=5, UnitPrice=100
    )
    sync.wait(60)
    planned = _plan(sync)
    edit(sync.sandbox, "OpportunityLineItem", line, Quantity=5, UnitPrice=900)
    sync.wait(60)
    start = mark(sync.sandbox)
    moved = apply_plan(sync.engine, planned, allow=False).moved
    assert [each.what for each in moved] == ["is sent otherwise now: at another price, or from another moment"]
    assert writes_since(sync.sandbox, start) == []


def test_seats_that_count_from_another_day_than_planned_are_not_billed(sync: Installation) -> None:
    _billed(sync)
    edit(sync.sandbox, "OpportunityLineItem", _line(sync, 600), Quantity=25, UnitPrice=600)
    sync.wait(60)
    planned = _plan(sync)
    sync.wait(100 * DAY)
    edit(sync.sandbox, "OpportunityLineItem", _line(sync, 600), Description="saved again")
    sync.wait(60)
    start = mark(sync.sandbox)
    assert apply_plan(sync.engine, planned, allow=False).moved
    assert writes_since(sync.sandbox, start) == []


def _lost(sync: Installation) -> None:
    edit(sync.sandbox, "Opportunity", only(sync.sandbox, "Opportunity")["Id"], StageName="Closed Lost")


def _another_customer(sync: Installation) -> None:
    edit(sync.sandbox, "Account", only(sync.sandbox, "Account")["Id"], Stripe_Customer_Id__c="cus_other")


@pytest.mark.parametrize("happens", [_lost, _another_customer])
def test_a_plan_that_only_tells_of_a_conflict_can_be_applied(
    sync: Installation, happens: Callable[[Installation], None]
) -> None:
    """Its record is written a round later than the plan had shown: every line was refused, each time again."""
    _billed(sync)
    happens(sync)
    sync.wait(60)
    planned = _plan(sync)
    assert planned.writes
    assert apply_plan(sync.engine, planned, allow=False).moved == []
    assert len(records(sync.sandbox, "Sync_Conflict__c")) == 1


def test_the_first_invoice_of_a_deal_that_began_before_bills_every_period_since(sync: Installation) -> None:
    seats = {"product": "Analyst Seat", "price": 60, "quantity": 10}
    sell(sync.sandbox, seats, Billing_Interval__c="Monthly", Service_Start_Date__c="2025-11-15")
    planned = _plan(sync)
    apply_plan(sync.engine, planned, allow=False)
    sync.rest()
    assert [each.after for each in planned.invoices] == [only(sync.sandbox, "invoice")["total"]] == [180_000]


def test_each_line_of_a_first_invoice_is_rounded_by_itself(sync: Installation) -> None:
    """An attack found it: 30.01 was planned, and 30.00 invoiced."""
    calls = [{"product": f"Calls {number}", "price": 10.004} for number in range(3)]
    sell(sync.sandbox, *calls, Billing_Interval__c="Monthly")
    planned = _plan(sync)
    apply_plan(sync.engine, planned, allow=False)
    sync.rest()
    assert [each.after for each in planned.invoices] == [only(sync.sandbox, "invoice")["total"]] == [3_000]


def test_nothing_is_applied_while_a_stop_holds(sync: Installation) -> None:
    _billed(sync)
    sync = _under(sync, Guards(creates=1))
    account, line = str(only(sync.sandbox, "Account")["Id"]), _line(sync, 600)
    another_deal(sync.sandbox, "Small Ltd")
    with pytest.raises(GuardTripped):
        sync.drain()
    edit(sync.sandbox, "OpportunityLineItem", line, Quantity=25, UnitPrice=600)
    sync.wait(700)
    planned, start = _plan(sync, account), mark(sync.sandbox)
    with pytest.raises(Halted, match="stopped by a guard"):
        apply_plan(sync.engine, planned, allow=False)
    assert writes_since(sync.sandbox, start) == []


def test_many_small_plans_count_together(sync: Installation) -> None:
    sync = _under(sync, Guards(creates=2))
    for number in range(2):
        known = {each["Id"] for each in records(sync.sandbox, "Account")}
        another_deal(sync.sandbox, f"Company {number} Ltd")
        (account,) = {each["Id"] for each in records(sync.sandbox, "Account")} - known
        if number == 0:
            apply_plan(sync.engine, _plan(sync, account), allow=False)
        else:
            with pytest.raises(GuardTripped):
                apply_plan(sync.engine, _plan(sync, account), allow=False)
    assert len(records(sync.sandbox, "subscription")) == 1


def test_a_plan_of_which_nothing_fits_ends_no_stop(sync: Installation) -> None:
    win(sync.sandbox)
    sync = _under(sync, Guards(creates=1))
    planned = _plan(sync)
    edit(sync.sandbox, "Opportunity", only(sync.sandbox, "Opportunity")["Id"], StageName="Prospecting")
    another_deal(sync.sandbox, "Small Ltd")
    with pytest.raises(GuardTripped):
        sync.drain()
    sync.wait(700)
    assert apply_plan(sync.engine, planned, allow=True).total.writes == 0
    assert hold(sync.ledger)


def test_an_account_in_other_hands_is_told(sync: Installation) -> None:
    win(sync.sandbox)
    planned = _plan(sync)
    queue.claim_named(sync.engine, "somebody", [str(only(sync.sandbox, "Account")["Id"])], Priority.CREATE)
    total = apply_plan(sync.engine, planned, allow=False).total
    assert (total.writes, total.deferred) == (0, 1)
    assert total.problems == {"1 accounts are in other hands at present; apply the plan again"}


def _plan(sync: Installation, *accounts: str) -> PlanDocument:
    """The plan of these accounts, by default of all, as it comes out of its file."""
    named = list(accounts) or [str(each["Id"]) for each in records(sync.sandbox, "Account")]
    return from_json(canonical.encode(document(sync.engine, foresee_accounts(sync.engine, named))))


def _billed(sync: Installation) -> str:
    """The story's deal in its second month, paid; its id."""
    win(sync.sandbox)
    sync.rest()
    pay(sync.sandbox)
    sync.wait(40 * DAY)
    sync.rest()
    return str(only(sync.sandbox, "Opportunity")["Id"])


def _line(sync: Installation, price: float) -> Any:
    (found,) = [each["Id"] for each in records(sync.sandbox, "OpportunityLineItem") if each["UnitPrice"] == price]
    return found


def _under(sync: Installation, guards: Guards) -> Installation:
    return replace(sync, engine=replace(sync.engine, rules=replace(sync.engine.rules, guards=guards)))


@pytest.mark.parametrize("looks", [1, 2])
def test_seats_that_are_edited_while_a_plan_is_applied_are_not_billed(
    sync: Installation, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """Only the first round was compared, which makes the customer: 45,000 were shown and 153,000 were billed."""
    win(sync.sandbox)
    planned = _plan(sync)
    seen: list[int] = []

    def look(engine: Engine, names: Sequence[str], **how: Any) -> dict[str, World]:
        seen.append(len(seen) + 1)
        if seen[-1] == looks:
            edit(sync.sandbox, "OpportunityLineItem", _line(sync, 600), Quantity=200, UnitPrice=600)
        return observe(engine, names, **how)

    monkeypatch.setattr(rounds, "observe", look)
    report = apply_plan(sync.engine, planned, allow=True)
    assert [each.target.partition(":")[0] for each in report.moved] == ["sub"]
    assert records(sync.sandbox, "invoice") == []
    assert apply_plan(sync.engine, _plan(sync), allow=True).moved == []
    assert [each["total"] for each in records(sync.sandbox, "invoice")] == [15_300_000]


def test_a_plan_with_a_conflict_and_other_writes_can_be_applied(sync: Installation) -> None:
    """Its first round writes nothing, and what shows the conflict then has the event that the ledger knows."""
    rules = sync.engine.rules
    asked = replace(rules, commercial=replace(rules.commercial, changes_after_billing="review"))
    sync = replace(sync, engine=replace(sync.engine, rules=asked))
    win(sync.sandbox)
    sync.rest()
    deal = only(sync.sandbox, "Opportunity")
    support = entry(sync.sandbox, {"product": "Premium Support"}, None, deal["Pricebook2Id"])
    create(
        sync.sandbox, "OpportunityLineItem", OpportunityId=deal["Id"], PricebookEntryId=support, Quantity=1, UnitPrice=9
    )
    sync.wait(60)
    assert apply_plan(sync.engine, _plan(sync), allow=True).moved == []
    assert _plan(sync).writes == ()
    assert len(records(sync.sandbox, "Sync_Conflict__c")) == 1


def test_seats_of_an_amendment_are_written_with_the_plan_that_a_person_has_allowed(sync: Installation) -> None:
    """They rested after their line was brought over, and a guard stopped what had just been allowed."""
    deal = _billed(sync)
    sync = _under(sync, Guards(mrr={"GBP": Decimal(10)}))
    seats = {"product": "Analyst Seat", "price": 600, "quantity": 5}
    sell(sync.sandbox, seats, Amends_Opportunity__c=deal, **OF_AN_AMENDMENT)
    sync.wait(60)
    report = apply_plan(sync.engine, _plan(sync), allow=True)
    assert (report.moved, report.total.accounts, report.total.settled, report.total.resting) == ([], 1, 1, 0)
    assert 25 in {each["quantity"] for each in records(sync.sandbox, "subscription_item")}
    sync.wait(60)
    sync.drain()
    assert hold(sync.ledger) is None
