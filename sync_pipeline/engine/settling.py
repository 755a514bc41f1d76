"""What came of a command: outcome, links that it proves, merge base and one audit row, in one transaction.

Sending is apply.py's business; this is called once for every attempt, whoever has sent it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from sqlalchemy import Connection

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import VERSION
from sync_pipeline.core.commands import Agreement
from sync_pipeline.core.crosswalk import SCHEDULE
from sync_pipeline.core.customers import slot_of_intent
from sync_pipeline.core.evidence import INVOICES_NAMED
from sync_pipeline.core.payment_failures import failure_key, is_failure
from sync_pipeline.engine.context import Engine
from sync_pipeline.ledger import attempts, audit, base, commands, facts, inbox, links, work
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.work import Claim
from sync_pipeline.systems.outcomes import Outcome
from sync_pipeline.systems.stripe.errors import KEY_REUSED

# An audit row names this many of the events that were heard of its account before the write.
EVENTS_NAMED = 5
LINKED_KINDS = ("customer", "subscription", SCHEDULE)
NAMES_NOTHING = "something that it names is not there, or may not be named there: correct the record or the rules file"


def still_ours(conn: Connection, engine: Engine, claim: Claim) -> bool:
    """Whether what was found out under a claim may still be acted on, for the rest of the transaction.

    Whoever has the account otherwise may have sent something meanwhile, and finds out for itself.
    """
    return bool(work.held(conn, [claim], now_wall=engine.env.wall(), margin_us=0))


def settle(engine: Engine, claim: Claim, row: CommandRow, outcome: Outcome) -> None:
    """Writes down what came of a command's attempt whose answer is missing, without sending anything."""
    with engine.ledger.tx() as conn:
        if still_ours(conn, engine, claim) and (attempt_id := attempts.unanswered(conn, row.id)) is not None:
            finish(conn, engine, row, attempt_id, outcome)


def after_a_look(row: CommandRow, outcome: Outcome) -> Outcome:
    """What came of an attempt, knowing what came of the one before.

    A record that is not as we thought is looked at again. Where the plan wants the very same after that, it is as we
    thought, and these values are refused: a user who is not there as the owner, a record type that is not given. Of
    Stripe's answers that is not so: a create that failed there once may be answered like that more than once.
    """
    if row.system != "salesforce" or outcome.state != "stale" or row.outcome != "stale":
        return outcome
    return replace(outcome, state="rejected", advice=NAMES_NOTHING)


def sets_what_sales_edits(engine: Engine, row: CommandRow) -> bool:
    """Whether it sets fields of Salesforce that go both ways: late, it would be taken for an edit of sales and billed,
    or take one away."""
    if row.kind != "salesforce.update":
        return False
    body = canonical.decode(row.body)
    return not engine.rules.two_way.isdisjoint((body["object"], field) for field in body["fields"])


def may_come_late(engine: Engine, row: CommandRow) -> bool:
    """Whether it sets what sales edits as well, and was not answered."""
    return row.http_status is None and sets_what_sales_edits(engine, row)


def finish(
    conn: Connection, engine: Engine, row: CommandRow, attempt_id: str, outcome: Outcome, calls: int = 1
) -> None:
    """Records what came of an attempt, in the transaction of the caller."""
    now = engine.env.now()
    # Its key answers for a day with the failure that it was answered with first.
    spent = outcome.replayed_failure and outcome.state == "ambiguous" and row.kind != "stripe.create"
    if spent or (outcome.state == "ambiguous" and row.kind == "salesforce.once"):
        # Sent again, it finds in the same call whether it was there.
        outcome = replace(outcome, state="throttled")
    account = attempts.finish(
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
    if account is None or outcome.state == "ambiguous":
        # What is not known yet is audited when it is: by a look at the list, or by the attempt that settles it.
        return
    refused = outcome.state in ("rejected", "stale") and outcome.code != KEY_REUSED
    if refused or spent or (outcome.state == "done" and row.kind != "stripe.create"):
        # Nothing was made, or an update may be wanted again: the old key would only repeat the old answer.
        attempts.next_generation(conn, row.id)
    if outcome.state == "done":
        _link_made(conn, account, row, outcome.object_id, now)
        agreed = (Agreement(**each) for each in canonical.decode(row.agreements))
        base.put(conn, account, [base.BaseEntry(a.subject, a.rule, a.value, VERSION) for a in agreed], now)
    audit.append(
        conn,
        account=account,
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
                "events": inbox.latest(conn, account, EVENTS_NAMED),
                "invoices": _invoices(conn, account, row),
            }
        ),
        run=engine.run,
        code_version=engine.code_version,
        request_id=outcome.request_id,
    )


def _invoices(conn: Connection, account: str, row: CommandRow) -> list[str]:
    """The invoices that the values of a write were read from, or whose failed payment a record tells of."""
    if row.kind == "salesforce.once":
        known = facts.for_accounts(conn, [account]).get(account, [])
        return [dict(fact.attributes)["invoice"] for fact in known if is_failure(fact) and failure_key(fact) == row.key]
    named = [invoice for change in canonical.decode(row.changes) for invoice in change.get("invoices", ())]
    return list(dict.fromkeys(named))[:INVOICES_NAMED]


def _state_after(outcome: Outcome, row: CommandRow) -> commands.State:
    match outcome.state:
        case "done":
            return "done"
        case "rejected":
            return "parked"
        case "ambiguous":
            return "ambiguous"
        case "throttled" | "denied" if row.system == "stripe" and row.is_unresolved:
            # What did not happen now tells nothing of the attempt before, whose answer is still missing.
            return "ambiguous"
        case "throttled" | "stale" | "denied":
            return "planned"
        case _:
            assert_never(outcome.state)


def _link_made(conn: Connection, account: str, row: CommandRow, object_id: str | None, now: int) -> None:
    """Remembers what was made, so that it is never made again. `account` is whose it is by now."""
    if row.kind in ("salesforce.once", "alert.send"):
        links.put(conn, links.Link(account, "salesforce", "once", row.key, subject=row.key), now)
    if row.kind != "stripe.create" or object_id is None:
        return
    body = canonical.decode(row.body)
    if body["object"] in LINKED_KINDS:
        metadata = body["params"]["metadata"]
        if body["object"] == "customer":
            # Its Account may have been merged since it was asked for.
            _, further, currency = slot_of_intent(metadata["sf_intent"]).partition(":")
            owner = f"{account}{further}{currency}"
        else:
            owner = metadata["sf_opportunity_id"]
        made = links.Link(account, "stripe", body["object"], object_id, subject=owner)
        try:
            links.put(conn, made, now)
        except links.LinkConflict as conflict:
            if conflict.existing.external_id == object_id:
                # Another Account has adopted it meanwhile, and keeps it; who still needs one is made another.
                attempts.next_generation(conn, row.id)
            else:
                # A person named another one while the outcome of this create was not known.
                links.put(conn, replace(made, role="secondary"), now)
