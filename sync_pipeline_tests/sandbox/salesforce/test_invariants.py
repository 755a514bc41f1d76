"""What holds whatever clients do: lookups agree with records, roll-ups with lines, the seed with the bytes."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.system import SalesforceSystem
from sync_pipeline.sandbox.wire import Call, Reply
from sync_pipeline_tests.sandbox.salesforce.served import BASE, START

KEYS = ["cus_1", "cus_2", "cus_A", "cus_a", None]

Step = tuple[str, int, Any, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["account", "deal", "line", "change", "delete", "undelete", "merge", "broken"]),
        st.integers(0, 5),
        st.sampled_from(KEYS),
        st.integers(1, 9),
    ),
    max_size=25,
)


class Player:
    """Plays steps against a system; steps that the org refuses change nothing."""

    def __init__(self) -> None:
        self.clock = Clock(START, frozen=True)
        self.system = SalesforceSystem(self.clock, seed=7)
        self.replies: list[bytes] = []
        book = self.system.select("SELECT Id FROM Pricebook2 WHERE IsStandard = true")[0]["Id"]
        product = self.system.edit(object="Product2", id=None, fields={"Name": "P", "IsActive": True})["Id"]
        entry = {"Product2Id": product, "Pricebook2Id": book, "UnitPrice": 1, "IsActive": True}
        self.entry = self.system.edit(object="PricebookEntry", id=None, fields=entry)["Id"]

    def post(self, path: str, body: Any) -> Reply:
        headers = {"authorization": f"Bearer {self.system.access_token}"}
        reply = self.system.handle(Call("POST", f"{BASE}/{path}", "", headers, json.dumps(body).encode()))
        self.replies.append(reply.body)
        return reply

    def play(self, step: Step) -> None:
        kind, n, key, amount = step
        self.clock.move_to(self.clock.now() + 1)
        try:
            self._play(kind, n, key, amount)
        except SalesforceError as refused:
            self.replies.append(str(refused).encode())

    def _play(self, kind: str, n: int, key: Any, amount: int) -> None:
        accounts, deals = self.ids("Account"), self.ids("Opportunity")
        if kind == "account":
            self.post("sobjects/Account", {"Name": f"A{n}", "Stripe_Customer_Id__c": key})
        elif kind == "deal" and accounts:
            fields = {"Name": f"D{n}", "AccountId": accounts[n % len(accounts)], "StageName": "Prospecting"}
            self.post("sobjects/Opportunity", fields | {"CloseDate": "2026-10-01"})
        elif kind == "line" and deals:
            fields = {"OpportunityId": deals[n % len(deals)], "PricebookEntryId": self.entry}
            self.post("sobjects/OpportunityLineItem", fields | {"Quantity": n + 1, "UnitPrice": amount / 4})
        elif kind == "change" and accounts:
            self.edit("Account", accounts[n % len(accounts)], Stripe_Customer_Id__c=key)
        elif kind == "delete":
            self.remove(["Account", "Opportunity", "OpportunityLineItem"][n % 3], n)
        elif kind == "undelete":
            gone = [r["Id"] for r in self.rows("Account") if r.get("IsDeleted")]
            if gone:
                self.system.edit(object="Account", id=gone[n % len(gone)], fields=None, undelete=True)
        elif kind == "merge" and len(accounts) > 1:
            self.system.merge(object="Account", winner=accounts[0], loser=accounts[-1])
        elif kind == "broken" and accounts:
            self.broken_composite(accounts[n % len(accounts)], key)

    def broken_composite(self, account: str, key: Any) -> None:
        """Changes and deletes, then fails, so that all of it is taken back."""
        parts = [
            {
                "method": "PATCH",
                "url": f"{BASE}/sobjects/Account/{account}",
                "referenceId": "change",
                "body": {"Stripe_Customer_Id__c": key},
            },
            {"method": "DELETE", "url": f"{BASE}/sobjects/Account/{account}", "referenceId": "remove"},
            {"method": "POST", "url": f"{BASE}/sobjects/Account", "referenceId": "fail", "body": {}},
        ]
        self.post("composite", {"allOrNone": True, "compositeRequest": parts})

    def edit(self, kind: str, record_id: str, **fields: Any) -> None:
        self.system.edit(object=kind, id=record_id, fields=fields)

    def remove(self, kind: str, n: int) -> None:
        found = self.ids(kind)
        if found:
            self.system.edit(object=kind, id=found[n % len(found)], fields=None, delete=True)

    def rows(self, kind: str) -> list[dict[str, Any]]:
        return list(self.system.org.store.table(kind).values())

    def ids(self, kind: str) -> list[str]:
        return sorted(r["Id"] for r in self.rows(kind) if not r.get("IsDeleted"))


def played(some: list[Step]) -> Player:
    player = Player()
    for step in some:
        player.play(step)
    return player


@given(steps)
def test_lookups_agree_with_the_records(some: list[Step]) -> None:
    """Sandbox facts 4.4: a query by an indexed value finds what a walk through all records finds."""
    player = played(some)
    db = player.system.org.db
    for o in db.schema.objects.values():
        rows = player.rows(o.name)
        for f in o.indexed:
            for value in {r[f.name] for r in rows if r.get(f.name) is not None}:
                expected = sorted(r["Id"] for r in rows if f.index_key(r.get(f.name)) == f.index_key(value))
                assert [r["Id"] for r in db.candidates(o, f, [value])] == expected


@given(steps)
def test_unique_values_are_unique_and_amounts_are_sums(some: list[Step]) -> None:
    """8.1, 6.3: a unique value is there once, and Amount is the sum of the TotalPrice of the lines."""
    player = played(some)
    keys = [
        r["Stripe_Customer_Id__c"]
        for r in player.rows("Account")
        if not r["IsDeleted"] and r.get("Stripe_Customer_Id__c")
    ]
    assert len(keys) == len(set(keys))
    lines = [r for r in player.rows("OpportunityLineItem") if not r["IsDeleted"]]
    for deal in player.rows("Opportunity"):
        if deal["IsDeleted"]:
            continue
        own = [Decimal(repr(r["TotalPrice"])) for r in lines if r["OpportunityId"] == deal["Id"]]
        assert deal["HasOpportunityLineItem"] == bool(own)
        if own:
            assert Decimal(repr(deal["Amount"])) == sum(own)
    live = {r["Id"] for r in player.rows("Account") if not r["IsDeleted"]}
    assert all(r.get("AccountId") in live for r in player.rows("Opportunity") if not r["IsDeleted"])


@given(steps)
def test_the_same_seed_gives_the_same_bytes(some: list[Step]) -> None:
    """Sandbox facts 1: ids and clock are seeded."""
    first, second = played(some), played(some)
    assert first.replies == second.replies
    assert first.system.snapshot() == second.system.snapshot()


@given(steps, steps)
def test_a_restored_snapshot_goes_on_as_if_nothing_had_happened(before: list[Step], after: list[Step]) -> None:
    """Sandbox facts 2: snapshot and restore, for tests of crashes."""
    player = played(before)
    now, kept = player.clock.snapshot(), json.loads(json.dumps(player.system.snapshot()))
    player.replies.clear()
    for step in after:
        player.play(step)
    first, truth = list(player.replies), player.system.truth()
    player.clock.restore(now)
    player.system.restore(kept)
    player.replies.clear()
    for step in after:
        player.play(step)
    assert (player.replies, player.system.truth()) == (first, truth)
