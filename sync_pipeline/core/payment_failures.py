"""Failed payments become work for a person: exactly one Task per failed attempt, and one per overdue invoice.

A failed attempt is a failed charge: `attempt_count` is no identity, because attempts by hand do not raise it. The
Task says what was true when it was made; together with a marker whose key is unique it is made once, ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from sync_pipeline.core.commands import Command
from sync_pipeline.core.crosswalk import own_billing
from sync_pipeline.core.deal import account_currency, today
from sync_pipeline.core.lifecycle import AT_RISK
from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.core.mrr import monthly_recurring_revenue
from sync_pipeline.core.observation import Present
from sync_pipeline.core.records import Account, Charge, Invoice
from sync_pipeline.core.rules import Commercial, Priority, Rules
from sync_pipeline.core.world import Billing, World

DAY_US = 86_400 * 1_000_000
DUE_IN_DAYS = {"High": 0, "Normal": 3}
IN_PLAIN_WORDS = {
    "insufficient_funds": "the card has insufficient funds",
    "expired_card": "the card has expired",
    "lost_card": "the card was reported lost",
    "stolen_card": "the card was reported stolen",
    "incorrect_cvc": "the security code is wrong",
    "incorrect_number": "the card number is wrong",
    "do_not_honor": "the bank declined without a reason",
    "generic_decline": "the bank declined without a reason",
    "card_declined": "the bank declined without a reason",
    "authentication_required": "the customer has to confirm the payment",
    "processing_error": "the bank could not process it",
    "card_velocity_exceeded": "the card's limit is exceeded",
}


@dataclass(frozen=True, slots=True)
class _Failure:
    """One thing to tell: `key` is its identity for ever, `at` when it happened (microseconds UTC)."""

    key: str
    at: int
    subject: str
    story: str


def payment_failure_tasks(world: World, rules: Rules) -> Iterator[Command]:
    """A Task for every failure that has none yet."""
    billing = own_billing(world)
    if not isinstance(world.account, Present) or billing is None:
        return
    account = world.account.value
    oldest = world.now - rules.commercial.task_for_days * DAY_US
    for failure in (*_failed_attempts(billing, rules.commercial, world.now), *_overdue(billing, world.now)):
        if failure.at >= oldest and failure.key not in world.once:
            yield _task(world, rules, account, billing, failure)


def _failed_attempts(billing: Billing, commercial: Commercial, now: int) -> Iterator[_Failure]:
    invoice_of = {payment.payment: payment.invoice for payment in billing.payments if payment.payment}
    invoices = {invoice.id: invoice for invoice in billing.invoices}
    attempts: dict[str, list[Charge]] = {}
    for charge in sorted(billing.charges, key=lambda each: (each.created_at, each.id)):
        invoice_id = invoice_of.get(charge.payment_intent or "") or invoice_of.get(charge.id)
        if invoice_id in invoices and charge.status == "failed":
            attempts.setdefault(str(invoice_id), []).append(charge)
    for invoice_id, charges in attempts.items():
        for number, charge in enumerate(charges, 1):
            yield _failed_attempt(invoices[invoice_id], charge, number, charges[0].created_at, commercial, now)


def _failed_attempt(
    invoice: Invoice, charge: Charge, number: int, first_at: int, commercial: Commercial, now: int
) -> _Failure:
    amount = _shown(Money(charge.amount, charge.currency))
    why = IN_PLAIN_WORDS.get(charge.failure_code or "", charge.failure_code or "no reason was given")
    if invoice.status == "open" and invoice.next_attempt_at is not None:
        retry = f"The next attempt is on {today(invoice.next_attempt_at, commercial).isoformat()}."
    else:
        retry = "No retry is planned."
    final_at = first_at + sum(commercial.retry_days) * DAY_US
    days_left = max(0, -((now - final_at) // DAY_US))
    story = [
        f"Attempt {number} to collect {amount} for invoice {invoice.number or invoice.id} failed: {why}.",
        retry,
        f"If nothing is collected, {commercial.final_action} in {days_left} days.",
    ]
    return _Failure(f"attempt:{charge.id}", charge.created_at, f"Payment failed: {amount}", " ".join(story))


def _overdue(billing: Billing, now: int) -> Iterator[_Failure]:
    for invoice in billing.invoices:
        collected_by_hand = invoice.status == "open" and invoice.collection_method == "send_invoice"
        if collected_by_hand and invoice.due_at is not None and invoice.due_at < now:
            amount = _shown(Money(invoice.amount_remaining, invoice.currency))
            days = (now - invoice.due_at) // DAY_US
            story = f"Invoice {invoice.number or invoice.id} over {amount} is {days} days overdue."
            yield _Failure(f"overdue:{invoice.id}", invoice.due_at, f"Invoice overdue: {amount}", story)


def _task(world: World, rules: Rules, account: Account, billing: Billing, failure: _Failure) -> Command:
    commercial = rules.commercial
    at_risk = _at_risk(account, billing, commercial)
    priority = "High" if at_risk is not None and at_risk.decimal() >= commercial.urgent_mrr else "Normal"
    open_invoices = sorted((i for i in billing.invoices if i.status == "open"), key=lambda i: i.id)
    links = [invoice.hosted_url for invoice in open_invoices if invoice.hosted_url]
    story = [failure.story]
    if at_risk is not None:
        story.append(f"Monthly recurring revenue at risk: {_shown(at_risk)}.")
    story += [f"Invoice: {link}" for link in links]
    due: date = today(world.now, commercial) + timedelta(days=DUE_IN_DAYS[priority])
    task, marker = rules.salesforce["task"], rules.salesforce["payment_attempt"]
    values = {
        "what_id": account.id,
        "owner_id": _owner(account),
        "subject": failure.subject,
        "description": "\n".join(story),
        "due_date": due.isoformat(),
        "priority": priority,
        "status": "Not Started",
    }
    return Command(
        key=failure.key,
        account=world.account_id,
        target=failure.key,
        action="salesforce.once",
        priority=Priority.PAYMENT_FAILED,
        reason=failure.subject,
        subject=account.id,
        body={
            "marker": {
                "object": marker.object,
                "fields": {marker.fields["key"]: failure.key, marker.fields["account_id"]: account.id},
            },
            "record": {
                "object": task.object,
                "fields": {task.fields[name]: value for name, value in values.items() if value is not None},
            },
        },
    )


def _owner(account: Account) -> str | None:
    """The customer-success user, else the Account's owner; an inactive user cannot own a Task."""
    if account.success_owner_id and account.success_owner_active:
        return account.success_owner_id
    return account.owner_id if account.owner_active else None


def _at_risk(account: Account, billing: Billing, commercial: Commercial) -> Money | None:
    try:
        currency = account_currency(account, commercial)
        return monthly_recurring_revenue(billing.subscriptions, billing.items, currency, AT_RISK)
    except MoneyError:
        return None


def _shown(amount: Money) -> str:
    """An amount in words; one in a currency that is not known in minor units, for the Task must not wait for it."""
    try:
        value: Decimal = amount.decimal()
    except MoneyError:
        return f"{amount.currency} {amount.minor:,} (minor units)"
    return f"{amount.currency} {value:,}"
