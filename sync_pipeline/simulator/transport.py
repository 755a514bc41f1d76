"""Calls without a network: the real SDKs' requests go straight into the sandbox, and go wrong on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from requests.structures import CaseInsensitiveDict

from sync_pipeline.core.units import MICROS
from sync_pipeline.sandbox.faults import VENDOR_FAULTS, Fault
from sync_pipeline.sandbox.request_log import endpoint
from sync_pipeline.sandbox.wire import Call, Reply
from sync_pipeline.simulator.calls import is_of_a_job, lets_job_run
from sync_pipeline.simulator.stage import Stage
from sync_pipeline.systems.wire import ask_guard

GIVEN_UP_SECONDS = 30
LATE_SECONDS = (31, 300)
STRIPE_TROUBLE = (
    "lost before",
    "lost after",
    "late",
    "stripe_429",
    "stripe_lock_timeout",
    "stripe_500",
    "stripe_500 committed",
    "stripe_503",
    "stripe_409_in_progress",
)
SALESFORCE_TROUBLE = (
    "lost before",
    "lost after",
    "late",
    "salesforce_503",
    "salesforce_row_lock",
    "salesforce_expired_session",
    "salesforce_concurrent_limit",
    "salesforce_gateway",
)
PREVIEW = "/v1/invoices/create_preview"


def is_write(side: str, call: Call) -> bool:
    """Whether the call may change something: neither a read, nor a sign-in."""
    if side == "stripe":
        return call.method != "GET" and call.path != PREVIEW
    if "/services/oauth2/" in call.path:
        return False
    if is_of_a_job(call):
        return lets_job_run(call)
    return call.method in ("PATCH", "DELETE") or (call.method == "POST" and b'"PATCH"' in call.body)


class Watch(Protocol):
    """Who sees every call: before it can take effect, when it has, and when the caller hears of it or gives up. One
    whose caller has given up may take effect all the same, and comes late."""

    def sent(self, side: str, call: Call) -> None: ...

    def took_effect(self, side: str, call: Call, reply: Reply | None) -> None: ...

    def answered(self, side: str, call: Call, reply: Reply) -> None: ...

    def given_up(self) -> None: ...

    def comes_late(self, side: str) -> None: ...


@dataclass
class Trouble:
    """Which calls go wrong, by their number over the whole seed, and how; the kind is a word of the lists above.

    With ", writes" behind it, a kind leaves calls alone that only read.
    """

    kinds: Mapping[int, str] = field(default_factory=dict)
    calls: list[tuple[str, str, bool]] = field(default_factory=list)

    def next(self, side: str, name: str, *, writes: bool) -> str | None:
        """What befalls this call; `calls` are the side and endpoint of all so far, and whether they may change
        something."""
        self.calls.append((side, name, writes))
        kind, _, only = self.kinds.get(len(self.calls), "").partition(", ")
        if only and not writes:
            return None
        return kind if kind in (STRIPE_TROUBLE if side == "stripe" else SALESFORCE_TROUBLE) else None


class Transport(requests.adapters.BaseAdapter):
    """One side's calls."""

    def __init__(self, side: str, stage: Stage, trouble: Trouble, watch: Watch) -> None:
        super().__init__()
        self._side, self._stage, self._trouble, self._watch = side, stage, trouble, watch

    def close(self) -> None:
        """Nothing is open."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        parts = urlsplit(str(request.url))
        body = request.body or b""
        call = Call(
            method=str(request.method),
            path=parts.path,
            query=parts.query,
            headers={name.lower(): _text(value) for name, value in request.headers.items()},
            body=body.encode() if isinstance(body, str) else bytes(body),
        )
        name = endpoint(self._side, call.method, call.path)
        kind = self._trouble.next(self._side, name, writes=is_write(self._side, call))
        self._stage.boundary(f"before {name}", may_stand=False)
        ask_guard()
        self._watch.sent(self._side, call)
        reply = self._exchange(call, kind, name)
        self._stage.boundary(f"after {name}")
        if reply is None:
            raise requests.ReadTimeout(f"no answer from {self._side}", request=request)
        self._watch.answered(self._side, call, reply)
        return _response(request, reply)

    def _exchange(self, call: Call, kind: str | None, name: str) -> Reply | None:
        """The answer that reaches the caller; None when none does."""
        stage = self._stage
        if kind:
            stage.sometimes[f"{self._side}: {kind}"] += 1
        if kind == "late":
            moment = stage.micros + stage.chance.randint(*LATE_SECONDS) * MICROS
            stage.at(moment, lambda: self._late(call, name))
        reply = None if kind in ("late", "lost before") else self._answer(call, kind)
        stage.say(f"{name} -> {kind or (reply.status if reply else 'nothing')}")
        if kind in ("late", "lost before", "lost after"):
            stage.sleep_through(GIVEN_UP_SECONDS)
            self._watch.given_up()
            return None
        return reply

    def _answer(self, call: Call, kind: str | None) -> Reply | None:
        fault = None
        if kind is not None and not kind.startswith("lost"):
            told, _, committed = kind.partition(" ")
            fault = Fault(told, VENDOR_FAULTS[told], commits=bool(committed))
        reply = self._stage.sandbox.answer(self._side, call, fault).reply
        self._watch.took_effect(self._side, call, None if fault and not fault.commits else reply)
        return reply

    def _late(self, call: Call, name: str) -> None:
        self._stage.say(f"{name} of somebody who has given up takes effect")
        self._watch.comes_late(self._side)
        self._answer(call, None)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _response(request: requests.PreparedRequest, reply: Reply) -> requests.Response:
    response = requests.Response()
    response.status_code = reply.status
    response.headers = CaseInsensitiveDict(reply.headers)
    response.url = str(request.url)
    response.request = request
    response.encoding = "utf-8"
    response._content = reply.body
    return response
