"""Commands whose outcome is not known: settled before anything else is planned for their account.

An update sets absolute values, so the next look tells whether it is still wanted. One to Stripe is sent again with its
own key where it changes nothing that somebody has edited since; otherwise it is planned anew, under a new key, once it
can arrive no more, as is one whose key Stripe answers with a failure that it has kept (settling.py). A create is sent
again with its own key while Stripe still keeps keys. After that, or when the key was answered with 5xx twice (Stripe
saves and repeats a failure), the strongly consistent list is asked whether the object exists: adopted if it does, a new
key if it does not. An alert that may have been sent is never sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sync_pipeline.core import canonical
from sync_pipeline.core.commands import Agreement
from sync_pipeline.core.foresight import is_shown
from sync_pipeline.core.world import World
from sync_pipeline.engine.apply import Applied, key_is_old, resend
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.settling import finish, settle, still_ours
from sync_pipeline.ledger import attempts, bulk_jobs, commands
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.work import Claim
from sync_pipeline.systems.alerts import UNANSWERED
from sync_pipeline.systems.outcomes import Outcome, ReadFailed

GRACE_US = 120 * 1_000_000


def resolve(engine: Engine, claims: Sequence[Claim], *, between: Callable[[], None]) -> Applied:
    """Tries to settle every unresolved command of the claimed accounts; what stays open blocks its target.

    `between` is called before each account that has some, while nothing is in flight.
    """
    result = Applied()
    with engine.ledger.read() as conn:
        open_rows = commands.unresolved(conn, [claim.account for claim in claims])
    for claim in [claim for claim in claims if claim.account in open_rows]:
        between()
        for row in open_rows[claim.account]:
            if row.job is not None:
                if not _taken_out(engine, claim, row, row.job):
                    result.held.add(claim.account)
            elif row.state == "sending" and (row.deadline_wall or 0) >= engine.env.wall():
                result.waiting.add(claim.account)
            elif row.system == "salesforce":
                _look_again(engine, claim, row)
            elif row.kind == "stripe.update":
                result.in_doubt.setdefault(claim.account, []).append(row)
            elif row.kind == "alert.send":
                settle(engine, claim, row, UNANSWERED)
            elif row.kind == "stripe.create" and _key_is_spent(engine, row):
                _probe(engine, claim, row, result)
            else:
                resend(engine, claim, row, result)
    return result


def by_the_look(
    engine: Engine, claims: Sequence[Claim], worlds: Mapping[str, World], in_doubt: dict[str, list[CommandRow]]
) -> dict[str, World]:
    """Takes out of `in_doubt` the updates of which the look tells; returns their accounts' worlds with what it tells.

    What an update set and is shown was done. What is not shown is planned anew once it can arrive no more. Until then
    it stays in doubt: it is sent again where the plan wants the same, and holds its target where somebody has edited
    the object since.
    """
    found = {}
    for claim in [claim for claim in claims if claim.account in in_doubt and claim.account in worlds]:
        world, rows = worlds[claim.account], in_doubt.pop(claim.account)
        for row in rows:
            if is_shown(world, canonical.decode(row.body)):
                settle(engine, claim, row, Outcome("done", message="seen at Stripe"))
                agreed = (Agreement(**each) for each in canonical.decode(row.agreements))
                world = replace(world, base={**world.base, **{(a.subject, a.rule): a.value for a in agreed}})
            elif _is_given_up(engine, row):
                _plan_anew(engine, claim, row)
            else:
                in_doubt.setdefault(claim.account, []).append(row)
        found[claim.account] = world
    return found


def _taken_out(engine: Engine, claim: Claim, row: CommandRow, job: str) -> bool:
    """Takes an update out of its bulk job, to be planned anew; False when the job is on its way, and will tell."""
    with engine.ledger.tx() as conn:
        if bulk_jobs.gathers(conn, job) is False or not still_ours(conn, engine, claim):
            return False
        again = Outcome("throttled", message="the account was looked at again before its bulk job left")
        if (attempt_id := attempts.unanswered(conn, row.id)) is not None:
            finish(conn, engine, row, attempt_id, again, calls=0)
    return True


def _look_again(engine: Engine, claim: Claim, row: CommandRow) -> None:
    """An absolute write that may have happened: the next observation tells, so nothing has to be resolved."""
    settle(engine, claim, row, Outcome("throttled", message="no answer; the record is read again"))


def _key_is_spent(engine: Engine, row: CommandRow) -> bool:
    failed_twice = (row.attempt_number or 0) > 1 and (row.http_status or 0) >= 500
    return key_is_old(engine, row) or failed_twice


def _is_given_up(engine: Engine, row: CommandRow) -> bool:
    """Whether its last request, if it ever arrives, has arrived."""
    return row.last_sent is None or engine.env.now() - row.last_sent >= GRACE_US


def _probe(engine: Engine, claim: Claim, row: CommandRow, result: Applied) -> None:
    if not _is_given_up(engine, row):
        result.waiting.add(row.account)
        return
    body = canonical.decode(row.body)
    try:
        found = engine.stripe.find_created(body["object"], body["params"], since=row.first_sent or 0)
    except ReadFailed:
        result.waiting.add(row.account)
        return
    if found is not None:
        settle(engine, claim, row, Outcome("done", object_id=found, message="found in the list"))
    else:
        _plan_anew(engine, claim, row)


def _plan_anew(engine: Engine, claim: Claim, row: CommandRow) -> None:
    """What certainly did not happen, or can be seen: the next plan decides again, under a new key."""
    with engine.ledger.tx() as conn:
        if still_ours(conn, engine, claim):
            attempts.next_generation(conn, row.id)
