"""The way to one Salesforce org: sign-in, timeouts, counting, the daily allowance, and GETs that share a call.

What is asked and written is the business of the modules that use it. Sign-in and token refresh are simple-salesforce's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import requests
from simple_salesforce.api import Salesforce as Session
from simple_salesforce.util import exception_handler

from sync_pipeline.core import canonical
from sync_pipeline.systems.outcomes import Gate, NotNow, OpenGate, ReadFailed
from sync_pipeline.systems.salesforce import parse
from sync_pipeline.systems.salesforce.errors import CALL_ERRORS, failure_of_system, outcome_of_errors, read_failure
from sync_pipeline.systems.wire import CONNECT_AND_READ_SECONDS, Wire

SYSTEM = "salesforce"
USAGE = re.compile(r"(?<![\w-])api-usage=(\d+)/(\d+)")
SIGN_IN = "/services/oauth2/token"
SUBREQUESTS_PER_CALL = 5
"""A composite call takes so many queries and collections together."""
NOT_THERE = 404
SESSION_ENDED = 401

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Login:
    """How to sign in: client credentials, or a user's JWT bearer token when a private key is given."""

    domain: str
    client_id: str
    client_secret: str | None = None
    username: str | None = None
    private_key_file: str | None = None
    base_url: str | None = None
    api_version: str = "66.0"


class Connection:
    """One org over HTTP. `calls` counts what was sent.

    `transport` is what calls go through, where no network is between.
    """

    def __init__(self, login: Login, *, transport: requests.adapters.BaseAdapter | None = None) -> None:
        self._login = login
        self._transport = _Transport(login.base_url, transport or Wire())
        self.gate: Gate = OpenGate()
        self.calls = 0

    @cached_property
    def _session(self) -> Session:
        http = requests.Session()
        http.trust_env = False
        http.mount("https://", self._transport)
        known: dict[str, Any] = {"session": http, "version": self._login.api_version, "parse_float": parse.decimal}
        known |= {"domain": self._login.domain, "consumer_key": self._login.client_id}
        if self._login.private_key_file:
            known |= {"username": self._login.username, "privatekey_file": self._login.private_key_file}
        else:
            known |= {"consumer_secret": self._login.client_secret}
        try:
            return Session(**known)
        except CALL_ERRORS as error:
            raise read_failure(error) from None

    @property
    def org_id(self) -> str:
        """The org's id, 15 characters: every access token begins with it."""
        return str(self._session.session_id)[:15]

    @property
    def user_id(self) -> str | None:
        """The integration user, as the sign-in named it."""
        return self._transport.user_id

    @property
    def api_usage(self) -> tuple[int, int] | None:
        """Calls used and allowed in the rolling day, as of the last answer."""
        return self._transport.usage

    @property
    def told_at(self) -> int | None:
        """The time of the latest answer by Salesforce's own clock, microseconds UTC; None where it did not say."""
        try:
            return int(parsedate_to_datetime(self._transport.date).timestamp()) * 1_000_000
        except ValueError:
            return None

    def news_of_usage(self) -> tuple[int, int] | None:
        """The same, once for every answer that told it; None when nothing has been heard since."""
        news, self._transport.unheard = self._transport.usage if self._transport.unheard else None, False
        return news

    def _url(self, path: str) -> str:
        return f"/services/data/v{self._login.api_version}/{path}"

    def _composite(self, paths: Mapping[str, str], *, or_missing: bool = False) -> dict[str, Any]:
        """Several GETs in one call; every one of them must succeed, except for what may be missing."""
        parts = [{"method": "GET", "url": self._url(p), "referenceId": name} for name, p in paths.items()]
        answer = self._call("POST", "composite", data=canonical.encode({"compositeRequest": parts}))
        bodies = {}
        for part in answer["compositeResponse"]:
            if or_missing and part["httpStatusCode"] == NOT_THERE:
                continue
            if part["httpStatusCode"] >= 300:
                outcome = outcome_of_errors(part["httpStatusCode"], part["body"])
                why = f"{part['httpStatusCode']} {outcome.code} {outcome.message}"
                raise ReadFailed("Salesforce", why, access=outcome.state == "denied")
            bodies[part["referenceId"]] = part["body"]
        return bodies

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            return self._send("read", method, path, **options)
        except NotNow as error:
            raise ReadFailed("Salesforce", str(error)) from None
        except CALL_ERRORS as error:
            raise read_failure(error) from None

    def _send(self, operation: str, method: str, path: str, **options: Any) -> Any:
        return self._through_gate(operation, lambda: self._session.restful(path, method=method, **options))

    def raw(
        self, operation: str, method: str, path: str, body: str | None = None, content_type: str = "application/json"
    ) -> requests.Response:
        """A call whose body or answer need not be JSON. Raises the SDK's errors and NotNow.

        The SDK forgets the type of what it sends when a session has ended meanwhile, so a new one is begun here.
        """

        def call() -> requests.Response:
            answer = self._request(method, path, body, content_type)
            if answer.status_code == SESSION_ENDED:
                del self._session
                self.calls += 1
                answer = self._request(method, path, body, content_type)
            if answer.status_code >= 300:
                exception_handler(answer, path)
            return answer

        return self._through_gate(operation, call)

    def _request(self, method: str, path: str, body: str | None, content_type: str) -> requests.Response:
        session = self._session
        headers = {**session.headers, "Content-Type": content_type}
        data = None if body is None else body.encode()
        return session.session.request(method, session.base_url + path, headers=headers, data=data)

    def _through_gate(self, operation: str, call: Callable[[], T]) -> T:
        self.gate.before(SYSTEM, operation)
        self.calls += 1
        try:
            answer = call()
        except CALL_ERRORS as error:
            if (why := failure_of_system(error)) is not None:
                self.gate.failed(SYSTEM, operation, why)
            else:
                self.gate.worked(SYSTEM, operation)
            raise
        self.gate.worked(SYSTEM, operation)
        return answer


class _Transport(requests.adapters.BaseAdapter):
    """Gives every call a timeout, which the SDK does not, and sends it to the sandbox where one is set.

    `usage` is what the latest answer said of the daily allowance: calls used, calls allowed; `unheard` says that it
    was told since somebody last set it back. `date` is when that was, in its words. `user_id` is who has signed in.
    """

    def __init__(self, base_url: str | None, through: requests.adapters.BaseAdapter) -> None:
        self._base = urlsplit(base_url) if base_url else None
        self.usage: tuple[int, int] | None = None
        self.unheard = False
        self.date = ""
        self.user_id: str | None = None
        self._through = through
        super().__init__()

    def close(self) -> None:
        self._through.close()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        options["timeout"] = CONNECT_AND_READ_SECONDS
        if self._base is not None:
            original = urlsplit(str(request.url))
            request.headers.setdefault("Host", original.netloc)
            target = (self._base.scheme, self._base.netloc, original.path, original.query, original.fragment)
            request.url = urlunsplit(target)
        answer = self._through.send(request, *args, **options)
        self.date = answer.headers.get("Date", "")
        # Read here and not from the SDK, which forgets it on the very answers that say that nothing is left.
        if found := USAGE.search(answer.headers.get("Sforce-Limit-Info", "")):
            self.usage, self.unheard = (int(found[1]), int(found[2])), True
        if SIGN_IN in str(request.url):
            if answer.status_code < 300:
                # The SDK drops it: an address that ends in the user (help.salesforce.com: Identity URLs).
                self.user_id = str(answer.json().get("id", "")).rpartition("/")[2] or None
            elif not _is_refusal(answer):
                # The SDK takes every failure for a refusal, and falls over a list; this one is trouble that passes.
                raise requests.ConnectionError(f"sign-in is not available ({answer.status_code})")
        return answer


def _is_refusal(answer: requests.Response) -> bool:
    """Whether a failed sign-in was answered by who decides on it: with an error object (RFC 6749, 5.2)."""
    try:
        told = answer.json()
    except requests.JSONDecodeError:
        return False
    return answer.status_code < 500 and isinstance(told, dict) and "error" in told
