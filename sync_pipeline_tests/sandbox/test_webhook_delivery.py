"""Webhooks as a receiver meets them: signed, retried on the sandbox clock, and as lost, late and doubled as told.

Facts: stripe.md 4.1; sandbox.md 2.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

from sync_pipeline_tests.sandbox import calls
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox.receiver import Receiver, receiving
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox


@pytest.fixture
def receiver(sandbox: SandboxHandle) -> Iterator[Receiver]:
    """A receiver that the sandbox's events go to."""
    with receiving() as receiver:
        sandbox.control("POST", "/webhooks", {"url": receiver.url})
        yield receiver


def make_customer(handle: SandboxHandle, name: str = "A") -> str:
    return str(calls.stripe(handle, "POST", "/v1/customers", name=name).json()["id"])


def flush(handle: SandboxHandle) -> int:
    return int(handle.control("POST", "/webhooks", {"flush": True})["attempts"])


def pending(handle: SandboxHandle) -> list[int]:
    return [event["pending_webhooks"] for event in calls.stripe(handle, "GET", "/v1/events").json()["data"]]


def test_an_event_arrives_signed_so_that_the_sdk_accepts_it(sandbox: SandboxHandle, receiver: Receiver) -> None:
    """facts/stripe.md 4.4, facts/sandbox.md 1: signed with the wall clock, whatever the sandbox clock says."""
    customer = make_customer(sandbox)
    flush(sandbox)
    body, signature = receiver.received[0]
    event = stripe.Webhook.construct_event(body, signature, sandbox.ready["webhook_secret"])
    assert (event.type, event.data.object.id) == ("customer.created", customer)
    assert event.api_version == calls.VERSION
    assert pending(sandbox) == [0]


def test_events_arrive_without_being_asked_for(sandbox: SandboxHandle, receiver: Receiver) -> None:
    make_customer(sandbox)
    deadline = time.monotonic() + 5
    while not receiver.received and time.monotonic() < deadline:
        time.sleep(0.01)
    assert receiver.types == ["customer.created"]


def test_a_failing_receiver_is_tried_again_as_sandbox_time_passes(sandbox: SandboxHandle, receiver: Receiver) -> None:
    """facts/stripe.md 4.1: any non-2xx is a failure, retried for up to 3 days; the signature is new each time."""
    receiver.status = 500
    make_customer(sandbox)
    flush(sandbox)
    assert pending(sandbox) == [1]
    sandbox.control("POST", "/clock", {"advance_seconds": 3600})
    failed = len(receiver.received)
    assert failed > 1
    receiver.status = 200
    sandbox.control("POST", "/clock", {"advance_seconds": 3 * 86_400})
    assert len(receiver.received) == failed + 1
    assert len({event["id"] for event in receiver.events}) == 1
    assert pending(sandbox) == [0]


def test_it_gives_up_after_three_days(sandbox: SandboxHandle, receiver: Receiver) -> None:
    """facts/sandbox.md 2: retries over 3 days of sandbox time, then it gives up."""
    receiver.status = 500
    make_customer(sandbox)
    sandbox.control("POST", "/clock", {"advance_seconds": 4 * 86_400})
    tried = len(receiver.received)
    sandbox.control("POST", "/clock", {"advance_seconds": 10 * 86_400})
    assert len(receiver.received) == tried


def test_an_endpoint_that_cannot_be_reached_counts_as_failed(sandbox: SandboxHandle) -> None:
    """facts/stripe.md 4.1: `pending_webhooks` counts the endpoints that an event has not been delivered to."""
    with receiving() as gone:
        url = gone.url
    sandbox.control("POST", "/webhooks", {"url": url})
    make_customer(sandbox)
    flush(sandbox)
    assert pending(sandbox) == [1]


def test_time_can_pass_without_deliveries(sandbox: SandboxHandle, receiver: Receiver) -> None:
    """facts/sandbox.md 2: the control port flushes deliveries."""
    receiver.status = 500
    make_customer(sandbox)
    flush(sandbox)
    before = len(receiver.received)
    sandbox.control("POST", "/clock", {"advance_seconds": 86_400, "deliver": False})
    receiver.status = 200
    flush(sandbox)
    assert len(receiver.received) == before + 1


def test_a_new_url_takes_the_place_of_the_old(sandbox: SandboxHandle, receiver: Receiver) -> None:
    with receiving() as other:
        sandbox.control("POST", "/webhooks", {"url": other.url})
        make_customer(sandbox)
        flush(sandbox)
        assert other.types == ["customer.created"]
    assert receiver.received == []


def test_dropped_attempts_are_made_up_for_by_retries(sandbox: SandboxHandle, receiver: Receiver) -> None:
    """facts/sandbox.md 2: a drop rate; facts/stripe.md 4.1: what was not taken is tried again."""
    sandbox.control("POST", "/webhooks", {"conditions": {"drop": 1.0}})
    make_customer(sandbox)
    flush(sandbox)
    assert (receiver.received, pending(sandbox)) == ([], [1])
    sandbox.control("POST", "/webhooks", {"conditions": {}})
    sandbox.control("POST", "/clock", {"advance_seconds": 86_400})
    assert receiver.types == ["customer.created"]


def test_lost_events_never_arrive_though_stripe_believes_they_did(sandbox: SandboxHandle, receiver: Receiver) -> None:
    sandbox.control("POST", "/webhooks", {"conditions": {"lose": 1.0}})
    make_customer(sandbox)
    flush(sandbox)
    sandbox.control("POST", "/clock", {"advance_seconds": 4 * 86_400})
    assert (receiver.received, pending(sandbox)) == ([], [0])


def test_doubled_events_arrive_twice(sandbox: SandboxHandle, receiver: Receiver) -> None:
    """facts/stripe.md 4.1: at least once; facts/sandbox.md 2: a duplicate rate."""
    sandbox.control("POST", "/webhooks", {"conditions": {"duplicate": 1.0}})
    make_customer(sandbox)
    flush(sandbox)
    assert Counter(event["id"] for event in receiver.events).most_common() == [(receiver.events[0]["id"], 2)]


def arrivals_of_forty_at_one_moment(handle: SandboxHandle, receiver: Receiver, reorder: float) -> list[int]:
    """Numbers of events, from 0 in the order of their making, as they arrive when all fall due together."""
    handle.control("POST", "/webhooks", {"conditions": {"drop": 1.0}})
    made = [make_customer(handle, f"C{n}") for n in range(40)]
    flush(handle)
    handle.control("POST", "/webhooks", {"conditions": {"reorder": reorder, "seed": 4}})
    handle.control("POST", "/clock", {"advance_seconds": 86_400})
    arrived = [made.index(event["data"]["object"]["id"]) for event in receiver.events]
    assert sorted(arrived) == list(range(40))
    return arrived


def places_gained(arrived: list[int]) -> int:
    """By how many places the event that overtook most came too early."""
    return max(number - place for place, number in enumerate(arrived))


@pytest.mark.parametrize("reorder", [0.0, 0.5])
def test_reordered_events_are_all_there_but_not_in_order(
    sandbox: SandboxHandle, receiver: Receiver, reorder: float
) -> None:
    """facts/stripe.md 4.1: no ordering; facts/sandbox.md 2: a reorder window.

    Eight deliveries at once let an event overtake seven others at most, without any reordering.
    """
    overtaken = places_gained(arrivals_of_forty_at_one_moment(sandbox, receiver, reorder))
    assert overtaken >= 8 if reorder else overtaken <= 7


def test_a_delivery_to_a_deleted_endpoint_waits_no_longer(sandbox: SandboxHandle, receiver: Receiver) -> None:
    """facts/stripe.md 4.1: a deleted endpoint stops retries."""
    receiver.status = 500
    make_customer(sandbox)
    flush(sandbox)
    endpoint = sandbox.control("POST", "/webhooks", {})["endpoint"]
    calls.stripe(sandbox, "DELETE", f"/v1/webhook_endpoints/{endpoint}").raise_for_status()
    assert sandbox.control("GET", "/deliveries") == {"deliveries": []}


def test_waiting_deliveries_are_listed_until_they_arrive(sandbox: SandboxHandle, receiver: Receiver) -> None:
    """facts/sandbox.md 2: the control port shows deliveries."""
    assert sandbox.control("GET", "/deliveries") == {"deliveries": []}
    receiver.status = 500
    make_customer(sandbox)
    flush(sandbox)
    (event,) = {each["id"] for each in receiver.events}
    (waiting,) = sandbox.control("GET", "/deliveries")["deliveries"]
    assert (waiting["url"], waiting["event"], waiting["attempts"]) == (receiver.url, event, 1)
    assert waiting["id"].startswith(event)
    receiver.status = 200
    sandbox.control("POST", "/clock", {"advance_seconds": 86_400})
    assert sandbox.control("GET", "/deliveries") == {"deliveries": []}


def test_an_event_can_be_sent_again_by_hand(sandbox: SandboxHandle, receiver: Receiver) -> None:
    """facts/stripe.md 4.1: resending by hand; facts/sandbox.md 2: the control port replays an event by its id."""
    make_customer(sandbox)
    flush(sandbox)
    event = receiver.events[0]
    assert sandbox.control("POST", "/webhooks", {"replay": event["id"]})["replayed"] == 200
    body, signature = receiver.received[1]
    stripe.Webhook.construct_event(body, signature, sandbox.ready["webhook_secret"])
    assert json.loads(body)["id"] == event["id"]


def test_the_url_of_the_command_line_gets_the_events_and_the_traffic_file_has_them(tmp_path: Path) -> None:
    """facts/sandbox.md 1: the request log as JSON lines, webhooks among them for the contract (4.1)."""
    traffic = tmp_path / "traffic.jsonl"
    with (
        receiving() as receiver,
        start_sandbox("--webhook-url", receiver.url, "--traffic", str(traffic), "--now", str(START)) as handle,
    ):
        make_customer(handle)
        flush(handle)
        assert receiver.types == ["customer.created"]
    lines = (tmp_path / "traffic.jsonl.webhooks.jsonl").read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["customer.created"]
