"""A run is undone: what it wrote to Salesforce and still stands is set back, whatever people did since survives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sync_pipeline.core.undo import NOT_SHOWN
from sync_pipeline.engine.explain import explain
from sync_pipeline.engine.guard import HOLD, GuardTripped
from sync_pipeline.engine.undo import UndoError, carry_out, plan_undo
from sync_pipeline.engine.undo_text import as_markdown
from sync_pipeline.ledger import audit, cursors
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import (
    at_stripe,
    create,
    delete,
    edit,
    fault,
    mark,
    merge,
    only,
    pay,
    records,
    win,
    writes_since,
)


@pytest.fixture
def paid(sync: Installation) -> Installation:
    """The deal was won and billed in the run `test`, and paid and written back in the run `wrong`."""
    win(sync.sandbox)
    sync.rest()
    pay(sync.sandbox)
    replace(sync, engine=replace(sync.engine, run="wrong")).rest()
    return sync


def without_rules(sync: Installation, *targets: str) -> Installation:
    """The rules of these fields were wrong and are switched off."""
    rules = sync.engine.rules
    kept = tuple(rule for rule in rules.fields if rule.target not in targets)
    return replace(sync, engine=replace(sync.engine, rules=replace(rules, fields=kept)))


def test_what_a_mended_rule_no_longer_asks_for_is_set_back_and_stays_so(paid: Installation) -> None:
    account = only(paid.sandbox, "Account")
    assert account["Lifetime_Value__c"] == 45000
    mended = without_rules(paid, "account.lifetime_value")
    undo = plan_undo(mended.engine, "wrong")
    (value,) = [c for commands in undo.commands.values() for x in commands for c in x.changes if "Lifetime" in c.field]
    assert (value.old, value.new) == ("45000", "0")
    assert "Lifetime_Value__c" not in {each.field for each in undo.again}
    assert "Activation_Status__c" in {each.field for each in undo.again}
    carry_out(mended.engine, undo)
    assert only(paid.sandbox, "Account")["Lifetime_Value__c"] == 0
    assert only(paid.sandbox, "Opportunity")["Activation_Status__c"] == "Pending"
    mended.rest()
    assert only(paid.sandbox, "Account")["Lifetime_Value__c"] == 0
    assert only(paid.sandbox, "Opportunity")["Activation_Status__c"] == "Activated"
    mended.check_books()


def test_what_people_changed_since_survives(paid: Installation) -> None:
    account = only(paid.sandbox, "Account")["Id"]
    edit(paid.sandbox, "Account", account, Lifetime_Value__c=123)
    undo = plan_undo(without_rules(paid, "account.lifetime_value").engine, "wrong")
    assert "Lifetime_Value__c" not in {c.field for x in undo.commands[account] for c in x.changes}
    (stays,) = [each for each in undo.stays if each.field == "Lifetime_Value__c"]
    assert stays.why == "it was changed since: 45000 was written, 123 stands there now"


def test_what_was_made_at_stripe_is_shown_and_stays(paid: Installation) -> None:
    undo = plan_undo(paid.engine, "test")
    subscription = only(paid.sandbox, "subscription")["id"]
    assert any(f"{subscription} was made at Stripe" in each.why for each in undo.stays)
    before = records(paid.sandbox, "subscription")
    carry_out(paid.engine, undo)
    assert records(paid.sandbox, "subscription") == before


def test_a_record_that_is_gone_stays_gone(paid: Installation) -> None:
    opportunity = only(paid.sandbox, "Opportunity")["Id"]
    delete(paid.sandbox, "Opportunity", opportunity)
    undo = plan_undo(paid.engine, "wrong")
    gone = {each.target: each.why for each in undo.stays}
    assert gone == {f"salesforce/Opportunity/{opportunity}": NOT_SHOWN}
    assert {x.target for commands in undo.commands.values() for x in commands} == {
        f"salesforce/Account/{only(paid.sandbox, 'Account')['Id']}"
    }


def test_what_a_merged_account_had_is_set_back_where_it_is_now(paid: Installation) -> None:
    """An attack found it: the deal had gone along, what was written on it stood, and it was told as gone."""
    old = str(only(paid.sandbox, "Account")["Id"])
    new = create(paid.sandbox, "Account", Name="Northwind Group plc")
    merge(paid.sandbox, old, new)
    paid.wait(60)
    paid.rest()
    deal = only(paid.sandbox, "Opportunity")["Id"]
    undo = plan_undo(paid.engine, "wrong")
    assert [x.target for x in undo.commands[new]] == [f"salesforce/Opportunity/{deal}"]
    assert {each.target for each in undo.stays} == {f"salesforce/Account/{old}"}
    assert carry_out(paid.engine, undo).total.done == 1
    assert only(paid.sandbox, "Opportunity")["Activation_Status__c"] == "Pending"


def test_a_deal_that_was_moved_is_not_told_as_gone(paid: Installation) -> None:
    new = create(paid.sandbox, "Account", Name="Contoso Ltd", BillingCountry="United Kingdom")
    deal = only(paid.sandbox, "Opportunity")["Id"]
    edit(paid.sandbox, "Opportunity", deal, AccountId=new)
    paid.wait(60)
    paid.rest()
    undo = plan_undo(paid.engine, "wrong")
    assert {each.why for each in undo.stays if deal in each.target} == {NOT_SHOWN}


def test_an_undo_that_writes_to_more_than_a_run_may_asks_first(paid: Installation) -> None:
    """One Account is all there are: with a share of half, a person has to allow it."""
    guards = replace(paid.engine.rules.guards, share=50, share_from=0)
    guarded = replace(paid.engine, rules=replace(paid.engine.rules, guards=guards))
    undo, before = plan_undo(guarded, "wrong"), mark(paid.sandbox)
    with pytest.raises(GuardTripped, match=r"1 of 1 accounts written to.*undo RUN --write --allow") as stopped:
        carry_out(guarded, undo)
    assert {each.field for each in stopped.value.plan.writes} >= {"Lifetime_Value__c", "Activation_Status__c"}
    assert writes_since(paid.sandbox, before) == []
    assert carry_out(guarded, undo, allow=True).total.done > 0


def test_a_run_can_be_undone_while_a_guard_has_stopped_all_others(paid: Installation) -> None:
    """It may be how what they were stopped for is set right."""
    with paid.ledger.tx() as conn:
        cursors.put(conn, HOLD, "stopped by a guard", paid.env.now())
    assert carry_out(paid.engine, plan_undo(paid.engine, "wrong")).total.done > 0


def test_undoing_twice_sets_back_once(paid: Installation) -> None:
    mended = without_rules(paid, "account.lifetime_value")
    assert carry_out(mended.engine, plan_undo(mended.engine, "wrong")).total.done > 0
    again = plan_undo(mended.engine, "wrong")
    assert "Lifetime_Value__c" not in {c.field for x in again.commands.values() for y in x for c in y.changes}


def test_an_activated_contract_stays_activated(paid: Installation) -> None:
    """It is activated by a write of its own, whose target has a word behind the id; Salesforce refuses the way back."""
    contract = only(paid.sandbox, "Contract")["Id"]
    undo = plan_undo(paid.engine, "test")
    stays = {each.target: each.why for each in undo.stays}
    assert "takes no Contract back" in stays[f"salesforce/Contract/{contract}/status"]
    assert any(x.target == f"salesforce/Contract/{contract}" for commands in undo.commands.values() for x in commands)
    assert carry_out(paid.engine, undo).total.parked == []


def test_what_the_rules_then_bill_because_of_what_is_set_back_is_shown(paid: Installation) -> None:
    """An attack found it: seats that Salesforce had followed were set back, and Stripe went down without a word."""
    (item,) = [each for each in records(paid.sandbox, "subscription_item") if each["quantity"] == 20]
    at_stripe(paid.sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=40)
    paid.wait(60)
    replace(paid, engine=replace(paid.engine, run="followed")).rest()
    undo = plan_undo(paid.engine, "followed")
    assert undo.leads_to is not None
    assert [(each.target, each.old, each.new) for each in undo.leads_to.writes] == [
        (f"stripe/subscription_item/{item['id']}", '"40"', '"20"')
    ]
    (recurring,) = undo.leads_to.recurring
    assert (recurring.before, recurring.after) == (475_000, 375_000)
    assert undo.leads_to.invoices
    assert item["id"] in as_markdown(undo, most=100)
    carry_out(paid.engine, undo)
    paid.wait(60)
    paid.rest()
    assert {each["quantity"] for each in records(paid.sandbox, "subscription_item")} == {1, 15, 20}


def test_a_run_that_wrote_nothing_is_refused(paid: Installation) -> None:
    with pytest.raises(UndoError, match="no write of a run 'wrnog'"):
        plan_undo(paid.engine, "wrnog")


def test_an_edit_between_the_look_and_the_writing_survives_and_no_false_before_is_told(paid: Installation) -> None:
    mended = without_rules(paid, "account.billing_plan", "account.mrr")
    undo = plan_undo(mended.engine, "test")
    account = only(paid.sandbox, "Account")["Id"]
    planned = {c.field for x in undo.commands[account] for c in x.changes}
    assert {"Billing_Plan__c", "MRR__c"} <= planned
    edit(paid.sandbox, "Account", account, Billing_Plan__c="HUMAN")
    done = carry_out(mended.engine, undo)
    shown = only(paid.sandbox, "Account")
    assert (shown["Billing_Plan__c"], shown.get("MRR__c")) == ("HUMAN", None)
    (stays,) = [each for each in done.stays if each.field == "Billing_Plan__c"]
    assert stays.why.endswith("was written, HUMAN stands there now")
    (told,) = [each for each in explain(mended.engine, f"Account/{account}") if each.field == "Billing_Plan__c"]
    assert "HUMAN" not in {each.new for each in told.writes} | {each.old for each in told.writes}
    assert not [each for each in told.writes if each.rule == "undo"]


def test_what_cannot_be_read_is_left_and_not_told_as_gone(paid: Installation) -> None:
    account, before = only(paid.sandbox, "Account")["Id"], mark(paid.sandbox)
    fault(paid.sandbox, "stripe_503", side="stripe", times=100)
    undo = plan_undo(paid.engine, "wrong")
    assert (undo.commands, list(undo.unread)) == ({}, [account])
    assert "Stripe" in undo.unread[account]
    assert carry_out(paid.engine, undo).total.done == 0
    assert writes_since(paid.sandbox, before) == []


def test_only_writes_that_took_effect_count_and_what_stays_at_stripe_is_told_with_its_values(
    paid: Installation,
) -> None:
    """A seat edit is refused in one run and billed in the next."""
    (line,) = [each for each in records(paid.sandbox, "OpportunityLineItem") if each["Quantity"] == 20]
    edit(paid.sandbox, "OpportunityLineItem", line["Id"], Quantity=23, UnitPrice=600)
    fault(paid.sandbox, "stripe_429", side="stripe", method="POST", path="subscription_items", times=1)
    replace(paid, engine=replace(paid.engine, run="refused")).drain()
    paid.wait(700)
    replace(paid, engine=replace(paid.engine, run="billed")).rest()
    with paid.ledger.read() as conn:
        writes = {each.run: each.writes for each in audit.runs(conn, 10)}
    assert "refused" not in writes
    assert writes["billed"] > 0
    item = next(i for i in only(paid.sandbox, "subscription")["items"]["data"] if i["quantity"] == 23)
    (stays,) = [each for each in plan_undo(paid.engine, "billed").stays if item["id"] in each.target]
    assert (stays.field, stays.why) == ("quantity", "20 -> 23 was written at Stripe, where nothing is undone by itself")


def test_a_persons_edit_between_two_writes_of_the_run_is_what_is_set_back_to(paid: Installation) -> None:
    """A worker is one run as long as it lives: the seats of before its first write were set back, and billed."""
    (item,) = [each for each in records(paid.sandbox, "subscription_item") if each["quantity"] == 20]
    line = next(each["Id"] for each in records(paid.sandbox, "OpportunityLineItem") if each["Quantity"] == 20)
    worker = replace(paid, engine=replace(paid.engine, run="worker"))

    def rested() -> None:
        paid.wait(60)
        worker.rest()

    at_stripe(paid.sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=23)
    rested()
    edit(paid.sandbox, "OpportunityLineItem", line, Quantity=30, UnitPrice=600)
    rested()
    at_stripe(paid.sandbox, "POST", f"/v1/subscription_items/{item['id']}", quantity=28)
    rested()
    undo = plan_undo(paid.engine, "worker")
    set_back = [change for some in undo.commands.values() for each in some for change in each.changes]
    assert [(each.old, each.new) for each in set_back if each.field == "Quantity"] == [("28", "30")]


def test_what_a_run_wrote_before_and_after_a_merge_is_set_back_in_the_order_in_which_it_was_written(
    sync: Installation,
) -> None:
    """It was read Account by Account: what came first was taken for what came last."""
    first = only(sync.sandbox, "Account")["Id"]
    later = create(sync.sandbox, "Account", Name="Later Ltd", BillingCountry="United Kingdom")
    assert first < later
    deal = only(sync.sandbox, "Opportunity")["Id"]
    edit(sync.sandbox, "Opportunity", deal, AccountId=later)
    win(sync.sandbox)
    sync.rest()
    merge(sync.sandbox, later, first)
    sync.wait(60)
    sync.rest()
    pay(sync.sandbox)
    sync.rest()
    undo = plan_undo(sync.engine, "test")
    set_back = {change.field: change.new for each in undo.commands[first] for change in each.changes}
    assert set_back["Activation_Status__c"] is None
    assert [each for each in undo.stays if each.field == "Activation_Status__c"] == []
