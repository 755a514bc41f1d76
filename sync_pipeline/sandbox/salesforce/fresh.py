"""What a new org holds before anybody works in it: organization, users and what they may, price book, stages."""

from __future__ import annotations

from typing import Any

from sync_pipeline.sandbox.salesforce.database import Database
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings

SALES, SUCCESS, INTEGRATION = "sales", "success", "integration"
_STAGES = [
    ("Prospecting", 10, "Pipeline"),
    ("Qualification", 10, "Pipeline"),
    ("Needs Analysis", 20, "Pipeline"),
    ("Value Proposition", 50, "Pipeline"),
    ("Id. Decision Makers", 60, "Pipeline"),
    ("Perception Analysis", 70, "Pipeline"),
    ("Proposal/Price Quote", 75, "Pipeline"),
    ("Negotiation/Review", 90, "Pipeline"),
    ("Closed Won", 100, "Closed"),
    ("Closed Lost", 0, "Omitted"),
]
_PEOPLE, _ALL_DATA, _MINIMUM = "Standard User", "System Administrator", "Minimum Access - API Only Integrations"
_USERS = {
    SALES: ("Sam", "Sales", "Account Executive"),
    SUCCESS: ("Casey", "Success", "Customer Success Manager"),
    INTEGRATION: ("Stripe", "Integration", "Integration User"),
}


def fill(db: Database, settings: SalesforceSettings, permission_sets: dict[str, str]) -> dict[str, str]:
    """Creates the first records; returns the ids of the users by role, and of the organization as `org`.

    `permission_sets`: labels by name of those that the integration user has.
    """
    people = {role: db.ids.new("005") for role in _USERS}
    profiles = {name: db.ids.new("00e") for name in (_ALL_DATA, _PEOPLE, _MINIMUM)}
    for name, profile in profiles.items():
        _put(db, "Profile", profile, people[SALES], {"Name": name})
    for name, label in permission_sets.items():
        given = db.ids.new("0PS")
        _put(db, "PermissionSet", given, people[SALES], {"Name": name, "Label": label, "IsCustom": True})
        assigned = {"AssigneeId": people[INTEGRATION], "PermissionSetId": given, "IsActive": True}
        _put(db, "PermissionSetAssignment", db.ids.new("0Pa"), people[SALES], assigned)
    host = settings.company.lower().replace(" ", "-")
    for role, (first, last, title) in _USERS.items():
        email = f"{first}.{last}@{host}.example".lower()
        profile = _PEOPLE if role != INTEGRATION else _MINIMUM if settings.minimum_profile else _ALL_DATA
        _put(
            db,
            "User",
            people[role],
            people[SALES],
            {
                "FirstName": first,
                "LastName": last,
                "Name": f"{first} {last}",
                "Title": title,
                "Username": email,
                "Email": email,
                "Alias": first[:8].lower(),
                "IsActive": True,
                "ProfileId": profiles[profile],
            },
        )
    organization = db.ids.new("00D")
    _put(
        db,
        "Organization",
        organization,
        people[SALES],
        {
            "Name": settings.company,
            "OrganizationType": "Enterprise Edition",
            "InstanceName": "SBX1",
            "IsSandbox": settings.is_sandbox,
            "FiscalYearStartMonth": 1,
            "DefaultLocaleSidKey": "en_GB",
            "LanguageLocaleKey": "en_US",
            "TimeZoneSidKey": "GMT",
        },
    )
    _put(
        db,
        "Pricebook2",
        db.ids.new("01s"),
        people[SALES],
        {
            "Name": "Standard Price Book",
            "IsActive": True,
            "IsStandard": True,
        }
        | ({"CurrencyIsoCode": settings.currency} if settings.multi_currency else {}),
    )
    for order, (name, probability, forecast) in enumerate(_STAGES, 1):
        _put(
            db,
            "OpportunityStage",
            db.ids.new("01J"),
            people[SALES],
            {
                "MasterLabel": name,
                "ApiName": name,
                "IsActive": True,
                "SortOrder": order,
                "IsClosed": name.startswith("Closed"),
                "IsWon": name == "Closed Won",
                "DefaultProbability": float(probability),
                "ForecastCategory": forecast,
                "ForecastCategoryName": forecast,
            },
        )
    for full_name in settings.record_types:
        sobject, _, name = full_name.partition(".")
        _put(
            db,
            "RecordType",
            db.ids.new("012"),
            people[SALES],
            {"Name": name.replace("_", " "), "DeveloperName": name, "SobjectType": sobject, "IsActive": True},
        )
    if settings.multi_currency:
        for code, (rate, places) in settings.currencies.items():
            _put(
                db,
                "CurrencyType",
                db.ids.new("01L"),
                people[SALES],
                {
                    "IsoCode": code,
                    "ConversionRate": rate,
                    "DecimalPlaces": places,
                    "IsActive": True,
                    "IsCorporate": code == settings.currency,
                },
            )
    return people | {"org": organization}


def _put(db: Database, name: str, record_id: str, user_id: str, fields: dict[str, Any]) -> None:
    o = db.schema.objects[name]
    now = db.now()
    stamps = {
        "CreatedDate": now,
        "CreatedById": user_id,
        "LastModifiedDate": now,
        "LastModifiedById": user_id,
        "SystemModstamp": now,
        "IsDeleted": False,
    }
    row = {"Id": record_id} | {f.name: f.default for f in o.fields.values() if f.default is not None} | fields
    db.put(o, row | {k: v for k, v in stamps.items() if k in o.fields})
