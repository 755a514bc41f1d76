"""The registry of what the sandbox imitates: one function per operation, with the parameters it gives meaning to.

A parameter that the contract knows and the function does not is refused by name, never silently ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe import errors
from sync_pipeline.sandbox.stripe.parameters import Params
from sync_pipeline.sandbox.stripe.resources import RESOURCES
from sync_pipeline.sandbox.stripe.world import World

# (world, parameters, path arguments) -> a row, or a ready answer (list, search result, stub)
Handler = Callable[[World, Params, list[str]], Row]
# (world, parameters, the object that the path names) -> the same
Action = Callable[[World, Params, Row], Row]


@dataclass(frozen=True, slots=True)
class Implementation:
    handler: Handler
    accepts: frozenset[str]


IMPLEMENTED: dict[str, Implementation] = {}
# What Stripe calls the id in the error for an unknown one, where it is not the contract's name for it.
_PARAM = {"customer": "id", "subscription_exposed_id": "id", "setup_intent": "intent", "webhook_endpoint": "id"}


def operation(key: str, accepts: str = "") -> Callable[[Handler], Handler]:
    """`key` is "METHOD /path/{as}/in/the/contract"; `accepts` names parameters, nested ones as a.b."""

    def register(handler: Handler) -> Handler:
        IMPLEMENTED[key] = Implementation(handler, frozenset(accepts.split()) | {"expand"})
        return handler

    return register


def action(key: str, accepts: str = "") -> Callable[[Action], Action]:
    """An operation on the object that the path names, which it is handed; without that object it is 404."""
    collection, _, rest = key.partition(" ")[2].partition("/{")
    kind = next(kind for kind, resource in RESOURCES.items() if resource.path == collection)
    name, _, below = rest.partition("}")
    param = name if below else param_of(name)

    def register(act: Action) -> Action:
        operation(key, accepts)(lambda world, params, args: act(world, params, world.need(kind, args[0], param, 404)))
        return act

    return register


def param_of(name: str) -> str:
    """What an id in a path is called in errors, by the contract's name for it."""
    return _PARAM.get(name, name)


def refuse_unmodelled(params: Params, accepts: frozenset[str], path: str = "", name: str = "") -> None:
    """`accepts` may name `a` (all of a) or `a.b` (only b of a; elements of arrays count as their array)."""
    for key, value in params.items():
        shown = f"{name}[{key}]" if name else key
        dotted = f"{path}.{key}" if path else key
        if dotted in accepts:
            continue
        inner = any(a.startswith(dotted + ".") for a in accepts)
        if not inner:
            raise errors.unsupported(f"the parameter {shown}", shown)
        for i, element in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(element, dict):
                refuse_unmodelled(element, accepts, dotted, f"{shown}[{i}]" if isinstance(value, list) else shown)


def pick(params: Params, names: str) -> Params:
    """The given parameters, as they are."""
    return {n: params[n] for n in names.split() if n in params}


def merge_metadata(row: Row | None, params: Params) -> dict[str, str]:
    """Stripe's rule: keys are merged, an empty value deletes one, an empty hash deletes all; 50 keys of 40/500."""
    current: dict[str, str] = dict((row or {}).get("metadata") or {})
    if "metadata" not in params:
        return current
    if params["metadata"] is None:
        return {}
    for key, value in params["metadata"].items():
        if len(key) > 40 or "[" in key or "]" in key:
            raise errors.StripeError(
                f"Metadata keys can be up to 40 characters long and have no square brackets: {key[:60]}",
                param=f"metadata[{key}]", keep=False,
            )  # fmt: skip
        if value and len(value) > 500:
            raise errors.StripeError(
                f"Metadata values can have up to 500 characters, but you passed in a value that is {len(value)} "
                f"characters. Invalid value: {value[:20]}...", param=f"metadata[{key}]", keep=False,
            )  # fmt: skip
        if value in ("", None):
            current.pop(key, None)
        else:
            current[key] = value
    if len(current) > 50:
        raise errors.StripeError("You can have up to 50 keys in metadata.", param="metadata", keep=False)
    return current
