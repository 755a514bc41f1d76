"""Short ways to say a record, a deal, a world: the £45,000 story unless a test says otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sync_pipeline.config.rules import load_rules
from sync_pipeline.core.observation import Absent, Present
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import Account, LineItem, Opportunity
from sync_pipeline.core.stripe_records import Customer, InvoicePayment, Refund, Subscription, SubscriptionItem
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Catalogue, Deal, Link, World

NOW = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()) * MICROS
ORG = "00DAa0000000001"
ACCOUNT = "001Aa0000000001IAA"
OPPORTUNITY = "006Aa0000000001IAA"
CONTRACT = "800Aa0000000001IAA"
CUSTOMER = "cus_northwind"
SUBSCRIPTION = "sub_northwind"
PERSONAL_KEY = b"a key of this installation only"

RULES: Rules = load_rules()


def account(**changed: Any) -> Account:
    values: dict[str, Any] = {
        "id": ACCOUNT,
        "name": "Northwind Analytics Ltd",
        "billing_street": "14 Fleet Street",
        "billing_city": "London",
        "billing_postal_code": "EC4Y 1AA",
        "billing_country": "United Kingdom",
        "tax_registration": "GB123456789",
        "tax_registration_type": "gb_vat",
    }
    return Account(**(values | changed))


RESTS = "edited just now, and written once it has rested for 45 s"
"""What an edit waits for under the shipped rules."""


def line(number: int = 1, **changed: Any) -> LineItem:
    values: dict[str, Any] = {
        "id": f"00kAa000000000{number}IAA",
        "opportunity_id": OPPORTUNITY,
        "product_id": f"01tAa000000000{number}IAA",
        "product_name": f"Product {number}",
        "quantity": Decimal(1),
        "unit_price": Decimal(100),
    }
    return LineItem(**(values | changed))


def story_lines() -> tuple[LineItem, ...]:
    """A base line of 30,000, 20 seats at 600 and 15 at 200: 45,000 a year."""
    return (
        line(1, product_name="Analytics Platform", product_family="Platform", unit_price=Decimal(30000)),
        line(2, product_name="Analyst Seat", product_family="Seats", quantity=Decimal(20), unit_price=Decimal(600)),
        line(3, product_name="Viewer Seat", product_family="Seats", quantity=Decimal(15), unit_price=Decimal(200)),
    )


def opportunity(**changed: Any) -> Opportunity:
    values: dict[str, Any] = {
        "id": OPPORTUNITY,
        "account_id": ACCOUNT,
        "is_won": True,
        "is_closed": True,
        "close_date": "2026-11-23",
        "billing_interval": "Annual",
        "term_months": Decimal(12),
        "service_start_date": "2026-11-23",
    }
    return Opportunity(**(values | changed))


def deal(*lines: LineItem, **changed: Any) -> Deal:
    return Deal(opportunity(**changed), lines or story_lines())


def customer(**changed: Any) -> Customer:
    return Customer(**({"id": CUSTOMER, "name": "Northwind Analytics Ltd"} | changed))


def subscription(**changed: Any) -> Subscription:
    values: dict[str, Any] = {
        "id": SUBSCRIPTION,
        "customer": CUSTOMER,
        "status": "active",
        "currency": "GBP",
        "created_at": NOW,
        "start_at": NOW,
        "collection_method": "send_invoice",
        "days_until_due": 30,
    }
    return Subscription(**(values | changed))


def item(**changed: Any) -> SubscriptionItem:
    values: dict[str, Any] = {
        "id": "si_1",
        "subscription": SUBSCRIPTION,
        "price": "price_1",
        "product": "prod_1",
        "currency": "GBP",
        "interval": "month",
        "interval_count": 1,
        "usage_type": "licensed",
        "unit_amount": Decimal(1000),
        "quantity": 1,
    }
    return SubscriptionItem(**(values | changed))


def packages(size: int, rounding: str, **changed: Any) -> SubscriptionItem:
    """An item that bills 10.00 for each so many units."""
    of_packages = {"package_amount": Decimal(1000), "package_size": size, "package_rounding": rounding}
    return item(**({"unit_amount": None} | of_packages | changed))


def payment(number: int = 1, **changed: Any) -> InvoicePayment:
    values: dict[str, Any] = {
        "id": f"inpay_{number}",
        "invoice": f"in_{number}",
        "customer": CUSTOMER,
        "status": "paid",
        "currency": "GBP",
        "amount_paid": 4_500_000,
        "paid_at": NOW,
        "payment": f"pi_{number}",
    }
    return InvoicePayment(**(values | changed))


def refund(number: int = 1, **changed: Any) -> Refund:
    values: dict[str, Any] = {
        "id": f"re_{number}",
        "customer": CUSTOMER,
        "status": "succeeded",
        "currency": "GBP",
        "amount": 500_000,
        "created_at": NOW,
        "payment": "pi_1",
    }
    return Refund(**(values | changed))


def world(**changed: Any) -> World:
    """One won deal, nothing at Stripe, everything looked at.

    `customer` says what is known of the one customer that the Account is linked to or names; `customers` of all.
    """
    values: dict[str, Any] = {
        "account_id": ACCOUNT,
        "org_id": ORG,
        "now": NOW,
        "account": Present(account()),
        "deals": (deal(),),
        "candidates": Present(()),
        "billing": Absent("no customer"),
        "catalogue": Present(Catalogue()),
    }
    values |= changed
    if "customer" in values:
        seen = values.pop("customer")
        values.setdefault("customers", {seen.value.id if isinstance(seen, Present) else CUSTOMER: seen})
    return World(**values)


def billed(*subscriptions: Subscription, items: tuple[SubscriptionItem, ...] = (), **changed: Any) -> World:
    """A world whose Account has a linked customer with these subscriptions."""
    return world(
        **{
            "account": Present(account(stripe_customer_id=CUSTOMER)),
            "customer": Present(customer(account_id=ACCOUNT)),
            "links": (Link("customer", ACCOUNT, CUSTOMER),),
            "billing": Present(Billing(subscriptions=subscriptions, items=items)),
        }
        | changed
    )
