"""The Salesforce adapter: everything that is read (reads.py), and pooled composite writes that return outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import requests

from sync_pipeline.core import canonical
from sync_pipeline.core.rules import Names
from sync_pipeline.systems.outcomes import DeadlinePassed, Guard, NotNow, Outcome
from sync_pipeline.systems.salesforce.connection import SUBREQUESTS_PER_CALL, Login
from sync_pipeline.systems.salesforce.errors import CALL_ERRORS, outcome_of_call
from sync_pipeline.systems.salesforce.reads import AccountRecords, Reads, further_pages
from sync_pipeline.systems.salesforce.writes import (
    COLLECTIONS_PER_CALL,
    REFUSED,
    Part,
    Write,
    composite_body,
    composite_calls,
)
from sync_pipeline.systems.wire import guarded


@dataclass(slots=True)
class Sent:
    """The outcome of each write by its index, and the Accounts that the same call has shown after them."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    seen: dict[str, AccountRecords] = field(default_factory=dict)


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
            outcomes |= self.send(parts, guard=guard).outcomes
        return [outcomes[index] for index in range(len(writes))]

    def send(self, parts: Sequence[Part], *, guard: Guard, look: Sequence[str] = ()) -> Sent:
        """Sends up to five collections in one call; the outcome of each of their writes, by its index.

        What is refused as a whole is sent again in halves, pooled by five, until every write has an outcome of its
        own: k bad records of a collection of 200 cost at most 2k * log2(200) more calls. What was rolled back because
        of others is sent again without those. `guard` is asked right before bytes leave; what is not sent in time is
        throttled. The same call shows the Accounts `look` as they are after it, when their queries fit in.
        """
        sent = Sent()
        waiting = list(parts)
        looks = self._looks(len(parts), look)
        while waiting:
            load = waiting[-COLLECTIONS_PER_CALL:]
            try:
                with guarded(guard):
                    answers = self._post(load, looks)
            except DeadlinePassed:
                late = Outcome("throttled", message="it was not sent in time")
                sent.outcomes.update({index: late for part in waiting for index in part.indexes})
                return sent
            del waiting[-COLLECTIONS_PER_CALL:]
            if isinstance(answers, Outcome) and answers.state in REFUSED and len(load) > 1:
                middle = len(load) // 2
                for half in (load[:middle], load[middle:]):
                    sent.outcomes.update(self.send(half, guard=guard).outcomes)
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
                    sent.outcomes.update(found)
                    waiting += part.without(found)
            # What was seen before the last write says nothing of it.
            sent.seen = {} if isinstance(answers, Outcome) or waiting else self._seen(answers[len(load) :])
            looks = []
        return sent

    def _looks(self, parts: int, accounts: Sequence[str]) -> list[str]:
        """The addresses that show the Accounts, none if they do not fit into a call with so many collections."""
        if not accounts or parts >= SUBREQUESTS_PER_CALL:
            return []
        queries = self.account_queries(accounts)
        if parts + len(queries) > SUBREQUESTS_PER_CALL:
            return []
        return [self._url(f"query?q={quote(soql)}") for soql in queries]

    def _seen(self, answers: Sequence[tuple[int, Any]]) -> dict[str, AccountRecords]:
        """The Accounts that the queries of a call have shown; none if there is more to read of them."""
        pages = [body for status, body in answers if status < 300]
        rows: list[list[Mapping[str, Any]]] = [[] for _ in pages]
        further = [more for page, into in zip(pages, rows, strict=True) for more in further_pages(page, into)]
        if further or not pages or len(pages) < len(answers):
            return {}
        self.rows += sum(map(len, rows))
        return self.account_records(rows)

    def _post(self, parts: Sequence[Part], looks: Sequence[str] = ()) -> Outcome | list[tuple[int, Any]]:
        """Status and body of each collection's answer and each query's, or what became of the whole call."""
        body = canonical.encode(composite_body(parts, self._url("composite/sobjects"), looks))
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
