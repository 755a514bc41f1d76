"""What the pages show, read from the two systems: one function per page, each a dict for its template."""

from __future__ import annotations

from typing import Any

from sync_pipeline.sandbox.desk import Desk, RefusedError, soql_text

Record = dict[str, Any]

ACCOUNT_DETAILS = ("Name", "Tax_Registration__c", "Tax_Registration_Type__c")
ACCOUNT_BILLING = (
    "Stripe_Customer_Id__c",
    "Billing_Status__c",
    "Billing_Plan__c",
    "Seats__c",
    "MRR__c",
    "MRR_At_Risk__c",
    "Lifetime_Value__c",
    "Retention_Status__c",
)
_ADDRESS = ("BillingStreet", "BillingCity", "BillingPostalCode", "BillingCountry")
_OPPORTUNITY = (
    "Id, Name, StageName, IsWon, IsClosed, Amount, CloseDate, AccountId, Account.Name, Billing_Status__c, "
    "Billing_Message__c, Activation_Status__c, First_Payment_At__c, Billing_Interval__c, Term_Months__c, "
    "Service_Start_Date__c, Stripe_Subscription_Id__c, Type"
)
_LINE = "Id, OpportunityId, Product2.Name, Quantity, UnitPrice, TotalPrice, Description, Stripe_Subscription_Item_Id__c"
_TASK = "Id, Subject, Status, Priority, ActivityDate, Description, Owner.Name, WhatId, CreatedDate"


def _money(desk: Desk, fields: str, rest: str) -> list[Record]:
    """Records with the currency that their amounts are in, which only an org of several currencies keeps per record."""
    if desk.multi_currency:
        return desk.query(f"SELECT {fields}, CurrencyIsoCode FROM {rest}")
    return [{**record, "CurrencyIsoCode": desk.currency} for record in desk.query(f"SELECT {fields} FROM {rest}")]


def overview(desk: Desk) -> Record:
    return {
        "opportunities": _money(desk, _OPPORTUNITY, "Opportunity ORDER BY LastModifiedDate DESC LIMIT 8"),
        "tasks": desk.query(f"SELECT {_TASK} FROM Task ORDER BY CreatedDate DESC LIMIT 5"),
        "invoices": _invoices(desk, {}, 8),
        "events": desk.stripe_all("/v1/events", most=10),
    }


def accounts(desk: Desk, name: str | None) -> Record:
    """The first hundred accounts whose name contains `name`, if given."""
    where = f" WHERE Name LIKE {soql_text(f'%{name}%')}" if name else ""
    fields = ", ".join(("Id", "Name", "BillingCountry", *ACCOUNT_BILLING))
    return {"accounts": _money(desk, fields, f"Account{where} ORDER BY Name LIMIT 100"), "name": name or ""}


def account(desk: Desk, account_id: str) -> Record | None:
    """Everything that either system knows of one account; None if there is none."""
    fields = ", ".join(("Id", *ACCOUNT_DETAILS, *ACCOUNT_BILLING, *_ADDRESS, "Customer_Success_Owner__r.Name"))
    found = _money(desk, fields, f"Account WHERE Id = {soql_text(account_id)}")
    if not found:
        return None
    where = f"WHERE AccountId = {soql_text(account_id)}"
    opportunities = _money(desk, _OPPORTUNITY, f"Opportunity {where} ORDER BY CreatedDate LIMIT 50")
    return {
        "account": found[0],
        "address": [found[0][part] for part in _ADDRESS if found[0][part]],
        "opportunities": [deal | {"lines": _lines(desk, deal["Id"])} for deal in opportunities],
        "contracts": desk.query(
            "SELECT Id, ContractNumber, Status, StartDate, EndDate, ContractTerm, Stripe_Subscription_Id__c "
            f"FROM Contract {where} ORDER BY CreatedDate LIMIT 50"
        ),
        "tasks": desk.query(f"SELECT {_TASK} FROM Task {where} ORDER BY CreatedDate DESC LIMIT 20"),
        "details": _details(desk, account_id),
        "customer": _customer_of(desk, found[0]),
    }


def deals(desk: Desk) -> Record:
    return {"opportunities": _money(desk, _OPPORTUNITY, "Opportunity ORDER BY IsClosed, CloseDate DESC LIMIT 100")}


def tasks(desk: Desk) -> Record:
    return {"tasks": desk.query(f"SELECT {_TASK} FROM Task ORDER BY CreatedDate DESC LIMIT 100")}


def customers(desk: Desk) -> Record:
    return {"customers": desk.stripe_all("/v1/customers", most=100)}


def customer(desk: Desk, customer_id: str) -> Record | None:
    """A customer with subscriptions, invoices and the events about them; None if there is none, or no longer."""
    try:
        found = desk.stripe("GET", f"/v1/customers/{customer_id}", {"expand": ["tax_ids"]})
    except RefusedError:
        return None
    if found.get("deleted"):
        return None
    subscriptions = desk.stripe_all("/v1/subscriptions", {"customer": customer_id, "status": "all"}, 20)
    names: dict[str, str] = {}
    for subscription in subscriptions:
        for item in subscription["items"]["data"]:
            product = item["price"]["product"]
            if product not in names:
                names[product] = desk.stripe("GET", f"/v1/products/{product}").get("name", product)
    return {
        "customer": found,
        "subscriptions": subscriptions,
        "products": names,
        "invoices": _invoices(desk, {"customer": customer_id}, 50),
        "events": [e for e in desk.stripe_all("/v1/events", most=300) if _is_about(e["data"]["object"], customer_id)][
            :20
        ],
    }


def _is_about(row: Record, customer_id: str) -> bool:
    return customer_id in (row.get("customer"), row.get("id"))


def invoice(desk: Desk, invoice_id: str) -> Record | None:
    """An invoice with its lines, the payments towards it and the notes that credit it; None if there is none."""
    try:
        found = desk.stripe("GET", f"/v1/invoices/{invoice_id}", {"expand": ["customer"]})
    except RefusedError:
        return None
    return {
        "invoice": found,
        "lines": desk.stripe_all(f"/v1/invoices/{invoice_id}/lines", most=250),
        "payments": desk.stripe_all(
            "/v1/invoice_payments", {"invoice": invoice_id, "expand": ["data.payment.payment_intent"]}, 50
        ),
        "notes": desk.stripe_all("/v1/credit_notes", {"invoice": invoice_id}, 50),
    }


def invoices(desk: Desk) -> Record:
    return {"invoices": _invoices(desk, {}, 100)}


def events(desk: Desk) -> Record:
    return {"events": desk.stripe_all("/v1/events", most=100)}


def _invoices(desk: Desk, params: Record, most: int) -> list[Record]:
    return desk.stripe_all("/v1/invoices", {**params, "expand": ["data.customer"]}, most)


def _lines(desk: Desk, opportunity_id: str) -> list[Record]:
    where = f"WHERE OpportunityId = {soql_text(opportunity_id)}"
    return desk.query(f"SELECT {_LINE} FROM OpportunityLineItem {where} ORDER BY CreatedDate, Id")


def _details(desk: Desk, account_id: str) -> list[Record]:
    """What the package's own objects say of the account: churn, payment attempts and the like, newest first."""
    found = []
    for kind, parent in desk.details_of("Account"):
        shown = [each for each in kind.fields.values() if each.custom and each.type != "reference"]
        fields = ", ".join(["Id", *(each.name for each in shown)])
        where = f"WHERE {parent.name} = {soql_text(account_id)} ORDER BY CreatedDate DESC LIMIT 20"
        rows = [
            [(each.label, row[each.name]) for each in shown if row[each.name] is not None]
            for row in desk.query(f"SELECT {fields} FROM {kind.name} {where}")
        ]
        if rows:
            found.append({"title": kind.plural, "rows": rows})
    return found


def _customer_of(desk: Desk, row: Record) -> Record | None:
    """The Stripe side of an account: by the id that the account carries, else by what customers say of themselves."""
    if row["Stripe_Customer_Id__c"]:
        return customer(desk, row["Stripe_Customer_Id__c"])
    named = desk.stripe("GET", "/v1/customers/search", {"query": f"metadata['sf_account_id']:'{row['Id']}'"})["data"]
    return customer(desk, named[0]["id"]) if named else None
