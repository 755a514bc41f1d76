"""What a run costs at least: the bounds of facts/sync-theory.md 6, counted by hand. No network."""

from __future__ import annotations

import pytest

from sync_pipeline.core.observation import Absent, Present
from sync_pipeline.core.stripe_records import Customer
from sync_pipeline.core.world import Billing, World
from sync_pipeline.engine.cost import Calls, Cost, Looked, least_salesforce_reads, least_salesforce_writes, looked_at
from sync_pipeline.systems.salesforce.writes import Once, Update, Upsert, Write
from sync_pipeline_tests.core.making import subscription
from sync_pipeline_tests.core.test_at_risk import invoice


def updates(count: int) -> list[Write]:
    return [Update(("Account", "Opportunity")[n % 2], f"{n:05}", {}) for n in range(count)]


def upserts(count: int, kind: str = "Contract") -> list[Write]:
    return [Upsert(kind, "Key__c", str(n), {}) for n in range(count)]


def pairs(count: int) -> list[Write]:
    return [Once(("Marker__c", {"Key__c": str(n)}), ("Task", {})) for n in range(count)]


@pytest.mark.parametrize(
    ("writes", "calls"),
    [
        ([], 0),
        (updates(1_000), 1),
        (updates(1_001), 2),
        ([*updates(10), *updates(10)], 1),
        # Five collections: three of updates, and one of each kind of upserts.
        ([*updates(600), *upserts(200), *upserts(1, "Churn_Record__c")], 1),
        ([*updates(601), *upserts(200), *upserts(1, "Churn_Record__c")], 2),
        # A pair is two records, and no pair is divided.
        (pairs(500), 1),
        (pairs(501), 2),
        ([*updates(800), *pairs(100)], 1),
        ([*updates(800), *pairs(101)], 2),
    ],
)
def test_salesforce_calls_when_each_is_full(writes: list[Write], calls: int) -> None:
    assert least_salesforce_writes(writes) == calls


def billed(number: int, *, invoices: int = 1) -> World:
    name = f"cus_{number}"
    return World(
        account_id=f"{number:018}",
        org_id="00D000000000001",
        now=0,
        account=Absent("only Stripe's side counts here"),
        customers={name: Present(Customer(id=name))},
        billing=Present(
            Billing(
                subscriptions=(subscription(id=f"sub_{number}", customer=name),),
                invoices=tuple(invoice(id=f"in_{number}_{n}", customer=name) for n in range(invoices)),
            )
        ),
    )


def test_stripe_is_read_by_customer_or_by_page_whichever_is_less() -> None:
    assert looked_at([billed(1)]).least.stripe_reads == 2
    assert looked_at([billed(1, invoices=250)]).least.stripe_reads == 1 + 3
    # 400 customers with two invoices: 800 lists one by one, 4 + 4 + 8 pages of all.
    assert looked_at([billed(n, invoices=2) for n in range(400)]).least.stripe_reads == 16
    assert Looked().least == Calls()


def test_pages_are_counted_over_all_batches_of_a_run() -> None:
    """Ten batches of 60 customers: 6 + 6 + 6 pages, though each batch by itself would be 3."""
    batches = [looked_at(billed(n) for n in range(60)) for _ in range(10)]
    assert sum(batches, Looked()).least.stripe_reads == 18


def test_salesforce_is_read_in_full_queries_or_seen_on_the_way() -> None:
    assert least_salesforce_reads(10_001, 9) == Calls(salesforce_reads=2)
    assert least_salesforce_reads(10_001, 0) == Calls()


def test_the_ratio_is_of_what_was_sent_to_the_least_that_would_do() -> None:
    told = Cost(Calls(salesforce_writes=8, stripe_writes=2), Calls(salesforce_writes=1, stripe_writes=2)).report()
    assert (told["salesforce_writes_ratio"], told["stripe_writes_ratio"]) == (8, 1)
    assert "stripe_reads_ratio" not in told
