"""Alerts: a failed payment or an overdue invoice above an amount is told at once, outside of both systems, once ever.

Only what a Task is made for is told, and nothing that was collected in the meantime. Amounts are held against the
threshold in the invoice's own currency.
"""

from __future__ import annotations

from collections.abc import Iterator

from sync_pipeline.core.commands import Command
from sync_pipeline.core.crosswalk import own_billing
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.failure_tasks import NOTHING_TO_COLLECT, story, subject_line
from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.core.observation import Present
from sync_pipeline.core.payment_failures import failure_key, is_failure
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.stripe_records import Invoice
from sync_pipeline.core.units import DAY_US
from sync_pipeline.core.world import World


def payment_alerts(world: World, rules: Rules) -> Iterator[Command]:
    """One alert for every noted failure above the threshold that nobody was told of yet."""
    billing = own_billing(world)
    if not isinstance(world.account, Present) or billing is None or rules.commercial.alert_from is None:
        return
    invoices = {invoice.id: invoice for invoice in billing.invoices}
    oldest = world.now - rules.commercial.task_for_days * DAY_US
    for fact in sorted(filter(is_failure, world.facts), key=failure_key):
        invoice = invoices.get(dict(fact.attributes)["invoice"])
        is_open = invoice is not None and invoice.status not in NOTHING_TO_COLLECT
        is_new = fact.occurred_at >= oldest and f"alert:{failure_key(fact)}" not in world.once
        if invoice is not None and is_open and is_new and _is_large(fact, rules.commercial.alert_from):
            yield _alert(world, rules, world.account.value, fact, invoice)


def _is_large(fact: Fact, threshold: int) -> bool:
    try:
        return Money(fact.amount_minor, fact.currency).decimal() >= threshold
    except MoneyError:
        return False


def _alert(world: World, rules: Rules, account: Account, fact: Fact, invoice: Invoice) -> Command:
    key = f"alert:{failure_key(fact)}"
    return Command(
        key=key,
        account=world.account_id,
        target=key,
        action="alert.send",
        priority=Priority.PAYMENT_FAILED,
        reason=subject_line(fact),
        subject=world.account_id,
        body={
            "title": f"{subject_line(fact)}, {account.name or account.id}",
            "text": story(fact, rules.commercial),
            "link": invoice.hosted_url or "",
            "link_text": f"Invoice {invoice.number or invoice.id}",
        },
    )
