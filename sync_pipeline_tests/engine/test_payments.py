"""Money that comes, goes and comes back: the Account's lifetime value follows every movement, over real HTTP."""

from __future__ import annotations

from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import DAY, Installation
from sync_pipeline_tests.engine.people import at_stripe, mark, only, records, win, writes_since


def billed(sync: Installation) -> str:
    """The story's deal, won and billed; its invoice."""
    win(sync.sandbox)
    sync.rest()
    return str(only(sync.sandbox, "invoice")["id"])


def pay_by(sync: Installation, invoice: str, card: str) -> None:
    customer = only(sync.sandbox, "customer")["id"]
    method = at_stripe(sync.sandbox, "POST", f"/v1/payment_methods/{card}/attach", customer=customer)
    at_stripe(sync.sandbox, "POST", f"/v1/invoices/{invoice}/pay", payment_method=method["id"])


def shown(sync: Installation) -> tuple[float, str]:
    sync.rest()
    value = only(sync.sandbox, "Account")["Lifetime_Value__c"]
    return value, only(sync.sandbox, "Opportunity")["Activation_Status__c"]


def settled_for_good(sync: Installation) -> None:
    start = mark(sync.sandbox)
    for _ in range(3):
        assert reconcile(sync.engine).agrees
    assert list(writes_since(sync.sandbox, start)) == []
    sync.check_books()


def test_a_dispute_takes_the_money_and_winning_it_brings_it_back(sync: Installation) -> None:
    pay_by(sync, billed(sync), "pm_card_createDispute")
    assert shown(sync) == (45_000.0, "Activated")
    first = only(sync.sandbox, "Opportunity")["First_Payment_At__c"]
    sync.wait(61)
    assert shown(sync) == (0.0, "Activated")
    dispute = only(sync.sandbox, "dispute")["id"]
    winning = {"evidence": {"uncategorized_text": "winning_evidence"}}
    at_stripe(sync.sandbox, "POST", f"/v1/disputes/{dispute}", **winning)
    sync.wait(61)
    assert shown(sync) == (45_000.0, "Activated")
    assert only(sync.sandbox, "Opportunity")["First_Payment_At__c"] == first
    settled_for_good(sync)


def test_a_refund_that_fails_later_is_money_again(sync: Installation) -> None:
    pay_by(sync, billed(sync), "pm_card_refundFail")
    sync.rest()
    charge = only(sync.sandbox, "charge")["id"]
    at_stripe(sync.sandbox, "POST", "/v1/refunds", charge=charge, amount=500_000)
    assert shown(sync) == (40_000.0, "Activated")
    sync.wait(DAY + 1)
    assert shown(sync) == (45_000.0, "Activated")
    settled_for_good(sync)


def test_credits_before_and_after_payment_and_money_that_came_and_went_elsewhere(sync: Installation) -> None:
    """5,000 are credited while the invoice is open, 40,000 paid by bank outside of Stripe, 1,000 of it given back
    there and 2,000 put on the balance, which is no cash."""
    invoice = billed(sync)
    at_stripe(sync.sandbox, "POST", "/v1/credit_notes", invoice=invoice, amount=500_000)
    assert shown(sync) == (0.0, "Pending")
    at_stripe(sync.sandbox, "POST", f"/v1/invoices/{invoice}/pay", paid_out_of_band=True)
    assert shown(sync) == (40_000.0, "Activated")
    at_stripe(sync.sandbox, "POST", "/v1/credit_notes", invoice=invoice, amount=100_000, out_of_band_amount=100_000)
    at_stripe(sync.sandbox, "POST", "/v1/credit_notes", invoice=invoice, amount=200_000, credit_amount=200_000)
    assert shown(sync) == (39_000.0, "Activated")
    assert len(records(sync.sandbox, "credit_note")) == 3
    settled_for_good(sync)
