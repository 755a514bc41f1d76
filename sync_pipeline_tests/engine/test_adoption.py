"""Stripe customers that were there before the sync: adopted where that is certain, left alone where it is not."""

from __future__ import annotations

from typing import Any

from sync_pipeline.ledger import links
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import (
    at_stripe,
    create,
    edit,
    fault,
    hits,
    mark,
    only,
    records,
    requests_since,
    win,
    writes_since,
)
from sync_pipeline_tests.sandbox_process import SandboxHandle

NAME = "Northwind Analytics Ltd"
VAT = {"tax_id_data": [{"type": "gb_vat", "value": "GB 123 4567 89"}]}


def _customer(sandbox: SandboxHandle, **params: Any) -> str:
    return str(at_stripe(sandbox, "POST", "/v1/customers", **params)["id"])


def _account(sandbox: SandboxHandle) -> str:
    return str(only(sandbox, "Account")["Id"])


def _check_adopted(sync: Installation, customer: str) -> None:
    """The deal is billed to that customer, no other was made, and the customer names the Account."""
    assert sync.rest() < 3
    assert [c["id"] for c in records(sync.sandbox, "customer")] == [customer]
    assert only(sync.sandbox, "subscription")["customer"] == customer
    assert only(sync.sandbox, "Account")["Stripe_Customer_Id__c"] == customer
    assert only(sync.sandbox, "customer")["metadata"]["sf_account_id"] == _account(sync.sandbox)
    assert sync.open_reviews() == {}
    sync.check_books()


def test_the_customer_that_the_account_names_is_adopted(sync: Installation) -> None:
    customer = _customer(sync.sandbox, name="An older name")
    edit(sync.sandbox, "Account", _account(sync.sandbox), Stripe_Customer_Id__c=customer)
    win(sync.sandbox)
    _check_adopted(sync, customer)
    assert only(sync.sandbox, "customer")["name"] == NAME


def test_the_customer_whose_metadata_names_the_account_is_adopted(sync: Installation) -> None:
    customer = _customer(sync.sandbox, name="Another name", metadata={"sf_account_id": _account(sync.sandbox)})
    sync.wait(60)
    win(sync.sandbox)
    _check_adopted(sync, customer)


def test_the_only_customer_with_the_same_name_and_tax_registration_is_adopted(sync: Installation) -> None:
    customer = _customer(sync.sandbox, name=NAME.upper(), **VAT)
    sync.wait(60)
    win(sync.sandbox)
    _check_adopted(sync, customer)


def test_a_customer_made_a_moment_ago_is_found_although_search_lags_behind(sync: Installation) -> None:
    customer = _customer(sync.sandbox, name=NAME, **VAT)
    win(sync.sandbox)
    _check_adopted(sync, customer)


def _check_only_told(sync: Installation, rule: str, *named: str) -> None:
    """However often it is looked at: nothing is written but on the deal, once, and the ledger says what to decide."""
    start = mark(sync.sandbox)
    for _ in range(3):
        sync.drain()
        sync.wait(700)
    assert writes_since(sync.sandbox, start) == ["POST /services/data/{v}/composite"]
    reviews, opportunity = sync.open_reviews(), only(sync.sandbox, "Opportunity")
    assert list(reviews) == [rule]
    assert opportunity["Billing_Message__c"][:200] == f"Not billed: {reviews[rule]}"[:200]
    assert all(each in reviews[rule] for each in named)
    assert sum(report.total.deferred for report in sync.reports) == 0
    sync.check_books()


def test_several_certain_matches_are_a_matter_for_a_person(sync: Installation) -> None:
    one, other = _customer(sync.sandbox, name=NAME, **VAT), _customer(sync.sandbox, name=NAME, **VAT)
    win(sync.sandbox)
    _check_only_told(sync, "customer_candidates", one, other)
    edit(sync.sandbox, "Account", _account(sync.sandbox), Stripe_Customer_Id__c=other)
    sync.rest()
    assert only(sync.sandbox, "subscription")["customer"] == other
    assert sync.open_reviews() == {}


def test_a_namesake_without_the_tax_registration_does_not_stand_in_the_way(sync: Installation) -> None:
    ours, namesake = _customer(sync.sandbox, name=NAME, **VAT), _customer(sync.sandbox, name=NAME)
    win(sync.sandbox)
    sync.rest()
    assert only(sync.sandbox, "subscription")["customer"] == ours
    assert {c["id"]: c["metadata"] for c in records(sync.sandbox, "customer")}[namesake] == {}


def test_the_same_name_alone_is_no_proof(sync: Installation) -> None:
    customer = _customer(sync.sandbox, name=NAME)
    win(sync.sandbox)
    _check_only_told(sync, "customer_candidates", customer)


def test_a_customer_that_belongs_to_another_account_is_not_touched(sync: Installation) -> None:
    other = create(sync.sandbox, "Account", Name="Somebody else")
    customer = _customer(sync.sandbox, name="Somebody else", metadata={"sf_account_id": other})
    edit(sync.sandbox, "Account", records(sync.sandbox, "Account")[0]["Id"], Stripe_Customer_Id__c=customer)
    win(sync.sandbox)
    _check_only_told(sync, "customer_of_another", customer, other)
    assert only(sync.sandbox, "customer")["name"] == "Somebody else"


def test_a_customer_that_another_account_already_has_is_not_touched(sync: Installation) -> None:
    """The ledger knows whose it is even where its metadata was cleared."""
    win(sync.sandbox)
    sync.drain()
    customer = only(sync.sandbox, "customer")["id"]
    first = _account(sync.sandbox)
    thief = create(sync.sandbox, "Account", Name="Thief Ltd")
    start = mark(sync.sandbox)
    edit(sync.sandbox, "Account", first, Stripe_Customer_Id__c=None)
    edit(sync.sandbox, "Account", thief, Stripe_Customer_Id__c=customer)
    at_stripe(sync.sandbox, "POST", f"/v1/customers/{customer}", metadata={"sf_account_id": ""})
    sync.rest()
    assert only(sync.sandbox, "customer")["name"] == NAME
    assert only(sync.sandbox, "customer")["metadata"]["sf_account_id"] == first
    assert set(sync.open_reviews()) & {"link_conflict", "customer_of_another"}
    with sync.ledger.read() as conn:
        assert links.account_of(conn, "stripe", "customer", customer) == first
    assert "Thief" not in str([entry["body"] for entry in requests_since(sync.sandbox, start, "stripe")])
    (row,) = [record for record in records(sync.sandbox, "Account") if record["Id"] == thief]
    assert "MRR__c" not in row
    sync.check_books()


def test_a_deleted_customer_is_never_billed(sync: Installation) -> None:
    customer = _customer(sync.sandbox, name=NAME)
    edit(sync.sandbox, "Account", _account(sync.sandbox), Stripe_Customer_Id__c=customer)
    at_stripe(sync.sandbox, "DELETE", f"/v1/customers/{customer}")
    win(sync.sandbox)
    _check_only_told(sync, "deleted_customer", customer)


def test_a_customer_that_does_not_exist_is_never_replaced_silently(sync: Installation) -> None:
    edit(sync.sandbox, "Account", _account(sync.sandbox), Stripe_Customer_Id__c="cus_fromAnotherStripe")
    win(sync.sandbox)
    _check_only_told(sync, "missing_customer", "cus_fromAnotherStripe")


def test_a_person_can_name_another_customer_after_the_linked_one_was_deleted(sync: Installation) -> None:
    edit(sync.sandbox, "Account", _account(sync.sandbox), Stripe_Customer_Id__c=_customer(sync.sandbox, name=NAME))
    sync.rest()
    at_stripe(sync.sandbox, "DELETE", f"/v1/customers/{only(sync.sandbox, 'Account')['Stripe_Customer_Id__c']}")
    win(sync.sandbox)
    sync.rest()
    assert list(sync.open_reviews()) == ["deleted_customer"]
    successor = _customer(sync.sandbox, name="Northwind, new")
    edit(sync.sandbox, "Account", _account(sync.sandbox), Stripe_Customer_Id__c=successor)
    sync.rest()
    assert only(sync.sandbox, "subscription")["customer"] == successor
    assert sync.open_reviews() == {}
    sync.check_books()


def test_a_cleared_id_of_a_deleted_customer_asks_for_a_new_one(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    old = only(sync.sandbox, "customer")["id"]
    at_stripe(sync.sandbox, "DELETE", f"/v1/customers/{old}")
    sync.wait(60)
    sync.rest()
    assert set(sync.open_reviews()) >= {"deleted_customer"}
    edit(sync.sandbox, "Account", _account(sync.sandbox), Stripe_Customer_Id__c=None)
    sync.rest()
    sync.check_books()
    names = [c["id"] for c in records(sync.sandbox, "customer") if not c.get("deleted")]
    assert old not in names
    assert len(names) <= 1
    assert sync.open_reviews() == {}
    account, churn = only(sync.sandbox, "Account"), only(sync.sandbox, "Churn_Record__c")
    assert (account["MRR__c"], account["Billing_Status__c"], churn["Status__c"]) == (0, "Canceled", "Final")


def test_an_unclear_create_and_another_customer_named_meanwhile_do_not_stop_the_account(sync: Installation) -> None:
    fault(sync.sandbox, "drop_before", side="stripe", method="POST", path="^/v1/customers$")
    fault(sync.sandbox, "stripe_500", side="stripe", method="POST", path="^/v1/customers$", commit=True)
    win(sync.sandbox)
    sync.drain()
    named = _customer(sync.sandbox, name="The right one")
    edit(sync.sandbox, "Account", _account(sync.sandbox), Stripe_Customer_Id__c=named)
    sync.wait(5)
    sync.drain()
    assert hits(sync.sandbox) == 2
    sync.wait(700)
    sync.rest()
    assert only(sync.sandbox, "subscription")["customer"] == named
    sync.check_books()


def test_an_id_that_was_cleared_by_hand_is_asked_about(sync: Installation) -> None:
    win(sync.sandbox)
    sync.drain()
    edit(sync.sandbox, "Account", _account(sync.sandbox), Stripe_Customer_Id__c=None)
    sync.rest()
    assert "account.stripe_customer_id" in sync.open_reviews()
    assert len(records(sync.sandbox, "customer")) == 1
