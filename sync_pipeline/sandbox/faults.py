"""Faults on demand: rules that say which calls go wrong, and how.

A rule only decides; what a dropped or cut connection means on a socket is the HTTP shell's business,
and faults inside a system (an org's validation rule, a declined card) are that system's own settings.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sync_pipeline.sandbox.contention import Contention
from sync_pipeline.sandbox.inputs import Fields
from sync_pipeline.sandbox.wire import Call, Reply

SIDES = ("salesforce", "stripe")

_CONNECTION_KINDS = ("delay", "withhold", "drop_before", "drop_after", "truncate", "stale")


def _stripe(
    status: int, message: str, kind: str, code: str | None = None, decline_code: str | None = None, **headers: str
) -> Reply:
    error = {"message": message, "type": kind, "code": code, "decline_code": decline_code}
    error = {name: value for name, value in error.items() if value is not None}
    body = json.dumps({"error": error}, indent=2).encode()
    return Reply(status, body, {"content-type": "application/json"} | _header_names(headers))


def _salesforce(status: int, code: str, message: str, **headers: str) -> Reply:
    body = json.dumps([{"message": message, "errorCode": code}]).encode()
    return Reply(status, body, {"content-type": "application/json;charset=UTF-8"} | _header_names(headers))


def _header_names(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


# The wordings are the vendors' own. A 429 without the reason header is contention for an object, not a rate limit.
VENDOR_FAULTS: dict[str, Reply] = {
    "stripe_401": _stripe(401, "Invalid API Key provided: sk_test_****", "invalid_request_error"),
    "stripe_402": _stripe(402, "Your card was declined.", "card_error", "card_declined", "generic_decline"),
    "stripe_409_in_progress": _stripe(
        409,
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
        "twice, and the other request is still going through). Please try again later.",
        "idempotency_error",
        "idempotency_key_in_use",
        stripe_should_retry="true",
    ),
    "stripe_429": _stripe(
        429,
        "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits.",
        "invalid_request_error",
        "rate_limit",
        stripe_rate_limited_reason="global-rate",
        stripe_should_retry="true",
    ),
    "stripe_lock_timeout": _stripe(
        429,
        "This object cannot be accessed right now because another API request or Stripe process is currently accessing "
        "it. If you see this error intermittently, retry the request.",
        "invalid_request_error",
        "lock_timeout",
    ),
    "stripe_500": _stripe(500, "An unknown error occurred. Please contact support if the error persists.", "api_error"),
    "stripe_503": _stripe(
        503, "Stripe is temporarily unavailable. Please try again.", "api_error", stripe_should_retry="true"
    ),
    "salesforce_expired_session": _salesforce(401, "INVALID_SESSION_ID", "Session expired or invalid"),
    "salesforce_limit": _salesforce(
        403,
        "REQUEST_LIMIT_EXCEEDED",
        "TotalRequests Limit exceeded.",
        sforce_limit_info="api-usage=100000/100000",
    ),
    "salesforce_concurrent_limit": _salesforce(
        403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
    ),
    "salesforce_row_lock": _salesforce(
        400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record or 1 records"
    ),
    "salesforce_query_timeout": _salesforce(400, "QUERY_TIMEOUT", "Your query request was running for too long."),
    "salesforce_503": _salesforce(503, "SERVER_UNAVAILABLE", "Server unavailable, please try again later."),
    "salesforce_gateway": Reply(502, b"<html><body><h1>Bad Gateway</h1></body></html>", {"content-type": "text/html"}),
}
KEPT_UNDER_THE_KEY = frozenset({"stripe_402", "stripe_500"})
"""They come after the work has begun, so Stripe keeps them under the key (docs.stripe.com/api/idempotent_requests)."""
KINDS = ("http", *_CONNECTION_KINDS, *VENDOR_FAULTS)


@dataclass(frozen=True, slots=True)
class Fault:
    """How one call goes wrong.

    `reply` replaces the system's answer; with `commits` the system still does its work first.
    `seconds` is the wait of `delay` (before the work) and `withhold` (after it), and the age of what a `stale`
    search or query sees. It misses what was written since the rule has been in force.
    """

    kind: str
    reply: Reply | None = None
    commits: bool = True
    seconds: float = 0.0


@dataclass
class Rule:
    """Which calls, and which of those: the `nth`, `every` n-th, or each with `probability` (seeded)."""

    fault: Fault
    side: str | None
    method: str | None
    path: re.Pattern[str]
    times: int | None
    nth: int | None
    every: int | None
    probability: float | None
    described: dict[str, Any]
    random: random.Random
    matched: int = 0
    hits: int = 0

    def strikes(self, side: str, call: Call) -> bool:
        """Count the call if it is one of the rule's, and say whether this one goes wrong."""
        if self.side not in (None, side) or self.method not in (None, call.method) or not self.path.search(call.path):
            return False
        self.matched += 1
        if self.times is not None and self.hits >= self.times:
            return False
        chosen = (
            (self.nth is None or self.matched == self.nth)
            and (self.every is None or self.matched % self.every == 0)
            and (self.probability is None or self.random.random() < self.probability)
        )
        self.hits += chosen
        return chosen


@dataclass
class Faults:
    """The rules in force. The first rule that strikes decides, unless another call is in the way."""

    rules: list[Rule] = field(default_factory=list)
    contention: Contention = field(default_factory=Contention)

    def strike(self, side: str, call: Call) -> Fault | None:
        kind = self.contention.refusal(call) if side == "stripe" else None
        if kind is not None:
            return Fault(kind, VENDOR_FAULTS[kind], commits=False)
        return next((rule.fault for rule in self.rules if rule.strikes(side, call)), None)

    def add(self, described: list[Any]) -> None:
        """Put rules in force. Raises BadInputError, and adds none of them, if one is wrong."""
        self.rules += [read_rule(rule, f"rules[{i}]") for i, rule in enumerate(described)]

    @property
    def stalest(self) -> float:
        """The seconds by which the rules in force may make a call stale."""
        return max((rule.fault.seconds for rule in self.rules if rule.fault.kind == "stale"), default=0.0)

    def clear(self) -> None:
        self.rules.clear()
        self.contention.clear()

    def listing(self) -> list[dict[str, Any]]:
        return [rule.described | {"matched": rule.matched, "hits": rule.hits} for rule in self.rules]


def read_rule(described: Any, where: str = "") -> Rule:
    """A rule from its JSON: ``{"match": {"side", "method", "path"}, "kind", "times", "nth"|"every"|"probability",
    "seed", "seconds", "status", "body", "headers", "commit"}``. Raises BadInputError naming the field."""
    fields = Fields(described, where)
    fields.not_called({"action": "kind", "path": "match.path", "path_regex": "match.path"})
    match = fields.object("match", default={})
    match.not_called({"path_regex": "path"})
    side, method = match.choice("side", SIDES, default=None), match.text("method", default=None)
    path = match.pattern("path", default=".")
    match.done()
    kind = fields.choice("kind", KINDS)
    rule = Rule(
        fault=_read_fault(kind, fields),
        side=side or _vendor(kind),
        method=method.upper() if method else None,
        path=path,
        times=fields.integer("times", default=None, least=1),
        nth=fields.integer("nth", default=None, least=1),
        every=fields.integer("every", default=None, least=1),
        probability=fields.number("probability", default=None, least=0, most=1),
        described=dict(described),
        random=random.Random(fields.integer("seed", default=0)),
    )
    fields.done()
    return rule


def _read_fault(kind: str, fields: Fields) -> Fault:
    if kind == "http":
        status = fields.integer("status", least=200, most=599)
        body, headers = fields.any("body", default=""), fields.texts("headers", default={})
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        content = {"content-type": "text/plain" if isinstance(body, str) else "application/json"}
        reply = Reply(status, raw, content | {name.lower(): value for name, value in headers.items()})
        return Fault(kind, reply, commits=fields.flag("commit", default=False))
    if kind in VENDOR_FAULTS:
        return Fault(kind, VENDOR_FAULTS[kind], commits=fields.flag("commit", default=False))
    seconds = fields.number("seconds", least=0, most=3600) if kind in ("delay", "withhold", "stale") else 0.0
    return Fault(kind, commits=kind != "drop_before", seconds=seconds)


def _vendor(kind: str) -> str | None:
    return kind.split("_")[0] if kind in VENDOR_FAULTS else None
