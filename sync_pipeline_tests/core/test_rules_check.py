"""The rules against an org: what the org lacks or forbids is one fault each, at its place, with the nearest name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from sync_pipeline.core.org_schema import OrgField, OrgObject, OrgRecordType, OrgSchema, OrgStage
from sync_pipeline.core.plan import plan
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.rules_check import Fault, expected_types, faults, parents
from sync_pipeline.core.world import World
from sync_pipeline.core.written import ONCE_ONLY, WORDS, Use, written_fields
from sync_pipeline_tests.core.making import PERSONAL_KEY, RULES
from sync_pipeline_tests.core.worlds import worlds

STAGES = (
    OrgStage("Prospecting", False, False),
    OrgStage("Closed Won", True, True),
    OrgStage("Closed Lost", True, False),
)


def fitting_org() -> OrgSchema:
    """An org that has exactly what the shipped rules name, with the right types, all of it writable."""
    objects: dict[str, OrgObject] = {}
    uses = written_fields(RULES)
    for kind, names in RULES.salesforce.items():
        fields: dict[str, OrgField] = {}
        for name, api_name in names.fields.items():
            kinds = expected_types(kind, name)
            wanted = next(each for each in ("string", "currency", "boolean", "datetime", "date") if each in kinds)
            first, _, last = api_name.partition(".")
            if last:
                parent = "User" if "Owner" in first else first
                known = objects.get(parent) or OrgObject(parent)
                objects[parent] = replace(known, fields={**known.fields, last: OrgField(last, wanted)})
                fields[f"of {first}"] = OrgField(f"of {first}", "reference", relationship=first, refers_to=(parent,))
                continue
            key = name in ONCE_ONLY.get(kind, ())
            words = uses[kind, name].words if (kind, name) in uses else ()
            choices = tuple(RULES.commercial.intervals) if name == "billing_interval" else words
            fields[api_name] = OrgField(
                api_name,
                wanted,
                external_id=key,
                unique=key,
                case_sensitive=key,
                restricted=bool(choices),
                choices=choices,
            )
        types = {"Renewal": OrgRecordType("012A"), "New_Business": OrgRecordType("012B", usable=False)}
        own = types if kind == "opportunity" else {}
        objects[names.object] = OrgObject(names.object, fields=fields, record_types=own)
    return OrgSchema(objects, frozenset(objects), {stage.name: stage for stage in STAGES})


def with_field(schema: OrgSchema, kind: str, name: str, **changes: Any) -> OrgSchema:
    described = schema.objects[kind]
    changed = replace(described.fields[name], **changes)
    return with_object(schema, kind, fields={**described.fields, name: changed})


def with_object(schema: OrgSchema, kind: str, **changes: Any) -> OrgSchema:
    return replace(schema, objects={**schema.objects, kind: replace(schema.objects[kind], **changes)})


def without_field(schema: OrgSchema, kind: str, name: str) -> OrgSchema:
    left = {n: f for n, f in schema.objects[kind].fields.items() if n != name}
    return with_object(schema, kind, fields=left)


def mapped(kind: str, **names: str) -> Rules:
    entry = RULES.salesforce[kind]
    changed = replace(entry, fields={**entry.fields, **names})
    return replace(RULES, salesforce={**RULES.salesforce, kind: changed})


def settings(**values: Any) -> Rules:
    return replace(RULES, commercial=replace(RULES.commercial, **values))


def test_an_org_with_everything_has_no_faults() -> None:
    assert faults(RULES, fitting_org()) == []


def test_an_org_with_one_currency_only_has_no_currency_field() -> None:
    schema = fitting_org()
    for kind in ("Account", "Opportunity"):
        schema = without_field(schema, kind, "CurrencyIsoCode")
    assert faults(RULES, schema) == []


def test_an_org_without_record_types_has_no_field_for_them() -> None:
    schema = without_field(without_field(fitting_org(), "Opportunity", "RecordTypeId"), "Opportunity", "of RecordType")
    assert faults(RULES, with_object(schema, "Opportunity", record_types={})) == []


def test_an_org_whose_lines_have_no_discount() -> None:
    assert faults(RULES, without_field(fitting_org(), "OpportunityLineItem", "Discount")) == []


@pytest.mark.parametrize(
    ("rules", "part", "message"),
    [
        (mapped("account", mrr="MRR_c"), ("salesforce", "account", "fields", "mrr"), "did you mean MRR__c?"),
        (mapped("account", mrr="mrr__C"), ("salesforce", "account", "fields", "mrr"), "did you mean MRR__c?"),
        (mapped("line", product_name="Product.Name"), ("salesforce", "line", "fields", "product_name"), "Product2?"),
        (mapped("line", product_name="Product2.Nam"), ("salesforce", "line", "fields", "product_name"), "Name?"),
        (
            mapped("account", seats="Rating__c"),
            ("salesforce", "account", "fields", "seats"),
            "deploy salesforce_package",
        ),
    ],
)
def test_a_name_that_the_org_does_not_have(rules: Rules, part: tuple[str, ...], message: str) -> None:
    (fault,) = faults(rules, fitting_org())
    assert (fault.part, fault.fatal) == (part, True)
    assert message in fault.message


def test_an_object_that_the_org_does_not_have_is_one_fault_with_the_nearest_name() -> None:
    entry = replace(RULES.salesforce["contract"], object="Contracts")
    rules = replace(RULES, salesforce={**RULES.salesforce, "contract": entry})
    assert faults(rules, fitting_org()) == [
        Fault(("salesforce", "contract", "object"), "the org has no object Contracts; did you mean Contract?", True)
    ]


@pytest.mark.parametrize(
    ("kind", "name", "wrong", "needs"),
    [
        ("account", "mrr", "string", "currency, double, int, percent"),
        ("account", "name", "double", "a text"),
        ("opportunity", "close_date", "datetime", "date"),
        ("opportunity", "first_payment_at", "date", "datetime"),
        ("opportunity", "is_won", "string", "boolean"),
        ("task", "due_date", "datetime", "date"),
    ],
)
def test_a_field_of_another_type(kind: str, name: str, wrong: str, needs: str) -> None:
    names = RULES.salesforce[kind]
    schema = with_field(fitting_org(), names.object, names.fields[name], type=wrong)
    assert faults(RULES, schema) == [
        Fault(
            ("salesforce", kind, "fields", name),
            f"{names.object}.{names.fields[name]} is of type {wrong}, {name} needs {needs}",
            True,
        )
    ]


@pytest.mark.parametrize("lost", ["external_id", "unique", "case_sensitive"])
@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, keys in sorted(ONCE_ONLY.items()) for key in keys])
def test_a_key_that_would_let_a_record_be_made_twice_stops_everything(kind: str, key: str, lost: str) -> None:
    names = RULES.salesforce[kind]
    schema = with_field(fitting_org(), names.object, names.fields[key], **{lost: False})
    (fault,) = faults(RULES, schema)
    assert fault.fatal
    assert "made twice" in fault.message


def test_a_field_that_may_not_be_written_stops_nothing_else() -> None:
    schema = with_field(fitting_org(), "Account", "MRR__c", updateable=False)
    assert [(f.part, f.fatal) for f in faults(RULES, schema)] == [(("salesforce", "account", "fields", "mrr"), False)]
    assert faults(RULES, with_field(fitting_org(), "Account", "Name", updateable=False, createable=False)) == []


def test_a_field_that_is_only_set_at_creation_need_not_be_editable() -> None:
    schema = with_field(fitting_org(), "Opportunity", "Name", updateable=False)
    assert faults(RULES, schema) == []
    schema = with_field(fitting_org(), "Opportunity", "Name", createable=False)
    assert [fault.part[-1] for fault in faults(RULES, schema)] == ["name"]


def test_an_object_that_may_not_be_created_or_edited_is_one_fault() -> None:
    schema = with_object(fitting_org(), "Churn_Record__c", createable=False, updateable=False)
    assert [fault.part for fault in faults(RULES, schema)] == [("salesforce", "churn_record", "object")] * 2
    assert faults(RULES, with_object(fitting_org(), "Stripe_Payment_Attempt__c", updateable=False)) == []


def test_a_word_that_a_picklist_does_not_have() -> None:
    words = tuple(word for word in written_fields(RULES)["account", "retention_status"].words if word != "Won Back")
    schema = with_field(fitting_org(), "Account", "Retention_Status__c", choices=(*words, "Won back"))
    (fault,) = faults(RULES, schema)
    assert fault.part == ("salesforce", "account", "fields", "retention_status")
    assert "no value 'Won Back'; did you mean Won back?" in fault.message
    # A picklist that is not restricted takes any word.
    assert faults(RULES, with_field(schema, "Account", "Retention_Status__c", restricted=False)) == []


@pytest.mark.parametrize(
    ("rules", "setting", "message"),
    [
        (settings(renewal_stage="Prospectng"), "renewal_stage", "did you mean Prospecting?"),
        (settings(renewal_record_type="Renewals"), "renewal_record_type", "did you mean Renewal?"),
        (settings(renewal_record_type="Master"), "renewal_record_type", "has no record type 'Master'"),
        (
            settings(renewal_record_type="New_Business"),
            "renewal_record_type",
            "assign it to that user in a permission set",
        ),
        (settings(deal_record_types=frozenset({"NewBusiness"})), "deal_record_types", "did you mean New_Business?"),
        (settings(amendment_record_types=frozenset({"Addon"})), "amendment_record_types", "no record type 'Addon'"),
        (
            settings(renewal_stage="Closed Won"),
            "renewal_stage",
            "'Closed Won' is not open in this org; open stages: Pr",
        ),
        (settings(won_stage="Closed Lost"), "won_stage", "won stages: Closed Won"),
        (settings(lost_stage="Closed Won"), "lost_stage", "lost stages: Closed Lost"),
    ],
)
def test_a_stage_or_record_type_that_is_not_there_or_not_fit_for_its_use(
    rules: Rules, setting: str, message: str
) -> None:
    (fault,) = faults(rules, fitting_org())
    assert (fault.part, fault.fatal) == (("commercial", setting), False)
    assert message in fault.message


def test_an_interval_that_no_deal_can_have() -> None:
    of_lines, of_deals = faults(settings(intervals={"Annual": ("year", 1), "Monthley": ("month", 1)}), fitting_org())
    assert of_deals.part == ("commercial", "intervals", "Monthley")
    assert "did you mean Monthly?" in of_deals.message
    assert of_lines.part == ("salesforce", "line", "fields", "billing_interval")
    assert "did you mean Monthly?" in of_lines.message


def test_the_objects_that_paths_lead_to_are_asked_for_once() -> None:
    schema = fitting_org()
    mapped_only = {names.object: schema.objects[names.object] for names in RULES.salesforce.values()}
    assert parents(RULES, replace(schema, objects=mapped_only)) == {"User", "Product2", "RecordType"}
    assert parents(RULES, schema) == set()


@given(worlds())
def test_every_write_of_the_planner_is_one_that_the_org_was_checked_for(of: World) -> None:
    kinds = {entry.object: kind for kind, entry in RULES.salesforce.items()}
    own_name = {(kind, api): own for kind, entry in RULES.salesforce.items() for own, api in entry.fields.items()}
    uses = written_fields(RULES)
    for command in plan(of, RULES, PERSONAL_KEY).commands:
        body = command.body
        if command.action == "salesforce.once":
            parts = [(part["object"], part["fields"], "created") for part in (body["marker"], body["record"])]
        elif command.action == "salesforce.upsert":
            parts = [(body["object"], {**body["fields"], body["external_field"]: body["external_id"]}, "created")]
        elif command.action == "salesforce.update":
            parts = [(body["object"], body["fields"], "updated")]
        else:
            continue
        for sobject, fields, occasion in parts:
            for api_name, value in fields.items():
                field = (kinds[sobject], own_name[kinds[sobject], api_name])
                use = uses.get(field, Use())
                assert getattr(use, occasion), f"{'.'.join(field)} is not declared as {occasion} in core/written.py"
                assert not use.words or value is None or value in use.words


@pytest.mark.parametrize("field", sorted(WORDS))
def test_words_are_declared_of_fields_that_exist_and_are_written(field: tuple[str, str]) -> None:
    assert field[1] in RULES.salesforce[field[0]].fields
    assert field in written_fields(RULES)
