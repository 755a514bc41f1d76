"""The ledger's inbox of conflicts: each once, with the event of its change, and no ruling is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sync_pipeline.core.conflict import Conflict
from sync_pipeline.ledger import base, conflicts, inbox, links
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.inbox import InboxEvent


def conflict(**changed: Any) -> Conflict:
    values: dict[str, Any] = {
        "key": "5f0c9a17:1",
        "account": "A",
        "rule": "item.quantity",
        "subject": "si_1",
        "record_id": "00k1",
        "opportunity_id": "0061",
        "base": '"20"',
        "salesforce": '"25"',
        "stripe": '"22"',
        "base_in_words": "20",
        "salesforce_in_words": "25",
        "stripe_in_words": "22",
        "reason": "changed on both sides",
        "winner": "Salesforce",
        "status": "Open",
        "opened_at": 7,
        "stripe_object": "sub_1",
    }
    return Conflict(**(values | changed))


def event(event_id: str, created_at: int, *ids: str, account: str = "A") -> InboxEvent:
    return InboxEvent("stripe", event_id, "customer.subscription.updated", ids, created_at, account)


def test_a_new_conflict_gets_the_newest_event_of_its_subscription(ledger: Ledger) -> None:
    events = [
        event("evt_old", 3, "sub_1", "cus_1"),
        event("evt_new", 5, "sub_1", "cus_1"),
        event("evt_longer", 6, "sub_12", "cus_1"),
        event("evt_elsewhere", 6, "sub_1", account="B"),
    ]
    with ledger.tx() as conn:
        inbox.receive(conn, events, received_wall=9, priority=1)
        conflicts.put(conn, [conflict()])
        inbox.receive(conn, [event("evt_later", 8, "sub_1")], received_wall=9, priority=1)
        found = conflicts.for_accounts(conn, ["A", "nobody"])
        assert found == {"A": (conflict(stripe_event="evt_new", stripe_edited_at=5),)}
        conflicts.put(conn, [replace(found["A"][0], status="Decided", decided_by="the rule of the field", shown=True)])
        (moved_on,) = conflicts.everything(conn)
    assert (moved_on.stripe_event, moved_on.status, moved_on.shown) == ("evt_new", "Decided", True)


def test_an_event_of_before_the_last_agreement_is_of_another_edit(ledger: Ledger) -> None:
    """A comparison named our own write, where it found the edit before Stripe's event of it was heard of."""
    with ledger.tx() as conn:
        inbox.receive(conn, [event("evt_ours", 3, "sub_1")], received_wall=9, priority=1)
        base.put(conn, "A", [base.BaseEntry("00k1", "item.quantity", '"20"', 1)], 4)
        conflicts.put(conn, [conflict()])
        (found,) = conflicts.everything(conn)
        assert (found.stripe_event, found.stripe_edited_at) == (None, None)
        inbox.receive(conn, [event("evt_theirs", 5, "sub_1")], received_wall=9, priority=1)
        conflicts.put(conn, [conflict(key="5f0c9a17:2")])
        assert conflicts.beginning_with(conn, "5f0c9a17:2")[0].stripe_event == "evt_theirs"


def test_a_ruling_made_while_an_account_is_worked_on_is_kept(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        conflicts.put(conn, [conflict()])
        conflicts.rule(conn, "5f0c9a17:1", "Stripe", by="Robin", now=9)
        conflicts.put(conn, [conflict(status="Decided", decided_at=8)])
        (found,) = conflicts.everything(conn)
        assert (found.status, found.ruling, found.ruled_by, found.ruled_at) == ("Decided", "Stripe", "Robin", 9)
        conflicts.put(conn, [replace(found, winner="Stripe", ruling=None, ruled_by=None, ruled_at=None)])
        (found,) = conflicts.everything(conn)
        assert (found.winner, found.ruling, found.ruled_by) == ("Stripe", None, None)


def test_a_key_may_be_cut_short_and_the_newest_come_first(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        conflicts.put(conn, [conflict(), conflict(key="5f0c9a17:2", opened_at=9), conflict(key="77:1", account="B")])
        assert [each.key for each in conflicts.beginning_with(conn, "5f0c")] == ["5f0c9a17:1", "5f0c9a17:2"]
        assert conflicts.beginning_with(conn, "%") == []
        assert [each.key for each in conflicts.everything(conn)] == ["5f0c9a17:2", "5f0c9a17:1", "77:1"]


def test_conflicts_move_with_a_merged_account(ledger: Ledger) -> None:
    with ledger.tx() as conn:
        conflicts.put(conn, [conflict()])
        links.move_account(conn, "A", "B", 9)
        assert [each.key for each in conflicts.for_accounts(conn, ["A", "B"])["B"]] == ["5f0c9a17:1"]
