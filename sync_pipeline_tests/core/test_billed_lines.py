"""Which lines of a ramp are billed at a moment, and which in phases that have not begun."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from sync_pipeline.core.billed_lines import lines_billed_later, lines_billed_now
from sync_pipeline.core.units import MICROS
from sync_pipeline_tests.core.making import RULES, deal, line, subscription

BEGAN = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * MICROS
WHOLE, FIRST, SECOND = (line(number).id for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("at", "now", "later"),
    [
        (datetime(2026, 3, 1, tzinfo=UTC), [WHOLE, FIRST], [WHOLE, SECOND]),
        (datetime(2027, 2, 28, 23, 59, 59, tzinfo=UTC), [WHOLE, FIRST], [WHOLE, SECOND]),
        (datetime(2027, 3, 1, tzinfo=UTC), [WHOLE, SECOND], []),
        (datetime(2029, 1, 1, tzinfo=UTC), [WHOLE, SECOND], []),
    ],
)
def test_a_ramp_of_two_years(at: datetime, now: list[str], later: list[str]) -> None:
    sold = deal(
        line(1),
        line(2, to_month=Decimal(12)),
        line(3, from_month=Decimal(13)),
        line(4, charge_type="One-Time"),
        term_months=Decimal(24),
    )
    began = subscription(start_at=BEGAN)
    moment = int(at.timestamp()) * MICROS
    assert [each.id for each in lines_billed_now(sold, began, RULES.commercial, moment)] == now
    assert [each.id for each in lines_billed_later(sold, began, RULES.commercial, moment)] == later


def test_without_a_ramp_everything_is_billed_now() -> None:
    sold = deal(line(1), line(4, charge_type="One-Time"), term_months=Decimal(24))
    began = subscription(start_at=BEGAN)
    assert [each.id for each in lines_billed_now(sold, began, RULES.commercial, BEGAN)] == [WHOLE]
    assert lines_billed_later(sold, began, RULES.commercial, BEGAN) == ()
