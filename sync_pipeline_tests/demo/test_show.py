"""The tables of what each system shows."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from sync_pipeline.demo.show import show_state


def test_what_was_deleted_is_not_shown_as_if_it_were_there() -> None:
    truth: dict[str, Any] = {
        "salesforce": {
            "Account": [
                {"Name": "Merged away", "IsDeleted": True, "MRR__c": 1},
                {"Name": "Left", "IsDeleted": False, "MRR__c": 4750},
            ],
            "OpportunityLineItem": [
                {"IsDeleted": True, "Stripe_Subscription_Item_Id__c": None},
                {"IsDeleted": False, "Stripe_Subscription_Item_Id__c": "si_1"},
            ],
        },
        "stripe": {"customer": [{"id": "cus_1", "deleted": True}, {"id": "cus_2", "name": "Left"}]},
    }
    rows = show_state(Console(quiet=True), truth, "At the end")
    assert (rows["Salesforce Account"], rows["  MRR"]) == ("Left", "4,750.00")
    assert rows["  Lines with their item"] == "1 of 1"
    assert rows["Stripe customer"] == "Left"
    assert rows["Salesforce Contract"] == "-"


def test_two_items_of_a_product_are_both_shown_in_the_units_of_their_currency() -> None:
    def item(quantity: int, amount: str, count: int) -> dict[str, Any]:
        every = {"interval": "month", "interval_count": count}
        price = {"product": "prod_1", "unit_amount_decimal": amount, "currency": "jpy", "recurring": every}
        return {"quantity": quantity, "price": price}

    truth: dict[str, Any] = {
        "salesforce": {"Account": [{"Name": "Left", "Seats__c": 35.0}]},
        "stripe": {
            "product": [{"id": "prod_1", "name": "Seat"}],
            "customer": [{"id": "cus_1", "name": "Left"}],
            "subscription": [
                {"id": "sub_1", "customer": "cus_1", "items": {"data": [item(20, "600", 1), item(15, "5400", 3)]}}
            ],
            "invoice": [{"id": "in_1", "status": "open", "total": 93000, "currency": "jpy", "customer": "cus_1"}],
        },
    }
    rows = show_state(Console(quiet=True), truth, "At the end")
    assert rows["  Seat"] == "20 x 600 a month, 15 x 5,400 every 3 months"
    assert (rows["Stripe invoice"], rows["  Seats"]) == ("open, 93,000", "35")


def test_both_systems_are_shown_of_one_account() -> None:
    """Never one Account's Salesforce beside another one's Stripe."""
    accounts = [{"Id": "001A", "Name": "Not billed"}, {"Id": "001B", "Name": "Fuji", "Stripe_Customer_Id__c": "cus_f"}]
    deals = [{"Id": "006A", "AccountId": "001A", "Amount": 1}, {"Id": "006B", "AccountId": "001B", "Amount": 420000}]
    truth: dict[str, Any] = {
        "salesforce": {"Account": accounts, "Opportunity": deals},
        "stripe": {"customer": [{"id": "cus_x", "name": "Nobody"}, {"id": "cus_f", "name": "Fuji"}]},
    }
    console = Console(record=True, width=100, quiet=False, file=StringIO())
    rows = show_state(console, truth, "At the end")
    assert (rows["Salesforce Account"], rows["Stripe customer"]) == ("Fuji", "Fuji")
    assert rows["Salesforce Opportunity"] == "420,000.00, -"
    assert "At the end, of Fuji (there are 2 Accounts)" in console.export_text()
