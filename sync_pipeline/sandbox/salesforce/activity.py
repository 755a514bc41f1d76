"""Task: what its status, priority and subject record decide."""

from __future__ import annotations

from sync_pipeline.sandbox.salesforce.saving import NoBehaviour, Saver
from sync_pipeline.sandbox.store import Row


class Task(NoBehaviour):
    def prepare(self, saver: Saver, old: Row | None, new: Row, given: set[str]) -> None:
        closed = new["Status"] == "Completed"
        if closed and not (old and old["IsClosed"]):
            new["CompletedDateTime"] = saver.db.now()
        elif not closed:
            new["CompletedDateTime"] = None
        new |= {"IsClosed": closed, "IsHighPriority": new["Priority"] == "High", "AccountId": _account(saver, new)}


def _account(saver: Saver, task: Row) -> str | None:
    for name in ("WhatId", "WhoId"):
        related = saver.db.by_id(task.get(name))
        if related is not None:
            account = related["Id"] if related["Id"].startswith("001") else related.get("AccountId")
            if account:
                return str(account)
    return None
