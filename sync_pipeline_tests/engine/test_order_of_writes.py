"""Records of Salesforce are set when the writes to Stripe are done, and whatever becomes of those."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from sync_pipeline.core import canonical
from sync_pipeline.ledger.tables import command
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import edit, fault, only, records, win, writes_since
from sync_pipeline_tests.engine.test_failed_payments import on_card, until_renewed, will_fail
from sync_pipeline_tests.sandbox_process import SandboxHandle

NO_CUSTOMER_IS_CHANGED: dict[str, Any] = {
    "side": "stripe",
    "method": "POST",
    "path": "^/v1/customers/",
    "times": 10**6,
}
COMPOSITE = "/services/data/{v}/composite"


def sent_to_salesforce(sync: Installation) -> list[tuple[str, object]]:
    """Field and value of everything that was ever written there."""
    rows = sync.rows(select(command.c.changes).where(command.c.kind == "salesforce.update", command.c.state == "done"))
    return [(change["field"], change["new"]) for row in rows for change in canonical.decode(row.changes)]


def test_a_new_deal_costs_one_write_to_salesforce_and_no_figure_is_written_twice(
    sync: Installation, sandbox: SandboxHandle
) -> None:
    win(sandbox)
    report = sync.drain()
    assert [each for each in writes_since(sandbox, 0) if COMPOSITE in each] == [f"POST {COMPOSITE}"]
    assert report.total.cost.report()["salesforce_writes_ratio"] == 1.0
    fields = [field for field, _ in sent_to_salesforce(sync)]
    assert ("MRR__c", "3750") in sent_to_salesforce(sync)
    assert [fields.count(figure) for figure in ("MRR__c", "Lifetime_Value__c", "Seats__c")] == [1, 1, 1]


def test_salesforce_is_set_though_stripe_does_not_take_what_it_was_to_be_told(
    sync: Installation, sandbox: SandboxHandle
) -> None:
    win(sandbox)
    sync.rest()
    account = only(sandbox, "Account")
    for kind in ("stripe_503", "drop_before"):
        edit(sandbox, "Account", account["Id"], Name=f"Renamed {kind}", MRR__c=1, Lifetime_Value__c=1)
        fault(sandbox, kind, **NO_CUSTOMER_IS_CHANGED)
        sync.wait(60)
        sync.drain()
        shown = only(sandbox, "Account")
        assert (shown["MRR__c"], shown["Lifetime_Value__c"]) == (3750.0, 0.0)
        assert only(sandbox, "customer")["name"] != f"Renamed {kind}"
        sandbox.control("DELETE", "/faults")
        sync.rest()
        assert only(sandbox, "customer")["name"] == f"Renamed {kind}"


def test_a_failed_payment_is_told_though_stripe_takes_nothing(sync: Installation, sandbox: SandboxHandle) -> None:
    subscription = on_card(sync)
    will_fail(sync, "insufficient_funds")
    until_renewed(sync, subscription)
    edit(sandbox, "Account", only(sandbox, "Account")["Id"], Name="Renamed")
    sync.wait(60)
    fault(sandbox, "stripe_503", **NO_CUSTOMER_IS_CHANGED)
    sync.drain()
    assert only(sandbox, "customer")["name"] != "Renamed"
    assert len(records(sandbox, "Task")) == 1
