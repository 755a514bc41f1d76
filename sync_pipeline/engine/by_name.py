"""What a person has named: a record, as people have it at hand; Accounts to look at; refused writes to send."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from sync_pipeline.core.rules import Priority
from sync_pipeline.core.salesforce_ids import record_id
from sync_pipeline.engine import guard, queue
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.cost import calls_so_far
from sync_pipeline.engine.intake import not_an_account, resync
from sync_pipeline.engine.rounds import BatchReport, bring_to_rest
from sync_pipeline.ledger import commands
from sync_pipeline.ledger.commands import CommandRow

PREFIXES = {
    "001": "Account",
    "006": "Opportunity",
    "00k": "OpportunityLineItem",
    "800": "Contract",
    "00T": "Task",
    "cus_": "customer",
    "si_": "subscription_item",
    "sub_sched_": "subscription_schedule",
    "sub_": "subscription",
}
RECORD_PAGE = re.compile(r"/lightning/r/(\w+)/([0-9A-Za-z]{15,18})(?:/|$)")


class NoSuchThing(ValueError):
    """Somebody named an Account or a refused write that is not there; the message says which."""


def reference(text: str) -> str:
    """The record that a person means, as OBJECT/ID: by that, by an id alone, or by the link of its page in Salesforce.

    What is not understood is given back as it is.
    """
    named = text.strip()
    if (page := RECORD_PAGE.search(named)) is not None:
        return f"{page[1]}/{record_id(page[2]) or page[2]}"
    name, _, bare = named.rpartition("/")
    name = name or kind_of(bare) or ""
    return f"{name}/{record_id(bare) or bare}" if name else named


def kind_of(bare: str) -> str | None:
    """The object whose ids begin so; None for an id of which that cannot be told."""
    return next((known for start, known in PREFIXES.items() if bare.startswith(start)), None)


def require_accounts(engine: Engine, accounts: Collection[str]) -> None:
    """Raises NoSuchThing for an id that neither the ledger nor Salesforce knows as an Account."""
    if strange := not_an_account(engine.ledger, engine.salesforce, accounts):
        raise NoSuchThing(f"neither Salesforce nor the ledger knows an Account {', '.join(strange)}")


def look_at(engine: Engine, accounts: Collection[str], *, allow: bool) -> BatchReport:
    """Brings the accounts to rest, whatever was refused to them before. Those that a worker holds are left to it.

    Raises NoSuchThing, Halted, and GuardTripped unless `allow`.
    """
    require_accounts(engine, accounts)
    resync(engine.ledger, accounts, engine.env)
    return _bring_to_rest(engine, accounts, allow=allow)


def refused(engine: Engine, names: Collection[str]) -> list[CommandRow]:
    """The parked writes that `names` mean: accounts or targets; all of them for no names. Raises NoSuchThing."""
    with engine.ledger.read() as conn:
        parked = commands.parked(conn)
    known = {name for row in parked for name in (row.account, row.target)}
    if strange := sorted(set(names) - known):
        raise NoSuchThing(f"nothing is parked for {', '.join(strange)}")
    return [row for row in parked if not names or row.account in names or row.target in names]


def replay(engine: Engine, rows: Iterable[CommandRow], *, allow: bool) -> BatchReport:
    """Tries these parked writes again, as the present plan of their accounts has them.

    Raises Halted, and GuardTripped unless `allow`.
    """
    wanted = list(rows)
    with engine.ledger.tx() as conn:
        commands.unpark(conn, [row.id for row in wanted], engine.env.now())
    return _bring_to_rest(engine, {row.account for row in wanted}, allow=allow)


def _bring_to_rest(engine: Engine, accounts: Collection[str], *, allow: bool) -> BatchReport:
    if not allow:
        guard.refuse_if_held(engine.ledger)
        engine = replace(engine, approval=guard.RunGuard(engine))
    total, me = BatchReport(), engine.env.token()
    before = calls_so_far(engine.salesforce, engine.stripe)
    for some in queue.at_a_time(accounts):
        claims = queue.claim_named(engine, me, some, Priority.CREATE)
        total.add(bring_to_rest(engine, claims, owner=me))
    total.used += calls_so_far(engine.salesforce, engine.stripe) - before
    return total
