"""A Salesforce org's schema as its integration user sees it: what a describe says, as far as the rules need it.

A field or object without permission is not in it, exactly as if it did not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
class OrgObject:
    """One object with the fields that can be read, by API name; `record_types` are developer names and their ids.

    `children` are the names of its child relationships, by the child's object and the field that refers to this one.
    """

    name: str
    createable: bool = True
    updateable: bool = True
    fields: Mapping[str, OrgField] = field(default_factory=dict)
    record_types: Mapping[str, str] = field(default_factory=dict)
    children: Mapping[tuple[str, str], str] = field(default_factory=dict)


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
