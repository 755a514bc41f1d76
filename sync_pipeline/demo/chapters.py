"""The story of a deal of 45,000 pounds a year: won, billed, paid, grown, renewed, canceled.

Each chapter is what people do, what the sync must make of it, and what both systems must then say.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from sync_pipeline.demo.story import Story, Truth

RATE_CARD = {3_000_000: 1, 60_000: 20, 20_000: 15}


def won(story: Story) -> None:
    story.say("[bold]Sales closes the deal[/bold]: the Opportunity becomes Closed Won")
    story.edit("Opportunity", deal(story.truth())["Id"], StageName="Closed Won")
    truth = story.wait("the sync has created the subscription and written the ids back", _is_written_back)
    account, opportunity, contract = one(truth, "Account"), deal(truth), one(truth, "Contract")
    customers, subscriptions = truth["stripe"].get("customer", []), truth["stripe"].get("subscription", [])
    story.expect("Stripe customers", len(customers), 1)
    story.expect("Stripe subscriptions", len(subscriptions), 1)
    customer, subscription = customers[0], subscriptions[0]
    tax_ids = [(tax_id["type"], tax_id["value"]) for tax_id in truth["stripe"].get("tax_id", [])]
    story.expect("tax registration at Stripe", tax_ids, [("gb_vat", "GB123456789")])
    items = subscription["items"]["data"]
    rates = {int(item["price"]["unit_amount"]): item["quantity"] for item in items}
    story.expect("negotiated rate card (pence: quantity)", rates, RATE_CARD)
    story.expect("billing interval", {item["price"]["recurring"]["interval"] for item in items}, {"year"})
    story.expect("first invoice, pence", [i["total"] for i in truth["stripe"]["invoice"]], [4_500_000])
    story.expect("Account names the customer", account["Stripe_Customer_Id__c"], customer["id"])
    story.expect("Opportunity names the subscription", opportunity["Stripe_Subscription_Id__c"], subscription["id"])
    story.expect("Contract names the subscription", contract["Stripe_Subscription_Id__c"], subscription["id"])
    lines = {line["Stripe_Subscription_Item_Id__c"] for line in truth["salesforce"]["OpportunityLineItem"]}
    story.expect("lines that name their item", len(lines & {item["id"] for item in items}), 3)
    story.expect("Account MRR", amount(account["MRR__c"]), Decimal("3750.00"))
    story.expect("Opportunity waits for the first payment", opportunity["Activation_Status__c"], "Pending")


def paid(story: Story) -> None:
    story.say("[bold]Four days later[/bold] the customer pays the first invoice by bank transfer")
    story.days_pass(4)
    story.pay(one(story.truth(), "customer")["id"])
    truth = story.wait("Stripe's webhooks have reached Salesforce", _is_activated)
    account, opportunity, invoice = one(truth, "Account"), deal(truth), one(truth, "invoice")
    story.expect("invoice", invoice["status"], "paid")
    story.expect("Account lifetime value", amount(account["Lifetime_Value__c"]), Decimal("45000.00"))
    story.expect("Opportunity", opportunity["Activation_Status__c"], "Activated")
    paid_at = datetime.fromtimestamp(invoice["status_transitions"]["paid_at"], UTC)
    shown = datetime.fromisoformat(opportunity["First_Payment_At__c"])
    story.expect("first payment, as Stripe has it", shown.isoformat(), paid_at.isoformat())
    story.expect("Account MRR", amount(account["MRR__c"]), Decimal("3750.00"))


def grown(story: Story) -> None:
    story.say("[bold]Three months later[/bold] sales adds five analyst seats to the deal")
    story.days_pass(90)
    truth = story.truth()
    (line,) = [line for line in truth["salesforce"]["OpportunityLineItem"] if line["Quantity"] == 20]
    story.edit("OpportunityLineItem", line["Id"], Quantity=25, UnitPrice=600)
    story.days_pass(60 / 86_400)
    truth = story.wait("after the quiet period they are billed, prorated", lambda t: _quantities(t).get(60_000) == 25)
    story.expect("prorated items on the next invoice", len(truth["stripe"].get("invoiceitem", [])), 2)
    truth = story.wait("the customer removes two of them again at Stripe", _remove_two(story, truth))
    story.expect("seats in Salesforce, at the same price", _line(truth, 600)["Quantity"], 23.0)
    story.expect("Opportunity amount", amount(deal(truth)["Amount"]), Decimal("46800.00"))
    truth = story.wait("the Account has followed", lambda t: amount(one(t, "Account")["MRR__c"]) == Decimal("3900.00"))
    story.expect("Account seats", amount(one(truth, "Account")["Seats__c"]), Decimal("38.00"))


def renewed(story: Story) -> None:
    story.say("[bold]Ninety days before the term ends[/bold] the nightly reconcile opens the renewal")
    story.days_pass(190)
    story.reconcile()
    truth = story.wait("the renewal Opportunity is there", lambda t: renewal(t) is not None)
    opened = renewal(truth) or {}
    story.expect("renewal, at today's seats", amount(opened.get("Amount")), Decimal("46800.00"))
    story.say("[bold]The renewal invoice is not paid in time[/bold]")
    story.days_pass(125)
    truth = story.wait("the customer-success owner has a Task", lambda t: bool(t["salesforce"].get("Task")))
    account, tasks = one(truth, "Account"), truth["salesforce"].get("Task", [])
    story.expect("Tasks", [task["Subject"].split(":")[0] for task in tasks], ["Invoice overdue"])
    story.expect("its owner", tasks[0]["OwnerId"], account["Customer_Success_Owner__c"])
    truth = story.wait("the Account shows the risk", lambda t: one(t, "Account")["Retention_Status__c"] == "At Risk")
    story.expect("MRR at risk", amount(one(truth, "Account")["MRR_At_Risk__c"]), Decimal("3900.00"))
    story.pay(one(truth, "customer")["id"])
    truth = story.wait("it is paid, and the renewal is won", lambda t: (renewal(t) or {})["StageName"] == "Closed Won")
    story.expect("MRR at risk", amount(one(truth, "Account")["MRR_At_Risk__c"]), Decimal("0.00"))


def canceled(story: Story) -> None:
    path = f"/v1/subscriptions/{one(story.truth(), 'subscription')['id']}"
    story.say("[bold]The customer cancels[/bold] for the end of the term, takes it back, and cancels again")
    for ends, status in ((True, ["Open"]), (False, ["Rescinded"]), (True, ["Rescinded", "Open"])):
        story.at_stripe(path, cancel_at_period_end=ends)
        told = "scheduled" if ends else "taken back"
        story.wait(f"churn records: {', '.join(status)} ({told})", partial(_churn_is, status))
    story.days_pass(345)
    truth = story.wait("the subscription has ended", lambda t: _churn(t) == ["Rescinded", "Final"])
    truth = story.wait("the Account is tagged", lambda t: one(t, "Account")["Retention_Status__c"] == "Churned")
    lost = truth["salesforce"]["Churn_Record__c"][-1]
    story.expect("lost MRR", amount(lost["Lost_MRR__c"]), Decimal("3900.00"))
    story.expect("Account MRR", amount(one(truth, "Account")["MRR__c"]), Decimal("0.00"))
    story.expect("subscriptions ever made", len(truth["stripe"]["subscription"]), 1)


def reconciled(story: Story) -> None:
    story.say("[bold]Reconcile[/bold]: the nightly job compares both systems in full and materialises every asset")
    before = story.writes()
    story.reconcile()
    story.expect("writes that a full reconcile still had to make", story.writes() - before, 0)
    runs, failed = story.failed_drains()
    story.expect("the sensors started drain runs", runs > 0, True)
    story.expect("drain runs that failed", failed, 0)


CHAPTERS: tuple[Callable[[Story], None], ...] = (won, paid, grown, renewed, canceled, reconciled)


def one(truth: Truth, kind: str) -> dict[str, Any]:
    """The one record of a kind; empty while there is none. Salesforce's names begin with a capital."""
    system = "salesforce" if kind[0].isupper() else "stripe"
    records = truth[system].get(kind) or [{}]
    found: dict[str, Any] = records[0]
    return found


def deal(truth: Truth) -> dict[str, Any]:
    """The Opportunity that was sold, which is no renewal."""
    sold = [each for each in truth["salesforce"]["Opportunity"] if not each.get("Stripe_Renewal_Key__c")]
    found: dict[str, Any] = sold[0]
    return found


def renewal(truth: Truth) -> dict[str, Any] | None:
    renewals = (each for each in truth["salesforce"]["Opportunity"] if each.get("Stripe_Renewal_Key__c"))
    return next(renewals, None)


def amount(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value)).quantize(Decimal("0.01"))


def _is_written_back(truth: Truth) -> bool:
    contract, account = one(truth, "Contract"), one(truth, "Account")
    named = deal(truth).get("Stripe_Subscription_Id__c") and contract.get("Stripe_Subscription_Id__c")
    return bool(named and account.get("MRR__c"))


def _is_activated(truth: Truth) -> bool:
    activated = deal(truth).get("Activation_Status__c") == "Activated"
    return activated and bool(one(truth, "Account").get("Lifetime_Value__c"))


def _quantities(truth: Truth) -> dict[int, int]:
    items = one(truth, "subscription")["items"]["data"]
    return {int(item["price"]["unit_amount"]): item["quantity"] for item in items}


def _line(truth: Truth, unit_price: int) -> dict[str, Any]:
    lines = truth["salesforce"]["OpportunityLineItem"]
    return next(line for line in lines if line["UnitPrice"] == unit_price)


def _remove_two(story: Story, truth: Truth) -> Callable[[Truth], bool]:
    """The customer changes the seats in the customer portal; holds when the line has followed."""
    items = one(truth, "subscription")["items"]["data"]
    (item,) = [item for item in items if item["price"]["unit_amount"] == 60_000]
    story.at_stripe(f"/v1/subscription_items/{item['id']}", quantity=23)
    return lambda after: _line(after, 600)["Quantity"] == 23.0


def _churn_is(wanted: list[str], truth: Truth) -> bool:
    return _churn(truth) == wanted


def _churn(truth: Truth) -> list[str]:
    records = truth["salesforce"].get("Churn_Record__c") or []
    return [record["Status__c"] for record in sorted(records, key=lambda each: str(each["Episode_Key__c"]))]
