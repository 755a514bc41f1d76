"""The shipped rules, the Salesforce package and the sandbox's schema name the same fields."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from sync_pipeline.config.rules import load_rules
from sync_pipeline.config.rules_table import as_markdown
from sync_pipeline.core.canon import CANON
from sync_pipeline.core.kinds import KINDS
from sync_pipeline.core.lifecycle import MOST_URGENT_FIRST
from sync_pipeline.core.org_schema import NOT_IN_EVERY_ORG
from sync_pipeline.core.readings import READINGS
from sync_pipeline.core.written import CREATED, written_fields
from sync_pipeline.sandbox.salesforce.package import DEFAULT_PACKAGE, load

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = ROOT / "salesforce_package" / "force-app" / "main" / "default" / "objects"
PERMISSIONS = OBJECTS.parent / "permissionsets" / "Stripe_Sync.permissionset-meta.xml"
STANDARD = ROOT / "sync_pipeline" / "sandbox" / "salesforce" / "schema"
XML = "{http://soap.sforce.com/2006/04/metadata}"
# Every record has these (schema/_system.yaml), or has them where its org has several currencies or record types.
SYSTEM = {"Id", "SystemModstamp", "LastModifiedById", *NOT_IN_EVERY_ORG}
ADDRESS = ("Street", "City", "State", "PostalCode", "Country")
RULES = load_rules()
# Custom fields of tasks are declared once, on Activity.
DECLARED_ON = {"Task": "Activity"}
# Fields of parents (Product2.Name) are checked where the adapter selects them from a running sandbox.
USED = sorted(
    (names.object, field) for names in RULES.salesforce.values() for field in names.fields.values() if "." not in field
)


def picklist(kind: str, field: str) -> set[str]:
    tree = ElementTree.parse(OBJECTS / kind / "fields" / f"{field}.field-meta.xml")
    return {str(value.findtext(f"{XML}fullName")) for value in tree.iter(f"{XML}value")}


@pytest.mark.parametrize(("kind", "field"), USED)
def test_every_field_of_the_rules_exists(kind: str, field: str) -> None:
    if field.endswith("__c"):
        assert (OBJECTS / DECLARED_ON.get(kind, kind) / "fields" / f"{field}.field-meta.xml").is_file()
        return
    if kind.endswith("__c"):
        assert field in SYSTEM | {"Name"}
        return
    schema = yaml.safe_load((STANDARD / f"{kind}.yaml").read_text("utf-8"))
    addresses = {f"{use}{part}" for use in schema.get("addresses", []) for part in ADDRESS}
    assert field in SYSTEM | addresses | set(schema["fields"])


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, field in USED if field.endswith("__c")])
def test_the_permission_set_lets_the_integration_user_see_every_custom_field(kind: str, field: str) -> None:
    tree = ElementTree.parse(PERMISSIONS)
    readable = {
        permission.findtext(f"{XML}field"): permission.findtext(f"{XML}readable")
        for permission in tree.iter(f"{XML}fieldPermissions")
    }
    assert readable.get(f"{kind}.{field}") == "true"


def test_every_custom_field_that_is_written_may_be_written() -> None:
    tree = ElementTree.parse(PERMISSIONS)
    editable = {
        permission.findtext(f"{XML}field")
        for permission in tree.iter(f"{XML}fieldPermissions")
        if permission.findtext(f"{XML}editable") == "true"
    }
    names = ((RULES.salesforce[kind], field) for kind, field in written_fields(RULES))
    written = {f"{named.object}.{named.fields[field]}" for named, field in names}
    assert {name for name in written if name.endswith("__c")} <= editable


def test_every_object_and_field_of_the_package_is_one_that_the_rules_name() -> None:
    """What no rule names nobody fills: a company would look at an empty field and think that the sync is broken."""
    package = load(DEFAULT_PACKAGE)
    named = {names.object: set(names.fields.values()) for names in RULES.salesforce.values()}
    assert package.objects.keys() <= named.keys()
    strange = {
        f"{kind}.{field}" for kind, fields in package.fields.items() for field in fields.keys() - named.get(kind, set())
    }
    # A field of tasks is one of events too, whether anybody wants it there or not.
    assert strange == {"Event.Stripe_Failure_Key__c"}


def test_the_permission_set_lets_nothing_be_written_that_is_not_written() -> None:
    """Terms of a deal are people's: the integration user reads them. A field of tasks is one of events too."""
    grants, uses = load(DEFAULT_PACKAGE).permissions, written_fields(RULES)
    written = {f"{RULES.salesforce[kind].object}.{RULES.salesforce[kind].fields[field]}" for kind, field in uses}
    assert grants.editable - written == {"Event.Stripe_Failure_Key__c"}
    created = {RULES.salesforce[kind].object for kind in CREATED}
    updated = {RULES.salesforce[kind].object for (kind, _), use in uses.items() if use.updated}
    for name, verbs in grants.objects.items():
        assert ("create" in verbs) <= (name in created), name
        assert ("edit" in verbs) <= (name in updated), name


def test_the_permission_set_shows_no_field_that_nothing_reads() -> None:
    grants = load(DEFAULT_PACKAGE).permissions
    mapped = {f"{names.object}.{field}" for names in RULES.salesforce.values() for field in names.fields.values()}
    # A billing address is granted whole; a product's family is reached from its lines.
    assert grants.readable - mapped == {"Account.BillingAddress", "Product2.Family", "Event.Stripe_Failure_Key__c"}


def test_the_permission_set_shows_no_object_that_the_rules_do_not_need() -> None:
    """Products are reached from lines, and a product is seen by those only who see a price book."""
    grants = load(DEFAULT_PACKAGE).permissions
    assert set(grants.objects) <= {names.object for names in RULES.salesforce.values()} | {"Product2", "Pricebook2"}
    assert not any("delete" in verbs for verbs in grants.objects.values())


def test_of_a_customer_and_a_product_only_what_the_rules_map_can_be_seen() -> None:
    """Phone numbers and people's addresses are nothing that billing needs."""
    grants = load(DEFAULT_PACKAGE).permissions
    mapped = {f"{names.object}.{field}" for names in RULES.salesforce.values() for field in names.fields.values()}
    of_products = {f"Product2.{field.partition('.')[2]}" for field in RULES.salesforce["line"].fields.values()}
    seen = {grant for grant in grants.readable if grant.split(".")[0] in ("Account", "Contact", "Lead", "Product2")}
    # A billing address is granted whole.
    assert seen <= mapped | of_products | {"Account.BillingAddress"}


def test_a_picklist_of_the_package_has_the_words_that_are_written_and_no_others() -> None:
    """A word too few refuses the write; a word too many is a choice by hand that the next sync takes back."""
    package = load(DEFAULT_PACKAGE)
    checked = 0
    for (kind, name), use in written_fields(RULES).items():
        names = RULES.salesforce[kind]
        declared = package.fields.get(names.object, {}).get(names.fields[name], {})
        if declared.get("type") == "picklist":
            assert set(declared["values"]) == set(use.words), (kind, name)
            checked += 1
    assert checked >= 6


def test_every_rule_has_a_meaning() -> None:
    for rule in RULES.fields:
        assert rule.source in READINGS
        assert rule.canon in CANON
        assert rule.kind in KINDS
        assert rule.why
    assert len({rule.target for rule in RULES.fields}) == len(RULES.fields)


def test_every_reading_has_a_rule() -> None:
    assert set(READINGS) == {rule.source for rule in RULES.fields}


def test_every_rule_that_targets_stripe_is_owned_by_salesforce_and_the_other_way_round() -> None:
    assert all((rule.side == "stripe") == (rule.owner == "salesforce") for rule in RULES.fields)


def test_names_and_addresses_are_personal() -> None:
    personal = {rule.target for rule in RULES.fields if rule.personal}
    assert {"customer.name", "customer.address"} <= personal


def test_every_status_word_is_a_value_of_the_picklists() -> None:
    assert set(MOST_URGENT_FIRST) <= picklist("Account", "Billing_Status__c")
    assert set(MOST_URGENT_FIRST) | {"Needs Attention"} <= picklist("Opportunity", "Billing_Status__c")
    assert picklist("Opportunity", "Activation_Status__c") == {"Pending", "Activated"}


def test_every_interval_is_a_value_of_the_picklist() -> None:
    assert set(RULES.commercial.intervals) == picklist("Opportunity", "Billing_Interval__c")


def test_the_readme_shows_the_shipped_rules() -> None:
    """After a change: `sync-pipeline rules show --markdown`, between the two marks."""
    shown = (ROOT / "README.md").read_text("utf-8").partition("<!-- rules:begin -->\n")[2].partition("\n<!-- rules:end")
    assert shown[0] == as_markdown(RULES)
