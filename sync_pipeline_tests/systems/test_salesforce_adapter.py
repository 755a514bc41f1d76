"""The Salesforce adapter against a running sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from sync_pipeline.core.salesforce_records import Account, Opportunity
from sync_pipeline.core.units import MICROS
from sync_pipeline.systems.outcomes import DeadlinePassed, ReadFailed
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.connection import Login
from sync_pipeline.systems.salesforce.writes import Once, Update
from sync_pipeline_tests.sandbox_process import SandboxHandle
from sync_pipeline_tests.systems.conftest import START

NOBODY = "001Aa0000000999IAA"


def unguarded() -> None:
    """Nothing keeps the write from being sent."""


@pytest.fixture
def account(salesforce: Salesforce) -> Account:
    (found,) = salesforce.everything("account")
    assert isinstance(found, Account)
    return found


@pytest.fixture
def opportunity(salesforce: Salesforce) -> Opportunity:
    (found,) = salesforce.everything("opportunity")
    assert isinstance(found, Opportunity)
    return found


def set_fields(
    salesforce: Salesforce, *writes: tuple[str, str, dict[str, Any]], guard: Callable[[], None] = unguarded
) -> list[Any]:
    return salesforce.write([Update(*write) for write in writes], guard=guard)


def test_an_account_is_read_whole_in_one_call(salesforce: Salesforce, account: Account) -> None:
    assert salesforce.fields
    before = salesforce.calls
    seen = salesforce.accounts([account.id])[account.id]
    assert salesforce.calls == before + 1
    assert isinstance(seen.account, Account)
    assert (seen.account.name, seen.account.tax_registration) == ("Northwind Analytics Ltd", "GB123456789")
    (deal,) = seen.opportunities
    assert (deal.amount, deal.is_won, deal.billing_interval, deal.term_months) == (
        Decimal(45_000),
        False,
        "Annual",
        Decimal(12),
    )
    assert deal.contract_id == seen.contracts[0].id
    rates = {line.product_family: (line.unit_price, line.quantity) for line in seen.lines if line.unit_price != 200}
    assert rates == {"Seats": (Decimal(600), Decimal(20)), "Platform": (Decimal(30_000), Decimal(1))}
    assert len(seen.lines) == 3


def test_an_account_that_is_not_shown_is_looked_for_in_the_recycle_bin(
    sandbox: SandboxHandle, salesforce: Salesforce, account: Account
) -> None:
    def human(**what: Any) -> dict[str, Any]:
        body = {"system": "salesforce", "object": "Account", **what}
        result: dict[str, Any] = sandbox.control("POST", "/humans", body)["result"]
        return result

    deleted, winner = (str(human(fields={"Name": name})["Id"]) for name in ("Deleted", "Winner"))
    human(id=deleted, delete=True)
    human(merge={"loser": account.id, "winner": winner})
    since = dict.fromkeys(("account", "opportunity"), 0)
    assert salesforce.fields
    before = salesforce.calls
    found = salesforce.accounts([account.id, winner, deleted, NOBODY])
    assert salesforce.calls == before + 2
    assert {name: (seen.account is None, seen.deleted, seen.merged_into) for name, seen in found.items()} == {
        account.id: (True, True, winner),
        winner: (False, False, None),
        deleted: (True, True, None),
        NOBODY: (True, False, None),
    }
    assert len(found[winner].opportunities) == 1
    changed = {
        change.id: (change.object, change.account_id, change.merged_into) for change in salesforce.changes_since(since)
    }
    assert changed[account.id] == ("account", account.id, winner)
    assert changed[deleted] == ("account", deleted, None)
    assert changed[found[winner].opportunities[0].id] == ("opportunity", winner, None)


def test_active_price_book_entries_of_products_are_looked_up(
    sandbox: SandboxHandle, salesforce: Salesforce, opportunity: Opportunity
) -> None:
    platform, *seats = sorted(salesforce.everything("line"), key=lambda line: line.product_family != "Platform")
    gone = {"system": "salesforce", "object": "PricebookEntry", "id": seats[0].pricebook_entry_id}
    sandbox.control("POST", "/humans", {**gone, "fields": {"IsActive": False}})
    before = salesforce.calls
    found = salesforce.price_book_entries({platform.product_id, seats[0].product_id})
    assert salesforce.calls == before + 1
    (entry,) = found
    assert (entry.id, entry.pricebook_id) == (platform.pricebook_entry_id, opportunity.pricebook_id)
    assert (entry.product_id, entry.product_family, entry.currency) == (platform.product_id, "Platform", None)


def test_every_number_is_a_decimal(salesforce: Salesforce) -> None:
    for line in salesforce.everything("line"):
        assert isinstance(line.unit_price, Decimal)
        assert isinstance(line.quantity, Decimal)


def test_changes_since_a_moment(sandbox: SandboxHandle, salesforce: Salesforce, account: Account) -> None:
    everything = dict.fromkeys(("account", "opportunity", "line", "contract"), 0)
    found = salesforce.changes_since(everything)
    assert {change.object for change in found} == set(everything)
    assert {change.account_id for change in found} == {account.id}
    assert all(change.modified_at <= START * MICROS for change in found)
    sandbox.control("POST", "/clock", {"advance_seconds": 3600})
    later = (START + 1) * MICROS
    assert salesforce.changes_since(dict.fromkeys(everything, later)) == []
    set_fields(salesforce, ("Account", account.id, {"MRR__c": Decimal("1.00")}))
    (change,) = salesforce.changes_since(dict.fromkeys(everything, later))
    assert (change.object, change.id, change.modified_at) == ("account", account.id, (START + 3600) * MICROS)
    assert change.by_us
    sandbox.control(
        "POST", "/humans", {"system": "salesforce", "object": "Account", "id": account.id, "fields": {"Phone": "1"}}
    )
    (change,) = salesforce.changes_since(dict.fromkeys(everything, later))
    assert not change.by_us, "somebody has edited it since"


def test_what_is_written_is_read_back(salesforce: Salesforce, account: Account, opportunity: Opportunity) -> None:
    moment = "2026-11-23T09:30:00.000+0000"
    outcomes = set_fields(
        salesforce,
        ("Opportunity", opportunity.id, {"First_Payment_At__c": moment, "Activation_Status__c": "Activated"}),
        ("Account", account.id, {"Lifetime_Value__c": Decimal("45000.10"), "Stripe_Customer_Id__c": "cus_1"}),
    )
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    seen = salesforce.accounts([account.id])[account.id]
    assert isinstance(seen.account, Account)
    assert (seen.account.lifetime_value, seen.account.stripe_customer_id) == (Decimal("45000.1"), "cus_1")
    assert seen.opportunities[0].first_payment_at == 1_795_426_200 * MICROS
    set_fields(salesforce, ("Account", account.id, {"Stripe_Customer_Id__c": None}))
    cleared = salesforce.accounts([account.id])[account.id].account
    assert isinstance(cleared, Account)
    assert cleared == replace(seen.account, stripe_customer_id=None, modified_at=cleared.modified_at)


def test_one_refused_record_does_not_stop_the_others(
    salesforce: Salesforce, account: Account, opportunity: Opportunity
) -> None:
    outcomes = set_fields(
        salesforce,
        ("Opportunity", opportunity.id, {"Billing_Status__c": "No such status"}),
        ("Account", account.id, {"MRR__c": Decimal("3750.00")}),
        ("Account", NOBODY, {"MRR__c": Decimal(1)}),
        ("Opportunity", opportunity.id.replace("0001", "0777"), {"Billing_Message__c": "x"}),
    )
    assert [outcome.state for outcome in outcomes] == ["rejected", "done", "stale", "stale"]
    assert outcomes[0].code == "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
    (found,) = salesforce.everything("account")
    assert found.mrr == 3750


def test_one_malformed_record_keeps_no_other_of_its_collection_from_being_written(
    sandbox: SandboxHandle, salesforce: Salesforce, account: Account
) -> None:
    """Without its type one record makes Salesforce refuse the whole collection, and say nothing of the others."""
    made = [
        sandbox.control("POST", "/humans", {"system": "salesforce", "object": "Account", "fields": {"Name": f"A{n}"}})
        for n in range(6)
    ]
    ids = [account.id, *(each["result"]["Id"] for each in made)]
    writes: list[tuple[str, dict[str, Any]]] = [(record_id, {"MRR__c": Decimal(7)}) for record_id in ids]
    writes[3] = (ids[3], {"attributes": None})
    before = salesforce.write_calls
    outcomes = set_fields(salesforce, *(("Account", *write) for write in writes))
    assert [outcome.state for outcome in outcomes] == ["done"] * 3 + ["rejected"] + ["done"] * 3
    assert [a.mrr for a in salesforce.everything("account")] == [7, 7, 7, None, 7, 7, 7]
    assert salesforce.write_calls - before <= 1 + 3


def test_a_locked_row_is_for_later(sandbox: SandboxHandle, salesforce: Salesforce, account: Account) -> None:
    sandbox.control("POST", "/salesforce", {"lock_row": account.id, "times": 1})
    write = ("Account", account.id, {"MRR__c": Decimal(1)})
    assert set_fields(salesforce, write)[0].state == "throttled"
    assert set_fields(salesforce, write)[0].state == "done"


def test_an_expired_session_is_renewed_for_reads_and_writes(
    sandbox: SandboxHandle, salesforce: Salesforce, account: Account
) -> None:
    sandbox.control("POST", "/salesforce", {"expire_tokens": True})
    assert salesforce.accounts([account.id])[account.id].account is not None
    sandbox.control("POST", "/salesforce", {"expire_tokens": True})
    assert set_fields(salesforce, ("Account", account.id, {"MRR__c": Decimal(1)}))[0].state == "done"


def test_wrong_credentials_are_one_clear_line_without_them(sandbox: SandboxHandle) -> None:
    login = Login("sandbox.my", sandbox.ready["client_id"], "secret-canary", base_url=sandbox.ready["salesforce_url"])
    with pytest.raises(ReadFailed, match=r"^Salesforce: sign-in refused") as caught:
        Salesforce(login, {}).query_all({"org": "SELECT Id FROM Organization"})
    assert caught.value.access
    assert "canary" not in str(caught.value)


def test_a_wrong_query_is_a_failed_read(salesforce: Salesforce) -> None:
    with pytest.raises(ReadFailed, match="INVALID_FIELD"):
        salesforce.query_all({"wrong": "SELECT Nonsense__c FROM Account"})


def test_nothing_leaves_after_the_deadline(salesforce: Salesforce, account: Account) -> None:
    def too_late() -> None:
        raise DeadlinePassed

    calls = salesforce.calls
    (outcome,) = set_fields(salesforce, ("Account", account.id, {"MRR__c": Decimal(1)}), guard=too_late)
    assert outcome.state == "throttled"
    assert salesforce.calls == calls


def test_the_org_and_its_usage_are_known(salesforce: Salesforce, account: Account) -> None:
    assert salesforce.org_id.startswith("00D")
    assert len(salesforce.org_id) == 15
    usage = salesforce.api_usage
    assert usage is not None
    assert 0 < usage[0] < usage[1]


def test_the_active_member_of_the_accounts_team_and_its_open_tasks_come_with_the_account(
    sandbox: SandboxHandle, salesforce: Salesforce, account: Account
) -> None:
    state = sandbox.control("GET", "/state")["salesforce"]
    active = sorted(user["Id"] for user in state["User"] if user["IsActive"])
    other = {"AccountId": account.id, "UserId": active[0], "TeamMemberRole": "Sales Rep"}
    success = {"AccountId": account.id, "UserId": active[-1], "TeamMemberRole": "Customer Success Manager"}
    for kind, fields in (("AccountTeamMember", other), ("AccountTeamMember", success)):
        sandbox.control("POST", "/humans", {"system": "salesforce", "object": kind, "fields": fields})
    tasks = [("attempt:ch_1", "Not Started"), ("attempt:ch_2", "Completed"), (None, "Not Started")]
    for key, status in tasks:
        fields = {"WhatId": account.id, "Subject": "Call", "Status": status, "Stripe_Failure_Key__c": key}
        sandbox.control("POST", "/humans", {"system": "salesforce", "object": "Task", "fields": fields})
    seen = salesforce.accounts([account.id])[account.id]
    assert isinstance(seen.account, Account)
    assert seen.account.team_owner_id == active[-1]
    (task,) = seen.tasks
    assert (task.failure_key, task.status, task.what_id) == ("attempt:ch_1", "Not Started", account.id)
    assert tuple(salesforce.open_tasks()) == seen.tasks
    (everywhere,) = salesforce.everything("account")
    assert everywhere == seen.account


def test_a_thousand_accounts_are_asked_for_in_one_call_within_the_longest_address(salesforce: Salesforce) -> None:
    ids = [f"001Zz{number:010d}IAA" for number in range(1_000)]
    queries = salesforce.account_queries(ids)
    assert len(queries) <= 5
    assert all(len(f"/services/data/v66.0/query?q={quote(soql)}") <= 16_384 for soql in queries)
    for kind in ("FROM Account WHERE", "FROM Opportunity WHERE"):
        assert sorted(re.findall(r"'(001\w{15})'", "".join(q for q in queries if kind in q))) == ids
    before = salesforce.calls
    assert not any(seen.account for seen in salesforce.accounts(ids).values())
    assert salesforce.calls - before == 2  # The second one asks the recycle bin.


class Paged(Salesforce):
    """Answers pages from a book: two parents, the children of the first on two pages."""

    book: ClassVar[dict[str, dict[str, Any]]] = {
        "query?q=P": {
            "records": [
                {"Id": "1", "Kids": {"done": False, "records": [{"Id": "a"}], "nextRecordsUrl": "/x/query/k-1"}}
            ],
            "done": False,
            "nextRecordsUrl": "/x/query/p-1",
        },
        "query?q=Q": {"records": [{"Id": "9"}], "done": True},
        "query/p-1": {"records": [{"Id": "2", "Kids": None}], "done": True},
        "query/k-1": {"records": [{"Id": "b"}], "done": True},
    }

    def _composite(self, paths: Mapping[str, str], *, or_missing: bool = False) -> dict[str, Any]:
        self.calls += 1
        return {name: deepcopy(self.book[path]) for name, path in paths.items()}


def test_further_pages_of_rows_and_of_children_share_a_call() -> None:
    org = Paged(Login("x", "y"), {})
    rows = org.query_all({"p": "P", "q": "Q"})
    assert [raw["Id"] for raw in rows["p"]] == ["1", "2"]
    assert rows["p"][0]["Kids"]["records"] == [{"Id": "a"}, {"Id": "b"}]
    assert [raw["Id"] for raw in rows["q"]] == ["9"]
    assert org.calls == 2


def test_tasks_are_made_together_and_each_once_though_one_is_there_and_one_is_refused(
    salesforce: Salesforce, sandbox: SandboxHandle, account: Account
) -> None:
    def pair(key: str, **task: Any) -> Once:
        marker = {"Key__c": key, "Account__c": account.id}
        fields = {"Subject": key, "WhatId": account.id, **task}
        return Once(("Stripe_Payment_Attempt__c", marker), ("Task", fields), account.id)

    made = [pair(f"charge:ch_{n}") for n in range(4)]
    calls = salesforce.write_calls
    assert [each.state for each in salesforce.write(made, guard=unguarded)] == ["done"] * 4
    assert salesforce.write_calls == calls + 1
    refused = pair("charge:ch_bad", OwnerId=NOBODY)
    mixed = [made[0], refused, *(pair(f"charge:ch_{n}") for n in range(4, 8))]
    outcomes = salesforce.write(mixed, guard=unguarded)
    assert [each.state for each in outcomes] == ["done", "rejected", "done", "done", "done", "done"]
    assert outcomes[0].message == "it was made before"
    assert salesforce.write_calls == calls + 3, "one that tells who is to blame, one for the others"
    state = sandbox.control("GET", "/state")["salesforce"]
    expected = sorted(f"charge:ch_{n}" for n in range(8))
    assert sorted(each["Subject"] for each in state["Task"]) == expected
    assert sorted(each["Key__c"] for each in state["Stripe_Payment_Attempt__c"]) == expected


@pytest.mark.parametrize("written", [str.lower, lambda account: f"{account[:15]}ZZZ"])
def test_salesforce_is_not_asked_for_what_can_be_no_id(
    salesforce: Salesforce, account: Account, written: Callable[[str], str]
) -> None:
    set_fields(salesforce, ("Account", account.id, {"Stripe_Customer_Id__c": "cus_1"}))
    ids = [account.id, written(account.id)]
    assert salesforce.customer_ids(ids) == {account.id: "cus_1"}
    seen = salesforce.accounts(ids)
    assert [isinstance(seen[each].account, Account) for each in ids] == [True, False]
    assert seen.keys() == set(ids)


def test_accounts_are_asked_for_the_customers_that_they_name(salesforce: Salesforce, account: Account) -> None:
    before = salesforce.calls
    assert salesforce.customer_ids([account.id]) == {}
    set_fields(salesforce, ("Account", account.id, {"Stripe_Customer_Id__c": "cus_1"}))
    assert salesforce.customer_ids([account.id, "001000000000000AAA"]) == {account.id: "cus_1"}
    assert salesforce.calls == before + 3
