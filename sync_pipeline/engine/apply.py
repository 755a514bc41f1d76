"""The only code that writes to the two systems and tells people: write-ahead, send, outcome and audit.

Every attempt is in the ledger before its request leaves, with the frozen body, the key and a deadline; the
outcome, the links that it proves and one audit row are written in one transaction after it. No HTTP call
happens inside a transaction. An account's Stripe commands run in order and stop at the first that fails;
Salesforce writes of all accounts go together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from sqlalchemy import Connection

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import VERSION
from sync_pipeline.core.commands import Agreement
from sync_pipeline.core.crosswalk import SCHEDULE
from sync_pipeline.core.customers import slot_of_intent
from sync_pipeline.engine import retries
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.cost import NOTHING, Calls, least_salesforce_writes
from sync_pipeline.ledger import attempts, audit, base, commands, inbox, links
from sync_pipeline.ledger.attempts import Attempt
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.tables import UNRESOLVED_STATES
from sync_pipeline.ledger.work import Claim
from sync_pipeline.systems.outcomes import DeadlinePassed, Guard, Outcome
from sync_pipeline.systems.salesforce.writes import Once, Part, Update, Upsert, Write, composite_calls
from sync_pipeline.systems.stripe.errors import KEY_REUSED

SEND_WITHIN_US = 20_000_000
KEY_LIFETIME_US = 23 * 3600 * 1_000_000
LONGEST_CALL_US = 40_000_000
ACCOUNTS_PER_BREATH = 20
# An audit row names this many of the events that were heard of its account before the write.
EVENTS_NAMED = 5
LINKED_KINDS = ("customer", "subscription", SCHEDULE)


@dataclass(slots=True)
class Applied:
    """What came of one round of writes; `least` is how few calls would have done."""

    done: int = 0
    least: Calls = NOTHING
    waiting: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    parked: list[str] = field(default_factory=list)
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

    def add(self, other: Applied) -> None:
        self.done += other.done
        self.least += other.least
        self.waiting |= other.waiting
        self.lost |= other.lost
        self.parked += other.parked
        self.halted = self.halted or other.halted


def apply(
    engine: Engine, work: Sequence[tuple[Claim, Sequence[CommandRow]]], *, between: Callable[[], None] = lambda: None
) -> Applied:
    """Sends the admitted commands of several accounts: Stripe's some accounts at a time, Salesforce's pooled.

    `between` is called every now and then while nothing is in flight, because many writes outlast a lease.
    """
    result = Applied()
    pooled: list[tuple[Claim, CommandRow]] = []
    for place in range(0, len(work), ACCOUNTS_PER_BREATH):
        between()
        breath = work[place : place + ACCOUNTS_PER_BREATH]
        served = engine.env.each(lambda one: _serve_stripe(engine, *one), breath)
        for (claim, rows), (through, applied) in zip(breath, served, strict=True):
            result.add(applied)
            if through:
                pooled.extend((claim, row) for row in rows if row.kind.startswith("salesforce."))
        if result.halted:
            return result
    _send_to_salesforce(engine, pooled, result, between)
    for claim, rows in work:
        for row in rows:
            if row.kind == "alert.send" and not result.halted:
                _send_alert(engine, claim, row, result)
    return result


def _serve_stripe(engine: Engine, claim: Claim, rows: Sequence[CommandRow]) -> tuple[bool, Applied]:
    """Sends an account's Stripe commands in order; whether all of them took effect, so that the rest may follow."""
    ours = [row for row in rows if row.kind.startswith("stripe.")]
    result = Applied(least=Calls(stripe_writes=len(ours)))
    return all(_send_to_stripe(engine, claim, row, result) for row in ours), result


def resend(engine: Engine, claim: Claim, row: CommandRow, result: Applied) -> None:
    """Sends a command whose outcome is not known once more, with the same key and the same bytes."""
    _send_to_stripe(engine, claim, row, result)


def settle(engine: Engine, row: CommandRow, outcome: Outcome) -> None:
    """Writes down what came of a command's attempt whose answer is missing, without sending anything."""
    with engine.ledger.tx() as conn:
        _finish(conn, engine, row, attempts.unanswered(conn, row.id), outcome)


def _send_to_stripe(engine: Engine, claim: Claim, row: CommandRow, result: Applied) -> bool:
    """True when the command took effect, so that the account's next one may follow."""
    body, stripe = canonical.decode(row.body), engine.stripe

    def send(attempt: Attempt, guard: Guard) -> Outcome:
        kind, params, key = body["object"], body["params"], attempt.idempotency_key
        if row.kind == "stripe.create":
            return stripe.create(kind, params, key=key, guard=guard)
        if row.kind == "stripe.delete":
            return stripe.delete(kind, body["id"], guard=guard)
        return stripe.update(kind, body["id"], params, key=key, guard=guard)

    return _send_alone(engine, claim, row, result, send)


def _send_alert(engine: Engine, claim: Claim, row: CommandRow, result: Applied) -> None:
    alert = canonical.decode(row.body)
    _send_alone(engine, claim, row, result, lambda _, guard: engine.alerts.send(alert, guard=guard))


def _send_alone(
    engine: Engine, claim: Claim, row: CommandRow, result: Applied, send: Callable[[Attempt, Guard], Outcome]
) -> bool:
    """Writes ahead, sends and settles one command; True when it took effect."""
    system = row.kind.partition(".")[0]
    if not retries.allowed(engine, system, [row]):
        result.waiting.add(row.account)
        return False
    attempt = _begin(engine, [(claim, row)], result).get(row.id)
    if attempt is None:
        return False
    try:
        outcome = send(attempt, _guard(engine, attempt.deadline_wall))
    except DeadlinePassed:
        outcome = Outcome("throttled", message="it was not sent in time")
    with engine.ledger.tx() as conn:
        _finish(conn, engine, row, attempt.id, outcome)
        retries.earned(conn, engine, system, [outcome])
    result.note(row.account, outcome)
    return outcome.state == "done"


def _send_to_salesforce(
    engine: Engine, pooled: Sequence[tuple[Claim, CommandRow]], result: Applied, between: Callable[[], None]
) -> None:
    writes = [salesforce_write(row.kind, row.account, canonical.decode(row.body)) for _, row in pooled]
    result.least += Calls(salesforce_writes=least_salesforce_writes(writes))
    for parts in composite_calls(writes):
        between()
        _send_one_call(engine, pooled, parts, result)
        if result.halted:
            return


def _send_one_call(
    engine: Engine, pooled: Sequence[tuple[Claim, CommandRow]], parts: Sequence[Part], result: Applied
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
    outcomes = engine.salesforce.send(ours, guard=_guard(engine, next(iter(made.values())).deadline_wall))
    calls = engine.salesforce.calls - before
    by_account = sorted(outcomes, key=lambda index: (pooled[index][1].account, index))
    with engine.ledger.tx() as conn:
        for index in by_account:
            row = pooled[index][1]
            # The call counts once, however many records travelled in it.
            _finish(conn, engine, row, made[row.id].id, outcomes[index], calls=calls)
            calls = 0
        retries.earned(conn, engine, "salesforce", outcomes.values())
    for index in by_account:
        result.note(pooled[index][1].account, outcomes[index])


def _begin(engine: Engine, sendings: Sequence[tuple[Claim, CommandRow]], result: Applied) -> dict[str, Attempt]:
    """The write-ahead: one transaction that checks the claims and notes the attempts, by command id."""
    # Whose keys they are: the first to ask signs in, which is a call.
    instance_id = engine.instance_id
    with engine.ledger.tx() as conn:
        wall = engine.env.wall()
        for _, row in sendings:
            if row.state == "planned" and key_is_old(engine, row):
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


def key_is_old(engine: Engine, row: CommandRow) -> bool:
    """Stripe may have forgotten the key: it keeps one for a day at least (docs.stripe.com/api/idempotent_requests)."""
    return row.first_sent is not None and engine.env.now() - row.first_sent > KEY_LIFETIME_US


def _guard(engine: Engine, deadline_wall: int) -> Callable[[], None]:
    def guard() -> None:
        assert not engine.ledger.in_transaction(), "no call may leave inside a ledger transaction"
        if engine.env.wall() > deadline_wall:
            raise DeadlinePassed

    return guard


def _finish(
    conn: Connection, engine: Engine, row: CommandRow, attempt_id: str, outcome: Outcome, calls: int = 1
) -> None:
    now = engine.env.now()
    if outcome.state == "ambiguous" and row.kind.startswith("salesforce."):
        # It set absolute values: the next look tells whether it has to be sent again.
        outcome = replace(outcome, state="throttled")
    recorded = attempts.finish(
        conn,
        attempt_id,
        outcome="throttled" if outcome.state == "denied" else outcome.state,
        state=_state_after(outcome, row),
        http_status=outcome.http_status,
        request_id=outcome.request_id,
        error=outcome.in_words(),
        now=now,
        cost_calls=calls,
    )
    if not recorded or outcome.state == "ambiguous":
        # What is not known yet is audited when it is: by a look at the list, or by the attempt that settles it.
        return
    refused = outcome.state in ("rejected", "stale") and outcome.code != KEY_REUSED
    if refused or (outcome.state == "done" and row.kind != "stripe.create"):
        # Nothing was made, or an update may be wanted again: the old key would only repeat the old answer.
        attempts.next_generation(conn, row.id)
    if outcome.state == "done":
        _link_made(conn, row, outcome.object_id, now)
        agreed = (Agreement(**each) for each in canonical.decode(row.agreements))
        base.put(conn, row.account, [base.BaseEntry(a.subject, a.rule, a.value, VERSION) for a in agreed], now)
    audit.append(
        conn,
        account=row.account,
        attempt_id=attempt_id,
        at=now,
        actor="sync",
        what=f"{row.kind} {row.target}: {outcome.state}",
        fields=row.changes,
        reason=row.reason,
        evidence=canonical.encode(
            {
                "object": outcome.object_id,
                "error": outcome.code,
                "body": row.input_hash,
                "events": inbox.latest(conn, row.account, EVENTS_NAMED),
            }
        ),
        run=engine.run,
        code_version=engine.code_version,
        request_id=outcome.request_id,
    )


def _state_after(outcome: Outcome, row: CommandRow) -> commands.State:
    match outcome.state:
        case "done":
            return "done"
        case "rejected":
            return "parked"
        case "ambiguous":
            return "ambiguous"
        case "throttled" | "denied" if row.kind == "stripe.create" and row.state in UNRESOLVED_STATES:
            # What did not happen now tells nothing of the attempt before, whose answer is still missing.
            return "ambiguous"
        case "throttled" | "stale" | "denied":
            return "planned"
        case _:
            assert_never(outcome.state)


def salesforce_write(kind: str, account: str, body: Mapping[str, Any]) -> Write:
    """A command to Salesforce as the adapter takes it."""
    if kind == "salesforce.once":
        marker, record = body["marker"], body["record"]
        return Once((marker["object"], marker["fields"]), (record["object"], record["fields"]), account)
    if kind == "salesforce.upsert":
        return Upsert(body["object"], body["external_field"], body["external_id"], body["fields"], account)
    return Update(body["object"], body["id"], body["fields"], account)


def _link_made(conn: Connection, row: CommandRow, object_id: str | None, now: int) -> None:
    """Remembers what was made, so that it is never made again."""
    if row.kind in ("salesforce.once", "alert.send"):
        links.put(conn, links.Link(row.account, "salesforce", "once", row.key, subject=row.key), now)
    if row.kind != "stripe.create" or object_id is None:
        return
    body = canonical.decode(row.body)
    if body["object"] in LINKED_KINDS:
        metadata = body["params"]["metadata"]
        of_customer = body["object"] == "customer"
        owner = slot_of_intent(metadata["sf_intent"]) if of_customer else metadata["sf_opportunity_id"]
        made = links.Link(row.account, "stripe", body["object"], object_id, subject=owner)
        try:
            links.put(conn, made, now)
        except links.LinkConflict:
            # A person named another one while the outcome of this create was not known.
            links.put(conn, replace(made, role="secondary"), now)
