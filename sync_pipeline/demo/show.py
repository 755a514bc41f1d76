"""How stories look in a terminal: the list of them, the timeline, both systems' state, the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sync_pipeline.core.canon import number
from sync_pipeline.core.money import exponent
from sync_pipeline.demo.dagster_stage import DagsterStage
from sync_pipeline.demo.story import Story
from sync_pipeline.engine.env import Env

Rows = dict[str, str]
INDENT = " " * 19


@dataclass
class Telling:
    """The timeline as it is told. With an `env` it also says how many real seconds have passed since the start."""

    console: Console
    env: Env | None = None
    started: int = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.env.wall() if self.env else 0

    def say(self, text: str) -> None:
        passed = f"{(self.env.wall() - self.started) / 1_000_000:7.1f} s  " if self.env else ""
        self.console.print(f"[dim]{passed}[/dim]{text}")

    def happens(self, at: datetime, words: str) -> None:
        self.say(f"[dim]{at:%d %b %Y %H:%M}[/dim]  [bold]{escape(words)}[/bold]")

    def wrote(self, what: list[str]) -> None:
        for each in what:
            self.console.print(f"{INDENT}[dim]{escape(each)}[/dim]")

    def checked(self, what: str, differences: list[str]) -> None:
        verdict = "[red]no[/red]" if differences else "[green]ok[/green]"
        for told in differences or [what]:
            self.console.print(f"{INDENT}{verdict}  {escape(told)}")


def show_list(console: Console, stories: Iterable[Story]) -> None:
    """Every story with its title, by topic."""
    for topic, told in groupby(stories, key=lambda story: story.topic):
        table = Table(title=topic, title_justify="left", title_style="bold", box=None, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for story in told:
            table.add_row(story.name, story.title)
        console.print(table)


def show_state(console: Console, truth: dict[str, Any], title: str, before: Rows | None = None) -> Rows:
    """Prints what each system shows of one Account, next to what it showed before, and returns the rows.

    Of several it is the first that has a customer at Stripe.
    """
    accounts = _there(truth["salesforce"], "Account")
    account = next((each for each in accounts if each.get("Stripe_Customer_Id__c")), accounts[0] if accounts else {})
    rows = _salesforce(truth["salesforce"], account) | _stripe(truth["stripe"], account.get("Stripe_Customer_Id__c"))
    if len(accounts) > 1:
        title = f"{title}, of {account.get('Name')} (there are {len(accounts)} Accounts)"
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


def show_end(console: Console, stage: DagsterStage) -> None:
    console.print(f"Dagster's UI:        {stage.dagster_url}")
    console.print(f"The two systems:     {stage.sandbox.ready['control_url']}")
    console.print(f"Logs:                {stage.logs}")
    console.print("Everything stays up until Ctrl-C.")


def _salesforce(org: dict[str, Any], account: dict[str, Any]) -> Rows:
    opportunity = _first(org, "Opportunity", AccountId=account.get("Id"))
    lines = [each for each in _there(org, "OpportunityLineItem") if each.get("OpportunityId") == opportunity.get("Id")]
    contract = _first(org, "Contract", AccountId=account.get("Id"))
    return {
        "Salesforce Account": _text(account.get("Name")),
        "  Stripe customer": _text(account.get("Stripe_Customer_Id__c")),
        "  Billing status": _text(account.get("Billing_Status__c")),
        "  MRR": _amount(account.get("MRR__c")),
        "  Seats": _text(number(account.get("Seats__c"))),
        "  Lifetime value": _amount(account.get("Lifetime_Value__c")),
        "Salesforce Opportunity": f"{_amount(opportunity.get('Amount'))}, {_text(opportunity.get('StageName'))}",
        "  Stripe subscription": _text(opportunity.get("Stripe_Subscription_Id__c")),
        "  Activation": _text(opportunity.get("Activation_Status__c")),
        "  First payment": _text(opportunity.get("First_Payment_At__c")),
        "  Lines with their item": f"{sum(map(_is_linked, lines))} of {len(lines)}",
        "Salesforce Contract": _text(contract.get("Stripe_Subscription_Id__c")),
    }


def _stripe(account: dict[str, Any], customer_id: str | None) -> Rows:
    customer = _first(account, "customer", **({"id": customer_id} if customer_id else {}))
    subscription = _first(account, "subscription", customer=customer.get("id"))
    rows = {
        "Stripe customer": _text(customer.get("name")),
        "Stripe subscription": _text(subscription.get("status")),
    }
    names = {product["id"]: product["name"] for product in account.get("product", [])}
    for item in subscription.get("items", {}).get("data", []):
        name = f"  {names.get(item['price']['product'])}"
        rows[name] = f"{rows[name]}, {_rate(item)}" if name in rows else _rate(item)
    invoice = _first(account, "invoice", customer=customer.get("id"))
    shown = f", {_major(invoice['total'], invoice['currency'])}" if invoice else ""
    return rows | {"Stripe invoice": f"{_text(invoice.get('status'))}{shown}"}


def _rate(item: dict[str, Any]) -> str:
    price = item["price"]
    interval, count = price["recurring"]["interval"], price["recurring"]["interval_count"]
    every = f"a {interval}" if count == 1 else f"every {count} {interval}s"
    packages = price.get("transform_quantity")
    each = f" per package of {packages['divide_by']}" if packages else ""
    return f"{item['quantity']} x {_major(price['unit_amount_decimal'], price['currency'])}{each} {every}"


def _major(minor: Any, currency: str) -> str:
    """An amount at Stripe in the currency's own units."""
    places = exponent(currency)
    return f"{Decimal(minor).scaleb(-places):,.{places}f}"


def _is_linked(line: dict[str, Any]) -> bool:
    return bool(line.get("Stripe_Subscription_Item_Id__c"))


def _first(system: dict[str, Any], kind: str, **having: Any) -> dict[str, Any]:
    """The first record with these values; nothing where there is none."""
    found = (each for each in _there(system, kind) if all(each.get(name) == value for name, value in having.items()))
    return next(found, {})


def _there(system: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The records that are neither in the recycle bin nor deleted at Stripe."""
    return [each for each in system.get(kind) or () if not each.get("IsDeleted") and not each.get("deleted")]


def _text(value: Any) -> str:
    return "-" if value in (None, "") else str(value)


def _amount(value: Any) -> str:
    return "-" if value is None else f"{Decimal(str(value)):,.2f}"
