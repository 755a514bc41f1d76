"""Build the sandbox's trimmed Stripe contract from Stripe's OpenAPI document.

    python scripts/build_stripe_contract.py SPEC.json[.gz] FIXTURES.json

Writes ``sync_pipeline/sandbox/stripe/contract.json.gz``: what the simulated Stripe needs at run time and
nothing else. Run it when Stripe's version changes; the output is deterministic.

An operation that answers with a list says of which schemas (`lists`), unless Stripe fills it by itself.
Parameter node: ``{t: str|int|num|bool|dec|obj|arr|map, enum, max, moment, props, req, items, any, unset}``.
Shape (one per response schema): ``{null: [names to fill with null], props: {name: node}, object: name}``
where a node is ``{ref}``, ``{expand: [schemas]}``, ``{list: node}`` or ``{map: node}``; scalars are left out.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parents[1] / "sync_pipeline" / "sandbox" / "stripe" / "contract.json.gz"
VERSION = "2026-10-28.endive"
SERVED = (
    "account accounts balance balance_transactions charges checkout coupons credit_notes customers disputes events"
    " invoice_payments invoiceitems invoices payment_intents payment_methods payment_records payouts plans prices"
    " products promotion_codes refunds setup_intents subscription_items subscription_schedules subscriptions"
    " tax_ids tax_rates transfers webhook_endpoints"
).split()
SERVED_TREES = (
    "/v1/test_helpers/test_clocks", "/v1/test_helpers/refunds", "/v2/core/events", "/v2/core/event_destinations",
)  # fmt: skip
# What Stripe itself gives every account: its list is never empty.
GIVEN = {
    "/v1/accounts/{account}/capabilities", "/v1/billing/feedback_options", "/v1/climate/products",
    "/v1/climate/suppliers", "/v1/country_specs", "/v1/exchange_rates", "/v1/issuing/physical_bundles",
    "/v1/payment_method_configurations", "/v1/reporting/report_types", "/v1/tax_codes",
}  # fmt: skip
# Deep trees of parameters that only concern how a card or bank is charged: named, never looked into.
OPAQUE = {
    "payment_method_options", "payment_method_data", "payment_details", "amount_details", "hooks",
    "evidence", "shipping_cost", "mandate_data", "radar_options",
}  # fmt: skip
# Newer than the fixtures, and always present (nullable) in the pinned version.
ALSO_NULL = {
    "invoice": {"status_details"},
    "subscription_item": {"billed_until", "current_trial"},
    "subscription": {"managed_payments"},
    "refund": {"customer", "customer_account", "payment_method"},
}
# Nullable in the document, yet only there when asked for or when they apply.
NEVER_NULL = {"deleted", "secret", "cash_balance", "refunds", "confirmation_secret"}
# Where the document still has an older form than the pinned version's SDK: the SDK is right.
ANCHOR = {"t": "obj", "props": {"type": {"t": "str", "enum": ["now", "unchanged"]}}, "req": ["type"]}
PREVIEW_ANCHOR = {
    "t": "obj", "req": ["type"],
    "props": {"type": {"t": "str", "enum": ["now", "unchanged", "timestamp"]}, "timestamp": {"t": "int"}},
}  # fmt: skip
CORRECTED = {
    "PostSubscriptionsSubscriptionExposedId": ("billing_cycle_anchor", ANCHOR),
    "PostSubscriptionsSubscriptionResume": ("billing_cycle_anchor", ANCHOR),
    "PostInvoicesCreatePreview": ("subscription_details.billing_cycle_anchor", PREVIEW_ANCHOR),
}
PRIMITIVES = {"integer": "int", "number": "num", "boolean": "bool"}


class Builder:
    def __init__(self, spec: dict[str, Any], fixtures: dict[str, Any]) -> None:
        self.spec = spec
        self.schemas = spec["components"]["schemas"]
        self.fixtures = fixtures["resources"]
        self.shapes: dict[str, Any] = {}
        self.objects = {
            name: schema["properties"]["object"]["enum"][0]
            for name, schema in self.schemas.items()
            if (schema.get("properties", {}).get("object", {}).get("enum") and schema.get("x-resourceId"))
        }

    def build(self) -> dict[str, Any]:
        operations: list[dict[str, Any]] = []
        routes: dict[str, dict[str, int]] = {}
        for path, methods in sorted(self.spec["paths"].items()):
            served = path.startswith(SERVED_TREES) or (path.split("/")[2] in SERVED and path.startswith("/v1/"))
            route = routes.setdefault(path, {})
            for method, operation in sorted(methods.items()):
                if method not in ("get", "post", "delete"):
                    continue
                lists = self.listed(path, operation) if method == "get" and path not in GIVEN else None
                route[method.upper()] = len(operations) if served or lists else -1
                if served:
                    operations.append({**self.operation(operation), **({"lists": lists} if lists else {})})
                elif lists:
                    operations.append({**self.parameters(operation), "response": {}, "lists": lists})
        for name in ("tax_rate", "discount", "plan", "mandate", "payment_record"):
            self.shape(name)
        return {"version": VERSION, "event_types": self.event_types(), "routes": routes,
                "operations": operations, "shapes": self.shapes}  # fmt: skip

    def listed(self, path: str, operation: dict[str, Any]) -> list[str] | None:
        """The schemas of what an operation lists, None if it answers with something else, or with another's list."""
        content = operation["responses"]["200"]["content"].get("application/json", {}).get("schema", {})
        answer = self.deref(content).get("properties", {})
        if not answer.keys() >= {"data", "has_more", "url"}:
            return None
        if not re.match(answer["url"].get("pattern", ""), path):
            return None
        each = answer["data"]["items"]
        return [option["$ref"].rsplit("/", 1)[1] for option in each.get("anyOf", [each])]

    # parameters

    def operation(self, operation: dict[str, Any]) -> dict[str, Any]:
        content = operation["responses"]["200"]["content"].get("application/json", {}).get("schema", {})
        return {**self.parameters(operation), "response": self.node(content) or {}}

    def parameters(self, operation: dict[str, Any]) -> dict[str, Any]:
        props: dict[str, Any] = {}
        required: set[str] = set()
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query":
                props[parameter["name"]] = self.parameter(parameter["schema"], parameter["name"])
                if parameter.get("required"):
                    required.add(parameter["name"])
        sources = [operation.get("x-query")]
        sources += [c.get("schema") for c in operation.get("requestBody", {}).get("content", {}).values()]
        for source in filter(None, sources):
            schema = self.deref(source)
            for name, inner in schema.get("properties", {}).items():
                if not inner.get("x-removed"):
                    props.setdefault(name, self.parameter(inner, name))
            required |= set(schema.get("required", []))
        if operation.get("operationId") in CORRECTED:
            path, node = CORRECTED[operation["operationId"]]
            *parents, name = path.split(".")
            target = props
            for parent in parents:
                target = target[parent]["props"]
            target[name] = node
        return {"props": props, "req": sorted(required)}

    def parameter(self, schema: dict[str, Any], name: str) -> dict[str, Any]:
        schema = self.deref(schema)
        alternatives = schema.get("anyOf") or schema.get("oneOf")
        if alternatives:
            nodes = [self.parameter(a, name) for a in alternatives]
            unset = any(n.get("enum") == [""] or n.get("unset") for n in nodes)
            nodes = [n for n in nodes if n.get("enum") != [""]]
            chosen: dict[str, Any] = dict(nodes[0]) if len(nodes) == 1 else {"any": nodes}
            return {**chosen, "unset": True} if unset else chosen
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if name in OPAQUE:
            return {"t": "map"}
        if kind == "object":
            if not schema.get("properties"):
                inner = schema.get("additionalProperties")
                return {"t": "map", "items": self.parameter(inner, "") if isinstance(inner, dict) and inner else {}}
            props = {n: self.parameter(s, n) for n, s in schema["properties"].items() if not s.get("x-removed")}
            return drop_empty({"t": "obj", "props": props, "req": schema.get("required")})
        if kind == "array":
            return {"t": "arr", "items": self.parameter(schema.get("items", {}), name)}
        node: dict[str, Any] = {"t": PRIMITIVES.get(kind, "dec" if schema.get("format") == "decimal" else "str")}
        if schema.get("format") == "unix-time":
            node["moment"] = True
        values = [v for v in schema.get("enum", []) if v is not None]
        if values and name != "enabled_events":
            if "" in values:
                node["unset"] = True
            node["enum"] = values if values == [""] else [v for v in values if v != ""]
        if schema.get("maxLength", 5000) != 5000:
            node["max"] = schema["maxLength"]
        return node

    # response shapes

    def node(self, schema: dict[str, Any]) -> dict[str, Any] | None:
        if "$ref" in schema:
            return {"ref": self.shape(schema["$ref"].rsplit("/", 1)[1])}
        if "x-expansionResources" in schema or schema.get("$expandable"):
            options = schema.get("x-expansionResources", schema)
            options = options.get("oneOf") or options["anyOf"]
            return {"expand": [o["$ref"].rsplit("/", 1)[1] for o in options if "$ref" in o]}
        alternatives = schema.get("anyOf") or schema.get("oneOf")
        if alternatives:
            nodes = [n for n in map(self.node, alternatives) if n]
            return None if not nodes else nodes[0] if len(nodes) == 1 else {"any": nodes}
        if schema.get("type") == "array":
            inner = self.node(schema.get("items") or {})
            return {"list": inner} if inner else None
        if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
            inner = self.node(schema["additionalProperties"])
            return {"map": inner} if inner else None
        if "properties" in schema:
            return {"inline": self.fields("", schema)}
        return None

    def shape(self, name: str) -> str:
        if name not in self.shapes:
            self.shapes[name] = {}
            self.shapes[name] = self.fields(name, self.schemas[name])
        return name

    def fields(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        sample = self.fixtures.get(name, {})
        nulls, props = [], {}
        for field, inner in schema.get("properties", {}).items():
            if inner.get("x-removed"):
                continue
            nullable = inner.get("nullable") or any(a.get("nullable") for a in inner.get("anyOf", []))
            known = not inner.get("x-added") or field in sample or field in ALSO_NULL.get(name, ())
            if nullable and known and field not in NEVER_NULL:
                nulls.append(field)
            node = self.node(inner)
            if node:
                props[field] = node
        return drop_empty({"null": nulls, "props": props, "object": self.objects.get(name)})

    def deref(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self.schemas[schema["$ref"].rsplit("/", 1)[1]]
        return schema

    def event_types(self) -> list[str]:
        body = self.spec["paths"]["/v1/webhook_endpoints"]["post"]["requestBody"]["content"]
        schema = self.deref(next(iter(body.values()))["schema"])
        return sorted(set(self.deref(schema["properties"]["enabled_events"]["items"])["enum"]) - {"*"})


def drop_empty(node: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in node.items() if v not in (None, [], {})}


def main(spec_path: str, fixtures_path: str) -> None:
    raw = Path(spec_path).read_bytes()
    spec = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    contract = Builder(spec, json.loads(Path(fixtures_path).read_bytes())).build()
    text = json.dumps(contract, separators=(",", ":"), sort_keys=True)
    OUTPUT.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{OUTPUT}: {len(contract['operations'])} operations, {len(contract['shapes'])} shapes, {len(text)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: build_stripe_contract.py SPEC.json[.gz] FIXTURES.json")
    main(*sys.argv[1:])
