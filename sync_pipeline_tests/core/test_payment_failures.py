"""Failed payments and overdue invoices: one Task each, to the right person, saying what is true."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.core.commands import Command, Entry, LookAgain
from sync_pipeline.core.declines import HARD, IN_PLAIN_WORDS
from sync_pipeline.core.failure_tasks import payment_failure_tasks
from sync_pipeline.core.observation import Present
from sync_pipeline.core.payment_failures import failure_key, new_failures
from sync_pipeline.core.rules import Priority, Rules
from sync_pipeline.core.salesforce_records import FailureTask
from sync_pipeline.core.stripe_records import Charge, Invoice, InvoicePayment
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Link, World
from sync_pipeline_tests.core.making import (
    ACCOUNT,
    CUSTOMER,
    NOW,
    ORG,
    RULES,
    SUBSCRIPTION,
    account,
    customer,
    item,
    subscription,
)

DAY = 86_400 * MICROS
OWNERS = {
    "success_owner_id": "005Aa000000002IAA",
    "success_owner_active": True,
    "owner_id": "005Aa000000001IAA",
    "owner_active": True,
    "team_owner_id": "005Aa000000003IAA",
}


def charge(number: int, **changed: Any) -> Charge:
    values: dict[str, Any] = {
        "id": f"ch_{number}",
        "customer": CUSTOMER,
        "status": "failed",
        "currency": "GBP",
        "amount": 4_500_000,
        "created_at": NOW - (4 - number) * DAY,
        "payment_intent": "pi_1",
        "failure_code": "insufficient_funds",
    }
    return Charge(**(values | changed))


def failing(
    *charges: Charge, owners: dict[str, Any] = OWNERS, once: frozenset[str] = frozenset(), **invoice: Any
) -> World:
    """An annual subscription of 45,000 pounds whose renewal invoice is open."""
    values: dict[str, Any] = {
        "id": "in_1",
        "customer": CUSTOMER,
        "status": "open",
        "currency": "GBP",
        "created_at": NOW - 5 * DAY,
        "total": 4_500_000,
        "amount_due": 4_500_000,
        "amount_paid": 0,
        "amount_remaining": 4_500_000,
        "subscription": SUBSCRIPTION,
        "number": "NW-0002",
        "collection_method": "charge_automatically",
        "attempt_count": sum(each.status != "succeeded" for each in charges),
        "next_attempt_at": NOW + 2 * DAY,
        "hosted_url": "https://invoice.example/in_1",
    }
    bill = Invoice(**(values | invoice))
    open_payment = InvoicePayment(
        id="inpay_1", invoice="in_1", customer=CUSTOMER, status="open", currency="GBP", payment="pi_1"
    )
    return World(
        account_id=ACCOUNT,
        org_id=ORG,
        now=NOW,
        account=Present(account(**owners)),
        customers={CUSTOMER: Present(customer())},
        billing=Present(
            Billing(
                subscriptions=(subscription(status="past_due"),),
                items=(item(interval="year", unit_amount=Decimal(4_500_000)),),
                invoices=(bill,),
                payments=(open_payment,),
                charges=charges,
            )
        ),
        links=(Link("customer", ACCOUNT, CUSTOMER),),
        once=once,
    )


def noted(world: World, rules: Rules = RULES) -> World:
    """The world after its look was written down."""
    return replace(world, facts=(*world.facts, *new_failures(world, rules)))


def entries(world: World, rules: Rules = RULES) -> list[Entry]:
    return list(payment_failure_tasks(noted(world, rules), rules))


def commands(world: World, rules: Rules = RULES) -> list[Command]:
    return [entry for entry in entries(world, rules) if isinstance(entry, Command)]


def task(command: Command) -> dict[str, Any]:
    fields: dict[str, Any] = command.body["record"]["fields"]
    return fields


def said(world: World, rules: Rules = RULES) -> str:
    (command,) = commands(world, rules)
    return str(task(command)["Description"])


def with_rules(**changed: Any) -> Rules:
    return replace(RULES, commercial=replace(RULES.commercial, **changed))


def test_a_failed_attempt_becomes_a_task_and_its_marker() -> None:
    (command,) = commands(failing(charge(1)))
    assert command.action == "salesforce.once"
    assert command.body["marker"] == {
        "object": "Stripe_Payment_Attempt__c",
        "fields": {"Key__c": "attempt:ch_1", "Account__c": ACCOUNT},
    }
    assert task(command) == {
        "WhatId": ACCOUNT,
        "OwnerId": "005Aa000000002IAA",
        "Subject": "Payment failed: GBP 45,000.00",
        "Description": (
            "Attempt 1 to collect GBP 45,000.00 for invoice NW-0002 failed: there are insufficient funds. "
            "The next attempt is on 2026-11-25. "
            "If nothing is collected, the subscription is canceled in 12 days, on 2026-12-05.\n"
            "Monthly recurring revenue at risk: GBP 3,750.00.\n"
            "Invoice: https://invoice.example/in_1"
        ),
        "ActivityDate": "2026-11-23",
        "Priority": "High",
        "Status": "Not Started",
        "Stripe_Failure_Key__c": "attempt:ch_1",
    }


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("active", ""),
        ("incomplete", " (billing is incomplete, so MRR and MRR At Risk do not count it)"),
        ("unpaid", " (billing is unpaid, so MRR and MRR At Risk do not count it)"),
    ],
)
def test_what_is_at_risk_and_no_revenue_of_the_account_is_told_as_that(status: str, why: str) -> None:
    world = failing(charge(1))
    assert isinstance(world.billing, Present)
    billing = replace(world.billing.value, subscriptions=(subscription(status=status),))
    assert f"Monthly recurring revenue at risk: GBP 3,750.00{why}." in said(replace(world, billing=Present(billing)))


def test_every_attempt_has_its_own_task_with_its_number() -> None:
    found = commands(failing(charge(2), charge(1), charge(3)))
    told = {command.key: task(command)["Description"].split(" to collect")[0] for command in found}
    assert told == {"attempt:ch_1": "Attempt 1", "attempt:ch_2": "Attempt 2", "attempt:ch_3": "Attempt 3"}


def test_what_was_told_once_is_not_told_again() -> None:
    world = failing(charge(1), charge(2), once=frozenset({"attempt:ch_1"}))
    assert [command.key for command in commands(world)] == ["attempt:ch_2"]


def test_a_replay_writes_the_same_words_whatever_has_happened_since() -> None:
    """The Task could not be sent for a day; meanwhile the retry failed, seats were bought and the plan ended."""
    first = noted(failing(charge(3)))
    (before,) = payment_failure_tasks(first, RULES)
    assert isinstance(first.billing, Present)
    held = first.billing.value
    changed = replace(
        held,
        subscriptions=(subscription(status="canceled", ended_at=NOW + DAY),),
        items=(item(interval="year", unit_amount=Decimal(9_000_000)),),
        invoices=tuple(replace(invoice, next_attempt_at=None, attempt_count=9) for invoice in held.invoices),
    )
    (after,) = payment_failure_tasks(replace(first, billing=Present(changed), now=NOW + DAY), RULES)
    assert isinstance(before, Command)
    assert isinstance(after, Command)
    assert after.body == before.body


def test_a_payment_that_worked_is_no_task() -> None:
    assert entries(failing(charge(1, status="succeeded"))) == []


def test_a_charge_of_no_invoice_is_no_task() -> None:
    assert entries(failing(charge(1, payment_intent="pi_other"), attempt_count=0)) == []


def test_a_backlog_is_not_told() -> None:
    assert entries(failing(charge(1, created_at=NOW - 15 * DAY))) == []


def test_without_a_planned_retry_the_task_says_so() -> None:
    assert "No retry is planned." in said(failing(charge(1), next_attempt_at=None))


@pytest.mark.parametrize(
    "refused", [{"failure_code": code} for code in sorted(HARD)] + [{"advice_code": "do_not_try_again"}]
)
def test_after_a_hard_decline_no_retry_is_promised(refused: dict[str, str]) -> None:
    """Stripe goes on naming a next attempt then, and makes none (smart retries, hard declines)."""
    text = said(failing(charge(1, **refused)))
    assert "No retry is planned: it takes another payment method" in text
    assert "The next attempt" not in text


def test_every_documented_decline_is_told_in_words() -> None:
    """docs.stripe.com/declines/codes, as of November 2026."""
    documented = """
        approve_with_id authentication_required call_issuer card_not_supported card_velocity_exceeded
        currency_not_supported do_not_honor do_not_try_again duplicate_transaction expired_card fraudulent
        generic_decline incorrect_address incorrect_cvc incorrect_number incorrect_pin incorrect_zip
        insufficient_funds invalid_account invalid_amount invalid_cvc invalid_expiry_month invalid_expiry_year
        invalid_number invalid_pin issuer_not_available lost_card merchant_blacklist
        mobile_device_authentication_required new_account_information_available no_action_taken not_permitted
        offline_pin_required online_or_offline_pin_required pickup_card pin_try_exceeded processing_error
        reenter_transaction restricted_card revocation_of_all_authorizations revocation_of_authorization
        security_violation service_not_allowed stolen_card stop_payment_order testmode_decline
        transaction_not_allowed try_again_later withdrawal_count_limit_exceeded
    """
    assert set(documented.split()) <= set(IN_PLAIN_WORDS)
    assert set(IN_PLAIN_WORDS) >= HARD
    assert not [words for words in IN_PLAIN_WORDS.values() if "_" in words]


def test_an_unknown_decline_code_is_shown_as_it_is() -> None:
    assert "failed: new_code." in said(failing(charge(1, failure_code="new_code")))


def test_an_attempt_that_made_no_charge_is_told_once() -> None:
    """The customer has to confirm the payment (payment_intent requires_action), or there is no card."""
    world = failing(attempt_count=1)
    (command,) = commands(world)
    assert command.key == "unconfirmed:in_1:1"
    assert "the customer has to confirm the payment, or there is nothing that could be charged" in said(world)
    assert commands(failing(charge(1), attempt_count=1)) != []
    assert [c.key for c in commands(failing(charge(1), attempt_count=1))] == ["attempt:ch_1"]


def later(world: World, *charges: Charge, days: int, **invoice: Any) -> World:
    """What a later look at the same invoice finds, with what is known by then."""
    before = noted(world)
    after = failing(*charges, **invoice)
    return replace(after, now=NOW + days * DAY, facts=before.facts, once=frozenset(map(failure_key, before.facts)))


def test_an_attempt_without_a_charge_is_told_once_whatever_comes_after_it() -> None:
    """An attack found it: each declined attempt after one without a charge was told twice, and numbered one too low."""
    declined = charge(1, created_at=NOW + 3 * DAY)
    world = later(failing(attempt_count=1), declined, days=4, attempt_count=2)
    (command,) = commands(world)
    assert command.key == "attempt:ch_1"
    assert "Attempt 2 to collect" in said(world)
    again = later(world, declined, days=5, attempt_count=2)
    assert commands(again) == []


def test_the_end_is_counted_from_the_first_attempt_also_where_that_made_no_charge() -> None:
    first = said(failing(attempt_count=1))
    world = later(failing(attempt_count=1), charge(1, created_at=NOW + 3 * DAY), days=3, attempt_count=2)
    day = re.compile(r"in \d+ days, on (\S+)\.")
    assert day.findall(first) == day.findall(said(world)) == ["2026-12-03"]


@pytest.mark.parametrize(
    "known",
    [
        # A person tried it by hand, which Stripe does not count, and it was declined.
        (charge(1), charge(2, created_at=NOW - 3600 * MICROS)),
        # A part was paid by hand.
        (charge(1), charge(2, created_at=NOW - 3600 * MICROS, status="succeeded")),
    ],
)
def test_what_was_tried_by_hand_hides_no_attempt_without_a_charge(known: tuple[Charge, ...]) -> None:
    world = later(failing(*known, attempt_count=1), *known, days=2, attempt_count=2)
    (command,) = commands(world)
    assert command.key == "unconfirmed:in_1:2"


def test_of_several_attempts_without_a_charge_that_were_missed_the_newest_is_told() -> None:
    world = later(failing(attempt_count=1), days=9, attempt_count=3)
    assert [command.key for command in commands(world)] == ["unconfirmed:in_1:3"]
    assert commands(later(world, days=10, attempt_count=3)) == []


def test_what_an_earlier_version_has_noted_is_not_told_again() -> None:
    before = noted(failing(charge(1), attempt_count=1))
    old = [
        replace(fact, attributes=tuple(each for each in fact.attributes if each[0] != "counted"))
        for fact in before.facts
    ]
    world = replace(before, facts=tuple(old), once=frozenset(map(failure_key, old)))
    assert commands(world) == []


def test_retries_that_stripe_counts_but_does_not_make_after_a_hard_decline_are_no_tasks() -> None:
    world = failing(charge(1, failure_code="stolen_card"), attempt_count=3)
    assert [command.key for command in commands(world)] == ["attempt:ch_1"]


def test_what_stripe_counted_after_a_hard_decline_is_no_attempt_either_once_another_card_is_tried() -> None:
    """An attack found it: "nothing could be charged" was told beside the decline of the new card."""
    stolen, declined = charge(1, failure_code="stolen_card"), charge(2, created_at=NOW + 9 * DAY)
    world = later(failing(stolen, attempt_count=1), stolen, declined, days=10, attempt_count=4)
    assert [command.key for command in commands(world)] == ["attempt:ch_2"]
    last = later(world, stolen, declined, days=12, attempt_count=5)
    assert [command.key for command in commands(last)] == ["unconfirmed:in_1:5"]
    assert [c.key for c in commands(failing(stolen, charge(2), attempt_count=4))] == ["attempt:ch_1", "attempt:ch_2"]


def test_stripe_is_given_a_moment_to_name_the_next_attempt() -> None:
    """With automations, next_payment_attempt comes in a later update than the failure."""
    fresh = failing(charge(1, created_at=NOW - 10 * MICROS), next_attempt_at=None)
    assert entries(fresh) == [LookAgain(NOW + 35 * MICROS, priority=Priority.PAYMENT_FAILED)]
    named = failing(charge(1, created_at=NOW - 10 * MICROS))
    assert "The next attempt is on 2026-11-25." in said(named)
    later = replace(fresh, now=NOW + 36 * MICROS)
    assert "No retry is planned." in said(later)


def test_an_attempt_that_is_not_counted_yet_is_told_when_it_is() -> None:
    """Invoices are read before charges: an attempt between the two was told twice, the second time as one without a
    charge."""
    first = noted(failing(charge(1)))
    second = charge(4, created_at=NOW)
    torn = replace(failing(charge(1), second, attempt_count=1), facts=first.facts, once=frozenset({"attempt:ch_1"}))
    assert entries(torn) == [LookAgain(NOW + 45 * MICROS, priority=Priority.PAYMENT_FAILED)]
    whole = replace(failing(charge(1), second, attempt_count=2), facts=noted(torn).facts, once=torn.once)
    assert [command.key for command in commands(whole)] == ["attempt:ch_4"]
    settled = replace(whole, facts=noted(whole).facts, once=whole.once | {"attempt:ch_4"}, now=NOW + DAY)
    assert commands(settled) == []


def test_an_attempt_by_hand_is_never_counted_and_is_told_after_a_moment() -> None:
    by_hand = failing(charge(4, created_at=NOW), attempt_count=0)
    assert entries(by_hand) == [LookAgain(NOW + 45 * MICROS, priority=Priority.PAYMENT_FAILED)]
    assert [command.key for command in commands(replace(by_hand, now=NOW + 46 * MICROS))] == ["attempt:ch_4"]


@pytest.mark.parametrize(
    ("status", "more", "words"),
    [
        ("incomplete", {}, "If nothing is collected, the subscription expires in 1 days, on 2026-11-24."),
        ("canceled", {"ended_at": NOW}, "The subscription has ended."),
    ],
)
def test_what_becomes_of_the_subscription(status: str, more: dict[str, Any], words: str) -> None:
    world = failing(charge(1), next_attempt_at=None)
    assert isinstance(world.billing, Present)
    held = replace(world.billing.value, subscriptions=(subscription(status=status, **more),))
    assert words in said(replace(world, billing=Present(held)))


@pytest.mark.parametrize(
    ("owners", "owner"),
    [
        (OWNERS, "005Aa000000002IAA"),
        (OWNERS | {"success_owner_active": False}, "005Aa000000003IAA"),
        (OWNERS | {"success_owner_id": None}, "005Aa000000003IAA"),
        (OWNERS | {"success_owner_id": None, "team_owner_id": None}, "005Aa000000001IAA"),
        (OWNERS | {"success_owner_id": None, "team_owner_id": None, "owner_active": False}, "00GAa000000001IAA"),
    ],
)
def test_the_task_goes_to_an_active_person_or_to_the_queue(owners: dict[str, Any], owner: str | None) -> None:
    (command,) = commands(failing(charge(1), owners=owners), with_rules(task_queue="00GAa000000001IAA"))
    assert task(command)["OwnerId"] == owner


def test_the_order_of_the_people_is_a_rule() -> None:
    (command,) = commands(failing(charge(1)), with_rules(task_owners=("owner", "success_owner")))
    assert task(command)["OwnerId"] == "005Aa000000001IAA"


def test_without_anybody_the_task_is_the_integration_users() -> None:
    (command,) = commands(failing(charge(1), owners={}))
    assert "OwnerId" not in task(command)


def test_little_at_risk_is_no_emergency() -> None:
    world = failing(charge(1))
    assert isinstance(world.billing, Present)
    small = replace(world.billing.value, items=(item(interval="year", unit_amount=Decimal(1_199_000)),))
    (command,) = commands(replace(world, billing=Present(small)))
    assert task(command)["Priority"] == "Normal"
    assert task(command)["ActivityDate"] == "2026-11-26"


def test_an_overdue_invoice_is_a_failure_of_its_own_kind() -> None:
    world = failing(collection_method="send_invoice", due_at=NOW - 4 * DAY, next_attempt_at=None)
    (command,) = commands(world)
    assert command.key == "overdue:in_1"
    assert task(command)["Subject"] == "Invoice overdue: GBP 45,000.00"
    assert task(command)["Description"].startswith(
        "Invoice NW-0002 over GBP 45,000.00 is 4 days overdue. Nothing happens by itself.\n"
    )
    ends = said(world, with_rules(overdue_days=14))
    assert "If nothing is collected, the subscription is canceled in 10 days, on 2026-12-03." in ends


def test_a_sent_invoice_that_a_card_did_not_pay_ends_nothing_before_it_is_overdue() -> None:
    """Stripe does not try to collect it by itself: what follows is counted from its due date."""
    sent = failing(charge(1), collection_method="send_invoice", due_at=NOW + 10 * DAY, next_attempt_at=None)
    assert "No retry is planned. Nothing happens by itself.\n" in said(sent)
    ends = said(sent, with_rules(overdue_days=14))
    assert "If nothing is collected, the subscription is canceled in 24 days, on 2026-12-17." in ends


def test_an_invoice_that_is_not_due_yet_is_no_task() -> None:
    assert entries(failing(collection_method="send_invoice", due_at=NOW + DAY, next_attempt_at=None)) == []


def open_task(**changed: Any) -> FailureTask:
    values = {"id": "00T1", "what_id": ACCOUNT, "status": "Not Started", "failure_key": "attempt:ch_1"}
    return FailureTask(**(values | changed))


@pytest.mark.parametrize("status", ["paid", "void", "uncollectible"])
def test_a_task_that_nobody_touched_is_completed_when_nothing_is_left_to_collect(status: str) -> None:
    before = noted(failing(charge(1), once=frozenset({"attempt:ch_1"})))
    after = failing(charge(1), once=frozenset({"attempt:ch_1"}), status=status, amount_remaining=0)
    (command,) = payment_failure_tasks(replace(after, facts=before.facts, tasks=(open_task(),)), RULES)
    assert isinstance(command, Command)
    assert command.body == {"object": "Task", "id": "00T1", "fields": {"Status": "Completed"}}


@pytest.mark.parametrize(
    ("invoice", "changed"),
    [
        ("paid", {"status": "In Progress"}),
        ("paid", {"status": "Waiting on someone else"}),
        ("open", {}),
        ("paid", {"failure_key": "attempt:ch_of_nobody"}),
    ],
)
def test_a_task_that_somebody_works_on_or_that_is_still_true_is_left_alone(
    invoice: str, changed: dict[str, Any]
) -> None:
    world = noted(failing(charge(1), once=frozenset({"attempt:ch_1"}), status=invoice))
    assert list(payment_failure_tasks(replace(world, tasks=(open_task(**changed),)), RULES)) == []


charges = st.lists(
    st.builds(
        charge,
        st.integers(1, 9),
        status=st.sampled_from(["failed", "failed", "succeeded", "pending"]),
        failure_code=st.sampled_from([None, "insufficient_funds", "stolen_card", "of_the_future"]),
        created_at=st.integers(NOW - 16 * DAY, NOW - RULES.commercial.quiet_seconds * MICROS),
    ),
    max_size=6,
    unique_by=lambda each: each.id,
)


@given(st.data(), charges, st.sampled_from(["charge_automatically", "send_invoice"]))
def test_however_often_and_in_whatever_order_it_is_seen_a_failure_is_one_task(
    data: st.DataObject, made: list[Charge], method: str
) -> None:
    """The failures of the time that is told, each exactly once, worded as when it was first seen."""
    world = failing()
    told: dict[str, Any] = {}
    looks = [data.draw(st.permutations(made))[: data.draw(st.integers(0, 6))] for _ in range(3)]
    for shown in looks:
        world = noted(replace(failing(*shown, collection_method=method, due_at=NOW - DAY), facts=world.facts))
        for command in payment_failure_tasks(world, RULES):
            if isinstance(command, Command):
                assert told.setdefault(command.key, command.body) == command.body
    seen = {charge.id for shown in looks for charge in shown}
    wanted = {c.id for c in made if c.id in seen and c.status == "failed" and c.created_at >= NOW - 14 * DAY}
    assert {key for key in told if key.startswith("attempt:")} == {f"attempt:{each}" for each in wanted}
    overdue = {"overdue:in_1"} if method == "send_invoice" else set()
    assert {key for key in told if key.startswith("overdue:")} == overdue
