"""Billing addresses: an Account's as Stripe takes it, and what a customer has."""

from __future__ import annotations

from sync_pipeline.core.canon import country_code
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.stripe_records import Customer


def billing_address(account: Account) -> dict[str, str | None] | None:
    """Stripe's address of an Account: one line of street, country as ISO code. None without a known country."""
    country = country_code(account.billing_country)
    if country is None:
        return None
    street = ", ".join(filter(None, map(str.strip, (account.billing_street or "").splitlines())))
    return {
        "line1": street or None,
        "city": account.billing_city,
        "state": account.billing_state,
        "postal_code": account.billing_postal_code,
        "country": country,
    }


def stripe_address(customer: Customer) -> dict[str, str | None]:
    return {
        "line1": customer.line1,
        "city": customer.city,
        "state": customer.state,
        "postal_code": customer.postal_code,
        "country": customer.country,
    }
