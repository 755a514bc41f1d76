"""A Salesforce org's schema as its integration user sees it: what a describe says, as far as the rules need it.

A field or object without permission is not in it, exactly as if it did not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NOT_IN_EVERY_ORG = frozenset({"CurrencyIsoCode", "RecordTypeId", "RecordType.DeveloperName", "Discount"})
"""Fields that an org has only with several currencies, record types or discounts on lines; elsewhere the sync does
without."""


@dataclass(frozen=True, slots=True)
class OrgField:
    """One field. `choices` are the active values of a picklist, `relationship` is the name that leads to the parent."""

    name: str
    type: str
    createable: bool = True
    updateable: bool = True
    external_id: bool = False
    unique: bool = False
    case_sensitive: bool = False
    restricted: bool = False
    choices: tuple[str, ...] = ()
    relationship: str | None = None
    refers_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OrgRecordType:
    """One record type. Everybody may read its records; `usable`: this user may make some."""

    id: str
    usable: bool = True


@dataclass(frozen=True, slots=True)
class OrgObject:
    """One object with the fields that can be read, by API name; `record_types` are by DeveloperName.

    `children` are the names of its child relationships, by the child's object and the field that refers to this one.
    """

    name: str
    createable: bool = True
    updateable: bool = True
    fields: Mapping[str, OrgField] = field(default_factory=dict)
    record_types: Mapping[str, OrgRecordType] = field(default_factory=dict)
    children: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def relationship(self, name: str) -> OrgField | None:
        """The reference that the first step of a path (Owner.IsActive) follows."""
        return next((f for f in self.fields.values() if f.relationship == name and f.refers_to), None)

    def lacks(self, api_name: str) -> bool:
        """Whether it is without a field, or without the reference that begins a path, that not every org has."""
        first, _, rest = api_name.partition(".")
        return api_name in NOT_IN_EVERY_ORG and (self.relationship(first) if rest else self.fields.get(first)) is None


@dataclass(frozen=True, slots=True)
class OrgStage:
    """An active Opportunity stage and what reaching it means."""

    name: str
    closed: bool
    won: bool


@dataclass(frozen=True, slots=True)
class OrgSchema:
    """The objects that were asked for and exist, by API name; `all_names` are those of the whole org."""

    objects: Mapping[str, OrgObject]
    all_names: frozenset[str]
    stages: Mapping[str, OrgStage] = field(default_factory=dict)
