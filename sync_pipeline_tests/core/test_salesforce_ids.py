"""Record ids in the ways in which people have them."""

from __future__ import annotations

import pytest

from sync_pipeline.core.salesforce_ids import record_id

# A pair of the vendor's documentation (facts/salesforce.md): the short form and the long one.
SHORT, LONG = "001D000000IqhSL", "001D000000IqhSLIAZ"


@pytest.mark.parametrize(
    "text",
    [
        SHORT,
        LONG,
        f"  {LONG}\n",
        f"https://acme.lightning.force.com/lightning/r/Account/{LONG}/view",
        f"https://acme.lightning.force.com/lightning/r/Account/{SHORT}/view?ws=%2Flightning%2Fr%2FCase%2F500D000000abcde",
        f"https://acme.my.salesforce.com/{SHORT}",
        f"https://acme.my.salesforce.com/{LONG}?nooverride=1",
    ],
)
def test_an_id_of_either_length_and_a_link_mean_the_record(text: str) -> None:
    assert record_id(text) == LONG


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Northwind",
        LONG[:-1],
        LONG[:-1] + "A",
        LONG.lower(),
        "cus_VA1NV3SruaU5PB",
        "https://acme.my.salesforce.com/home",
    ],
)
def test_what_was_mistyped_is_no_id(text: str) -> None:
    assert record_id(text) is None
