"""Canonical forms: what counts as the same value, and that our own write reads back as the same."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import CANON, address, country_code, moment, money, number, text
from sync_pipeline.core.money import Money
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.systems.salesforce import parse

# What a field of each form can hold after the adapters have parsed it.
PARSED: dict[str, st.SearchStrategy[Any]] = {
    "text": st.none() | st.text(),
    "identifier": st.none() | st.text(),
    "number": st.none() | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12),
    "money": st.none()
    | st.builds(Money, st.integers(-(10**12), 10**12), st.sampled_from(["GBP", "JPY", "KWD"]))
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12),
    "flag": st.none() | st.booleans(),
    "moment": st.none() | st.integers(0, 4_000_000_000_000_000),
    "address": st.none() | st.dictionaries(st.sampled_from(["line1", "city", "country"]), st.none() | st.text()),
}


def test_every_form_is_tested_here() -> None:
    assert PARSED.keys() == CANON.keys()


@pytest.mark.parametrize("form", sorted(CANON))
@given(data=st.data())
def test_forms_are_total_and_hold_in_canonical_json(form: str, data: st.DataObject) -> None:
    shown = CANON[form](data.draw(PARSED[form]))
    assert canonical.decode(canonical.encode(shown)) == shown


@given(st.text())
def test_a_text_reads_back_as_it_was_written(value: str) -> None:
    """Salesforce trims what it is given and shows an empty text as null."""
    written = text(value)
    read_back = (written or "").strip() or None
    assert text(read_back) == written


@given(st.integers(-(10**13), 10**13), st.sampled_from(["GBP", "JPY", "UGX"]))
def test_money_reads_back_as_it_was_written(minor: int, currency: str) -> None:
    """Over the wire, where Salesforce holds and shows a double with two decimals."""
    amount = Money(minor, currency)
    on_the_wire = canonical.encode(amount.decimal())
    shown_as_double = canonical.decode(repr(round(float(on_the_wire), 2)))
    assert money(parse.decimal(shown_as_double)) == money(amount)


@given(st.integers(0, 4_000_000_000))
def test_a_moment_reads_back_as_it_was_written(seconds: int) -> None:
    from datetime import UTC, datetime

    shown = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    assert moment(parse.moment(shown)) == seconds == moment(seconds * 1_000_000)


@pytest.mark.parametrize(
    ("one", "other"), [("35", "35.0"), ("1E+3", "1000"), ("0", "0.00"), ("0", "-0.0"), ("3750.00", "3750")]
)
def test_equal_numbers_are_one_form(one: str, other: str) -> None:
    assert number(Decimal(one)) == number(Decimal(other))
    assert money(Decimal(one)) == money(Decimal(other))


@pytest.mark.parametrize("digits", ["12345678901234567890123456789.01", "0.1234567890123456789012345678901"])
def test_a_number_is_never_rounded_by_its_form(digits: str) -> None:
    assert number(Decimal(digits)) == digits


def test_blank_and_null_are_the_same_text() -> None:
    assert text("  ") is text("") is text(None) is None
    assert text(" a b ") == "a b"


def test_the_filled_parts_of_an_address_count() -> None:
    assert address({"line1": " 1 High St ", "city": "", "state": None, "country": "GB"}) == {
        "line1": "1 High St",
        "country": "GB",
    }
    assert address({"city": " "}) is address(None) is None


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("United Kingdom", "GB"),
        ("UK", "GB"),
        ("uk", "GB"),
        ("GB", "GB"),
        ("GBR", "GB"),
        (" England ", "GB"),
        ("Scotland", "GB"),
        ("Wales", "GB"),
        ("Northern Ireland", "GB"),
        ("United States", "US"),
        ("United States of America", "US"),
        ("USA", "US"),
        ("U.S.A.", "US"),
        ("Deutschland", "DE"),
        ("Germany", "DE"),
        ("Turkey", "TR"),
        ("Türkiye", "TR"),
        ("Russia", "RU"),
        ("Ivory Coast", "CI"),
        ("Cote d'Ivoire", "CI"),
        ("Holland", "NL"),
        ("The Netherlands", "NL"),
        ("Republic of Ireland", "IE"),
        ("UAE", "AE"),
        ("Macedonia", "MK"),
        ("Swaziland", "SZ"),
        ("Macau", "MO"),
        ("Cape Verde", "CV"),
        ("Brunei", "BN"),
        ("Curacao", "CW"),
        ("Reunion", "RE"),
        ("South Korea", "KR"),
        ("Vietnam", "VN"),
        ("Czech Republic", "CZ"),
        ("Hong Kong", "HK"),
        ("Taiwan", "TW"),
    ],
)
def test_countries_as_people_write_them(name: str, code: str) -> None:
    assert country_code(name) == code


@pytest.mark.parametrize("name", [None, "", "  ", "Atlantis", "Europe", "n/a", "1"])
def test_an_unknown_country_is_none(name: str | None) -> None:
    assert country_code(name) is None


@given(st.none() | st.text())
def test_country_codes_are_total(name: str | None) -> None:
    code = country_code(name)
    assert code is None or (len(code) == 2 and code.isupper())


def test_the_records_hold_money_as_decimals_never_floats() -> None:
    assert not [f.name for f in fields(Account) if "float" in str(f.type)]
