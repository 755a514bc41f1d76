"""Alerts to people outside of both systems: a webhook that takes Slack's JSON, or else e-mail.

Neither knows a key that would make a second delivery harmless. So an alert that left and got no answer counts as
sent: one that is missing has its Task in Salesforce, one that comes twice is what people stop to read.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import parse_qs, unquote, urlsplit

import requests

from sync_pipeline.systems.outcomes import Guard, Outcome
from sync_pipeline.systems.wire import Wire, guarded, never_left, new_session

CONNECT_AND_READ_SECONDS = (5, 15)
SMTP_SECONDS = 15
UNANSWERED = Outcome("done", message="no answer; it counts as sent")


@dataclass(frozen=True, slots=True)
class Alerts:
    """Where alerts go: `webhook` before `recipients`, who get theirs through `smtp` (smtp://user:password@host:port
    or smtps://..., the sender as ?from=...)."""

    webhook: str | None = None
    smtp: str | None = None
    recipients: tuple[str, ...] = ()

    @property
    def is_configured(self) -> bool:
        return bool(self.webhook or (self.smtp and self.recipients))

    def send(self, alert: Mapping[str, str], *, guard: Guard) -> Outcome:
        """Delivers an alert {title, text, link, link_text}; `guard` is asked right before it leaves."""
        if self.webhook:
            return _post(self.webhook, alert, guard)
        if self.smtp and self.recipients:
            return _mail(self.smtp, self.recipients, alert, guard)
        return Outcome("rejected", message="neither SYNC_ALERT_WEBHOOK nor SYNC_ALERT_EMAIL is set")


def slack_text(alert: Mapping[str, str]) -> str:
    """The alert in Slack's mrkdwn (docs.slack.dev/messaging/formatting-message-text): three characters are escaped."""
    link = f"\n<{alert['link']}|{_escaped(alert['link_text'])}>" if alert["link"] else ""
    return f"*{_escaped(alert['title'])}*\n{_escaped(alert['text'])}{link}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _post(url: str, alert: Mapping[str, str], guard: Guard) -> Outcome:
    try:
        with guarded(guard), new_session(Wire()) as session:
            answer = session.post(url, json={"text": slack_text(alert)}, timeout=CONNECT_AND_READ_SECONDS)
    except (requests.ConnectionError, requests.ReadTimeout) as error:
        if not (never_left(error) or isinstance(error, requests.exceptions.SSLError)):
            return UNANSWERED
        return Outcome("throttled", message=f"the alert webhook cannot be reached ({type(error).__name__})")
    except requests.RequestException as error:
        return Outcome("rejected", message=f"the alert webhook cannot be used ({type(error).__name__})")
    status = answer.status_code
    if status < 300:
        return Outcome("done", http_status=status)
    why = f"the alert webhook answered {status}"
    return Outcome("throttled" if status == 429 or status >= 500 else "rejected", http_status=status, message=why)


def _mail(server: str, recipients: tuple[str, ...], alert: Mapping[str, str], guard: Guard) -> Outcome:
    url = urlsplit(server)
    message = EmailMessage()
    message["Subject"] = " ".join(alert["title"].split())
    message["From"] = parse_qs(url.query).get("from", [unquote(url.username or recipients[0])])[0]
    message["To"] = ", ".join(recipients)
    message.set_content("\n".join(part for part in (alert["text"], alert["link"]) if part))
    is_leaving = False
    try:
        with _session(url.scheme, url.hostname or "", url.port) as smtp:
            if url.username:
                smtp.login(unquote(url.username), unquote(url.password or ""))
            guard()
            is_leaving = True
            smtp.send_message(message)
    except smtplib.SMTPNotSupportedError:
        return Outcome("rejected", message="the mail server offers no encryption, or no sign-in")
    except smtplib.SMTPRecipientsRefused:
        return Outcome("rejected", message="the mail server refused the recipients of alerts")
    except smtplib.SMTPResponseException as error:
        why = f"the mail server said {error.smtp_code}"
        return Outcome("rejected" if error.smtp_code >= 500 else "throttled", message=why)
    except (OSError, smtplib.SMTPException):
        return UNANSWERED if is_leaving else Outcome("throttled", message="the mail server cannot be reached")
    return Outcome("done")


def _session(scheme: str, host: str, port: int | None) -> smtplib.SMTP:
    """A connection that is encrypted, except to this machine itself."""
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port or 465, timeout=SMTP_SECONDS, context=ssl.create_default_context())
    smtp = smtplib.SMTP(host, port or 587, timeout=SMTP_SECONDS)
    if host not in ("localhost", "127.0.0.1"):
        smtp.starttls(context=ssl.create_default_context())
    return smtp
