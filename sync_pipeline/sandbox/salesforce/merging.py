"""Merging two accounts, contacts or leads: the loser goes to the recycle bin, its details move to the winner."""

from __future__ import annotations

from sync_pipeline.sandbox.salesforce import recycle_bin
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.saving import Actor, Saver
from sync_pipeline.sandbox.salesforce.schema import SObject
from sync_pipeline.sandbox.store import Row


def merge(saver: Saver, o: SObject, winner_id: str, loser_id: str, actor: Actor) -> Row:
    """Returns the winner, which keeps its own values. Raises SalesforceError."""
    if not o.merge or winner_id == loser_id:
        raise SalesforceError("INVALID_OPERATION", f"cannot merge {loser_id} into {winner_id}")
    winner, loser = saver.existing(o, winner_id), saver.existing(o, loser_id)
    for child in saver.db.schema.children(o.name):
        if child.field.name == "MasterRecordId":
            continue
        for holder in saver.db.where(child.object, child.field, loser_id):
            # A record that hung below the loser must not come to hang below itself.
            target = None if holder["Id"] == winner_id else winner_id
            saver.stamp(child.object, holder, {child.field.name: target}, actor)
    recycle_bin.bury(saver, o, saver.db.get(o, loser_id) or loser, actor, {"MasterRecordId": winner_id})
    return saver.stamp(o, saver.db.get(o, winner_id) or winner, {}, actor)
