"""The figures that differ, Account by Account, with the sort of difference and what became of it."""

from __future__ import annotations

from sync_pipeline.engine.certificate_text import as_data, as_text
from sync_pipeline.engine.reconcile import Total, reconcile
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.engine.people import create, edit, mark, only, win, writes_since


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
    (told,) = as_data(certificate)["differences"]
    assert (told["salesforce_minor"], told["stripe_minor"], told["difference_class"]) == (5_500, 0, "missing")
    assert (
        f"{account} MRR GBP: Salesforce 55.00, Stripe 0.00, difference 55.00, missing:"
        " not yet: see what is left for this Account"
    ) in as_text(certificate)
    edit(sync.sandbox, "Account", account, MRR__c=None)
    assert reconcile(sync.engine).agrees


def test_a_figure_that_somebody_changed_is_told_with_its_repair(sync: Installation) -> None:
    win(sync.sandbox)
    sync.rest()
    account = only(sync.sandbox, "Account")["Id"]
    edit(sync.sandbox, "Account", account, MRR__c=3_700)
    certificate = reconcile(sync.engine)
    # £45,000 a year are 3,750.00 a month.
    assert as_data(certificate)["differences"] == [
        {
            "account": account,
            "measure": "mrr",
            "currency": "GBP",
            "salesforce_minor": 370_000,
            "stripe_minor": 375_000,
            "difference_minor": -5_000,
            "difference_class": "human_edit",
            "repair": "written to the Account",
            "left_minor": 0,
        }
    ]
    told = f"{account} MRR GBP: Salesforce 3,700.00, Stripe 3,750.00, difference -50.00, human_edit: written"
    assert told in as_text(certificate)
    assert certificate.agrees
    assert reconcile(sync.engine).differences == []
