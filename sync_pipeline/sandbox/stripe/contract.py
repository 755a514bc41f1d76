"""Stripe's contract as data: which operations exist, what they accept, and what shape they answer in.

Only reading of `contract.json.gz` belongs here. Validation of parameters is `parameters`, following of
references is `expand`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import unquote_plus

Node = dict[str, Any]
Fill = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path of the contract. `lists`: the schemas of what it lists, if it answers with a list."""

    key: str
    props: Node
    required: tuple[str, ...]
    response: Node
    lists: tuple[str, ...]


class Contract:
    def __init__(self, document: Node) -> None:
        self.version: str = document["version"]
        self.event_types = frozenset(document["event_types"])
        self._shapes: dict[str, Node] = document["shapes"]
        self._by_object: dict[str, str] = {}
        for name, shape in self._shapes.items():
            if "object" in shape and not name.startswith("deleted_"):
                self._by_object.setdefault(shape["object"], name)
        self._by_object["tax_id"] = "tax_id"
        self._fills: dict[str, Fill] = {}
        self.templates: dict[str, dict[str, int]] = document["routes"]
        self._routes: Node = {}
        for path, methods in document["routes"].items():
            node = self._routes
            for segment in path.strip("/").split("/"):
                node = node.setdefault("{}" if segment.startswith("{") else segment, {})
            node["$"] = (path, {m: self._operation(m, path, i, document["operations"]) for m, i in methods.items()})

    @staticmethod
    def _operation(method: str, path: str, index: int, operations: list[Node]) -> Operation:
        data = operations[index] if index >= 0 else {"props": {}, "req": [], "response": {}}
        lists = tuple(data.get("lists", ()))
        return Operation(f"{method} {path}", data["props"], tuple(data["req"]), data["response"], lists)

    def route(self, method: str, path: str) -> tuple[Operation | None, list[str], list[str]]:
        """The operation, its path arguments, and the names that the contract gives those arguments."""
        segments = [unquote_plus(s) for s in path.removeprefix("/").split("/")]
        hit = self._walk(self._routes, segments, method, 0)
        if hit is None:
            return None, [], []
        template, operation = hit
        parts = template.strip("/").split("/")
        taken = [(s, p.strip("{}")) for s, p in zip(segments, parts, strict=True) if p.startswith("{")]
        return operation, [s for s, _ in taken], [p for _, p in taken]

    def _walk(self, node: Node, segments: list[str], method: str, at: int) -> tuple[str, Operation] | None:
        if at == len(segments):
            path, methods = node.get("$", ("", {}))
            return (path, methods[method]) if method in methods else None
        for name in (segments[at], "{}"):
            if name in node and segments[at] and name != "$":
                hit = self._walk(node[name], segments, method, at + 1)
                if hit:
                    return hit
        return None

    def shape(self, name: str) -> Node:
        return self._shapes[name]

    def fill(self, name: str) -> Fill:
        """A function that adds every absent nullable field as null, at all depths."""
        if name not in self._fills:
            self._fills[name] = lambda value: self._fills[name](value)  # a schema may contain itself
            self._fills[name] = self._compile(self._shapes[name])
        return self._fills[name]

    def _compile(self, shape: Node) -> Fill:
        first = ("id", "object") if "object" in shape else ()
        template = dict.fromkeys((*first, *shape.get("null", ())))
        inner: dict[str, Fill] = {}
        for field, node in shape.get("props", {}).items():
            compiled = self._compile_node(node)
            if compiled:
                inner[field] = compiled

        def fill(value: Any) -> Any:
            if type(value) is not dict:
                return value
            filled = {**template, **value}
            for field, into in inner.items():
                nested = filled.get(field)
                if nested is not None:
                    filled[field] = into(nested)
            return filled

        return fill

    def _compile_node(self, node: Node) -> Fill | None:
        if "ref" in node:
            shape = self._shapes[node["ref"]]
            # A resource inside another (price in item, item in subscription) is filled when it is rendered.
            return None if "object" in shape or not shape else lambda value: self.fill(node["ref"])(value)
        if "inline" in node:
            return self._compile(node["inline"])
        if "list" in node:
            each = self._compile_node(node["list"])
            return _for_each(each) if each else None
        if "map" in node:
            each = self._compile_node(node["map"])
            return _for_each_value(each) if each else None
        return None


def _for_each(fill: Fill) -> Fill:
    return lambda value: [fill(v) for v in value]


def _for_each_value(fill: Fill) -> Fill:
    return lambda value: {k: fill(v) for k, v in value.items()}


@cache
def load_contract() -> Contract:
    data = resources.files(__package__).joinpath("contract.json.gz").read_bytes()
    return Contract(json.loads(gzip.decompress(data)))
