"""A person's word on a conflict, given on the command line: written down, audited, and carried out by the next look."""

from __future__ import annotations

from importlib.metadata import version

from sync_pipeline.core import canonical
from sync_pipeline.core.conflict import Conflict, Side
from sync_pipeline.core.rules import Priority
from sync_pipeline.engine.env import Env
from sync_pipeline.ledger import audit, conflicts, work
from sync_pipeline.ledger.database import Ledger, LedgerError


def rule(ledger: Ledger, env: Env, key: str, side: Side, *, by: str) -> Conflict:
    """Says whose value of the conflict shall count; `key` may be cut short. The account is looked at next.

    Raises LedgerError, naming the conflicts that it could be, where the key is empty or names none or several, and for
    a conflict that a later edit has overtaken.
    """
    if not key.strip():
        raise LedgerError("no conflict is named; their keys are shown by: sync-pipeline ledger status")
    with ledger.tx() as conn:
        found = conflicts.beginning_with(conn, key)
        if len(found) != 1:
            known = ", ".join(each.key for each in found[:5]) or "none; see: sync-pipeline ledger status"
            raise LedgerError(f"{key!r} names {len(found)} conflicts: {known}")
        (conflict,) = found
        if conflict.status == "Overtaken":
            raise LedgerError(f"a later edit has overtaken conflict {conflict.key}; edit the field itself instead")
        now = env.now()
        conflicts.rule(conn, conflict.key, side, by=by, now=now)
        audit.append(
            conn,
            account=conflict.account,
            attempt_id=None,
            at=now,
            actor=by,
            what=f"ruling on conflict {conflict.key}",
            fields="[]",
            reason=f"the value of {side} shall count for {conflict.rule} of {conflict.record_id}",
            evidence=canonical.encode({"salesforce": conflict.salesforce, "stripe": conflict.stripe}),
            run=None,
            code_version=version("sync-pipeline"),
            request_id=None,
        )
        work.mark_dirty(conn, [conflict.account], priority=int(Priority.CREATE), now_wall=env.wall())
    return conflict
