"""Units of time: every moment is in microseconds, UTC, while Stripe speaks of seconds."""

from __future__ import annotations

MICROS = 1_000_000
"""The microseconds of a second."""
HOUR_US = 3_600 * MICROS
DAY_US = 86_400 * MICROS
