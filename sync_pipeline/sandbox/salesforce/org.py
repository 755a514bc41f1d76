"""One Salesforce org: its schema, its records, its users, its settings, and the rules by which it saves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.salesforce import fresh, package, schema
from sync_pipeline.sandbox.salesforce.access import Access, integration_user, unrestricted
from sync_pipeline.sandbox.salesforce.activity import Task
from sync_pipeline.sandbox.salesforce.contract import Contract
from sync_pipeline.sandbox.salesforce.database import Database
from sync_pipeline.sandbox.salesforce.ids import Ids
from sync_pipeline.sandbox.salesforce.limits import Limits
from sync_pipeline.sandbox.salesforce.line_items import OpportunityLineItem, PricebookEntry, Product2
from sync_pipeline.sandbox.salesforce.opportunity import Opportunity, OpportunityContactRole
from sync_pipeline.sandbox.salesforce.rules import OrgRules
from sync_pipeline.sandbox.salesforce.saving import Actor, Behaviour, Saver
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline.sandbox.store import Row, Store
from sync_pipeline.sandbox.wire import Call

_BEHAVIOURS: dict[str, Behaviour] = {
    "Contract": Contract(),
    "Opportunity": Opportunity(),
    "OpportunityContactRole": OpportunityContactRole(),
    "OpportunityLineItem": OpportunityLineItem(),
    "PricebookEntry": PricebookEntry(),
    "Product2": Product2(),
    "Task": Task(),
}


class Org:
    """Credentials and ids follow from the seed, so that the same seed gives the same org."""

    def __init__(
        self, clock: Clock, seed: int, settings: SalesforceSettings, base_url: Callable[[], str] | None
    ) -> None:
        self.clock = clock
        self.settings = settings
        self._base_url = base_url
        self.client_id = f"3MVG9{_secret(seed, 'client id', 80)}"
        self.client_secret = _secret(seed, "client secret", 64).upper()
        self.password = _secret(seed, "password", 16)
        self.security_token = _secret(seed, "security token", 24)
        self.refresh_token = f"5Aep861{_secret(seed, 'refresh token', 60)}"
        self.store = Store()
        self.schema, grants = _schema(
            settings.package,
            tuple(settings.currencies) if settings.multi_currency else (),
            tuple(settings.record_types),
        )
        self.db = Database(self.schema, self.store, clock, Ids(self.store, seed), settings.visibility_delay)
        self.users = fresh.fill(self.db, settings, grants.labels)
        self.org_id = self.users["org"]
        self.username = str(self.user(self.users[fresh.INTEGRATION])["Username"])
        self._grants = grants
        self._unrestricted = unrestricted(self.schema)
        self.saver = Saver(self.db, settings, _BEHAVIOURS, OrgRules(self.db, self._unrestricted))
        # The next bulk job gives up after so many rows and leaves the rest unprocessed.
        self.fail_job_after: int | None = None
        self.limits = Limits(self.store, clock, settings.daily_requests)
        self.configure()

    def configure(self, **changes: Any) -> None:
        """Changes settings of the running org. Raises ValueError for those that shape its schema, and for fields to
        hide that are not there."""
        shaping = {"package", "multi_currency", "currency", "currencies", "company", "is_sandbox", "record_types"}
        fixed = shaping & set(changes)
        if fixed:
            raise ValueError(f"{', '.join(sorted(fixed))} cannot be changed in a running org")
        for hidden in changes.get("hidden_fields", self.settings.hidden_fields):
            name, _, field = hidden.partition(".")
            if name not in self.schema.objects or field not in self.schema.objects[name].fields:
                raise ValueError(f"hidden_fields: there is no field {hidden}; name one as Account.MRR__c")
        self.settings = replace(self.settings, **changes)
        self.configured_at = self.clock.now()
        self.saver.settings = self.settings
        self.limits.allowed = self.settings.daily_requests
        self.db.visibility_delay = self.settings.visibility_delay
        minimum = self.settings.minimum_profile
        self._integration = integration_user(
            self.schema,
            self._grants,
            minimum=minimum,
            hidden=self.settings.hidden_fields,
            record_types=self.settings.record_types,
        )
        self._view_all_data = not minimum or "ViewAllData" in self._grants.user

    def user(self, user_id: str) -> Row:
        return self.store.table("User")[user_id]

    def api_actor(self, user_id: str, headers: Mapping[str, str] = MappingProxyType({})) -> Actor:
        """Whoever calls the API (every token is the integration user's), with what the request's headers allow."""
        duplicates = headers.get("sforce-duplicate-rule-header", "").replace(" ", "").lower()
        return Actor(user_id, self._integration, allow_duplicates="allowsave=true" in duplicates)

    def person(self, user_id: str | None) -> Actor:
        """Somebody in the user interface, the sales person if nobody else is named."""
        return Actor(user_id or self.users[fresh.SALES], self._unrestricted)

    @property
    def access(self) -> Access:
        """What the platform itself may see: everything."""
        return self._unrestricted

    def may_view_all_data(self, actor: Actor) -> bool:
        return actor.access is self._unrestricted or self._view_all_data

    def own_url(self) -> str | None:
        return self._base_url() if self._base_url else None

    def base_url(self, call: Call) -> str:
        """Where clients are told to go, without a slash at the end."""
        host = call.headers.get("host", "localhost")
        return self._base_url() if self._base_url else f"https://{host}"

    def truth(self) -> dict[str, Any]:
        """Every record of every object, by id, without what is empty."""
        return {
            name: [{k: v for k, v in rows[i].items() if v is not None} for i in sorted(rows)]
            for name in self.schema.objects
            if (rows := self.store.table(name))
        }


@lru_cache(maxsize=8)
def _schema(
    root: Path, currencies: tuple[str, ...], record_types: tuple[str, ...]
) -> tuple[schema.Schema, package.PermissionSet]:
    """Standard objects, with the package's custom objects and fields put in; no currencies: a single one."""
    custom = package.load(root)
    objects = schema.standard_objects(bool(currencies))
    objects |= {n: schema.custom_object(raw, bool(currencies)) for n, raw in custom.objects.items()}
    for name, fields in custom.fields.items():
        if name not in objects:
            raise package.PackageError(f"{root}: fields for unknown object {name}")
        objects[name]["fields"] |= fields
    if currencies:
        for raw in objects.values():
            for name in ("CurrencyIsoCode", "IsoCode"):
                if name in raw["fields"]:
                    raw["fields"][name] = raw["fields"][name] | {"values": list(currencies)}
    for name in {each.partition(".")[0] for each in record_types}:
        own = tuple(each.partition(".")[2] for each in record_types if each.startswith(f"{name}."))
        objects[name] = schema.with_record_types(objects[name], own)
    return schema.build(objects), custom.permissions


def _secret(seed: int, name: str, length: int) -> str:
    return hashlib.shake_128(f"{seed}/{name}".encode()).hexdigest(length // 2)
