"""A story as it is played: steps are done in order, the sync works after each, expectations are checked.

A play ends with three nightly reconciles, which must find nothing to write, and with nothing left for a person
that the story does not name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import requests
from sqlalchemy import select

from sync_pipeline.demo.expectations import ABSENT, REVIEWS, WRITTEN, differences
from sync_pipeline.demo.records import ALERT, CHANNEL, Record, Truth, Unclear, only
from sync_pipeline.demo.stage import Stage, StageError
from sync_pipeline.demo.story import Step, Steps, Story
from sync_pipeline.demo.verbs import VERBS
from sync_pipeline.demo.words import plain, said, write_in_words
from sync_pipeline.ledger import commands, reviews
from sync_pipeline.ledger.tables import command

BETWEEN_STEPS_SECONDS = 10
POLL_SECONDS = 0.3
RECONCILES = 3


class Audience(Protocol):
    """Who is told what happens: `at` is the sandbox's clock."""

    def happens(self, at: datetime, words: str) -> None: ...

    def wrote(self, what: list[str]) -> None: ...

    def checked(self, what: str, differences: list[str]) -> None: ...


@dataclass
class Play:
    """The play so far. `failures` is every difference between what was expected and found, by line of the story."""

    stage: Stage
    audience: Audience
    failures: list[str] = field(default_factory=list)
    checks: int = 0
    settling: bool = True
    mark: int = 0
    truth_now: Truth | None = None
    told: set[str] = field(default_factory=set)
    unequal: list[str] = field(default_factory=list)

    @property
    def truth(self) -> Truth:
        """Both systems as they are, and the alerts that people got; read once per step."""
        if self.truth_now is None:
            self.truth_now = {**self.stage.sandbox.truth(), CHANNEL: {ALERT: self.stage.alerts}}
        return self.truth_now

    def control(self, method: str, path: str, body: Any = None) -> Any:
        self.truth_now = None
        return self.stage.sandbox.control(method, path, body)

    def only(self, key: str) -> Record:
        return only(self.truth, key)

    def run(self, story: Story) -> None:
        """Plays a story to its end. What cannot be done is a failure too."""
        for step in story.given:
            self._do(step, settle=False)
        self.mark = self.stage.sandbox.last_request()
        if story.given:
            self._settle()
        for step in story.timeline:
            self._do(step, settle=True)
        self._end(story)

    def _do(self, step: Step, *, settle: bool) -> None:
        verb = VERBS[step.phrase]
        if not verb.only_looks:
            self._moment_later()
            self.audience.happens(self.now(), said(step))
        before = len(self.failures)
        try:
            verb.act(self, **step.given)
        except (Unclear, StageError, requests.RequestException) as error:
            self.failures.append(str(error))
            self.audience.checked(said(step), [str(error)])
        self.failures[before:] = [f"line {step.line}: {each}" for each in self.failures[before:]]
        if settle and not verb.only_looks:
            self._settle()

    def act(self, steps: Steps) -> None:
        """Steps inside a step, with whatever happens between them."""
        for step in steps:
            self._do(step, settle=True)

    @contextmanager
    def unattended(self) -> Iterator[None]:
        """The sync does nothing meanwhile."""
        self.settling = False
        try:
            yield
        finally:
            self.settling = True

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.truth["now"], UTC)

    def pass_time(self, seconds: int) -> None:
        self.stage.pass_time(seconds, receiving=self.settling)
        self._look_again()

    def reconcile(self) -> None:
        self.unequal = self.stage.reconcile()
        self._look_again()

    def _moment_later(self) -> None:
        self.pass_time(BETWEEN_STEPS_SECONDS)

    def _settle(self) -> None:
        if self.settling:
            self.stage.settle()
        self._look_again()

    def _look_again(self) -> None:
        """What was seen of both systems is old; the audience hears what was written since it last heard of it."""
        self.truth_now = None
        done = select(command.c.id, command.c.kind, command.c.body, command.c.reason).where(command.c.state == "done")
        with self.stage.ledger.read() as conn:
            rows = conn.execute(done.order_by(command.c.id)).all()
        new = [row for row in rows if row.id not in self.told]
        if new:
            self.told.update(row.id for row in new)
            self.audience.wrote([write_in_words(self.truth, row.kind, row.body, row.reason) for row in new])

    def expect(self, expected: Mapping[str, Any]) -> None:
        """Every expectation, waiting as long for each as the stage has patience; counts writes anew afterwards."""
        for key, wanted in expected.items():
            found = self._differences(key, wanted)
            waited = 0.0
            while found and waited < self.stage.patience_seconds:
                self.stage.wait(POLL_SECONDS)
                waited += POLL_SECONDS
                self._look_again()
                found = self._differences(key, wanted)
            self.checks += 1
            self.failures += found
            self.audience.checked(f"{key}: {plain(wanted)}", found)
        self.mark = self.stage.sandbox.last_request()

    def _differences(self, key: str, wanted: Any) -> list[str]:
        if key == WRITTEN:
            made = self.stage.sandbox.writes_since(self.mark)
            return [] if len(made) == wanted else [f"written: found {len(made)} ({', '.join(made)}), expected {wanted}"]
        if key == REVIEWS:
            return self._review_differences({} if wanted == ABSENT else wanted)
        return differences(self.truth, key, wanted)

    def _review_differences(self, wanted: Mapping[str, Any]) -> list[str]:
        found = self._open_reviews()
        told = [f"for a person: {rule} was not expected ({found[rule]})" for rule in sorted(found.keys() - wanted)]
        told += [f"for a person: {rule} is missing" for rule in sorted(wanted.keys() - found)]
        for rule in sorted(wanted.keys() & found.keys()):
            if str(wanted[rule]) not in found[rule]:
                told.append(f"for a person: {rule} says {found[rule]!r}, expected {wanted[rule]!r}")
        return told

    def _open_reviews(self) -> dict[str, str]:
        with self.stage.ledger.read() as conn:
            return {each.rule: each.detail for each in reviews.open_reviews(conn)}

    def _refused(self) -> set[str]:
        """The kinds of record that writes were refused for, as salesforce/Account."""
        with self.stage.ledger.read() as conn:
            return {"/".join(row.target.split("/")[:2]) for row in commands.parked(conn)}

    def _end(self, story: Story) -> None:
        """Three further reconciles write nothing, except that each tries again what is refused, and what is left for a
        person is what the story says."""
        self.mark = self.stage.sandbox.last_request()
        for _ in range(RECONCILES):
            self.reconcile()
        left, refused = self._open_reviews(), self._refused()
        unnamed = [
            f"{rule} is left for a person: {left[rule]}" for rule in sorted(left.keys() - story.left_for_a_person)
        ]
        unnamed += [f"{rule} is not left for a person" for rule in sorted(story.left_for_a_person - left.keys())]
        refusals = [f"refused is {', '.join(sorted(refused)) or 'nothing'}"] if refused != story.refused else []
        last = {
            "writes of further reconciles": self._differences(WRITTEN, RECONCILES * len(story.refused)),
            "sums of money that differ": [] if story.refused else self.unequal,
            "matters for a person that the story does not name": unnamed,
            "refused writes that the story does not name": refusals,
        }
        for what, found in last.items():
            self.checks += 1
            self.failures += [f"at the end: {each}" for each in found]
            self.audience.checked(f"{what}: none", found)
