"""The Stripe adapter against a running sandbox."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.core.observation import Absent, Present
from sync_pipeline.core.tax_types import ONLY_BY_HAND
from sync_pipeline.core.units import MICROS
from sync_pipeline.systems.outcomes import DeadlinePassed, Outcome, ReadFailed
from sync_pipeline.systems.stripe import listings
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline_tests.sandbox_process import SandboxHandle
from sync_pipeline_tests.systems.conftest import START

NOW = START * MICROS
ACCOUNT = "001Aa0000000001IAA"
NAME = 'Northwind "Analytics" Ltd'
CUSTOMER = {
    "name": NAME,
    "address": {"line1": "14 Fleet Street", "city": "London", "country": "GB"},
    "tax_id_data": [{"type": "gb_vat", "value": "GB123456789"}],
    "metadata": {"sf_account_id": ACCOUNT, "sf_intent": "cus:org:1"},
}
PRODUCT = {"id": "sf_01tA", "name": "Analytics Platform"}
KEY = "sf_01tA:gbp:1year:3000000.5"
PRICE = {
    "product": "sf_01tA",
    "currency": "gbp",
    "unit_amount_decimal": "3000000.5",
    "recurring": {"interval": "year", "interval_count": 1},
    "lookup_key": KEY,
}


def unguarded() -> None:
    """Nothing keeps the write from being sent."""


def make(stripe: Stripe, kind: str, params: dict[str, Any], key: str | None = None) -> Outcome:
    return stripe.create(kind, params, key=key or f"key-{kind}", guard=unguarded)


def made(stripe: Stripe, kind: str, params: dict[str, Any], key: str | None = None) -> str:
    outcome = make(stripe, kind, params, key)
    assert outcome.state == "done", outcome
    assert outcome.object_id is not None
    return outcome.object_id


def subscribed(stripe: Stripe) -> tuple[str, str]:
    customer = made(stripe, "customer", CUSTOMER)
    made(stripe, "product", PRODUCT)
    price = made(stripe, "price", PRICE)
    params = {
        "customer": customer,
        "billing_mode": {"type": "flexible"},
        "collection_method": "send_invoice",
        "days_until_due": 30,
        "items": [{"price": price, "quantity": 2, "metadata": {"sf_line_id": "00kA,00kB"}}],
        "metadata": {"sf_account_id": ACCOUNT, "sf_opportunity_id": "006A", "sf_intent": "sub:org:1"},
    }
    return customer, made(stripe, "subscription", params)


def test_a_customer_is_read_as_it_was_made(stripe: Stripe) -> None:
    customer = made(stripe, "customer", CUSTOMER)
    found = stripe.customer(customer)
    assert isinstance(found, Present)
    assert (found.value.name, found.value.line1, found.value.country) == (NAME, "14 Fleet Street", "GB")
    assert found.value.tax_ids == ("gb_vat:GB123456789",)
    assert (found.value.account_id, found.value.intent) == (ACCOUNT, "cus:org:1")


def test_a_customer_that_is_not_there_is_proved_absent(stripe: Stripe) -> None:
    assert stripe.customer("cus_nobody") == Absent("404 for cus_nobody")


def test_the_same_key_makes_one_object(stripe: Stripe) -> None:
    assert made(stripe, "customer", CUSTOMER, "k1") == made(stripe, "customer", CUSTOMER, "k1")
    assert len(listings.everything(stripe)["customers"]) == 1


def test_an_update_sets_clears_and_keeps(stripe: Stripe) -> None:
    customer = made(stripe, "customer", CUSTOMER)
    params = {
        "name": "Renamed",
        "address": {"line1": "1 High St", "country": "GB"},
        "metadata": {"sf_account_id": "001B"},
    }
    assert stripe.update("customer", customer, params, key="u1", guard=unguarded).state == "done"
    found = stripe.customer(customer)
    assert isinstance(found, Present)
    assert (found.value.name, found.value.line1, found.value.city) == ("Renamed", "1 High St", None)
    assert (found.value.account_id, found.value.intent) == ("001B", "cus:org:1")


def test_a_tax_id_is_added_found_again_and_deleted(stripe: Stripe) -> None:
    customer = made(stripe, "customer", CUSTOMER)
    params = {"type": "eu_vat", "value": "DE123456789", "owner": {"type": "customer", "customer": customer}}
    added = made(stripe, "tax_id", params)
    assert stripe.find_created("tax_id", params, since=NOW) == added
    assert stripe.find_created("tax_id", params | {"type": "de_stn"}, since=NOW) is None
    (before,) = listings.everything(stripe)["customers"]
    assert dict(zip(before.tax_ids, before.tax_id_names, strict=True))["eu_vat:DE123456789"] == added
    assert stripe.delete("tax_id", added, guard=unguarded).state == "done"
    (after,) = listings.everything(stripe)["customers"]
    assert after.tax_ids == ("gb_vat:GB123456789",)
    assert stripe.delete("tax_id", added, guard=unguarded).state == "stale"


def test_types_of_tax_ids_that_only_a_person_can_name_are_taken(stripe: Stripe) -> None:
    sent = [{"type": kind, "value": "X1"} for kind in sorted(ONLY_BY_HAND)]
    found = stripe.customer(made(stripe, "customer", CUSTOMER | {"tax_id_data": sent}))
    assert isinstance(found, Present)
    assert sorted(found.value.tax_ids) == [f"{each['type']}:X1" for each in sent]


def test_a_refusal_says_what_and_where(stripe: Stripe) -> None:
    outcome = make(stripe, "customer", {"nonsense": "x"})
    assert (outcome.state, outcome.http_status) == ("rejected", 400)
    assert outcome.request_id is not None
    gone = stripe.update("customer", "cus_nobody", {"name": "x"}, key="u", guard=unguarded)
    assert (gone.state, gone.code) == ("stale", "resource_missing")


def test_what_exists_already_means_look_again(stripe: Stripe) -> None:
    made(stripe, "product", PRODUCT)
    assert make(stripe, "product", PRODUCT, "another-product").state == "stale"
    made(stripe, "price", PRICE)
    assert make(stripe, "price", PRICE, "another-price").state == "stale"


def test_a_key_with_other_parameters_is_refused(stripe: Stripe) -> None:
    made(stripe, "customer", CUSTOMER, "k1")
    assert make(stripe, "customer", CUSTOMER | {"name": "Other"}, "k1").state == "rejected"


def test_the_catalogue_tells_what_exists(stripe: Stripe) -> None:
    made(stripe, "product", PRODUCT)
    price = made(stripe, "price", PRICE)
    others = [f"sf_01tA:gbp:1year:{n}" for n in range(25)]
    found = stripe.catalogue(["sf_01tA", "sf_nothing"], [KEY, *others])
    assert found.products == {"sf_01tA"}
    assert {key: (each.id, each.unit_amount) for key, each in found.prices.items()} == {
        KEY: (price, Decimal("3000000.5"))
    }


def test_everything_of_a_customer(sandbox: SandboxHandle, stripe: Stripe) -> None:
    customer, subscription = subscribed(stripe)
    sandbox.control("POST", "/clock", {"advance_seconds": 4 * 86_400})
    sandbox.control("POST", "/payments", {"customer": customer, "outcome": "succeed"})
    found = stripe.billing(customer)
    (held,) = found.subscriptions
    assert (held.id, held.status, held.currency, held.opportunity_id) == (subscription, "active", "GBP", "006A")
    (item,) = found.items
    assert (item.quantity, item.unit_amount, item.line_ids) == (2, Decimal("3000000.5"), ("00kA", "00kB"))
    assert item.period_start == NOW
    (invoice,) = found.invoices
    assert (invoice.status, invoice.total, invoice.amount_paid, invoice.subscription) == (
        "paid",
        6_000_001,
        6_000_001,
        subscription,
    )
    (payment,) = found.payments
    assert (payment.invoice, payment.amount_paid, payment.status) == (invoice.id, 6_000_001, "paid")
    assert payment.paid_at == invoice.paid_at == (START + 4 * 86_400) * MICROS


def test_a_dispute_and_what_was_settled_in_another_currency(sandbox: SandboxHandle, stripe: Stripe) -> None:
    """60,000.01 pounds at 1.17 are 70,200.01 euros, taken back by the bank and won again (docs.stripe.com/disputes)."""
    sandbox.control("POST", "/settings", {"stripe": {"settle_in": "eur", "exchange_rates": {"gbp": "1.17"}}})
    customer, _ = subscribed(stripe)
    (invoice,) = stripe.billing(customer).invoices
    paying = {"payment_method": "pm_card_createDispute"}
    stripe._client.raw_request("post", f"/v1/payment_methods/{paying['payment_method']}/attach", customer=customer)
    (method,) = stripe.pages("/v1/payment_methods", customer=customer)
    stripe._client.raw_request("post", f"/v1/invoices/{invoice.id}/pay", payment_method=method["id"])
    sandbox.control("POST", "/clock", {"advance_seconds": 61})
    found = stripe.billing(customer)
    (charge,) = found.charges
    assert (charge.disputed, charge.settled_currency, charge.settled) == (True, "EUR", 7_020_001)
    (dispute,) = found.disputes
    assert (dispute.charge, dispute.currency, dispute.withdrawn) == (charge.id, "GBP", 6_000_001)
    assert (dispute.settled_currency, dispute.settled) == ("EUR", -7_020_001)
    assert tuple(listings.everything(stripe)["disputes"]) == found.disputes
    evidence = {"evidence": {"uncategorized_text": "winning_evidence"}}
    stripe._client.raw_request("post", f"/v1/disputes/{dispute.id}", **evidence)
    sandbox.control("POST", "/clock", {"advance_seconds": 61})
    (won,) = listings.everything(stripe)["disputes"]
    assert (won.status, won.withdrawn, won.settled) == ("won", 0, 0)
    assert stripe.billing(customer).disputes == ()


def test_an_ended_subscription_is_still_shown(sandbox: SandboxHandle, stripe: Stripe) -> None:
    customer, subscription = subscribed(stripe)
    stripe._client.raw_request("delete", f"/v1/subscriptions/{subscription}")
    assert [held.status for held in stripe.billing(customer).subscriptions] == ["canceled"]


def test_a_create_whose_answer_was_lost_is_found(stripe: Stripe) -> None:
    customer, subscription = subscribed(stripe)
    assert stripe.find_created("customer", CUSTOMER, since=NOW) == customer
    assert stripe.find_created("product", PRODUCT, since=NOW) == "sf_01tA"
    assert stripe.find_created("price", PRICE, since=NOW) == stripe.catalogue([], [KEY]).prices[KEY].id
    assert stripe.find_created("subscription", {"metadata": {"sf_intent": "sub:org:1"}}, since=NOW) == subscription


@pytest.mark.parametrize("kind", ["customer", "subscription"])
def test_a_create_that_never_happened_is_not_found(stripe: Stripe, kind: str) -> None:
    subscribed(stripe)
    assert stripe.find_created(kind, {"metadata": {"sf_intent": "another"}}, since=NOW) is None


def test_candidates_are_found_at_once_and_after_search_has_caught_up(sandbox: SandboxHandle, stripe: Stripe) -> None:
    same = made(stripe, "customer", {"name": NAME.upper()}, "a")
    ours = made(stripe, "customer", CUSTOMER | {"name": "Another name"}, "b")
    made(stripe, "customer", {"name": "A stranger"}, "c")
    fresh = stripe.customers_like(ACCOUNT, NAME, NOW)
    sandbox.control("POST", "/clock", {"advance_seconds": 7200})
    later = stripe.customers_like(ACCOUNT, NAME, NOW + 7200 * MICROS)
    assert {c.id for c in fresh} == {c.id for c in later} == {same, ours}
    assert {c.id: c.tax_ids for c in later}[ours] == ("gb_vat:GB123456789",)


def test_whole_tables(sandbox: SandboxHandle, stripe: Stripe) -> None:
    customer, subscription = subscribed(stripe)
    sandbox.control("POST", "/payments", {"customer": customer, "outcome": "succeed"})
    found = listings.everything(stripe)
    assert [each.id for each in found["customers"]] == [customer]
    assert [each.id for each in found["subscriptions"]] == [subscription]
    one = stripe.billing(customer)
    assert tuple(found["subscription_items"]) == one.items
    assert tuple(found["invoices"]) == one.invoices
    assert tuple(found["invoice_payments"]) == one.payments


def test_discounts_and_the_lines_that_they_were_taken_from(stripe: Stripe) -> None:
    """10% of 6,000,001.00 for ever, after £1,000 off the item once: 10% of 5,900,001 is 590,000.1."""
    customer = made(stripe, "customer", CUSTOMER)
    made(stripe, "product", PRODUCT)
    price = made(stripe, "price", PRICE)
    post = stripe._client.raw_request
    post("post", "/v1/coupons", id="ten", percent_off=10, duration="forever", applies_to={"products": ["sf_01tA"]})
    post("post", "/v1/coupons", id="once", amount_off=100_000, currency="gbp", duration="once")
    params = {
        "customer": customer,
        "collection_method": "send_invoice",
        "days_until_due": 30,
        "items": [{"price": price, "quantity": 2, "discounts": [{"coupon": "once"}]}],
        "discounts": [{"coupon": "ten"}],
    }
    subscription = made(stripe, "subscription", params)
    found = listings.everything(stripe)
    (item,) = found["subscription_items"]
    assert set(stripe.billing(customer).discounts) == set(found["discounts"])
    whole, part = sorted(found["discounts"], key=lambda each: each.item or "")
    assert (whole.subscription, whole.item, whole.percent_off, whole.duration) == (subscription, None, 10, "forever")
    assert (whole.coupon, part.coupon) == ("ten", "once")
    assert (whole.products, whole.start_at, whole.end_at) == (("sf_01tA",), NOW, None)
    assert (part.item, part.amount_off, part.percent_off, part.duration) == (item.id, 100_000, None, "once")
    (line,) = found["invoice_lines"]
    assert (line.item, line.subscription, line.invoice) == (item.id, subscription, found["invoices"][0].id)
    assert (line.amount, line.quantity, line.unit_amount) == (6_000_001, 2, Decimal("3000000.5"))
    assert (line.price, line.is_proration) == (price, False)
    assert (line.period_start, line.period_end) == (item.period_start, item.period_end)
    assert sorted(line.discounts) == sorted([f"{part.id}:100000", f"{whole.id}:590000"])


def test_lists_are_followed_to_their_last_page(stripe: Stripe) -> None:
    for number in range(105):
        make(stripe, "customer", {"name": f"Customer {number}"}, f"k{number}")
    found = [each.name for each in listings.everything(stripe)["customers"]]
    assert len(found) == len(set(found)) == 105


def test_events_since_a_moment(sandbox: SandboxHandle, stripe: Stripe) -> None:
    made(stripe, "customer", CUSTOMER)
    sandbox.control("POST", "/clock", {"advance_seconds": 60})
    stripe.create("product", PRODUCT, key="p", guard=unguarded)
    assert {event["type"] for event in stripe.events_since(NOW)} >= {"customer.created", "product.created"}
    later = {event["type"] for event in stripe.events_since(NOW + MICROS)}
    assert "product.created" in later
    assert "customer.created" not in later


def test_a_wrong_key_is_one_clear_line_without_it(sandbox: SandboxHandle) -> None:
    wrong = Stripe("sk_test_canary", base_url=sandbox.ready["stripe_url"])
    with pytest.raises(ReadFailed) as caught:
        wrong.account_id()
    assert caught.value.access
    assert "canary" not in str(caught.value)
    assert make(wrong, "customer", CUSTOMER).state == "denied"


def test_a_list_that_does_not_exist_is_a_failed_read(stripe: Stripe) -> None:
    with pytest.raises(ReadFailed):
        list(stripe.pages("/v1/nonsense"))
    with pytest.raises(ReadFailed):
        stripe.billing("cus_nobody")


def test_nothing_leaves_after_the_deadline(stripe: Stripe) -> None:
    def too_late() -> None:
        raise DeadlinePassed

    with pytest.raises(DeadlinePassed):
        stripe.create("customer", CUSTOMER, key="k", guard=too_late)
    assert stripe.calls == 0


def test_no_answer_is_ambiguous() -> None:
    nobody = Stripe("sk_test_x", base_url="http://127.0.0.1:9")
    assert make(nobody, "customer", CUSTOMER).state == "ambiguous"
    with pytest.raises(ReadFailed, match="no answer"):
        nobody.account_id()
