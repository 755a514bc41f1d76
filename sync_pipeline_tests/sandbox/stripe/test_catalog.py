"""Products, prices, coupons, tax ids and payment methods."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import stripe

from sync_pipeline_tests.sandbox.stripe.conftest import DAY, HOUR, START, Sandbox


def test_product_id_is_the_clients_choice(sandbox: Sandbox) -> None:
    """Facts 2.3: the client may choose a product's id; it is unique."""
    sandbox.v1.products.create({"id": "01t000000000001", "name": "Base"})
    assert sandbox.v1.products.retrieve("01t000000000001").name == "Base"
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.products.create({"id": "01t000000000001", "name": "Again"})
    assert caught.value.code == "resource_already_exists"


def test_fractional_prices(sandbox: Sandbox) -> None:
    """Facts 2.3: unit_amount is null where there is a fraction of a cent; the decimal is always there."""
    fractional = sandbox.price("12.345")
    assert (fractional.unit_amount, fractional.unit_amount_decimal) == (None, Decimal("12.345"))
    whole = sandbox.price("1250.00")
    assert (whole.unit_amount, whole.unit_amount_decimal) == (1250, Decimal(1250))
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.price(5, unit_amount_decimal="5")


def test_prices_are_immutable_in_what_they_cost(sandbox: Sandbox) -> None:
    """Facts 2.3: an update accepts no amount; there is no delete, only active=false."""
    price = sandbox.price(1000)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.prices.update(price.id, {"unit_amount": 5})
    assert caught.value.code == "parameter_unknown"
    assert sandbox.v1.prices.update(price.id, {"active": False}).active is False
    customer = sandbox.customer("pm_card_visa")
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.subscribe(customer, price)


def test_a_plan_is_a_recurring_price_by_its_former_name(sandbox: Sandbox) -> None:
    """Sandbox facts 3: `plans`, for clients of old: the id is the client's choice, and its product may come with it."""
    plan = sandbox.v1.plans.create({
        "id": "gold", "amount_decimal": "12.5", "currency": "gbp", "interval": "year", "product": {"name": "Gold"},
        "nickname": "Gold", "metadata": {"tier": "1"},
    })  # fmt: skip
    assert (plan.id, plan.amount, plan.amount_decimal, plan.interval) == ("gold", None, Decimal("12.5"), "year")
    price = sandbox.v1.prices.retrieve("gold")
    assert (price.unit_amount_decimal, price.recurring.interval, price.product) == (
        Decimal("12.5"),
        "year",
        plan.product,
    )
    assert sandbox.v1.products.retrieve(plan.product).name == "Gold"
    changed = sandbox.v1.plans.update("gold", {"active": False, "nickname": "Old gold"})
    assert (changed.active, sandbox.v1.prices.retrieve("gold").nickname) == (False, "Old gold")
    seats = sandbox.v1.plans.create({"amount": 700, "currency": "gbp", "interval": "month", "product": plan.product})
    assert [each.id for each in sandbox.v1.plans.list().data] == [seats.id, "gold"]
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), seats, 3, expand=["latest_invoice"])
    assert subscription.latest_invoice.total == 2100
    for given, code in (({"id": "gold", "amount": 1}, "resource_already_exists"), ({}, "parameter_missing")):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            sandbox.v1.plans.create({"currency": "gbp", "interval": "month", "product": plan.product, **given})
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("tiers", "param"),
    [
        ([{"up_to": 5, "unit_amount": 100}], "tiers"),
        ([{"up_to": 5, "unit_amount": 100}, {"up_to": 5, "unit_amount": 90}, {"up_to": "inf", "unit_amount": 1}],
         "tiers[1][up_to]"),
        ([{"up_to": "inf", "unit_amount": 100}, {"up_to": "inf", "unit_amount": 1}], "tiers[0][up_to]"),
        ([{"up_to": 0, "unit_amount": 100}, {"up_to": "inf", "unit_amount": 1}], "tiers[0][up_to]"),
        ([{"up_to": "inf", "unit_amount": -1}], "tiers[0][unit_amount]"),
        ([{"up_to": "inf", "unit_amount": 1, "unit_amount_decimal": "1.5"}], "tiers[0][unit_amount]"),
    ],
)  # fmt: skip
def test_tiers_that_bill_nothing_sensible(sandbox: Sandbox, tiers: list[dict[str, Any]], param: str) -> None:
    """Facts 2.3: `up_to` is a number or, in the last tier, `inf`; only one of the two amounts may be sent."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.prices.create({
            "currency": "gbp", "billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers,
            "recurring": {"interval": "month"}, "product": sandbox.v1.products.create({"name": "Seats"}).id,
        })  # fmt: skip
    assert (caught.value.http_status, caught.value.param) == (400, param)


def test_amounts_and_percentages_have_ends(sandbox: Sandbox) -> None:
    """Facts 3.10: an amount has at most 8 digits, 12 in rupiah. The contract: a tax rate's percentage is out of 100."""
    assert sandbox.price(99_999_999).unit_amount == 99_999_999
    assert sandbox.price(100_000_000, currency="idr").unit_amount == 100_000_000
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.price(100_000_000)
    assert (caught.value.code, caught.value.param) == ("amount_too_large", "unit_amount")
    for percentage in (-1, 100.1):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            sandbox.v1.tax_rates.create({"display_name": "VAT", "percentage": percentage, "inclusive": False})
        assert caught.value.param == "percentage"


def test_a_deleted_plan_is_gone_for_new_subscriptions_only(sandbox: Sandbox) -> None:
    """The contract on deleting a plan: no new subscribers, and existing ones are not affected."""
    plan = sandbox.v1.plans.create({
        "id": "gold", "amount": 700, "currency": "gbp", "interval": "month", "product": {"name": "Gold"},
    })  # fmt: skip
    customer = sandbox.customer("pm_card_visa")
    subscription = sandbox.subscribe(customer, plan)
    assert sandbox.v1.plans.delete("gold").deleted
    for service, call, *arguments in (
        ("plans", "retrieve", "gold"),
        ("plans", "delete", "gold"),
        ("prices", "update", "gold", {"active": True}),
        ("subscriptions", "create", {"customer": customer.id, "items": [{"plan": "gold"}]}),
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            getattr(getattr(sandbox.v1, service), call)(*arguments)
        assert caught.value.code == "resource_missing"
    assert (sandbox.v1.plans.list().data, sandbox.v1.prices.list().data) == ([], [])
    assert len(sandbox.events("price.deleted")) == 1
    sandbox.advance(31 * DAY + HOUR)
    assert [i.total for i in sandbox.v1.invoices.list({"subscription": subscription.id}).data] == [700, 700]
    assert sandbox.v1.products.delete(plan.product).deleted


def test_interval_count_is_at_most_three_years(sandbox: Sandbox) -> None:
    """Facts 2.3: interval_count reaches at most three years."""
    product = sandbox.v1.products.create({"name": "P"})
    for interval, count in (("month", 37), ("year", 4), ("week", 157)):
        recurring = {"interval": interval, "interval_count": count}
        with pytest.raises(stripe.InvalidRequestError):
            sandbox.v1.prices.create(
                {"product": product.id, "currency": "gbp", "unit_amount": 1, "recurring": recurring}
            )


@pytest.mark.parametrize(
    ("mode", "quantity", "amount"), [("graduated", 5, 500), ("graduated", 15, 1250), ("volume", 15, 750)]
)
def test_tiers(sandbox: Sandbox, mode: str, quantity: int, amount: int) -> None:
    """Facts 2.3: tiers end in inf, which is shown as null; expand-only."""
    tiers = [{"up_to": 10, "unit_amount": 100}, {"up_to": "inf", "unit_amount": 50}]
    product = sandbox.v1.products.create({"name": "P"})
    price = sandbox.v1.prices.create({
        "product": product.id, "currency": "gbp", "recurring": {"interval": "month"}, "billing_scheme": "tiered",
        "tiers_mode": mode, "tiers": tiers, "expand": ["tiers"],
    })  # fmt: skip
    assert [t.up_to for t in price.tiers] == [10, None]
    subscription = sandbox.subscribe(sandbox.customer("pm_card_visa"), price, quantity, expand=["latest_invoice"])
    expected = amount
    assert subscription.latest_invoice.total == expected


@pytest.mark.parametrize(
    ("kind", "value"), [("gb_vat", "GB12345678"), ("eu_vat", "XX123"), ("us_ein", "12-34"), ("ch_vat", "CHE-123")]
)
def test_tax_id_formats(sandbox: Sandbox, kind: str, value: str) -> None:
    """Facts 2.2: an invalid format is 400 tax_id_invalid."""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.customers.create({"tax_id_data": [{"type": kind, "value": value}]})
    assert caught.value.code == "tax_id_invalid"
    assert sandbox.v1.customers.list().data == []


def test_tax_ids_are_verified_later(sandbox: Sandbox) -> None:
    """Facts 2.2: verification is asynchronous and announced; Greece is EL, Northern Ireland XI; no update exists."""
    customer = sandbox.customer()
    create = sandbox.v1.customers.tax_ids.create
    vat = create(customer.id, {"type": "gb_vat", "value": "GB123456789"})
    assert (vat.verification.status, vat.country) == ("pending", "GB")
    assert create(customer.id, {"type": "eu_vat", "value": "EL123456789"}).country == "GR"
    assert create(customer.id, {"type": "eu_vat", "value": "XI123456789"}).country == "GB"
    unknown = create(customer.id, {"type": "gb_vat", "value": "GB000000000"})
    sandbox.advance(60)
    states = {t.id: t.verification.status for t in sandbox.v1.customers.tax_ids.list(customer.id).data}
    assert (states[vat.id], states[unknown.id]) == ("verified", "unverified")
    updated = sandbox.events("customer.tax_id.updated")
    assert updated[0].data.previous_attributes.to_dict()["verification"]["status"] == "pending"
    sandbox.v1.customers.tax_ids.delete(customer.id, vat.id)
    assert vat.id not in [t.id for t in sandbox.v1.customers.tax_ids.list(customer.id).data]


def test_customer_defaults(sandbox: Sandbox) -> None:
    """Facts 2.1: currency is null until billed, then that of the billing; nulls are present, not missing."""
    customer = sandbox.customer("pm_card_visa")
    assert customer.currency is None
    assert "description" in customer
    sandbox.subscribe(customer, sandbox.price(1000, currency="eur"))
    assert sandbox.v1.customers.retrieve(customer.id).currency == "eur"


@pytest.mark.parametrize("email", ["nobody", "a b@acme.example", "@acme.example"])
def test_an_email_address_has_the_form_of_one(sandbox: Sandbox, email: str) -> None:
    """`email_invalid` is one of the codes of an error (SDK:_error_object.py)."""
    customer = sandbox.customer()
    with pytest.raises(stripe.InvalidRequestError) as made:
        sandbox.v1.customers.create({"email": email})
    with pytest.raises(stripe.InvalidRequestError) as changed:
        sandbox.v1.customers.update(customer.id, {"email": email})
    assert {(error.value.code, error.value.param) for error in (made, changed)} == {("email_invalid", "email")}
    assert sandbox.v1.customers.update(customer.id, {"email": ""}).email is None


def test_test_payment_methods(sandbox: Sandbox) -> None:
    """Facts 8.19: pm_card_visa becomes a new method at each use; attach and detach."""
    customer = sandbox.customer()
    method = sandbox.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    assert method.id.startswith("pm_")
    assert (method.id != "pm_card_visa", method.card.last4, method.customer) == (True, "4242", customer.id)
    assert [m.id for m in sandbox.v1.customers.payment_methods.list(customer.id).data] == [method.id]
    with pytest.raises(stripe.CardError) as caught:
        sandbox.v1.payment_methods.attach("pm_card_chargeDeclined", {"customer": customer.id})
    assert (caught.value.code, caught.value.http_status) == ("card_declined", 402)
    assert sandbox.v1.payment_methods.detach(method.id).customer is None


def test_customer_balance(sandbox: Sandbox) -> None:
    """Facts 2.1: negative is credit; the next invoice uses it up."""
    customer = sandbox.customer("pm_card_visa")
    sandbox.v1.customers.balance_transactions.create(customer.id, {"amount": -300, "currency": "gbp"})
    assert sandbox.v1.customers.retrieve(customer.id).balance == -300
    subscription = sandbox.subscribe(customer, sandbox.price(1000), expand=["latest_invoice"])
    invoice = subscription.latest_invoice
    assert (invoice.total, invoice.starting_balance, invoice.ending_balance, invoice.amount_due) == (1000, -300, 0, 700)
    assert sandbox.v1.customers.retrieve(customer.id).balance == 0
    types = [t.type for t in sandbox.v1.customers.balance_transactions.list(customer.id).data]
    assert types == ["applied_to_invoice", "adjustment"]


def test_a_balance_transaction_can_be_described_later(sandbox: Sandbox) -> None:
    """Facts 2.1: the balance stays as it was; what can change is description and metadata
    (SDK:params/_customer_modify_balance_transaction_params.py)."""
    customer = sandbox.customer()
    made = sandbox.v1.customers.balance_transactions.create(customer.id, {"amount": -500, "currency": "gbp"})
    changed = sandbox.v1.customers.balance_transactions.update(
        customer.id, made.id, {"description": "Goodwill", "metadata": {"case": "1"}}
    )
    assert (changed.amount, changed.description, changed.metadata["case"]) == (-500, "Goodwill", "1")


@pytest.mark.parametrize(
    ("coupon", "first", "second"),
    [
        ({"percent_off": 25, "duration": "once"}, 750, 1000),
        ({"percent_off": 10.5, "duration": "forever"}, 895, 895),
        ({"amount_off": 400, "currency": "gbp", "duration": "repeating", "duration_in_months": 1}, 600, 1000),
    ],
)
def test_coupons(sandbox: Sandbox, coupon: dict[str, Any], first: int, second: int) -> None:
    """Facts 1: discounts are a list of ids; their source names the coupon. Once, repeating, forever.

    One for a single invoice is gone from the subscription when that is final (stripe/stripe-go#944).
    """
    made = sandbox.v1.coupons.create(coupon)
    subscription = sandbox.subscribe(
        sandbox.customer("pm_card_visa"), sandbox.price(1000), discounts=[{"coupon": made.id}], expand=["discounts"]
    )
    left = [] if coupon["duration"] == "once" else [made.id]
    assert [discount.source.coupon for discount in subscription.discounts] == left
    sandbox.advance(32 * 86_400)
    totals = [i.total for i in sandbox.v1.invoices.list({"subscription": subscription.id}).data]
    assert totals == [second, first]


def test_coupons_expire(sandbox: Sandbox) -> None:
    """Facts 5.2: coupon_expired after redeem_by, and after the last redemption."""
    early = sandbox.v1.coupons.create({"percent_off": 5, "duration": "once", "redeem_by": START + DAY})
    single = sandbox.v1.coupons.create({"percent_off": 5, "duration": "once", "max_redemptions": 1})
    customer, price = sandbox.customer("pm_card_visa"), sandbox.price(1000)
    sandbox.subscribe(customer, price, discounts=[{"coupon": single.id}])
    sandbox.advance(DAY)
    for coupon in (early, single):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            sandbox.subscribe(customer, price, discounts=[{"coupon": coupon.id}])
        assert caught.value.code == "coupon_expired"


def test_promotion_codes(sandbox: Sandbox) -> None:
    """Facts 1: discounts may name a promotion code; the discount remembers it."""
    coupon = sandbox.v1.coupons.create({"percent_off": 50, "duration": "once"})
    code = sandbox.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}, "code": "HALF"})
    assert [c.id for c in sandbox.v1.promotion_codes.list({"code": "HALF"}).data] == [code.id]
    subscription = sandbox.subscribe(
        sandbox.customer("pm_card_visa"), sandbox.price(1000), discounts=[{"promotion_code": code.id}],
        expand=["latest_invoice.discounts"],
    )  # fmt: skip
    invoice = subscription.latest_invoice
    assert (invoice.discounts[0].promotion_code, invoice.total) == (code.id, 500)


def test_an_amount_cannot_be_taken_off_for_ever(sandbox: Sandbox) -> None:
    """docs.stripe.com/changelog/basil/2025-03-31/restrict-coupon-duration"""
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sandbox.v1.coupons.create({"amount_off": 100, "currency": "gbp", "duration": "forever"})
    assert caught.value.param == "duration"


@pytest.mark.parametrize(("inclusive", "total", "net"), [(False, 1200, 1000), (True, 1000, 833)])
def test_tax_rates(sandbox: Sandbox, inclusive: bool, total: int, net: int) -> None:
    """Facts 1, 9.25: total_taxes; exclusive tax is on top, inclusive within: total equals subtotal."""
    rate = sandbox.v1.tax_rates.create({"display_name": "VAT", "percentage": 20, "inclusive": inclusive})
    subscription = sandbox.subscribe(
        sandbox.customer("pm_card_visa"), sandbox.price(1000), default_tax_rates=[rate.id], expand=["latest_invoice"]
    )
    invoice = subscription.latest_invoice
    assert (invoice.subtotal, invoice.total, invoice.total_excluding_tax) == (1000, total, net)
    assert invoice.total_taxes[0].tax_rate_details.tax_rate == rate.id
    assert invoice.total_taxes[0].amount == total - net


def test_reverse_charge(sandbox: Sandbox) -> None:
    """A customer with tax_exempt=reverse is charged no tax, and the tax line says why.

    Facts 2.1: tax_exempt; 1: taxability_reason of total_taxes.
    """
    rate = sandbox.v1.tax_rates.create({"display_name": "VAT", "percentage": 20, "inclusive": False})
    customer = sandbox.customer("pm_card_visa", tax_exempt="reverse")
    subscription = sandbox.subscribe(
        customer, sandbox.price(1000), default_tax_rates=[rate.id], expand=["latest_invoice"]
    )
    assert subscription.latest_invoice.total == 1000
    assert subscription.latest_invoice.total_taxes[0].taxability_reason == "reverse_charge"


def test_unset_lists_are_empty(sandbox: Sandbox) -> None:
    """Facts 8.1: a list that is not nullable is shown empty when it is unset."""
    product = sandbox.v1.products.create({"name": "P", "images": ["https://example.com/a.png"]})
    changed = sandbox.v1.products.update(product.id, {"images": "", "marketing_features": ""})
    assert (changed.images, changed.marketing_features) == ([], [])


def test_a_deleted_coupon_goes_on_for_those_who_have_it(sandbox: Sandbox) -> None:
    """Deleting a coupon only ends new redemptions (SDK:_coupon_service.py, delete)."""
    coupon = sandbox.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    customer, price = sandbox.customer("pm_card_visa"), sandbox.price(1000)
    subscription = sandbox.subscribe(customer, price, discounts=[{"coupon": coupon.id}])
    sandbox.v1.coupons.delete(coupon.id)
    sandbox.advance(31 * DAY)
    assert sandbox.v1.invoices.list({"subscription": subscription.id}).data[0].total == 500
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.subscribe(customer, price, discounts=[{"coupon": coupon.id}])


def test_a_coupon_of_another_currency_is_refused(sandbox: Sandbox) -> None:
    """Facts 3.2: all of a subscription is in one currency; `amount_off` is in that of the coupon (SDK:_coupon.py).

    An amount in dollars cannot be taken off pounds: of a subscription, an item, an invoice or an invoice item.
    """
    off = [
        {
            "coupon": sandbox.v1.coupons.create(
                {"amount_off": 100, "currency": "usd", "duration": "repeating", "duration_in_months": 12}
            ).id
        }
    ]
    customer, price = sandbox.customer("pm_card_visa"), sandbox.price(1000)
    subscription = sandbox.subscribe(customer, price)
    item = {"customer": customer.id, "amount": 500, "currency": "gbp", "discounts": off}
    refused: list[Callable[[], Any]] = [
        lambda: sandbox.subscribe(customer, price, discounts=off),
        lambda: sandbox.v1.subscriptions.update(subscription.id, {"discounts": off}),
        lambda: sandbox.v1.subscription_items.update(subscription["items"].data[0].id, {"discounts": off}),
        lambda: sandbox.v1.invoices.create({"customer": customer.id, "currency": "gbp", "discounts": off}),
        lambda: sandbox.v1.invoices.create_preview({"subscription": subscription.id, "discounts": off}),
        lambda: sandbox.v1.invoice_items.create(item),
    ]
    for call in refused:
        with pytest.raises(stripe.InvalidRequestError, match="expected currency: `gbp`"):
            call()


def test_a_promotion_code_keeps_its_terms(sandbox: Sandbox) -> None:
    """Its customer, its last redemption and its end; a code in use cannot be made twice (SDK:_promotion_code.py)."""
    coupon = sandbox.v1.coupons.create({"percent_off": 50, "duration": "once"})
    owner, other, price = sandbox.customer("pm_card_visa"), sandbox.customer("pm_card_visa"), sandbox.price(1000)

    def code(name: str, **terms: Any) -> list[dict[str, str]]:
        promotion = {"type": "coupon", "coupon": coupon.id}
        made = sandbox.v1.promotion_codes.create({"promotion": promotion, "code": name, **terms})
        return [{"promotion_code": made.id}]

    own, single = code("OWN", customer=owner.id), code("ONE", max_redemptions=1)
    early = code("EARLY", expires_at=START + 60)
    sandbox.subscribe(owner, price, discounts=own)
    sandbox.subscribe(owner, price, discounts=single)
    sandbox.advance(60)
    for spent in (own, single, early):
        with pytest.raises(stripe.InvalidRequestError, match="promotion code"):
            sandbox.subscribe(other, price, discounts=spent)
    active = sandbox.v1.promotion_codes.list({"active": True}).data
    assert [c.code for c in active] == ["OWN"]
    with pytest.raises(stripe.InvalidRequestError, match="cannot be activated again"):
        sandbox.v1.promotion_codes.update(single[0]["promotion_code"], {"active": True})
    with pytest.raises(stripe.InvalidRequestError, match="`code: OWN`"):
        code("OWN")
