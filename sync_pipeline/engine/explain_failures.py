"""Why there is a Task of a failed payment: which payment it was, what happens next, what is at stake, and who has it.

What is told of the failure is the fact that was noted when it was first seen; how its invoice stands is read afresh.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sync_pipeline.core.crosswalk import own_billing
from sync_pipeline.core.evidence import Evidence
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.failure_tasks import RULE, UNTOUCHED, story, subject_line, task_owner
from sync_pipeline.core.money import Money
from sync_pipeline.core.observation import Present
from sync_pipeline.core.payment_failures import failure_key, is_failure
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.world import World
from sync_pipeline.engine.explanation import MADE, Explanation, history
from sync_pipeline.ledger.audit import AuditRow

ONCE = "every failed payment becomes one Task, once, which tells what was true when it was first seen"
THEIRS = f"{RULE}: it is set when the Task is made; from then on it belongs to whoever works on it"
ENDS = f"{RULE}: an open Task that nobody has touched ({UNTOUCHED}) is completed once its invoice needs no collecting"


def explained_failure(
    world: World, rules: Rules, name: str, record_id: str, shown: Mapping[str, Any], rows: Sequence[AuditRow]
) -> Iterator[Explanation]:
    """The fields of a Task, or of the marker that makes it exactly-once. `name` is the sync's own name of the object,
    `shown` its fields by the sync's own names."""
    key, names = shown["failure_key" if name == "task" else "key"], rules.salesforce[name]
    fact = next((each for each in world.facts if is_failure(each) and failure_key(each) == key), None)
    behind = tuple(_behind(world, rules, fact)) if fact is not None else ()
    writes = history(rows, {record_id, key})
    for own, api_name in names.fields.items():
        if own == "id":
            continue
        value = _text(own, shown[own], rules, fact) if own in ("subject", "description") else shown[own]
        yield Explanation(
            object=names.object,
            id=record_id,
            account=world.account_id,
            field=api_name,
            rule=None,
            shown=value,
            wanted=value,
            agreed=None,
            verdict=_verdict(own, fact),
            behind=_of_owner(world, rules) if own == "owner_id" else behind if own in TOLD else (),
            writes=tuple(each for each in writes if each.field in (MADE, api_name)),
            authority=_authority(rules, own),
        )


TOLD = frozenset({"key", "failure_key", "subject", "description", "priority"})
"""The fields that say what happened."""


def _authority(rules: Rules, own: str) -> str:
    commercial = rules.commercial
    return {
        "key": f"{RULE}: {ONCE}",
        "failure_key": f"{RULE}: {ONCE}",
        "status": ENDS,
        "owner_id": f"{THEIRS}; the first of {', '.join(commercial.task_owners)} who can be given work",
        "priority": f"{THEIRS}; High from {commercial.urgent_mrr} of monthly recurring revenue at risk",
    }.get(own, THEIRS)


def _verdict(own: str, fact: Fact | None) -> str:
    if fact is None:
        return "the ledger knows no such failure: it was made by another installation, or by hand"
    return "it was made for this failure" if own in ("key", "failure_key") else "it stays as it is"


def _text(own: str, shown: str | None, rules: Rules, fact: Fact | None) -> str | None:
    """What stands there as far as it is ours: people write what they like, and that is theirs to tell."""
    ours = "" if fact is None else subject_line(fact) if own == "subject" else story(fact, rules.commercial)
    if shown is None or (ours and shown.startswith(ours)):
        return ours if shown else None
    return "(edited by a person)"


def _behind(world: World, rules: Rules, fact: Fact) -> Iterator[Evidence]:
    """The failure as it was told, line by line, and its invoice as it is now."""
    told = dict(fact.attributes)
    first, *more = story(fact, rules.commercial).splitlines()
    amount = Money(fact.amount_minor, fact.currency)
    yield Evidence(fact.external_id, first, amount, fact.occurred_at, told["invoice"])
    yield from (Evidence(told["invoice"], line) for line in more)
    billing = own_billing(world)
    for invoice in billing.invoices if billing is not None else ():
        if invoice.id == told["invoice"]:
            planned = f", next attempt {_day(invoice.next_attempt_at)}" if invoice.next_attempt_at else ""
            what = f"the invoice is {invoice.status} now, attempts so far: {invoice.attempt_count}{planned}"
            yield Evidence(invoice.id, what, at=invoice.paid_at)


def _of_owner(world: World, rules: Rules) -> tuple[Evidence, ...]:
    if not isinstance(world.account, Present):
        return ()
    owner = task_owner(world.account.value, rules.commercial)
    return (Evidence(owner, "would be given a Task of this Account now"),) if owner else ()


def _day(micros: int) -> str:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).date().isoformat()
