"""What must hold once nothing goes wrong any more and every account is at rest, without asking the planner.

Told from the books and the two systems. Numbers are those of the invariants that this product promises (the README
lists them in words).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Row, func, select

from sync_pipeline.ledger import audit
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.tables import attempt, command, conflict, link, metadata, review
from sync_pipeline.ledger.tables import audit as audit_table
from sync_pipeline.sandbox.world import Sandbox
from sync_pipeline.simulator.charges import charges, is_charged_once
from sync_pipeline.simulator.people import CANARY, ENDED, People

TOLD_FOR_SECONDS = 14 * 86_400
ON_ONE_SIDE = ("item_on_no_line", "line_not_billed")
"""Conflicts that a person may leave as they are."""
Rows = list[dict[str, Any]]


def at_rest(
    sandbox: Sandbox, ledger: Ledger, people: People, ever_won: set[str], taken_back: Mapping[str, int]
) -> Iterator[str]:
    """Every invariant that does not hold, in words. `taken_back`: how often each subscription's end was."""
    salesforce = {kind: rows(sandbox, "salesforce", kind) for kind in OBJECTS}
    stripe = {kind: rows(sandbox, "stripe", kind) for kind in ("customer", "subscription", "invoice")}
    yield from _links(sandbox, ledger, stripe)
    for subscription in stripe["subscription"]:
        if (opportunity := subscription["metadata"].get("sf_opportunity_id")) not in ever_won:
            yield f"I1: {subscription['id']} bills {opportunity}, which was never won"
    with ledger.read() as conn:
        told = set(conn.execute(select(review.c.key).where(review.c.closed_at.is_(None))).scalars())
        open_ones = select(conflict.c.rule, conflict.c.subject).where(conflict.c.status == "Open")
        kept = select(conflict.c.rule, conflict.c.subject).where(
            conflict.c.rule.in_(ON_ONE_SIDE), conflict.c.status == "Decided", conflict.c.winner == "Stripe"
        )
        told |= {f"{rule}:{subject}" for each in (open_ones, kept) for rule, subject in conn.execute(each)}
        of_seats = select(conflict.c.account).where(conflict.c.rule == "item.quantity")
        clashed = set(conn.execute(of_seats).scalars())
    yield from _creation(salesforce, stripe, owners(sandbox), told)
    yield from charges(sandbox, salesforce, stripe["subscription"], told)
    billed = [line for line in salesforce["OpportunityLineItem"] if not is_charged_once(sandbox, line)]
    yield from _seats({**salesforce, "OpportunityLineItem": billed}, stripe, told)
    yield from _edits(salesforce, stripe, people, clashed)
    yield from _terms_of_payment(salesforce, stripe, told)
    yield from _failures(sandbox, salesforce)
    yield from _figures(sandbox, salesforce, stripe, told)
    yield from _churn(salesforce, _of_accounts(sandbox, stripe["subscription"]), taken_back)
    yield from _books(ledger)
    yield from secrets_kept(sandbox, ledger, while_sent=True)


def _creation(
    salesforce: Mapping[str, Rows], stripe: Mapping[str, Rows], owned: Mapping[str, str], told: set[str]
) -> Iterator[str]:
    """`owned` are the customers, each with its Account; `told` as for seats."""
    intents = Counter(s["metadata"].get("sf_intent") for s in stripe["subscription"])
    for intent, count in intents.items():
        if intent and count > 1:
            yield f"I1: {count} subscriptions for {intent}"
    billed = {s["metadata"].get("sf_opportunity_id") for s in stripe["subscription"]}
    for opportunity in salesforce["Opportunity"]:
        if opportunity.get("Amends_Opportunity__c") and opportunity["Id"] in billed:
            yield f"I1: {opportunity['Id']} has a subscription of its own, and amends another deal"
        if opportunity["StageName"] == "Closed Won" and not opportunity.get("Stripe_Renewal_Key__c"):
            if (opportunity.get("Amends_Opportunity__c") or opportunity["Id"]) not in billed:
                if not opportunity.get("Billing_Message__c"):
                    yield f"I1: {opportunity['Id']} is won, has no subscription and does not say why"
            elif not opportunity.get("Stripe_Subscription_Id__c"):
                if opportunity.get("Amends_Opportunity__c") and opportunity.get("Billing_Message__c"):
                    continue
                if f"missing_subscription:{opportunity['Id']}" not in told:
                    yield f"I2: {opportunity['Id']} does not name its subscription"
    owners = Counter(c["metadata"].get("sf_intent") for c in stripe["customer"] if not c.get("deleted"))
    for intent, count in owners.items():
        if count > 1:
            yield f"I2: {count} customers for {intent}"
    named: dict[str, set[str]] = defaultdict(set)
    deleted = {c["id"] for c in stripe["customer"] if c.get("deleted")}
    for customer in owned.keys() - deleted:
        named[owned[customer]].add(customer)
    for account in salesforce["Account"]:
        shown, own = account.get("Stripe_Customer_Id__c"), named[account["Id"]]
        if (own or shown) and shown not in (own or deleted):
            yield f"I2: {account['Id']} names {shown}, not {' or '.join(sorted(own))}"


def _links(sandbox: Sandbox, ledger: Ledger, stripe: Mapping[str, Rows]) -> Iterator[str]:
    """I2: the crosswalk and the metadata say the same of customers, as long as their Account is there, and of
    subscriptions.
    """
    live = select(link).where(link.c.system == "stripe", link.c.state == "live")
    with ledger.read() as conn:
        known = {(row.kind, row.external_id): row for row in conn.execute(live)}
    for customer, owner in owners(sandbox).items():
        if (metadata := sandbox.stripe.world.store.table("customer")[customer].get("metadata")) is None:
            continue
        said, row = metadata.get("sf_account_id"), known.get(("customer", customer))
        if is_there(sandbox, owner) and not said == owner == (row.account if row else None):
            yield f"I2: {customer} is {owner}'s and says {said}, the ledger {row.account if row else 'nothing'}"
    for subscription in stripe["subscription"]:
        said, row = subscription["metadata"].get("sf_opportunity_id"), known.get(("subscription", subscription["id"]))
        if (row.subject if row else None) != said:
            yield f"I2: {subscription['id']} says that it bills {said}, the ledger {row.subject if row else 'nothing'}"


def _seats(salesforce: Mapping[str, Rows], stripe: Mapping[str, Rows], told: set[str]) -> Iterator[str]:
    """`told` are the differences that a person was told of, as rule:subject."""
    quantity = {line["Id"]: Fraction(str(line["Quantity"])) for line in salesforce["OpportunityLineItem"]}
    won = {o["Id"] for o in salesforce["Opportunity"] if o["StageName"] == "Closed Won"}
    lines = salesforce["OpportunityLineItem"]
    # Lines of one rate are told of together, by the first of them.
    not_billed = {_rate(line) for line in lines if f"line_not_billed:{line['Id']}" in told}
    shown: dict[str, Fraction] = defaultdict(Fraction)
    for line in lines:
        if _rate(line) not in not_billed:
            shown[line["OpportunityId"]] += quantity[line["Id"]] * Fraction(str(line["UnitPrice"])) * 100
    for subscription in stripe["subscription"]:
        opportunity = subscription["metadata"].get("sf_opportunity_id")
        matters = {f"missing_subscription:{opportunity}", f"last_item:{opportunity}"}
        if subscription["status"] in ENDED or opportunity not in won or not matters.isdisjoint(told):
            continue
        items = [each for each in subscription["items"]["data"] if f"item_on_no_line:{each['id']}" not in told]
        known = [f"item.quantity:{item['id']}" in told for item in items]
        billed = sum(map(_amount, items), Fraction(0))
        if shown[opportunity] != billed and not any(known):
            yield f"I4: the lines of {opportunity} come to {shown[opportunity]}, billed is {billed}"
        for item in items:
            names = [each for each in (item["metadata"].get("sf_line_id") or "").split(",") if each]
            total = sum((quantity.get(each, Fraction(0)) for each in names), Fraction(0))
            if names and total != item["quantity"] and f"item.quantity:{item['id']}" not in told:
                yield f"I3: {item['id']} has {item['quantity']}, its lines {total}"


def _rate(line: Mapping[str, Any]) -> tuple[str, str, float]:
    return line["OpportunityId"], line["PricebookEntryId"], line["UnitPrice"]


def _amount(item: Mapping[str, Any]) -> Fraction:
    """What an item bills in its interval, minor units: prices in Salesforce are for the deal's interval."""
    return Fraction(str(item["price"]["unit_amount_decimal"])) * Fraction(item["quantity"])


def _edits(
    salesforce: Mapping[str, Rows], stripe: Mapping[str, Rows], people: People, clashed: set[str]
) -> Iterator[str]:
    """I16: where only one side has edited seats, its last edit stands, on that side at least, and none `clashed`."""
    quantity = {line["Id"]: line["Quantity"] for line in salesforce["OpportunityLineItem"]}
    running = [s for s in stripe["subscription"] if s["status"] not in ENDED]
    quantity |= {item["id"]: item["quantity"] for s in running for item in s["items"]["data"]}
    for account, edits in people.seat_edits.items():
        if account in people.amended:
            continue
        side, name, wanted = edits[-1]
        if {each[0] for each in edits} == {side} and account in clashed:
            yield f"I16: {account} was edited in {side} only, and has a conflict of seats"
        if {each[:2] for each in edits} == {(side, name)} and quantity.get(name, wanted) != wanted:
            yield f"I16: {account} was edited in {side} only, to {wanted}, and {name} has {quantity[name]}"


def _terms_of_payment(salesforce: Mapping[str, Rows], stripe: Mapping[str, Rows], told: set[str]) -> Iterator[str]:
    """I16: what sales edit of the days until an invoice is due counts at Stripe, or a person is told."""
    said = {o["Id"]: o.get("Net_Days__c") for o in salesforce["Opportunity"] if o["StageName"] == "Closed Won"}
    for subscription in stripe["subscription"]:
        deal, has = subscription["metadata"].get("sf_opportunity_id"), subscription["days_until_due"]
        is_sent = subscription["status"] not in ENDED and subscription["collection_method"] == "send_invoice"
        matters = {f"subscription.collection:{deal}", f"missing_subscription:{deal}"}
        if is_sent and said.get(deal) not in (None, has) and matters.isdisjoint(told):
            yield f"I16: {deal} is to be paid after {said[deal]} days, {subscription['id']} has {has}"


def _failures(sandbox: Sandbox, salesforce: Mapping[str, Rows]) -> Iterator[str]:
    keys = Counter(task["Stripe_Failure_Key__c"] for task in salesforce["Task"] if task.get("Stripe_Failure_Key__c"))
    for key, count in keys.items():
        if count > 1:
            yield f"I5: {count} Tasks for {key}"
    markers = Counter(marker["Key__c"] for marker in rows(sandbox, "salesforce", "Stripe_Payment_Attempt__c"))
    charges, owner = {charge["id"]: charge for charge in rows(sandbox, "stripe", "charge")}, owners(sandbox)
    failed = charges | {invoice["id"]: invoice for invoice in rows(sandbox, "stripe", "invoice")}
    for key in sorted(markers.keys() ^ keys.keys()):
        # An Account takes its Tasks along.
        if is_there(sandbox, owner.get(failed[key.split(":")[1]]["customer"])):
            yield f"I5: {key} has {keys[key]} Tasks and {markers[key]} markers"
    told = {key.rpartition(":")[2] for key in keys}
    for name in untold_failures(sandbox):
        yield f"I5: no Task for the failed payment {name}"
    for name, paid in charges.items():
        if paid["status"] == "succeeded" and name in told:
            yield f"I5: a Task for the payment {name}, which went through"


def untold_failures(sandbox: Sandbox, older_than: int = 0) -> list[str]:
    """Failed payments of the last two weeks, and of so many seconds ago at least, of which no Task tells."""
    now, owner = sandbox.clock.now(), owners(sandbox)
    failed = [
        charge["id"]
        for charge in rows(sandbox, "stripe", "charge")
        if charge["status"] == "failed" and now - TOLD_FOR_SECONDS < charge["created"] <= now - older_than
        if is_there(sandbox, owner.get(charge["customer"]))
    ]
    tasks = rows(sandbox, "salesforce", "Task") if failed else []
    told = {(task.get("Stripe_Failure_Key__c") or "").rpartition(":")[2] for task in tasks}
    return [name for name in failed if name not in told]


def _figures(
    sandbox: Sandbox, salesforce: Mapping[str, Rows], stripe: Mapping[str, Rows], told: set[str]
) -> Iterator[str]:
    collected, recurring, owner = collected_minor(sandbox), recurring_minor(sandbox), owners(sandbox)
    for account in salesforce["Account"]:
        if account.get("Stripe_Customer_Id__c") not in owner:
            continue
        shown = Fraction(str(account.get("Lifetime_Value__c") or 0)) * 100
        if shown != collected.get(account["Id"], 0):
            yield f"I6: {account['Id']} shows {shown} of lifetime value, Stripe collected {collected[account['Id']]}"
        if Fraction(str(account.get("MRR__c") or 0)) * 100 != recurring.get(account["Id"], 0):
            yield f"I4: {account['Id']} shows MRR {account.get('MRR__c')}, Stripe bills {recurring.get(account['Id'])}"
    bills, paid = {}, set()
    for invoice in stripe["invoice"]:
        subscription = ((invoice["parent"] or {}).get("subscription_details") or {}).get("subscription")
        bills[invoice["id"]] = subscription
        if invoice["status"] == "paid" and invoice["amount_paid"]:
            paid.add(subscription)
    first: dict[str, int] = {}
    for payment in rows(sandbox, "stripe", "invoice_payment"):
        subscription = bills.get(payment["invoice"])
        if payment["status"] == "paid" and payment["amount_paid"] and subscription:
            paid_at = payment["status_transitions"]["paid_at"]
            first[subscription] = min(paid_at, first.get(subscription, paid_at))
    for opportunity in salesforce["Opportunity"]:
        subscription, status = opportunity.get("Stripe_Subscription_Id__c"), opportunity.get("Activation_Status__c")
        if not subscription or opportunity["StageName"] != "Closed Won" or opportunity.get("Amends_Opportunity__c"):
            continue
        if f"missing_subscription:{opportunity['Id']}" in told:
            # The deal was moved to another Account than the one that pays.
            continue
        if subscription in paid and status != "Activated":
            yield f"I9: {opportunity['Id']} was paid and is {status}"
        shown_at = opportunity.get("First_Payment_At__c")
        moment = int(datetime.fromisoformat(shown_at).timestamp()) if shown_at else None
        if moment != first.get(subscription):
            yield f"I8: {opportunity['Id']} was paid first at {first.get(subscription)} and shows {moment}"


def _of_accounts(sandbox: Sandbox, subscriptions: Rows) -> Rows:
    """Those whose Account is still there: otherwise a person is told, and nothing is written."""
    owner = owners(sandbox)
    return [each for each in subscriptions if is_there(sandbox, owner.get(each["customer"]))]


def _churn(salesforce: Mapping[str, Rows], subscriptions: Rows, taken_back: Mapping[str, int]) -> Iterator[str]:
    by_subscription: dict[str, list[str]] = defaultdict(list)
    for record in salesforce["Churn_Record__c"]:
        if record["Kind__c"] == "Contraction":
            continue
        by_subscription[record["Stripe_Subscription_Id__c"]].append(record["Status__c"])
    for subscription in subscriptions:
        found = Counter(by_subscription[subscription["id"]])
        if subscription["status"] == "canceled" and (found["Final"], found["Open"]) != (1, 0):
            yield f"I10: {subscription['id']} has ended and has churn records {dict(found)}"
        if found["Rescinded"] > taken_back.get(subscription["id"], 0):
            yield f"I10: {subscription['id']} has {found['Rescinded']} rescinded ends, and fewer were taken back"
        if found.total() > taken_back.get(subscription["id"], 0) + 1:
            yield f"I10: {subscription['id']} has {found.total()} churn records, and fewer ends"
        scheduled = subscription["cancel_at"] is not None or subscription["cancel_at_period_end"]
        if subscription["status"] not in ENDED and (found["Open"], found["Final"]) != (int(scheduled), 0):
            yield f"I10: {subscription['id']} {'will end' if scheduled else 'goes on'}, churn records {dict(found)}"


def _books(ledger: Ledger) -> Iterator[str]:
    with ledger.read() as conn:
        for problem in audit.verify(conn):
            yield f"I13: the audit of {problem.account} row {problem.seq} {problem.what}"
        resolved = select(attempt.c.id).where(attempt.c.outcome.in_(("done", "rejected", "stale", "throttled")))
        settled = set(conn.execute(resolved).scalars())
        audited = set(conn.execute(select(audit_table.c.attempt_id)).scalars()) - {None}
        if settled != audited:
            missing, beyond = len(settled - audited), len(audited - settled)
            yield f"I12: {missing} resolved attempts are not in the audit, and {beyond} others are"
        if left := conn.execute(select(func.count()).where(attempt.c.outcome.is_(None))).scalar_one():
            yield f"I12: {left} attempts have no outcome"
        parked = conn.execute(select(command.c.target).where(command.c.state == "parked")).scalars().all()
        if parked:
            yield f"I21: parked at rest: {', '.join(sorted(parked))}"


def secrets_kept(sandbox: Sandbox, ledger: Ledger, *, while_sent: bool) -> Iterator[str]:
    """I22: no secret stands in the ledger, and nothing personal.

    `while_sent` leaves out what a command sends to Stripe of a customer: names and addresses go on invoices.
    """
    secrets = (sandbox.stripe.secret_key, sandbox.salesforce.client_secret, sandbox.webhook_secret)
    with ledger.read() as conn:
        for table in metadata.sorted_tables:
            kept = conn.execute(select(table)).all()
            for column in table.columns if kept else ():
                values = (
                    [row for row in kept if not _is_of_customer(row)]
                    if while_sent and column is command.c.body
                    else kept
                )
                told = "\n".join(str(row._mapping[column]) for row in values)
                if CANARY in told:
                    yield f"I22: a name stands in {table.name}.{column.name}"
                if any(secret in told for secret in secrets):
                    yield f"I22: a secret stands in {table.name}.{column.name}"


def _is_of_customer(sent: Row[Any]) -> bool:
    return sent.kind.startswith("stripe.") and '"object":"customer"' in sent.body


def owners(sandbox: Sandbox, *, merged: bool = True) -> dict[str, str]:
    """The Account of every customer that has one: of a merged one that into which it was `merged`, unless that is not
    followed yet. One that was deleted has nothing left but its id; its subscriptions say whose it was."""
    store, kept = sandbox.stripe.world.store, sandbox.salesforce.org.store
    accounts, deals = kept.table("Account"), kept.table("Opportunity")
    had = {}
    for said, customer in ((each["metadata"], each["customer"]) for each in store.table("subscription").values()):
        account = said.get("sf_account_id")
        # One that was merged long ago is nowhere any more, and its deals have moved.
        if account not in accounts:
            account = deals.get(said.get("sf_opportunity_id"), {}).get("AccountId") or account
        had[customer] = account
    found = {}
    for customer in store.table("customer").values():
        account = had.get(customer["id"]) if customer.get("deleted") else customer["metadata"].get("sf_account_id")
        while merged and (merged_into := accounts.get(account or "", {}).get("MasterRecordId")):
            account = merged_into
        if account:
            found[customer["id"]] = account
    return found


def is_there(sandbox: Sandbox, account: str | None) -> bool:
    """Whether an Account is neither deleted, nor gone for good."""
    row = sandbox.salesforce.org.store.table("Account").get(account or "")
    return row is not None and not row.get("IsDeleted")


def collected_minor(sandbox: Sandbox, *, merged: bool = True) -> dict[str, Fraction]:
    """By Account: what Stripe has collected and not given back, minor units; what is disputed is gone until won."""
    owner, store = owners(sandbox, merged=merged), sandbox.stripe.world.store
    invoices = {key: each["customer"] for key, each in store.table("invoice").items()}
    found: dict[str, Fraction] = defaultdict(Fraction)
    for payment in store.table("invoice_payment").values():
        if payment["status"] == "paid":
            found[owner.get(invoices[payment["invoice"]]) or ""] += payment["amount_paid"]
    charges = {key: each["customer"] for key, each in store.table("charge").items()}
    for refund in rows(sandbox, "stripe", "refund"):
        if refund["status"] in ("succeeded", "pending"):
            found[owner.get(charges.get(refund["charge"]) or "") or ""] -= refund["amount"]
    for dispute in store.table("dispute").values():
        if dispute["status"] != "won":
            found[owner.get(charges[dispute["charge"]]) or ""] -= dispute["amount"]
    return found


def recurring_minor(sandbox: Sandbox, *, merged: bool = True) -> dict[str, int]:
    """By Account: what its running subscriptions bill in a month, minor units, rounded once.

    A year has twelve months, and past-due subscriptions count.
    """
    store, owner = sandbox.stripe.world.store, owners(sandbox, merged=merged)
    running = {
        key: owner.get(each["customer"])
        for key, each in store.table("subscription").items()
        if each["status"] in ("active", "past_due")
    }
    total: dict[str, Fraction] = defaultdict(Fraction)
    for item in store.table("subscription_item").values():
        if not item.get("deleted") and (account := running.get(item["subscription"])):
            price = store.table("price")[item["_price"]]
            recurring = price["recurring"]
            months = recurring["interval_count"] * {"month": 1, "year": 12}[recurring["interval"]]
            total[account] += Fraction(price["unit_amount_decimal"]) * item["quantity"] / months
    return {account: round(minor) for account, minor in total.items()}


def rows(sandbox: Sandbox, side: str, kind: str) -> Rows:
    """The present rows of an object, as their own system renders them; none that are in Salesforce's bin."""
    if side == "stripe":
        world = sandbox.stripe.world
        return [world.render(row) for row in world.store.table(kind).values()]
    return [row for row in sandbox.salesforce.org.store.table(kind).values() if not row.get("IsDeleted")]


OBJECTS = ("Account", "Opportunity", "OpportunityLineItem", "Churn_Record__c", "Task")
