"""The sources of the rule table: what a field should be, read off the world.

A reading takes the world and a subject (the record whose field it is) and returns an observation of the raw
value. It returns Unknown where there is nothing to say yet, and raises MoneyError where money does not add up,
which becomes a review.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sync_pipeline.core.addresses import billing_address
from sync_pipeline.core.amendments import Amendment, amendments, is_amendment, pending_until
from sync_pipeline.core.at_risk import earning_at_risk
from sync_pipeline.core.billed_items import agreed_rate
from sync_pipeline.core.billed_lines import taken_back
from sync_pipeline.core.churn import retention
from sync_pipeline.core.crosswalk import (
    Match,
    first_customer,
    linked_customers,
    match_item,
    match_subscription,
    own_billing,
)
from sync_pipeline.core.deal import account_currency, today
from sync_pipeline.core.ensure import obstacles
from sync_pipeline.core.facts import lifetime_value, uncounted
from sync_pipeline.core.lifecycle import EARNING, billing_status, ends_at, has_ended, most_urgent
from sync_pipeline.core.money import Money, MoneyError
from sync_pipeline.core.mrr import monthly_recurring_revenue, recurring_items
from sync_pipeline.core.observation import Observation, Present, Unknown
from sync_pipeline.core.part_ids import is_further_part, opportunity_of
from sync_pipeline.core.rates import OUR_PRODUCT
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import Account, LineItem
from sync_pipeline.core.stripe_records import Invoice, InvoicePayment, Subscription, SubscriptionItem
from sync_pipeline.core.term import months_of_contract, whole_months
from sync_pipeline.core.unbilled import unbilled_deals
from sync_pipeline.core.world import Billing, Deal, World

NOT_BILLED = Unknown("nothing is billed yet")
NOT_PAID = Unknown("no money has come in yet")


@dataclass(frozen=True, slots=True)
class Subject:
    """One record whose fields are kept: its object name in the rule table, its id, and its deal if it has one."""

    object: str
    id: str
    record: Any
    deal: Deal | None = None


def subjects(world: World) -> Iterator[Subject]:
    """Every record of the account that a rule can write to."""
    if isinstance(world.account, Present):
        yield Subject("account", world.account.value.id, world.account.value)
    for customer in linked_customers(world):
        yield Subject("customer", customer.id, customer)
    for deal in world.deals:
        if not is_further_part(deal.opportunity.id):
            yield Subject("opportunity", deal.opportunity.id, deal.opportunity, deal)
        for line in deal.lines:
            yield Subject("line", line.id, line, deal)
    yield from contract_subjects(world)


def contract_subjects(world: World) -> Iterator[Subject]:
    """Each Contract with the deal that speaks for it: of several, the first that closed among those that are billed."""
    spoken_for = set()
    by_closing = sorted(world.deals, key=lambda deal: (deal.opportunity.close_date or "", deal.opportunity.id))
    for deal in sorted(by_closing, key=lambda deal: subscription_of(world, deal) is None):
        if deal.contract is not None and deal.contract.id not in spoken_for:
            spoken_for.add(deal.contract.id)
            yield Subject("contract", deal.contract.id, deal.contract, deal)


def _account(world: World) -> Account:
    assert isinstance(world.account, Present)
    return world.account.value


def own_subscription(world: World, subject: Subject) -> Subscription | None:
    """The subscription that bills the deal of a record, ended ones included."""
    return None if subject.deal is None else subscription_of(world, subject.deal)


def subscription_of(world: World, deal: Deal) -> Subscription | None:
    """The subscription that bills the deal, ended ones included."""
    billing = own_billing(world)
    if billing is None:
        return None
    found = match_subscription(deal.opportunity, billing.subscriptions, world.links, world.org_id)
    return next(s for s in billing.subscriptions if s.id == found.id) if isinstance(found, Match) else None


def _of_all_parts(world: World, subject: Subject) -> list[Subscription]:
    """The subscriptions that bill an Opportunity, one for each part of it."""
    parts = (deal for deal in world.deals if opportunity_of(deal.opportunity.id) == subject.id)
    return [found for deal in parts if (found := subscription_of(world, deal)) is not None]


def invoices_of(world: World, subject: Subject) -> list[Invoice]:
    """The invoices of all parts of an Opportunity."""
    billing, names = own_billing(world), {each.id for each in _of_all_parts(world, subject)}
    return [invoice for invoice in billing.invoices if invoice.subscription in names] if billing is not None else []


def payments_of(world: World, subject: Subject) -> list[tuple[int, InvoicePayment]]:
    """The money that came in for an Opportunity, a part of an invoice included: when, in that order, and what."""
    billing, invoices = own_billing(world), {invoice.id for invoice in invoices_of(world, subject)}
    paid = (
        p for p in (billing or Billing()).payments if p.invoice in invoices and p.status == "paid" and p.amount_paid
    )
    return sorted(((p.paid_at, p) for p in paid if p.paid_at is not None), key=lambda each: (each[0], each[1].id))


def _earning_items(billing: Billing) -> list[SubscriptionItem]:
    earning = {s.id for s in billing.subscriptions if s.status in EARNING}
    return [item for item in billing.items if item.subscription in earning]


def _lines_by_product(world: World, billing: Billing) -> dict[str, LineItem]:
    """A line that sells each Stripe product: the products that we made, and those of items that bill a line.

    The latter are of subscriptions that were there before the sync. An item that was moved to another product at Stripe
    does not make its line sell that.
    """
    deals = sorted(world.deals, key=lambda deal: deal.opportunity.id)
    lines = {line.id: line for deal in deals for line in deal.lines}
    sold = {f"{OUR_PRODUCT}{line.product_id}": line for _, line in sorted(lines.items())}
    items = {item.id: item for item in billing.items}
    for deal in deals:
        if (subscription := subscription_of(world, deal)) is None:
            continue
        for line in sorted(deal.lines, key=lambda line: line.id):
            if found := match_item(line, billing.items, subscription.id):
                product, agreed = items[found.id].product, agreed_rate(world, line)
                if agreed is None or agreed.product == product:
                    sold.setdefault(product, line)
    return sold


def customer_id(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    customer = first_customer(world)
    return Present(customer.id) if customer is not None else NOT_BILLED


def account_lifetime_value(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    if own_billing(world) is None:
        return NOT_BILLED
    return Present(lifetime_value(world.facts, account_currency(_account(world), rules.commercial)))


def account_mrr(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    billing = own_billing(world)
    if billing is None:
        return NOT_BILLED
    currency = account_currency(_account(world), rules.commercial)
    return Present(monthly_recurring_revenue(billing, currency))


def account_mrr_at_risk(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """The part of the recurring revenue whose payment is failing, overdue or disputed."""
    billing = own_billing(world)
    if billing is None:
        return NOT_BILLED
    currency = account_currency(_account(world), rules.commercial)
    return Present(_revenue_at_risk(billing, currency, world.now))


def _revenue_at_risk(billing: Billing, currency: str, now: int) -> Money:
    risky = earning_at_risk(billing, now)
    return monthly_recurring_revenue(billing, currency, (s for s in billing.subscriptions if s.id in risky))


def account_other_currencies(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """What is billed in other currencies than the Account's, and collected without a settled amount in its own.

    The Account's figures do not include it.
    """
    billing = own_billing(world)
    if billing is None:
        return NOT_BILLED
    own = account_currency(_account(world), rules.commercial)
    collected = uncounted(world.facts, own)
    parts = []
    for currency in sorted(({s.currency for s in billing.subscriptions} | collected.keys()) - {own}):
        monthly = monthly_recurring_revenue(billing, currency)
        at_risk = _revenue_at_risk(billing, currency, world.now)
        cash = collected.get(currency, Money(0, currency))
        figures = {"MRR": monthly, "MRR at risk": at_risk, "collected": cash}
        told = [f"{name} {amount.decimal():,}" for name, amount in figures.items() if amount.minor]
        parts.extend([f"{currency}: {', '.join(told)}"] if told else [])
    return Present("; ".join(parts) or None)


def account_billing_status(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    billing = own_billing(world)
    if billing is None or not billing.subscriptions:
        return NOT_BILLED
    words = [billing_status(s) for s in billing.subscriptions]
    known = [word for word in words if word is not None]
    return Present(most_urgent(known)) if len(known) == len(words) else Unknown("a Stripe status is not known")


def account_plan(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """The name of the product with the largest share of recurring revenue: as Salesforce has it, or as Stripe has it
    where no line sells it, for what is billed is Stripe's word."""
    billing = own_billing(world)
    if billing is None or not billing.subscriptions:
        return NOT_BILLED
    largest = _largest_product(world, rules, billing)
    if largest is None:
        return Present(None)
    sold = _lines_by_product(world, billing).get(largest)
    listed = {f"{OUR_PRODUCT}{each.product_id}": each.product_name for each in world.listed}
    name = (sold.product_name if sold is not None else None) or listed.get(largest) or world.product_names.get(largest)
    return Present(name) if name else Unknown(f"the name of {largest} was not read")


def product_without_line(world: World, rules: Rules) -> str | None:
    """The Stripe product that the Account's plan is named after, where no line sells it: its name is Stripe's."""
    billing = own_billing(world)
    try:
        largest = _largest_product(world, rules, billing) if billing is not None else None
    except MoneyError:
        return None
    return largest if billing is not None and largest not in _lines_by_product(world, billing) else None


def _largest_product(world: World, rules: Rules, billing: Billing) -> str | None:
    """The product with the largest share of recurring revenue; amounts of one currency are compared.

    Raises MoneyError.
    """
    items = list(recurring_items(billing, (s for s in billing.subscriptions if s.status in EARNING)))
    own = account_currency(_account(world), rules.commercial)
    revenue: dict[str, Fraction] = {}
    for item, yearly in [pair for pair in items if pair[0].currency == own] or items:
        revenue[item.product] = revenue.get(item.product, Fraction(0)) + yearly
    return max(revenue, key=lambda product: (revenue[product], product), default=None)


def account_retention(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    billing = own_billing(world)
    if billing is None or not billing.subscriptions:
        return NOT_BILLED
    return Present(retention(billing, world.now))


def account_seats(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """Quantities of the items that bill seats."""
    billing = own_billing(world)
    if billing is None or not billing.subscriptions:
        return NOT_BILLED
    items = seat_items(world, rules, billing)
    if not isinstance(items, Present):
        return items
    return Present(sum((Decimal(item.quantity or 0) for item in items.value), Decimal(0)))


def seat_items(world: World, rules: Rules, billing: Billing) -> Observation[tuple[SubscriptionItem, ...]]:
    """The earning items of seat products; all of them where the rules name no family of seats.

    On a subscription that the sync made, what was never sold in Salesforce is no seat.
    """
    listed = {f"{OUR_PRODUCT}{each.product_id}": each.product_family for each in world.listed}
    sold = listed | {product: line.product_family for product, line in _lines_by_product(world, billing).items()}
    ours = {s.id for s in billing.subscriptions if s.intent is not None}
    seats, families = [], rules.commercial.seat_families
    for item in _earning_items(billing):
        foreign = item.subscription in ours and not item.product.startswith(OUR_PRODUCT)
        if families and item.product not in sold and not foreign:
            return Unknown("a billed product is on no line of a deal")
        if not families or sold.get(item.product) in families:
            seats.append(item)
    return Present(tuple(seats))


def subscription_id(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """A sound amendment shares the subscription of the deal that it amends."""
    subscription = own_subscription(world, subject)
    amendment = _amendment(world, rules, subject)
    if subscription is None and amendment is not None and not amendment.faults:
        subscription = amendment.subscription
    return Present(subscription.id) if subscription is not None else NOT_BILLED


def contract_start(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """The first day of service, while the subscription runs."""
    subscription = _of_kept_contract(world, rules, subject)
    if subscription is None or has_ended(subscription):
        return NOT_BILLED
    return Present(today(subscription.start_at, rules.commercial).isoformat())


def contract_term(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """Months from the start to the end of the term that runs: free months and renewed terms add to it."""
    subscription = _of_kept_contract(world, rules, subject)
    months = whole_months(subject.deal.opportunity) if subject.deal is not None else None
    if subscription is None or has_ended(subscription) or months is None:
        return NOT_BILLED
    return Present(Decimal(months_of_contract(subscription, months, rules.commercial, world.now)))


def service_end(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """The day on which service ends or has ended; empty while no end is known."""
    billing, subscription = own_billing(world), _of_kept_contract(world, rules, subject)
    if billing is None or subscription is None:
        return NOT_BILLED
    end = subscription.ended_at or ends_at(subscription, billing.items)
    return Present(today(end, rules.commercial).isoformat() if end is not None else None)


def _of_kept_contract(world: World, rules: Rules, subject: Subject) -> Subscription | None:
    return None if rules.commercial.contracts == "leave" else own_subscription(world, subject)


def opportunity_billing_status(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    if _stripe_is_unknown(world):
        return NOT_BILLED
    if _missing(world, rules, subject):
        return Present("Needs Attention")
    if subscriptions := _of_all_parts(world, subject):
        words = [word for each in subscriptions if (word := billing_status(each)) is not None]
        if len(words) == len(subscriptions):
            return Present(most_urgent(words))
        return Unknown(f"Stripe status {', '.join(sorted({each.status for each in subscriptions}))!r} is not known")
    return NOT_BILLED if subject.record.is_won else Present(None)


def opportunity_billing_message(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """What keeps a won deal from being billed, or what an amendment waits for; empty once it is billed, or is not won
    after all.
    """
    if _stripe_is_unknown(world):
        return NOT_BILLED
    missing, amendment = _missing(world, rules, subject), _amendment(world, rules, subject)
    message = "Not billed: " + "; ".join(missing) if missing else None
    if amendment is not None and not missing:
        message = pending_until(amendment, world.now)
    if message is not None:
        return Present(message if len(message) <= 255 else message[:252] + "...")
    settled = own_subscription(world, subject) is not None or not subject.record.is_won
    return Present(None) if settled else NOT_BILLED


def _stripe_is_unknown(world: World) -> bool:
    """A deal that seems to have no subscription may have one: nothing is said of it, and nothing is cleared."""
    return any(isinstance(seen, Unknown) for seen in (*world.customers.values(), world.billing))


def _missing(world: World, rules: Rules, subject: Subject) -> tuple[str, ...]:
    """What keeps a deal from being billed that never was."""
    waiting = unbilled_deals(world, rules)
    if (incomplete := waiting.incomplete.get(subject.id)) is not None:
        return incomplete.missing
    is_ready = any(opportunity_of(deal.opportunity.id) == subject.id for deal, _ in waiting.ready)
    return obstacles(world, rules).get(subject.id, ()) if is_ready else ()


def _amendment(world: World, rules: Rules, subject: Subject) -> Amendment | None:
    if subject.deal is None or not is_amendment(world, subject.deal, rules.commercial):
        return None
    return next((each for each in amendments(world, rules) if each.id == subject.id), None)


def activation(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """An amendment has none: what was paid first was paid for the deal that it amends."""
    if own_subscription(world, subject) is None or _amendment(world, rules, subject) is not None:
        return NOT_BILLED
    paid = any(invoice.status == "paid" and invoice.amount_paid > 0 for invoice in invoices_of(world, subject))
    return Present("Activated" if paid else "Pending")


def first_payment_at(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """When the first money came in, a part of an invoice included."""
    if own_subscription(world, subject) is None or _amendment(world, rules, subject) is not None:
        return NOT_BILLED
    paid = payments_of(world, subject)
    return Present(paid[0][0]) if paid else NOT_PAID


def item_id(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    billing, subscription = own_billing(world), own_subscription(world, subject)
    if billing is None or subscription is None or has_ended(subscription):
        return NOT_BILLED
    line: LineItem = subject.record
    if subject.deal is not None and line.id in taken_back(subject.deal.lines):
        return Present(None)
    found = match_item(line, billing.items, subscription.id)
    return Present(found.id) if found else NOT_BILLED


def account_id(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    return Present(_account(world).id) if isinstance(world.account, Present) else Unknown("no Account")


def account_name(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    account = _account(world) if isinstance(world.account, Present) else None
    return Present(account.name) if account is not None and account.name else Unknown("the Account has no name")


def account_address(world: World, rules: Rules, subject: Subject) -> Observation[Any]:
    """The billing address as Stripe holds it; a country that is not known keeps it from being written."""
    if not isinstance(world.account, Present):
        return Unknown("no Account")
    wanted = billing_address(_account(world))
    return Unknown("the Account has no complete billing address") if wanted is None else Present(wanted)


Reading = Callable[[World, Rules, Subject], Observation[Any]]

READINGS: Mapping[str, Reading] = {
    reading.__name__: reading
    for reading in (
        customer_id,
        account_lifetime_value,
        account_mrr,
        account_mrr_at_risk,
        account_other_currencies,
        account_billing_status,
        account_plan,
        account_retention,
        account_seats,
        subscription_id,
        contract_start,
        contract_term,
        service_end,
        opportunity_billing_status,
        opportunity_billing_message,
        activation,
        first_payment_at,
        item_id,
        account_id,
        account_name,
        account_address,
    )
}

FORMS: Mapping[str, str] = {
    "account_lifetime_value": "money",
    "account_mrr": "money",
    "account_mrr_at_risk": "money",
    "account_seats": "number",
    "contract_term": "number",
    "first_payment_at": "moment",
    "account_address": "address",
}
"""The canonical form of the readings that are not texts."""
