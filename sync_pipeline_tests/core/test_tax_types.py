"""Tax id types by country and form; the numbers are Stripe's examples (docs.stripe.com/billing/customer/tax-ids)."""

from __future__ import annotations

import re

import pytest
from stripe.params import TaxIdCreateParams

from sync_pipeline.core.tax_types import BY_FORM, ONLY_TYPE, tax_type


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
        ("AQ", "1", None),
        (None, "GB123456789", None),
    ],
)
def test_country_and_form_tell_the_type(country: str | None, registration: str, kind: str | None) -> None:
    assert tax_type(country, registration) == kind


def test_every_type_is_one_that_stripe_takes() -> None:
    known = set(re.findall(r"[a-z_]+", str(TaxIdCreateParams.__annotations__["type"])))
    assert {"gb_vat", "us_ein"} <= known
    assert {*ONLY_TYPE.values(), *(kind for _, _, kind in BY_FORM)} <= known
