"""Reads a Salesforce package (SFDX source): custom objects, custom fields, permission sets.

The sandbox's custom schema and field-level security are these files and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

DEFAULT_PACKAGE = Path(__file__).resolve().parents[3] / "salesforce_package"


@dataclass(frozen=True)
class PermissionSet:
    """Grants: field by `Object.Field`, object by name to the verbs read, create, edit, delete; user permissions.

    `labels` are those of the sets that give them, by name.
    """

    readable: frozenset[str] = frozenset()
    editable: frozenset[str] = frozenset()
    objects: dict[str, frozenset[str]] = field(default_factory=dict)
    user: frozenset[str] = frozenset()
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Package:
    """`objects` are raw definitions of custom objects; `fields` raw custom fields by object and name."""

    objects: dict[str, dict[str, Any]]
    fields: dict[str, dict[str, dict[str, Any]]]
    permissions: PermissionSet


class PackageError(ValueError):
    """A package that cannot be read; the message names the file and what to do."""


def load(root: Path) -> Package:
    """Reads every package directory below `root`. Raises PackageError."""
    if not (root / "sfdx-project.json").is_file():
        raise PackageError(
            f"no Salesforce package at {root}: expected sfdx-project.json there; pass the folder that holds it"
        )
    objects: dict[str, dict[str, Any]] = {}
    for number, path in enumerate(sorted(root.rglob("*.object-meta.xml"))):
        name = path.name.removesuffix(".object-meta.xml")
        if name.endswith("__c"):
            objects[name] = _custom_object(path, number)
    fields: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(root.rglob("*.field-meta.xml")):
        owner = path.parent.parent.name
        # Custom fields of tasks and events are declared once, on Activity.
        for name in ("Task", "Event") if owner == "Activity" else (owner,):
            fields.setdefault(name, {})[path.name.removesuffix(".field-meta.xml")] = _custom_field(path)
    return Package(objects, fields, _permission_set(sorted(root.rglob("*.permissionset-meta.xml"))))


def _custom_object(path: Path, number: int) -> dict[str, Any]:
    xml = _parse(path)
    label = _text(xml, "label") or path.parent.name
    name_field = xml.find("nameField")
    if name_field is None:
        raise PackageError(f"{path}: a custom object needs a nameField")
    name: dict[str, Any] = {"type": "string", "length": 80, "name_field": True, "label": _text(name_field, "label")}
    if _text(name_field, "type") == "AutoNumber":
        name |= {"access": "read", "nillable": False, "auto_number": _text(name_field, "displayFormat") or "{0}"}
    else:
        name["permissionable"] = False
    owner = {"type": "reference", "to": ["User"], "relationship": "Owner", "owner": True, "label": "Owner ID"}
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    return {
        "prefix": f"a{letters[number // 36]}{letters[number % 36]}",
        "label": label,
        "plural": _text(xml, "pluralLabel") or label,
        "custom": True,
        "fields": {"Name": name, "OwnerId": owner},
    }


def _custom_field(path: Path) -> dict[str, Any]:
    xml = _parse(path)
    kind = _text(xml, "type") or ""
    if kind not in _TYPES:
        raise PackageError(f"{path}: the sandbox does not know field type {kind!r}; known are {', '.join(_TYPES)}")
    required = _flag(xml, "required") or kind == "MasterDetail"
    spec: dict[str, Any] = {
        "type": _TYPES[kind],
        "label": _text(xml, "label"),
        "custom": True,
        "required": required,
        "permissionable": not required,
        "help": _text(xml, "inlineHelpText"),
    }
    if kind in ("Number", "Currency", "Percent"):
        spec |= {"precision": int(_text(xml, "precision") or 18), "scale": int(_text(xml, "scale") or 0)}
    elif kind in ("Lookup", "MasterDetail"):
        relationship = _text(xml, "relationshipName")
        spec |= {
            "to": [_text(xml, "referenceTo")],
            "relationship": path.name.removesuffix(".field-meta.xml").removesuffix("__c") + "__r",
            "children": f"{relationship}__r" if relationship else None,
            "delete_with_parent": kind == "MasterDetail" or _text(xml, "deleteConstraint") == "Cascade",
        }
    elif kind in ("Picklist", "MultiselectPicklist"):
        values = xml.findall("valueSet/valueSetDefinition/value")
        spec |= {
            "values": [_text(v, "fullName") for v in values],
            "default": next((_text(v, "fullName") for v in values if _flag(v, "default")), None),
            "restricted": _text(xml, "valueSet/restricted") == "true",
        }
    elif kind == "Checkbox":
        spec["default"] = _text(xml, "defaultValue") == "true"
    elif kind == "AutoNumber":
        spec |= {"length": 30, "access": "read", "nillable": False, "auto_number": _text(xml, "displayFormat") or "{0}"}
    elif kind not in ("Date", "DateTime"):
        spec["length"] = int(_text(xml, "length") or _LENGTHS.get(kind, 255))
    spec |= {"external_id": _flag(xml, "externalId"), "unique": _flag(xml, "unique")}
    spec["case_sensitive"] = _flag(xml, "caseSensitive")
    return spec


def _permission_set(paths: list[Path]) -> PermissionSet:
    """All permission sets of the package together: permissions only ever add up."""
    readable, editable, user = set(), set(), set()
    objects: dict[str, set[str]] = {}
    labels = {}
    for path in paths:
        xml = _parse(path)
        name = path.name.removesuffix(".permissionset-meta.xml")
        labels[name] = _text(xml, "label") or name
        for grant in xml.findall("fieldPermissions"):
            name = _text(grant, "field") or ""
            readable |= {name} if _flag(grant, "readable") else set()
            editable |= {name} if _flag(grant, "editable") else set()
        for grant in xml.findall("objectPermissions"):
            verbs = {v.lower() for v in ("Read", "Create", "Edit", "Delete") if _flag(grant, f"allow{v}")}
            objects.setdefault(_text(grant, "object") or "", set()).update(verbs)
        user |= {_text(g, "name") or "" for g in xml.findall("userPermissions") if _flag(g, "enabled")}
    frozen = {name: frozenset(verbs) for name, verbs in objects.items()}
    return PermissionSet(frozenset(readable), frozenset(editable), frozen, frozenset(user), labels)


_TYPES = {
    "Text": "string",
    "TextArea": "textarea",
    "LongTextArea": "textarea",
    "Email": "email",
    "Phone": "phone",
    "Url": "url",
    "Checkbox": "boolean",
    "Number": "double",
    "Currency": "currency",
    "Percent": "percent",
    "Date": "date",
    "DateTime": "datetime",
    "Picklist": "picklist",
    "MultiselectPicklist": "multipicklist",
    "Lookup": "reference",
    "MasterDetail": "reference",
    "AutoNumber": "string",
}
_LENGTHS = {"Email": 80, "Phone": 40, "LongTextArea": 32768}


def _parse(path: Path) -> ElementTree.Element:
    """The document without its namespace, which adds nothing here."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise PackageError(f"{path}: not well-formed XML: {error}") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _text(xml: ElementTree.Element, path: str) -> str | None:
    text = xml.findtext(path)
    return text.strip() if text else None


def _flag(xml: ElementTree.Element, path: str) -> bool:
    return _text(xml, path) == "true"
