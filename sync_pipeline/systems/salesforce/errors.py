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
from sync_pipeline.systems.wire import never_left

PASSING = frozenset(
    {
        "UNABLE_TO_LOCK_ROW",
        "SERVER_UNAVAILABLE",
        "REQUEST_LIMIT_EXCEEDED",
        "REQUEST_RUNNING_TOO_LONG",
        "QUERY_TIMEOUT",
        "ENTITY_IS_LOCKED",
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",
        "PROCESSING_HALTED",
    }
)
GONE = frozenset({"ENTITY_IS_DELETED", "NOT_FOUND", "INVALID_CROSS_REFERENCE_KEY"})
NO_ACCESS = frozenset({"INVALID_SESSION_ID", "API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED"})

TO_THE_RECORD = "correct the record"
TO_THE_ADMIN = "an administrator has to give the integration user access: assign the permission set Stripe_Sync"
TO_THE_RULES = "deploy salesforce_package, or map the field in the rules file"
OUR_DEFECT = "this program sent it wrongly: please report it"
ADVICE = {
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": f"a validation rule of the org refuses it: {TO_THE_RECORD} or change the rule",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": "a trigger or flow of the org fails on this record: mend the automation",
    "CANNOT_EXECUTE_FLOW_TRIGGER": "a flow of the org fails on this record: mend the automation",
    "DUPLICATE_VALUE": f"another record has this value in a unique field: {TO_THE_RECORD} that has it wrongly",
    "DUPLICATE_EXTERNAL_ID": f"several records have this external id: {TO_THE_RECORD} that has it wrongly",
    "DUPLICATES_DETECTED": "a duplicate rule of the org blocks it: exempt the integration user or merge the records",
    "FIELD_INTEGRITY_EXCEPTION": f"the values do not fit together: {TO_THE_RECORD}",
    "INACTIVE_OWNER_OR_USER": "the user is inactive: give the record another owner",
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": TO_THE_ADMIN,
    "INSUFFICIENT_ACCESS_OR_READONLY": TO_THE_ADMIN,
    "INVALID_FIELD": f"the field does not exist for this user: {TO_THE_RULES}",
    "INVALID_FIELD_FOR_INSERT_UPDATE": TO_THE_ADMIN,
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": f"the picklist does not have this value: {TO_THE_RULES}",
    "INVALID_TYPE": f"the object does not exist for this user: {TO_THE_RULES}",
    "INVALID_TYPE_ON_FIELD_IN_RECORD": OUR_DEFECT,
    "JSON_PARSER_ERROR": OUR_DEFECT,
    "MALFORMED_ID": OUR_DEFECT,
    "MALFORMED_QUERY": OUR_DEFECT,
    "METHOD_NOT_ALLOWED": OUR_DEFECT,
    "NUMBER_OUTSIDE_VALID_RANGE": f"the number has more digits than the field: {TO_THE_RULES}",
    "REQUIRED_FIELD_MISSING": f"a required field is empty: {TO_THE_RECORD}",
    "STANDARD_PRICE_NOT_DEFINED": "the product has no standard price: give it one",
    "STORAGE_LIMIT_EXCEEDED": "the org is full: free storage or buy some",
    "STRING_TOO_LONG": f"the text is longer than the field: {TO_THE_RULES}",
    "UNSUPPORTED_MEDIA_TYPE": OUR_DEFECT,
}

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
    state = state_of(http_status, code)
    advice = ADVICE.get(code or "", "Salesforce refuses it") if state == "rejected" else ""
    return Outcome(state, http_status=http_status, code=code, message=message, advice=advice)


def outcome_of_call(error: CallError) -> Outcome:
    """What a failed call means for every write in it."""
    if isinstance(error, SalesforceAuthenticationFailed):
        return Outcome("denied", code="authentication", message=_plain(error))
    if isinstance(error, SalesforceError):
        outcome = outcome_of_errors(int(error.status), _error_list(error))
        return outcome if outcome.message else Outcome(outcome.state, http_status=error.status, message=_plain(error))
    return Outcome("throttled" if never_left(error) else "ambiguous", message=_plain(error))


def read_failure(error: CallError) -> ReadFailed:
    """What a failed read means; the message carries no query and no data."""
    denied = isinstance(error, SalesforceAuthenticationFailed) or getattr(error, "status", None) == 401
    return ReadFailed("Salesforce", _plain(error), access=denied)


def failure_of_system(error: CallError) -> str | None:
    """Why a call says that Salesforce itself fails; None when it was an answer, be it a refusal or a limit."""
    if isinstance(error, SalesforceAuthenticationFailed):
        return None
    if isinstance(error, SalesforceError) and int(error.status) < 500 and _error_list(error):
        return None
    return _plain(error)


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
