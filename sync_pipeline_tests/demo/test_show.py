"""The tables of what each system shows."""

from __future__ import annotations

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
