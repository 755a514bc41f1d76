"""The only code that writes to the two systems and tells people: write-ahead, send, outcome and audit.

Every attempt is in the ledger before its request leaves, with the frozen body, the key and a deadline; the
outcome, the links that it proves and one audit row are written in one transaction after it. No HTTP call
happens inside a transaction. An account's Stripe commands run in order and stop at the first that fails;
Salesforce writes of all accounts go together, whatever failed at Stripe.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.observation import Unknown
from sync_pipeline.core.rules import Priority
from sync_pipeline.core.units import HOUR_US
from sync_pipeline.engine import retries
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.cost import NOTHING, Calls, least_salesforce_writes
from sync_pipeline.engine.defects import contained, together
from sync_pipeline.engine.gathering import Sending, gather
from sync_pipeline.engine.settling import after_a_look, finish, still_ours
from sync_pipeline.ledger import attempts, bulk_jobs
from sync_pipeline.ledger.attempts import Attempt
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.work import Claim
from sync_pipeline.systems.outcomes import DeadlinePassed, Guard, Outcome
from sync_pipeline.systems.salesforce.reads import AccountRecords
from sync_pipeline.systems.salesforce.writes import Once, Part, Update, Upsert, Write, composite_calls
from sync_pipeline.systems.stripe.errors import KEY_REUSED
from sync_pipeline.systems.wire import CONNECT_AND_READ_SECONDS

SEND_WITHIN_US = 20_000_000
KEY_LIFETIME_US = 23 * HOUR_US
LONGEST_CALL_US = SEND_WITHIN_US + CONNECT_AND_READ_SECONDS[1] * 1_000_000
"""From the write-ahead until nobody waits for the answer any more."""
ACCOUNTS_PER_BREATH = 20


@dataclass(slots=True)
class Applied:
    """What came of one round of writes; `least` is how few calls would have done.

    `gathered` counts by account what has joined a bulk job and will be answered by that; `held` are accounts with
    something that waits for the end of a job under way; `in_doubt` are by account the writes of which the next
    look may tell. `seen` are Accounts as Salesforce showed them in the call of the last write to it. `problems`
    are what went wrong with one account alone, in words.
    """

    done: int = 0
    gathered: Counter[str] = field(default_factory=Counter)
    seen: dict[str, AccountRecords] = field(default_factory=dict)
    least: Calls = NOTHING
    waiting: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    in_doubt: dict[str, list[CommandRow]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    parked: list[str] = field(default_factory=list)
    problems: set[str] = field(default_factory=set)
    halted: str | None = None

    def note(self, account: str, outcome: Outcome) -> None:
        if outcome.state == "done":
            self.done += 1
        elif outcome.state == "denied":
            self.halted = outcome.message or "access was refused"
            self.waiting.add(account)
        elif outcome.state == "rejected":
            self.parked.append(account)
        elif outcome.state != "stale":
            self.waiting.add(account)

    def failed(self, account: str, failure: Unknown) -> None:
        self.problems.add(failure.why)
        self.waiting.add(account)

    def add(self, other: Applied) -> None:
        self.done += other.done
        self.gathered += other.gathered
        self.least += other.least
        self.waiting |= other.waiting
        self.held |= other.held
        self.lost |= other.lost
        self.parked += other.parked
        self.problems |= other.problems
        self.halted = self.halted or other.halted


def apply(
    engine: Engine,
    work: Sequence[tuple[Claim, Sequence[CommandRow]]],
    *,
    between: Callable[[], None] = lambda: None,
    last: bool = False,
) -> Applied:
    """Sends the admitted commands of several accounts: Stripe's some accounts at a time, Salesforce's pooled.

    What sets records of Salesforce is left for another round where something was written to Stripe, which changes what
    there is to set; not in the `last` round, nor where Stripe took nothing: what was seen is still true then.

    `between` is called every now and then while nothing is in flight, because many writes outlast a lease.
    """
    result = Applied()
    pooled: list[Sending] = []
    for place in range(0, len(work), ACCOUNTS_PER_BREATH):
        between()
        breath = work[place : place + ACCOUNTS_PER_BREATH]
        served = engine.env.each(lambda one: _serve_stripe(engine, *one), breath)
        for (claim, rows), applied in zip(breath, served, strict=True):
            result.add(applied)
            later = "salesforce.update" if applied.done and not last else ""
            pooled += [(claim, row) for row in rows if row.system == "salesforce" and row.kind != later]
        if result.halted:
            return result
    pooled, result.gathered = gather(engine, pooled, min_lease_us=LONGEST_CALL_US)
    look = sorted(claim.account for claim, rows in work if rows)
    _send_to_salesforce(engine, pooled, result, between, look)
    for claim, rows in work:
        for row in rows:
            if row.kind == "alert.send" and not result.halted:
                told = contained(claim.account, partial(_send_alert, engine, claim, row, result))
                if isinstance(told, Unknown):
                    result.failed(claim.account, told)
    return result


def _serve_stripe(engine: Engine, claim: Claim, rows: Sequence[CommandRow]) -> Applied:
    """Sends an account's Stripe commands in order, until one does not take effect."""
    ours = [row for row in rows if row.system == "stripe"]
    result = Applied(least=Calls(stripe_writes=len(ours)))
    sent = contained(claim.account, lambda: all(_send_to_stripe(engine, claim, row, result) for row in ours))
    if isinstance(sent, Unknown):
        result.failed(claim.account, sent)
    return result


def resend(engine: Engine, claim: Claim, row: CommandRow, result: Applied) -> None:
    """Sends a command whose outcome is not known once more, with the same key and the same bytes."""
    _send_to_stripe(engine, claim, row, result)


def _send_to_stripe(engine: Engine, claim: Claim, row: CommandRow, result: Applied) -> bool:
    """True when the command took effect, so that the account's next one may follow."""
    body, stripe = canonical.decode(row.body), engine.stripe

    def send(attempt: Attempt, guard: Guard) -> Outcome:
        kind, params, key = body["object"], body["params"], attempt.idempotency_key
        if row.kind == "stripe.create":
            return stripe.create(kind, params, key=key, guard=guard)
        if row.kind == "stripe.delete":
            return stripe.delete(kind, body["id"], guard=guard)
        return stripe.update(kind, body["id"], params, key=key, guard=guard, subscription=body.get("subscription"))

    return _send_alone(engine, claim, row, result, send)


def _send_alert(engine: Engine, claim: Claim, row: CommandRow, result: Applied) -> None:
    alert = canonical.decode(row.body)
    _send_alone(engine, claim, row, result, lambda _, guard: engine.alerts.send(alert, guard=guard))


def _send_alone(
    engine: Engine, claim: Claim, row: CommandRow, result: Applied, send: Callable[[Attempt, Guard], Outcome]
) -> bool:
    """Writes ahead, sends and settles one command; True when it took effect."""
    system = row.system
    if not retries.allowed(engine, system, [row]):
        result.waiting.add(row.account)
        return False
    attempt = _begin(engine, [(claim, row)], result).get(row.id)
    if attempt is None:
        return False
    try:
        outcome = after_a_look(row, send(attempt, _guard(engine, attempt.deadline_wall)))
    except DeadlinePassed:
        outcome = Outcome("throttled", message="it was not sent in time")
    refused = outcome.state in ("rejected", "stale") and outcome.code != KEY_REUSED
    if refused and row.is_unresolved and row.kind in ("stripe.create", "stripe.update"):
        # What is refused now tells nothing of the request before, which may still arrive and be accepted.
        outcome = replace(outcome, state="ambiguous")
    with engine.ledger.tx() as conn:
        finish(conn, engine, row, attempt.id, outcome)
        retries.settled(conn, engine, system, [(row, outcome)])
    result.note(row.account, outcome)
    return outcome.state == "done"


def _send_to_salesforce(
    engine: Engine,
    pooled: Sequence[Sending],
    result: Applied,
    between: Callable[[], None],
    look: Sequence[str],
) -> None:
    """Sends what is pooled. The Accounts `look` are looked at in the same call, if it is the only one."""
    writes = {row.id: salesforce_write(row.kind, row.account, canonical.decode(row.body)) for _, row in pooled}
    result.least += Calls(salesforce_writes=least_salesforce_writes(list(writes.values())))
    for some in _shares(pooled, result):
        calls = list(composite_calls([writes[row.id] for _, row in some]))
        for parts in calls:
            between()
            _send_one_call(engine, some, parts, result, look if len(calls) == 1 and len(some) == len(pooled) else ())
            if result.halted:
                return


def _shares(pooled: Sequence[Sending], result: Applied) -> Iterator[list[Sending]]:
    """What is sent together, all records of an Account in one share.

    One record can make its whole call fail: the more often writes were sent in vain, the fewer Accounts share a call;
    twice as many do as soon as one has worked, because after an outage all have failed.
    """
    of: dict[str, list[Sending]] = defaultdict(list)
    for sending in pooled:
        of[sending[1].account].append(sending)
    tries = {account: max(row.attempt_number or 0 for _, row in some) for account, some in of.items()}
    for times, accounts in groupby(sorted(of, key=lambda account: (tries[account], account)), key=tries.__getitem__):
        left = list(accounts)
        size = max(1, len(left) >> times)
        while left:
            some, left = left[:size], left[size:]
            before = result.done
            yield [sending for account in some for sending in of[account]]
            size *= 2 if result.done > before else 1


def _send_one_call(
    engine: Engine,
    pooled: Sequence[Sending],
    parts: Sequence[Part],
    result: Applied,
    look: Sequence[str],
) -> None:
    """Writes ahead, sends and settles what travels together; the deadline is that of this call."""
    rows = [pooled[index][1] for part in parts for index in part.indexes]
    if not retries.allowed(engine, "salesforce", rows):
        result.waiting.update(row.account for row in rows)
        return
    made = _begin(engine, [pooled[index] for part in parts for index in part.indexes], result)
    ours = [kept for part in parts if (kept := part.only(lambda index: pooled[index][1].id in made)) is not None]
    if not ours:
        return
    before = engine.salesforce.calls
    guard = _guard(engine, next(iter(made.values())).deadline_wall)
    sent = engine.salesforce.send(ours, guard=guard, look=look)
    result.seen = sent.seen
    outcomes = {index: after_a_look(pooled[index][1], outcome) for index, outcome in sent.outcomes.items()}
    calls = engine.salesforce.calls - before
    by_account = sorted(outcomes, key=lambda index: (pooled[index][1].account, index))

    def write_down(indexes: Sequence[int]) -> None:
        with engine.ledger.tx() as conn:
            for index in indexes:
                row = pooled[index][1]
                # The call counts once, however many records travelled in it.
                finish(
                    conn, engine, row, made[row.id].id, outcomes[index], calls=calls if index == by_account[0] else 0
                )
            answered = [(pooled[index][1], outcomes[index]) for index in indexes]
            retries.settled(conn, engine, "salesforce", answered)

    for index in by_account:
        result.note(pooled[index][1].account, outcomes[index])
    for index, failure in together(by_account, lambda index: pooled[index][1].account, write_down):
        result.failed(pooled[index][1].account, failure)


def _begin(engine: Engine, sendings: Sequence[tuple[Claim, CommandRow]], result: Applied) -> dict[str, Attempt]:
    """The write-ahead: one transaction that checks the claims and notes the attempts, by command id."""
    # Whose keys they are: the first to ask signs in, which is a call.
    instance_id = engine.instance_id
    with engine.ledger.tx() as conn:
        held = bulk_jobs.holds(conn, {row.account for _, row in sendings if _gives_way_to_jobs(row)})
        result.held |= held
        sendings = [(claim, row) for claim, row in sendings if row.account not in held or not _gives_way_to_jobs(row)]
        wall = engine.env.wall()
        for claim, row in sendings:
            if row.state == "planned" and key_is_old(engine, row) and still_ours(conn, engine, claim):
                # All its attempts are known to have done nothing, and Stripe may have forgotten its key.
                attempts.next_generation(conn, row.id)
        made = attempts.begin(
            conn,
            sendings,
            now=engine.env.now(),
            now_wall=wall,
            deadline_wall=wall + SEND_WITHIN_US,
            min_lease_us=LONGEST_CALL_US,
            instance_id=instance_id,
            new_id=engine.env.token,
        )
    result.lost.update(row.account for _, row in sendings if row.id not in made)
    return made


def _gives_way_to_jobs(row: CommandRow) -> bool:
    """Whether a write waits while a bulk job has records of its Account, which both would lock.

    The Task of a failed payment does not: a job may run for half an hour. Salesforce lets a call wait for a lock for up
    to 10 s; what it refuses then is sent again, here as in the job.
    """
    return row.system == "salesforce" and row.priority > Priority.PAYMENT_FAILED


def key_is_old(engine: Engine, row: CommandRow) -> bool:
    """Stripe may have forgotten the key: it keeps one for a day at least (docs.stripe.com/api/idempotent_requests)."""
    return row.first_sent is not None and engine.env.now() - row.first_sent > KEY_LIFETIME_US


def _guard(engine: Engine, deadline_wall: int) -> Callable[[], None]:
    def guard() -> None:
        assert not engine.ledger.in_transaction(), "no call may leave inside a ledger transaction"
        if engine.env.wall() > deadline_wall:
            raise DeadlinePassed

    return guard


def salesforce_write(kind: str, account: str, body: Mapping[str, Any]) -> Write:
    """A command to Salesforce as the adapter takes it."""
    if kind == "salesforce.once":
        marker, record = body["marker"], body["record"]
        return Once((marker["object"], marker["fields"]), (record["object"], record["fields"]), account)
    if kind == "salesforce.upsert":
        return Upsert(body["object"], body["external_field"], body["external_id"], body["fields"], account)
    return Update(body["object"], body["id"], body["fields"], account)
