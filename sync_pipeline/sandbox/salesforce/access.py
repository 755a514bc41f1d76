"""What a user may see and change: field-level security and object permissions.

An invisible field or object behaves exactly as one that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sync_pipeline.sandbox.salesforce.package import PermissionSet
from sync_pipeline.sandbox.salesforce.schema import Field, Schema, SObject


@dataclass(frozen=True)
class ObjectAccess:
    """One object through one user's eyes. `readable` is by lower-case name, in describe's order.

    `record_types` are those that the user may give to a record; everybody may read records of all of them. A record for
    which none is chosen gets `default_record_type`.
    """

    object: SObject
    readable: dict[str, Field]
    createable: frozenset[str]
    updateable: frozenset[str]
    create: bool
    edit: bool
    delete: bool
    record_types: frozenset[str] = frozenset()
    default_record_type: str | None = None


class Access:
    """All objects through one user's eyes; `get` finds one by name in any case, None if it is invisible."""

    def __init__(self, objects: dict[str, ObjectAccess]) -> None:
        self.objects = objects
        self._by_name = {name.lower(): access for name, access in objects.items()}

    def get(self, name: str) -> ObjectAccess | None:
        return self._by_name.get(name.lower())


def unrestricted(schema: Schema) -> Access:
    """A person in the user interface, as far as this sandbox goes, and the platform itself."""
    return Access(
        {
            o.name: ObjectAccess(
                o,
                o.by_name,
                frozenset(f.name for f in o.fields.values() if f.createable),
                frozenset(f.name for f in o.fields.values() if f.updateable),
                o.create,
                o.update,
                o.delete,
                frozenset(o.record_types),
                next(iter(o.record_types), None),
            )
            for o in schema.objects.values()
        }
    )


def integration_user(
    schema: Schema,
    grants: PermissionSet,
    *,
    minimum: bool,
    hidden: tuple[str, ...] = (),
    record_types: Mapping[str, bool] = MappingProxyType({}),
) -> Access:
    """The integration user's access: its profile plus the package's permission set.

    New custom fields and objects are invisible until the permission set grants them. With a `minimum`
    profile that is also true of standard fields and objects; otherwise the profile opens all of those.
    `hidden` fields are invisible whatever grants them. Of `record_types` those that are true are assigned to
    the user by a permission set, which leaves the default as it is: none.
    """
    objects = {}
    for o in schema.objects.values():
        verbs = _verbs(o, grants, minimum)
        if "read" not in verbs:
            continue
        readable = {
            f.name: f
            for f in o.fields.values()
            if _granted(o, f, grants.readable, minimum) and f"{o.name}.{f.name}" not in hidden
        }
        editable = {n for n, f in readable.items() if _granted(o, f, grants.editable, minimum)}
        objects[o.name] = ObjectAccess(
            o,
            {f.name.lower(): f for f in readable.values()},
            frozenset(n for n in editable if o.fields[n].createable),
            frozenset(n for n in editable if o.fields[n].updateable),
            create=o.create and "create" in verbs,
            edit=o.update and "edit" in verbs,
            delete=o.delete and "delete" in verbs,
            record_types=frozenset(name for name in o.record_types if record_types[f"{o.name}.{name}"]),
        )
    return Access(objects)


# Setup data that every API user can read.
_ALWAYS_READABLE = frozenset(
    "CurrencyType OpportunityStage Organization PermissionSet PermissionSetAssignment Profile RecordType User"
    " UserRole".split()
)
_ALL = frozenset({"read", "create", "edit", "delete"})


def _verbs(o: SObject, grants: PermissionSet, minimum: bool) -> frozenset[str]:
    if not o.custom and not minimum:
        return _ALL
    if o.name in _ALWAYS_READABLE:
        return frozenset({"read"})
    if o.name in ("Task", "Event"):
        return _ALL - {"delete"} if "EditTask" in grants.user else frozenset()
    if o.access_from:
        # A detail record is opened by its parent: who may edit the parent may add, change and remove details.
        parent = grants.objects.get(o.access_from, frozenset())
        return _ALL if "edit" in parent else parent
    return grants.objects.get(o.name, frozenset())


def _granted(o: SObject, f: Field, granted: frozenset[str], minimum: bool) -> bool:
    if not f.permissionable or not (f.custom or minimum):
        return True
    standard_activity = o.name in ("Task", "Event") and not f.custom
    return standard_activity or f"{o.name}.{f.compound or f.name}" in granted
