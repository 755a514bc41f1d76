"""Alerts against a real webhook endpoint and a real, small mail server on this machine."""

from __future__ import annotations

import json
import socketserver
from email import message_from_bytes

import pytest

from sync_pipeline.systems.alerts import UNANSWERED, Alerts, slack_text
from sync_pipeline_tests.alert_hook import Hook, serving

ALERT = {
    "title": "Payment failed: GBP 45,000.00, Marks & <Sons>",
    "text": "Attempt 1 failed.\nMonthly recurring revenue at risk: GBP 3,750.00.",
    "link": "https://invoice.stripe.com/i/1",
    "link_text": "Invoice N-1",
}


def unguarded() -> None:
    """Nothing keeps it from being sent."""


class Mail(socketserver.ThreadingTCPServer):
    """Takes mail as RFC 5321 says; answers `answer` to what follows DATA."""

    allow_reuse_address = True

    def __init__(self, answer: str) -> None:
        self.answer, self.mails = answer, list[tuple[list[str], bytes]]()
        super().__init__(("127.0.0.1", 0), _Session)


class _Session(socketserver.StreamRequestHandler):
    server: Mail

    def handle(self) -> None:
        recipients: list[str] = []
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"RCPT":
                recipients.append(line.decode().split("<")[1].split(">")[0])
            if verb == b"DATA":
                self.wfile.write(b"354 go\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.mails.append((recipients, b"".join(lines)))
                self.wfile.write(self.server.answer.encode() + b"\r\n")
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 ok\r\n")


def test_slack_gets_its_json_with_the_three_characters_escaped() -> None:
    with serving(Hook(200)) as hook:
        assert Alerts(webhook=hook.url).send(ALERT, guard=unguarded).state == "done"
    assert [json.loads(body) for body in hook.bodies] == [
        {
            "text": "*Payment failed: GBP 45,000.00, Marks &amp; &lt;Sons&gt;*\n"
            "Attempt 1 failed.\nMonthly recurring revenue at risk: GBP 3,750.00.\n"
            "<https://invoice.stripe.com/i/1|Invoice N-1>"
        }
    ]


def test_an_invoice_without_a_page_has_no_link() -> None:
    assert slack_text(ALERT | {"link": ""}).endswith("3,750.00.")


@pytest.mark.parametrize(
    ("status", "state"), [(404, "rejected"), (403, "rejected"), (429, "throttled"), (500, "throttled")]
)
def test_what_a_webhook_refuses_for_good_is_not_tried_again(status: int, state: str) -> None:
    with serving(Hook(status)) as hook:
        outcome = Alerts(webhook=hook.url).send(ALERT, guard=unguarded)
    assert (outcome.state, outcome.http_status) == (state, status)
    assert "secret" not in outcome.message


def test_a_webhook_that_cannot_be_reached_is_tried_later() -> None:
    with serving(Hook(200)) as hook:
        url = hook.url
    assert Alerts(webhook=url).send(ALERT, guard=unguarded).state == "throttled"


class _HangUp(socketserver.StreamRequestHandler):
    """Takes what it is sent, and closes the connection without a word."""

    def handle(self) -> None:
        self.request.recv(65_536)


def test_a_webhook_that_hangs_up_may_have_told_people_and_is_not_tried_again() -> None:
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _HangUp)) as server:
        outcome = Alerts(webhook=f"http://127.0.0.1:{server.server_address[1]}/").send(ALERT, guard=unguarded)
    assert outcome == UNANSWERED


def test_without_a_webhook_the_recipients_get_a_mail() -> None:
    with serving(Mail("250 taken")) as mail:
        port = mail.server_address[1]
        alerts = Alerts(smtp=f"smtp://127.0.0.1:{port}?from=sync@example.com", recipients=("a@example.com", "b@x.org"))
        assert alerts.send(ALERT, guard=unguarded).state == "done"
    ((recipients, raw),) = mail.mails
    message = message_from_bytes(raw)
    assert recipients == ["a@example.com", "b@x.org"]
    assert (message["Subject"], message["From"]) == (ALERT["title"], "sync@example.com")
    assert str(message.get_payload()).replace("\r\n", "\n").strip() == f"{ALERT['text']}\n{ALERT['link']}"


@pytest.mark.parametrize(("answer", "state"), [("451 busy", "throttled"), ("554 no", "rejected")])
def test_what_the_mail_server_says_decides(answer: str, state: str) -> None:
    with serving(Mail(answer)) as mail:
        alerts = Alerts(smtp=f"smtp://127.0.0.1:{mail.server_address[1]}", recipients=("a@example.com",))
        assert alerts.send(ALERT, guard=unguarded).state == state


def test_nowhere_to_send_it_says_which_settings_are_missing() -> None:
    outcome = Alerts().send(ALERT, guard=unguarded)
    assert (outcome.state, outcome.message) == (
        "rejected",
        "neither SYNC_ALERT_WEBHOOK nor SYNC_ALERT_EMAIL is set",
    )
