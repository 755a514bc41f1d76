"""From Stripe's current JSON to records."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.stripe_records import Customer, Refund
from sync_pipeline.core.units import MICROS
from sync_pipeline.systems.outcomes import UNKNOWN_SHAPE
from sync_pipeline.systems.stripe import parse
from sync_pipeline_tests.systems import raw


def test_a_subscription() -> None:
    found = parse.subscription(
        raw.subscription(
            metadata={"sf_account_id": "001A", "sf_opportunity_id": "006A", "sf_intent": "sub:1"},
            cancel_at=raw.CREATED + 1,
            cancel_at_period_end=True,
        )
    )
    assert (found.id, found.customer, found.status, found.currency) == ("sub_1", "cus_1", "active", "GBP")
    assert found.created_at == found.start_at == found.anchor_at == raw.CREATED * MICROS
    assert (found.cancel_at, found.cancel_at_period_end) == ((raw.CREATED + 1) * MICROS, True)
    assert (found.account_id, found.opportunity_id, found.intent) == ("001A", "006A", "sub:1")


@pytest.mark.parametrize("field", ["customer", "latest_invoice"])
def test_expanded_and_plain_references_are_the_same(field: str) -> None:
    plain = raw.subscription()
    assert parse.subscription(plain) == parse.subscription(raw.subscription(**{field: {"id": plain[field]}}))


def test_a_status_of_the_future_is_kept_as_it_is() -> None:
    assert parse.subscription(raw.subscription(status="hibernating")).status == "hibernating"


def test_an_item_has_its_own_period_and_its_lines() -> None:
    found = parse.subscription_item(raw.subscription_item())
    assert (found.period_start, found.period_end) == (raw.CREATED * MICROS, (raw.CREATED + 2_592_000) * MICROS)
    assert found.line_ids == ("00kA", "00kB")
    assert (found.unit_amount, found.quantity, found.interval, found.currency) == (Decimal(1250), 2, "month", "GBP")


def test_a_price_below_a_penny_comes_from_its_decimal() -> None:
    fraction = raw.price(unit_amount=None, unit_amount_decimal="0.0125")
    assert parse.price(fraction).unit_amount == Decimal("0.0125")
    assert parse.subscription_item(raw.subscription_item(price=fraction)).unit_amount == Decimal("0.0125")


def test_a_tiered_metered_item_has_no_amount_and_no_quantity() -> None:
    metered = raw.price(
        unit_amount=None,
        unit_amount_decimal=None,
        recurring={"interval": "month", "interval_count": 1, "usage_type": "metered"},
    )
    item = {key: value for key, value in raw.subscription_item(price=metered, metadata={}).items() if key != "quantity"}
    found = parse.subscription_item(item)
    assert (found.unit_amount, found.quantity, found.usage_type, found.line_ids) == (None, None, "metered", ())


def test_a_price_of_packages_has_no_amount_of_a_unit() -> None:
    """100.00 for each 10 seats is no price of 100.00 a seat: MRR was ten times what Stripe bills."""
    packages = raw.price(unit_amount_decimal="10000", transform_quantity={"divide_by": 10, "round": "up"})
    for found in (parse.price(packages), parse.subscription_item(raw.subscription_item(price=packages))):
        assert found.unit_amount is None
        assert (found.package_amount, found.package_size, found.package_rounding) == (Decimal(10000), 10, "up")


@pytest.mark.parametrize("transform", [{"divide_by": 0, "round": "up"}, {"divide_by": 10, "round": "half"}, {}])
def test_packages_that_cannot_be_reckoned_are_an_unknown_shape(transform: dict[str, Any]) -> None:
    with pytest.raises(UNKNOWN_SHAPE):
        parse.price(raw.price(transform_quantity=transform))


def test_a_one_time_price_has_no_interval() -> None:
    found = parse.price(raw.price(recurring=None, type="one_time", product={"id": "prod_1"}))
    assert (found.interval, found.interval_count, found.product) == (None, None, "prod_1")


def test_a_customer() -> None:
    found = parse.customer(
        raw.customer(
            address={
                "line1": "1 High St",
                "line2": None,
                "city": "Leeds",
                "state": "",
                "postal_code": "L1",
                "country": "GB",
            },
            currency="gbp",
            tax_ids={
                "data": [
                    {"id": "txi_1", "type": "gb_vat", "value": "GB2"},
                    {"id": "txi_2", "type": "eu_vat", "value": "XI1"},
                ],
                "has_more": False,
            },
            metadata={"sf_account_id": "001A", "sf_intent": "cus:1"},
        )
    )
    assert (found.line1, found.city, found.country, found.currency) == ("1 High St", "Leeds", "GB", "GBP")
    assert found.tax_ids == ("eu_vat:XI1", "gb_vat:GB2")
    assert found.tax_id_names == ("txi_2", "txi_1")
    assert (found.account_id, found.intent) == ("001A", "cus:1")


def test_a_deleted_customer_keeps_its_id_only() -> None:
    assert parse.customer({"id": "cus_1", "object": "customer", "deleted": True}) == Customer(id="cus_1", deleted=True)


def test_a_customer_without_the_expandable_parts() -> None:
    assert parse.customer(raw.customer()).tax_ids == ()


def test_an_invoice_names_its_subscription_in_its_parent() -> None:
    paid = raw.invoice(status="paid", status_transitions={"finalized_at": raw.CREATED, "paid_at": raw.CREATED + 9})
    found = parse.invoice(paid)
    assert (found.subscription, found.paid_at, found.finalized_at) == (
        "sub_1",
        (raw.CREATED + 9) * MICROS,
        raw.CREATED * MICROS,
    )


def test_the_tax_of_an_invoice_is_the_sum_of_its_taxes() -> None:
    taxes = [{"amount": 2_000, "tax_behavior": "exclusive"}, {"amount": 600, "tax_behavior": "inclusive"}]
    assert parse.invoice(raw.invoice(total_taxes=taxes)).tax == 2_600
    assert parse.invoice(raw.invoice(total_taxes=None)).tax == 0


@pytest.mark.parametrize("parent", [None, {"type": "quote_details", "subscription_details": None}])
def test_an_invoice_of_no_subscription(parent: Any) -> None:
    found = parse.invoice(raw.invoice(parent=parent, due_date=None, number=None))
    assert (found.subscription, found.due_at, found.paid_at) == (None, None, None)


@pytest.mark.parametrize(
    ("payment", "behind"),
    [
        ({"type": "payment_intent", "payment_intent": "pi_1"}, "pi_1"),
        ({"type": "payment_intent", "payment_intent": {"id": "pi_1"}}, "pi_1"),
        ({"type": "charge", "charge": "ch_1"}, "ch_1"),
        ({"type": "payment_record", "payment_record": "pr_1"}, "pr_1"),
        ({"type": "of_the_future"}, None),
    ],
)
def test_an_invoice_payment_of_every_kind(payment: dict[str, Any], behind: str | None) -> None:
    found = parse.invoice_payment(raw.invoice_payment(payment=payment), "cus_1")
    assert (found.payment, found.customer, found.amount_paid) == (behind, "cus_1", 2500)
    assert found.paid_at == (raw.CREATED + 5) * MICROS


def test_an_invoice_payment_that_is_not_paid_yet() -> None:
    waiting = raw.invoice_payment(status="open", amount_paid=None, status_transitions={"paid_at": None})
    found = parse.invoice_payment(waiting, "cus_1")
    assert (found.amount_paid, found.paid_at) == (None, None)


@pytest.mark.parametrize(("status", "shown"), [("succeeded", "succeeded"), ("failed", "failed"), (None, "pending")])
def test_a_refund(status: str | None, shown: str) -> None:
    assert parse.refund(raw.refund(status=status), "cus_1") == Refund(
        id="re_1",
        customer="cus_1",
        status=shown,
        currency="GBP",
        amount=500,
        created_at=raw.CREATED * MICROS,
        payment="pi_1",
    )


HUGE = 10**30


@pytest.mark.parametrize(
    ("record", "changed"),
    [
        (lambda **raws: parse.refund(raw.refund(**raws), "cus_1"), {"amount": None}),
        (lambda **raws: parse.refund(raw.refund(**raws), "cus_1"), {"amount": "500"}),
        (lambda **raws: parse.refund(raw.refund(**raws), "cus_1"), {"id": None}),
        (lambda **raws: parse.invoice_payment(raw.invoice_payment(**raws), "cus_1"), {"amount_paid": "§"}),
        (lambda **raws: parse.invoice_payment(raw.invoice_payment(**raws), "cus_1"), {"amount_paid": HUGE}),
        (lambda **raws: parse.invoice_payment(raw.invoice_payment(**raws), "cus_1"), {"amount_paid": True}),
        (lambda **raws: parse.invoice_payment(raw.invoice_payment(**raws), "cus_1"), {"amount_paid": 1.5}),
        (lambda **raws: parse.subscription_item(raw.subscription_item(**raws)), {"quantity": HUGE}),
        (lambda **raws: parse.subscription_item(raw.subscription_item(**raws)), {"current_period_end": "soon"}),
        (lambda **raws: parse.subscription_item(raw.subscription_item(**raws)), {"current_period_end": 2**62}),
        (lambda **raws: parse.price(raw.price(**raws)), {"unit_amount_decimal": str(HUGE)}),
        (lambda **raws: parse.price(raw.price(**raws)), {"unit_amount_decimal": "NaN"}),
        (lambda **raws: parse.subscription(raw.subscription(**raws)), {"customer": None}),
        (lambda **raws: parse.subscription(raw.subscription(**raws)), {"customer": {"id": None}}),
        (lambda **raws: parse.subscription(raw.subscription(**raws)), {"latest_invoice": ["in_1"]}),
        (lambda **raws: parse.customer(raw.customer(**raws)), {"id": 5}),
        (lambda **raws: parse.customer(raw.customer(**raws)), {"name": ["Northwind"]}),
        (lambda **raws: parse.customer(raw.customer(**raws)), {"deleted": True, "id": None}),
    ],
)
def test_a_value_that_its_column_cannot_hold_is_an_unknown_shape(record: Any, changed: dict[str, Any]) -> None:
    """It was let through, and found where the ledger stores what belongs to all accounts."""
    assert record() is not None
    with pytest.raises(UNKNOWN_SHAPE):
        record(**changed)


def test_the_largest_number_that_a_column_holds_is_read() -> None:
    assert parse.refund(raw.refund(amount=2**63 - 1), "cus_1").amount == 2**63 - 1
