"""What Opportunity, its products and Contract do by themselves (facts: salesforce.md 6.1 to 6.6)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simple_salesforce.exceptions import SalesforceMalformedRequest

from sync_pipeline_tests.sandbox.salesforce.served import START, Org, Server, errors, new_org


class Shop:
    """An org with one product in the standard price book and one open deal."""

    def __init__(self, org: Org) -> None:
        self.org = org
        self.book = org.query("SELECT Id FROM Pricebook2 WHERE IsStandard = true")[0]["Id"]
        self.product = org.person("Product2", Name="Base", ProductCode="BASE", IsActive=True)
        self.entry = org.person(
            "PricebookEntry", Product2Id=self.product, Pricebook2Id=self.book, UnitPrice=100, IsActive=True
        )
        self.deal = org.person("Opportunity", Name="Deal", StageName="Prospecting", CloseDate="2026-10-01")

    def line(self, **fields: Any) -> str:
        body = {"OpportunityId": self.deal, "PricebookEntryId": self.entry, "Quantity": 1} | fields
        return str(self.org.sf.OpportunityLineItem.create(body)["id"])

    def opportunity(self) -> dict[str, Any]:
        return dict(self.org.sf.Opportunity.get(self.deal))

    def refused(self, kind: str, record_id: str | None, body: dict[str, Any]) -> str:
        api = getattr(self.org.sf, kind)
        with pytest.raises(SalesforceMalformedRequest) as caught:
            api.update(record_id, body) if record_id else api.create(body)
        return str(errors(caught.value)[0]["errorCode"])


@pytest.fixture
def shop(org: Org) -> Shop:
    return Shop(org)


def test_the_stage_decides(shop: Shop) -> None:
    """6.2: IsClosed, IsWon, Probability and both forecast categories follow the stage; a probability may be set."""
    keys = ("IsClosed", "IsWon", "Probability", "ForecastCategory", "ForecastCategoryName")
    assert [shop.opportunity()[k] for k in keys] == [False, False, 10.0, "Pipeline", "Pipeline"]
    shop.org.sf.Opportunity.update(shop.deal, {"StageName": "Closed Won", "Amount": 200})
    assert [shop.opportunity()[k] for k in keys] == [True, True, 100.0, "Closed", "Closed"]
    shop.org.sf.Opportunity.update(shop.deal, {"StageName": "Negotiation/Review", "Probability": 25})
    assert [shop.opportunity()[k] for k in keys] == [False, False, 25.0, "Pipeline", "Pipeline"]
    assert shop.opportunity()["ExpectedRevenue"] == 50.0
    for name in ("IsWon", "IsClosed", "ForecastCategory", "ExpectedRevenue"):
        assert shop.refused("Opportunity", shop.deal, {name: True}) == "INVALID_FIELD_FOR_INSERT_UPDATE"


def test_amount_is_ignored_in_silence_once_there_are_products(shop: Shop) -> None:
    """6.2: 204, other fields saved, Amount and Quantity unchanged."""
    shop.org.sf.Opportunity.update(shop.deal, {"Amount": 5})
    assert shop.opportunity()["Amount"] == 5.0
    shop.line(Quantity=3, UnitPrice=12.5)
    assert (
        shop.org.sf.Opportunity.update(shop.deal, {"Amount": 5, "TotalOpportunityQuantity": 9, "NextStep": "x"}) == 204
    )
    deal = shop.opportunity()
    assert (deal["Amount"], deal["TotalOpportunityQuantity"], deal["NextStep"]) == (37.5, 3.0, "x")
    assert (deal["HasOpportunityLineItem"], deal["Pricebook2Id"], deal["ExpectedRevenue"]) == (True, shop.book, 3.75)


def test_roll_ups_move_the_parents_stamp(shop: Shop) -> None:
    """9.5: the parent's SystemModstamp moves with its lines."""
    shop.org.clock.move_to(START + 60)
    line = shop.line(UnitPrice=10)
    assert shop.opportunity()["SystemModstamp"] == "2026-09-21T14:14:20.000+0000"
    shop.org.clock.move_to(START + 120)
    shop.org.sf.OpportunityLineItem.delete(line)
    deal = shop.opportunity()
    assert (deal["SystemModstamp"], deal["HasOpportunityLineItem"]) == ("2026-09-21T14:15:20.000+0000", False)


def test_unit_price_or_total_price(shop: Shop) -> None:
    """6.3: exactly one of the two; what the product is shows on the line."""
    assert (
        shop.refused(
            "OpportunityLineItem",
            None,
            {
                "OpportunityId": shop.deal,
                "PricebookEntryId": shop.entry,
                "Quantity": 1,
                "UnitPrice": 1,
                "TotalPrice": 1,
            },
        )
        == "FIELD_INTEGRITY_EXCEPTION"
    )
    assert (
        shop.refused(
            "OpportunityLineItem",
            None,
            {
                "OpportunityId": shop.deal,
                "PricebookEntryId": shop.entry,
                "Quantity": 1,
            },
        )
        == "REQUIRED_FIELD_MISSING"
    )
    line = shop.org.sf.OpportunityLineItem.get(shop.line(Quantity=4, TotalPrice=100, Discount=20))
    assert (line["UnitPrice"], line["TotalPrice"], line["ListPrice"]) == (31.25, 100.0, 100.0)
    assert (line["Product2Id"], line["ProductCode"], line["Name"]) == (shop.product, "BASE", "Deal Base")


def test_quantity_alone_keeps_the_total(shop: Shop) -> None:
    """6.3: the trap of seat changes."""
    line = shop.line(Quantity=10, UnitPrice=5)
    update = shop.org.sf.OpportunityLineItem.update
    get = shop.org.sf.OpportunityLineItem.get
    update(line, {"Quantity": 20})
    assert (get(line)["UnitPrice"], get(line)["TotalPrice"]) == (2.5, 50.0)
    update(line, {"Quantity": 20, "UnitPrice": 5})
    assert get(line)["TotalPrice"] == 100.0
    update(line, {"Discount": 10})
    assert (get(line)["UnitPrice"], get(line)["TotalPrice"]) == (5.0, 90.0)
    assert shop.refused("OpportunityLineItem", line, {"Discount": 5, "Quantity": 2}) == "FIELD_INTEGRITY_EXCEPTION"
    update(line, {"Discount": 5, "Quantity": 2, "UnitPrice": 10})
    assert (get(line)["TotalPrice"], shop.opportunity()["Amount"]) == (19.0, 19.0)


def test_product_and_deal_of_a_line_are_fixed(shop: Shop) -> None:
    """6.3: OpportunityId and PricebookEntryId are create-only."""
    line = shop.line(UnitPrice=1)
    for name, value in (("PricebookEntryId", shop.entry), ("OpportunityId", shop.deal), ("Product2Id", shop.product)):
        assert shop.refused("OpportunityLineItem", line, {name: value}) == "INVALID_FIELD_FOR_INSERT_UPDATE"


def test_price_book_rules(shop: Shop) -> None:
    """6.2, 6.4: a standard price first; one entry per book; the deal's book is fixed while it has products."""
    other = shop.org.person("Pricebook2", Name="Partners", IsActive=True)
    spare = shop.org.person("Product2", Name="Spare", IsActive=True)
    entry = {"Pricebook2Id": other, "UnitPrice": 90, "IsActive": True}
    assert shop.refused("PricebookEntry", None, entry | {"Product2Id": spare}) == "STANDARD_PRICE_NOT_DEFINED"
    partner = shop.org.sf.PricebookEntry.create(entry | {"Product2Id": shop.product})["id"]
    assert shop.refused("PricebookEntry", None, entry | {"Product2Id": shop.product}) == "DUPLICATE_VALUE"
    shop.line(UnitPrice=1)
    assert shop.refused("Opportunity", shop.deal, {"Pricebook2Id": other}) == "FIELD_INTEGRITY_EXCEPTION"
    assert (
        shop.refused(
            "OpportunityLineItem",
            None,
            {
                "OpportunityId": shop.deal,
                "PricebookEntryId": partner,
                "Quantity": 1,
                "UnitPrice": 1,
            },
        )
        == "FIELD_INTEGRITY_EXCEPTION"
    )
    shop.org.sf.PricebookEntry.update(shop.entry, {"IsActive": False})
    assert (
        shop.refused(
            "OpportunityLineItem",
            None,
            {
                "OpportunityId": shop.deal,
                "PricebookEntryId": shop.entry,
                "Quantity": 1,
                "UnitPrice": 1,
            },
        )
        == "FIELD_INTEGRITY_EXCEPTION"
    )


def test_use_standard_price(shop: Shop) -> None:
    """6.4: with UseStandardPrice no UnitPrice may be sent; it is that of the standard book."""
    other = shop.org.person("Pricebook2", Name="Partners", IsActive=True)
    entry = {"Pricebook2Id": other, "Product2Id": shop.product, "UseStandardPrice": True, "IsActive": True}
    assert shop.refused("PricebookEntry", None, entry | {"UnitPrice": 5}) == "FIELD_INTEGRITY_EXCEPTION"
    made = shop.org.sf.PricebookEntry.create(entry)["id"]
    assert shop.org.sf.PricebookEntry.get(made)["UnitPrice"] == 100.0


def test_deleted_lines_skip_the_recycle_bin(shop: Shop) -> None:
    """2.4: queryAll never shows them."""
    line = shop.line(UnitPrice=1)
    shop.org.sf.OpportunityLineItem.delete(line)
    assert shop.org.sf.query("SELECT Id FROM OpportunityLineItem", include_deleted=True)["totalSize"] == 0


def test_contract_lifecycle(org: Org) -> None:
    """6.5: a draft first; Status is the only field of the activating update; activated is for good."""
    account = org.person("Account", Name="A")
    body = {"AccountId": account, "StartDate": "2026-01-31", "ContractTerm": 1}

    def refused(record_id: str | None, fields: dict[str, Any]) -> str:
        with pytest.raises(SalesforceMalformedRequest) as caught:
            org.sf.Contract.update(record_id, fields) if record_id else org.sf.Contract.create(fields)
        return str(errors(caught.value)[0]["errorCode"])

    assert refused(None, body | {"Status": "Activated"}) == "FAILED_ACTIVATION"
    contract = org.sf.Contract.create(body)["id"]
    row = org.sf.Contract.get(contract)
    assert (row["Status"], row["StatusCode"], row["EndDate"], row["ContractNumber"]) == (
        "Draft",
        "Draft",
        "2026-02-27",
        "00000001",
    )
    assert refused(contract, {"EndDate": "2027-01-01"}) == "INVALID_FIELD_FOR_INSERT_UPDATE"
    assert refused(contract, {"Status": "Activated", "ContractTerm": 12}) == "FAILED_ACTIVATION"
    org.sf.Contract.update(contract, {"Status": "Activated"})
    row = org.sf.Contract.get(contract)
    assert (row["StatusCode"], row["ActivatedDate"]) == ("Activated", "2026-09-21T14:13:20.000+0000")
    assert row["ActivatedById"] == row["LastModifiedById"]
    assert refused(contract, {"Status": "Draft"}) == "FAILED_ACTIVATION"
    assert org.sf.Contract.update(contract, {"Cancel_Requested_On__c": "2026-09-30"}) == 204
    assert org.call("DELETE", f"sobjects/Contract/{contract}").json()[0]["errorCode"] == "DELETE_FAILED"


def test_contract_ends_the_day_before_the_anniversary(org: Org) -> None:
    """6.5: EndDate is StartDate and ContractTerm, less a day."""
    account = org.person("Account", Name="A")
    contract = org.sf.Contract.create({"AccountId": account, "StartDate": "2026-03-01", "ContractTerm": 12})["id"]
    assert org.sf.Contract.get(contract)["EndDate"] == "2027-02-28"


def test_task_derives_its_account_and_state(org: Org) -> None:
    """6.6: defaults, AccountId from WhatId, IsClosed from Status."""
    account = org.person("Account", Name="A")
    deal = org.person("Opportunity", Name="D", AccountId=account, StageName="Prospecting", CloseDate="2026-10-01")
    task = org.sf.Task.create({"Subject": "Call", "WhatId": deal, "ActivityDate": "2026-10-02"})["id"]
    row = org.query("SELECT Status, Priority, IsClosed, AccountId, What.Name, What.Type, ActivityDate FROM Task")
    assert row == [
        {
            "Status": "Not Started",
            "Priority": "Normal",
            "IsClosed": False,
            "AccountId": account,
            "What": {"Name": "D", "Type": "Opportunity"},
            "ActivityDate": "2026-10-02",
        }
    ]
    org.sf.Task.update(task, {"Status": "Completed"})
    assert org.sf.Task.get(task)["IsClosed"]


def test_owners_must_be_active(org: Org) -> None:
    """6.2, 6.6: INACTIVE_OWNER_OR_USER on a new owner; records of someone who left can still be changed."""
    sales = org.query("SELECT Id FROM User WHERE Name = 'Sam Sales'")[0]["Id"]
    account = org.person("Account", Name="A", OwnerId=sales)
    org.person("User", sales, IsActive=False)
    with pytest.raises(SalesforceMalformedRequest, match="INACTIVE_OWNER_OR_USER"):
        org.sf.Account.create({"Name": "B", "OwnerId": sales})
    assert org.sf.Account.update(account, {"Phone": "1"}) == 204


def test_one_primary_contact(org: Org) -> None:
    """6.2, 6.6: one primary contact; ContactId follows it."""
    contacts = [org.person("Contact", LastName=n) for n in "AB"]
    deal = org.person("Opportunity", Name="D", StageName="Prospecting", CloseDate="2026-10-01", ContactId=contacts[0])
    org.sf.OpportunityContactRole.create({"OpportunityId": deal, "ContactId": contacts[1], "IsPrimary": True})
    primary = org.query("SELECT ContactId FROM OpportunityContactRole WHERE IsPrimary = true")
    assert primary == [{"ContactId": contacts[1]}]
    assert org.sf.Opportunity.get(deal)["ContactId"] == contacts[1]


cents = st.integers(-10_000, 10_000_000).map(lambda n: float(Decimal(n) / 100))


@given(st.lists(st.tuples(st.integers(1, 500), cents, st.sampled_from([0, 5, 12.5, 100])), min_size=1, max_size=4))
def test_amount_is_the_sum_of_its_lines(server: Server, lines: list[tuple[int, float, float]]) -> None:
    """6.3: TotalPrice = (UnitPrice - UnitPrice * Discount) * Quantity, Amount = the sum, exactly."""
    shop = Shop(new_org(server))
    expected = Decimal(0)
    for quantity, price, discount in lines:
        shop.line(Quantity=quantity, UnitPrice=price, Discount=discount)
        expected += Decimal(repr(price)) * (1 - Decimal(repr(discount)) / 100) * quantity
    assert shop.opportunity()["Amount"] == float(expected)
