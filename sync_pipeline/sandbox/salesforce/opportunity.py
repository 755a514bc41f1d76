"""Opportunity: what its stage decides, and what its line items decide for it."""

from __future__ import annotations

from datetime import date
from typing import Any

from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.saving import Actor, NoBehaviour, Saver
from sync_pipeline.sandbox.salesforce.values import decimal_of, double_of
from sync_pipeline.sandbox.store import Row

_FORECAST_CATEGORY = {
    "Omitted": "Omitted",
    "Pipeline": "Pipeline",
    "Best Case": "BestCase",
    "Most Likely": "MostLikely",
    "Commit": "Forecast",
    "Closed": "Closed",
}
_ROLLED_UP = ("Amount", "TotalOpportunityQuantity")


class Opportunity(NoBehaviour):
    def prepare(self, saver: Saver, old: Row | None, new: Row, given: set[str]) -> None:
        if old is not None and old["HasOpportunityLineItem"]:
            # The API answers success and leaves the fields alone.
            new.update({name: old.get(name) for name in _ROLLED_UP})
            for name in ("Pricebook2Id", "CurrencyIsoCode"):
                if new.get(name) != old.get(name):
                    message = (
                        f"field integrity exception: {name} (cannot be changed while the opportunity has products)"
                    )
                    raise SalesforceError("FIELD_INTEGRITY_EXCEPTION", message, [name])
        self._apply_stage(saver, old, new, given)
        if old is not None and new["CloseDate"][:7] > old["CloseDate"][:7]:
            new["PushCount"] = (old.get("PushCount") or 0) + 1
        new.update(derived_from_amount(new))
        closes = date.fromisoformat(new["CloseDate"])
        quarter = (closes.month - 1) // 3 + 1
        new |= {"FiscalYear": closes.year, "FiscalQuarter": quarter, "Fiscal": f"{closes.year} {quarter}"}

    def saved(self, saver: Saver, old: Row | None, new: Row, actor: Actor) -> None:
        if old is None and new.get("ContactId"):
            role = saver.db.schema.objects["OpportunityContactRole"]
            saver.insert(role, {"OpportunityId": new["Id"], "ContactId": new["ContactId"], "IsPrimary": True}, actor)

    def _apply_stage(self, saver: Saver, old: Row | None, new: Row, given: set[str]) -> None:
        moved = old is None or new["StageName"] != old["StageName"]
        stages = saver.db.store.table("OpportunityStage").values()
        stage = next((s for s in stages if s["ApiName"].lower() == new["StageName"].lower()), None)
        if stage is None:
            # StageName is no restricted picklist: an unknown stage is an open one without a forecast.
            stage = {"IsClosed": False, "IsWon": False, "DefaultProbability": 0.0, "ForecastCategoryName": "Pipeline"}
        new["IsClosed"], new["IsWon"] = stage["IsClosed"], stage["IsWon"]
        if moved:
            new["LastStageChangeDate"] = saver.db.now() if old is not None else None
            if "Probability" not in given or new.get("Probability") is None:
                new["Probability"] = stage["DefaultProbability"]
            if "ForecastCategoryName" not in given or new.get("ForecastCategoryName") is None:
                new["ForecastCategoryName"] = stage["ForecastCategoryName"]
        new["ForecastCategory"] = _FORECAST_CATEGORY.get(new["ForecastCategoryName"], "Pipeline")


def derived_from_amount(row: Row) -> dict[str, Any]:
    if row.get("Amount") is None:
        return {"ExpectedRevenue": None}
    return {"ExpectedRevenue": double_of(decimal_of(row["Amount"]) * decimal_of(row.get("Probability")) / 100)}


def roll_up(saver: Saver, opportunity_id: str, actor: Actor, changes: dict[str, Any]) -> None:
    """Brings Amount and Quantity of the opportunity in line with its products; `changes` are saved with them."""
    opportunities = saver.db.schema.objects["Opportunity"]
    lines = saver.db.schema.objects["OpportunityLineItem"]
    row = saver.db.get(opportunities, opportunity_id)
    if row is None:
        return
    products = saver.db.where(lines, lines.fields["OpportunityId"], opportunity_id)
    total = sum((decimal_of(line["TotalPrice"]) for line in products), decimal_of(0))
    quantity = sum((decimal_of(line["Quantity"]) for line in products), decimal_of(0))
    changes = changes | {
        "HasOpportunityLineItem": bool(products),
        "Amount": double_of(total),
        "TotalOpportunityQuantity": double_of(quantity) if products else None,
    }
    saver.stamp(opportunities, row, changes | derived_from_amount(row | changes), actor)


class OpportunityContactRole(NoBehaviour):
    def saved(self, saver: Saver, old: Row | None, new: Row, actor: Actor) -> None:
        """An opportunity has one primary contact: a new one takes the mark from the other."""
        if not new["IsPrimary"]:
            return
        roles = saver.db.schema.objects["OpportunityContactRole"]
        for other in saver.db.where(roles, roles.fields["OpportunityId"], new["OpportunityId"]):
            if other["IsPrimary"] and other["Id"] != new["Id"]:
                saver.stamp(roles, other, {"IsPrimary": False}, actor)
        opportunities = saver.db.schema.objects["Opportunity"]
        opportunity = saver.db.get(opportunities, new["OpportunityId"])
        if opportunity and opportunity.get("ContactId") != new["ContactId"]:
            saver.stamp(opportunities, opportunity, {"ContactId": new["ContactId"]}, actor)
