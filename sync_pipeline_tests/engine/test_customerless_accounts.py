"""Money that Salesforce shows where Stripe has no customer: nobody writes there, and the certificate says so."""

from __future__ import annotations

from sync_pipeline.engine.reconcile import Total, reconcile
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import create, edit, mark, writes_since


def test_revenue_typed_on_an_account_without_a_customer_is_a_difference_that_a_person_decides(
    sync: Installation,
) -> None:
    account = create(sync.sandbox, "Account", Name="Typed by hand", MRR__c=55)
    create(sync.sandbox, "Account", Name="A prospect")
    start = mark(sync.sandbox)
    certificate = reconcile(sync.engine)
    assert writes_since(sync.sandbox, start) == []
    ((account_id, subject, what),) = [(each.account, each.subject, each.what) for each in certificate.left]
    assert (account_id, subject) == (account, account)
    assert what.startswith("it shows money (mrr), but has no customer at Stripe")
    assert (certificate.agrees, certificate.accounts, certificate.agreed) == (False, 1, 0)
    assert certificate.totals["mrr"] == {"GBP": Total(salesforce=5_500, stripe=0)}
    edit(sync.sandbox, "Account", account, MRR__c=None)
    assert reconcile(sync.engine).agrees
