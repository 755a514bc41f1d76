"""The Salesforce adapter: everything that is read (reads.py), and pooled composite writes that return outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import requests

from sync_pipeline.core import canonical
from sync_pipeline.core.rules import Names
from sync_pipeline.systems.outcomes import DeadlinePassed, Guard, NotNow, Outcome
from sync_pipeline.systems.salesforce.connection import Login
from sync_pipeline.systems.salesforce.errors import CALL_ERRORS, outcome_of_call
from sync_pipeline.systems.salesforce.reads import Reads
from sync_pipeline.systems.salesforce.writes import (
    COLLECTIONS_PER_CALL,
    REFUSED,
    Part,
    Write,
    composite_body,
    composite_calls,
)


class Salesforce(Reads):
    """One org, seen through the names of the rules file. `write_calls` counts those of the calls that write."""

    def __init__(
        self,
        login: Login,
        names: Mapping[str, Names],
        team_role: str | None = None,
        *,
        transport: requests.adapters.BaseAdapter | None = None,
    ) -> None:
        super().__init__(login, names, team_role, transport=transport)
        self.write_calls = 0

    def write(self, writes: Sequence[Write], *, guard: Guard) -> list[Outcome]:
        """Makes the writes, pooled into composite calls; one outcome per write, in the order given."""
        outcomes: dict[int, Outcome] = {}
        for parts in composite_calls(writes):
            outcomes |= self.send(parts, guard=guard)
        return [outcomes[index] for index in range(len(writes))]

    def send(self, parts: Sequence[Part], *, guard: Guard) -> dict[int, Outcome]:
        """Sends up to five collections in one call; the outcome of each of their writes, by its index.

        What is refused as a whole is sent again in halves, pooled by five, until every write has an outcome of its
        own: k bad records of a collection of 200 cost at most 2k * log2(200) more calls. `guard` is called right
        before each call leaves; what is not sent in time is throttled.
        """
        outcomes: dict[int, Outcome] = {}
        waiting = list(parts)
        while waiting:
            load = waiting[-COLLECTIONS_PER_CALL:]
            try:
                guard()
            except DeadlinePassed:
                late = Outcome("throttled", message="it was not sent in time")
                return outcomes | {index: late for part in waiting for index in part.indexes}
            del waiting[-COLLECTIONS_PER_CALL:]
            answers = self._post(load)
            if isinstance(answers, Outcome) and answers.state in REFUSED and len(load) > 1:
                middle = len(load) // 2
                outcomes |= self.send(load[:middle], guard=guard) | self.send(load[middle:], guard=guard)
                continue
            for number, part in enumerate(load):
                if isinstance(answers, Outcome):
                    status, found = answers.http_status or 0, part.all(answers)
                else:
                    status, body = answers[number]
                    found = part.outcomes(status, body)
                if part.is_refused_whole(status, found):
                    waiting += part.halves()
                else:
                    outcomes |= found
        return outcomes

    def _post(self, parts: Sequence[Part]) -> Outcome | list[tuple[int, Any]]:
        """Status and body of each collection's answer, or what became of the whole call."""
        body = canonical.encode(composite_body(parts, self._url("composite/sobjects")))
        before = self.calls
        try:
            answer = self._send("write", "POST", "composite", data=body)
        except NotNow as error:
            return Outcome("throttled", message=str(error))
        except CALL_ERRORS as error:
            return outcome_of_call(error)
        finally:
            self.write_calls += self.calls - before
        return [(part["httpStatusCode"], part["body"]) for part in answer["compositeResponse"]]
