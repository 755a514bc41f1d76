"""The Stripe adapter: reads that return records, writes that return outcomes.

Retries do not happen here: the outbox is the one layer that retries, with a key that it has written down. The
clock of Stripe's objects is seconds; everything handed out is microseconds UTC.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import requests
import stripe

from sync_pipeline.core.money import Money
from sync_pipeline.core.observation import Absent, Observation, Present
from sync_pipeline.core.stripe_records import Coupon, Customer, Discount
from sync_pipeline.core.tax_types import compact
from sync_pipeline.core.world import Billing, Catalogue
from sync_pipeline.systems.outcomes import Burden, DeadlinePassed, Gate, Guard, NotNow, OpenGate, Outcome, ReadFailed
from sync_pipeline.systems.stripe import parse
from sync_pipeline.systems.stripe.errors import burden_of, outcome_of, plain, read_failure
from sync_pipeline.systems.stripe.holdings import LISTS, together
from sync_pipeline.systems.wire import CONNECT_AND_READ_SECONDS, Wire, guarded, new_session

API_VERSION = "2026-10-28.endive"
PAGE = 100
LOOKUP_KEYS_PER_CALL = 10
SEARCH_LAG_SECONDS = 3600

SYSTEM = "stripe"
ACTIONS = ("search", "create_preview")

PATHS = {
    "customer": "/v1/customers",
    "tax_id": "/v1/tax_ids",
    "product": "/v1/products",
    "price": "/v1/prices",
    "coupon": "/v1/coupons",
    "subscription": "/v1/subscriptions",
    "subscription_item": "/v1/subscription_items",
    "subscription_schedule": "/v1/subscription_schedules",
    "invoiceitem": "/v1/invoiceitems",
}


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """An address that Stripe sends events to; `api_version` None: they have the shapes of the account's own version."""

    id: str
    url: str
    enabled: bool
    api_version: str | None
    events: frozenset[str]


class Stripe:
    """One Stripe account. `base_url` is set for the sandbox only, `transport` where no network is between.

    `write_calls` are part of `calls`.
    """

    def __init__(
        self, api_key: str, *, base_url: str | None = None, transport: requests.adapters.BaseAdapter | None = None
    ) -> None:
        stripe.enable_telemetry = False
        addresses: Any = {"api": base_url.rstrip("/")} if base_url else {}
        self._client = stripe.StripeClient(
            api_key,
            base_addresses=addresses,
            stripe_version=API_VERSION,
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=CONNECT_AND_READ_SECONDS, session=_session(transport)),
        )
        self.gate: Gate = OpenGate()
        self.calls = 0
        self.write_calls = 0
        self._counting = threading.Lock()
        self._coupons: dict[str, Mapping[str, Any]] = {}

    def account_id(self) -> str:
        return str(self._get("/v1/account")["id"])

    def webhook_endpoints(self) -> list[WebhookEndpoint]:
        """Where Stripe sends events to. Raises ReadFailed, too where the key may not list them."""
        return [
            WebhookEndpoint(
                id=raw["id"],
                url=raw["url"],
                enabled=raw["status"] == "enabled",
                api_version=raw["api_version"],
                events=frozenset(raw["enabled_events"]),
            )
            for raw in self.pages("/v1/webhook_endpoints")
        ]

    def customer(self, customer_id: str) -> Observation[Customer]:
        """A customer by id: a strongly consistent read, so a 404 is proof of absence."""
        try:
            raw = self._get(f"/v1/customers/{customer_id}", expand=["tax_ids"])
        except _Missing:
            return Absent(f"404 for {customer_id}")
        return Present(parse.customer(raw))

    def payer(self, charge_id: str) -> str | None:
        """The customer of a charge; None where it has none, or there is no such charge. Raises ReadFailed."""
        try:
            return parse.id_of(self._get(f"/v1/charges/{charge_id}").get("customer"))
        except _Missing:
            return None

    def customers_like(self, account_id: str, name: str, now: int) -> list[Customer]:
        """Customers that may belong to an Account: found by our metadata or by name.

        Search lags up to an hour behind, so the strongly consistent list of the last hour is read as well.
        `now` is microseconds UTC.
        """
        queries = [f"metadata['sf_account_id']:'{account_id}'", f"name:{_quoted(name)}"]
        found: dict[str, Mapping[str, Any]] = {}
        for query in queries:
            for raw in self._search("/v1/customers/search", query):
                found[raw["id"]] = raw
        since = now // 1_000_000 - SEARCH_LAG_SECONDS
        for raw in self.pages("/v1/customers", created={"gte": since}, expand=["data.tax_ids"]):
            found[raw["id"]] = raw
        wanted = name.strip().casefold()

        def is_like(raw: Mapping[str, Any]) -> bool:
            # Asked before the rest is read: whatever shape the others have is no matter of this Account.
            metadata, named = raw.get("metadata"), raw.get("name")
            is_ours = isinstance(metadata, Mapping) and metadata.get("sf_account_id") == account_id
            return is_ours or (isinstance(named, str) and named.strip().casefold() == wanted)

        return sorted((parse.customer(raw) for raw in found.values() if is_like(raw)), key=lambda c: c.id)

    def find_created(self, kind: str, params: Mapping[str, Any], *, since: int) -> str | None:
        """The id of the object that a create with these params made, if it made one.

        The way to resolve a create whose outcome is not known: lists and reads by id are strongly consistent,
        search is not. `since` (microseconds UTC) is when the create was first sent.
        """
        if kind == "product":
            return next(iter(self.catalogue([params["id"]], []).products), None)
        if kind == "price":
            found = self.catalogue([], [params["lookup_key"]]).prices.get(params["lookup_key"])
            return found.id if found else None
        if kind == "coupon":
            return next(iter(self.catalogue([], [], [params["id"]]).coupons), None)
        if kind == "tax_id":
            listed = self.pages(f"/v1/customers/{params['owner']['customer']}/tax_ids")
            wanted = (params["type"], compact(params["value"]))
            return next((str(raw["id"]) for raw in listed if (raw["type"], compact(raw["value"])) == wanted), None)
        window = {"gte": since // 1_000_000 - 60}
        extra: dict[str, Any] = {"status": "all"} if kind == "subscription" else {}
        for raw in self.pages(PATHS[kind], created=window, **extra):
            if (raw.get("metadata") or {}).get("sf_intent") == params["metadata"]["sf_intent"]:
                return str(raw["id"])
        return None

    def billing(self, customer_id: str) -> Billing:
        """Everything that Stripe holds for a customer, ended subscriptions included."""
        of = {name: list(self.pages(each.path, customer=customer_id, **each.params)) for name, each in LISTS.items()}
        disputed = [raw["id"] for raw in of["charges"] if raw["disputed"]]
        credited = [raw["id"] for raw in of["invoices"] if raw["post_payment_credit_notes_amount"]]
        held = together(LISTS[name].part(raw, self) for name, raws in of.items() for raw in raws)
        return replace(
            held,
            disputes=tuple(
                parse.dispute(raw, customer_id)
                for charge in disputed
                for raw in self.pages("/v1/disputes", charge=charge)
            ),
            credit_notes=tuple(
                parse.credit_note(raw)
                for invoice in credited
                for raw in self.pages("/v1/credit_notes", invoice=invoice)
            ),
        )

    def catalogue(self, products: Iterable[str], lookup_keys: Iterable[str], coupons: Iterable[str] = ()) -> Catalogue:
        """Which of the products and coupons exist, and the prices behind the lookup keys, archived ones included."""
        keys = sorted(lookup_keys)
        prices = {}
        for start in range(0, len(keys), LOOKUP_KEYS_PER_CALL):
            chunk = keys[start : start + LOOKUP_KEYS_PER_CALL]
            for raw in self.pages("/v1/prices", lookup_keys=chunk):
                record = parse.price(raw)
                if record.lookup_key:
                    prices[record.lookup_key] = record
        known = {coupon: self._coupon(coupon) for coupon in sorted(coupons)}
        return Catalogue(
            frozenset(self.product_names(products)), prices, {each: found for each, found in known.items() if found}
        )

    def charged_lines(self, customers: Iterable[str]) -> dict[str, str]:
        """The invoice items of customers, invoiced or not, by the Salesforce lines that they name."""
        items = (raw for each in sorted(customers) for raw in self.pages("/v1/invoiceitems", customer=each))
        return {line: str(raw["id"]) for raw in items for line in parse.line_ids(raw)}

    def product_names(self, products: Iterable[str]) -> dict[str, str]:
        """What products are called, by id, archived ones included; those that do not exist are not there."""
        wanted = sorted(products)
        return {
            str(raw["id"]): str(raw["name"])
            for start in range(0, len(wanted), PAGE)
            for raw in self.pages("/v1/products", ids=wanted[start : start + PAGE])
        }

    def _coupon(self, coupon_id: str) -> Coupon | None:
        """A coupon by id; there is no list of some ids."""
        try:
            return parse.coupon(self._get(f"/v1/coupons/{coupon_id}"))
        except _Missing:
            return None

    def discounts(
        self, subscriptions: Iterable[Mapping[str, Any]], coupon_of: Callable[[str], Mapping[str, Any] | None]
    ) -> Iterator[Discount]:
        """The discounts of subscriptions and of their items. To what a coupon is limited lies too deep to be expanded
        with them, and so do the coupons of items: `coupon_of` reads them."""
        for raw in subscriptions:
            owners = [(None, raw), *((item["id"], item) for item in self.whole(raw["items"]))]
            for item_id, owner in owners:
                for position, each in enumerate(owner["discounts"]):
                    if isinstance(each, Mapping):
                        name = str(parse.id_of(each["source"]["coupon"]))
                        yield parse.discount(each, coupon_of(name) or {}, raw["id"], item_id, position)

    def discounts_in_full(self, subscription: Mapping[str, Any]) -> Iterator[Discount]:
        """The discounts of a subscription and its items, with coupons that are read by themselves."""
        return self.discounts([subscription], self._coupon_in_full)

    def _coupon_in_full(self, coupon_id: str) -> Mapping[str, Any] | None:
        """A coupon with what it is limited to. Its terms never change, so it is read once; None where it is gone."""
        if coupon_id not in self._coupons:
            try:
                self._coupons[coupon_id] = self._get(f"/v1/coupons/{coupon_id}", expand=["applies_to"])
            except _Missing:
                return None
        return self._coupons[coupon_id]

    def events_since(self, since: int) -> Iterator[Mapping[str, Any]]:
        """Events created since a moment (microseconds UTC), newest first; Stripe keeps 30 days."""
        return self.pages("/v1/events", created={"gte": since // 1_000_000})

    def preview(self, params: Mapping[str, Any]) -> Money:
        """What the invoice that these params describe would come to, taxes included (POST /v1/invoices/create_preview).

        A read: nothing is kept at Stripe. Raises ReadFailed, also for params that Stripe refuses.
        """
        raw = self._ask("post", "/v1/invoices/create_preview", **params)
        return Money(raw["total"], raw["currency"].upper())

    def create(self, kind: str, params: Mapping[str, Any], *, key: str, guard: Guard) -> Outcome:
        """Create one object. `guard` is asked right before bytes leave."""
        return self._write(PATHS[kind], params, key=key, guard=guard)

    def update(
        self,
        kind: str,
        object_id: str,
        params: Mapping[str, Any],
        *,
        key: str,
        guard: Guard,
        subscription: str | None = None,
    ) -> Outcome:
        """Change one object; `subscription` is what it is a part of, whose own limits it counts towards."""
        of = object_id if kind == "subscription" else subscription
        burdens = () if of is None else burdens_on(of, params)
        return self._write(f"{PATHS[kind]}/{object_id}", params, key=key, guard=guard, burdens=burdens)

    def delete(self, kind: str, object_id: str, *, guard: Guard) -> Outcome:
        """Delete one object. It needs no key: what is gone already is answered as such."""
        return self._write(f"{PATHS[kind]}/{object_id}", {}, method="delete", guard=guard)

    def pages(self, path: str, **params: Any) -> Iterator[Mapping[str, Any]]:
        """Every object of a list, newest first, page by page. Objects created meanwhile are not promised."""
        cursor: dict[str, Any] | None = {}
        while cursor is not None:
            page = self.page(path, **params, **cursor)
            yield from page["data"]
            cursor = after(page)

    def page(self, path: str, **params: Any) -> Mapping[str, Any]:
        """One page of a list, in one call."""
        return self._get(path, limit=PAGE, **params)

    def whole(self, embedded: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """All of a list that came embedded in an object, which shows only its beginning."""
        yield from embedded["data"]
        if embedded["has_more"] and embedded["data"]:
            path, _, query = embedded["url"].partition("?")
            own = dict(pair.split("=", 1) for pair in query.split("&") if pair)
            rest = self._get(path, limit=PAGE, starting_after=embedded["data"][-1]["id"], **own)
            yield from self.whole({**rest, "url": embedded["url"]})

    def _search(self, path: str, query: str) -> Iterator[Mapping[str, Any]]:
        page: dict[str, Any] = {}
        while True:
            answer = self._get(path, query=query, limit=PAGE, expand=["data.tax_ids"], **page)
            yield from answer["data"]
            if not answer["has_more"]:
                return
            page = {"page": answer["next_page"]}

    def _get(self, path: str, **params: Any) -> Mapping[str, Any]:
        return self._ask("get", path, **params)

    def _ask(self, method: Literal["get", "post"], path: str, **params: Any) -> Mapping[str, Any]:
        operation = operation_of(method.upper(), path)
        try:
            self.gate.before(SYSTEM, operation)
        except NotNow as error:
            raise ReadFailed("Stripe", str(error)) from None
        self._count()
        try:
            answer: Mapping[str, Any] = self._client.raw_request(method, path, **params).data
        except stripe.StripeError as error:
            self._tell_gate(operation, error)
            if error.http_status == 404 and error.code == "resource_missing":
                raise _Missing("Stripe", f"{path} does not exist") from None
            raise read_failure(error) from None
        self.gate.worked(SYSTEM, operation)
        return answer

    def _write(
        self,
        path: str,
        params: Mapping[str, Any],
        *,
        guard: Guard,
        key: str | None = None,
        method: Literal["post", "delete"] = "post",
        burdens: Sequence[Burden] = (),
    ) -> Outcome:
        operation = operation_of(method.upper(), path)
        try:
            self.gate.before(SYSTEM, operation, burdens)
        except NotNow as error:
            return Outcome("throttled", message=str(error))
        keyed = {} if key is None else {"idempotency_key": key}
        try:
            with guarded(guard):
                self._count(writes=1)
                response = self._client.raw_request(method, path, **keyed, **params)
        except stripe.StripeError as error:
            if isinstance(error.__cause__, DeadlinePassed):
                raise error.__cause__ from None
            self._tell_gate(operation, error)
            return outcome_of(error)
        self.gate.worked(SYSTEM, operation)
        return Outcome("done", object_id=response.data["id"], http_status=response.code, request_id=response.request_id)

    def _count(self, writes: int = 0) -> None:
        with self._counting:
            self.calls += 1
            self.write_calls += writes

    def _tell_gate(self, operation: str, error: stripe.StripeError) -> None:
        match burden_of(error):
            case "failed":
                self.gate.failed(SYSTEM, operation, plain(error))
            case "throttled":
                self.gate.throttled(SYSTEM, operation)
            case "worked":
                self.gate.worked(SYSTEM, operation)


def _session(transport: requests.adapters.BaseAdapter | None) -> requests.Session:
    """One for all threads; where no network is between, no proxy of the environment is either."""
    session = new_session(transport or Wire())
    session.trust_env = transport is None
    return session


class _Missing(ReadFailed):
    """The object does not exist at Stripe: its own answer, not a page of something in between."""


def burdens_on(subscription: str, params: Mapping[str, Any]) -> list[Burden]:
    """What an update of a subscription, or of one of its items, counts as towards the subscription's limits."""
    quantities = sum("quantity" in each for each in (params, *params.get("items", ())))
    burdens = [Burden(subscription, "quantity", quantities)] if quantities else []
    if params.get("proration_behavior") == "always_invoice":
        burdens.append(Burden(subscription, "invoice"))
    return burdens


def after(page: Mapping[str, Any]) -> dict[str, Any] | None:
    """What asks for the page after one; None after the last."""
    return {"starting_after": page["data"][-1]["id"]} if page["has_more"] and page["data"] else None


def operation_of(method: str, path: str) -> str:
    """The endpoint that a call belongs to, as Stripe's limits count: whatever the id."""
    parts = path.split("/")
    if len(parts) > 3 and parts[3] not in ACTIONS:
        parts[3] = ":id"
    return f"{method} {'/'.join(parts)}"


def _quoted(value: str) -> str:
    """A search literal (docs.stripe.com/search): double quotes, with quotes and backslashes escaped."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
