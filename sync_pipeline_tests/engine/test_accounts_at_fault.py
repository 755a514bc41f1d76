"""An account that cannot be served, because of a defect of ours or a record that cannot be read, stops nobody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sync_pipeline.core import deal, guards
from sync_pipeline.core import undo as core_undo
from sync_pipeline.core.commands import Command
from sync_pipeline.core.observation import Observation
from sync_pipeline.core.readings import READINGS, Subject
from sync_pipeline.core.rules import Commercial, Rules
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.world import Link, World
from sync_pipeline.engine import guard, observe, recording, undo
from sync_pipeline.engine import reconcile as certificates
from sync_pipeline.engine.defects import DEFECT
from sync_pipeline.engine.intake import resync
from sync_pipeline.engine.planning import PlanDocument, document, foresee_accounts
from sync_pipeline.engine.reconcile import compare, read_tables, reconcile
from sync_pipeline.systems.alerts import Alerts
from sync_pipeline.systems.outcomes import Guard, Outcome
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline_tests.engine.installation import Installation, installed
from sync_pipeline_tests.engine.odd_answers import cannot_be_answered, shown_as
from sync_pipeline_tests.engine.people import (
    another_deal,
    at_stripe,
    decline,
    edit,
    fault,
    only,
    pay,
    records,
    win,
)
from sync_pipeline_tests.sandbox_process import SandboxHandle


@pytest.fixture
def broken(sync: Installation) -> str:
    """Two deals were won; the Account of the second, which a defect of ours will meet."""
    win(sync.sandbox)
    account, _ = another_deal(sync.sandbox, "Broken")
    return account


def _account(sandbox: SandboxHandle, account: str) -> dict[str, Any]:
    return next(record for record in records(sandbox, "Account") if record["Id"] == account)


def _broken_reading(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """A defect of ours in one rule for one record."""
    reading = READINGS["account_name"]

    def defective(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
        if world.account_id == broken:
            raise ZeroDivisionError("a customer's name")
        return reading(world, rules, subject)

    monkeypatch.setitem(READINGS, "account_name", defective)


def _is_told(problem: str, broken: str) -> bool:
    """By its place, without the message, which may quote data."""
    begin = f"Account {broken} cannot be served: {DEFECT} (ZeroDivisionError in defective"
    return problem.startswith(begin) and "name" not in problem.partition("(")[2]


def test_an_account_that_cannot_be_planned_stops_nobody_else(
    sync: Installation, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are billed, and the place of the defect is told."""
    _broken_reading(monkeypatch, broken)
    report = sync.drain()
    assert only(sync.sandbox, "subscription")["metadata"]["sf_account_id"] != broken
    (problem,) = report.total.problems
    assert _is_told(problem, broken)
    monkeypatch.undo()
    sync.rest()
    assert len(records(sync.sandbox, "subscription")) == 2


@pytest.mark.parametrize("where", ["written down", "answered"])
def test_a_defect_where_a_plan_is_written_down_or_answered_stops_nobody_else(
    sync: Installation, broken: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Both happen for many accounts in one transaction."""
    links_of = observe.found_links

    def found_links(world: World) -> list[Link]:
        return links_of(world) if world.account_id != broken else [1 // 0]  # type: ignore[list-item]

    if where == "written down":
        monkeypatch.setattr(recording, "found_links", found_links)
    else:
        cannot_be_answered(monkeypatch, broken)
    report = sync.drain()
    assert only(sync.sandbox, "subscription")["metadata"]["sf_account_id"] != broken
    place = {"written down": "found_links", "answered": "latest"}[where]
    told = f"Account {broken} cannot be served: {DEFECT} (ZeroDivisionError in {place}, line "
    assert report.total.problems
    assert all(problem.startswith(told) for problem in report.total.problems)
    monkeypatch.undo()
    sync.wait(700)
    sync.rest()
    assert len(records(sync.sandbox, "subscription")) == 2
    sync.check_books()


def test_a_defect_where_a_look_settles_what_is_in_doubt_stops_nobody_else(
    sync: Installation, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first failure was held to its Account and left its write in doubt: every drain after it died of that."""
    sync.rest()
    other = next(each["Id"] for each in records(sync.sandbox, "Account") if each["Id"] != broken)
    cannot_be_answered(monkeypatch, broken)
    edit(sync.sandbox, "Account", broken, MRR__c=1)
    for wrong in (2, 3):
        edit(sync.sandbox, "Account", other, MRR__c=wrong)
        assert sync.drain().total.problems
        assert _account(sync.sandbox, other)["MRR__c"] == 3_750
        sync.wait(700)
    monkeypatch.undo()
    sync.rest()
    assert _account(sync.sandbox, broken)["MRR__c"] != 1
    sync.check_books()


def test_a_defect_where_a_list_is_asked_for_a_create_stops_nobody_else(
    sync: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a subscription whose request was lost, and whose deal was reopened since."""
    win(sync.sandbox)
    sync.rest()
    other = only(sync.sandbox, "Account")["Id"]
    _, deal = another_deal(sync.sandbox, "Broken")
    fault(sync.sandbox, "drop_before", side="stripe", method="POST", path="^/v1/subscriptions$", times=9)
    sync.drain()
    sync.sandbox.control("DELETE", "/faults")
    edit(sync.sandbox, "Opportunity", deal, StageName="Prospecting")
    edit(sync.sandbox, "Account", other, MRR__c=1)
    found = Stripe.find_created

    def find_created(self: Stripe, kind: str, params: Mapping[str, Any], *, since: int) -> str | None:
        return found(self, kind, params, since=since // 0)

    monkeypatch.setattr(Stripe, "find_created", find_created)
    sync.wait(60)
    (problem,) = sync.drain().total.problems
    assert "ZeroDivisionError in find_created" in problem
    assert _account(sync.sandbox, other)["MRR__c"] == 3_750
    monkeypatch.undo()
    sync.wait(700)
    sync.rest()
    assert len(records(sync.sandbox, "subscription")) == 1
    sync.check_books()


def test_a_defect_where_people_are_told_stops_nobody_else(
    sandbox: SandboxHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(self: Alerts, alert: Mapping[str, Any], *, guard: Guard) -> Outcome:
        raise ZeroDivisionError("a customer's name")

    monkeypatch.setattr(Alerts, "send", send)
    with installed(sandbox, tmp_path, extra={"SYNC_ALERT_WEBHOOK": "http://127.0.0.1:9/hook"}) as sync:
        win(sandbox)
        sync.rest()
        decline(sandbox)
        sync.drain()
        sync.wait(60)
        (problem,) = sync.drain().total.problems
    assert "ZeroDivisionError in send" in problem
    assert len(records(sandbox, "Task")) == 1


def test_the_nightly_comparison_goes_on_past_an_account_that_cannot_be_planned(
    sync: Installation, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the certificate from everybody: only a drain held such a defect to its Account."""
    _broken_reading(monkeypatch, broken)
    certificate = reconcile(sync.engine)
    assert only(sync.sandbox, "subscription")["metadata"]["sf_account_id"] != broken
    ((account, what),) = [(each.account, each.what) for each in certificate.left]
    assert account == broken
    assert _is_told(what, broken)
    assert (certificate.accounts, certificate.repaired, certificate.agrees) == (2, 1, False)
    monkeypatch.undo()
    assert reconcile(sync.engine).agrees


def _plan(sync: Installation, *, of_all: bool) -> PlanDocument:
    accounts = [record["Id"] for record in records(sync.sandbox, "Account")]
    if of_all:
        return document(sync.engine, list(compare(sync.engine, read_tables(sync.engine)).ahead.values()))
    return document(sync.engine, foresee_accounts(sync.engine, accounts))


@pytest.mark.parametrize("of_all", [True, False])
def test_a_plan_tells_the_account_that_cannot_be_planned_and_plans_the_others(
    sync: Installation, broken: str, monkeypatch: pytest.MonkeyPatch, of_all: bool
) -> None:
    _broken_reading(monkeypatch, broken)
    planned = _plan(sync, of_all=of_all)
    (unread,) = planned.unread
    assert unread.account_id == broken
    assert _is_told(unread.why, broken)
    written = {write.account_id for write in planned.writes}
    assert written == {record["Id"] for record in records(sync.sandbox, "Account")} - {broken}


def test_what_the_guards_cannot_count_is_not_written_and_stops_nobody_else(
    sync: Installation, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(commands: Iterable[Command], before: World, after: World) -> Counter[str]:
        if before.account_id == broken:
            raise ZeroDivisionError("a customer's name")
        return guards.counted(commands, before, after)

    monkeypatch.setattr(guard, "counted", counted)
    (problem,) = sync.drain().total.problems
    assert problem.startswith(f"Account {broken} cannot be served: {DEFECT} (ZeroDivisionError in counted")
    assert only(sync.sandbox, "subscription")["metadata"]["sf_account_id"] != broken
    certificate = reconcile(sync.engine)
    assert {each.account for each in certificate.left} == {broken}
    assert len(records(sync.sandbox, "subscription")) == 1
    monkeypatch.undo()
    sync.wait(700)
    sync.rest()
    assert len(records(sync.sandbox, "subscription")) == 2


def test_what_cannot_be_set_back_of_one_account_is_of_the_others(
    sync: Installation, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.rest()

    def reverse(world: World, *more: Any) -> Iterator[Any]:
        if world.account_id == broken:
            raise ZeroDivisionError("a customer's name")
        return core_undo.reverse(world, *more)

    whole = undo.plan_undo(sync.engine, "test")
    monkeypatch.setattr(undo, "reverse", reverse)
    planned = undo.plan_undo(sync.engine, "test")
    assert planned.unread.keys() == {broken} == whole.commands.keys() - planned.commands.keys()
    (other,) = planned.commands
    done = undo.carry_out(sync.engine, whole, allow=True).total
    assert done.waiting == {broken}
    assert "MRR__c" not in _account(sync.sandbox, other)
    assert _account(sync.sandbox, broken)["MRR__c"] == 100.0


def test_figures_that_cannot_be_told_of_one_account_are_left_out_of_the_certificate(
    sync: Installation, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.rest()

    def account_currency(account: Account, commercial: Commercial) -> str:
        if account.id == broken:
            raise ZeroDivisionError("a customer's name")
        return deal.account_currency(account, commercial)

    monkeypatch.setattr(certificates, "account_currency", account_currency)
    certificate = reconcile(sync.engine)
    assert [each.account for each in certificate.left] == [broken]
    assert certificate.totals["mrr"]["GBP"].stripe == 375_000
    assert not certificate.agrees


SALESFORCE_SHAPES = [
    ("Opportunity", "Term_Months__c", "12 months"),
    ("Opportunity", "SystemModstamp", "yesterday"),
    ("Opportunity", "Service_Start_Date__c", "as soon as possible"),
    ("OpportunityLineItem", "UnitPrice", "n/a"),
    ("Account", "MRR__c", "NaN"),
]


def _odd_record(sync: Installation, monkeypatch: pytest.MonkeyPatch, kind: str, **fields: Any) -> tuple[str, str]:
    """Another Account with a deal of which one record has these fields; its id and that record's."""
    account, deal = another_deal(sync.sandbox, "Odd")
    of = {"Account": ("Id", account), "Opportunity": ("Id", deal), "OpportunityLineItem": ("OpportunityId", deal)}
    name, value = of[kind]
    (record,) = [each["Id"] for each in records(sync.sandbox, kind) if each[name] == value]
    shown_as(monkeypatch, record, **fields)
    return account, record


@pytest.mark.parametrize(("kind", "field", "value"), SALESFORCE_SHAPES)
def test_a_salesforce_record_of_an_unknown_shape_stops_only_its_account(
    sync: Installation, monkeypatch: pytest.MonkeyPatch, kind: str, field: str, value: str
) -> None:
    """A field that another package made a text: the parse of a whole chunk of Accounts died of it."""
    win(sync.sandbox)
    odd, record = _odd_record(sync, monkeypatch, kind, **{field: value})
    report = sync.drain()
    assert only(sync.sandbox, "subscription")["metadata"]["sf_account_id"] != odd
    assert report.total.problems == {f"Salesforce: {field} of {kind} {record} cannot be read"}
    assert report.total.deferred >= 1
    assert sync.open_reviews() == {}
    monkeypatch.undo()
    sync.wait(700)
    sync.rest()
    assert len(records(sync.sandbox, "subscription")) == 2
    sync.check_books()


@pytest.mark.parametrize(("kind", "field", "value"), SALESFORCE_SHAPES)
def test_a_salesforce_record_of_an_unknown_shape_is_told_by_the_certificate_and_by_a_plan(
    sync: Installation, monkeypatch: pytest.MonkeyPatch, kind: str, field: str, value: str
) -> None:
    win(sync.sandbox)
    odd, record = _odd_record(sync, monkeypatch, kind, **{field: value})
    why = f"Salesforce: {field} of {kind} {record} cannot be read"
    for planned in (_plan(sync, of_all=True), _plan(sync, of_all=False)):
        assert [(each.account_id, each.why) for each in planned.unread] == [(odd, why)]
        assert {write.account_id for write in planned.writes} == {records(sync.sandbox, "Account")[0]["Id"]}
    certificate = reconcile(sync.engine)
    assert [(each.account, each.what) for each in certificate.left] == [(odd, why)]
    assert (certificate.repaired, certificate.agrees) == (1, False)
    assert only(sync.sandbox, "subscription")["metadata"]["sf_account_id"] != odd
    monkeypatch.undo()
    assert reconcile(sync.engine).agrees


HUGE = 10**30
BARELY_HELD = 2**62
STRIPE_SHAPES = [
    ("refund", {"amount": None}),
    ("refund", {"amount": "a few pounds"}),
    ("invoice_payment", {"amount_paid": "all"}),
    ("invoice_payment", {"amount_paid": HUGE}),
    ("invoice_payment", {"id": None}),
    ("subscription_item", {"quantity": HUGE}),
    ("subscription_item", {"quantity": BARELY_HELD}),
    ("price", {"unit_amount_decimal": str(HUGE)}),
    ("subscription", {"currency": None}),
    ("subscription", {"start_date": None}),
    ("subscription", {"items": None}),
    ("customer", {"address": "1 High Street"}),
    ("invoice", {"created": None}),
    ("charge", {"status": 5}),
]


def _odd_at_stripe(sync: Installation, monkeypatch: pytest.MonkeyPatch, kind: str, fields: dict[str, Any]) -> str:
    """The story's customer has paid, and got something back; one of its objects has these fields. The Account's id."""
    sandbox = sync.sandbox
    win(sandbox)
    sync.rest()
    pay(sandbox)
    at_stripe(sandbox, "POST", "/v1/refunds", charge=only(sandbox, "charge")["id"], amount=100)
    item = only(sandbox, "subscription")["items"]["data"][0]
    of_item = {"subscription_item": item["id"], "price": item["price"]["id"]}
    shown_as(monkeypatch, of_item.get(kind) or only(sandbox, kind)["id"], **fields)
    return str(only(sandbox, "Account")["Id"])


@pytest.mark.parametrize(("kind", "fields"), STRIPE_SHAPES)
def test_an_object_of_stripe_of_an_unknown_shape_stops_only_its_account(
    sync: Installation, monkeypatch: pytest.MonkeyPatch, kind: str, fields: dict[str, Any]
) -> None:
    """What no column can hold was found only where the money facts of all Accounts are stored together."""
    odd = _odd_at_stripe(sync, monkeypatch, kind, fields)
    other, _ = another_deal(sync.sandbox, "Next plc")
    resync(sync.ledger, [odd, other], sync.env)
    report = sync.drain()
    assert _account(sync.sandbox, other)["MRR__c"] == 100.0
    (problem,) = report.total.problems
    assert odd in problem
    monkeypatch.undo()
    sync.wait(700)
    sync.rest()
    assert _account(sync.sandbox, odd)["Lifetime_Value__c"] == 44999.0
    sync.check_books()


@pytest.mark.parametrize(("kind", "fields"), {kind: (kind, fields) for kind, fields in STRIPE_SHAPES}.values())
def test_an_object_of_stripe_of_an_unknown_shape_is_told_by_the_certificate(
    sync: Installation, monkeypatch: pytest.MonkeyPatch, kind: str, fields: dict[str, Any]
) -> None:
    """It took the certificate from everybody: a list was read as a whole or not at all."""
    odd = _odd_at_stripe(sync, monkeypatch, kind, fields)
    other, _ = another_deal(sync.sandbox, "Next plc")
    certificate = reconcile(sync.engine)
    assert {each.account for each in certificate.left} == {odd}
    assert (certificate.accounts, certificate.repaired, certificate.agrees) == (2, 1, False)
    assert _account(sync.sandbox, other)["MRR__c"] == 100.0
    monkeypatch.undo()
    assert reconcile(sync.engine).agrees


def test_a_customer_of_an_unknown_shape_that_was_made_just_now_stops_no_new_deal(
    sync: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever needs a customer looks through all that were made in the last hour, because search lags behind."""
    odd = at_stripe(sync.sandbox, "POST", "/v1/customers", name="Somebody else")["id"]
    shown_as(monkeypatch, odd, address="1 High Street", name=["Somebody", "else"])
    win(sync.sandbox)
    assert sync.drain().total.problems == set()
    assert only(sync.sandbox, "Account")["MRR__c"] == 3750.0


@pytest.mark.parametrize("step", ["unrecorded_facts", "products_to_look_up"])
def test_a_defect_in_what_is_found_out_from_the_billing_of_one_account_stops_nobody_else(
    sync: Installation, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    win(sync.sandbox)
    sync.rest()
    broken, other = only(sync.sandbox, "Account")["Id"], another_deal(sync.sandbox, "Next plc")[0]
    whole = getattr(observe, step)

    def defective(world: World, of: Any) -> Any:
        if world.account_id == broken:
            raise ZeroDivisionError("a customer's name")
        return whole(world, of)

    monkeypatch.setattr(observe, step, defective)
    resync(sync.ledger, [broken, other], sync.env)
    (problem,) = sync.drain().total.problems
    assert _is_told(problem, broken)
    assert _account(sync.sandbox, other)["MRR__c"] == 100.0
    edit(sync.sandbox, "Account", other, MRR__c=1)
    ((account, what),) = [(each.account, each.what) for each in reconcile(sync.engine).left]
    assert account == broken
    assert _is_told(what, broken)
    assert _account(sync.sandbox, other)["MRR__c"] == 100.0
