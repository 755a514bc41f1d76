"""Tax id types by country and form; the numbers are Stripe's examples (docs.stripe.com/billing/customer/tax-ids)."""

from __future__ import annotations

import re

import pytest
from stripe.params import TaxIdCreateParams

from sync_pipeline.core.tax_types import BY_FORM, ONE_STOP_SHOP, ONLY_BY_HAND, ONLY_TYPE, tax_type
from sync_pipeline_tests.core.making import RULES, account, opportunity, story_lines
from sync_pipeline_tests.core.two_systems import TwoSystems

OF_STRIPE = sorted(re.findall(r"[a-z]{2}_[a-z_]+", str(TaxIdCreateParams.__annotations__["type"])))


@pytest.mark.parametrize(
    ("country", "registration", "kind"),
    [
        ("GB", "GB123456789", "gb_vat"),
        ("GB", "XI123456789", "eu_vat"),
        ("DE", "DE123456789", "eu_vat"),
        ("DE", "1234567890", "de_stn"),
        ("GR", "EL123456789", "eu_vat"),
        ("ES", "A12345678", "es_cif"),
        ("US", "12-3456789", "us_ein"),
        ("CA", "123456789RT0002", "ca_gst_hst"),
        ("CA", "123456789", "ca_bn"),
        ("CH", "CHE-123.456.789 MWST", "ch_vat"),
        ("CH", "CHE-123.456.789", "ch_uid"),
        ("JP", "T1234567891234", "jp_trn"),
        ("BR", "01.234.456/5432-10", "br_cnpj"),
        ("AU", "12345678912", "au_abn"),
        ("AU", "123456789123", "au_arn"),
        ("CA", "PST-1234-5678", "ca_pst_bc"),
        ("CA", "123456-7", None),
        ("CA", "1234567", None),
        ("CA", "1234567890TQ1234", "ca_qst"),
        ("FR", "FRAB123456789", "eu_vat"),
        ("FR", "1234567890123", "fr_spi"),
        ("MD", "1234567", "md_vat"),
        ("MD", "1234567890123", "md_cf"),
        ("MY", "12345678", "my_frp"),
        ("MY", "C 1234567890", "my_itn"),
        ("MY", "A12-3456-78912345", "my_sst"),
        ("MY", "1", None),
        ("NO", "123456789MVA", "no_vat"),
        ("NO", "1234567", "no_voec"),
        ("US", "EU123456789", "eu_oss_vat"),
        (None, "EU123456789", "eu_oss_vat"),
        ("AQ", "1", None),
        (None, "GB123456789", None),
    ],
)
def test_country_and_form_tell_the_type(country: str | None, registration: str, kind: str | None) -> None:
    assert tax_type(country, registration) == kind


def test_every_type_that_stripe_takes_follows_from_country_and_form_or_is_a_named_exception() -> None:
    derived = {"eu_vat", ONE_STOP_SHOP, *ONLY_TYPE.values(), *(kind for _, _, kind in BY_FORM)}
    assert len(OF_STRIPE) > 120
    assert derived | ONLY_BY_HAND.keys() == set(OF_STRIPE)
    assert not derived & ONLY_BY_HAND.keys()


@pytest.mark.parametrize("kind", OF_STRIPE)
def test_every_type_can_be_named_by_hand_and_reaches_stripe(kind: str) -> None:
    sold_to = account(tax_registration="X 1", tax_registration_type=kind.upper(), billing_country="Ruritania")
    both = TwoSystems(RULES)
    both.put(sold_to, opportunity(), *story_lines())
    both.settle()
    (customer,) = both.customers.values()
    assert customer.tax_ids == (f"{kind}:X 1",)


def test_a_type_that_stripe_does_not_take_is_told_and_the_deal_is_billed() -> None:
    both = TwoSystems(RULES)
    both.put(account(tax_registration_type="gb-vat"), opportunity(), *story_lines())
    both.settle()
    (customer,) = both.customers.values()
    assert (customer.tax_ids, len(both.subscriptions)) == ((), 1)
