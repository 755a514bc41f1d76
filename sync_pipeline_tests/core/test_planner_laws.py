"""The laws of the planner over generated worlds: whatever two systems show, these hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import moment
from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.crosswalk import match_subscription, named_subscriptions
from sync_pipeline.core.customers import slot_of_intent
from sync_pipeline.core.lifecycle import has_ended
from sync_pipeline.core.observation import Absent, Present, Unknown
from sync_pipeline.core.payment_failures import new_failures
from sync_pipeline.core.plan import plan
from sync_pipeline.core.stripe_records import Invoice
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, World
from sync_pipeline.core.written import written_fields
from sync_pipeline_tests.core.making import CUSTOMER, NOW, PERSONAL_KEY, RULES, billed, item, subscription
from sync_pipeline_tests.core.worlds import CANARY, shuffled, worlds

many = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

DAY = 86_400 * MICROS


def planned(of: World) -> Plan:
    return plan(of, RULES, PERSONAL_KEY)


def creates(of: Plan, kind: str | None = None) -> list[Command]:
    made = [command for command in of.commands if command.action == "stripe.create"]
    return [command for command in made if kind is None or command.body["object"] == kind]


def a_plan_is_total_and_can_be_written_down(of: World) -> None:
    found = planned(of)
    for kind in {command.action for command in found.commands} | {review.rule for review in found.reviews}:
        event(kind)
    for command in creates(found):
        event(f"create {command.body['object']}")
    for command in found.commands:
        assert canonical.encode(command.body)
        assert len(command.digest()) == 64
        assert command.reason
        assert command.account == of.account_id


@many
@given(st.data())
def test_a_plan_does_not_depend_on_the_order_of_what_was_read(data: st.DataObject) -> None:
    """L9, as far as one process can tell; test_laws_of_whole_plans.py asks others."""
    of = data.draw(worlds())
    assert canonical.encode(planned(data.draw(shuffled(of)))) == canonical.encode(planned(of))


def one_object_is_written_at_most_once(of: World) -> None:
    """L6 of one plan."""
    found = planned(of)
    assert len({command.target for command in found.commands}) == len(found.commands)
    assert len({command.key for command in found.commands}) == len(found.commands)
    for command in found.commands:
        names = [change.field for change in command.changes]
        assert len(set(names)) == len(names)
        assert all(change.old != change.new for change in command.changes)


def a_blocked_object_is_left_alone(of: World) -> None:
    every_target = frozenset(command.target for command in planned(of).commands)
    assert planned(replace(of, blocked=of.blocked | every_target)).commands == ()


def only_owned_fields_are_written(of: World) -> None:
    """L4, of fields: what the rules do not give to the sync is never written."""
    owned: dict[str, set[str]] = {names.object: set() for names in RULES.salesforce.values()}
    for (kind, name), use in written_fields(RULES).items():
        if use.updated:
            owned[RULES.salesforce[kind].object].add(RULES.salesforce[kind].fields[name])
    for command in planned(of).commands:
        if command.action == "salesforce.update":
            assert set(command.body["fields"]) <= owned[command.body["object"]]
        if command.action == "stripe.update" and command.body["object"] == "customer":
            assert set(command.body["params"]) <= {"name", "address", "metadata"}
            assert set(command.body["params"].get("metadata", {})) <= {"sf_account_id"}


def is_clear(value: Any) -> bool:
    return value is None or value == ""


@many
@given(worlds(), st.sampled_from(["account", "customer", "candidates", "billing", "catalogue"]))
def test_what_is_unknown_creates_adopts_and_clears_nothing(of: World, part: str) -> None:
    """L11 over anything that could be looked at."""
    unknown = Unknown("timeout")
    if part == "customer":
        changed: dict[str, Any] = {"customers": dict.fromkeys({**of.customers, "cus_a": unknown}, unknown)}
    else:
        changed = {part: unknown}
    found = planned(replace(of, **changed))
    made = {command.body["object"] for command in creates(found)}
    links = [command for command in found.commands if command.action == "link"]
    if part == "account":
        assert found == Plan()
    if part == "customer":
        assert (made, links) == (set(), [])
    if part == "candidates":
        assert "customer" not in made
        assert {link.body["external_id"] for link in links} <= of.customers.keys()
    # The tax id of a customer follows from that customer and its Account alone.
    if part == "billing":
        assert made <= {"tax_id"}
    if part == "catalogue":
        assert made <= {"customer", "tax_id"}
    if part in ("customer", "billing"):
        assert not [
            change
            for command in found.commands
            if command.action == "salesforce.update"
            for change in command.changes
            if is_clear(change.new)
        ]


def what_is_gone_causes_no_write_at_stripe(of: World) -> None:
    deleted = {key for key, seen in of.customers.items() if isinstance(seen, Present) and seen.value.deleted}
    for command in planned(of).commands:
        if command.action.startswith("stripe."):
            assert not deleted & {command.body.get("id"), command.body["params"].get("customer")}
    absent = planned(replace(of, account=Absent("deleted")))
    assert absent.commands == ()


def a_deal_that_was_ever_billed_is_never_billed_again(of: World) -> None:
    wanted = {command.subject for command in creates(planned(of), "subscription")}
    shown = of.billing.value.subscriptions if isinstance(of.billing, Present) else ()
    for deal in of.deals:
        if match_subscription(deal.opportunity, shown, of.links, of.org_id) or named_subscriptions(
            deal.opportunity, of.links
        ):
            assert deal.opportunity.id not in wanted
        if not deal.opportunity.is_won:
            assert deal.opportunity.id not in wanted


def nothing_that_only_goes_forward_goes_back(of: World) -> None:
    """L10 of one plan."""
    shown = {deal.opportunity.id: deal.opportunity for deal in of.deals}
    for command in planned(of).commands:
        for change in command.changes:
            if change.rule == "opportunity.activation_status":
                assert (change.old, change.new) not in {("Activated", "Pending"), ("Activated", None)}
                assert shown[command.subject].activation_status != "Activated"
            if change.rule == "opportunity.first_payment_at":
                before = moment(shown[command.subject].first_payment_at)
                assert before is None or change.new < before


def personal_values_stay_in_the_request_and_nowhere_else(of: World) -> None:
    found = planned(of)
    kept = canonical.encode([[c.changes, c.reason, c.key, c.target] for c in found.commands])
    kept += canonical.encode([found.reviews, found.agreements])
    for personal in (CANARY, "GB123456789", "Yard"):
        assert personal not in kept


def a_customer_that_is_not_the_accounts_own_is_never_written(of: World) -> None:
    own = {link.external_id for link in of.links if link.kind == "customer"}
    written = [c for c in planned(of).commands if c.action == "stripe.update" and c.body["object"] == "customer"]
    assert {command.body["id"] for command in written} <= own
    assert {command.body["params"]["customer"] for command in creates(planned(of), "subscription")} <= own


def one_customer_bills_one_currency(of: World) -> None:
    """Stripe refuses a second currency on a customer, and two slots for one currency would split its history."""
    billing = of.billing.value if isinstance(of.billing, Present) else Billing()
    running = {(s.customer, s.currency) for s in billing.subscriptions if not has_ended(s)}
    prices = {p.id: p.currency for p in of.catalogue.value.prices.values()} if isinstance(of.catalogue, Present) else {}
    for command in creates(planned(of), "subscription"):
        params = command.body["params"]
        (currency,) = {prices[each["price"]] for each in params["items"]}
        event(f"a subscription in {currency}")
        assert (
            min((known for customer, known in running if customer == params["customer"]), default=currency) == currency
        )
    intents = [command.key for command in creates(planned(of), "customer")]
    assert len(intents) == len(set(intents))
    assert not {slot_of_intent(intent) for intent in intents} & {
        link.subject for link in of.links if (link.kind, link.role) == ("customer", "primary")
    }


LAWS: tuple[Callable[[World], None], ...] = (
    a_plan_is_total_and_can_be_written_down,
    one_object_is_written_at_most_once,
    a_blocked_object_is_left_alone,
    only_owned_fields_are_written,
    what_is_gone_causes_no_write_at_stripe,
    a_deal_that_was_ever_billed_is_never_billed_again,
    nothing_that_only_goes_forward_goes_back,
    personal_values_stay_in_the_request_and_nowhere_else,
    a_customer_that_is_not_the_accounts_own_is_never_written,
    one_customer_bills_one_currency,
)


@many
@given(worlds())
def test_the_laws_hold_over_whatever_can_be_looked_at(of: World) -> None:
    for law in LAWS:
        law(of)


@pytest.mark.parametrize("changed", [{"interval": "of_the_future"}, {"currency": "XXX"}])
@pytest.mark.parametrize("status", ["active", "past_due", "canceled"])
def test_what_cannot_be_valued_is_a_review_and_never_a_crash(status: str, changed: dict[str, Any]) -> None:
    """An interval or a currency that Stripe did not have when this was written."""
    ended = {"ended_at": NOW} if status == "canceled" else {"cancel_at": NOW}
    currency = changed.get("currency", "GBP")
    found = planned(billed(subscription(status=status, currency=currency, **ended), items=(item(**changed),)))
    assert [review for review in found.reviews if str(*changed.values()) in review.detail]


def test_a_failure_in_a_currency_that_is_not_known_still_makes_its_task() -> None:
    overdue = Invoice(
        id="in_1",
        customer=CUSTOMER,
        status="open",
        currency="XXX",
        created_at=NOW - 2 * DAY,
        total=1_234,
        amount_due=1_234,
        amount_paid=0,
        amount_remaining=1_234,
        collection_method="send_invoice",
        due_at=NOW - DAY,
    )
    of = billed(billing=Present(Billing(invoices=(overdue,))))
    found = planned(replace(of, facts=tuple(new_failures(of, RULES))))
    assert [c.reason for c in found.commands if c.action == "salesforce.once"] == [
        "Invoice overdue: XXX 1,234 (minor units)"
    ]


def test_what_bills_in_a_way_that_is_not_known_holds_up_no_figure_of_another_currency() -> None:
    """Its own figures are asked about; those in the Account's currency have their evidence without it."""
    known, strange = subscription(), subscription(id="sub_2", currency="USD")
    items = (
        item(unit_amount=Decimal(1_000)),
        item(id="si_2", subscription="sub_2", currency="USD", interval="of_the_future", unit_amount=Decimal(1_000)),
    )
    found = planned(billed(known, strange, items=items))
    (update,) = [each for each in found.commands if each.action == "salesforce.update"]
    assert (update.body["object"], update.body["fields"]["MRR__c"]) == ("Account", Decimal("10.00"))


def test_of_two_that_cannot_be_counted_the_same_one_is_told_in_whatever_order_they_were_read() -> None:
    both = (subscription(), subscription(id="sub_2"))
    items = tuple(
        item(id=f"si_{n}", subscription=each.id, interval=f"of_the_future_{n}", unit_amount=Decimal(1_000))
        for n, each in enumerate(both)
    )
    of, turned = billed(*both, items=items), billed(*both[::-1], items=items[::-1])
    assert any("of_the_future" in review.detail for review in planned(of).reviews)
    assert planned(turned) == planned(of)
