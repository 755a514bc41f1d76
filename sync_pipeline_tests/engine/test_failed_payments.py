"""A renewal's payment fails, is retried on its schedule and then paid: Tasks, status, and their end, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from sync_pipeline.core import canonical
from sync_pipeline.core.money import Money
from sync_pipeline.engine.explain import NothingToExplain, explain
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.engine.undo import plan_undo
from sync_pipeline.ledger.tables import audit
from sync_pipeline.systems.alerts import Alerts
from sync_pipeline.systems.outcomes import Guard, Outcome
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline_tests.alert_hook import Hook, serving
from sync_pipeline_tests.engine.installation import DAY, LEASE_SECONDS, Installation, installed
from sync_pipeline_tests.engine.people import at_stripe, create, edit, mark, only, pay, records, win, writes_since
from sync_pipeline_tests.sandbox_process import ControlError, SandboxHandle


def on_card(sync: Installation) -> dict[str, Any]:
    """The story's deal, billed and paid, from now on charged to a card; its subscription."""
    win(sync.sandbox)
    sync.rest()
    pay(sync.sandbox)
    sync.rest()
    customer = only(sync.sandbox, "customer")["id"]
    card = at_stripe(sync.sandbox, "POST", "/v1/payment_methods/pm_card_visa/attach", customer=customer)
    subscription = only(sync.sandbox, "subscription")["id"]
    charged = {"collection_method": "charge_automatically", "default_payment_method": card["id"]}
    return at_stripe(sync.sandbox, "POST", f"/v1/subscriptions/{subscription}", **charged)


def will_fail(sync: Installation, code: str, times: int = 1) -> None:
    customer = only(sync.sandbox, "customer")["id"]
    body = {"customer": customer, "outcome": "fail", "decline_code": code, "times": times}
    sync.sandbox.control("POST", "/payments", body)


def until_renewed(sync: Installation, subscription: dict[str, Any]) -> None:
    """Two hours past the end of the period: the renewal's invoice was a draft for one, and has been tried."""
    ends = subscription["items"]["data"][0]["current_period_end"]
    sync.wait(ends - sync.sandbox.control("GET", "/clock")["now"] + 2 * 3600)


def day(sync: Installation, ahead: int = 0) -> str:
    now = sync.sandbox.control("GET", "/clock")["now"] + ahead * DAY
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def billing(sync: Installation) -> tuple[str, float, str]:
    account = only(sync.sandbox, "Account")
    return account["Billing_Status__c"], account["MRR_At_Risk__c"], account["Retention_Status__c"]


def settled_for_good(sync: Installation) -> None:
    start = mark(sync.sandbox)
    for _ in range(3):
        assert reconcile(sync.engine).agrees
    assert list(writes_since(sync.sandbox, start)) == []
    sync.check_books()


def test_two_failures_are_two_tasks_and_the_payment_ends_the_one_that_nobody_took(sync: Installation) -> None:
    subscription = on_card(sync)
    will_fail(sync, "insufficient_funds", times=2)
    until_renewed(sync, subscription)
    sync.rest()
    (first,) = records(sync.sandbox, "Task")
    invoice = next(each for each in records(sync.sandbox, "invoice") if each["status"] == "open")
    assert first["Description"] == (
        f"Attempt 1 to collect GBP 45,000.00 for invoice {invoice['number']} failed: there are insufficient funds. "
        f"The next attempt is on {day(sync, 3)}. "
        f"If nothing is collected, the subscription is canceled in 15 days, on {day(sync, 15)}.\n"
        "Monthly recurring revenue at risk: GBP 3,750.00.\n"
        f"Invoice: {invoice['hosted_invoice_url']}"
    )
    made = sync.rows(select(audit.c.evidence).where(audit.c.what.startswith("salesforce.once ")))
    assert [canonical.decode(evidence)["invoices"] for (evidence,) in made] == [[invoice["id"]]]
    assert (first["ActivityDate"], first["Priority"]) == (day(sync), "High")
    assert first["OwnerId"] == only(sync.sandbox, "Account")["Customer_Success_Owner__c"]
    assert billing(sync) == ("Past Due", 3_750.0, "At Risk")
    edit(sync.sandbox, "Task", first["Id"], Status="In Progress")
    sync.wait(3 * DAY)
    sync.rest()
    assert len(records(sync.sandbox, "Task")) == len(records(sync.sandbox, "Stripe_Payment_Attempt__c")) == 2
    sync.wait(5 * DAY)
    sync.rest()
    statuses = {each["Id"] == first["Id"]: each["Status"] for each in records(sync.sandbox, "Task")}
    assert statuses == {True: "In Progress", False: "Completed"}
    assert billing(sync) == ("Active", 0.0, "Healthy")
    assert only(sync.sandbox, "Account")["Lifetime_Value__c"] == 90_000.0
    settled_for_good(sync)


def test_a_task_says_which_payment_it_is_of_what_happens_next_what_is_at_stake_and_who_has_it(
    sync: Installation,
) -> None:
    subscription = on_card(sync)
    will_fail(sync, "insufficient_funds")
    until_renewed(sync, subscription)
    sync.rest()
    task, marker = only(sync.sandbox, "Task"), only(sync.sandbox, "Stripe_Payment_Attempt__c")
    invoice = next(each for each in records(sync.sandbox, "invoice") if each["status"] == "open")
    found = {each.field: each for each in explain(sync.engine, f"Task/{task['Id']}")}
    of_payment = found["Stripe_Failure_Key__c"]
    charge = task["Stripe_Failure_Key__c"].removeprefix("attempt:")
    failed, at_risk, now = of_payment.behind
    assert (failed.object_id, failed.amount, failed.invoice) == (charge, Money(4_500_000, "GBP"), invoice["id"])
    assert f"The next attempt is on {day(sync, 3)}." in failed.what
    assert at_risk.what == "Monthly recurring revenue at risk: GBP 3,750.00."
    assert now.what == f"the invoice is open now, attempts so far: 1, next attempt {day(sync, 3)}"
    (made,) = of_payment.writes
    assert (made.run, made.evidence["invoices"], made.evidence["object"]) == ("test", [invoice["id"]], task["Id"])
    assert found["OwnerId"].shown == only(sync.sandbox, "Account")["Customer_Success_Owner__c"]
    assert "the first of success_owner, account_team, owner" in str(found["OwnerId"].authority)
    assert found["Subject"].shown == "Payment failed: GBP 45,000.00"
    edit(sync.sandbox, "Task", task["Id"], Subject="Ada Lovelace says that she will pay")
    (edited,) = explain(sync.engine, f"Task/{task['Id']}", "Subject")
    assert edited.shown == "(edited by a person)"
    (of_marker,) = explain(sync.engine, f"Stripe_Payment_Attempt__c/{marker['Id']}", "Key__c")
    assert (of_marker.behind, of_marker.writes) == (of_payment.behind, of_payment.writes)
    sync.wait(5 * DAY)
    sync.rest()
    (ended,) = explain(sync.engine, f"Task/{task['Id']}", "Status")
    assert (ended.shown, ended.writes[0].reason) == ("Completed", "the invoice is paid")
    edit(sync.sandbox, "Task", task["Id"], Status="Not Started")
    # That a Task is open again is no reason for an undo to fail.
    assert plan_undo(sync.engine, "test").unread == {}
    by_hand = create(sync.sandbox, "Task", Subject="Call them", WhatId=task["WhatId"])
    with pytest.raises(NothingToExplain, match=f"the sync did not make Task {by_hand}: it names no failed payment"):
        explain(sync.engine, f"Task/{by_hand}")


def test_after_a_stolen_card_no_retry_is_promised_and_dunning_ends_the_subscription(sync: Installation) -> None:
    subscription = on_card(sync)
    will_fail(sync, "stolen_card", times=4)
    until_renewed(sync, subscription)
    sync.rest()
    assert "No retry is planned: it takes another payment method" in only(sync.sandbox, "Task")["Description"]
    for days in (3, 5, 7):
        sync.wait(days * DAY)
        sync.rest()
    assert len(records(sync.sandbox, "Task")) == 4
    assert [task for task in records(sync.sandbox, "Task") if "The subscription has ended." in task["Description"]]
    churned = only(sync.sandbox, "Churn_Record__c")
    assert (churned["Status__c"], churned["Voluntary__c"]) == ("Final", False)
    assert churned["Reason__c"] == "the payment failed for good"
    assert billing(sync) == ("Canceled", 0.0, "Churned")
    settled_for_good(sync)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving(Hook(200)) as endpoint:
        yield endpoint


@pytest.fixture
def watched(sandbox: SandboxHandle, tmp_path: Path, hook: Hook) -> Iterator[Installation]:
    """An installation whose alerts go to `hook`."""
    with installed(sandbox, tmp_path, extra={"SYNC_ALERT_WEBHOOK": hook.url}) as installation:
        yield installation


def test_an_overdue_invoice_is_told_once_though_the_webhook_was_down_at_first(
    watched: Installation, hook: Hook
) -> None:
    hook.status = 503
    win(watched.sandbox)
    watched.rest()
    watched.wait(34 * DAY)
    reconcile(watched.engine)
    watched.drain()
    assert len(records(watched.sandbox, "Task")) == 1
    tried = len(hook.bodies)
    assert tried > 0
    hook.status = 200
    watched.wait(700)
    watched.rest()
    assert len(hook.bodies) == tried + 1
    (invoice,) = records(watched.sandbox, "invoice")
    assert json.loads(hook.bodies[-1])["text"] == (
        "*Invoice overdue: GBP 45,000.00, Northwind Analytics Ltd*\n"
        f"Invoice {invoice['number']} over GBP 45,000.00 is 4 days overdue. Nothing happens by itself.\n"
        f"Monthly recurring revenue at risk: GBP 3,750.00.\n"
        f"<{invoice['hosted_invoice_url']}|Invoice {invoice['number']}>"
    )
    settled_for_good(watched)
    assert len(hook.bodies) == tried + 1


def test_an_alert_of_a_process_that_died_is_not_sent_again(watched: Installation, hook: Hook) -> None:
    """It died after sending, before it wrote down what came of it."""
    win(watched.sandbox)
    watched.rest()
    watched.wait(34 * DAY)
    alerts = watched.engine.alerts

    class Killed(Alerts):
        def send(self, alert: Mapping[str, str], *, guard: Guard) -> Outcome:
            alerts.send(alert, guard=guard)
            raise KeyboardInterrupt

    watched.engine = replace(watched.engine, alerts=Killed())
    with pytest.raises(KeyboardInterrupt):
        reconcile(watched.engine)
    watched.engine = replace(watched.engine, alerts=alerts)
    watched.wait(LEASE_SECONDS)
    watched.rest()
    assert len(hook.bodies) == 1
    settled_for_good(watched)
    assert len(hook.bodies) == 1


def test_an_attempt_without_a_charge_is_one_task_and_those_after_it_have_their_own(sync: Installation) -> None:
    """An attack found it: four attempts were seven Tasks, and the days of the end did not agree."""
    subscription = on_card(sync)
    customer = only(sync.sandbox, "customer")["id"]
    without = {"default_payment_method": ""}
    at_stripe(sync.sandbox, "POST", f"/v1/subscriptions/{subscription['id']}", **without)
    until_renewed(sync, subscription)
    sync.rest()
    (first,) = records(sync.sandbox, "Task")
    assert "there is nothing that could be charged" in first["Description"]
    card = at_stripe(sync.sandbox, "POST", "/v1/payment_methods/pm_card_visa/attach", customer=customer)
    with_it = {"invoice_settings": {"default_payment_method": card["id"]}}
    at_stripe(sync.sandbox, "POST", f"/v1/customers/{customer}", **with_it)
    will_fail(sync, "insufficient_funds", times=9)
    for number in (2, 3, 4):
        sync.wait(8 * DAY)
        sync.rest()
        sync.wait(60)
        sync.rest()
        told = [each for each in records(sync.sandbox, "Task") if f"Attempt {number} " in each["Description"]]
        assert len(told) == 1, number
    tasks = records(sync.sandbox, "Task")
    assert len(tasks) == 4
    ends = [each["Description"].partition("is canceled in ")[2].partition(", on ")[2][:10] for each in tasks]
    assert len(set(ends[:2])) == 1
    assert ends[0]


def test_attempts_by_hand_hide_no_attempt_that_needs_the_customer(sync: Installation) -> None:
    """Stripe does not count an attempt by hand, so its charge is none of those that it has counted."""
    subscription = on_card(sync)
    will_fail(sync, "insufficient_funds", times=2)
    until_renewed(sync, subscription)
    sync.rest()
    (invoice,) = [each for each in records(sync.sandbox, "invoice") if each["status"] == "open"]
    with pytest.raises(ControlError, match="insufficient funds"):
        at_stripe(sync.sandbox, "POST", f"/v1/invoices/{invoice['id']}/pay")
    sync.wait(60)
    sync.rest()
    assert len(records(sync.sandbox, "Task")) == 2
    customer = only(sync.sandbox, "customer")["id"]
    sync.sandbox.control("POST", "/payments", {"customer": customer, "outcome": "action_required"})
    sync.wait(3 * DAY)
    sync.rest()
    assert len(records(sync.sandbox, "Task")) == 3
    settled_for_good(sync)


def test_who_stood_still_during_a_look_tells_no_moment_before_the_failure(
    sync: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulated story found it: the Task was due a month before the payment failed."""
    subscription = on_card(sync)
    will_fail(sync, "insufficient_funds")
    read, asked = sync.engine.stripe.customer, list[str]()

    def slowly(customer: str) -> Any:
        asked.append(customer)
        if len(asked) == 1:
            until_renewed(sync, subscription)
        return read(customer)

    monkeypatch.setattr(sync.engine.stripe, "customer", slowly)
    sync.serve_once(only(sync.sandbox, "Account")["Id"])
    sync.rest()
    (task,) = records(sync.sandbox, "Task")
    assert task["ActivityDate"] == day(sync)


@pytest.mark.parametrize("read_next", ["/v1/invoices", "/v1/charges"])
def test_a_retry_in_the_middle_of_a_look_is_one_failure(
    sync: Installation, monkeypatch: pytest.MonkeyPatch, read_next: str
) -> None:
    subscription = on_card(sync)
    will_fail(sync, "insufficient_funds", times=2)
    until_renewed(sync, subscription)
    sync.rest()
    (unpaid,) = [each for each in records(sync.sandbox, "invoice") if each["status"] == "open"]
    sync.wait(unpaid["next_payment_attempt"] - sync.sandbox.control("GET", "/clock")["now"] - 5)
    page = Stripe.page

    def torn(stripe: Stripe, path: str, **params: Any) -> Any:
        if path == read_next:
            monkeypatch.undo()
            sync.sandbox.control("POST", "/clock", {"advance_seconds": 10})
        return page(stripe, path, **params)

    monkeypatch.setattr(Stripe, "page", torn)
    sync.serve_once(only(sync.sandbox, "Account")["Id"])
    sync.wait(300)
    sync.rest()
    told = [task["Description"].partition(" to collect")[0] for task in records(sync.sandbox, "Task")]
    assert sorted(told) == ["Attempt 1", "Attempt 2"]
