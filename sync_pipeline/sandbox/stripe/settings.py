"""What a merchant could set in the Dashboard, and what the sandbox may be told about its own manners."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

DAY = 86_400
HOUR = 3_600


@dataclass(frozen=True, slots=True)
class StripeSettings:
    """Times are seconds of sandbox time.

    `retry_days`: days between one failed automatic payment and the next attempt. `final_action`: what becomes of the
    subscription when the attempts are used up; `overdue_action` the same for an unpaid `send_invoice` invoice,
    `overdue_grace` after its due date (None: it stays past_due). `cancel_on_dispute`: a disputed payment ends its
    subscription at once. `settle_in`: the one currency that the account's money is settled in (None: each in
    its own), at `exchange_rates`: what one major unit of another currency is in it, as decimal text ({"eur": "0.85"}).
    `webhook_failure_delay`: how long a draft waits at most for an endpoint that fails `invoice.created` (None: it does
    not wait). Limits of None are not enforced.
    """

    country: str = "GB"
    default_currency: str = "gbp"
    settle_in: str | None = None
    exchange_rates: dict[str, str] = field(default_factory=dict)
    business_name: str = "Sandbox Ltd"
    draft_seconds: int = HOUR
    incomplete_seconds: int = 23 * HOUR
    retry_days: tuple[int, ...] = (3, 5, 7)
    final_action: Literal["cancel", "unpaid", "past_due"] = "cancel"
    mark_uncollectible_at_end: bool = False
    overdue_action: Literal["cancel", "unpaid", "past_due"] = "past_due"
    overdue_grace: int | None = None
    cancel_on_dispute: bool = False
    search_lag: int = 5
    tax_id_verification: int = 30
    refund_settles_after: int = 0
    upcoming_days: int | None = 7
    fee_percent: str = "1.5"
    fee_fixed_minor: int = 20
    payout_delay: int = 2 * DAY
    requests_per_second: int | None = None
    endpoint_requests_per_second: int | None = None
    searches_per_second: int | None = None
    subscription_invoices_per_minute: int | None = None
    subscription_invoices_per_day: int | None = None
    subscription_quantity_updates_per_hour: int | None = None
    webhook_failure_delay: int | None = 3 * DAY
    webhook_gaps: tuple[int, ...] = tuple(minutes * 60 for minutes in (1, 5, 30, 120, 300, 600, 600, 720, 720, 720))

    def __post_init__(self) -> None:
        """Raises ValueError for rates that are not decimal text by lower-case currency, and for negative limits."""
        for name in self.__slots__:
            if re.search("_per_(second|minute|hour|day)$", name) and (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name}: must be 0 or more, or null for no limit")
        for currency, rate in self.exchange_rates.items():
            positive = re.fullmatch(r"\d+(\.\d+)?", rate) and Decimal(rate)
            if not re.fullmatch(r"[a-z]{3}", currency) or not positive:
                raise ValueError(f'exchange_rates: must be like {{"eur": "0.85"}}, not {{"{currency}": "{rate}"}}')
