"""Webhooks through the real receiver: doubled, shuffled, forged, late, and for customers that nobody knows yet."""

from __future__ import annotations

import json
import random
import socket
import sqlite3
import threading
from typing import Any

import pytest
import requests
from sqlalchemy import func, select

from sync_pipeline.core.rules import Priority
from sync_pipeline.core.salesforce_ids import record_id
from sync_pipeline.engine.drain import DrainPlan, drain
from sync_pipeline.engine.intake import resync, sweep_stripe
from sync_pipeline.ledger.tables import inbox, work
from sync_pipeline.receiver import app
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import at_stripe, only, pay, win
from sync_pipeline_tests.engine.story import story
from sync_pipeline_tests.receiver.endpoint import ORG, Endpoint

NO_POLLS = DrainPlan(poll_seconds=10**9, sweep_seconds=10**9)


def _events(sync: Installation) -> list[dict[str, Any]]:
    """Everything that Stripe has to say, oldest first."""
    page = at_stripe(sync.sandbox, "GET", "/v1/events", limit=100)
    assert not page["has_more"]
    return list(reversed(page["data"]))


def _rows(sync: Installation) -> int:
    """Rows that a webhook can make or change: events, and how dirty the accounts are."""
    (events,) = sync.rows(select(func.count()).select_from(inbox).where(inbox.c.source == "stripe"))
    (dirty,) = sync.rows(select(func.coalesce(func.sum(work.c.dirty_seq), 0)))
    return int(events[0]) + int(dirty[0])


@pytest.mark.parametrize("seed", range(4))
def test_every_event_five_times_in_any_order_ends_in_the_same_state(
    sync: Installation, endpoint: Endpoint, seed: int
) -> None:
    win(sync.sandbox)
    sync.drain()
    pay(sync.sandbox)
    sync.sandbox.control("POST", "/snapshot", {"save": "paid"})
    events = _events(sync)
    deliveries = events * 5
    random.Random(seed).shuffle(deliveries)
    part = len(deliveries) // 3
    for chunk in (deliveries[:part], deliveries[part : 2 * part], deliveries[2 * part :]):
        assert {endpoint.deliver(event).status_code for event in chunk} == {200}
        drain(sync.engine, NO_POLLS)
    rows = sync.rows(select(inbox.c.event_id).where(inbox.c.source == "stripe"))
    assert sorted(row.event_id for row in rows) == sorted(event["id"] for event in events)
    account = only(sync.sandbox, "Account")
    assert (account["Lifetime_Value__c"], account["MRR__c"]) == (45000.0, 3750.0)
    assert only(sync.sandbox, "Opportunity")["Activation_Status__c"] == "Activated"
    by_webhooks = story(sync.sandbox)
    sync.rest()
    assert story(sync.sandbox) == by_webhooks
    sync.check_books()


def test_the_same_event_from_many_hands_at_once_is_one_row(sync: Installation, endpoint: Endpoint) -> None:
    at_stripe(sync.sandbox, "POST", "/v1/customers", name="X", metadata={"sf_account_id": "001Aa0000000001IAA"})
    (event,) = _events(sync)
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(endpoint.deliver(event).json())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answer["new"] for answer in answers) == 1
    assert all(answer["received"] for answer in answers)
    (dirty,) = sync.rows(select(work.c.dirty_seq).where(work.c.account == "001Aa0000000001IAA"))
    assert dirty.dirty_seq == 1


EVENT = json.dumps(
    {"id": "evt_1", "object": "event", "type": "invoice.paid", "created": 1, "data": {"object": {"id": "in_1"}}}
).encode()


@pytest.mark.parametrize(
    "forge",
    [
        lambda e: e.post(EVENT, ""),
        lambda e: e.post(EVENT, "t=,v1="),
        lambda e: e.post(EVENT, "v1=" + "0" * 64),
        lambda e: e.post(EVENT, f"t={e.now},v1={'0' * 64}"),
        lambda e: e.post(EVENT, f"t={e.now}"),
        lambda e: e.post(EVENT, f"t={e.now},v0={e.signature(EVENT).partition('v1=')[2]}"),
        lambda e: e.post(EVENT, e.signature(EVENT, secret="whsec_another")),
        lambda e: e.post(EVENT, e.signature(EVENT, at=e.now - 301)),
        lambda e: e.post(EVENT, e.signature(EVENT, at=e.now + 360)),
        lambda e: e.post(EVENT, e.signature(EVENT, at=e.now - 301).replace(f"t={e.now - 301}", f"t={e.now}")),
        lambda e: e.post(EVENT, f"t={e.now - 301},{e.signature(EVENT)}"),
        lambda e: e.post(EVENT + b" ", e.signature(EVENT)),
        lambda e: e.post(EVENT, "t=\xb2\xb2,v1=\xe9"),
        lambda e: e.post(EVENT, f"t={10**30},v1=0"),
        lambda e: e.post(b"", None),
        lambda e: e.post(b"not json", None),
        lambda e: e.post(b"\xff\xfe", None),
        lambda e: e.post(b"[]", None),
        lambda e: e.post(b"null", None),
        lambda e: e.post(b'{"object": "event"}', None),
        lambda e: e.post(b'{"object": "customer", "id": "cus_1"}', None),
        lambda e: e.post(EVENT.replace(b'{"id": "in_1"}', b'"in_1"'), None),
        lambda e: e.post(EVENT.replace(b'"created": 1', b'"created": "soon"'), None),
        lambda e: e.post(EVENT.replace(b'"created": 1', b'"created": 1e400'), None),
        lambda e: e.post(EVENT.replace(b'"created": 1', b'"created": 99999999999999999999'), None),
        lambda e: e.post(EVENT.replace(b"evt_1", b"evt_\\u0000"), None),
        lambda e: e.post(EVENT.replace(b'"evt_1"', b"null"), None),
        lambda e: e.post(EVENT.replace(b'"evt_1"', b'{"a": 1}'), None),
        lambda e: e.post(EVENT.replace(b'{"id": "in_1"}', b"[" * 100_000 + b"]" * 100_000), None),
        lambda e: e.post(b'{"object": "event", "x": "' + b"a" * 1024 * 1024 + b'"}', None),
    ],
)
def test_what_is_no_fresh_event_of_stripe_changes_no_row(sync: Installation, endpoint: Endpoint, forge: Any) -> None:
    before = _rows(sync)
    answer = forge(endpoint)
    assert 400 <= answer.status_code < 500
    assert set(answer.json()) == {"error"}
    assert "evt_1" not in answer.text
    assert _rows(sync) == before


def test_a_rolled_secret_is_valid_beside_the_new_one(endpoint: Endpoint) -> None:
    wrong = endpoint.signature(EVENT, secret="whsec_rolled").partition(",")[2]
    assert endpoint.post(EVENT, f"{endpoint.signature(EVENT)},{wrong}").status_code == 200


def test_an_answer_means_that_the_event_is_stored(sync: Installation, endpoint: Endpoint) -> None:
    """While another process holds the ledger, the sender waits; when it hears 200, the row is there."""
    path = str(sync.settings.database_url).removeprefix("sqlite:///")
    answers: list[int] = []
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    sender = threading.Thread(target=lambda: answers.append(endpoint.post(EVENT).status_code))
    sender.start()
    sender.join(timeout=1)
    assert answers == []
    holder.execute("ROLLBACK")
    holder.close()
    sender.join()
    assert answers == [200]
    rows = sync.rows(select(inbox.c.event_id).where(inbox.c.source == "stripe"))
    assert [row.event_id for row in rows] == ["evt_1"]


def test_an_event_of_an_unknown_customer_waits_until_the_customer_is_linked(
    sync: Installation, endpoint: Endpoint
) -> None:
    at_stripe(sync.sandbox, "POST", "/v1/customers", name="Northwind Analytics Ltd")
    customer = only(sync.sandbox, "customer")["id"]
    for event in _events(sync):
        assert endpoint.deliver(event).status_code == 200
    waiting = select(inbox.c.event_id).where(inbox.c.source == "stripe", inbox.c.account.is_(None))
    assert len(sync.rows(waiting)) == 1
    sync.drain()
    assert len(sync.rows(waiting)) == 1
    body = {"Stripe_Customer_Id__c": customer}
    account = only(sync.sandbox, "Account")["Id"]
    sync.sandbox.control("POST", "/clock", {"advance_seconds": 10})
    sync.sandbox.control(
        "POST", "/humans", {"system": "salesforce", "object": "Account", "id": account, "fields": body}
    )
    sync.rest()
    sweep_stripe(sync.ledger, sync.engine.stripe, sync.env, pytest.fail)
    assert sync.rows(waiting) == []
    (row,) = sync.rows(select(inbox.c.account).where(inbox.c.source == "stripe", inbox.c.type == "customer.created"))
    assert row.account == account


def test_the_inbox_keeps_ids_only(sync: Installation, endpoint: Endpoint) -> None:
    at_stripe(sync.sandbox, "POST", "/v1/customers", name="Jane Personal", email="jane@personal.example")
    (event,) = _events(sync)
    endpoint.deliver(event)
    (row,) = sync.rows(select(inbox).where(inbox.c.source == "stripe"))
    assert "ersonal" not in str(tuple(row))


def test_salesforce_messages_are_hints_from_the_expected_org_only(sync: Installation, endpoint: Endpoint) -> None:
    message = (
        "<soapenv:Envelope><soapenv:Body><notifications><OrganizationId>{org}</OrganizationId><Notification>"
        "<sObject><sf:Id>001Aa0000000001IAA</sf:Id><sf:AccountId>001Aa0000000002IAA</sf:AccountId></sObject>"
        "<sObject><sf:Id>001aa0000000003iaa</sf:Id><sf:AccountId>001Aa0000000004ZZZ</sf:AccountId></sObject>"
        "</Notification></notifications></soapenv:Body></soapenv:Envelope>"
    )
    before = _rows(sync)
    stranger = endpoint.post(message.format(org="00DZz0000000009EAA").encode(), "", "/webhooks/salesforce")
    assert (stranger.status_code, _rows(sync)) == (403, before)
    assert endpoint.post(b"<x/>", "", "/webhooks/salesforce").status_code == 403
    answer = endpoint.post(message.format(org=f"{ORG}IAA").encode(), "", "/webhooks/salesforce")
    assert answer.status_code == 200
    assert "<Ack>true</Ack>" in answer.text
    rows = sync.rows(select(work.c.account, work.c.priority).where(work.c.dirty_seq > work.c.clean_seq))
    assert {row.account for row in rows} == {"001Aa0000000001IAA", "001Aa0000000002IAA"}
    assert {row.priority for row in rows} == {Priority.WRITE_BACK}, "whoever knows the org's id can send this"


def test_a_message_names_no_more_accounts_than_salesforce_would_send(sync: Installation, endpoint: Endpoint) -> None:
    named = [record_id(f"001Aa{number:010}") for number in range(101)]

    def message(ids: list[str | None]) -> bytes:
        records = "".join(f"<sf:Id>{each}</sf:Id>" for each in ids)
        return f"<x><OrganizationId>{ORG}IAA</OrganizationId>{records}</x>".encode()

    refused = endpoint.post(message(named), "", "/webhooks/salesforce")
    assert (refused.status_code, _rows(sync)) == (400, 0)
    assert endpoint.post(message(named[:100]), "", "/webhooks/salesforce").status_code == 200
    assert _rows(sync) == 100


@pytest.mark.parametrize("path", ["/webhooks/stripe", "/webhooks/salesforce"])
def test_a_sender_who_goes_away_or_never_ends_costs_nothing_but_its_connection(
    sync: Installation, endpoint: Endpoint, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "BODY_SECONDS", 1)
    begun = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nabc".encode()
    port = int(endpoint.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as gone:
        gone.sendall(begun)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(begun)
        assert slow.recv(64).startswith(b"HTTP/1.1 408 ")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert _rows(sync) == 0


def test_healthz_tells_how_much_is_due(sync: Installation, endpoint: Endpoint) -> None:
    resync(sync.ledger, ["001Aa0000000001IAA"], sync.env)
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(endpoint.url + "/healthz", timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "accounts_due": 1})
    assert endpoint.post(b"", "", "/healthz").status_code == 405
