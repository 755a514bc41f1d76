"""composite and composite/batch: several requests in one call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from sync_pipeline.sandbox.salesforce.errors import SalesforceError, bad_json
from sync_pipeline.sandbox.salesforce.rest.request import Answer, Request, method_not_allowed

_MAX_SUBREQUESTS = 25
_MAX_HEAVY = 5
_COLLATING_VERSION = 49
_REFERENCE = re.compile(r"@\{([^}]*)\}")
_FORBIDDEN_HEADERS = {"accept", "authorization", "content-type"}
_MISSING = object()


class _RollBack(Exception):
    """The subrequest `at` this place failed and nothing of the composite may stay."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


def composite(request: Request) -> Answer:
    """POST composite: subrequests may use the results of earlier ones as @{referenceId.field}."""
    if request.method != "POST":
        raise method_not_allowed(request, "POST")
    parts = _parts(request, "compositeRequest")
    _check(parts)
    all_or_none = bool(request.json_object.get("allOrNone", False))
    collates = request.json_object.get("collateSubrequests", float(request.version) >= _COLLATING_VERSION)
    answers: dict[int, Answer] = {}
    results: dict[str, Any] = {}
    inner = replace(request, all_or_none=all_or_none)
    try:
        with request.org.store.transaction():
            for i in _collated(parts) if collates else range(len(parts)):
                earlier = {p["referenceId"]: results.get(p["referenceId"], _MISSING) for p in parts[:i]}
                answers[i] = answer = _run(inner, parts[i], earlier)
                results[parts[i]["referenceId"]] = answer.body if answer.status < 300 else _MISSING
                if all_or_none and _failed(answer):
                    raise _RollBack(i)
    except _RollBack as failed:
        halted = _halted("The transaction was rolled back since another operation in the same transaction failed.")
        answers = dict.fromkeys(range(len(parts)), halted) | {failed.at: answers[failed.at]}
    return Answer(
        200,
        {
            "compositeResponse": [
                {"body": a.body, "httpHeaders": a.headers, "httpStatusCode": a.status, "referenceId": p["referenceId"]}
                for a, p in ((answers[i], part) for i, part in enumerate(parts))
            ]
        },
    )


def _collated(parts: list[dict[str, Any]]) -> Iterator[int]:
    """An order in which Salesforce may run subrequests that it is free to gather: those of one method and one object
    together, each after those that it refers to."""
    kinds = [(p["method"].upper(), _gathered(urlsplit(p["url"]).path)) for p in parts]
    known = [{p["referenceId"] for p in parts[:i]} for i in range(len(parts))]
    needs = [{r.split(".")[0] for r in _REFERENCE.findall(json.dumps(p))} & known[i] for i, p in enumerate(parts)]
    waiting, done = list(range(len(parts))), set[str]()
    while waiting:
        first = next(i for i in waiting if needs[i] <= done)
        group = [i for i in waiting if kinds[i] == kinds[first] and needs[i] <= done]
        yield from group
        done |= {parts[i]["referenceId"] for i in group}
        waiting = [i for i in waiting if i not in group]


def _gathered(path: str) -> str:
    """What of a path subrequests must have in common: the resource, and the object where it has one."""
    return "/".join(path.lower().split("/")[4:6])


def batch(request: Request) -> Answer:
    """POST composite/batch: independent subrequests; each counts against the daily limit."""
    if request.method != "POST":
        raise method_not_allowed(request, "POST")
    parts = _parts(request, "batchRequests")
    halt = bool(request.json_object.get("haltOnError", False))
    results: list[dict[str, Any]] = []
    for part in parts:
        if halt and any(r["statusCode"] >= 400 for r in results):
            error = SalesforceError("BATCH_PROCESSING_HALTED", "Batch processing has halted per request", status=412)
            results.append({"statusCode": 412, "result": error.as_response()})
            continue
        answer = _run_alone(request, part)
        results.append({"statusCode": answer.status, "result": answer.body})
    return Answer(200, {"hasErrors": any(r["statusCode"] >= 400 for r in results), "results": results})


def _run(request: Request, part: dict[str, Any], results: dict[str, Any]) -> Answer:
    try:
        url = _filled(part["url"], results)
        body = _filled(part.get("body"), results)
    except KeyError as missing:
        return _halted(f"Invalid reference specified. No value for {missing.args[0]} found")
    headers = {str(k).lower(): str(v) for k, v in (part.get("httpHeaders") or {}).items()}
    return request.sub(part["method"], url, headers, body)


def _run_alone(request: Request, part: dict[str, Any]) -> Answer:
    """One subrequest of a batch: its refusal is its own, and what came before it stays."""
    url = str(part.get("url", ""))
    path = url if url.startswith("/services/") else f"/services/data/{url.lstrip('/')}"
    try:
        request.org.limits.use_one()
        return request.sub(str(part.get("method", "GET")), path, {}, part.get("richInput"))
    except SalesforceError as error:
        return Answer(error.status, error.as_response())


def _failed(answer: Answer) -> bool:
    """A collection answers 200 even when its rows failed."""
    rows = answer.body if isinstance(answer.body, list) else []
    return answer.status >= 300 or any(isinstance(r, dict) and r.get("success") is False for r in rows)


def _halted(message: str) -> Answer:
    return Answer(400, SalesforceError("PROCESSING_HALTED", message).as_response())


def _parts(request: Request, key: str) -> list[dict[str, Any]]:
    parts = request.json_object.get(key)
    if not isinstance(parts, list) or not parts or not all(isinstance(p, dict) for p in parts):
        raise bad_json(f"The HTTP entity body needs {key}, a list of subrequests.")
    if len(parts) > _MAX_SUBREQUESTS:
        raise SalesforceError("LIMIT_EXCEEDED", f"at most {_MAX_SUBREQUESTS} subrequests are allowed, not {len(parts)}")
    return parts


def _check(parts: list[dict[str, Any]]) -> None:
    seen = set()
    for part in parts:
        reference = part.get("referenceId")
        if not isinstance(reference, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", reference):
            message = (
                f"Provided referenceId ('{reference}') must start with a letter or a number, and it can contain "
                "only letters, numbers and underscores ('_')."
            )
            raise SalesforceError("INVALID_INPUT", message)
        if reference in seen:
            raise SalesforceError("INVALID_INPUT", f"duplicate referenceId provided: {reference}")
        seen.add(reference)
        if not isinstance(part.get("url"), str) or not isinstance(part.get("method"), str):
            raise SalesforceError("INVALID_INPUT", f"subrequest {reference} needs method and url")
        if _FORBIDDEN_HEADERS & {str(h).lower() for h in part.get("httpHeaders") or {}}:
            raise SalesforceError("INVALID_INPUT", f"subrequest {reference} must not set this header")
    heavy = [p for p in parts if _is_heavy(urlsplit(p["url"]).path)]
    if len(heavy) > _MAX_HEAVY:
        raise SalesforceError("LIMIT_EXCEEDED", f"at most {_MAX_HEAVY} subrequests can be queries or collections")


def _is_heavy(path: str) -> bool:
    rest = re.sub(r"^/services/data/v\d+\.\d+/", "", path).lower()
    return rest.split("/")[0] in ("query", "queryall") or rest.startswith("composite/sobjects")


def _filled(value: Any, results: dict[str, Any]) -> Any:
    """`value` with its references replaced. Raises KeyError with the reference that has no value."""
    if isinstance(value, dict):
        return {k: _filled(v, results) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, results) for v in value]
    if not isinstance(value, str):
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole:
        return _lookup(whole[1], results)
    return _REFERENCE.sub(lambda m: str(_lookup(m[1], results)), value)


def _lookup(reference: str, results: dict[str, Any]) -> Any:
    """`ref.records[0].Id` in the bodies of earlier answers; names are case-sensitive."""
    found: Any = results
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", reference):
        try:
            found = found[int(index)] if index else found[name]
        except (KeyError, IndexError, TypeError):
            raise KeyError(reference) from None
    return found
