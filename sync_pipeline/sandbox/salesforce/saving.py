"""The order in which a save happens: formats, the object's own rules, the org's rules, uniqueness, roll-ups.

Every way of writing a record ends here, be it REST, a collection, Bulk or a person. Deleting is in `recycle_bin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from sync_pipeline.sandbox.salesforce.access import Access, ObjectAccess
from sync_pipeline.sandbox.salesforce.database import Database
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.schema import RECORD_TYPE, Field, SObject
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline.sandbox.salesforce.values import accept
from sync_pipeline.sandbox.store import Row


@dataclass(frozen=True)
class Actor:
    """Who writes: the user that stamps show, what that user may do, and what the request's headers ask for."""

    user_id: str
    access: Access
    allow_duplicates: bool = False

    def may(self, verb: str, o: SObject) -> ObjectAccess:
        """The object's access for `create`, `edit` or `delete`. Raises SalesforceError."""
        access = self.access.get(o.name)
        if access is None:
            raise SalesforceError("INVALID_TYPE", f"sObject type '{o.name}' is not supported.")
        if not getattr(access, verb):
            if not getattr(o, "update" if verb == "edit" else verb):
                message = f"entity type {o.name} does not support {verb}"
                raise SalesforceError("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", message)
            message = "insufficient access rights on object id"
            raise SalesforceError("INSUFFICIENT_ACCESS_OR_READONLY", message, status=403)
        return access


class Behaviour(Protocol):
    """What one standard object does by itself when its records are saved or removed."""

    def prepare(self, saver: Saver, old: Row | None, new: Row, given: set[str]) -> None:
        """Derives and checks fields of `new` (changed in place) before it is saved. `given` was sent by the client."""

    def saved(self, saver: Saver, old: Row | None, new: Row, actor: Actor) -> None:
        """Carries a save over to other records."""

    def check_removal(self, saver: Saver, row: Row) -> None:
        """Refuses a deletion."""

    def removed(self, saver: Saver, row: Row, actor: Actor) -> None:
        """Carries a deletion over to other records."""


class Rules(Protocol):
    """What the org's administrators have set up."""

    def automate(self, saver: Saver, o: SObject, new: Row) -> set[str]:
        """Changes `new` in place as flows do before a save; the names of the fields that changed."""

    def check(self, saver: Saver, o: SObject, old: Row | None, new: Row, actor: Actor) -> None:
        """Refuses what validation and duplicate rules forbid."""


class Saver:
    """Inserts and updates records."""

    def __init__(
        self, db: Database, settings: SalesforceSettings, behaviours: dict[str, Behaviour], rules: Rules
    ) -> None:
        self.db = db
        self.settings = settings
        self.behaviours = behaviours
        self.rules = rules
        # Writes still to be refused, by record; not in the store, because a refusal must not be rolled back.
        self.row_locks: dict[str, int] = {}
        self.rows_until_lock: int | None = None

    def insert(self, o: SObject, fields: dict[str, Any], actor: Actor) -> Row:
        """Creates a record and returns it. Raises SalesforceError."""
        access = actor.may("create", o)
        given = self.read_fields(access, fields, access.createable)
        now = self.db.now()
        new: Row = {"Id": self.db.ids.new(o.prefix)}
        new |= {f.name: f.default for f in o.fields.values() if f.default is not None}
        new |= given
        for f in o.fields.values():
            if f.owner and new.get(f.name) is None:
                new[f.name] = actor.user_id
            elif f.auto_number:
                new[f.name] = self._next_number(o, f)
        if "CurrencyIsoCode" in o.fields and new.get("CurrencyIsoCode") is None:
            new["CurrencyIsoCode"] = self.settings.currency
        if RECORD_TYPE in o.fields and RECORD_TYPE not in given:
            wanted = access.default_record_type
            new[RECORD_TYPE] = next(
                (row["Id"] for row in self.db.record_types(o) if row["DeveloperName"] == wanted), None
            )
        new |= {"CreatedDate": now, "CreatedById": actor.user_id}
        if "IsDeleted" in o.fields:
            new["IsDeleted"] = False
        return self._save(o, None, new, set(given), actor)

    def update(self, o: SObject, record_id: str, fields: dict[str, Any], actor: Actor) -> Row:
        """Changes a record and returns it. Raises SalesforceError."""
        access = actor.may("edit", o)
        old = self.existing(o, record_id)
        given = self.read_fields(access, fields, access.updateable)
        return self._save(o, old, old | given, set(given), actor)

    def existing(self, o: SObject, record_id: str) -> Row:
        """The live record with that id. Raises SalesforceError as a write to a missing record does."""
        row = self.db.get(o, record_id)
        if row is None:
            raise SalesforceError("NOT_FOUND", "The requested resource does not exist", status=404)
        if row.get("IsDeleted"):
            raise SalesforceError("ENTITY_IS_DELETED", "entity is deleted", [], status=404)
        return row

    def stamp(self, o: SObject, row: Row, changes: dict[str, Any], actor: Actor) -> Row:
        """Writes what the platform itself changes, such as a roll-up: no rules, but the stamps move."""
        now = self.db.now()
        stamps = {"LastModifiedDate": now, "LastModifiedById": actor.user_id, "SystemModstamp": now}
        return self.db.put(o, row | changes | {k: v for k, v in stamps.items() if k in o.fields})

    def lock(self, record_id: str, times: int) -> None:
        """The next `times` writes that touch this record, or a child of it, fail with UNABLE_TO_LOCK_ROW."""
        self.row_locks[record_id] = times

    def check_locks(self, record_ids: list[str]) -> None:
        if self.rows_until_lock is not None:
            self.rows_until_lock = self.rows_until_lock - 1 or None
            if self.rows_until_lock is None:
                raise _locked(record_ids[0])
        for record_id in record_ids:
            if self.row_locks.get(record_id):
                self.row_locks[record_id] -= 1
                raise _locked(record_id)

    def read_fields(self, access: ObjectAccess, fields: dict[str, Any], writable: frozenset[str]) -> dict[str, Any]:
        """The kept values of what a client sent, by canonical field name. Raises SalesforceError."""
        given: dict[str, Any] = {}
        refused = []
        for name, value in fields.items():
            if name == "attributes":
                continue
            f = access.readable.get(name.lower())
            if f is None:
                f, value = self._by_relationship(access, name, value)
                if f.name.lower() in {n.lower() for n in fields}:
                    message = f"Cannot specify both an external ID reference {name} and a salesforce id, {f.name}"
                    raise SalesforceError("INVALID_FIELD", message, [])
            if f.name not in writable:
                refused.append(f.name)
            else:
                given[f.name] = accept(f, value)
        if refused:
            message = (
                f"Unable to create/update fields: {', '.join(refused)}. Please check the security settings of "
                "this field and verify that it is read/write for your profile or permission set."
            )
            raise SalesforceError("INVALID_FIELD_FOR_INSERT_UPDATE", message, refused)
        return given

    def _by_relationship(self, access: ObjectAccess, name: str, value: Any) -> tuple[Field, Any]:
        """A parent named by its external id: {"Account": {"Ext__c": "x"}} stands for AccountId."""
        o = access.object
        f = o.by_relationship.get(name.lower())
        if f is None or f.name.lower() not in access.readable or not isinstance(value, dict):
            message = f"No such column '{name}' on sobject of type {o.name}"
            raise SalesforceError("INVALID_FIELD", message, [name])
        wanted = str((value.get("attributes") or {}).get("type") or f.to[0])
        parent = self.db.schema.get(wanted)
        keys = [(k, v) for k, v in value.items() if k != "attributes"]
        if parent is None or parent.name not in f.to or len(keys) != 1:
            message = f"The {name} foreign key must name one external id field of {' or '.join(f.to)}"
            raise SalesforceError("INVALID_FIELD", message, [name])
        key = parent.by_name.get(keys[0][0].lower())
        if key is None or not (key.external_id or key.id_lookup or key.type == "id"):
            message = f"Field name provided, {keys[0][0]} is not an External ID or indexed field for {parent.name}"
            raise SalesforceError("INVALID_FIELD", message, [])
        found = self.db.where(parent, key, accept(key, keys[0][1])) if key.type != "id" else [{"Id": keys[0][1]}]
        if len(found) != 1:
            message = f"Foreign key external ID: {keys[0][1]} not found for field {key.name} in entity {parent.name}"
            raise SalesforceError("INVALID_FIELD", message, [])
        return f, found[0]["Id"]

    def _save(self, o: SObject, old: Row | None, new: Row, given: set[str], actor: Actor) -> Row:
        behaviour = self.behaviours.get(o.name)
        if o.person:
            new["Name"] = " ".join(p for p in (new.get("FirstName"), new.get("LastName")) if p)
        changed = given if old is None else {n for n in given if new.get(n) != old.get(n)}
        self._check_required(o, new)
        if RECORD_TYPE in changed:
            self._check_record_type(o, new, actor.access.objects[o.name])
        self._check_references(o, old, new, changed)
        if behaviour:
            behaviour.prepare(self, old, new, given)
        automated = self.rules.automate(self, o, new)
        if automated and behaviour:
            behaviour.prepare(self, old, new, given | automated)
        self.rules.check(self, o, old, new, actor)
        self._check_unique(o, old, new)
        if self.row_locks or self.rows_until_lock is not None:
            self.check_locks([new["Id"], *(new[f.name] for f in o.references if f.name in changed and new.get(f.name))])
        saved = self.stamp(o, new, {}, actor)
        if behaviour:
            behaviour.saved(self, old, saved, actor)
        return self.db.get(o, saved["Id"]) or saved

    def _check_record_type(self, o: SObject, new: Row, access: ObjectAccess) -> None:
        """A user can give a record those record types of its object only that are active and assigned to the user."""
        chosen = new.get(RECORD_TYPE)
        known = (row for row in self.db.record_types(o) if row["DeveloperName"] in access.record_types)
        if chosen is not None and chosen not in [row["Id"] for row in known if row["IsActive"]]:
            message = f"Record Type ID: this ID value isn't valid for the user: {chosen}"
            raise SalesforceError("INVALID_CROSS_REFERENCE_KEY", message, [RECORD_TYPE])

    def _check_required(self, o: SObject, new: Row) -> None:
        missing = [f.name for f in o.needed if new.get(f.name) is None]
        if missing:
            message = f"Required fields are missing: [{', '.join(missing)}]"
            raise SalesforceError("REQUIRED_FIELD_MISSING", message, missing)

    def _check_references(self, o: SObject, old: Row | None, new: Row, changed: set[str]) -> None:
        for name in changed:
            f, value = o.fields[name], new.get(name)
            if f.type != "reference" or value is None:
                continue
            target = self.db.schema.of_id(value)
            if target is None or target.name not in f.to:
                message = f"{f.label}: id value of incorrect type: {value}"
                raise SalesforceError("MALFORMED_ID", message, [f.name])
            row = self.db.get(target, value)
            if row is None:
                raise SalesforceError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", [])
            if row.get("IsDeleted"):
                raise SalesforceError("ENTITY_IS_DELETED", "entity is deleted", [])
        owner = next((f for f in o.references if f.owner), None)
        if owner and (old is None or owner.name in changed):
            user = self.db.by_id(new.get(owner.name))
            if user is not None and user.get("IsActive") is False:
                message = f"operation performed with inactive user [{user['Id']}] as owner of {o.name.lower()}"
                raise SalesforceError("INACTIVE_OWNER_OR_USER", message, [owner.name])

    def _check_unique(self, o: SObject, old: Row | None, new: Row) -> None:
        for f in o.indexed:
            value = new.get(f.name)
            if (
                not f.unique
                or value is None
                or (old is not None and old.get(f.name) == value and not old.get("IsDeleted"))
            ):
                continue
            taken = next((row for row in self.db.where(o, f, value) if row["Id"] != new["Id"]), None)
            if taken:
                message = f"duplicate value found: {f.name} duplicates value on record with id: {taken['Id'][:15]}"
                raise SalesforceError("DUPLICATE_VALUE", message, [])

    def _next_number(self, o: SObject, f: Field) -> str:
        """The next value of an auto-number field: its display format with the counter in the braces."""
        key = f"{o.name}.{f.name}"
        n = (self.db.store.get("_ids", key) or {"n": 0})["n"] + 1
        self.db.store.put("_ids", key, {"n": n})
        before, _, rest = (f.auto_number or "{0}").partition("{")
        digits, _, after = rest.partition("}")
        return f"{before}{n:0{len(digits)}d}{after}"


class NoBehaviour:
    """The base of an object's behaviour: overrides say what is special."""

    def prepare(self, saver: Saver, old: Row | None, new: Row, given: set[str]) -> None: ...

    def saved(self, saver: Saver, old: Row | None, new: Row, actor: Actor) -> None: ...

    def check_removal(self, saver: Saver, row: Row) -> None: ...

    def removed(self, saver: Saver, row: Row, actor: Actor) -> None: ...


def _locked(record_id: str) -> SalesforceError:
    message = f"unable to obtain exclusive access to this record or 1 records: {record_id[:15]}"
    return SalesforceError("UNABLE_TO_LOCK_ROW", message, [])
