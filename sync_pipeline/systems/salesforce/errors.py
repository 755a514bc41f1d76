"""From a Salesforce error to the engine's words: one total function over status and error code.

Row locks, limits and outages pass by themselves; a record that is gone has to be looked at again; everything
else is a refusal of these values by the org (validation, picklist, permission), which a person has to mend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceError

from sync_pipeline.systems.outcomes import Outcome, ReadFailed, State

PASSING = frozenset(
    {
        "UNABLE_TO_LOCK_ROW",
        "SERVER_UNAVAILABLE",
        "REQUEST_LIMIT_EXCEEDED",
        "REQUEST_RUNNING_TOO_LONG",
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",
        "PROCESSING_HALTED",
    }
)
GONE = frozenset({"ENTITY_IS_DELETED", "NOT_FOUND", "INVALID_CROSS_REFERENCE_KEY"})
NO_ACCESS = frozenset({"INVALID_SESSION_ID", "API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED"})

CallError = SalesforceError | SalesforceAuthenticationFailed | requests.RequestException
CALL_ERRORS = (SalesforceError, SalesforceAuthenticationFailed, requests.RequestException)


def state_of(http_status: int, code: str | None) -> State:
    """What an answer with this status and error code means for a write."""
    if code in PASSING or http_status in (420, 429, 503):
        return "throttled"
    if http_status >= 500 or (code is None and http_status != 401):
        # Without a code it is not Salesforce that answers: a proxy's page says nothing about what happened behind it.
        return "ambiguous"
    if code in NO_ACCESS or http_status == 401:
        return "denied"
    if code in GONE:
        return "stale"
    return "rejected"


def outcome_of_errors(http_status: int, errors: Any) -> Outcome:
    """What the error list of one record or one subrequest means. Rows say statusCode, calls say errorCode."""
    first = next(iter(_rows(errors)), {})
    code = first.get("statusCode") or first.get("errorCode")
    fields = ", ".join(first.get("fields") or [])
    message = f"{first.get('message', '')}{f' ({fields})' if fields else ''}"[:300]
    return Outcome(state_of(http_status, code), http_status=http_status, code=code, message=message)


def outcome_of_call(error: CallError) -> Outcome:
    """What a failed call means for every write in it."""
    if isinstance(error, SalesforceAuthenticationFailed):
        return Outcome("denied", code="authentication", message=_plain(error))
    if isinstance(error, SalesforceError):
        outcome = outcome_of_errors(int(error.status), _error_list(error))
        return outcome if outcome.message else Outcome(outcome.state, http_status=error.status, message=_plain(error))
    return Outcome("ambiguous", message=_plain(error))


def read_failure(error: CallError) -> ReadFailed:
    """What a failed read means; the message carries no query and no data."""
    denied = isinstance(error, SalesforceAuthenticationFailed) or getattr(error, "status", None) == 401
    return ReadFailed("Salesforce", _plain(error), access=denied)


def _plain(error: CallError) -> str:
    if isinstance(error, SalesforceAuthenticationFailed):
        return f"sign-in refused ({error.code})"
    if isinstance(error, SalesforceError):
        first = next(iter(_error_list(error)), {})
        return f"{error.status} {first.get('errorCode', '')} {first.get('message', '')}".strip()[:300]
    return "no answer (connection failed or timed out)"


def _error_list(error: SalesforceError) -> list[Mapping[str, Any]]:
    return _rows(error.content)


def _rows(content: Any) -> list[Mapping[str, Any]]:
    """The error rows of an answer; none when a gateway answered instead of Salesforce (HTML, plain text)."""
    return [row for row in content if isinstance(row, dict)] if isinstance(content, list) else []
