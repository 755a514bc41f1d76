"""Invoices by hand, money that moves, and what undoes it: credit notes, refunds, disputes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox


def send(sandbox: Sandbox, amount: int = 1000, **fields: Any) -> Any:
    """An open invoice that was sent, of one subscription."""
    customer = fields.pop("customer", None) or sandbox.customer()
    how: dict[str, Any] = {"collection_method": "send_invoice", "days_until_due": 30, "expand": ["latest_invoice"]}
    return sandbox.subscribe(customer, sandbox.price(amount), **how, **fields).latest_invoice


def paid(sandbox: Sandbox, amount: int = 1000, card: str = "pm_card_visa") -> Any:
    """A paid invoice with its payment intent expanded."""
    subscription = sandbox.subscribe(sandbox.customer(card), sandbox.price(amount))
    payments = sandbox.v1.invoice_payments.list(
        {"invoice": subscription.latest_invoice, "expand": ["data.payment.payment_intent", "data.invoice"]}
    )
    return payments.data[0]


def test_manual_invoice_stays_a_draft(sandbox: Sandbox) -> None:
    """Facts 3.8, 9.19: auto_advance defaults to false; pending items are left out unless asked for."""
    customer = sandbox.customer("pm_card_visa")
    sandbox.v1.invoice_items.create({"customer": customer.id, "amount": 700, "currency": "gbp"})
    empty = sandbox.v1.invoices.create({"customer": customer.id})
    assert (empty.status, empty.auto_advance, empty.total, empty.parent) == ("draft", False, 0, None)
    included = {"customer": customer.id, "pending_invoice_items_behavior": "include"}
    full = sandbox.v1.invoices.create(included)
    assert full.total == 700
    sandbox.advance(30 * DAY)
    assert sandbox.v1.invoices.retrieve(full.id).status == "draft"
    final = sandbox.v1.invoices.finalize_invoice(full.id)
    assert (final.status, final.number is None, final.attempt_count) == ("open", False, 0)
    done = sandbox.v1.invoices.pay(full.id)
    assert (done.status, done.amount_paid, done.attempt_count) == ("paid", 700, 1)
    sandbox.v1.invoices.delete(empty.id)
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.invoices.delete(full.id)


def test_draft_can_be_edited_and_a_final_invoice_cannot(sandbox: Sandbox) -> None:
    """Facts 5.2: invoice_not_editable once it is final."""
    customer = sandbox.customer("pm_card_visa")
    invoice = sandbox.v1.invoices.create({"customer": customer.id})
    item = sandbox.v1.invoice_items.create(
        {
            "customer": customer.id,
            "invoice": invoice.id,
            "unit_amount_decimal": "12.5",
            "quantity": 3,
            "currency": "gbp",
        }
    )
    assert item.amount == 38  # 37.5 rounded half up, once
    assert sandbox.v1.invoices.retrieve(invoice.id).total == 38
    sandbox.v1.invoice_items.update(item.id, {"quantity": 4})
    assert sandbox.v1.invoices.retrieve(invoice.id).total == 50
    sandbox.v1.invoice_items.delete(item.id)
    assert sandbox.v1.invoices.retrieve(invoice.id).total == 0
    sandbox.v1.invoices.finalize_invoice(invoice.id)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.invoice_items.create(
            {"customer": customer.id, "invoice": invoice.id, "amount": 100, "currency": "gbp"}
        )
    assert caught.value.code == "invoice_not_editable"


def test_advancing_draft_finalises_after_an_hour(sandbox: Sandbox) -> None:
    """Facts 3.8: with auto_advance the draft lives for about an hour."""
    customer = sandbox.customer("pm_card_visa")
    sandbox.v1.invoice_items.create({"customer": customer.id, "amount": 700, "currency": "gbp"})
    invoice = sandbox.v1.invoices.create(
        {"customer": customer.id, "auto_advance": True, "pending_invoice_items_behavior": "include"}
    )
    assert invoice.automatically_finalizes_at == START + HOUR
    sandbox.advance(HOUR)
    assert sandbox.v1.invoices.retrieve(invoice.id).status == "paid"


def test_paid_out_of_band(sandbox: Sandbox) -> None:
    """Facts 3.8, 4.3: status paid, no charge, a payment_record, and no invoice.payment_succeeded."""
    invoice = send(sandbox)
    done = sandbox.v1.invoices.pay(invoice.id, {"paid_out_of_band": True, "expand": ["payments"]})
    assert (done.status, done.amount_paid_off_stripe) == ("paid", 1000)
    assert [p.payment.type for p in done.payments.data if p.status == "paid"] == ["payment_record"]
    assert sandbox.v1.charges.list().data == []
    types = sandbox.event_types()
    assert "invoice.paid" in types
    assert "invoice.payment_succeeded" not in types


def test_bank_transfer_of_a_sent_invoice(sandbox: Sandbox) -> None:
    """Issue A, story: four days later the customer pays; paid_at is that moment, through charge and intent."""
    invoice = send(sandbox, 4_500_000)
    sandbox.advance(4 * DAY)
    assert sandbox.system.plan_payment(invoice.customer, "fail")["status"] == "open"
    subscription = invoice.parent.subscription_details.subscription
    assert sandbox.v1.subscriptions.retrieve(subscription).status == "active"  # it is not due yet
    assert "invoice.payment_failed" in sandbox.event_types()
    result = sandbox.system.plan_payment(invoice.customer, "succeed")
    assert (result["invoice"], result["status"]) == (invoice.id, "paid")
    after = sandbox.v1.invoices.retrieve(invoice.id, {"expand": ["payments.data.payment.payment_intent"]})
    assert after.status_transitions.paid_at == START + 4 * DAY
    intent = after.payments.data[0].payment.payment_intent
    charge = sandbox.v1.charges.retrieve(intent.latest_charge, {"expand": ["balance_transaction"]})
    assert (intent.status, charge.amount, charge.balance_transaction.net) == ("succeeded", 4_500_000, 4_432_480)
    assert "invoice" not in charge
    assert {"invoice_payment.paid", "invoice.paid"} <= set(sandbox.event_types())


def test_partial_payment_with_an_own_intent(sandbox: Sandbox) -> None:
    """Facts 3.8: attach_payment: several invoice payments, the invoice is paid when they suffice."""
    invoice = send(sandbox)
    method = sandbox.v1.payment_methods.attach("pm_card_visa", {"customer": invoice.customer})
    for amount, status in ((400, "open"), (600, "paid")):
        intent = sandbox.v1.payment_intents.create({
            "amount": amount, "currency": "gbp", "customer": invoice.customer, "payment_method": method.id,
            "confirm": True,
        })  # fmt: skip
        after = sandbox.v1.invoices.attach_payment(invoice.id, {"payment_intent": intent.id})
        assert after.status == status
    assert (after.amount_paid, after.amount_remaining) == (1000, 0)


def test_void_and_uncollectible(sandbox: Sandbox) -> None:
    """Facts 2.7, 3.8: voiding cancels the intent; uncollectible can still be paid; paid cannot be void."""
    invoice = send(sandbox)
    gone = sandbox.v1.invoices.void_invoice(invoice.id, {"expand": ["payments.data.payment.payment_intent"]})
    intent = gone.payments.data[0].payment.payment_intent
    assert (gone.status, intent.status, intent.cancellation_reason) == ("void", "canceled", "void_invoice")
    other = send(sandbox)
    lost = sandbox.v1.invoices.mark_uncollectible(other.id)
    assert (lost.status, lost.status_details.uncollectible.reason) == ("uncollectible", "user_forgiven")
    assert sandbox.v1.invoices.pay(other.id, {"paid_out_of_band": True}).status == "paid"
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.invoices.void_invoice(other.id)


def test_paying_by_hand_with_a_bad_card(sandbox: Sandbox) -> None:
    """Facts 5.2: 402 card_declined with the intent inside; the failed attempt stays on record, and is replayed."""
    invoice = send(sandbox)
    method = sandbox.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": invoice.customer})
    for _ in range(2):
        with pytest.raises(stripe.CardError) as caught:
            sandbox.v1.invoices.pay(invoice.id, {"payment_method": method.id}, {"idempotency_key": "pay"})
    answer: Any = caught.value.json_body
    error = answer["error"]
    assert (error["code"], error["decline_code"]) == ("card_declined", "generic_decline")
    assert error["payment_intent"]["status"] == "requires_payment_method"
    assert sandbox.v1.invoices.retrieve(invoice.id).attempt_count == 1
    assert [c.status for c in sandbox.v1.charges.list().data] == ["failed"]


def test_zero_invoice_has_no_payment(sandbox: Sandbox) -> None:
    """Facts 3.8: a zero amount goes straight to paid, without intent or charge."""
    subscription = sandbox.subscribe(sandbox.customer(), sandbox.price(0), expand=["latest_invoice.payments"])
    assert (subscription.status, subscription.latest_invoice.status) == ("active", "paid")
    assert subscription.latest_invoice.payments.data == []
    assert sandbox.v1.payment_intents.list().data == []


def test_too_small_totals_are_carried(sandbox: Sandbox) -> None:
    """Facts 3.8: below the minimum charge amount_due is 0 and the balance moves to the customer."""
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, sandbox.price(20), expand=["latest_invoice"])
    invoice = subscription.latest_invoice
    assert (invoice.total, invoice.amount_due, invoice.status, invoice.ending_balance) == (20, 0, "paid", 20)
    assert sandbox.v1.customers.retrieve(customer.id).balance == 20


@pytest.mark.parametrize(("currency", "amount", "due"), [("ugx", 1_000_050, 1_000_100), ("isk", 12_340, 12_300),
                                                        ("kwd", 12_345, 12_350), ("jpy", 1234, 1234)])  # fmt: skip
def test_currencies_with_steps(sandbox: Sandbox, currency: str, amount: int, due: int) -> None:
    """Facts 3.10: UGX and ISK in hundreds, three-decimal currencies in tens; the difference is customer balance."""
    customer = sandbox.customer("pm_card_visa")
    price = sandbox.price(str(amount), currency=currency)  # a decimal, which may be finer than the money
    subscription = sandbox.subscribe(customer, price, expand=["latest_invoice"])
    assert subscription.latest_invoice.amount_due == due
    assert sandbox.v1.customers.retrieve(customer.id).balance == amount - due


def test_refund_leaves_the_invoice_alone(sandbox: Sandbox) -> None:
    """Facts 2.7, 4.3: refunds change the charge and the ledger, never the invoice; over-refunds are refused."""
    payment = paid(sandbox)
    intent = payment.payment.payment_intent
    refund = sandbox.v1.refunds.create({"payment_intent": intent.id, "amount": 300, "reason": "requested_by_customer"})
    charge = sandbox.v1.charges.retrieve(intent.latest_charge, {"expand": ["refunds"]})
    assert (charge.amount_refunded, charge.refunded, charge.refunds.data[0].id) == (300, False, refund.id)
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.refunds.create({"charge": charge.id, "amount": 701})
    sandbox.v1.refunds.create({"charge": charge.id})
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.refunds.create({"charge": charge.id})
    assert caught.value.code == "charge_already_refunded"
    invoice = sandbox.v1.invoices.retrieve(payment.invoice.id)
    assert (invoice.status, invoice.amount_paid) == ("paid", 1000)
    types = [t.type for t in sandbox.v1.balance_transactions.list().data]
    assert types == ["refund", "refund", "charge"]
    after = sandbox.event_types()
    assert after[after.index("refund.created") :] == ["refund.created", "charge.refunded"] * 2


def test_refund_that_fails_later(sandbox: Sandbox) -> None:
    """Issue B: a refund may fail later: the charge is whole again and the money back."""
    payment = paid(sandbox, card="pm_card_refundFail")
    intent = payment.payment.payment_intent
    refund = sandbox.v1.refunds.create({"payment_intent": intent.id})
    assert refund.status == "succeeded"
    sandbox.advance(2 * DAY)
    failed = sandbox.v1.refunds.retrieve(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    assert sandbox.v1.charges.retrieve(intent.latest_charge).amount_refunded == 0
    assert "refund.failed" in sandbox.event_types()


def test_pending_refund_can_be_canceled(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 2.7: refunds may be pending, then succeed or be canceled."""
    sandbox = make_sandbox(refund_settles_after=DAY)
    first = sandbox.v1.refunds.create({"payment_intent": paid(sandbox).payment.payment_intent.id})
    second = sandbox.v1.refunds.create({"payment_intent": paid(sandbox).payment.payment_intent.id})
    assert first.status == "pending"
    assert sandbox.v1.refunds.cancel(second.id).status == "canceled"
    sandbox.advance(DAY)
    assert sandbox.v1.refunds.retrieve(first.id).status == "succeeded"


def test_dispute(sandbox: Sandbox) -> None:
    """Facts 2.7, 4.3: funds are withdrawn with a fee, and reinstated when it is won."""
    charge = paid(sandbox, card="pm_card_createDispute").payment.payment_intent.latest_charge
    sandbox.advance(120)
    [dispute] = sandbox.v1.disputes.list({"charge": charge}).data
    assert (dispute.status, dispute.amount, dispute.balance_transactions[0].net) == ("needs_response", 1000, -3000)
    assert sandbox.v1.charges.retrieve(charge).disputed
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.refunds.create({"charge": charge})
    assert caught.value.code == "charge_disputed"
    sandbox.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}})
    sandbox.advance(120)
    assert sandbox.v1.disputes.retrieve(dispute.id).status == "won"
    expected = {"charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.updated",
                "charge.dispute.funds_reinstated", "charge.dispute.closed"}  # fmt: skip
    assert expected <= set(sandbox.event_types())


def test_dispute_that_is_lost(sandbox: Sandbox) -> None:
    """Facts 3.6: closing a dispute accepts the loss."""
    charge = paid(sandbox, card="pm_card_createDispute").payment.payment_intent.latest_charge
    sandbox.advance(120)
    [dispute] = sandbox.v1.disputes.list({"charge": charge}).data
    assert sandbox.v1.disputes.close(dispute.id).status == "lost"
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.disputes.close(dispute.id)


def test_credit_note_on_an_open_invoice(sandbox: Sandbox) -> None:
    """Facts 2.7: it reduces what is due first; to nothing, the invoice is paid and no cash came in."""
    invoice = send(sandbox)
    note = sandbox.v1.credit_notes.create({"invoice": invoice.id, "amount": 400})
    assert (note.type, note.pre_payment_amount, note.status) == ("pre_payment", 400, "issued")
    after = sandbox.v1.invoices.retrieve(invoice.id)
    assert (after.amount_remaining, after.pre_payment_credit_notes_amount, after.total) == (600, 400, 1000)
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.credit_notes.create({"invoice": invoice.id, "amount": 601})
    sandbox.v1.credit_notes.create({"invoice": invoice.id, "amount": 600})
    assert sandbox.v1.invoices.retrieve(invoice.id).status == "paid"
    assert sandbox.v1.charges.list().data == []


def test_credit_note_on_a_paid_invoice(sandbox: Sandbox) -> None:
    """Facts 2.7: after payment the excess must equal refund, balance credit and out-of-band together."""
    payment = paid(sandbox)
    invoice = payment.invoice
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.v1.credit_notes.create({"invoice": invoice.id, "amount": 500, "credit_amount": 100})
    line = {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id, "amount": 500}
    note = sandbox.v1.credit_notes.create(
        {"invoice": invoice.id, "lines": [line], "credit_amount": 200, "refund_amount": 300}
    )
    assert (note.type, note.post_payment_amount, note.refunds[0].amount_refunded) == ("post_payment", 500, 300)
    assert sandbox.v1.customers.retrieve(invoice.customer).balance == -200
    after = sandbox.v1.invoices.retrieve(invoice.id)
    assert (after.status, after.post_payment_credit_notes_amount, after.amount_paid) == ("paid", 500, 1000)


def test_void_credit_note(sandbox: Sandbox) -> None:
    """Facts 2.7: voiding a credit note of an open invoice makes it owe again."""
    invoice = send(sandbox)
    note = sandbox.v1.credit_notes.create({"invoice": invoice.id, "amount": 400})
    assert sandbox.v1.credit_notes.void_credit_note(note.id).status == "void"
    assert sandbox.v1.invoices.retrieve(invoice.id).amount_remaining == 1000


def test_invoice_payments_join_payment_and_invoice(sandbox: Sandbox) -> None:
    """Facts 1: invoice and intent are joined by GET /v1/invoice_payments?payment[payment_intent]=."""
    payment = paid(sandbox)
    found = sandbox.v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": payment.payment.payment_intent.id}}
    )
    assert [p.invoice for p in found.data] == [payment.invoice.id]


def test_lines_page(sandbox: Sandbox) -> None:
    """Facts 2.6: an invoice embeds the first ten lines; the rest pages by its url."""
    customer = sandbox.customer("pm_card_visa")
    items = [{"price": sandbox.price(100 + i).id} for i in range(14)]
    params = {"customer": customer.id, "items": items, "expand": ["latest_invoice"]}
    lines = sandbox.v1.subscriptions.create(params).latest_invoice.lines
    assert (len(lines.data), lines.has_more) == (10, True)
    assert sorted(line.amount for line in lines.auto_paging_iter()) == [100 + i for i in range(14)]


def test_lines_of_a_draft(sandbox: Sandbox) -> None:
    """Facts 3: add_lines, update_lines and remove_lines on a draft; unassigned items are pending again."""
    customer = sandbox.customer("pm_card_visa")
    invoice = sandbox.v1.invoices.create({"customer": customer.id, "currency": "gbp"})
    lines = [{"amount": 500, "description": "Setup"}, {"amount": 700, "description": "Training"}]
    added = sandbox.v1.invoices.add_lines(invoice.id, {"lines": lines, "invoice_metadata": {"a": "b"}})
    assert (added.total, added.metadata.to_dict()) == (1200, {"a": "b"})
    by_text = {line.description: line.id for line in added.lines.data}
    change = {"lines": [{"id": by_text["Setup"], "amount": 600}]}
    assert sandbox.v1.invoices.update_lines(invoice.id, change).total == 1300
    assert sandbox.v1.invoices.line_items.update(invoice.id, by_text["Setup"], {"amount": 650}).amount == 650
    removal = [{"id": by_text["Setup"], "behavior": "delete"}, {"id": by_text["Training"], "behavior": "unassign"}]
    assert sandbox.v1.invoices.remove_lines(invoice.id, {"lines": removal}).total == 0
    pending = sandbox.v1.invoice_items.list({"customer": customer.id, "pending": True}).data
    assert [item.amount for item in pending] == [700]


def test_partial_payments_out_of_band(sandbox: Sandbox) -> None:
    """Facts 3.8: reported payment records may pay part of an invoice; the default intent asks for the rest."""
    invoice = send(sandbox)
    for amount, status, left in ((300, "open", 700), (700, "paid", 0)):
        record = sandbox.v1.payment_records.report_payment({
            "amount_requested": {"currency": "gbp", "value": amount}, "outcome": "guaranteed",
            "guaranteed": {"guaranteed_at": START}, "initiated_at": START,
            "payment_method_details": {"type": "custom", "custom": {"display_name": "cheque"}},
        })  # fmt: skip
        after = sandbox.v1.invoices.attach_payment(invoice.id, {"payment_record": record.id})
        assert (after.status, after.amount_remaining) == (status, left)
        intent = sandbox.v1.payment_intents.list({"customer": invoice.customer}).data[0]
        assert (intent.amount, intent.status) == ((700, "requires_payment_method") if left else (700, "canceled"))
    assert after.amount_paid_off_stripe == 1000
    assert "invoice.payment_succeeded" not in sandbox.event_types()


def taxed(sandbox: Sandbox, amount: int = 1000, **fields: Any) -> Any:
    """A paid invoice with 20 % on top."""
    rate = sandbox.v1.tax_rates.create({"display_name": "VAT", "percentage": 20, "inclusive": False})
    customer = sandbox.customer("pm_card_visa")
    made = sandbox.subscribe(
        customer, sandbox.price(amount), default_tax_rates=[rate.id], expand=["latest_invoice"], **fields
    )
    return made.latest_invoice


@pytest.mark.parametrize("by", ["line", "amount"])
def test_credit_note_gives_back_the_tax(sandbox: Sandbox, by: str) -> None:
    """The contract: a note's amount includes tax, a line's amount does not; 1000 and 20 % are 1200."""
    invoice = taxed(sandbox)
    line = {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id, "quantity": 1}
    what = {"lines": [line]} if by == "line" else {"amount": 1200}
    note = sandbox.v1.credit_notes.create({"invoice": invoice.id, "refund_amount": 1200, **what})
    assert (note.total, note.subtotal, note.total_excluding_tax) == (1200, 1000, 1000)
    assert [(t.amount, t.taxable_amount) for t in note.total_taxes] == [(200, 1000)]
    assert note.total_taxes[0].tax_rate_details.tax_rate == invoice.total_taxes[0].tax_rate_details.tax_rate
    lines = sandbox.v1.credit_notes.line_items.list(note.id).data
    assert [(n.amount, [t.amount for t in n.taxes]) for n in lines] == ([(1000, [200])] if by == "line" else [])


def test_credit_notes_of_parts_give_back_the_whole(sandbox: Sandbox) -> None:
    """Facts 2.7: `discount_amount` and `total_taxes` of a credit note.

    999 less 10 % (100) and 20 % tax on 899 (180) is 1079: three thirds of the line are that, no more."""
    coupon = sandbox.v1.coupons.create({"percent_off": 10, "duration": "forever"})
    invoice = taxed(sandbox, 999, discounts=[{"coupon": coupon.id}])
    assert invoice.total == 1079
    line = {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id, "amount": 333}
    for refund, discount in ((360, 33), (359, 34), (360, 33)):  # and 60 of tax
        note = sandbox.v1.credit_notes.create({"invoice": invoice.id, "lines": [line], "refund_amount": refund})
        assert (note.subtotal, note.discount_amount, note.total_taxes[0].amount) == (333, discount, 60)
    after = sandbox.v1.invoices.retrieve(invoice.id)
    assert after.post_payment_credit_notes_amount == 1079
    with pytest.raises(stripe.InvalidRequestError, match="left to credit of the line"):
        sandbox.v1.credit_notes.create({"invoice": invoice.id, "lines": [line], "refund_amount": 360})


def test_a_canceled_refund_leaves_the_money_where_it_was(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 2.7: a refund may be canceled, and balance transactions are where money moves.

    The ledger is whole again: the refund's line has its mirror, which the refund names."""
    sandbox = make_sandbox(refund_settles_after=DAY)
    intent = paid(sandbox).payment.payment_intent

    def money() -> int:
        return sum(t.net for t in sandbox.v1.balance_transactions.list({"limit": 100}).data)

    before = money()
    refund = sandbox.v1.refunds.create({"payment_intent": intent.id, "amount": 300})
    assert money() == before - 300
    canceled = sandbox.v1.refunds.cancel(refund.id, {"expand": ["failure_balance_transaction"]})
    assert (canceled.failure_balance_transaction.net, money()) == (300, before)
    assert sandbox.v1.charges.retrieve(intent.latest_charge).amount_refunded == 0


def test_steps_are_kept_by_what_is_sent(sandbox: Sandbox) -> None:
    """Facts 3.10: UGX and ISK are sent in hundreds, three-decimal currencies with a last digit of 0."""
    customer = sandbox.customer("pm_card_visa")
    product = sandbox.v1.products.create({"name": "Seats"}).id
    for currency, wrong, right in (("ugx", 1_000_050, 1_000_100), ("isk", 12_340, 12_300), ("kwd", 12_345, 12_340)):

        def calls(amount: int, currency: str = currency) -> list[Callable[[], Any]]:
            money = {"amount": amount, "currency": currency}
            price = {"currency": currency, "product": product, "unit_amount": amount}
            return [
                lambda: sandbox.v1.payment_intents.create(money),
                lambda: sandbox.v1.prices.create(price),
                lambda: sandbox.v1.invoice_items.create({"customer": customer.id, **money}),
            ]

        for call in calls(wrong):
            with pytest.raises(stripe.InvalidRequestError, match="multiple of") as caught:
                call()
            assert caught.value.http_status == 400
        for call in calls(right):
            call()
    intent = sandbox.v1.payment_intents.create({"amount": 12_340, "currency": "kwd"})
    with pytest.raises(stripe.InvalidRequestError, match="multiple of 10"):
        sandbox.v1.payment_intents.update(intent.id, {"amount": 12_345})
    tiers = [{"up_to": "inf", "unit_amount": 15}]
    with pytest.raises(stripe.InvalidRequestError, match="multiple of 10"):
        sandbox.v1.prices.create({"currency": "kwd", "product": product, "billing_scheme": "tiered",
                                  "tiers_mode": "volume", "tiers": tiers})  # fmt: skip


def test_notes_by_amount_and_by_line_together_give_back_the_whole(sandbox: Sandbox) -> None:
    """Facts 2.7: `total_taxes` of a credit note.

    333 and 20 % (67) are 400: whatever the notes were made of, the last one takes the tax that is left."""
    invoice = taxed(sandbox, 333)
    create = sandbox.v1.credit_notes.create
    line = {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id, "amount": 100}
    by_line = create({"invoice": invoice.id, "lines": [line], "refund_amount": 120})
    assert by_line.total_taxes[0].amount == 20
    # Of 280 that are left 47 are tax: 99 carry 16.6.
    assert create({"invoice": invoice.id, "amount": 99, "refund_amount": 99}).total_taxes[0].amount == 17
    assert create({"invoice": invoice.id, "amount": 181, "refund_amount": 181}).total_taxes[0].amount == 30


def test_an_invoice_item_can_be_given_a_discount_later(sandbox: Sandbox) -> None:
    """`discounts` of an invoice item replaces those it had, on the draft that it stands on too.

    (SDK:params/_invoice_item_modify_params.py.)
    """
    customer = sandbox.customer("pm_card_visa")
    coupon = sandbox.v1.coupons.create({"percent_off": 25, "duration": "once"})
    invoice = sandbox.v1.invoices.create({"customer": customer.id, "currency": "gbp"})
    item = sandbox.v1.invoice_items.create({
        "customer": customer.id, "invoice": invoice.id, "amount": 1000, "currency": "gbp",
    })  # fmt: skip
    changed = sandbox.v1.invoice_items.update(item.id, {"discounts": [{"coupon": coupon.id}]})
    after = sandbox.v1.invoices.retrieve(invoice.id)
    assert (len(changed.discounts), after.subtotal, after.total) == (1, 1000, 750)
    line = after.lines.data[0]
    sandbox.v1.invoices.line_items.update(invoice.id, line.id, {"discounts": ""})
    assert sandbox.v1.invoices.retrieve(invoice.id).total == 1000


def test_another_amount_leaves_an_invoice_item_undiscountable(sandbox: Sandbox) -> None:
    """A parameter that is not sent stays as it is (SDK:params/_invoice_item_modify_params.py)."""
    customer = sandbox.customer()
    create, change = sandbox.v1.invoice_items.create, sandbox.v1.invoice_items.update
    item = create({"customer": customer.id, "amount": 1000, "currency": "gbp", "discountable": False})
    assert change(item.id, {"amount": 2000}).discountable is False
    assert change(item.id, {"discountable": True}).discountable is True


def test_what_waits_gives_a_first_invoice_its_currency(sandbox: Sandbox) -> None:
    """Facts 2.1: the currency of a customer is null until it is billed; nothing that waits is left behind."""
    customer = sandbox.customer()
    sandbox.v1.invoice_items.create({"customer": customer.id, "amount": 1000, "currency": "usd"})
    invoice = sandbox.v1.invoices.create({"customer": customer.id, "pending_invoice_items_behavior": "include"})
    assert (invoice.currency, invoice.total) == ("usd", 1000)


def test_foreign_money_is_settled_in_the_account_currency(make_sandbox: Callable[..., Sandbox]) -> None:
    """Facts 2.7: the balance transaction is "the only place for fees and settlement currency"; amount times
    exchange_rate is the amount in the account's currency. A refund is the mirror of its part."""
    sandbox = make_sandbox(settle_in="gbp", exchange_rates={"eur": "0.85", "jpy": "0.0052"})

    def ledger(charge: Any) -> tuple[Any, ...]:
        row = sandbox.v1.balance_transactions.retrieve(charge.balance_transaction)
        return row.amount, row.currency, row.exchange_rate, row.fee, row.net

    def charge(currency: str, amount: int) -> Any:
        customer = sandbox.customer("pm_card_visa")
        made = sandbox.subscribe(customer, sandbox.price(amount, currency=currency), expand=["latest_invoice.payments"])
        (payment,) = made.latest_invoice.payments.data
        return sandbox.v1.charges.list({"payment_intent": payment.payment.payment_intent}).data[0]

    euro = charge("eur", 1001)
    assert (euro.currency, euro.amount) == ("eur", 1001)
    # 1001 x 0.85 = 850.85; 1.5 % of 851 and 20 are 33 (32.8).
    assert ledger(euro) == (851, "gbp", 0.85, 33, 818)
    assert ledger(charge("jpy", 1000))[:3] == (520, "gbp", 0.0052)
    assert ledger(charge("gbp", 1000))[:3] == (1000, "gbp", None)
    with pytest.raises(stripe.APIError, match="settlement of usd without an exchange rate"):
        charge("usd", 1000)
    refund = sandbox.v1.refunds.create({"charge": euro.id})
    assert ledger(refund)[:2] == (-851, "gbp")
    assert [b.currency for b in sandbox.v1.balance.retrieve().pending] == ["gbp"]


def test_quantities_with_decimals(sandbox: Sandbox) -> None:
    """Facts 3: `quantity_decimal` of invoice items; `quantity` is its whole part (SDK:_invoice_item.py)."""
    customer = sandbox.customer()
    item = sandbox.v1.invoice_items.create({
        "customer": customer.id, "currency": "gbp", "quantity_decimal": "2.50", "unit_amount_decimal": "99.5",
    })  # fmt: skip
    assert (item.amount, item.quantity, str(item.quantity_decimal)) == (249, 2, "2.5")  # 248.75
    changed = sandbox.v1.invoice_items.update(item.id, {"unit_amount_decimal": "10"})
    assert (changed.amount, str(changed.quantity_decimal)) == (25, "2.5")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.invoice_items.update(item.id, {"quantity": 1, "quantity_decimal": "1.5"})
    assert caught.value.code == "parameters_exclusive"


def test_lines_of_a_credit_note_that_is_not_there_yet(sandbox: Sandbox) -> None:
    """Appendix C: a preview of a credit note has lines that can be paged, and leaves nothing behind."""
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), sandbox.price(1000), 3)
    invoice = sandbox.v1.invoices.retrieve(subscription.latest_invoice)
    lines = [{"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id, "amount": 700},
             {"type": "custom_line_item", "description": "Goodwill", "quantity": 1, "unit_amount": 200}]  # fmt: skip
    asked: dict[str, Any] = {"invoice": invoice.id, "lines": lines, "refund_amount": 900}
    first = sandbox.v1.credit_notes.preview_lines.list({**asked, "limit": 1})
    assert ([line.amount for line in first.data], first.has_more) == ([700], True)
    assert [line.amount for line in sandbox.v1.credit_notes.preview_lines.list(asked).data] == [700, 200]
    assert sandbox.v1.credit_notes.list().data == []
