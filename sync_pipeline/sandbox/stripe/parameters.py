"""Form-encoded requests: decoding of brackets, then checking and typing against the contract.

Both encodings of arrays are understood (``a[]=`` and ``a[0]=``). The result has real integers, booleans and lists;
decimals stay strings; ``None`` stands for a value that the caller unset by sending an empty string.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote_plus

from sync_pipeline.sandbox.stripe.contract import Node, Operation
from sync_pipeline.sandbox.stripe.errors import StripeError, required

_PART = re.compile(r"\[([^\[\]]*)\]")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_DECIMAL = re.compile(r"-?\d{1,15}(\.\d{1,12})?")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_BAD_INTEGER = "parameter_invalid_integer"
# Ten digits: milliseconds, which have thirteen, are somebody's mistake.
_LAST_SECOND = 9_999_999_999
_LEAST = {
    "amount_off": 1, "days_until_due": 0, "duration_in_months": 1, "max_redemptions": 1, "quantity": 0,
    "trial_period_days": 0,
}  # fmt: skip
Params = dict[str, Any]


def decode(text: str) -> Params:
    """``a[b][0]=x`` as nested dicts; an array is a dict with whole numbers as keys."""
    root: Params = {}
    for pair in text.split("&"):
        if not pair:
            continue
        raw_key, _, raw_value = pair.partition("=")
        key, value = unquote_plus(raw_key), unquote_plus(raw_value)
        name, bracket, rest = key.partition("[")
        parts = [name, *_PART.findall(bracket + rest)]
        node = root
        for part in parts[:-1]:
            part = str(len(node)) if part == "" else part
            inner = node.get(part)
            if not isinstance(inner, dict):
                inner = node[part] = {}
            node = inner
        node[str(len(node)) if parts[-1] == "" else parts[-1]] = value
    return root


def from_json(text: str) -> Params:
    """A body of v2 as the same parameters would be in a form. Raises StripeError for what is no JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StripeError("The body of the request is not a JSON object.", keep=False)
    return {name: _as_in_form(value) for name, value in found.items()}


def _as_in_form(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_in_form(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return {str(i): _as_in_form(inner) for i, inner in enumerate(value)}
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def check(operation: Operation, raw: Params) -> Params:
    """Typed parameters of a call, or the StripeError that Stripe answers for the first bad one."""
    return _object(raw, operation.props, operation.required, "")


def _object(raw: Params, props: Node, req: tuple[str, ...] | list[str], path: str) -> Params:
    unknown = [name for name in raw if name not in props]
    if unknown:
        params = [_join(path, name) for name in unknown]
        label = "Received unknown parameter" + ("s" if len(params) > 1 else "")
        raise StripeError(f"{label}: {', '.join(params)}", code="parameter_unknown", param=params[0], keep=False)
    for name in req:
        if name not in raw:
            raise required(_join(path, name))
        if raw[name] == "" and not props[name].get("unset"):
            raise _empty(_join(path, name))
    return {name: _value(value, props[name], _join(path, name)) for name, value in raw.items()}


def _value(raw: Any, node: Node, path: str) -> Any:
    if "any" in node:
        return _alternatives(raw, node, path)
    kind = node.get("t")
    if raw == "" and (node.get("unset") or kind in ("str", "map", "arr", None)):
        return None
    if kind == "obj":
        if not isinstance(raw, dict):
            raise _invalid("Invalid object", path)
        return _object(raw, node.get("props", {}), node.get("req", ()), path)
    if kind == "arr":
        return _array(raw, node, path)
    if kind == "map":
        if not isinstance(raw, dict):
            raise _invalid("Invalid object", path)
        return {k: _value(v, node.get("items") or {}, _join(path, k)) if v != "" else "" for k, v in raw.items()}
    if kind is None:
        return raw
    if isinstance(raw, dict):
        raise _invalid(f"Invalid {'string' if kind == 'str' else kind}: {raw}", path)
    return _scalar(raw, kind, node, path)


def _scalar(raw: str, kind: str, node: Node, path: str) -> Any:
    if raw == "":
        raise _empty(path)
    if kind == "int":
        if not _INTEGER.fullmatch(raw):
            raise _invalid(f"Invalid integer: {raw}", path, _BAD_INTEGER)
        return _whole(int(raw), node, path)
    if kind == "bool":
        if raw not in ("true", "false", "True", "False"):
            raise _invalid(f"Invalid boolean: {raw}", path)
        return raw in ("true", "True")
    if kind == "dec" and not _DECIMAL.fullmatch(raw):
        raise _invalid(f"Invalid decimal: {raw}; must be a decimal with at most 12 decimal places", path)
    if kind == "num":
        if not _NUMBER.fullmatch(raw):
            raise _invalid(f"Invalid number: {raw}", path)
        number = float(raw)
        return int(number) if number.is_integer() else number
    if "enum" in node and raw not in node["enum"]:
        values = [str(v) for v in node["enum"]]
        listed = values[0] if len(values) == 1 else ", ".join(values[:-1]) + ", or " + values[-1]
        raise _invalid(f"Invalid {path}: must be one of {listed}", path)
    if len(raw) > node.get("max", 5000):
        raise _invalid(f"Invalid string: {raw[:20]}...; must be at most {node.get('max', 5000)} characters", path)
    return raw


def _whole(number: int, node: Node, path: str) -> int:
    if node.get("moment") and not 0 < number <= _LAST_SECOND:
        raise _invalid(f"Invalid timestamp: {number}; must be a Unix timestamp in seconds", path, _BAD_INTEGER)
    least = _LEAST.get(path.rpartition("[")[2].rstrip("]"))
    if least is not None and number < least:
        raise _invalid(f"This value must be greater than or equal to {least}.", path, _BAD_INTEGER)
    return number


def _array(raw: Any, node: Node, path: str) -> list[Any]:
    if not isinstance(raw, dict) or not all(k.isdigit() for k in raw):
        raise _invalid("Invalid array", path)
    keys = sorted(raw, key=int)
    if path == "expand" and "" in raw.values():
        raise _empty(path)
    return [_value(raw[key], node.get("items") or {}, f"{path}[{key}]") for key in keys]


def _alternatives(raw: Any, node: Node, path: str) -> Any:
    if raw == "" and node.get("unset"):
        return None
    structured = isinstance(raw, dict)
    options = [n for n in node["any"] if (n.get("t") in ("obj", "arr", "map")) == structured]
    if not structured and _INTEGER.fullmatch(raw):
        options = [n for n in options if n.get("t") == "int"] or options
    failure: StripeError | None = None
    for option in options or node["any"]:
        try:
            return _value(raw, option, path)
        except StripeError as error:
            failure = failure if failure and not any("enum" in o for o in options) else error
    assert failure is not None
    raise failure


def _join(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _invalid(message: str, path: str, code: str | None = None) -> StripeError:
    return StripeError(message, code=code, param=path, keep=False)


def _empty(path: str) -> StripeError:
    return StripeError(
        f"You passed an empty string for '{path}'. We assume empty values are an attempt to unset a parameter; "
        f"however '{path}' cannot be unset. You should remove '{path}' from your request or supply a non-empty value.",
        code="parameter_invalid_empty", param=path, keep=False,
    )  # fmt: skip
