"""What is told when, case by case."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.orchestration.episodes import Episode, News, Trouble, news

MINUTE = 60_000_000


def trouble(subject: str, cause: str) -> Trouble:
    return Trouble(subject, cause, f"{subject} fails", f"{subject} works again", f"because of {cause}", f"/{cause}")


def play(looks: Sequence[Sequence[Trouble]]) -> list[list[News]]:
    """What every look tells, a minute apart, when every message arrives."""
    told: dict[str, Episode] = {}
    heard = []
    for number, troubles in enumerate(looks):
        said = list(news(told, troubles, number * MINUTE))
        for each in said:
            told.pop(each.subject, None)
            if each.then is not None:
                told[each.subject] = each.then
        heard.append(said)
    return heard


def titles(heard: list[list[News]]) -> list[list[tuple[str, str]]]:
    return [[(each.title, each.text) for each in look] for look in heard]


def test_the_same_failure_is_told_once_and_so_is_its_end() -> None:
    a = [trouble("job", "a")]
    assert titles(play([[], a, a, a, [], []])) == [
        [],
        [("job fails", "because of a")],
        [],
        [],
        [("job works again", "It lasted 3 min.")],
        [],
    ]


def test_another_cause_is_told_within_the_same_episode_and_a_known_one_is_not() -> None:
    a, b = trouble("job", "a"), trouble("job", "b")
    assert titles(play([[a], [b], [a], [b], [], [a]])) == [
        [("job fails", "because of a")],
        [("job fails", "because of b")],
        [],
        [],
        [("job works again", "It lasted 4 min.")],
        [("job fails", "because of a")],
    ]


def test_subjects_have_a_message_each_and_many_causes_share_one() -> None:
    many = [trouble("writes", f"{number:02}") for number in range(12)]
    (told,) = titles(play([[*many, trouble("job", "a")]]))
    assert [title for title, _ in told] == ["job fails", "writes fails"]
    assert told[1][1].splitlines() == [*(f"because of {number:02}" for number in range(10)), "and 2 more"]


def test_what_did_not_arrive_is_news_again() -> None:
    first = list(news({}, [trouble("job", "a")], 0))
    assert list(news({}, [trouble("job", "a")], 0)) == first
    known = {"job": Episode(0, ("a",), "job works again")}
    assert [each.title for each in news(known, [], 49 * 60 * MINUTE)] == ["job works again"]
    assert [each.text for each in news(known, [], 49 * 60 * MINUTE)] == ["It lasted 2 days."]


LOOKS = st.lists(st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from("abc")), max_size=4), max_size=12)


@given(LOOKS)
def test_a_cause_is_told_at_most_once_in_an_episode_and_every_episode_ends_once(
    looks: list[list[tuple[str, str]]],
) -> None:
    heard = play([[trouble(*each) for each in look] for look in [*looks, []]])
    for subject in "xy":
        is_open, seen = False, set[str]()
        for look, said in zip([*looks, []], heard, strict=True):
            present = {cause for name, cause in look if name == subject}
            of_it = [each for each in said if each.subject == subject]
            expected = sorted(present - seen)
            assert sum(each.then is not None for each in of_it) == bool(expected)
            assert sum(each.then is None for each in of_it) == (is_open and not present)
            seen = (seen | present) if present else set()
            is_open = bool(present)
