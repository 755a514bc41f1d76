"""How the demo's state and verdict look in a terminal."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from sync_pipeline.demo.stage import Stage

Rows = dict[str, str]


def show_state(console: Console, truth: dict[str, Any], title: str, before: Rows | None = None) -> Rows:
    """Prints what each system shows, next to what it showed before, and returns the rows."""
    rows = _salesforce(truth["salesforce"]) | _stripe(truth["stripe"])
    table = Table(title=title, title_justify="left", title_style="bold", expand=False)
    table.add_column("field")
    if before is not None:
        table.add_column("before", style="dim")
    table.add_column("after" if before is not None else "now")
    for name, value in rows.items():
        table.add_row(name, *([before.get(name, "")] if before is not None else []), value)
    console.print(table)
    return rows


def show_verdict(console: Console, failures: list[str], checked: int) -> None:
    if not failures:
        console.print(f"[bold green]Salesforce and Stripe agree[/bold green]; all {checked} expectations held.")
        return
    console.print(f"[bold red]{len(failures)} of {checked} expectations did not hold:[/bold red]")
    for failure in failures:
        console.print(f"  {failure}")


def show_end(console: Console, stage: Stage) -> None:
    console.print(f"Dagster's UI:        {stage.dagster_url}")
    console.print(f"The two systems:     {stage.control_url}")
    console.print(f"Logs:                {stage.logs}")
    console.print("Everything stays up until Ctrl-C.")


def _salesforce(org: dict[str, Any]) -> Rows:
    account, opportunity = _first(org, "Account"), _first(org, "Opportunity")
    lines = org.get("OpportunityLineItem") or []
    contract = _first(org, "Contract")
    return {
        "Salesforce Account": _text(account.get("Name")),
        "  Stripe customer": _text(account.get("Stripe_Customer_Id__c")),
        "  Billing status": _text(account.get("Billing_Status__c")),
        "  MRR": _amount(account.get("MRR__c")),
        "  Seats": _text(account.get("Seats__c")),
        "  Lifetime value": _amount(account.get("Lifetime_Value__c")),
        "Salesforce Opportunity": f"{_amount(opportunity.get('Amount'))}, {_text(opportunity.get('StageName'))}",
        "  Stripe subscription": _text(opportunity.get("Stripe_Subscription_Id__c")),
        "  Activation": _text(opportunity.get("Activation_Status__c")),
        "  First payment": _text(opportunity.get("First_Payment_At__c")),
        "  Lines with their item": f"{sum(map(_is_linked, lines))} of {len(lines)}",
        "Salesforce Contract": _text(contract.get("Stripe_Subscription_Id__c")),
    }


def _stripe(account: dict[str, Any]) -> Rows:
    rows = {
        "Stripe customer": _text(_first(account, "customer").get("name")),
        "Stripe subscription": _text(_first(account, "subscription").get("status")),
    }
    names = {product["id"]: product["name"] for product in account.get("product", [])}
    for item in _first(account, "subscription").get("items", {}).get("data", []):
        price = item["price"]
        pounds = Decimal(price["unit_amount_decimal"]).scaleb(-2)
        every = price["recurring"]["interval"]
        rows[f"  {names.get(price['product'])}"] = f"{item['quantity']} x {pounds:,.2f} a {every}"
    invoice = _first(account, "invoice")
    total = invoice.get("total")
    shown = "" if total is None else f", {Decimal(total).scaleb(-2):,.2f}"
    return rows | {"Stripe invoice": f"{_text(invoice.get('status'))}{shown}"}


def _is_linked(line: dict[str, Any]) -> bool:
    return bool(line.get("Stripe_Subscription_Item_Id__c"))


def _first(system: dict[str, Any], kind: str) -> dict[str, Any]:
    records = system.get(kind) or [{}]
    found: dict[str, Any] = records[0]
    return found


def _text(value: Any) -> str:
    return "-" if value in (None, "") else str(value)


def _amount(value: Any) -> str:
    return "-" if value is None else f"{Decimal(str(value)):,.2f}"
