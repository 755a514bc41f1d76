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

    def put(name: str, record_id: str | None = None, **fields: Any) -> str:
        """A record as if the sales person had made it; its id."""
        o, now = db.schema.objects[name], db.now()
        made = {
            "Id": record_id or db.ids.new(o.prefix), "CreatedDate": now, "CreatedById": people[SALES],
            "LastModifiedDate": now, "LastModifiedById": people[SALES], "SystemModstamp": now, "IsDeleted": False,
        }  # fmt: skip
        row = {f.name: f.default for f in o.fields.values() if f.default is not None} | fields
        return str(db.put(o, row | {k: v for k, v in made.items() if k in o.fields})["Id"])

    profiles = {name: put("Profile", Name=name) for name in (_ALL_DATA, _PEOPLE, _MINIMUM)}
    for name, label in permission_sets.items():
        given = put("PermissionSet", Name=name, Label=label, IsCustom=True)
        put("PermissionSetAssignment", AssigneeId=people[INTEGRATION], PermissionSetId=given, IsActive=True)
    host = settings.company.lower().replace(" ", "-")
    for role, (first, last, title) in _USERS.items():
        email = f"{first}.{last}@{host}.example".lower()
        profile = _PEOPLE if role != INTEGRATION else _MINIMUM if settings.minimum_profile else _ALL_DATA
        put("User", people[role], FirstName=first, LastName=last, Name=f"{first} {last}", Title=title, Username=email,
            Email=email, Alias=first[:8].lower(), IsActive=True, ProfileId=profiles[profile])  # fmt: skip
    organization = put(
        "Organization", Name=settings.company, OrganizationType="Enterprise Edition", InstanceName="SBX1",
        IsSandbox=settings.is_sandbox, FiscalYearStartMonth=1, DefaultLocaleSidKey="en_GB", LanguageLocaleKey="en_US",
        TimeZoneSidKey="GMT",
    )  # fmt: skip
    currency = {"CurrencyIsoCode": settings.currency} if settings.multi_currency else {}
    put("Pricebook2", Name="Standard Price Book", IsActive=True, IsStandard=True, **currency)
    for order, (name, probability, forecast) in enumerate(_STAGES, 1):
        put("OpportunityStage", MasterLabel=name, ApiName=name, IsActive=True, SortOrder=order,
            IsClosed=name.startswith("Closed"), IsWon=name == "Closed Won", DefaultProbability=float(probability),
            ForecastCategory=forecast, ForecastCategoryName=forecast)  # fmt: skip
    for full_name in settings.record_types:
        sobject, _, name = full_name.partition(".")
        put("RecordType", Name=name.replace("_", " "), DeveloperName=name, SobjectType=sobject, IsActive=True)
    if settings.multi_currency:
        for code, (rate, places) in settings.currencies.items():
            put("CurrencyType", IsoCode=code, ConversionRate=rate, DecimalPlaces=places, IsActive=True,
                IsCorporate=code == settings.currency)  # fmt: skip
    return people | {"org": organization}
