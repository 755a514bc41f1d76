"""What people do in the two systems, and what the systems then hold; all through the sandbox's control plane."""

from __future__ import annotations

from typing import Any

import pytest

from sync_pipeline_tests.sandbox_process import ControlError, SandboxHandle

BETWEEN_EDITS_SECONDS = 10


def truth(sandbox: SandboxHandle) -> dict[str, Any]:
    return sandbox.control("GET", "/state")


def records(sandbox: SandboxHandle, kind: str) -> list[dict[str, Any]]:
    """All objects of a kind: Salesforce's names start with a capital, Stripe's do not."""
    system = "salesforce" if kind[0].isupper() else "stripe"
    return truth(sandbox)[system].get(kind, [])


def only(sandbox: SandboxHandle, kind: str) -> dict[str, Any]:
    (found,) = records(sandbox, kind)
    return found


def edit(sandbox: SandboxHandle, kind: str, record: str, **fields: Any) -> None:
    """Somebody edits a Salesforce record, some seconds after whatever happened before."""
    sandbox.control("POST", "/clock", {"advance_seconds": BETWEEN_EDITS_SECONDS})
    sandbox.control("POST", "/humans", {"system": "salesforce", "object": kind, "id": record, "fields": fields})


def create(sandbox: SandboxHandle, kind: str, **fields: Any) -> str:
    """Somebody makes a Salesforce record; its id."""
    body = {"system": "salesforce", "object": kind, "fields": fields}
    return str(sandbox.control("POST", "/humans", body)["result"]["Id"])


def delete(sandbox: SandboxHandle, kind: str, record: str) -> None:
    sandbox.control("POST", "/humans", {"system": "salesforce", "object": kind, "id": record, "delete": True})


def merge(sandbox: SandboxHandle, loser: str, winner: str) -> None:
    """Somebody merges an Account into another."""
    accounts = {"loser": loser, "winner": winner}
    sandbox.control("POST", "/humans", {"system": "salesforce", "object": "Account", "merge": accounts})


def at_stripe(sandbox: SandboxHandle, method: str, path: str, **params: Any) -> dict[str, Any]:
    """Somebody works in Stripe's dashboard."""
    body = {"system": "stripe", "method": method, "path": path, "params": params}
    result: dict[str, Any] = sandbox.control("POST", "/humans", body)["result"]
    return result


def win(sandbox: SandboxHandle) -> None:
    """The story's Opportunity becomes Closed Won."""
    edit(sandbox, "Opportunity", only(sandbox, "Opportunity")["Id"], StageName="Closed Won")


def another_deal(sandbox: SandboxHandle, name: str, **account: Any) -> tuple[str, str]:
    """Another Account with a won deal of one seat line; the ids of both."""
    book = records(sandbox, "Pricebook2")[0]["Id"]
    entry = next(line for line in records(sandbox, "PricebookEntry") if line["UnitPrice"] == 720)
    account_id = create(sandbox, "Account", Name=name, **account)
    deal = create(
        sandbox,
        "Opportunity",
        AccountId=account_id,
        Name=f"{name} deal",
        StageName="Prospecting",
        CloseDate="2026-01-20",
        Pricebook2Id=book,
        Billing_Interval__c="Annual",
        Term_Months__c=12,
    )
    create(sandbox, "OpportunityLineItem", OpportunityId=deal, PricebookEntryId=entry["Id"], Quantity=2, UnitPrice=600)
    edit(sandbox, "Opportunity", deal, StageName="Closed Won")
    return account_id, deal


def pay(sandbox: SandboxHandle, days: int = 4) -> None:
    """Days later the customer pays."""
    sandbox.control("POST", "/clock", {"advance_seconds": days * 86_400})
    sandbox.control("POST", "/payments", {"customer": only(sandbox, "customer")["id"], "outcome": "succeed"})


def decline(sandbox: SandboxHandle) -> None:
    """The customer pays the only invoice by hand, with a card that is declined."""
    customer, invoice = only(sandbox, "customer")["id"], only(sandbox, "invoice")["id"]
    path = "/v1/payment_methods/pm_card_chargeCustomerFail/attach"
    card = at_stripe(sandbox, "POST", path, customer=customer)
    with pytest.raises(ControlError, match="card_declined"):
        at_stripe(sandbox, "POST", f"/v1/invoices/{invoice}/pay", payment_method=card["id"])


def mark(sandbox: SandboxHandle) -> int:
    """A place in the log of requests, for `requests_since`."""
    return int(sandbox.control("GET", "/requests?entries=0")["last"])


def requests_since(sandbox: SandboxHandle, since: int, side: str | None = None) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = sandbox.control("GET", f"/requests?since={since}")["entries"]
    return [entry for entry in entries if side in (None, entry["side"])]


def writes_since(sandbox: SandboxHandle, since: int) -> list[str]:
    """The endpoints of the calls that could change something: neither sign-in, nor a composite of GETs."""
    return [entry["endpoint"] for entry in requests_since(sandbox, since) if is_write(entry)]


def is_write(entry: dict[str, Any]) -> bool:
    if entry["side"] == "stripe":
        return entry["method"] != "GET"
    if "/services/oauth2/" in entry["path"]:
        return False
    return entry["method"] in ("PATCH", "DELETE") or (entry["method"] == "POST" and '"PATCH"' in entry["body"])


def fault(sandbox: SandboxHandle, kind: str, *, side: str, method: str = ".", path: str = ".", **more: Any) -> None:
    """The sandbox misbehaves once at the first matching call, unless told otherwise."""
    match: dict[str, Any] = {"side": side, "path": path}
    if method != ".":
        match["method"] = method
    sandbox.control("POST", "/faults", {"match": match, "kind": kind, **({"times": 1} | more)})


def hits(sandbox: SandboxHandle) -> int:
    """How many calls went wrong by the rules in force."""
    return sum(rule["hits"] for rule in sandbox.control("GET", "/faults")["rules"])
