"""Contract: from draft to activated, once and by itself, and the end date that the term gives."""

from __future__ import annotations

from datetime import date, timedelta

from dateutil.relativedelta import relativedelta

from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.saving import Actor, NoBehaviour, Saver
from sync_pipeline.sandbox.store import Row

_STATUS_CODE = {"Draft": "Draft", "In Approval Process": "InApproval", "Activated": "Activated"}


def _refused(message: str) -> SalesforceError:
    return SalesforceError("FAILED_ACTIVATION", message, ["Status"])


class Contract(NoBehaviour):
    def prepare(self, saver: Saver, old: Row | None, new: Row, given: set[str]) -> None:
        was = old["StatusCode"] if old else "Draft"
        new["StatusCode"] = _STATUS_CODE[new["Status"]]
        if was == "Activated" and new["StatusCode"] != "Activated":
            raise _refused("The status of an activated contract cannot be changed.")
        if was != "Activated" and new["StatusCode"] == "Activated":
            if old is None:
                raise _refused("Choose a valid contract status and save your changes. Ask your admin for details.")
            if given != {"Status"}:
                raise _refused("Status must be the only field that is updated when a contract is activated.")
            new |= {"ActivatedDate": saver.db.now()}
        new["EndDate"] = _end(new.get("StartDate"), new.get("ContractTerm"))

    def saved(self, saver: Saver, old: Row | None, new: Row, actor: Actor) -> None:
        if new.get("ActivatedDate") and not new.get("ActivatedById"):
            saver.db.put(saver.db.schema.objects["Contract"], new | {"ActivatedById": actor.user_id})

    def check_removal(self, saver: Saver, row: Row) -> None:
        if row["StatusCode"] == "Activated":
            raise SalesforceError("DELETE_FAILED", "An activated contract cannot be deleted.", [])


def _end(start: str | None, months: int | None) -> str | None:
    """The last day of the term: the day before the anniversary."""
    if start is None or months is None:
        return None
    return (date.fromisoformat(start) + relativedelta(months=months) - timedelta(days=1)).isoformat()
