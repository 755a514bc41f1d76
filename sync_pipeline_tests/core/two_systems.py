"""A small Salesforce and a small Stripe in memory, to play plans against: no network, no ledger, no engine.

They keep what a person would see, refuse what the real ones refuse, and show values as the real ones do: a plan's
Salesforce writes go through JSON and the adapter's own parser.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from sync_pipeline.core import canonical
from sync_pipeline.core.canon import text
from sync_pipeline.core.cash import proved_cash
from sync_pipeline.core.commands import Command, Plan
from sync_pipeline.core.conflict import Conflict
from sync_pipeline.core.contraction import recurring_revenue
from sync_pipeline.core.customers import slot_of_intent
from sync_pipeline.core.facts import Fact, corrections
from sync_pipeline.core.observation import Absent, Observation, Present
from sync_pipeline.core.plan import plan
from sync_pipeline.core.rules import Rules
from sync_pipeline.core.salesforce_records import (
    Account,
    ChurnRecord,
    Contract,
    LineItem,
    Opportunity,
    PriceBookEntry,
    SyncConflict,
)
from sync_pipeline.core.stripe_records import (
    Customer,
    Invoice,
    InvoicePayment,
    Price,
    Refund,
    Subscription,
    SubscriptionItem,
)
from sync_pipeline.core.units import MICROS
from sync_pipeline.core.world import Billing, Catalogue, Deal, Link, World
from sync_pipeline.systems.salesforce import parse
from sync_pipeline_tests.core.making import ACCOUNT, NOW, ORG, PERSONAL_KEY

KINDS: dict[str, type[Any]] = {
    "Account": Account,
    "Opportunity": Opportunity,
    "OpportunityLineItem": LineItem,
    "Contract": Contract,
    "Churn_Record__c": ChurnRecord,
    "Sync_Conflict__c": SyncConflict,
}


YEAR = 365 * 86_400 * MICROS


class Refused(Exception):
    """One of the systems says no."""


@dataclass
class TwoSystems:
    """Both systems and what a ledger would remember. Records are keyed by id; `writes` counts what was applied."""

    rules: Rules
    now: int = NOW
    records: dict[str, Any] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)
    products: set[str] = field(default_factory=set)
    prices: dict[str, Price] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    items: dict[str, SubscriptionItem] = field(default_factory=dict)
    invoices: dict[str, Invoice] = field(default_factory=dict)
    payments: dict[str, InvoicePayment] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    base: dict[tuple[str, str], str] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    reverts: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    conflicts: dict[str, Conflict] = field(default_factory=dict)
    listed: list[PriceBookEntry] = field(default_factory=list)
    _items_ever: int = 0
    _tax_ids_ever: int = 0

    def put(self, *records: Any) -> None:
        """Salesforce records."""
        self.records.update({record.id: record for record in records})

    def edit(self, record_id: str, /, **changed: Any) -> None:
        """A person edits a Salesforce record."""
        self.records[record_id] = replace(self.records[record_id], **changed)

    def observe(self) -> World:
        """Everything, looked at whole."""
        account: Account = self.records[ACCOUNT]
        named = {link.external_id for link in self.links if link.kind == "customer"}
        first = any(link.kind == "customer" and link.subject == ACCOUNT for link in self.links)
        if account.stripe_customer_id and not first:
            named.add(account.stripe_customer_id)
        customers: dict[str, Observation[Customer]] = {}
        for customer_id in sorted(named):
            found = self.customers.get(customer_id)
            customers[customer_id] = Present(found) if found is not None else Absent(f"404 for {customer_id}")
        living = [seen.value.id for seen in customers.values() if isinstance(seen, Present) and not seen.value.deleted]
        billing: Observation[Billing] = Absent("no customer")
        if living:
            billing = Present(sum(map(self._billing, living), Billing()))
            observed = [
                *proved_cash(ACCOUNT, billing.value, self.now),
                *recurring_revenue(ACCOUNT, billing.value, self.now),
            ]
            self.facts += corrections(self.facts, observed, self.now)
        similar = sorted(
            (
                c
                for c in self.customers.values()
                if not c.deleted and (c.account_id == ACCOUNT or c.name == account.name)
            ),
            key=lambda c: c.id,
        )
        return World(
            account_id=ACCOUNT,
            org_id=ORG,
            now=self.now,
            account=Present(account),
            deals=self._deals(),
            renewals=tuple(r for r in self.records.values() if isinstance(r, Opportunity) and r.renewal_key),
            churn_records=tuple(r for r in self.records.values() if isinstance(r, ChurnRecord)),
            customers=customers,
            candidates=Present(tuple(similar)),
            billing=billing,
            catalogue=Present(
                Catalogue(
                    frozenset(self.products),
                    {p.lookup_key: p for p in self.prices.values() if p.lookup_key is not None},
                )
            ),
            listed=tuple(self.listed),
            links=tuple(self.links),
            base=dict(self.base),
            facts=tuple(self.facts),
            reverts=dict(self.reverts),
            conflicts=tuple(self.conflicts.values()),
            conflict_records=tuple(r for r in self.records.values() if isinstance(r, SyncConflict)),
        )

    def step(self) -> Plan:
        """One round: look, plan, remember what agrees, apply."""
        planned = plan(self.observe(), self.rules, PERSONAL_KEY)
        self.base |= {(a.subject, a.rule): a.value for a in planned.agreements}
        self.conflicts |= {conflict.key: conflict for conflict in planned.conflicts}
        for command in planned.sent_first:
            self.apply(command)
        return planned

    def settle(self, most: int = 4) -> list[Plan]:
        """Rounds until a plan has no command and no news; that last one included. Fails after `most` other rounds."""
        plans = []
        for _ in range(most + 1):
            plans.append(self.step())
            if not plans[-1].commands and not plans[-1].conflicts:
                return plans
        raise AssertionError(f"not at rest after {most} rounds: {plans[-1].commands}")

    def apply(self, command: Command) -> None:
        body = canonical.decode(canonical.encode(command.body))
        match command.action:
            case "link":
                self.links.append(Link(body["kind"], command.subject, body["external_id"]))
            case "salesforce.update":
                self.requests.append(("salesforce", body["object"], body["id"], body["fields"]))
                self._update_record(body["object"], body["id"], body["fields"])
            case "salesforce.upsert":
                self.requests.append(("salesforce", body["object"], None, body["fields"]))
                self._upsert_record(body["object"], body["external_field"], body["external_id"], body["fields"])
            case "stripe.update":
                self.requests.append(("stripe", body["object"], body["id"], body["params"]))
                getattr(self, f"_update_{body['object']}")(body["id"], body["params"])
            case "stripe.delete":
                self.requests.append(("stripe", body["object"], body["id"], None))
                getattr(self, f"_delete_{body['object']}")(body["id"])
            case "stripe.create":
                self.requests.append(("stripe", body["object"], None, body["params"]))
                getattr(self, f"_create_{body['object']}")(body["params"])
        self.base |= {(a.subject, a.rule): a.value for a in command.agreements}
        for change in command.changes:
            if change.put_back is not None:
                key = (change.put_back, change.rule)
                self.reverts[key] = (*self.reverts.get(key, ()), self.now)

    def pay(self, invoice_id: str) -> None:
        """The customer pays an open invoice in full."""
        invoice = self.invoices[invoice_id]
        self.invoices[invoice_id] = replace(
            invoice, status="paid", amount_paid=invoice.total, amount_remaining=0, paid_at=self.now
        )
        paid = InvoicePayment(
            id=f"inpay_{invoice_id}",
            invoice=invoice_id,
            customer=invoice.customer,
            status="paid",
            currency=invoice.currency,
            amount_paid=invoice.total,
            paid_at=self.now,
            payment="pi_1",
        )
        self.payments[paid.id] = paid

    def cancel(self, subscription_id: str) -> None:
        """Somebody cancels a subscription at once."""
        self.subscriptions[subscription_id] = replace(
            self.subscriptions[subscription_id], status="canceled", canceled_at=self.now, ended_at=self.now
        )

    def _deals(self) -> tuple[Deal, ...]:
        opportunities = [r for r in self.records.values() if isinstance(r, Opportunity)]
        won = [each for each in opportunities if each.is_won and not each.renewal_key]
        lines = [r for r in self.records.values() if isinstance(r, LineItem)]
        return tuple(
            Deal(
                each,
                tuple(line for line in lines if line.opportunity_id == each.id),
                self._contract(each),
            )
            for each in won
        )

    def _contract(self, opportunity: Opportunity) -> Contract | None:
        if opportunity.contract_id:
            found: Contract | None = self.records.get(opportunity.contract_id)
            return found
        contracts = (record for record in self.records.values() if isinstance(record, Contract))
        named = (c for c in contracts if c.stripe_subscription_id and opportunity.stripe_subscription_id)
        return next((c for c in named if c.stripe_subscription_id == opportunity.stripe_subscription_id), None)

    def _billing(self, customer_id: str) -> Billing:
        subscriptions = [s for s in self.subscriptions.values() if s.customer == customer_id]
        ids = {s.id for s in subscriptions}
        return Billing(
            subscriptions=tuple(subscriptions),
            items=tuple(i for i in self.items.values() if i.subscription in ids),
            invoices=tuple(i for i in self.invoices.values() if i.customer == customer_id),
            payments=tuple(p for p in self.payments.values() if p.customer == customer_id),
            refunds=tuple(r for r in self.refunds.values() if r.customer == customer_id),
        )

    def _upsert_record(self, kind: str, key_field: str, key: str, fields: dict[str, Any]) -> None:
        """A record is found by its key; here the key serves as its id too, unless another record has it."""
        names = next(names.fields for names in self.rules.salesforce.values() if names.object == kind)
        own = next(name for name, api_name in names.items() if api_name == key_field)
        same_kind = (record for record in self.records.values() if isinstance(record, KINDS[kind]))
        found = next((record.id for record in same_kind if getattr(record, own) == key), None)
        if found is None:
            found = f"new-{key}" if key in self.records else key
            shown = self._shown_of_product(fields) if kind == "OpportunityLineItem" else {}
            self.put(KINDS[kind](**{"id": found, own: key, **shown}))
        self._update_record(kind, found, fields)

    def _shown_of_product(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What a line that is made copies of its price book entry's product."""
        lines = (record for record in self.records.values() if isinstance(record, LineItem))
        entry = fields["PricebookEntryId"]
        of_entry = next((each for each in lines if each.pricebook_entry_id == entry), None) or next(
            each for each in self.listed if each.id == entry
        )
        copied = {name: getattr(of_entry, name) for name in ("product_id", "product_name", "product_family")}
        return {"opportunity_id": fields["OpportunityId"], "modified_at": self.now, **copied}

    def _update_record(self, kind: str, record_id: str, fields: dict[str, Any]) -> None:
        if record_id not in self.records:
            raise Refused(f"ENTITY_IS_DELETED {record_id}")
        names = next(names for names in self.rules.salesforce.values() if names.object == kind)
        if kind == "Contract" and fields.get("Status") == "Activated" and fields.keys() != {"Status"}:
            raise Refused("FAILED_ACTIVATION Status must be the only field that is updated")
        own = {api: name for name, api in names.fields.items()}
        shown = {api: (text(v) if isinstance(v, str) else v) for api, v in fields.items()}
        read_back = parse.record(KINDS[kind], names.fields, {**dict.fromkeys(names.fields.values()), **shown})
        self.edit(record_id, **{own[api]: getattr(read_back, own[api]) for api in fields})

    def _update_customer(self, customer_id: str, params: dict[str, Any]) -> None:
        known = self.customers.get(customer_id)
        if known is None or known.deleted:
            raise Refused(f"resource_missing {customer_id}")
        changed: dict[str, Any] = {}
        if "name" in params:
            changed["name"] = params["name"] or None
        if "address" in params:
            parts = params["address"] or {}
            changed |= {p: parts.get(p) or None for p in ("line1", "city", "state", "postal_code", "country")}
        if "metadata" in params:
            changed["account_id"] = params["metadata"].get("sf_account_id", known.account_id)
        self.customers[customer_id] = replace(known, **changed)

    def _update_subscription_item(self, item_id: str, params: dict[str, Any]) -> None:
        held = self.items[item_id]
        if "price" in params:
            others = [i for i in self.items.values() if i.subscription == held.subscription and i.id != item_id]
            if any(each.price == params["price"] for each in others):
                raise Refused("two items with the same price")
            held = replace(self._at_price(held, self.prices[params["price"]]), quantity=params.get("quantity", 1))
        if "metadata" in params:
            held = replace(held, line_ids=_lines(params["metadata"]))
        self.items[item_id] = replace(held, quantity=params.get("quantity", held.quantity))

    def _update_subscription(self, subscription_id: str, params: dict[str, Any]) -> None:
        if "cancel_at" in params:
            held, end = self.subscriptions[subscription_id], params["cancel_at"]
            self.subscriptions[subscription_id] = replace(held, cancel_at=int(end) * MICROS if end else None)
        for entry in params.get("items", ()):
            if entry.get("deleted"):
                del self.items[entry["id"]]
                continue
            if "id" in entry:
                self._update_subscription_item(entry["id"], entry)
                continue
            price = self.prices[entry["price"]]
            if any(i.price == price.id and i.subscription == subscription_id for i in self.items.values()):
                raise Refused("two items with the same price")
            self._add_item(subscription_id, price, entry)
        if not any(item.subscription == subscription_id for item in self.items.values()):
            raise Refused("a subscription needs an item")

    @staticmethod
    def _at_price(item: SubscriptionItem, price: Price) -> SubscriptionItem:
        assert price.interval is not None
        assert price.interval_count is not None
        return replace(
            item,
            price=price.id,
            product=price.product,
            currency=price.currency,
            interval=price.interval,
            interval_count=price.interval_count,
            unit_amount=price.unit_amount,
        )

    def _add_item(self, subscription_id: str, price: Price, entry: dict[str, Any]) -> None:
        if len(entry["metadata"]["sf_line_id"]) > 500:
            raise Refused("a metadata value has at most 500 characters")
        self._items_ever += 1
        made = SubscriptionItem(
            id=f"si_made{self._items_ever}",
            subscription=subscription_id,
            price=price.id,
            product=price.product,
            currency=price.currency,
            interval="",
            interval_count=0,
            usage_type="licensed",
            quantity=entry["quantity"],
            line_ids=_lines(entry["metadata"]),
            period_start=self.now,
            period_end=self.now + YEAR,
        )
        self.items[made.id] = self._at_price(made, price)

    def _create_customer(self, params: dict[str, Any]) -> None:
        made = Customer(
            id=f"cus_made{len(self.customers)}",
            name=params["name"],
            tax_ids=tuple(f"{t['type']}:{t['value']}" for t in params.get("tax_id_data", [])),
            tax_id_names=tuple(f"txi_made{len(self.customers)}" for _ in params.get("tax_id_data", [])),
            created_at=self.now,
            account_id=params["metadata"]["sf_account_id"],
            intent=params["metadata"]["sf_intent"],
            **{
                part: params.get("address", {}).get(part)
                for part in ("line1", "city", "state", "postal_code", "country")
            },
        )
        self.customers[made.id] = made
        self.links.append(Link("customer", slot_of_intent(params["metadata"]["sf_intent"]), made.id))

    def _create_tax_id(self, params: dict[str, Any]) -> None:
        customer = self.customers[params["owner"]["customer"]]
        pairs = [*zip(customer.tax_ids, customer.tax_id_names, strict=True)]
        self._tax_ids_ever += 1
        pairs.append((f"{params['type']}:{params['value']}", f"txi_later{self._tax_ids_ever}"))
        self._put_tax_ids(customer, pairs)

    def _delete_tax_id(self, tax_id: str) -> None:
        for customer in list(self.customers.values()):
            pairs = zip(customer.tax_ids, customer.tax_id_names, strict=True)
            self._put_tax_ids(customer, [pair for pair in pairs if pair[1] != tax_id])

    def _put_tax_ids(self, customer: Customer, pairs: list[tuple[str, str]]) -> None:
        values, names = (tuple(pair[part] for pair in sorted(pairs)) for part in (0, 1))
        self.customers[customer.id] = replace(customer, tax_ids=values, tax_id_names=names)

    def _create_product(self, params: dict[str, Any]) -> None:
        if params["id"] in self.products:
            raise Refused(f"resource_already_exists {params['id']}")
        self.products.add(params["id"])

    def _create_price(self, params: dict[str, Any]) -> None:
        if params["product"] not in self.products:
            raise Refused(f"resource_missing {params['product']}")
        if any(price.lookup_key == params["lookup_key"] for price in self.prices.values()):
            raise Refused(f"the lookup key {params['lookup_key']} is taken")
        made = Price(
            id=f"price_made{len(self.prices)}",
            product=params["product"],
            currency=params["currency"].upper(),
            lookup_key=params["lookup_key"],
            unit_amount=Decimal(params["unit_amount_decimal"]),
            interval=params["recurring"]["interval"],
            interval_count=params["recurring"]["interval_count"],
        )
        self.prices[made.id] = made

    def _create_subscription(self, params: dict[str, Any]) -> None:
        customer = self.customers.get(params["customer"])
        if customer is None or customer.deleted:
            raise Refused(f"resource_missing {params['customer']}")
        wanted = [self.prices[each["price"]] for each in params["items"]]
        if len({price.id for price in wanted}) != len(wanted):
            raise Refused("two items with the same price")
        others = {s.currency for s in self.subscriptions.values() if s.customer == customer.id and s.ended_at is None}
        if others | {price.currency for price in wanted} != {wanted[0].currency}:
            raise Refused("You cannot combine currencies on a single customer")
        number = len(self.subscriptions)
        metadata = params["metadata"]
        made = Subscription(
            id=f"sub_made{number}",
            customer=customer.id,
            status="active",
            currency=wanted[0].currency,
            created_at=self.now,
            start_at=params.get("backdate_start_date", self.now // MICROS) * MICROS,
            anchor_at=params.get("backdate_start_date", self.now // MICROS) * MICROS,
            collection_method=params["collection_method"],
            days_until_due=params.get("days_until_due"),
            account_id=metadata["sf_account_id"],
            opportunity_id=metadata["sf_opportunity_id"],
            intent=metadata["sf_intent"],
        )
        self.subscriptions[made.id] = made
        total = Decimal(0)
        for each, price in zip(params["items"], wanted, strict=True):
            assert price.unit_amount is not None
            total += price.unit_amount * each["quantity"]
            self._add_item(made.id, price, each)
        due = round(total)
        self.invoices[f"in_made{number}"] = Invoice(
            id=f"in_made{number}",
            customer=customer.id,
            status="open",
            currency=made.currency,
            created_at=self.now,
            total=due,
            amount_due=due,
            amount_paid=0,
            amount_remaining=due,
            subscription=made.id,
        )
        self.links.append(Link("subscription", metadata["sf_opportunity_id"], made.id))


def _lines(metadata: dict[str, str]) -> tuple[str, ...]:
    return tuple(sorted(filter(None, metadata["sf_line_id"].split(","))))
