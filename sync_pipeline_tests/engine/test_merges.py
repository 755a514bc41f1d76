"""Merged Accounts: whoever notices first, what belonged to the one that is gone belongs to the one that is left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from sync_pipeline.core.commands import Plan
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.world import World
from sync_pipeline.engine.context import Approval
from sync_pipeline.engine.env import SystemEnv
from sync_pipeline.engine.intake import receive
from sync_pipeline.engine.merges import back_from_the_bin, follow_merges
from sync_pipeline.engine.queue import claim_named
from sync_pipeline.engine.reconcile import compare, read_tables
from sync_pipeline.engine.recording import as_new_command
from sync_pipeline.engine.rounds import bring_to_rest
from sync_pipeline.ledger import attempts, commands, inbox, links, work
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.links import Link
from sync_pipeline.systems.salesforce.reads import AccountRecords
from sync_pipeline.systems.stripe.events import Hint
from sync_pipeline_tests.databases import sqlite_ledger
from sync_pipeline_tests.engine.installation import DAY, LEASE_SECONDS, Installation, installed
from sync_pipeline_tests.engine.people import another_deal, create, edit, fault, merge, only, records, win
from sync_pipeline_tests.engine.selling import sell
from sync_pipeline_tests.sandbox_process import SandboxHandle

__all__ = ["sqlite_ledger"]
A, B, C = "001Aa0000000001AAA", "001Aa0000000002AAA", "001Aa0000000003AAA"


@pytest.mark.parametrize("order", list(permutations([(A, B), (B, C), (A, B)])))
def test_merges_in_any_order_end_at_the_account_that_is_left(
    sqlite_ledger: Ledger, order: tuple[tuple[str, str], ...]
) -> None:
    with sqlite_ledger.tx() as conn:
        for account in (A, B, C):
            links.put(conn, Link(account, "stripe", "customer", f"cus_{account}", subject=account), 1)
        for old, new in order:
            follow_merges(conn, {old: new}, 2)
        assert follow_merges(conn, {A: B, B: C}, 3) == {A: C, B: C}
        assert {each.account for each in links.for_accounts(conn, [C])[C]} == {C}
        primary = [each.external_id for each in links.for_accounts(conn, [C])[C] if each.role == "primary"]
        assert primary == [f"cus_{C}"]


def test_two_merges_into_each_other_move_nothing_in_circles(sqlite_ledger: Ledger) -> None:
    with sqlite_ledger.tx() as conn:
        assert follow_merges(conn, {A: B, B: A}, 1) == {A: B}


def test_an_event_that_names_the_account_that_is_gone_is_heard_by_the_other(sqlite_ledger: Ledger) -> None:
    def event(number: int) -> Hint:
        return Hint(f"evt_{number}", "invoice.paid", 1, ("in_1",), "cus_unknown", None, A, Priority.WRITE_BACK)

    with sqlite_ledger.tx() as conn:
        follow_merges(conn, {A: B}, 1)
    receive(sqlite_ledger, [event(1)], SystemEnv(None))
    with sqlite_ledger.tx() as conn:
        assert (inbox.latest(conn, A, 9), inbox.latest(conn, B, 9)) == ([], ["evt_1"])
        back_from_the_bin(conn, [A])
    receive(sqlite_ledger, [event(2)], SystemEnv(None))
    with sqlite_ledger.read() as conn:
        assert (inbox.latest(conn, A, 9), inbox.latest(conn, B, 9)) == (["evt_2"], ["evt_1"])


def test_a_comparison_follows_a_merge_that_no_poll_has_seen(sync: Installation) -> None:
    old, new = _billed_and_merged(sync)
    ahead = compare(sync.engine, read_tables(sync.engine)).ahead
    assert list(ahead) == [new]
    # The other Account has no tax registration, the customer that came to it has one.
    assert [review.rule for review in ahead[new].now.reviews] == ["tax_id_missing"]
    with sync.ledger.read() as conn:
        assert links.merged_into(conn, [old]) == {old: new}
        assert links.account_of(conn, "stripe", "customer", only(sync.sandbox, "customer")["id"]) == new


def test_a_merge_that_somebody_else_follows_during_a_look_makes_nothing_again(
    sync: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days after the deal was billed, when Stripe has forgotten the key of its subscription."""
    old, new = _both_billed(sync)
    merge(sync.sandbox, old, new)
    sync.wait(2 * DAY)
    answer = sync.engine.salesforce.accounts

    def answering(account_ids: Sequence[str]) -> dict[str, AccountRecords]:
        found = answer(account_ids)
        with sync.ledger.tx() as conn:
            follow_merges(conn, {old: new}, sync.env.now())
        return found

    monkeypatch.setattr(sync.engine.salesforce, "accounts", answering)
    bring_to_rest(sync.engine, claim_named(sync.engine, "me", [new], Priority.CREATE), owner="me")
    monkeypatch.undo()
    assert len(records(sync.sandbox, "subscription")) == 2
    sync.rest()
    assert len(records(sync.sandbox, "subscription")) == 2
    assert {deal["Billing_Status__c"] for deal in records(sync.sandbox, "Opportunity")} == {"Active"}


def test_who_looked_before_the_other_had_made_the_subscription_makes_none(sync: Installation) -> None:
    """One worker bills the deal of the Account that is gone while another has seen it with the one that is left."""
    deal = only(sync.sandbox, "Opportunity")
    new, _ = another_deal(sync.sandbox, "Northwind Group plc")
    sync.rest()
    edit(sync.sandbox, "Opportunity", deal["Id"], StageName="Closed Won")
    merge(sync.sandbox, deal["AccountId"], new)
    engine = sync.engine
    other = TheOther(sync, deal["AccountId"])
    bring_to_rest(replace(engine, approval=other), claim_named(engine, "me", [new], Priority.CREATE), owner="me")
    assert other.made == [f"sub:{engine.salesforce.org_id}:{deal['Id']}:1"]
    assert len(records(sync.sandbox, "subscription")) == 1


@dataclass
class TheOther(Approval):
    """A worker that makes the subscriptions of an Account between the look and the writes of this one."""

    sync: Installation
    account: str
    made: list[str] = field(default_factory=list)

    def approved(
        self, worlds: Mapping[str, World], plans: Mapping[str, Plan], tell: Callable[[str], None]
    ) -> Collection[str]:
        wanted = [
            replace(as_new_command(each, {}), account=self.account)
            for planned in plans.values()
            for each in planned.commands
            if each.action == "stripe.create" and each.body["object"] == "subscription" and each.key not in self.made
        ]
        self.made += [each.key for each in wanted]
        (claim,) = claim_named(self.sync.engine, "the other", [self.account], Priority.CREATE)
        with self.sync.ledger.tx() as conn:
            now, wall, new_id = self.sync.env.now(), self.sync.env.wall(), self.sync.env.token
            rows = commands.propose(conn, wanted, now=now, code_version="", new_id=new_id)
            begun = attempts.begin(
                conn,
                [(claim, row) for row in rows],
                now=now,
                now_wall=wall,
                deadline_wall=wall + 1,
                min_lease_us=1,
                instance_id="",
                new_id=new_id,
            )
            for each in begun.values():
                attempts.finish(
                    conn,
                    each.id,
                    outcome="done",
                    state="done",
                    http_status=200,
                    request_id=None,
                    error=None,
                    now=now,
                )
            work.release(conn, claim, now=now, now_wall=wall)
        return plans.keys()


def _both_billed(sync: Installation) -> tuple[str, str]:
    """The ids of the story's Account and of another one. Of the first deal Salesforce does not tell that it is billed:
    its worker died before it could write there."""
    deal = only(sync.sandbox, "Opportunity")
    new, _ = another_deal(sync.sandbox, "Northwind Group plc")
    sync.rest()
    edit(sync.sandbox, "Opportunity", deal["Id"], StageName="Closed Won")

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sync.engine.salesforce, "send", dies)
        with pytest.raises(KeyboardInterrupt):
            sync.drain()
    sync.wait(LEASE_SECONDS)
    return deal["AccountId"], new


def _billed_and_merged(sync: Installation) -> tuple[str, str]:
    """The story's Account is billed, then merged into another that was never billed; both ids."""
    old = str(only(sync.sandbox, "Account")["Id"])
    win(sync.sandbox)
    sync.rest()
    new = create(sync.sandbox, "Account", Name="Northwind Group plc")
    merge(sync.sandbox, old, new)
    return old, new


def test_a_customer_that_another_account_has_adopted_meanwhile_stops_nobody(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    """Its create was in doubt while its Account was merged away and came back: whoever settled that died, for good."""
    customers: dict[str, Any] = {"side": "stripe", "method": "POST", "path": "^/v1/customers$"}
    with installed(sandbox, tmp_path) as sync:
        own, deal = only(sandbox, "Account")["Id"], only(sandbox, "Opportunity")["Id"]
        other = create(sandbox, "Account", Name="Contoso Ltd", BillingCountry="United Kingdom")
        win(sandbox)
        fault(sandbox, "drop_after", **customers, times=60)
        fault(sandbox, "stripe_503", side="stripe", method="GET", path="^/v1/events$", times=40)
        sync.drain()
        sandbox.control("DELETE", "/faults")
        merge(sandbox, own, other)
        fault(sandbox, "drop_before", **customers, times=60)
        sync.wait(30)
        sync.drain()
        sandbox.control("POST", "/humans", {"system": "salesforce", "object": "Account", "id": own, "undelete": True})
        sync.wait(30)
        sync.drain()
        edit(sandbox, "Opportunity", deal, AccountId=own)
        sync.wait(30)
        sync.drain()
        sandbox.control("DELETE", "/faults")
        third = create(sandbox, "Account", Name="Innocent Ltd", BillingCountry="United Kingdom")
        sell(sandbox, {"product": "Analyst Seat", "price": 600, "quantity": 5}, account=third)
        for _ in range(3):
            sync.wait(400)
            sync.drain()
        assert len(records(sandbox, "subscription")) == 2
        sync.rest()
