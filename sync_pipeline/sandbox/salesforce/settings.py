"""How this org is set up: what an administrator, a contract with Salesforce, or a test would choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_pipeline.sandbox.salesforce.package import DEFAULT_PACKAGE


@dataclass(frozen=True)
class ValidationRule:
    """Refuses a save when the record meets `when`, the WHERE part of a SOQL query."""

    object: str
    when: str
    message: str
    field: str | None = None


@dataclass(frozen=True)
class DuplicateRule:
    """Finds records that agree in all of `fields`. `block` refuses always, otherwise `allowSave` overrides."""

    object: str
    fields: tuple[str, ...]
    block: bool = True
    name: str = "Duplicate_Rule"


@dataclass(frozen=True)
class Automation:
    """Changes fields in the same save when the record meets `when`, as a before-save flow would."""

    object: str
    when: str
    set: dict[str, Any]


@dataclass(frozen=True)
class SalesforceSettings:
    """Durations in seconds. `minimum_profile` leaves the integration user with the package's grants alone;
    `hidden_fields` (`Account.MRR__c`) are taken from it in any case, as when an administrator removes a permission.
    `record_types` (`Opportunity.Renewal`) are those of the org, each with whether it is assigned to that user; the
    first of an object is what people make when they do not choose.
    """

    package: Path = DEFAULT_PACKAGE
    minimum_profile: bool = False
    hidden_fields: tuple[str, ...] = ()
    page_size: int = 2000
    daily_requests: int = 100_000
    session_seconds: int = 7200
    visibility_delay: int = 0
    replication_lag: int = 0
    bulk_seconds: int = 2
    multi_currency: bool = False
    currency: str = "GBP"
    currencies: dict[str, tuple[float, int]] = field(
        default_factory=lambda: {"GBP": (1.0, 2), "USD": (1.27, 2), "EUR": (1.17, 2), "JPY": (190.0, 0)}
    )
    record_types: dict[str, bool] = field(default_factory=dict)
    company: str = "Acme Cloud Ltd"
    is_sandbox: bool = True
    validation_rules: tuple[ValidationRule, ...] = ()
    duplicate_rules: tuple[DuplicateRule, ...] = ()
    automations: tuple[Automation, ...] = ()
