"""Whole tables of both systems, and worlds read from them: the same reads as against the live systems.

A snapshot is a list of records per table. It comes from complete listings here, or from the warehouse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sync_pipeline.core.observation import Absent, Observation, Present, Unreadable
from sync_pipeline.core.salesforce_records import (
    Account,
    ChurnRecord,
    Contract,
    FailureTask,
    LineItem,
    Opportunity,
    SyncConflict,
)
from sync_pipeline.core.stripe_records import (
    Charge,
    Coupon,
    CreditNote,
    Customer,
    Discount,
    Dispute,
    Invoice,
    InvoiceLine,
    InvoicePayment,
    Price,
    Product,
    Refund,
    Subscription,
    SubscriptionItem,
    SubscriptionSchedule,
)
from sync_pipeline.core.world import Billing, Catalogue
from sync_pipeline.engine.cost import Calls, least_salesforce_reads
from sync_pipeline.systems.outcomes import ReadFailed
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.reads import AccountRecords
from sync_pipeline.systems.stripe import listings
from sync_pipeline.systems.stripe.client import PAGE, Stripe

Tables = Mapping[str, Sequence[Any]]
"""Records by table name (`salesforce/accounts`), and Unreadable in the places of those that cannot be read."""

TABLES: Mapping[str, type[Any]] = {
    "salesforce/accounts": Account,
    "salesforce/opportunities": Opportunity,
    "salesforce/opportunity_line_items": LineItem,
    "salesforce/contracts": Contract,
    "salesforce/churn_records": ChurnRecord,
    "salesforce/sync_conflicts": SyncConflict,
    "salesforce/failure_tasks": FailureTask,
    "stripe/customers": Customer,
    "stripe/products": Product,
    "stripe/prices": Price,
    "stripe/subscriptions": Subscription,
    "stripe/subscription_items": SubscriptionItem,
    "stripe/discounts": Discount,
    "stripe/invoices": Invoice,
    "stripe/invoice_lines": InvoiceLine,
    "stripe/invoice_payments": InvoicePayment,
    "stripe/charges": Charge,
    "stripe/refunds": Refund,
    "stripe/disputes": Dispute,
    "stripe/credit_notes": CreditNote,
    "stripe/subscription_schedules": SubscriptionSchedule,
    "stripe/coupons": Coupon,
}


OF_CUSTOMERS = ("customers", "subscriptions", "invoices", "charges", "subscription_schedules")
LISTED = (*OF_CUSTOMERS, "products", "prices", "coupons", "disputes", "credit_notes")
"""The tables that Stripe lists; the others come with them."""
SALESFORCE_OBJECTS: Mapping[str, str] = {
    "salesforce/accounts": "account",
    "salesforce/opportunities": "opportunity",
    "salesforce/opportunity_line_items": "line",
    "salesforce/contracts": "contract",
    "salesforce/churn_records": "churn_record",
    "salesforce/sync_conflicts": "sync_conflict",
}
"""The tables that hold all records of an object."""


def read_salesforce(salesforce: Salesforce) -> dict[str, list[Any]]:
    """Complete tables of the org."""
    objects = {**SALESFORCE_OBJECTS, "salesforce/failure_tasks": "task"}
    found = salesforce.whole(objects.values())
    return {table: found[name] for table, name in objects.items()}


def read_stripe(stripe: Stripe) -> dict[str, list[Any]]:
    """Complete tables of the Stripe account."""
    return {f"stripe/{table}": rows for table, rows in listings.everything(stripe).items()}


def least_for_tables(tables: Tables) -> Calls:
    """The calls that complete tables take when every query and every page is full."""
    rows = sum(len(found) for name, found in tables.items() if name.startswith("salesforce/"))
    pages = sum(_pages(tables, f"stripe/{table}") for table in LISTED)
    return least_salesforce_reads(rows, rows) + Calls(stripe_reads=pages)


def _pages(tables: Tables, table: str) -> int:
    """The pages of a list; that it is empty takes a look as well."""
    return max(1, -(-len(tables[table]) // PAGE))


def read_stripe_state(stripe: Stripe) -> dict[str, list[Any]]:
    """Complete tables of what there is now at Stripe; money and events are read by day."""
    return {f"stripe/{table}": rows for table, rows in listings.state(stripe).items()}


ACCOUNT_FIGURES = ("mrr", "mrr_at_risk", "lifetime_value")
"""The Account's fields that show money."""


class SalesforceTables:
    """Salesforce as a snapshot shows it."""

    def __init__(self, tables: Tables) -> None:
        self._accounts = {account.id: account for account in tables["salesforce/accounts"]}
        self._opportunities = _grouped(tables["salesforce/opportunities"], lambda o: o.account_id)
        self._lines = _grouped(tables["salesforce/opportunity_line_items"], lambda line: line.opportunity_id)
        self._churn = _grouped(tables["salesforce/churn_records"], lambda record: record.account_id)
        self._conflicts = _grouped(tables["salesforce/sync_conflicts"], lambda record: record.account_id)
        self._tasks = _grouped(tables["salesforce/failure_tasks"], lambda task: task.what_id)
        self._contracts = _grouped(tables["salesforce/contracts"], lambda c: c.account_id)

    def accounts(self, ids: Sequence[str]) -> dict[str, AccountRecords]:
        found = {}
        for account_id in ids:
            opportunities = self._opportunities[account_id]
            found[account_id] = AccountRecords.of(
                self._accounts.get(account_id),
                opportunities=tuple(opportunities),
                lines=tuple(line for o in opportunities for line in self._lines[o.id]),
                contracts=tuple(self._contracts[account_id]),
                churn_records=tuple(self._churn[account_id]),
                tasks=tuple(self._tasks[account_id]),
                conflicts=tuple(self._conflicts[account_id]),
            )
        return found

    def not_shown(self, ids: Iterable[str]) -> list[str]:
        """Those of the Accounts that the snapshot does not have."""
        return [account_id for account_id in ids if account_id not in self._accounts]

    def to_compare(self) -> Iterator[str]:
        """Accounts that billing concerns: they have a won deal, name a Stripe customer, or show money; and those of
        which that cannot be read."""
        for account_id, account in self._accounts.items():
            deals = self._opportunities[account_id]
            if any(isinstance(each, Unreadable) for each in (account, *deals)):
                yield account_id
                continue
            shows_money = any(getattr(account, field) for field in ACCOUNT_FIGURES)
            if account.stripe_customer_id or shows_money or any(o.is_won for o in deals):
                yield account_id


class StripeTables:
    """Stripe as a snapshot shows it. The snapshot is complete, so what is not in it does not exist.

    `pages` is how many pages Stripe's lists of the customers and of what is theirs have. No table has invoice items,
    which hardly anybody asks for: `live` reads them. What belongs to nobody (products, prices, coupons) and cannot be
    read is not there either: whoever needs it is looked at again before anything is written.

    Raises ReadFailed for a customer of which something cannot be read.
    """

    def __init__(self, tables: Tables, live: Stripe) -> None:
        self._live = live
        self._customers = {customer.id: customer for customer in tables["stripe/customers"]}
        self._by_account = _grouped(tables["stripe/customers"], lambda c: c.account_id)
        self._by_name = _grouped(_readable(tables["stripe/customers"]), lambda c: (c.name or "").strip().casefold())
        self._subscriptions = _grouped(tables["stripe/subscriptions"], lambda s: s.customer)
        self._items = _grouped(tables["stripe/subscription_items"], lambda item: item.subscription)
        self._discounts = _grouped(tables["stripe/discounts"], lambda discount: discount.subscription)
        self._invoices = _grouped(tables["stripe/invoices"], lambda invoice: invoice.customer)
        self._payments = _grouped(tables["stripe/invoice_payments"], lambda payment: payment.customer)
        self._charges = _grouped(tables["stripe/charges"], lambda charge: charge.customer)
        self._refunds = _grouped(tables["stripe/refunds"], lambda refund: refund.customer)
        self._disputes = _grouped(tables["stripe/disputes"], lambda dispute: dispute.customer)
        self._credit_notes = _grouped(tables["stripe/credit_notes"], lambda note: note.customer)
        self._schedules = _grouped(tables["stripe/subscription_schedules"], lambda schedule: schedule.customer)
        self._coupons = {coupon.id: coupon for coupon in _readable(tables["stripe/coupons"])}
        self._products = {product.id: product.name for product in _readable(tables["stripe/products"])}
        self._prices = {p.lookup_key: p for p in _readable(tables["stripe/prices"]) if p.lookup_key}
        self.pages = sum(_pages(tables, f"stripe/{table}") for table in OF_CUSTOMERS)

    def customer(self, customer_id: str) -> Observation[Customer]:
        known = self._customers.get(customer_id)
        if known is None and any(each[customer_id] for each in (self._subscriptions, self._invoices, self._charges)):
            # Stripe lists no customer that was deleted, and still lists what it was billed.
            known = Customer(id=customer_id, deleted=True)
        return Present(*_all_read([known])) if known is not None else Absent("not in the complete snapshot")

    def customers_like(self, account_id: str, name: str, now: int) -> list[Customer]:
        found = [*self._by_account[account_id], *self._by_name[name.strip().casefold()]]
        return sorted({customer.id: customer for customer in _all_read(found)}.values(), key=lambda c: c.id)

    def billing(self, customer_id: str) -> Billing:
        subscriptions = self._subscriptions[customer_id]
        return Billing(
            subscriptions=_all_read(subscriptions),
            items=_all_read(item for s in subscriptions for item in self._items[s.id]),
            discounts=_all_read(discount for s in subscriptions for discount in self._discounts[s.id]),
            invoices=_all_read(self._invoices[customer_id]),
            payments=_all_read(self._payments[customer_id]),
            charges=_all_read(self._charges[customer_id]),
            refunds=_all_read(self._refunds[customer_id]),
            disputes=_all_read(self._disputes[customer_id]),
            credit_notes=_all_read(self._credit_notes[customer_id]),
            schedules=_all_read(self._schedules[customer_id]),
        )

    def catalogue(self, products: Iterable[str], lookup_keys: Iterable[str], coupons: Iterable[str] = ()) -> Catalogue:
        return Catalogue(
            products=frozenset(products) & self._products.keys(),
            prices={key: self._prices[key] for key in lookup_keys if key in self._prices},
            coupons={coupon: self._coupons[coupon] for coupon in coupons if coupon in self._coupons},
        )

    def charged_lines(self, customers: Iterable[str]) -> dict[str, str]:
        return self._live.charged_lines(customers)

    def product_names(self, products: Iterable[str]) -> Mapping[str, str]:
        return {product: self._products[product] for product in products if product in self._products}


def _grouped(records: Iterable[Any], key: Callable[[Any], Any]) -> defaultdict[Any, list[Any]]:
    groups: defaultdict[Any, list[Any]] = defaultdict(list)
    for record in records:
        groups[record.owner if isinstance(record, Unreadable) else key(record)].append(record)
    return groups


def _readable(records: Iterable[Any]) -> list[Any]:
    return [record for record in records if not isinstance(record, Unreadable)]


def _all_read(records: Iterable[Any]) -> tuple[Any, ...]:
    """The records. Raises ReadFailed when one of them cannot be read."""
    found = tuple(records)
    for record in found:
        if isinstance(record, Unreadable):
            raise ReadFailed("Stripe", record.why)
    return found
