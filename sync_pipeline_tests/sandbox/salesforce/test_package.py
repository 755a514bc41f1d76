"""The Salesforce package: consistent in itself, and enough for the sync's user and nothing more."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from sync_pipeline.config.rules import load_rules
from sync_pipeline.core.org_schema import NOT_IN_EVERY_ORG
from sync_pipeline.sandbox.salesforce.package import DEFAULT_PACKAGE, load
from sync_pipeline_tests.sandbox.salesforce.served import Org

RULES = load_rules()
SPACE = {"m": "http://soap.sforce.com/2006/04/metadata"}


def test_the_manifest_names_every_file() -> None:
    """A custom field of tasks and events is one file and one member, of Activity. 8.1, 6.6."""
    fields = DEFAULT_PACKAGE.rglob("*.field-meta.xml")
    objects = DEFAULT_PACKAGE.rglob("*.object-meta.xml")
    list_views = DEFAULT_PACKAGE.rglob("*.listView-meta.xml")
    permission_sets = DEFAULT_PACKAGE.rglob("*.permissionset-meta.xml")
    manifest = ElementTree.parse(DEFAULT_PACKAGE / "manifest" / "package.xml")
    listed = {
        kind.findtext("m:name", namespaces=SPACE): {m.text for m in kind.findall("m:members", SPACE)}
        for kind in manifest.findall("m:types", SPACE)
    }
    assert listed == {
        "CustomField": {f"{path.parent.parent.name}.{path.name.split('.')[0]}" for path in fields},
        "CustomObject": {path.name.split(".")[0] for path in objects},
        "CustomTab": {path.name.split(".")[0] for path in DEFAULT_PACKAGE.rglob("*.tab-meta.xml")},
        "ListView": {f"{path.parent.parent.name}.{path.name.split('.')[0]}" for path in list_views},
        "PermissionSet": {path.name.split(".")[0] for path in permission_sets},
    }


def test_a_field_of_activity_is_granted_on_tasks_and_on_events() -> None:
    """Both have one field-level security: the one that a permission set leaves out is switched off for both.

    6.6, 8.1.
    """
    grants = load(DEFAULT_PACKAGE).permissions
    declared = {path.name.split(".")[0] for path in DEFAULT_PACKAGE.rglob("Activity/fields/*.field-meta.xml")}
    assert declared
    for kind in ("Task", "Event"):
        assert {f"{kind}.{field}" for field in declared} <= grants.readable & grants.editable


def test_full_names_are_file_names() -> None:
    """8.1: the paths of the source layout are the full names."""
    for path in DEFAULT_PACKAGE.rglob("*.field-meta.xml"):
        assert ElementTree.parse(path).findtext("m:fullName", namespaces=SPACE) == path.name.split(".")[0], path


def test_the_permission_set_grants_only_what_can_be_granted(org: Org) -> None:
    """8.1: a required field, or one that does not exist, would make the deployment fail."""
    grants = load(DEFAULT_PACKAGE).permissions
    schema = org.system.org.schema
    for grant in grants.readable | grants.editable:
        name, field = grant.split(".")
        f = schema.objects[name].fields[field]
        assert f.type == "address" or (f.permissionable and f.compound is None), grant
        assert f.createable or grant not in grants.editable, grant
    assert grants.editable <= grants.readable
    assert set(grants.objects) <= set(schema.objects)


@pytest.mark.parametrize("name", RULES.salesforce)
def test_the_integration_user_can_read_what_the_rules_read(org_with: Callable[..., Org], name: str) -> None:
    """8.3: with a minimum profile, so that the permission set alone must be enough."""
    org = org_with(minimum_profile=True)
    names = RULES.salesforce[name]
    columns = sorted(set(names.fields.values()) - NOT_IN_EVERY_ORG)
    assert org.query(f"SELECT {', '.join(columns)} FROM {names.object}") == []


def test_the_integration_user_can_write_what_the_rules_write(org_with: Callable[..., Org]) -> None:
    """8.3: a new field is writable for nobody until the permission set says so."""
    org = org_with(minimum_profile=True)
    targets = [rule.target.split(".") for rule in RULES.fields if rule.target.split(".")[0] in RULES.salesforce]
    assert targets
    for name, field in targets:
        names = RULES.salesforce[name]
        described = {f["name"]: f for f in getattr(org.sf, names.object).describe()["fields"]}
        assert described[names.fields[field]]["updateable"], (name, field)
    for name in ("Stripe_Payment_Attempt__c", "Task"):
        assert getattr(org.sf, name).describe()["createable"]


def test_stripe_ids_mind_case_and_an_amendment_shares_its_subscription(org: Org) -> None:
    """8.1: ids of Stripe are case-sensitive; unique where one record has one."""
    for kind, field, unique in (
        ("Account", "Stripe_Customer_Id__c", True),
        ("Opportunity", "Stripe_Subscription_Id__c", False),
        ("Opportunity", "Stripe_Renewal_Key__c", True),
        ("Contract", "Stripe_Subscription_Id__c", True),
    ):
        f = org.system.org.schema.objects[kind].fields[field]
        assert (f.type, f.length, f.external_id, f.case_sensitive, f.unique) == ("string", 255, True, True, unique)
