"""Describe: the schema as one user sees it."""

from __future__ import annotations

from typing import Any

from sync_pipeline.sandbox.salesforce.access import Access, ObjectAccess
from sync_pipeline.sandbox.salesforce.database import Database
from sync_pipeline.sandbox.salesforce.schema import NUMBER_TYPES, Field

MASTER = "012000000000000AAA"
_SOAP_TYPES = {
    "id": "tns:ID",
    "reference": "tns:ID",
    "boolean": "xsd:boolean",
    "int": "xsd:int",
    "double": "xsd:double",
    "currency": "xsd:double",
    "percent": "xsd:double",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "address": "urn:address",
}
# What is the same of every object, and of every field.
_OBJECT = {
    **dict.fromkeys((
        "activateable customSetting deepCloneable deprecatedAndHidden feedEnabled hasSubtypes"
        " isInterface isSubtype"
    ).split(), False),
    **dict.fromkeys("layoutable mruEnabled queryable replicateable retrieveable searchable triggerable".split(), True),
}  # fmt: skip
_FIELD = {
    **dict.fromkeys((
        "aiPredictionField calculated dependentPicklist deprecatedAndHidden"
        " displayLocationInDecimal encrypted formulaTreatNullNumberAsZero highScaleNumber"
        " htmlFormatted queryByDistance restrictedDelete searchPrefilterable"
        " writeRequiresMasterRead"
    ).split(), False),
    **dict.fromkeys((
        "calculatedFormula controllerName defaultValueFormula extraTypeInfo filteredLookupInfo"
        " mask maskType referenceTargetField relationshipOrder"
    ).split(), None),
}  # fmt: skip


def describe_global(access: Access, base: str) -> dict[str, Any]:
    return {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": [_summary(o, base) for o in access.objects.values()]}


def describe(db: Database, access: Access, o: ObjectAccess, base: str) -> dict[str, Any]:
    """The full description of one object."""
    children = []
    for child in db.schema.children(o.object.name):
        visible = access.get(child.object.name)
        if visible is not None and child.field.name.lower() in visible.readable:
            children.append(
                {
                    "cascadeDelete": child.field.delete_with_parent,
                    "childSObject": child.object.name,
                    "deprecatedAndHidden": False,
                    "field": child.field.name,
                    "junctionIdListNames": [],
                    "junctionReferenceTo": [],
                    "relationshipName": child.field.children,
                    "restrictedDelete": False,
                }
            )
    return _summary(o, base) | {
        "actionOverrides": [],
        "childRelationships": children,
        "compactLayoutable": True,
        "fields": [_field(db, o, f) for f in o.readable.values()],
        "listviewable": None,
        "lookupLayoutable": None,
        "namedLayoutInfos": [],
        "networkScopeFieldName": None,
        "recordTypeInfos": _record_types(db, o, base),
        "searchLayoutable": True,
        "sobjectDescribeOption": "FULL",
        "supportedScopes": [{"label": f"All {o.object.plural.lower()}", "name": "everything"}],
    }


def _record_types(db: Database, o: ObjectAccess, base: str) -> list[dict[str, Any]]:
    """Those of the object, and last the one that stands for having none."""
    rows = [*db.record_types(o.object), {"DeveloperName": "Master", "Name": "Master", "Id": MASTER, "IsActive": True}]
    return [
        {
            "active": row["IsActive"],
            "available": row["Id"] == MASTER or row["DeveloperName"] in o.record_types,
            "defaultRecordTypeMapping": row["DeveloperName"] == (o.default_record_type or "Master"),
            "developerName": row["DeveloperName"],
            "master": row["Id"] == MASTER,
            "name": row["Name"],
            "recordTypeId": row["Id"],
            "urls": {"layout": f"{base}/sobjects/{o.object.name}/describe/layouts/{row['Id']}"},
        }
        for row in rows
    ]


def _summary(o: ObjectAccess, base: str) -> dict[str, Any]:
    name = o.object.name
    own = f"{base}/sobjects/{name}"
    told = {
        "associateEntityType": None,
        "associateParentEntity": None,
        "createable": o.create,
        "custom": o.object.custom,
        "deletable": o.delete,
        "keyPrefix": o.object.prefix,
        "label": o.object.label,
        "labelPlural": o.object.plural,
        "mergeable": o.object.merge,
        "name": name,
        "undeletable": o.object.undelete and o.delete,
        "updateable": o.edit,
        "urls": {"sobject": own, "describe": f"{own}/describe", "rowTemplate": f"{own}/{{ID}}"},
    }
    return dict(sorted((_OBJECT | told).items()))


def _field(db: Database, o: ObjectAccess, f: Field) -> dict[str, Any]:
    number = f.type in NUMBER_TYPES and f.type != "int"
    choices = db.choices(f) if f.type in ("picklist", "multipicklist") else ()
    told = {
        "aggregatable": f.filterable and f.type != "boolean",
        "autoNumber": f.auto_number is not None,
        "byteLength": f.length * 3 if f.type not in ("id", "reference") else 18,
        "cascadeDelete": f.delete_with_parent,
        "caseSensitive": f.case_sensitive,
        "compoundFieldName": f.compound
        or ("Name" if o.object.person and f.name in ("FirstName", "LastName") else None),
        "createable": f.name in o.createable,
        "custom": f.custom,
        "defaultValue": f.default if f.type == "boolean" else None,
        "defaultedOnCreate": f.default is not None or f.owner or f.auto_number is not None or not f.createable,
        "digits": f.digits,
        "externalId": f.external_id,
        "filterable": f.filterable,
        "groupable": f.groupable,
        "idLookup": f.id_lookup or f.external_id or f.type == "id",
        "inlineHelpText": f.help,
        "label": f.label,
        "length": f.length if not number else 0,
        "name": f.name,
        "nameField": f.name_field,
        "namePointing": len(f.to) > 1,
        "nillable": f.nillable and not f.required,
        "permissionable": f.permissionable and f.compound is None,
        "picklistValues": [
            {"active": True, "defaultValue": f.default == v, "label": v, "validFor": None, "value": v} for v in choices
        ],
        "polymorphicForeignKey": len(f.to) > 1,
        "precision": f.precision,
        "referenceTo": list(f.to),
        "relationshipName": f.relationship,
        "restrictedPicklist": f.restricted,
        "scale": f.scale,
        "soapType": _SOAP_TYPES.get(f.type, "xsd:string"),
        "sortable": f.filterable,
        "type": f.type,
        "unique": f.unique,
        "updateable": f.name in o.updateable,
    }
    return dict(sorted((_FIELD | told).items()))
