"""Failed payments become work for a person: exactly one Task per failure, and none left open once it is paid.

A Task is made together with a marker whose key is unique, so it is made once, ever. It says what was true when the
failure was first seen. A Task that nobody has touched is completed when its invoice needs no more collecting; one
that somebody works on is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from sync_pipeline.core import writing
from sync_pipeline.core.commands import Command, Entry, LookAgain
from sync_pipeline.core.crosswalk import own_billing
from sync_pipeline.core.deal import today
from sync_pipeline.core.declines import in_plain_words
from sync_pipeline.core.facts import Fact
from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.core.observation import Present
from sync_pipeline.core.payment_failures import OVERDUE, WITHOUT_CHARGE, failure_key, is_failure, unsettled_until
from sync_pipeline.core.rules import Commercial, Priority, Rules
from sync_pipeline.core.salesforce_records import Account
from sync_pipeline.core.stripe_records import Invoice
from sync_pipeline.core.units import DAY_US
from sync_pipeline.core.world import World

RULE = "payment_failure"
DUE_IN_DAYS = {"High": 0, "Normal": 3}
UNTOUCHED, COMPLETED = "Not Started", "Completed"
NOTHING_TO_COLLECT = frozenset({"paid", "void", "uncollectible"})


def payment_failure_tasks(world: World, rules: Rules) -> Iterator[Entry]:
    """A Task for every noted failure that has none yet, and the end of those that a payment has overtaken."""
    billing = own_billing(world)
    if not isinstance(world.account, Present) or billing is None:
        return
    invoices = {invoice.id: invoice for invoice in billing.invoices}
    oldest = world.now - rules.commercial.task_for_days * DAY_US
    failures = {failure_key(fact): fact for fact in world.facts if is_failure(fact)}
    for key, fact in sorted(failures.items()):
        if fact.occurred_at >= oldest and key not in world.once:
            yield _task(world, rules, world.account.value, fact, invoices.get(_told(fact)["invoice"]))
    for task in sorted(world.tasks, key=lambda each: each.id):
        noted = failures.get(task.failure_key or "")
        invoice = invoices.get(_told(noted)["invoice"]) if noted else None
        if invoice is not None and invoice.status in NOTHING_TO_COLLECT and task.status == UNTOUCHED:
            reason = f"the invoice is {invoice.status}"
            done = writing.update(world, rules, "task", task, {"status": COMPLETED}, rule=RULE, reason=reason)
            if done is not None:
                yield done
    if (at := unsettled_until(world, rules)) is not None:
        yield LookAgain(at, priority=Priority.PAYMENT_FAILED)


def subject_line(fact: Fact) -> str:
    """What happened, in a few words without names."""
    happened = "Invoice overdue" if fact.kind == OVERDUE else "Payment failed"
    return f"{happened}: {shown(fact.amount_minor, fact.currency)}"


def story(fact: Fact, commercial: Commercial) -> str:
    """What happened, what happens next and what is at stake, as of the moment at which it was first seen."""
    told = _told(fact)
    number, amount = told["number"] or told["invoice"], shown(fact.amount_minor, fact.currency)
    if fact.kind == OVERDUE:
        sentences = [f"Invoice {number} over {amount} is {told['days']} days overdue."]
    else:
        why = in_plain_words(told.get("code"))
        if fact.kind == WITHOUT_CHARGE:
            why = "the customer has to confirm the payment, or there is nothing that could be charged"
        attempt = f"Attempt {told['attempt']} to collect {amount} for invoice {number} failed: {why}."
        sentences = [attempt, _next_attempt(told, commercial)]
    sentences.append(_final(told, commercial))
    lines = [" ".join(sentences)]
    if "at_risk_minor" in told:
        at_risk = shown(int(told["at_risk_minor"]), told["at_risk_currency"])
        status = told.get("uncounted", "").replace("_", " ")
        uncounted = f" (billing is {status}, so MRR and MRR At Risk do not count it)" if status else ""
        lines.append(f"Monthly recurring revenue at risk: {at_risk}{uncounted}.")
    return "\n".join(lines)


def task_owner(account: Account, commercial: Commercial) -> str | None:
    """The first who can be given work, in the order of the rules; an inactive user cannot own a Task."""
    able = {
        "success_owner": account.success_owner_id if account.success_owner_active else None,
        "account_team": account.team_owner_id,
        "owner": account.owner_id if account.owner_active else None,
    }
    return next((found for name in commercial.task_owners if (found := able[name])), commercial.task_queue)


def shown(minor: int, currency: str) -> str:
    """An amount in words; one in a currency that is not known in minor units, for the Task must not wait for it."""
    try:
        return f"{currency} {Money(minor, currency).decimal():,}"
    except MoneyError:
        return f"{currency} {minor:,} (minor units)"


def _next_attempt(told: Mapping[str, str], commercial: Commercial) -> str:
    if told["retry"] == "planned":
        return f"The next attempt is on {today(int(told['next_attempt_at']), commercial).isoformat()}."
    if told["retry"] == "hard":
        return "No retry is planned: it takes another payment method, or the customer's own confirmation."
    return "No retry is planned."


def _final(told: Mapping[str, str], commercial: Commercial) -> str:
    action = {
        "retries": commercial.final_action,
        "overdue": commercial.overdue_action,
        "expires": "the subscription expires",
    }.get(told["final"])
    if action is None:
        return "The subscription has ended." if told["final"] == "ended" else "Nothing happens by itself."
    at, seen_at = int(told["final_at"]), int(told["seen_at"])
    days = max(0, -((seen_at - at) // DAY_US))
    return f"If nothing is collected, {action} in {days} days, on {today(at, commercial).isoformat()}."


def _task(world: World, rules: Rules, account: Account, fact: Fact, invoice: Invoice | None) -> Command:
    commercial, key, told = rules.commercial, failure_key(fact), _told(fact)
    priority = "High" if _is_urgent(told, commercial) else "Normal"
    due = today(int(told["seen_at"]), commercial) + timedelta(days=DUE_IN_DAYS[priority])
    lines = [story(fact, commercial)]
    if invoice is not None and invoice.hosted_url:
        lines.append(f"Invoice: {invoice.hosted_url}")
    task, marker = rules.salesforce["task"], rules.salesforce["payment_attempt"]
    values = {
        "what_id": account.id,
        "owner_id": task_owner(account, commercial),
        "subject": subject_line(fact),
        "description": "\n".join(lines),
        "due_date": due.isoformat(),
        "priority": priority,
        "status": UNTOUCHED,
        "failure_key": key,
    }
    return Command(
        key=key,
        account=world.account_id,
        target=key,
        action="salesforce.once",
        priority=Priority.PAYMENT_FAILED,
        reason=subject_line(fact),
        subject=account.id,
        body={
            "marker": {
                "object": marker.object,
                "fields": {marker.fields["key"]: key, marker.fields["account_id"]: account.id},
            },
            "record": {
                "object": task.object,
                "fields": {task.fields[name]: value for name, value in values.items() if value is not None},
            },
        },
    )


def _is_urgent(told: Mapping[str, str], commercial: Commercial) -> bool:
    if "at_risk_minor" not in told:
        return False
    try:
        return Money(int(told["at_risk_minor"]), told["at_risk_currency"]).decimal() >= commercial.urgent_mrr
    except MoneyError:
        return False


def _told(fact: Fact) -> dict[str, str]:
    return dict(fact.attributes)
