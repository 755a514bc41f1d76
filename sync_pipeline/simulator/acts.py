"""What people do in a seed: sales in Salesforce, customers and finance at Stripe, at moments that the seed decides.

An action that makes no sense when its moment comes (to pay where nothing is open) is left out: people cannot do it
either.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sync_pipeline.sandbox.desk import RefusedError
from sync_pipeline.simulator.people import CANARY, CUSTOMERS, GAPS, OPEN, Action, People, plain

OFTEN_FOLLOWED_BY = {
    "win": ("pay", "fail to pay"),
    "pay": ("refund", "dispute a payment"),
    "dispute a payment": ("win a dispute", "lose a dispute"),
    "edit seats on both sides": ("rule on a conflict",),
    "set the end on both sides": ("rule on a conflict",),
    "enter a cancel date": ("take the cancel date away",),
    "delete the Account": ("restore the Account",),
    "change a rule": ("delete the Account",),
    "take a line off": ("put a line on",),
}


def act(people: People, action: Action) -> bool:
    """False where it made no sense."""
    try:
        return VERBS[action.verb](people, people.accounts[action.who], action.n) is not False
    except RefusedError:
        return False


def script(chance: random.Random) -> list[Action]:
    """Some actions; early ones win deals, so that there is something to happen to, and some who pay want it back."""
    who = list(range(CUSTOMERS))
    chance.shuffle(who)
    first = [Action(chance.choice(GAPS[:6]), "win", each, 0) for each in who[: chance.randint(1, CUSTOMERS)]]
    verbs = [verb for verb in VERBS if verb != "win"]
    others = [
        Action(chance.choice(GAPS), chance.choice(verbs), chance.randrange(CUSTOMERS), chance.randint(1, 60))
        for _ in range(chance.randint(3, 10))
    ]
    told = first[:1] + sorted(first[1:] + others, key=lambda _: chance.random())
    return [each for action in told for each in (action, *_following(action, chance))]


def _following(action: Action, chance: random.Random) -> list[Action]:
    """What often comes after an action, because it makes sense only then; and after that."""
    verbs = OFTEN_FOLLOWED_BY.get(action.verb)
    if verbs is None or chance.random() >= 0.5:
        return []
    then = replace(action, verb=chance.choice(verbs), after=chance.choice(GAPS[4:9]))
    return [then, *_following(then, chance)]


def _win(people: People, account: str, n: int) -> Any:
    found = people.opportunity(account)
    return people.desk.edit("Opportunity", found["Id"], {"StageName": "Closed Won"}) if found else False


def _seats_in_salesforce(people: People, account: str, n: int) -> Any:
    lines = people.lines(account)
    if not lines:
        return False
    # Salesforce would recompute the price from an unchanged total, if it were left out.
    price = {"UnitPrice": lines[-1]["UnitPrice"]}
    people.desk.edit("OpportunityLineItem", lines[-1]["Id"], {"Quantity": n, **price})
    people.seat_edits.setdefault(account, []).append(("salesforce", lines[-1]["Id"], n))
    return True


def _seats_at_stripe(people: People, account: str, n: int) -> Any:
    subscription = people.subscription(account)
    if subscription is None:
        return False
    # Ids of items are chance; told by its line, it is the same one in every play, and the one that sales edit too.
    item = max(subscription["items"]["data"], key=lambda each: each["metadata"].get("sf_line_id") or "")
    people.desk.stripe("POST", f"/v1/subscription_items/{item['id']}", {"quantity": n})
    people.seat_edits.setdefault(account, []).append(("stripe", item["id"], n))
    return True


def _seats_on_both_sides(people: People, account: str, n: int) -> Any:
    """Sales and the customer, at the same moment and to different numbers."""
    if people.subscription(account) is None:
        return False
    return _seats_in_salesforce(people, account, n) and _seats_at_stripe(people, account, n + 1)


def _price_in_salesforce(people: People, account: str, n: int) -> Any:
    lines = people.lines(account)
    return people.desk.edit("OpportunityLineItem", lines[-1]["Id"], {"UnitPrice": 10 * n}) if lines else False


def _line_off(people: People, account: str, n: int) -> Any:
    lines = people.lines(account)
    people.amended.add(account)
    return people.desk.edit("OpportunityLineItem", lines[-1]["Id"], {}, delete=True) if lines else False


def _line_on(people: People, account: str, n: int) -> Any:
    """A line of a product that some deal has, with the price that it has there: also one that was taken off before."""
    deal = people.opportunity(account)
    known = people.desk.query("SELECT PricebookEntryId, UnitPrice FROM OpportunityLineItem ORDER BY Id")
    if deal is None or not known:
        return False
    people.amended.add(account)
    line = {**plain(known[n % len(known)]), "OpportunityId": deal["Id"], "Quantity": n}
    return people.desk.create("OpportunityLineItem", line)


def _one_time_charge(people: People, account: str, n: int) -> Any:
    """A line that is charged once."""
    deal = people.opportunity(account)
    if deal is None:
        return False
    line = {"OpportunityId": deal["Id"], "PricebookEntryId": people.one_time_entry(), "Quantity": n % 3 + 1}
    return people.desk.create("OpportunityLineItem", {**line, "UnitPrice": 10 * n})


def _free_months(people: People, account: str, n: int) -> Any:
    found = people.opportunity(account)
    return people.desk.edit("Opportunity", found["Id"], {"Free_Months__c": n % 3}) if found else False


def _move_deal(people: People, account: str, n: int) -> Any:
    """To the Account after it."""
    found = people.opportunity(account)
    if found is None:
        return False
    other = people.accounts[(people.accounts.index(account) + 1) % len(people.accounts)]
    # What they have edited before is told of by another Account since.
    people.amended |= {account, other}
    return people.desk.edit("Opportunity", found["Id"], {"AccountId": other})


def _terms_of_payment(people: People, account: str, n: int) -> Any:
    found = people.opportunity(account)
    return people.desk.edit("Opportunity", found["Id"], {"Net_Days__c": n}) if found else False


def _amend(people: People, account: str, n: int) -> Any:
    """A won Opportunity that adds to the deal: some more of its last line."""
    deal, lines = people.opportunity(account), people.lines(account)
    if deal is None or not lines:
        return False
    told = people.desk.query(f"SELECT Pricebook2Id, Billing_Interval__c FROM Opportunity WHERE Id = '{deal['Id']}'")
    fields = {**plain(told[0]), "AccountId": account, "Name": f"More {n}", "StageName": OPEN}
    fields |= {"Amends_Opportunity__c": deal["Id"], "CloseDate": people.day(0), "Term_Months__c": 12}
    amendment = people.desk.create("Opportunity", fields)
    people.desk.create("OpportunityLineItem", {**plain(lines[-1]), "OpportunityId": amendment, "Quantity": n})
    people.amended.add(account)
    return people.desk.edit("Opportunity", amendment, {"StageName": "Closed Won"})


def _cancel_date(people: People, account: str, n: int) -> Any:
    contract = people.contract(account)
    day = {"Cancel_Requested_On__c": people.day(n)}
    return people.desk.edit("Contract", contract, day) if contract else False


def _no_cancel_date(people: People, account: str, n: int) -> Any:
    contract = people.contract(account)
    return people.desk.edit("Contract", contract, {"Cancel_Requested_On__c": None}) if contract else False


def _end_on_both_sides(people: People, account: str, n: int) -> Any:
    """Sales and the customer, at the same moment and on different days."""
    if people.subscription(account) is None:
        return False
    return _cancel_date(people, account, n) and _change_subscription(cancel_at_period_end=True)(people, account, n)


def _rule_on_a_conflict(people: People, account: str, n: int) -> Any:
    """Somebody says in Salesforce whose value of the newest conflict shall count."""
    rows = people.desk.query(
        f"SELECT Id FROM Sync_Conflict__c WHERE Account__c = '{account}' ORDER BY CreatedDate DESC, Id DESC"
    )
    ruling = {"Ruling__c": ("Salesforce", "Stripe")[n % 2]}
    return people.desk.edit("Sync_Conflict__c", rows[0]["Id"], ruling) if rows else False


def _merge_accounts(people: People, account: str, n: int) -> Any:
    """Into the one after it; whoever dealt with it deals with that one then, which has its subscriptions and edits."""
    place = people.accounts.index(account)
    winner = people.accounts[(place + 1) % len(people.accounts)]
    people.desk.merge("Account", winner, account)
    for edit in people.seat_edits.pop(account, ()):
        people.seat_edits.setdefault(winner, []).append(edit)
    if account in people.amended:
        people.amended.add(winner)
    people.accounts = [winner if each == account else each for each in people.accounts]


def _delete_account(people: People, account: str, n: int) -> Any:
    people.desk.edit("Account", account, {}, delete=True)


def _restore_account(people: People, account: str, n: int) -> Any:
    people.desk.edit("Account", account, {}, undelete=True)


def _delete_customer(people: People, account: str, n: int) -> Any:
    customer = people.customer(account)
    return people.desk.stripe("DELETE", f"/v1/customers/{customer['id']}") if customer else False


def _dispute(people: People, account: str, n: int) -> Any:
    """The bank of the customer takes the newest payment back."""
    customer, world = people.customer(account), people.sandbox.stripe.world
    charges = people.desk.stripe_all("/v1/charges", {"customer": customer["id"]}) if customer else []
    paid = [each for each in charges if each["paid"] and not each["refunded"] and not each["disputed"]]
    return world.set_timer("open_dispute", paid[0]["id"], world.now()) if paid else False


def _answer_dispute(evidence: str) -> Callable[[People, str, int], Any]:
    def answer(people: People, account: str, n: int) -> Any:
        customer = people.customer(account)
        charges = people.desk.stripe_all("/v1/charges", {"customer": customer["id"]}) if customer else []
        of = {each["id"] for each in charges}
        found = [each for each in people.desk.stripe_all("/v1/disputes") if each["charge"] in of]
        said = {"evidence": {"uncategorized_text": evidence}}
        return people.desk.stripe("POST", f"/v1/disputes/{found[0]['id']}", said) if found else False

    return answer


def _use_calls(people: People, account: str, n: int) -> Any:
    """Other programs of the org use its calls of the day, but for `n` percent."""
    limits = people.sandbox.salesforce.org.limits
    beyond = limits.allowed * (100 - n) // 100 - limits.used()
    return limits.use(beyond) if beyond > 0 else False


def _change_a_rule(people: People, account: str, n: int) -> Any:
    """Whoever keeps the rules lets the sync make Contracts, or not any more; workers that begin later follow."""
    people.keeps_contracts = not people.keeps_contracts


def _rename(people: People, account: str, n: int) -> Any:
    return people.desk.edit("Account", account, {"Name": f"{CANARY} Renamed {n} Ltd"})


def _edit_by_hand(people: People, account: str, n: int) -> Any:
    return people.desk.edit("Account", account, {"Lifetime_Value__c": n, "MRR__c": n})


def _reopen(people: People, account: str, n: int) -> Any:
    found = people.opportunity(account)
    return people.desk.edit("Opportunity", found["Id"], {"StageName": OPEN}) if found else False


def _payment(outcome: str) -> Callable[[People, str, int], Any]:
    def pay(people: People, account: str, n: int) -> Any:
        customer = people.customer(account)
        if customer is None:
            return False
        return people.desk.plan_payment(customer["id"], outcome)

    return pay


def _refund(people: People, account: str, n: int) -> Any:
    customer = people.customer(account)
    charges = people.desk.stripe_all("/v1/charges", {"customer": customer["id"]}) if customer else []
    paid = [each for each in charges if each["paid"] and not each["refunded"]]
    return people.desk.stripe("POST", "/v1/refunds", {"charge": paid[0]["id"], "amount": n}) if paid else False


def _change_subscription(**params: Any) -> Callable[[People, str, int], Any]:
    def change(people: People, account: str, n: int) -> Any:
        subscription = people.subscription(account)
        return people.desk.stripe("POST", f"/v1/subscriptions/{subscription['id']}", params) if subscription else False

    return change


def _cancel_now(people: People, account: str, n: int) -> Any:
    subscription = people.subscription(account)
    return people.desk.stripe("DELETE", f"/v1/subscriptions/{subscription['id']}") if subscription else False


def _rename_customer(people: People, account: str, n: int) -> Any:
    customer = people.customer(account)
    return (
        people.desk.stripe("POST", f"/v1/customers/{customer['id']}", {"name": f"{CANARY} Edited {n}"})
        if customer
        else False
    )


VERBS: Mapping[str, Callable[[People, str, int], Any]] = {
    "win": _win,
    "edit seats in Salesforce": _seats_in_salesforce,
    "edit seats at Stripe": _seats_at_stripe,
    "edit seats on both sides": _seats_on_both_sides,
    "edit a price in Salesforce": _price_in_salesforce,
    "take a line off": _line_off,
    "put a line on": _line_on,
    "edit the terms of payment": _terms_of_payment,
    "rename the Account": _rename,
    "edit figures by hand": _edit_by_hand,
    "reopen the deal": _reopen,
    "pay": _payment("succeed"),
    "fail to pay": _payment("fail"),
    "refund": _refund,
    "schedule the end": _change_subscription(cancel_at_period_end=True),
    "take the end back": _change_subscription(cancel_at_period_end=False),
    "cancel at once": _cancel_now,
    "rename the customer": _rename_customer,
    "win an amendment": _amend,
    "enter a cancel date": _cancel_date,
    "take the cancel date away": _no_cancel_date,
    "set the end on both sides": _end_on_both_sides,
    "rule on a conflict": _rule_on_a_conflict,
    "merge the Account": _merge_accounts,
    "delete the Account": _delete_account,
    "restore the Account": _restore_account,
    "delete the customer": _delete_customer,
    "dispute a payment": _dispute,
    "win a dispute": _answer_dispute("winning_evidence"),
    "lose a dispute": _answer_dispute("losing_evidence"),
    "change a rule": _change_a_rule,
    "use the calls of the day": _use_calls,
    "keep a plan and apply it": lambda people, _, n: people.operator_comes(n),
    "sell a one-time charge": _one_time_charge,
    "grant free months": _free_months,
    "move the deal": _move_deal,
}
