"""Deleting and undeleting: the recycle bin, what goes with a record, and the log that getDeleted reads."""

from __future__ import annotations

from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.saving import Actor, Saver
from sync_pipeline.sandbox.salesforce.schema import SObject
from sync_pipeline.sandbox.salesforce.values import datetime_text, epoch_of
from sync_pipeline.sandbox.store import Row

# One entry per deleted record: object, id, deletedDate, the records deleted with it, the references cleared.
LOG = "_deletions"
_KEPT_SECONDS = 15 * 86400


def delete(saver: Saver, o: SObject, record_id: str, actor: Actor) -> None:
    """Deletes a record and its details; other records forget it. Raises SalesforceError."""
    actor.may("delete", o)
    row = saver.existing(o, record_id)
    _remove(saver, o, row, actor, direct=True)


def undelete(saver: Saver, o: SObject, record_id: str, actor: Actor) -> Row:
    """Takes a record out of the recycle bin with all that was deleted with it. Raises SalesforceError."""
    if not o.undelete:
        raise SalesforceError("UNDELETE_FAILED", f"{o.label} records cannot be undeleted", [])
    return _restore(saver, o, record_id, actor)


def next_purge(saver: Saver) -> int | None:
    """When the bin next loses a record for good (epoch seconds)."""
    dates = (entry["deletedDate"] for entry in saver.db.store.table(LOG).values())
    first = min(dates, default=None)
    return None if first is None else epoch_of(first) + _KEPT_SECONDS


def purge(saver: Saver) -> None:
    """Empties the bin of what has been in it for fifteen days."""
    before = datetime_text(saver.db.clock.now() - _KEPT_SECONDS)
    for entry in [e for e in saver.db.store.table(LOG).values() if e["deletedDate"] <= before]:
        saver.db.remove(saver.db.schema.objects[entry["object"]], entry["id"])
        saver.db.store.delete(LOG, entry["id"])


def _restore(saver: Saver, o: SObject, record_id: str, actor: Actor) -> Row:
    row = saver.db.get(o, record_id)
    log = saver.db.store.get(LOG, record_id)
    if row is None or log is None or not row.get("IsDeleted"):
        raise SalesforceError("UNDELETE_FAILED", "Entity is not in the recycle bin", [])
    restored = {"IsDeleted": False} | ({"MasterRecordId": None} if o.merge else {})
    for f in o.indexed:
        taken = saver.db.where(o, f, row.get(f.name)) if f.unique and row.get(f.name) is not None else []
        if taken:
            message = f"duplicate value found: {f.name} duplicates value on record with id: {taken[0]['Id'][:15]}"
            raise SalesforceError("DUPLICATE_VALUE", message, [])
    row = saver.stamp(o, row, restored, actor)
    saver.db.store.delete(LOG, record_id)
    for name, child_id in log["with"]:
        if saver.db.store.get(LOG, child_id):
            _restore(saver, saver.db.schema.objects[name], child_id, actor)
    for name, child_id, field in log["cleared"]:
        child = saver.db.schema.objects[name]
        # One that is still in the bin itself has it again when it comes back.
        holder = saver.db.get(child, child_id)
        if holder is not None and holder.get(field) is None:
            saver.stamp(child, holder, {field: record_id}, actor)
    return row


def bury(saver: Saver, o: SObject, row: Row, actor: Actor, changes: Row) -> None:
    """Deletes a record whose details have moved elsewhere, as a merge does."""
    _log(saver, o, row, [], [])
    saver.stamp(o, row, changes | {"IsDeleted": True}, actor)


def _remove(saver: Saver, o: SObject, row: Row, actor: Actor, *, direct: bool) -> None:
    """A detail that goes with its parent waits with it in the bin, even where a direct deletion would be final."""
    behaviour = saver.behaviours.get(o.name)
    if behaviour:
        behaviour.check_removal(saver, row)
    saver.check_locks([row["Id"]])
    details: list[list[str]] = []
    cleared: list[list[str]] = []
    for child in saver.db.schema.children(o.name):
        for holder in saver.db.where(child.object, child.field, row["Id"]):
            if child.field.delete_with_parent:
                details.append([child.object.name, holder["Id"]])
                if saver.db.live(child.object, holder["Id"]):
                    _remove(saver, child.object, holder, actor, direct=False)
            elif child.field.nillable and child.field.name != "MasterRecordId":
                cleared.append([child.object.name, holder["Id"], child.field.name])
                saver.stamp(child.object, holder, {child.field.name: None}, actor)
    row = saver.db.get(o, row["Id"]) or row
    _log(saver, o, row, details, cleared)
    if o.hard_delete and direct:
        saver.db.remove(o, row["Id"])
    else:
        saver.stamp(o, row, {"IsDeleted": True}, actor)
    if behaviour and direct:
        behaviour.removed(saver, row, actor)


def _log(saver: Saver, o: SObject, row: Row, details: list[list[str]], cleared: list[list[str]]) -> None:
    entry = {"object": o.name, "id": row["Id"], "deletedDate": saver.db.now(), "with": details, "cleared": cleared}
    saver.db.store.put(LOG, row["Id"], entry)
