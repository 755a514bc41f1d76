"""What may wait joins a bulk job instead of leaving at once, when so much is due that a job is worth its calls.

An update joins under its account's claim, written ahead like every attempt. From then on the job holds its target;
the account itself is free, and is served as ever. Who looks at it again while the job still gathers takes the update
out (resolve.py), so what a job sends is never older than what was last known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from sync_pipeline.core import canonical
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.settling import sets_what_sales_edits
from sync_pipeline.ledger import attempts, bulk_jobs, work
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.work import Claim
from sync_pipeline.systems.salesforce.bulk import can_say

LASTS_US = 60 * 60 * 1_000_000
"""Nothing of a job leaves later than this after the job was opened."""

Sending = tuple[Claim, CommandRow]


def gather(engine: Engine, sendings: Sequence[Sending], *, min_lease_us: int) -> tuple[list[Sending], Counter[str]]:
    """Lets those Salesforce writes that may wait join jobs.

    Returns the others, which leave now, and how many of each account have joined. A write whose claim is lost is
    among the others: they are checked again.
    """
    least = engine.rules.bulk.from_records
    if not engine.gathers or least is None:
        return list(sendings), Counter()
    by_object = _willing(engine, sendings)
    here = sum(map(len, by_object.values()))
    if not here or not _enough(engine, here, least):
        return list(sendings), Counter()
    # Whose keys they are: the first to ask signs in, which is a call.
    instance_id = engine.instance_id
    joined: set[str] = set()
    for kind, some in sorted(by_object.items()):
        with engine.ledger.tx() as conn:
            wall = engine.env.wall()
            job = bulk_jobs.gathering(conn, kind, now_wall=wall, lasts_us=LASTS_US, new_id=engine.env.token)
            joined |= attempts.begin(
                conn,
                some,
                now=engine.env.now(),
                now_wall=wall,
                deadline_wall=job.deadline_wall,
                min_lease_us=min_lease_us,
                instance_id=instance_id,
                new_id=engine.env.token,
                job=job.id,
            ).keys()
    left = [sending for sending in sendings if sending[1].id not in joined]
    return left, Counter(row.account for _, row in sendings if row.id in joined)


def _willing(engine: Engine, sendings: Sequence[Sending]) -> dict[str, list[Sending]]:
    """By object the updates of a class that may wait, sent for the first time.

    What sales edits as well does not wait: a job runs for minutes, and an edit that is made meanwhile would be lost.
    Those of a record that is written twice in this round are left out: a job has no order.
    """
    bodies = [canonical.decode(row.body) for _, row in sendings]
    times = Counter(body.get("id") for body in bodies)
    found: dict[str, list[Sending]] = defaultdict(list)
    for (claim, row), body in zip(sendings, bodies, strict=True):
        if (
            row.kind == "salesforce.update"
            and row.attempt_id is None
            and engine.rules.bulk.takes(row.priority, claim.priority)
            and times[body["id"]] == 1
            and can_say(body["fields"])
            and not sets_what_sales_edits(engine, row)
        ):
            found[body["object"]].append((claim, row))
    return found


def _enough(engine: Engine, here: int, least: int) -> bool:
    """Whether a job will probably be filled: with what is here, what has gathered, and what is still due."""
    with engine.ledger.read() as conn:
        return here + bulk_jobs.gathered(conn) + work.due(conn, engine.env.wall()) >= least
