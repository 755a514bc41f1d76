"""From Salesforce's describes to the org's schema in the engine's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync_pipeline.core.org_schema import OrgField, OrgObject, OrgRecordType, OrgStage

STAGES = "SELECT ApiName, IsClosed, IsWon FROM OpportunityStage WHERE IsActive = true"


def org_object(described: Mapping[str, Any]) -> OrgObject:
    """One sObject describe."""
    return OrgObject(
        name=described["name"],
        createable=described["createable"],
        updateable=described["updateable"],
        fields={raw["name"]: _field(raw) for raw in described["fields"]},
        record_types={
            info["developerName"]: OrgRecordType(info["recordTypeId"], info["active"] and info["available"])
            for info in described["recordTypeInfos"]
            if not info["master"]
        },
        children={
            (child["childSObject"], child["field"]): child["relationshipName"]
            for child in described["childRelationships"]
            if child["relationshipName"]
        },
    )


def org_stage(row: Mapping[str, Any]) -> OrgStage:
    """One row of the query STAGES."""
    return OrgStage(row["ApiName"], closed=row["IsClosed"], won=row["IsWon"])


def _field(raw: Mapping[str, Any]) -> OrgField:
    return OrgField(
        name=raw["name"],
        type=raw["type"],
        createable=raw["createable"],
        updateable=raw["updateable"],
        external_id=raw["externalId"],
        unique=raw["unique"],
        case_sensitive=raw["caseSensitive"],
        restricted=raw["restrictedPicklist"],
        choices=tuple(value["value"] for value in raw["picklistValues"] if value["active"]),
        relationship=raw["relationshipName"],
        refers_to=tuple(raw["referenceTo"]),
    )
