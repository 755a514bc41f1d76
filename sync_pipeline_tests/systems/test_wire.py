"""A write that stood still between its guard's first look and the socket: its bytes do not leave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from sync_pipeline.systems.alerts import Alerts
from sync_pipeline.systems.outcomes import DeadlinePassed
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.stripe import listings
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline.systems.wire import BYTES_AT_ONCE
from sync_pipeline_tests.sandbox_process import SandboxHandle
from sync_pipeline_tests.systems.test_salesforce_adapter import set_fields
from sync_pipeline_tests.systems.test_stripe_adapter import CUSTOMER, unguarded

AT_ONCE, ONCE_CONNECTED, ONCE_THE_HEADERS_HAVE_LEFT = 0, 1, 2


def late_from(question: int) -> Callable[[], None]:
    """The deadline passes before the guard is asked for the so manieth time."""
    asked = iter(range(question))

    def guard() -> None:
        if next(asked, None) is None:
            raise DeadlinePassed

    return guard


class Listener(threading.Thread):
    """Takes one connection, keeps what comes until the other side hangs up, and answers nothing."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.heard = b""

    def run(self) -> None:
        connection, _ = self.socket.accept()
        with connection:
            while piece := connection.recv(65_536):
                self.heard += piece


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    found.start()
    yield found
    found.socket.close()


def test_a_write_that_is_late_once_it_is_connected_sends_no_byte(listener: Listener) -> None:
    with pytest.raises(DeadlinePassed):
        Stripe("sk_test_x", base_url=listener.url).create(
            "customer", CUSTOMER, key="k", guard=late_from(ONCE_CONNECTED)
        )
    listener.join(10)
    assert listener.heard == b""


def test_a_large_body_stops_on_its_way(listener: Listener) -> None:
    """What has left is the request line, the headers and one piece of four: nobody acts on that."""
    stripe, body = Stripe("sk_test_x", base_url=listener.url), {"name": "x" * 4 * BYTES_AT_ONCE}
    with pytest.raises(DeadlinePassed):
        stripe.create("customer", body, key="k", guard=late_from(ONCE_THE_HEADERS_HAVE_LEFT + 1))
    listener.join(10)
    headers, _, sent = listener.heard.partition(b"\r\n\r\n")
    assert len(sent) == BYTES_AT_ONCE
    assert f"content-length: {len('name=') + 4 * BYTES_AT_ONCE}".encode() in headers.lower()


@pytest.mark.parametrize("late", [AT_ONCE, ONCE_CONNECTED, ONCE_THE_HEADERS_HAVE_LEFT])
def test_stripe_makes_nothing_of_a_late_write_and_one_of_the_next(stripe: Stripe, late: int) -> None:
    with pytest.raises(DeadlinePassed):
        stripe.create("customer", CUSTOMER, key="k", guard=late_from(late))
    assert listings.everything(stripe)["customers"] == []
    assert stripe.create("customer", CUSTOMER, key="k", guard=unguarded).state == "done"
    assert len(listings.everything(stripe)["customers"]) == 1


@pytest.mark.parametrize("late", [AT_ONCE, ONCE_CONNECTED, ONCE_THE_HEADERS_HAVE_LEFT])
def test_salesforce_takes_nothing_of_a_late_write(salesforce: Salesforce, sandbox: SandboxHandle, late: int) -> None:
    (row,) = salesforce.query_all({"accounts": "SELECT Id FROM Account"})["accounts"]
    fields = {"MRR__c": Decimal("12.5")}
    (outcome,) = set_fields(salesforce, ("Account", row["Id"], fields), guard=late_from(late))
    assert (outcome.state, outcome.message) == ("throttled", "it was not sent in time")
    (account,) = sandbox.control("GET", "/state")["salesforce"]["Account"]
    assert account.get("MRR__c") is None
    (sent,) = set_fields(salesforce, ("Account", row["Id"], fields))
    assert sent.state == "done"


def test_an_alert_that_is_late_once_it_is_connected_does_not_leave(listener: Listener) -> None:
    alert = {"title": "t", "text": "x", "link": "", "link_text": ""}
    with pytest.raises(DeadlinePassed):
        Alerts(webhook=listener.url).send(alert, guard=late_from(ONCE_CONNECTED))
    listener.join(10)
    assert listener.heard == b""
