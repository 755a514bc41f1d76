"""What a person is told a product of Stripe is called."""

from __future__ import annotations

from itertools import permutations

from sync_pipeline.core.product_names import product_name
from sync_pipeline_tests.core.making import deal, line, world


def test_a_product_that_was_renamed_while_its_lines_were_read_has_one_name_in_any_order() -> None:
    product = line(1).product_id
    renamed = [line(1, product_name="Seat"), line(2, product_id=product, product_name="Platform")]
    names = {product_name(world(deals=(deal(*lines),)), f"sf_{product}") for lines in permutations(renamed)}
    assert names == {"Platform"}
