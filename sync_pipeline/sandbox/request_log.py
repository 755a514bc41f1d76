"""What was asked of the two systems: a ring of recent exchanges, counts per endpoint, and the traffic file.

Only calls that came over HTTP (or through `Sandbox.exchange`) belong in it; what people do on the pages,
and what the seed data did, is not traffic. Credentials are never kept: no authorization header is stored,
and the bodies of sign-in calls are blanked.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from sync_pipeline.sandbox.wire import Call, Reply

_RING = 10_000
# Of long answers only the beginning stays in memory; the traffic file has them whole.
_REMEMBERED_BYTES = 20_000
_STRIPE_NAMESPACES = frozenset({"test_helpers", "checkout", "billing", "billing_portal", "tax", "radar", "core"})
_STRIPE_VERBS = frozenset({"search", "create_preview"})
_SIGN_IN = ("/services/oauth2/", "/services/Soap/")


@dataclass(frozen=True, slots=True)
class Entry:
    """One exchange. `at` is sandbox time in seconds, `ms` the wall time it took to answer.

    `reply` is what the caller saw, or would have seen had the connection not been closed;
    None means that the call never reached the system. `fault` names the fault rule's kind.
    """

    seq: int
    side: str
    at: int
    ms: float
    endpoint: str
    call: Call
    reply: Reply | None
    fault: str | None

    def line(self) -> dict[str, Any]:
        """The entry in the shape of a traffic line."""
        secret = self.call.path.startswith(_SIGN_IN)
        return {
            "seq": self.seq,
            "side": self.side,
            "t": self.at,
            "ms": round(self.ms, 2),
            "method": self.call.method,
            "path": self.call.path,
            "query": self.call.query,
            "body": "***" if secret else self.call.body.decode("utf-8", "replace"),
            "status": None if self.reply is None else self.reply.status,
            "response": "***" if secret else _readable(self.reply),
            "endpoint": self.endpoint,
            "fault": self.fault,
        }

    def shown(self) -> dict[str, Any]:
        """The entry for people and scripts: the traffic line, and the version that a client of Stripe asked for."""
        asked = {"stripe_version": self.call.headers.get("stripe-version")} if self.side == "stripe" else {}
        return self.line() | asked


class RequestLog:
    """Recent entries in memory and, where `traffic` names a file, every exchange as JSON lines.

    Stripe's lines go to the file itself, webhooks to `<file>.webhooks.jsonl` and Salesforce's lines to
    `<file>.salesforce.jsonl`, so that the first two can be put through Stripe's contract as they are.
    """

    def __init__(self, traffic: Path | None = None) -> None:
        self._entries: deque[Entry] = deque(maxlen=_RING)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._seq = 0
        self._files: dict[str, TextIO] = {}
        if traffic is not None:
            for kind, suffix in (("stripe", ""), ("salesforce", ".salesforce.jsonl"), ("webhook", ".webhooks.jsonl")):
                path = traffic.with_name(traffic.name + suffix)
                self._files[kind] = path.open("a", buffering=1, encoding="utf-8")

    def record(self, side: str, at: int, ms: float, call: Call, reply: Reply | None, fault: str | None) -> Entry:
        self._seq += 1
        name = endpoint(side, call.method, call.path)
        entry = Entry(self._seq, side, at, ms, name, call, reply, fault)
        self._entries.append(_shortened(entry))
        self._counts[side, name] += 1
        if self._files and _is_contract_shaped(entry):
            self._write(side, entry.line())
        return entry

    def record_webhook(self, body: bytes) -> None:
        """A webhook that was sent out: the event itself."""
        if self._files:
            self._write("webhook", json.loads(body))

    def entries(self, *, since: int = 0, side: str | None = None) -> Iterator[Entry]:
        """Entries after sequence number `since`, oldest first, of one side or both."""
        return (e for e in self._entries if e.seq > since and side in (None, e.side))

    def counts(self, *, since: int = 0, side: str | None = None) -> dict[str, dict[str, int]]:
        """Calls per side and endpoint template, e.g. ``{"stripe": {"POST /v1/customers": 1}}``.

        With `since` they are counted from the ring, otherwise over everything since the last `clear`.
        """
        totals = Counter((e.side, e.endpoint) for e in self.entries(since=since)) if since else self._counts
        found: dict[str, dict[str, int]] = {}
        for (of, name), count in sorted(totals.items()):
            if side in (None, of):
                found.setdefault(of, {})[name] = count
        return found

    @property
    def last_seq(self) -> int:
        return self._seq

    def clear(self) -> None:
        """Forget entries and counts. Sequence numbers go on, so that an old `since` stays meaningful."""
        self._entries.clear()
        self._counts.clear()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}

    def _write(self, kind: str, line: dict[str, Any]) -> None:
        self._files[kind].write(json.dumps(line, ensure_ascii=False) + "\n")


def _shortened(entry: Entry) -> Entry:
    if entry.reply is None or len(entry.reply.body) <= _REMEMBERED_BYTES:
        return entry
    return replace(entry, reply=replace(entry.reply, body=entry.reply.body[:_REMEMBERED_BYTES]))


def _is_contract_shaped(entry: Entry) -> bool:
    """Whether the line says something about a vendor: an answer that a fault rule made up says nothing."""
    if entry.reply is None or entry.fault == "http":
        return False
    return entry.side != "stripe" or entry.fault is None or isinstance(_readable(entry.reply), dict)


def _readable(reply: Reply | None) -> Any:
    if reply is None or not reply.body:
        return None
    try:
        return json.loads(reply.body)
    except ValueError:
        return reply.body.decode("utf-8", "replace")


@lru_cache(maxsize=20_000)
def endpoint(side: str, method: str, path: str) -> str:
    """The call with ids and versions taken out: ``POST /v1/customers/{id}``, ``GET /services/data/{v}/query``."""
    parts = [part for part in path.split("/") if part]
    named = _stripe_template(parts) if side == "stripe" else _salesforce_template(parts)
    return f"{method} /{'/'.join(named)}"


def _stripe_template(parts: list[str]) -> list[str]:
    named = parts[:1]
    rest = parts[1:]
    while rest and rest[0] in _STRIPE_NAMESPACES and len(rest) > 1:
        named.append(rest.pop(0))
    named.extend("{id}" if i % 2 and part not in _STRIPE_VERBS else part for i, part in enumerate(rest))
    return named


def _salesforce_template(parts: list[str]) -> list[str]:
    if parts[:1] == ["id"]:
        return ["id", *("{id}" for _ in parts[1:])]
    if parts[:2] != ["services", "data"] or len(parts) < 3:
        return parts
    rest = parts[3:]
    match [part.lower() for part in rest]:
        case ["sobjects", _, "describe" | "updated" | "deleted"]:
            pass
        case ["sobjects", _, _]:
            rest[2] = "{id}"
        case ["sobjects", _, _, _, *_]:
            rest[3] = "{value}"
        case ["query" | "queryall", _]:
            rest[1] = "{locator}"
        case ["jobs", _, _, *_]:
            rest[2] = "{id}"
        case ["composite", "sobjects", _, _]:
            pass
    return ["services", "data", "{v}", *rest]
