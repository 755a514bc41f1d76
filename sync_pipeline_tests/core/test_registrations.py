"""Tax registrations that come later, are changed, taken away or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from sync_pipeline.core.commands import Agreement, Command, Entry, Review
from sync_pipeline.core.fields import keyed_hash
from sync_pipeline.core.foresight import imagine
from sync_pipeline.core.observation import Present
from sync_pipeline.core.registrations import RULE, keep_registrations
from sync_pipeline.core.world import Billing, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    PERSONAL_KEY,
    RULES,
    account,
    customer,
    opportunity,
    story_lines,
    world,
)
from sync_pipeline_tests.core.two_systems import TwoSystems

OWN, OLD = "gb_vat:GB123456789", "gb_vat:GB999999973"
NO_BASE: dict[tuple[str, str], str] = {}


def remembered(registration: str) -> dict[tuple[str, str], str]:
    return {(CUSTOMER, RULE): keyed_hash(registration, PERSONAL_KEY)}


def seen(*tax_ids: str, base: dict[tuple[str, str], str] = NO_BASE, intent: str | None = "cus:1", **of: Any) -> World:
    names = tuple(f"txi_{number}" for number, _ in enumerate(tax_ids, start=1))
    return world(
        account=Present(account(**of)),
        customer=Present(customer(intent=intent, tax_ids=tax_ids, tax_id_names=names)),
        links=(Link("customer", ACCOUNT, CUSTOMER),),
        billing=Present(Billing()),
        base=base,
    )


def kept(of: World, reaction: Literal["replace", "review"] = "replace") -> list[Entry]:
    rules = replace(RULES, commercial=replace(RULES.commercial, changed_registrations=reaction))
    return list(keep_registrations(of, rules, PERSONAL_KEY))


def test_one_that_the_customer_has_is_agreed_on_however_it_is_written() -> None:
    agreed = [Agreement(CUSTOMER, RULE, keyed_hash(OWN, PERSONAL_KEY))]
    assert kept(seen(OWN)) == agreed
    assert kept(seen(OWN, tax_registration="gb 123 456 789")) == agreed


def test_one_that_comes_after_the_customer_is_added() -> None:
    (entry,) = kept(seen())
    assert isinstance(entry, Command)
    assert (entry.action, entry.body["params"]) == (
        "stripe.create",
        {"type": "gb_vat", "value": "GB123456789", "owner": {"type": "customer", "customer": CUSTOMER}},
    )
    assert "123456789" not in entry.target


def test_a_changed_one_is_made_before_the_old_one_is_deleted_and_no_other_is_touched() -> None:
    before = seen(OLD, "eu_vat:DE123456789", base=remembered(OLD))
    (create,) = kept(before)
    assert isinstance(create, Command)
    between, is_whole = imagine(before, [create], RULES, lambda _: Billing())
    (delete,) = kept(between)
    assert isinstance(delete, Command)
    assert (delete.action, delete.body) == ("stripe.delete", {"object": "tax_id", "id": "txi_1", "params": {}})
    after, also_whole = imagine(between, [delete], RULES, lambda _: Billing())
    assert is_whole
    assert also_whole
    assert [type(entry) for entry in kept(after)] == [Agreement]
    shown = after.customers[CUSTOMER]
    assert isinstance(shown, Present)
    assert sorted(shown.value.tax_ids) == ["eu_vat:DE123456789", OWN]


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (seen(base=remembered(OWN)), "was taken off cus_northwind at Stripe"),
        (seen(OLD), "has another tax id"),
        (seen(OLD, base=remembered(OLD), tax_registration=None), "the Account has no tax registration"),
        (
            seen(tax_registration="X1", tax_registration_type=None, billing_country=None),
            "which tax id its registration is",
        ),
        (seen(tax_registration_type="gb-vat"), "'gb-vat' is no type of tax id that Stripe takes; did you mean gb_vat?"),
        (seen(OWN, billing_country="Ruritania"), "the billing country is not known"),
    ],
)
def test_what_no_rule_decides_is_told_and_nothing_is_written(of: World, told: str) -> None:
    entries = kept(of)
    assert not any(isinstance(entry, Command) for entry in entries)
    assert [told in entry.detail for entry in entries if isinstance(entry, Review)] == [True]


def test_by_rule_a_changed_one_is_told() -> None:
    (entry,) = kept(seen(OLD, base=remembered(OLD)), "review")
    assert isinstance(entry, Review)


def test_a_refused_one_is_told_and_stays_planned_until_it_is_corrected() -> None:
    before = seen()
    (create,) = kept(before)
    assert isinstance(create, Command)
    refused = replace(before, untaxed=frozenset({create.target}))
    assert [type(entry) for entry in kept(refused)] == [Command, Review]
    corrected = replace(refused, account=Present(account(tax_registration="GB999999973")))
    (other,) = kept(corrected)
    assert isinstance(other, Command)
    assert other.key != create.key


def test_customers_that_we_did_not_make_are_left_alone() -> None:
    assert kept(seen(intent=None)) == []
    assert kept(seen(tax_registration=None)) == []


def test_both_systems_come_to_rest_with_the_new_one() -> None:
    both = TwoSystems(RULES)
    both.put(account(), opportunity(), *story_lines())
    both.settle()
    (made,) = both.customers.values()
    assert made.tax_ids == (OWN,)
    both.edit(ACCOUNT, tax_registration="GB999999973")
    both.settle()
    (changed,) = both.customers.values()
    assert changed.tax_ids == (OLD,)
