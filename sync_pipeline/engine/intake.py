"""How hints become dirty accounts: webhooks, Salesforce polls, the sweep for missed events, a person's resync.

Every way in ends in the same two tables in one transaction: the inbox, which forgets no event and takes none
twice, and the queue of dirty accounts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from sync_pipeline.core.rules import Priority
from sync_pipeline.core.salesforce_records import SALESFORCE_RECORDS
from sync_pipeline.core.units import DAY_US
from sync_pipeline.engine import budget
from sync_pipeline.engine.env import Env
from sync_pipeline.engine.merges import back_from_the_bin, follow_merges
from sync_pipeline.ledger import attempts, commands, cursors, inbox, links, work
from sync_pipeline.ledger.commands import CommandRow
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.inbox import InboxEvent
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.reads import Change
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline.systems.stripe.errors import KEY_REUSED
from sync_pipeline.systems.stripe.events import Hint, hint, urgency

# Cursors: when (process time) the two polls were last made.
POLLED = "salesforce.polled_wall"
SWEPT = "stripe.swept_wall"
# The events that were looked at last whose customer has to be linked, and whose charge has to be asked for: those of
# nobody, and those that cannot be read, do not keep the others from their turn.
SOUGHT = "stripe.sought_event"
ASKED = "stripe.asked_event"
OVERLAP_US = 10 * 60 * 1_000_000
FRESH_US = 5 * 1_000_000
UNRESOLVED_PER_PASS = 5_000
# Charges are read one by one, and whoever reads them does nothing else meanwhile.
CHARGES_PER_PASS = 50
LOOK_AGAIN_US = 5 * 60 * 1_000_000
CHARGES = ("ch_", "py_")
# As many as one call asks for. What somebody edits in a churn record is found by the next full comparison.
POLLED_RECORDS = tuple(name for name in SALESFORCE_RECORDS if name != "churn_record")
UNRESOLVED_FOR_US = 3 * DAY_US


def receive(ledger: Ledger, hints: Iterable[Hint], env: Env) -> int:
    """Stores events and marks their accounts dirty; returns how many were new. A repeated event is no event."""
    with ledger.tx() as conn:
        return _receive(conn, list(hints), env)


def nudge(ledger: Ledger, accounts: Iterable[str], env: Env) -> None:
    """Somebody says that these accounts may have changed; as nobody knows who, behind what both systems say."""
    with ledger.tx() as conn:
        work.mark_dirty(conn, accounts, priority=Priority.WRITE_BACK, now_wall=env.wall())


def resync(ledger: Ledger, accounts: Iterable[str], env: Env) -> None:
    """A person asks for these accounts to be looked at now; what was refused to them is tried once more.

    A write whose key was used for another request gets a new one: after a ledger was restored from a backup, what it
    has forgotten to have sent stands in the way of what is to be sent.
    """
    with ledger.tx() as conn:
        wanted = sorted(set(accounts))
        refused = _parked(conn, wanted)
        for row in refused:
            if KEY_REUSED in (row.error or ""):
                attempts.next_generation(conn, row.id)
        commands.unpark(conn, [row.id for row in refused], env.now())
        work.mark_dirty(conn, wanted, priority=Priority.CREATE, now_wall=env.wall())


def try_again(conn: Connection, accounts: Iterable[str], env: Env) -> None:
    """What was refused to these accounts may be tried once more, except where a defect of ours stopped them."""
    refused = [row.id for row in _parked(conn, accounts) if KEY_REUSED not in (row.error or "")]
    commands.unpark(conn, refused, env.now())


def _parked(conn: Connection, accounts: Iterable[str]) -> list[CommandRow]:
    among = set(accounts)
    return [row for row in commands.parked(conn) if row.account in among]


def not_an_account(ledger: Ledger, salesforce: Salesforce, accounts: Iterable[str]) -> list[str]:
    """Those of the ids that neither the ledger nor Salesforce knows as an Account. Raises ReadFailed."""
    with ledger.read() as conn:
        strange = sorted(set(accounts) - links.for_accounts(conn, accounts).keys())
    seen = salesforce.accounts(strange) if strange else {}
    return [account for account in strange if seen[account].account is None]


def poll_salesforce(ledger: Ledger, salesforce: Salesforce, env: Env) -> int:
    """Reads what changed since the last look, ten minutes overlapping; returns how many changes were new.

    Rows become visible at commit with a stamp from before it, hence the overlap; (id, SystemModstamp) makes a
    row that is seen twice one event. Stamps count seconds, so a row that was seen fresh counts once more when
    no later edit can have the same stamp. The first look ever reads everything. What belongs to an Account that was
    merged into another moves to that one. What we have written ourselves comes last: an edit of somebody else may be
    behind it, and nothing waits for it.
    """
    settled = env.now() - FRESH_US
    with ledger.read() as conn:
        known = cursors.get_all(conn, (f"salesforce.{name}" for name in POLLED_RECORDS))
    marks = {name: int(known.get(f"salesforce.{name}", 0)) for name in POLLED_RECORDS}
    changes = salesforce.changes_since({name: max(0, mark - OVERLAP_US) for name, mark in marks.items()})
    accounts = {change.id: change.merged_into for change in changes if change.object == "account"}
    merged = {old: new for old, new in accounts.items() if new is not None}
    with ledger.tx() as conn:
        back_from_the_bin(conn, accounts.keys() - merged.keys())
        left = follow_merges(conn, merged, env.now())
        deals = [change.id for change in changes if change.object == "opportunity"]
        billed = {link.subject for link in links.of_subjects(conn, "stripe", "subscription", deals)}
    events = [
        InboxEvent(
            source="salesforce",
            event_id=f"{change.id}:{change.modified_at}{'' if change.modified_at < settled else ':fresh'}",
            type=f"{change.object}.changed",
            object_ids=(change.id,),
            created_at=change.modified_at,
            account=left.get(change.id, change.account_id) or inbox.NO_ACCOUNT,
        )
        for change in changes
    ]
    priorities = {event.event_id: int(_urgency(change, billed)) for event, change in zip(events, changes, strict=True)}
    newest = {name: max([c.modified_at for c in changes if c.object == name], default=0) for name in POLLED_RECORDS}
    with ledger.tx() as conn:
        new = inbox.receive(conn, events, received_wall=env.wall(), priority=lambda event: priorities[event.event_id])
        for name, mark in newest.items():
            if mark > marks[name]:
                cursors.put(conn, f"salesforce.{name}", str(mark), env.now())
        cursors.put(conn, POLLED, str(env.wall()), env.now())
        budget.note(conn, salesforce, env.wall())
    return new


def _urgency(change: Change, billed: Collection[str]) -> Priority:
    """Of what changed in Salesforce; `billed` are the Opportunities that have a subscription."""
    if change.by_us:
        return Priority.SWEEP
    if change.object == "opportunity" and change.id not in billed:
        return Priority.CREATE
    return Priority.SEATS if change.object in ("opportunity", "line") else Priority.WRITE_BACK


def poll_is_due(ledger: Ledger, env: Env, every_seconds: int) -> bool:
    """Not with the calls that are kept for failed payments: Stripe tells of those, and Salesforce of none."""
    with ledger.read() as conn:
        polled = int(cursors.get(conn, POLLED) or 0)
        if budget.admitted(conn, env.wall()) < Priority.CREATE:
            return False
    return _is_past(polled, env.wall(), every_seconds * 1_000_000)


def sweep_stripe(ledger: Ledger, stripe: Stripe, env: Env, tell: Callable[[str], None]) -> int:
    """Reads Stripe's own list of events for those whose webhook never came; returns how many were new.

    An event that cannot be read is told and left out: the next full comparison finds what it was about. Also resolves
    earlier events whose customer has become known meanwhile. Raises ReadFailed.
    """
    now = env.now()
    with ledger.read() as conn:
        # Another machine's clock may have been ahead.
        mark = min(now, int(cursors.get(conn, "stripe.swept") or now - OVERLAP_US))
    hints = list(_readable(stripe.events_since(mark - OVERLAP_US), tell))
    with ledger.tx() as conn:
        new = _receive(conn, hints, env)
        cursors.put(conn, "stripe.swept", str(now), now)
    _resolve_waiting(ledger, stripe, env, tell)
    with ledger.tx() as conn:
        cursors.put(conn, SWEPT, str(env.wall()), now)
    return new


def sweep_is_due(ledger: Ledger, env: Env, every_seconds: int) -> bool:
    with ledger.read() as conn:
        swept = int(cursors.get(conn, SWEPT) or 0)
        return _is_past(swept, env.wall(), every_seconds * 1_000_000) or charge_waits(conn, env.wall())


def charge_waits(conn: Connection, now_wall: int) -> bool:
    """Whether Stripe has to be asked whose charge an event is about: it came after the last sweep, or that one could
    not learn it and was some minutes ago."""
    came, swept = inbox.newest_without_customer(conn), int(cursors.get(conn, SWEPT) or 0)
    return came is not None and (came > swept or _is_past(swept, now_wall, LOOK_AGAIN_US))


def _is_past(mark: int, now_wall: int, every_us: int) -> bool:
    """Whether a mark is so far away: behind us, or ahead, where a clock has put it that was wrong."""
    return abs(now_wall - mark) >= every_us


def _readable(events: Iterable[Mapping[str, Any]], tell: Callable[[str], None]) -> Iterator[Hint]:
    for event in events:
        try:
            yield hint(event)
        except ValueError as error:
            tell(str(error))


def _receive(conn: Connection, hints: list[Hint], env: Env) -> int:
    customers = {each.customer for each in hints if each.customer}
    linked = links.accounts_of(conn, "stripe", "customer", customers)
    left = links.merged_into(conn, {each.account_id for each in hints if each.account_id})
    priorities = {each.event_id: int(each.priority) for each in hints}
    events = [
        InboxEvent(
            source="stripe",
            event_id=each.event_id,
            type=each.type,
            object_ids=each.object_ids,
            created_at=each.created_at,
            account=linked.get(each.customer or "")
            or left.get(each.account_id or "", each.account_id)
            or (None if each.customer or each.charge else inbox.NO_ACCOUNT),
        )
        for each in hints
    ]
    return inbox.receive(conn, events, received_wall=env.wall(), priority=lambda event: priorities[event.event_id])


def _resolve_waiting(ledger: Ledger, stripe: Stripe, env: Env, tell: Callable[[str], None]) -> None:
    """Gives waiting events to the Accounts that their customers are linked to by now.

    Where an event names only a charge, that is asked for its customer. What is then known to be nobody's, or is claimed
    by nobody within three days, is dismissed: the Account that gets the customer one day is looked at as a whole then.
    """
    with ledger.read() as conn:
        seen = cursors.get_all(conn, (SOUGHT, ASKED))
        waiting = inbox.waiting(conn, UNRESOLVED_PER_PASS, after=seen.get(SOUGHT, ""), with_customer=True)
        without = inbox.waiting(conn, CHARGES_PER_PASS, after=seen.get(ASKED, ""), with_customer=False)
    charges = {each for event in without for each in event.object_ids if each.startswith(CHARGES)}
    payers = _payers(stripe, sorted(charges), env, tell)
    with ledger.tx() as conn:
        for mark, events in ((SOUGHT, waiting), (ASKED, without)):
            if events:
                cursors.put(conn, mark, events[-1].event_id, env.now())
        customers = {each for event in waiting for each in event.object_ids if each.startswith("cus_")}
        linked = links.accounts_of(conn, "stripe", "customer", customers.union(filter(None, payers.values())))
        unsettled = customers | (charges - payers.keys())
        found: list[tuple[InboxEvent, str]] = []
        for event in [*without, *waiting]:
            named = (payers.get(each, each) for each in event.object_ids)
            account = next((linked[each] for each in named if each in linked), None)
            if account is not None:
                found.append((event, account))
            elif env.now() - event.created_at > UNRESOLVED_FOR_US or not unsettled.intersection(event.object_ids):
                inbox.dismiss(conn, event.source, event.event_id)
        inbox.resolve(conn, found, priority=lambda event: int(urgency(event.type)), now_wall=env.wall())


def _payers(stripe: Stripe, charges: Sequence[str], env: Env, tell: Callable[[str], None]) -> dict[str, str | None]:
    """The customers of those of the charges that can be read, None where a charge has none."""

    def look(charge: str) -> dict[str, str | None]:
        try:
            return {charge: stripe.payer(charge)}
        except ReadFailed as failure:
            if failure.access:
                raise
            tell(str(failure))
            return {}

    return {charge: payer for seen in env.each(look, charges) for charge, payer in seen.items()}
