"""From a Stripe error to the engine's words: one total function (docs.stripe.com/error-low-level).

5xx and lost connections are ambiguous: the request may have taken effect; so are answers that are not Stripe's,
such as a proxy's page. 429 and 409 come before anything happens. A 4xx with a message is a refusal of these values,
unless it says that an object is there, or is not, against what we thought: then a new look decides.
"""

from __future__ import annotations

from typing import Any

import stripe

from sync_pipeline.systems.outcomes import Outcome, ReadFailed, State

NOT_AS_WE_THOUGHT = frozenset({"resource_already_exists", "resource_missing"})


def outcome_of(error: stripe.StripeError) -> Outcome:
    """What a failed write means."""
    status, code = error.http_status, _code(error)
    if isinstance(error, stripe.APIConnectionError) or status is None or _details(error) is None:
        return Outcome("ambiguous", http_status=status, message=_plain(error))
    state: State = "rejected"
    if status in (409, 429):
        state = "throttled"
    elif status in (401, 403):
        state = "denied"
    elif status >= 500:
        state = "ambiguous"
    elif status == 404 or code in NOT_AS_WE_THOUGHT or _refused_param(error) == "lookup_key":
        state = "stale"
    return Outcome(
        state,
        http_status=status,
        code=code,
        message=_plain(error),
        request_id=error.request_id,
        replayed_failure=_replayed(error),
    )


def _refused_param(error: stripe.StripeError) -> str | None:
    """The parameter that was refused; a refused lookup key means that the price exists already."""
    return getattr(error, "param", None)


def _replayed(error: stripe.StripeError) -> bool:
    """Stripe saves a 500 under its key and would answer it again for ever."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    return headers.get("idempotent-replayed") == "true"


def read_failure(error: stripe.StripeError) -> ReadFailed:
    """What a failed read means; the message carries no request data."""
    access = isinstance(error, (stripe.AuthenticationError, stripe.PermissionError))
    return ReadFailed("Stripe", _plain(error), access=access)


def _code(error: stripe.StripeError) -> str | None:
    details = _details(error)
    return error.code if details is None else details.get("code")


def _details(error: stripe.StripeError) -> dict[str, Any] | None:
    """The `error` object of Stripe's answer; None when something else answered."""
    body = error.json_body
    details = body.get("error") if isinstance(body, dict) else None
    return details if isinstance(details, dict) else None


def _plain(error: stripe.StripeError) -> str:
    """The kind of failure in words; connection errors name hosts and ports only, vendor messages are kept short."""
    if isinstance(error, stripe.APIConnectionError):
        return "no answer (connection failed or timed out)"
    return f"{error.http_status} {_code(error) or ''} {error.user_message or ''}".strip()[:300]
