"""What a story expects of both systems, and in which words a difference is told.

An expectation names records by kind, or by kind and name, and says how many there are (a number), what the only
one says (a mapping of fields), or what each of them says (a list of such mappings). Money is in pounds, not
pence; a moment of Stripe's is compared with as much of a date as is given. A value may also be a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sync_pipeline.core.money import exponent
from sync_pipeline.demo.records import KINDS, Record, Truth, Unclear, id_of, only, records, split
from sync_pipeline.demo.verbs import near

WRITTEN = "written"
REVIEWS = "for a person"
ABSENT = "none"
# Fields of Stripe's that hold minor units of the record's currency.
AMOUNTS = frozenset(
    "amount amount_due amount_off amount_paid amount_paid_off_stripe amount_refunded amount_remaining balance "
    "post_payment_credit_notes_amount pre_payment_credit_notes_amount subtotal total unit_amount".split()
)
Expected = Mapping[str, Any]


def _contains(truth: Truth, found: Any, wanted: Any) -> bool:
    """One text, or all of several."""
    return all(str(each) in str(found) for each in (wanted if isinstance(wanted, list) else [wanted]))


def _between(truth: Truth, found: Any, wanted: Any) -> bool:
    """A number that is not smaller than the first and not larger than the second."""
    least, most = wanted
    return isinstance(found, int | float | Decimal) and least <= Decimal(str(found)) <= most


def _id_of(truth: Truth, found: Any, wanted: Any) -> bool:
    try:
        return bool(found == id_of(only(truth, str(wanted))))
    except Unclear:
        return False


def _filled(truth: Truth, found: Any, wanted: Any) -> bool:
    return bool((found not in (None, "")) == wanted)


def _one_of(truth: Truth, found: Any, wanted: Any) -> bool:
    return any(_equal(found, each) for each in wanted)


TESTS: Mapping[str, Callable[[Truth, Any, Any], bool]] = {
    "between": _between,
    "contains": _contains,
    "id of": _id_of,
    "filled": _filled,
    "one of": _one_of,
}


def expectation_faults(expected: Expected) -> Iterator[str]:
    """What is wrong with an expectation as it is written, before anything is played."""
    for key, wanted in expected.items():
        if key in (WRITTEN, REVIEWS):
            form: type = int if key == WRITTEN else dict
            if type(wanted) is not form and not (key == REVIEWS and wanted == ABSENT):
                yield f"{key} is {wanted!r}; give {'a number' if key == WRITTEN else 'rules with a text, or none'}"
        elif split(key)[0] not in KINDS:
            yield f"{key!r} begins with no kind of record; {near(split(key)[0], KINDS)}"
        elif isinstance(wanted, list):
            for each in wanted:
                yield from _field_faults(key, each)
        elif type(wanted) is not int and wanted != ABSENT:
            yield from _field_faults(key, wanted)


def _field_faults(key: str, fields: Any) -> Iterator[str]:
    if not isinstance(fields, dict):
        yield f"{key}: {fields!r} is no number of records, no mapping of fields and no list of mappings"
        return
    for field, wanted in fields.items():
        if isinstance(wanted, dict) and (len(wanted) != 1 or not wanted.keys() <= TESTS.keys()):
            yield f"{key}.{field}: {wanted!r} is no test; known: {', '.join(sorted(TESTS))}"
        elif isinstance(wanted, list):
            yield f"{key}.{field}: a list can only stand under 'one of'"


def differences(truth: Truth, key: str, wanted: Any) -> list[str]:
    """How the records differ from what is expected of them; empty where they do not."""
    found = records(truth, key)
    if wanted == ABSENT or isinstance(wanted, int):
        count = 0 if wanted == ABSENT else wanted
        return [] if len(found) == count else [f"{key}: found {len(found)}, expected {count}"]
    each_wanted = wanted if isinstance(wanted, list) else [wanted]
    if len(found) != len(each_wanted):
        shown = "".join(f"; {_shown(truth, record, wanted_fields(each_wanted))}" for record in found)
        return [f"{key}: found {len(found)}, expected {len(each_wanted)}{shown}"]
    if isinstance(wanted, dict):
        return [f"{key} {difference}" for difference in _of_record(truth, found[0], wanted)]
    return _of_list(truth, key, found, wanted)


def _of_list(truth: Truth, key: str, found: list[Record], wanted: list[Expected]) -> list[str]:
    """Each of the expected has a record of its own, in whatever order."""
    left = list(found)
    missed = []
    for fields in wanted:
        fit = next((record for record in left if not _of_record(truth, record, fields)), None)
        if fit is None:
            missed.append(fields)
        else:
            left.remove(fit)
    there = "; ".join(_shown(truth, record, wanted_fields(missed)) for record in left)
    return [f"{key}: none says {_words(fields)}; left are: {there}" for fields in missed]


def wanted_fields(wanted: list[Expected]) -> list[str]:
    return sorted({field for each in wanted for field in each})


def _of_record(truth: Truth, record: Record, wanted: Expected) -> list[str]:
    told = []
    for field, value in wanted.items():
        found = value_of(record, field)
        if isinstance(value, dict):
            ((test, against),) = value.items()
            fits = TESTS[test](truth, found, against)
        else:
            fits = _equal(found, value)
        if not fits:
            told.append(f"{field}: found {_word(found)}, expected {_words(value)}")
    return told


def value_of(record: Record, path: str) -> Any:
    """A field, or by a path with dots one of a record inside; money of Stripe's as a decimal in whole units."""
    held: Any = record
    currency = record.get("currency")
    *way, last = path.split(".")
    for part in way:
        held = held.get(part) if isinstance(held, Mapping) else None
        currency = held.get("currency", currency) if isinstance(held, Mapping) else currency
    if not isinstance(held, Mapping):
        return None
    value = held.get(last)
    if last == "unit_amount" and value is None and held.get("unit_amount_decimal"):
        value = Decimal(held["unit_amount_decimal"])
    if last in AMOUNTS and value is not None and "id" in record:
        return Decimal(value).scaleb(-exponent(str(currency).upper()))
    return value


def _equal(found: Any, wanted: Any) -> bool:
    if wanted is None:
        return found in (None, "")
    if isinstance(wanted, bool) or isinstance(found, bool):
        return found is wanted
    if isinstance(wanted, int | Decimal):
        return isinstance(found, int | float | Decimal) and Decimal(str(found)) == wanted
    if isinstance(found, int) and isinstance(wanted, str):
        return datetime.fromtimestamp(found, UTC).isoformat().startswith(wanted)
    return bool(found == wanted) or (_is_date(wanted) and str(found).startswith(wanted))


def _is_date(wanted: Any) -> bool:
    return isinstance(wanted, str) and len(wanted) >= 10 and wanted[:4].isdecimal() and wanted[4] == wanted[7] == "-"


def _shown(truth: Truth, record: Record, fields: list[str]) -> str:
    return ", ".join(f"{field} {_word(value_of(record, field))}" for field in fields)


def _word(value: Any) -> str:
    return "nothing" if value in (None, "") else str(value)


def _words(value: Any) -> str:
    """An expected value as one would say it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(held)}" for name, held in value.items())
    if isinstance(value, list):
        return " and ".join(_words(each) for each in value)
    return _word(value)
