"""When people are told of trouble: each cause once while the trouble lasts, and once that it is over. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sync_pipeline.core.units import DAY_US, HOUR_US, MICROS

MOST_LINES = 10
MINUTE_US = 60 * MICROS


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that a person has to know of. `subject` is what is in trouble, `cause` tells one failure of it from
    another; `begun` and `over` are the titles of the two messages, `line` says what is wrong, `path` is a page of
    Dagster."""

    subject: str
    cause: str
    begun: str
    over: str
    line: str
    path: str


@dataclass(frozen=True, slots=True)
class Episode:
    """A subject whose trouble was told: since when (microseconds of process time), which causes, and how its end is
    called."""

    since_wall: int
    causes: tuple[str, ...]
    over: str


@dataclass(frozen=True, slots=True)
class News:
    """One message, and the episode that its subject is in once it was told; None when it is over."""

    subject: str
    title: str
    text: str
    path: str
    then: Episode | None


def news(told: Mapping[str, Episode], troubles: Iterable[Trouble], wall: int) -> Iterator[News]:
    """What is to be told now, a message for each subject. `troubles` are all that there are at present."""
    by_subject: dict[str, list[Trouble]] = {}
    for trouble in troubles:
        by_subject.setdefault(trouble.subject, []).append(trouble)
    for subject, present in sorted(by_subject.items()):
        known = told.get(subject) or Episode(wall, (), present[0].over)
        fresh = [trouble for trouble in present if trouble.cause not in known.causes]
        if fresh:
            causes = (*known.causes, *dict.fromkeys(trouble.cause for trouble in fresh))
            yield News(subject, fresh[0].begun, _lines(fresh), fresh[0].path, replace(known, causes=causes))
    for subject in sorted(told.keys() - by_subject.keys()):
        known = told[subject]
        yield News(subject, known.over, f"It lasted {_how_long(wall - known.since_wall)}.", "", None)


def _lines(troubles: Collection[Trouble]) -> str:
    lines = list(dict.fromkeys(trouble.line for trouble in troubles))
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return "\n".join([*lines[:MOST_LINES], *more])


def _how_long(micros: int) -> str:
    for unit, size in (("days", DAY_US), ("hours", HOUR_US)):
        if micros >= 2 * size:
            return f"{micros // size} {unit}"
    return f"{max(micros // MINUTE_US, 1)} min"
