"""Who the customers of a made-up software company are, and what happens to each over three years. Pure and seeded.

Only intentions stand here; what they come to (invoices, prorations, retries) is for the two systems to work out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from dateutil.relativedelta import relativedelta

HOUR = 3_600
DAY = 86_400
YEARS = 3

# Shares of the deals that are still open, and that were lost.
OPEN, LOST = 0.05, 0.08
# A year's share of customers who leave, and how often a period is given back in part.
LEAVING, REFUNDED = 0.10, 0.03
# How often a period's charge or invoice is not paid when it should be.
CARD_FAILS_FOR_GOOD, CARD_FAILS = 0.015, 0.06
NEVER_PAYS, PAYS_LATE = 0.015, 0.33
# A renewal is worked on for so long before its term begins.
RENEWAL_DAYS = 90
LOST_TO = ("Chose a competitor", "No budget this year", "No decision", "Built it themselves")
FEEDBACK = ("too_expensive", "missing_features", "switched_service", "unused", "too_complex", "customer_service")

# product: family, and list price of a year in whole units of each currency
PRODUCTS: dict[str, tuple[str, dict[str, int]]] = {
    "Platform Core": ("Platform", {"GBP": 6_000, "EUR": 7_200, "USD": 7_800, "JPY": 1_200_000}),
    "Platform Growth": ("Platform", {"GBP": 18_000, "EUR": 21_600, "USD": 23_400, "JPY": 3_600_000}),
    "Platform Enterprise": ("Platform", {"GBP": 36_000, "EUR": 43_200, "USD": 46_800, "JPY": 7_200_000}),
    "Editor Seat": ("Seats", {"GBP": 600, "EUR": 720, "USD": 780, "JPY": 120_000}),
    "Viewer Seat": ("Seats", {"GBP": 240, "EUR": 288, "USD": 312, "JPY": 48_000}),
    "Support Plus": ("Services", {"GBP": 2_400, "EUR": 2_880, "USD": 3_120, "JPY": 480_000}),
}
INTERVALS = {"Monthly": ("month", 1), "Quarterly": ("month", 3), "Annual": ("year", 1)}


@dataclass(frozen=True, slots=True)
class Country:
    name: str
    code: str
    currency: str
    suffixes: tuple[str, ...]
    cities: tuple[str, ...]
    tax_type: str
    tax_format: str


_COUNTRIES = (
    Country("United Kingdom", "GB", "GBP", ("Ltd", "plc"), ("London", "Leeds", "Bristol"), "gb_vat", "GB#########"),
    Country("Germany", "DE", "EUR", ("GmbH", "AG"), ("Berlin", "Hamburg", "München"), "eu_vat", "DE#########"),
    Country("France", "FR", "EUR", ("SAS", "SARL"), ("Paris", "Lyon", "Nantes"), "eu_vat", "FR###########"),
    Country("Netherlands", "NL", "EUR", ("B.V.",), ("Amsterdam", "Utrecht"), "eu_vat", "NL#########B01"),
    Country("United States", "US", "USD", ("Inc.", "LLC"), ("Austin", "Boston"), "us_ein", "##-#######"),
    Country("Japan", "JP", "JPY", ("K.K.",), ("Tokyo", "Osaka"), "jp_trn", "T#############"),
)
_WEIGHTS = (50, 12, 8, 6, 20, 4)
_FIRST = (
    "Alder Amber Anchor Arden Beacon Birch Bright Cedar Clear Cobalt Copper Crest Delta Ember Falcon Fern Granite "
    "Harbour Hazel Iron Juniper Kestrel Lark Linden Maple Meridian North Oak Orchard Pebble Quarry Raven Ridge River "
    "Rowan Sable Silver Slate Sterling Summit Thistle Union Valley Vertex Willow Winter"
).split()
_SECOND = (
    "Analytics Biotech Capital Care Commerce Dynamics Energy Engineering Foods Freight Health Holdings Hotels "
    "Insurance Labs Learning Legal Logistics Marine Media Mobility Networks Optics Payments Pharma Power Print "
    "Properties Robotics Security Software Studios Systems Telecom Textiles Travel Ventures Water Works"
).split()


@dataclass(frozen=True, slots=True)
class Line:
    """`amount_minor` is the negotiated price per unit and billing interval, in Stripe's minor units."""

    product: str
    quantity: int
    list_minor: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happens to a customer at a moment (epoch seconds).

    `what`: win or lose (the deal), amend (line `number` gets `quantity` more, by an amendment), correct (so many
    fewer, on the deal itself), turn_down (an expansion is lost), settle (pays the oldest invoice that was sent),
    decline (the next `quantity` payments fail), chase (somebody looks after what was not paid), write_off (ends for
    debt), refund (a tenth of the last charge), open_renewal (of term `number`), renewed (the next term is looked at),
    leave (cancels at the period's end; `word` is Stripe's feedback), gone (the end has come).
    """

    at: int
    what: str
    number: int = 0
    quantity: int = 0
    word: str = ""


@dataclass(frozen=True, slots=True)
class Customer:
    """`automatic` customers pay by card, the others by transfer within 30 days. An open deal has no acts."""

    name: str
    country: Country
    city: str
    street: str
    postal_code: str
    tax_number: str
    interval: str
    automatic: bool
    lines: tuple[Line, ...]
    appears_at: int
    acts: tuple[Act, ...] = field(default=())

    @property
    def currency(self) -> str:
        return self.country.currency


def customers(count: int, seed: int, until: int) -> list[Customer]:
    """`count` customers whose story ends at `until` (epoch seconds), the same for the same arguments."""
    rng = random.Random(f"company {seed}")
    names: set[str] = set()
    return [_customer(rng, names, until) for _ in range(count)]


def opens_at(until: int) -> int:
    """When the company opened its books: before the first customer appears."""
    return moved(until, -12 * YEARS) - 90 * DAY


def _customer(rng: random.Random, names: set[str], until: int) -> Customer:
    country = rng.choices(_COUNTRIES, _WEIGHTS)[0]
    city = rng.choice(country.cities)
    interval = rng.choices(list(INTERVALS), (8, 10, 82))[0]
    automatic = rng.random() < 0.6
    lines = _lines(rng, country.currency, interval)
    # More deals are won each year than the year before.
    won_at = until - int((YEARS * 365 * DAY) * (1 - rng.random() ** 0.7))
    fate = rng.random()
    appears_at = won_at - rng.randint(20, 85) * DAY
    acts: tuple[Act, ...] = ()
    if fate < OPEN:
        appears_at = until - rng.randint(1, 55) * DAY
    elif fate < OPEN + LOST:
        acts = (Act(won_at, "lose", word=rng.choice(LOST_TO)),)
    else:
        acts = _acts(rng, won_at, until, interval, automatic, lines)
    return Customer(
        name=_name(rng, names, country),
        country=country,
        city=city,
        street=f"{rng.randint(1, 240)} {rng.choice(_FIRST)} Street",
        postal_code=_filled(rng, "#####"),
        tax_number=_filled(rng, country.tax_format),
        interval=interval,
        automatic=automatic,
        lines=lines,
        appears_at=appears_at,
        acts=acts,
    )


def _lines(rng: random.Random, currency: str, interval: str) -> tuple[Line, ...]:
    platform = rng.choices(["Platform Core", "Platform Growth", "Platform Enterprise"], (55, 33, 12))[0]
    wanted = [(platform, 1), ("Editor Seat", rng.randint(2, 40))]
    if rng.random() < 0.5:
        wanted.append(("Viewer Seat", rng.randint(5, 120)))
    if rng.random() < 0.25:
        wanted.append(("Support Plus", 1))
    discount = rng.choices((0, 5, 10, 15, 20), (30, 25, 20, 15, 10))[0]
    unit, count = INTERVALS[interval]
    part = 1 if unit == "year" else 12 // count
    lines = []
    for product, quantity in wanted:
        list_minor = PRODUCTS[product][1][currency] * (1 if currency == "JPY" else 100) // part
        lines.append(Line(product, quantity, list_minor, list_minor * (100 - discount) // 100))
    return tuple(lines)


def _acts(
    rng: random.Random, won_at: int, until: int, interval: str, automatic: bool, lines: tuple[Line, ...]
) -> tuple[Act, ...]:
    acts = [Act(won_at, "win")]
    unit, count = INTERVALS[interval]
    months = 12 if unit == "year" else count
    part_of_year = months / 12
    seats = next(n for n, line in enumerate(lines) if PRODUCTS[line.product][0] == "Seats")
    # What stands on the deal's own line: only that can be corrected downwards.
    sold = lines[seats].quantity
    period, stays = 0, True
    while stays and (starts := moved(won_at, months * period)) < until:
        ends = moved(won_at, months * (period + 1))
        in_time = partial(rng.randint, starts + DAY, starts + (ends - starts) * 3 // 4)
        paying = _card(rng, starts, period == 0) if automatic else _transfer(rng, starts)
        acts += paying
        stays = not any(act.what == "gone" for act in paying)
        if automatic and rng.random() < REFUNDED:
            acts.append(Act(starts + 9 * DAY, "refund"))
        if stays and rng.random() < 0.25 * part_of_year:
            change = rng.choice((-3, -1, 1, 2, 5, 10))
            if change > 0:
                acts.append(Act(in_time(), "amend", seats, change))
            elif sold + change > 0:
                acts.append(Act(in_time(), "correct", seats, -change))
                sold += change
        if stays and rng.random() < 0.06 * part_of_year:
            acts.append(Act(in_time(), "turn_down", seats))
        term = months * period // 12 + 1
        opens = moved(won_at, 12 * term) - RENEWAL_DAYS * DAY
        if stays and starts <= opens < ends:
            acts.append(Act(opens, "open_renewal", term))
        if stays and rng.random() < LEAVING * part_of_year:
            notice = rng.randint(20, 75) if unit == "year" else rng.randint(2, 20)
            acts.append(Act(ends - notice * DAY, "leave", word=rng.choice(FEEDBACK)))
            acts.append(Act(ends + 2 * HOUR, "gone"))
            stays = False
        period += 1
    return tuple(sorted((act for act in acts if act.at < until), key=lambda act: act.at))


def _card(rng: random.Random, starts: int, first: bool) -> list[Act]:
    """How a card is charged for a period: at once, after a retry, or never, with the end of the subscription."""
    if first:
        return []
    luck = rng.random()
    if luck < CARD_FAILS_FOR_GOOD:
        after_last_retry = starts + 16 * DAY
        return [
            Act(starts - DAY, "decline", quantity=4),
            Act(starts + DAY, "chase"),
            Act(after_last_retry, "gone"),
        ]
    if luck < CARD_FAILS_FOR_GOOD + CARD_FAILS:
        times = rng.choice((1, 1, 2))
        after_retries = starts + 9 * DAY
        return [
            Act(starts - DAY, "decline", quantity=times),
            Act(starts + DAY, "chase"),
            Act(after_retries, "chase"),
            Act(after_retries, "renewed"),
        ]
    return [Act(starts + DAY, "renewed")]


def _transfer(rng: random.Random, starts: int) -> list[Act]:
    """How a sent invoice is paid: in its 30 days, late and after somebody asked, or never, until it is written off."""
    luck = rng.random()
    asked = starts + 32 * DAY
    if luck < NEVER_PAYS:
        given_up = starts + 100 * DAY
        return [Act(asked, "chase"), Act(given_up, "write_off"), Act(given_up + HOUR, "gone")]
    in_time = luck > NEVER_PAYS + PAYS_LATE
    days = rng.randint(2, 28) if in_time else rng.randint(33, 95)
    paid = starts + days * DAY
    looked_at = [] if in_time else [Act(asked, "chase"), Act(paid + HOUR, "chase")]
    return [*looked_at, Act(paid, "settle"), Act(paid + HOUR, "renewed")]


def moved(moment: int, months: int) -> int:
    """A moment (epoch seconds) so many months later, at the last day of a shorter month."""
    return int((datetime.fromtimestamp(moment, UTC) + relativedelta(months=months)).timestamp())


def _name(rng: random.Random, names: set[str], country: Country) -> str:
    base = f"{rng.choice(_FIRST)} {rng.choice(_SECOND)}"
    suffix = rng.choice(country.suffixes)
    number = 1
    while (name := f"{base}{f' {number}' if number > 1 else ''} {suffix}") in names:
        number += 1
    names.add(name)
    return name


def _filled(rng: random.Random, pattern: str) -> str:
    return "".join(str(rng.randint(1, 9)) if sign == "#" else sign for sign in pattern)
