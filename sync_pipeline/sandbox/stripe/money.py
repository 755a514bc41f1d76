"""Money as Stripe counts it: integer minor units, exact fractions inside, one rounding at the end of each line."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.stripe.errors import StripeError

_CURRENCIES = frozenset(
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf clp"
    " cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr"
    " isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn"
    " myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle"
    " sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xof xpf yer zar"
    " zmw".split()
)
# Amounts of these must be whole multiples: sent with decimals that their money no longer has.
_STEP = {"ugx": 100, "isk": 100, "bhd": 10, "jod": 10, "kwd": 10, "omr": 10, "tnd": 10}
# Smaller totals are not charged but carried on the customer's balance.
_MINIMUM_CHARGE = {
    "usd": 50, "aed": 200, "aud": 50, "bgn": 100, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250, "eur": 50,
    "gbp": 30, "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300, "nzd": 50,
    "pln": 200, "ron": 200, "sek": 300, "sgd": 50, "thb": 1000,
}  # fmt: skip


def check_currency(text: str) -> str:
    currency = text.lower()
    if currency not in _CURRENCIES:
        raise StripeError(f"Invalid currency: {text}. Stripe currently supports these currencies: "
                          f"{', '.join(sorted(_CURRENCIES))}", param="currency", keep=False)  # fmt: skip
    return currency


def minimum_charge(currency: str) -> int:
    return _MINIMUM_CHARGE.get(currency, 0)


def check_largest(amount: int | Decimal, currency: str, param: str) -> None:
    """Refuses an amount of more than eight digits, twelve of rupiah (facts/stripe.md 3.10)."""
    most = 999_999_999_999 if currency == "idr" else 99_999_999
    if amount > most:
        raise StripeError(f"Amount must be no more than {most}.", code="amount_too_large", param=param)


def check_step(amount: int, currency: str, param: str) -> None:
    """Refuses an integer amount that the money of its currency cannot make up."""
    step = _STEP.get(currency, 1)
    if amount % step:
        raise StripeError(f"Invalid integer: {amount}. An amount in {currency} must be a multiple of {step}.",
                          code="parameter_invalid_integer", param=param)  # fmt: skip


def chargeable(amount: int, currency: str) -> int:
    """The amount that can be charged: rounded to the step of currencies that have one."""
    step = _STEP.get(currency, 1)
    return floor(Fraction(amount, step) + Fraction(1, 2)) * step


def settle_balance(total: int, balance: int, currency: str) -> tuple[int, int]:
    """(amount due, customer's balance afterwards) of an invoice. What is too small to charge stays on the balance."""
    owed = total + balance
    if owed <= 0:
        return 0, owed
    due = chargeable(owed, currency)
    return (0, owed) if due < minimum_charge(currency) else (due, owed - due)


def round_half_up(value: Fraction) -> int:
    """Halves away from zero, so that a credit is the exact mirror of the debit it reverses."""
    return floor(value + Fraction(1, 2)) if value >= 0 else -floor(-value + Fraction(1, 2))


def decimal_text(value: Fraction) -> str:
    """A number that has an end, as Stripe writes decimals: without an exponent or needless zeros."""
    return format((Decimal(value.numerator) / Decimal(value.denominator)).normalize(), "f")


def exact_amount(price: Row, quantity: int | Fraction) -> Fraction:
    """Unrounded amount, in minor units, of a quantity at a price; tiers and package sizes included."""
    transform = price.get("transform_quantity")
    if transform:
        parts = quantity / Fraction(transform["divide_by"])
        quantity = ceil(parts) if transform["round"] == "up" else floor(parts)
    if price["billing_scheme"] == "per_unit":
        return Fraction(price["unit_amount_decimal"]) * quantity
    return _tiered(price["_tiers"], price["tiers_mode"], quantity)


def _tiered(tiers: list[Row], mode: str, quantity: int | Fraction) -> Fraction:
    total = Fraction(0)
    floor_: int | Fraction = 0
    for tier in tiers:
        top = tier["up_to"]
        last = top is None or quantity <= top
        if mode == "volume":
            if last:
                return _tier_amount(tier, quantity)
        else:
            inside = (quantity if last else top) - floor_
            if inside > 0 or (quantity == 0 and floor_ == 0):
                total += _tier_amount(tier, inside)
            floor_ = top if top is not None else quantity
            if last:
                break
    return total


def _tier_amount(tier: Row, quantity: int | Fraction) -> Fraction:
    return Fraction(tier["unit_amount_decimal"] or 0) * quantity + Fraction(tier["flat_amount_decimal"] or 0)


def spread(amount: int, weights: list[int]) -> list[int]:
    """`amount` split in proportion to `weights`, exact in sum: largest remainders get the odd units."""
    total = sum(weights)
    if total == 0:
        return [0] * len(weights)
    shares = [Fraction(amount * w, total) for w in weights]
    parts = [floor(s) for s in shares]
    order = sorted(range(len(weights)), key=lambda i: (parts[i] - shares[i], i))
    for i in order[: amount - sum(parts)]:
        parts[i] += 1
    return parts


_SYMBOLS = {"gbp": "£", "eur": "€", "usd": "$", "jpy": "¥"}
_WHOLE = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf".split())
_THOUSANDTHS = frozenset("bhd jod kwd omr tnd".split())


def decimal_places(currency: str) -> int:
    """How many decimal places of the currency the API's integers count in."""
    return 0 if currency in _WHOLE else 3 if currency in _THOUSANDTHS else 2


def shown_unit_price(price: Row) -> str | None:
    """A unit price as Stripe writes it in descriptions (£12.50); None for tiers."""
    text = price.get("unit_amount_decimal")
    if text is None:
        return None
    currency = price["currency"]
    places = decimal_places(currency)
    amount = Decimal(text).scaleb(-places)
    written = f"{amount:,.{max(places, -int(amount.normalize().as_tuple().exponent))}f}"
    symbol = _SYMBOLS.get(currency)
    return f"{symbol}{written}" if symbol else f"{written} {currency.upper()}"
