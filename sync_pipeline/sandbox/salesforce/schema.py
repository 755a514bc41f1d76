"""The org's schema: standard objects from `schema/*.yaml`, custom ones from the Salesforce package.

Describe, queries, validation and writes all read these definitions, so they cannot disagree.
What a certain user may see of them is in `access`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_DIRECTORY = Path(__file__).with_name("schema")
RECORD_TYPE = "RecordTypeId"
TEXT_TYPES = frozenset({"string", "textarea", "picklist", "multipicklist", "email", "phone", "url", "id", "reference"})
NUMBER_TYPES = frozenset({"int", "double", "currency", "percent"})


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `access` is what the platform allows anybody: read, create (only on insert) or write."""

    name: str
    type: str
    label: str = ""
    length: int = 0
    precision: int = 0
    scale: int = 0
    digits: int = 0
    access: str = "write"
    required: bool = False
    nillable: bool = True
    default: Any = None
    to: tuple[str, ...] = ()
    relationship: str | None = None
    children: str | None = None
    delete_with_parent: bool = False
    values: tuple[str, ...] = ()
    values_from: str | None = None
    restricted: bool = False
    unique: bool = False
    external_id: bool = False
    case_sensitive: bool = False
    id_lookup: bool = False
    name_field: bool = False
    owner: bool = False
    custom: bool = False
    permissionable: bool = True
    auto_number: str | None = None
    compound: str | None = None
    help: str | None = None

    @property
    def createable(self) -> bool:
        return self.access != "read"

    @property
    def updateable(self) -> bool:
        return self.access == "write"

    @property
    def must_not_be_cleared(self) -> bool:
        """It has a default, so it may be left out, but it may not be set to null."""
        return not self.nillable and self.createable and self.default is not None

    @property
    def filterable(self) -> bool:
        return not (self.type == "address" or (self.type == "textarea" and self.length > 255))

    @property
    def groupable(self) -> bool:
        return self.filterable and self.type not in ("double", "currency", "percent", "datetime", "multipicklist")

    @property
    def indexed(self) -> bool:
        """Whether records are looked up by it: keys, and references other than to the users who wrote them."""
        return self.unique or self.external_id or self.id_lookup or (self.type == "reference" and self.to != ("User",))

    def index_key(self, value: Any) -> Any:
        """What two equal values of this field have in common: text without case, unless the field minds case."""
        return value.lower() if isinstance(value, str) and not self.case_sensitive else value


@dataclass(frozen=True)
class SObject:
    """One object. `fields` are in describe's order; `by_name` finds one whatever the case of its letters.

    Where there are `record_types` (DeveloperNames), it has the field RecordTypeId.
    """

    name: str
    prefix: str
    label: str
    plural: str
    fields: dict[str, Field]
    custom: bool = False
    create: bool = True
    update: bool = True
    delete: bool = True
    undelete: bool = True
    hard_delete: bool = False
    merge: bool = False
    person: bool = False
    access_from: str | None = None
    record_types: tuple[str, ...] = ()
    by_name: dict[str, Field] = field(init=False)
    by_relationship: dict[str, Field] = field(init=False)
    indexed: tuple[Field, ...] = field(init=False)
    needed: tuple[Field, ...] = field(init=False)
    references: tuple[Field, ...] = field(init=False)
    name_field: Field | None = field(init=False)

    def __post_init__(self) -> None:
        every = self.fields.values()
        derived = {
            "by_name": {f.name.lower(): f for f in every},
            "by_relationship": {f.relationship.lower(): f for f in every if f.relationship},
            "indexed": tuple(f for f in every if f.indexed),
            "needed": tuple(f for f in every if f.required or f.must_not_be_cleared),
            "references": tuple(f for f in every if f.type == "reference"),
            "name_field": next((f for f in every if f.name_field), None),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Child:
    """A relationship seen from the parent: `object`'s reference `field` points here."""

    object: SObject
    field: Field


class Schema:
    """Every object of the org, by name, by key prefix, and by the relationships between them."""

    def __init__(self, objects: list[SObject]) -> None:
        self.objects = {o.name: o for o in sorted(objects, key=lambda o: o.name)}
        self._by_name = {o.name.lower(): o for o in objects}
        self._by_prefix = {o.prefix: o for o in objects}
        self._children: dict[str, list[Child]] = {o.name: [] for o in objects}
        for child in self.objects.values():
            for reference in child.fields.values():
                for parent in reference.to:
                    if parent in self._children:
                        self._children[parent].append(Child(child, reference))

    def get(self, name: str) -> SObject | None:
        """The object of that name, in any case of letters."""
        return self._by_name.get(name.lower())

    def of_id(self, record_id: str) -> SObject | None:
        return self._by_prefix.get(record_id[:3])

    def children(self, parent: str) -> list[Child]:
        return self._children[parent]

    def child(self, parent: str, relationship: str) -> Child | None:
        wanted = relationship.lower()
        named = (c for c in self._children[parent] if c.field.children)
        return next((c for c in named if (c.field.children or "").lower() == wanted), None)


def standard_objects(multi_currency: bool) -> dict[str, dict[str, Any]]:
    """The standard objects as raw definitions by name, system fields included, ready for custom fields."""
    system = _read(_DIRECTORY / "_system.yaml")
    objects = {}
    for path in sorted(_DIRECTORY.glob("[A-Z]*.yaml")):
        raw = _read(path)
        if raw.pop("multi_currency_only", False) and not multi_currency:
            continue
        raw["fields"] = _with_system_fields(raw, system, multi_currency)
        objects[path.stem] = raw
    return objects


def custom_object(raw: dict[str, Any], multi_currency: bool) -> dict[str, Any]:
    """A custom object's raw definition with the fields that the platform adds to it."""
    raw = raw | {"currency": True}
    return raw | {"fields": _with_system_fields(raw, _read(_DIRECTORY / "_system.yaml"), multi_currency)}


def with_record_types(raw: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """An object's raw definition with record types, and so with the field that says which a record has."""
    named = {"type": "reference", "to": ["RecordType"], "relationship": "RecordType", "permissionable": False}
    return raw | {"record_types": names, "fields": raw["fields"] | {RECORD_TYPE: named | {"label": "Record Type ID"}}}


def build(objects: dict[str, dict[str, Any]]) -> Schema:
    """The schema from raw definitions by object name."""
    custom = tuple(name for name, raw in objects.items() if raw.get("custom"))
    built = []
    for name, raw in objects.items():
        fields = {f: _field(f, spec, custom) for f, spec in raw["fields"].items()}
        flags = {k: raw[k] for k in _FLAGS if k in raw}
        label = raw.get("label", _words(name))
        built.append(SObject(name, raw["prefix"], label, raw.get("plural", label), fields, **flags))
    return Schema(built)


_FLAGS = tuple("custom create update delete undelete hard_delete merge person access_from record_types".split())


def _with_system_fields(raw: dict[str, Any], system: dict[str, Any], multi_currency: bool) -> dict[str, Any]:
    without = raw.get("without", [])
    fields: dict[str, Any] = {n: s | {"permissionable": False} for n, s in system.items() if n not in without}
    own = dict(raw["fields"])
    for prefix in raw.get("addresses", []):
        own |= _address(prefix)
    if multi_currency and raw.get("currency"):
        own["CurrencyIsoCode"] = {
            "type": "picklist",
            "values": [],
            "nillable": False,
            "restricted": True,
            "permissionable": False,
            "label": "Currency ISO Code",
        }
    return {"Id": fields.pop("Id")} | own | fields


def _address(prefix: str) -> dict[str, dict[str, Any]]:
    """A compound address and its components; permission for the compound field covers them all."""
    parts: dict[str, dict[str, Any]] = {
        "Street": {"type": "textarea", "length": 255},
        "City": {"type": "string", "length": 40},
        "State": {"type": "string", "length": 80},
        "PostalCode": {"type": "string", "length": 20},
        "Country": {"type": "string", "length": 80},
        "Latitude": {"type": "double", "precision": 18, "scale": 15},
        "Longitude": {"type": "double", "precision": 18, "scale": 15},
        "GeocodeAccuracy": {"type": "picklist", "values": ["Address", "NearAddress", "Block", "Street", "Zip", "City"]},
    }
    compound = f"{prefix}Address"
    fields = {f"{prefix}{name}": spec | {"compound": compound} for name, spec in parts.items()}
    return fields | {compound: {"type": "address", "access": "read", "permissionable": True}}


def _field(name: str, spec: dict[str, Any], custom_objects: tuple[str, ...]) -> Field:
    spec = dict(spec)
    targets = tuple(spec.pop("to", ()))
    if spec.pop("custom_targets", False):
        targets += custom_objects
    kind = spec["type"]
    spec.setdefault("label", _words(name))
    if kind in ("id", "reference"):
        spec["length"] = 18
    elif kind == "picklist":
        spec.setdefault("length", 255)
    elif kind == "boolean":
        spec["nillable"] = False
        spec.setdefault("default", False)
    if spec.get("required") or kind == "id" or spec.get("owner"):
        spec["nillable"] = False
    if not spec.get("custom"):
        # What nobody can write, or everybody must, is not subject to field-level security.
        must = not spec.get("nillable", True) and kind != "boolean"
        spec.setdefault("permissionable", not must and spec.get("access") != "read")
    return Field(name=name, to=targets, values=tuple(spec.pop("values", ())), **spec)


def _words(name: str) -> str:
    """A label from an API name: CloseDate becomes Close Date, AccountId Account ID."""
    spaced = "".join(f" {c}" if c.isupper() and i and not name[i - 1].isupper() else c for i, c in enumerate(name))
    return spaced[:-2] + "ID" if spaced.endswith(" Id") else spaced


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
