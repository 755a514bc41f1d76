"""What holds for the whole sandbox whatever is done to it: facts/sandbox 4.4, where both systems, the clock or the
faults are part of it. What one system alone promises is a property in that system's folder.

Each property is a plain function of its history, so that `test_mutations` can run it on a broken sandbox.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.sandbox.request_log import RequestLog
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline.sandbox.stripe.webhooks import due
from sync_pipeline.sandbox.wire import Call, Reply
from sync_pipeline.sandbox.world import Sandbox, build
from sync_pipeline_tests.sandbox.calls import FORM
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox_process import TRAFFIC_FOLDER

DAY = 86_400
VERSION = "v66.0"
# What can happen to one attempt of a write before the client is told that it was done.
MISHAPS = ("drop_before", "drop_after", "truncate", "unavailable", "unavailable but done")
FEW = settings(max_examples=30)

Row = dict[str, Any]


@lru_cache
def recorded() -> RequestLog:
    """Where the calls of this process are written down for Stripe's contract, if this run records.

    Not in it: the events that a property reads from the store, and what people and seeds do at the `Desk`.
    """
    folder = os.environ.get(TRAFFIC_FOLDER)
    return RequestLog(Path(folder) / f"invariants-{os.getpid()}.jsonl" if folder else None)


def fresh(**how: Any) -> Sandbox:
    return build(log=recorded(), **how)


class Client:
    """Calls both systems in process; a list of mishaps befalls the next attempts of a write, one each."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def stripe(self, method: str, path: str, *, key: str | None = None, **params: Any) -> Row:
        """The answer, which must be a 200."""
        reply = self.once("stripe", self.stripe_call(method, path, key=key, **params))
        assert reply is not None
        assert reply.status == 200, reply.body
        found: Row = json.loads(reply.body)
        return found

    def stripe_call(self, method: str, path: str, *, key: str | None = None, **params: Any) -> Call:
        headers = {"authorization": f"Bearer {self.sandbox.stripe.secret_key}"} | FORM
        if key is not None:
            headers["idempotency-key"] = key
        text = urlencode(params)
        query, body = ("", text.encode()) if method == "POST" else (text, b"")
        return Call(method, f"/v1/{path}", query, headers, body)

    def salesforce(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The answer, which must be 2xx; None if it has no body."""
        reply = self.once("salesforce", self.salesforce_call(method, path, body, **query))
        assert reply is not None
        assert 200 <= reply.status < 300, reply.body
        return json.loads(reply.body) if reply.body else None

    def salesforce_call(self, method: str, path: str, body: Any = None, **query: str) -> Call:
        headers = {"authorization": f"Bearer {self.sandbox.salesforce.access_token}"}
        where = path if path.startswith("/") else f"/services/data/{VERSION}/{path}"
        raw = b"" if body is None else json.dumps(body).encode()
        return Call(method, where, urlencode(query), headers, raw)

    def once(self, side: str, call: Call) -> Reply | None:
        """The reply as far as the client can read it: None if it came not at all, or cut off."""
        answer = self.sandbox.exchange(side, call)
        return None if answer.cut else answer.reply

    def until_done(self, side: str, call: Call, mishaps: list[str]) -> Reply:
        """The reply to a write that is repeated, as it is, through these mishaps."""
        for mishap in mishaps:
            self.sandbox.faults.add([rule_for(mishap)])
            reply = self.once(side, call)
            assert reply is None or reply.status == 503, mishap
        done = self.once(side, call)
        assert done is not None
        return done


def rule_for(mishap: str) -> Row:
    if mishap.startswith("unavailable"):
        return {"kind": "http", "status": 503, "commit": mishap.endswith("done"), "times": 1}
    return {"kind": mishap, "times": 1}


Mishaps = st.lists(st.lists(st.sampled_from(MISHAPS), max_size=3), min_size=1, max_size=5)


def check_a_key_commits_once(histories: list[list[str]]) -> None:
    """Stripe: a create that is repeated with its idempotency key happened once, and each answer names that one."""
    client = Client(fresh(now=START))
    made = []
    for n, mishaps in enumerate(histories):
        call = client.stripe_call("POST", "customers", key=f"key {n}", name=f"Customer {n}")
        reply = client.until_done("stripe", call, mishaps)
        assert reply.status == 200, reply.body
        made.append(json.loads(reply.body)["id"])
    assert [c["id"] for c in client.stripe("GET", "customers", limit=100)["data"]] == made[::-1]
    created = client.stripe("GET", "events", type="customer.created", limit=100)["data"]
    assert [e["data"]["object"]["id"] for e in created] == made[::-1]


@FEW
@given(Mishaps)
def test_the_same_idempotency_key_never_commits_twice(histories: list[list[str]]) -> None:
    check_a_key_commits_once(histories)


def check_an_external_id_commits_once(histories: list[list[str]]) -> None:
    """Salesforce: an upsert that is repeated leaves one record, whichever attempt made it."""
    client = Client(fresh(now=START))
    for n, mishaps in enumerate(histories):
        path = f"sobjects/Account/Stripe_Customer_Id__c/cus_{n}"
        reply = client.until_done("salesforce", client.salesforce_call("PATCH", path, {"Name": f"A{n}"}), mishaps)
        committed = any(m in ("drop_after", "truncate", "unavailable but done") for m in mishaps)
        assert (reply.status, json.loads(reply.body)["created"]) == ((200, False) if committed else (201, True))
    found = client.salesforce("GET", "query", q="SELECT Stripe_Customer_Id__c FROM Account")
    counted = Counter(record["Stripe_Customer_Id__c"] for record in found["records"])
    assert counted == {f"cus_{n}": 1 for n in range(len(histories))}


@FEW
@given(Mishaps)
def test_the_same_external_id_never_commits_twice(histories: list[list[str]]) -> None:
    check_an_external_id_commits_once(histories)


# Lists of Stripe while rows are added


class Shelf:
    """A company that can be given one more row of any list."""

    def __init__(self, client: Client) -> None:
        self._post = post = partial(client.stripe, "POST")
        self.customer = post("customers", name="C", payment_method="pm_card_visa")["id"]
        method = client.stripe("GET", f"customers/{self.customer}/payment_methods")["data"][0]["id"]
        self._paid: Row = {"customer": self.customer, "payment_method": method, "amount": 500, "currency": "gbp"}
        product = post("products", name="P")["id"]
        each_month: Row = {"currency": "gbp", "unit_amount": 500, "recurring[interval]": "month"}
        price = post("prices", product=product, **each_month)["id"]
        item = {"customer": self.customer, "items[0][price]": price, "default_payment_method": method}
        self._made: dict[str, tuple[str, Row]] = {
            "customers": ("customers", {"name": "N"}),
            "products": ("products", {"name": "N"}),
            "prices": ("prices", {"product": product, "currency": "gbp", "unit_amount": 1}),
            "plans": ("prices", {"product": product, **each_month}),
            "coupons": ("coupons", {"percent_off": 5, "duration": "once"}),
            "tax_rates": ("tax_rates", {"display_name": "VAT", "percentage": 20, "inclusive": "false"}),
            "invoiceitems": ("invoiceitems", {"customer": self.customer, "amount": 5, "currency": "gbp"}),
            "invoices": ("invoices", {"customer": self.customer}),
            "subscriptions": ("subscriptions", item),
            "subscription_schedules": (
                "subscription_schedules",
                {"customer": self.customer, "start_date": START + DAY, "phases[0][items][0][price]": price},
            ),
            "setup_intents": ("setup_intents", {"customer": self.customer}),
            "payment_intents": ("payment_intents", self._paid),
            "charges": ("payment_intents", self._paid | {"confirm": "true", "off_session": "true"}),
            "events": ("customers", {"name": "N"}),
        }

    def add(self, kind: str) -> None:
        path, params = self._made[kind]
        self._post(path, **params)


LISTS = (
    "customers products prices plans coupons tax_rates invoiceitems invoices subscriptions subscription_schedules "
    "setup_intents payment_intents charges events"
).split()


def check_pages_lose_nothing(path: str, limit: int, inserts: list[int]) -> None:
    """Walking from either end by pages while rows are added shows each row of the start exactly once."""
    client = Client(fresh(now=START))
    shelf = Shelf(client)
    for _ in range(8):
        shelf.add(path)
    known = [row["id"] for row in client.stripe("GET", path, limit=100)["data"]]
    for cursor, expected in (("starting_after", known), ("ending_before", known[::-1])):
        seen: list[str] = [known[0] if cursor == "starting_after" else known[-1]]
        plan = iter(inserts)
        more = True
        while more:
            page = client.stripe("GET", path, limit=limit, **{cursor: seen[-1]})
            rows = [row["id"] for row in page["data"]]
            seen += rows if cursor == "starting_after" else rows[::-1]
            more = page["has_more"]
            for _ in range(next(plan, 0)):
                shelf.add(path)
        assert [id for id in seen if id in known] == expected
        assert len(seen) == len(set(seen))


@FEW
@given(
    path=st.sampled_from(LISTS),
    limit=st.integers(1, 5),
    inserts=st.lists(st.integers(0, 2), max_size=10),
)
def test_pages_of_stripe_lose_nothing(path: str, limit: int, inserts: list[int]) -> None:
    check_pages_lose_nothing(path, limit, inserts)


def check_a_query_is_of_its_moment(count: int, size: int, changes: list[str]) -> None:
    """The pages of a query show what it found when it was asked, whatever is written before they are fetched."""
    client = Client(fresh(now=START, salesforce_settings=SalesforceSettings(page_size=size)))
    known = [client.salesforce("POST", "sobjects/Account", {"Name": f"A{n:02}"})["id"] for n in range(count)]
    page = client.salesforce("GET", "query", q="SELECT Id, Name FROM Account ORDER BY Name")
    seen = list(page["records"])
    plan = iter(changes)
    while not page["done"]:
        change = next(plan, None)
        if change == "insert":
            client.salesforce("POST", "sobjects/Account", {"Name": "A00a"})
        elif change == "rename":
            client.salesforce("PATCH", f"sobjects/Account/{known[-1]}", {"Name": "A"})
        assert page["totalSize"] == count
        page = client.salesforce("GET", page["nextRecordsUrl"])
        seen += page["records"]
    assert [record["Id"] for record in seen] == known


@FEW
@given(
    count=st.integers(1, 12),
    size=st.integers(1, 5),
    changes=st.lists(st.sampled_from(["insert", "rename", "none"]), max_size=8),
)
def test_pages_of_salesforce_lose_nothing(count: int, size: int, changes: list[str]) -> None:
    check_a_query_is_of_its_moment(count, size, changes)


# The clock


def business() -> Client:
    """A new company with three subscriptions: one that is paid, one whose card will fail, one that is billed."""
    client = Client(fresh(now=START, seed=5))
    price = client.stripe(
        "POST",
        "prices",
        currency="gbp",
        unit_amount=1999,
        **{"recurring[interval]": "month", "product_data[name]": "S"},
    )["id"]
    for card, terms in (
        ("pm_card_visa", {}),
        ("pm_card_chargeCustomerFail", {"trial_period_days": 10}),
        ("pm_card_visa", {"collection_method": "send_invoice", "days_until_due": 14}),
    ):
        customer = client.stripe("POST", "customers", name=card, payment_method="pm_card_visa")["id"]
        method = client.stripe("POST", f"payment_methods/{card}/attach", customer=customer)["id"]
        default = {"invoice_settings[default_payment_method]": method}
        client.stripe("POST", f"customers/{customer}", **default)
        items = {"items[0][price]": price, "items[0][quantity]": 3}
        subscription = client.stripe("POST", "subscriptions", customer=customer, **items, **terms)
        item = subscription["items"]["data"][0]["id"]
        client.stripe("POST", f"subscription_items/{item}", quantity=5)
    return client


def events_of(sandbox: Sandbox) -> list[Row]:
    """What Stripe still lists, oldest first."""
    return [sandbox.stripe.world.render(row) for row in sandbox.stripe.world.store.table("event").values()]


def lived(moves: list[int], total: int) -> str:
    """Everything after `total` seconds of that business, reached by these moves."""
    sandbox = business().sandbox
    for move in moves:
        sandbox.advance(move)
    sandbox.move_to(START + total)
    return json.dumps([sandbox.truth(), events_of(sandbox)], sort_keys=True)


def check_moves_make_no_difference(moves: list[int]) -> None:
    """Not to one byte of objects or events: what is due is done at its own moment."""
    total = max(75 * DAY, sum(moves))
    assert lived(moves, total) == lived([], total)


@settings(max_examples=8)
@given(st.lists(st.sampled_from([1, 3600, DAY, 7 * DAY, 31 * DAY]), max_size=12))
def test_it_makes_no_difference_in_how_many_moves_time_passes(moves: list[int]) -> None:
    check_moves_make_no_difference(moves)


# What is announced


def before_of(event: Row) -> Row:
    """The object before an ``*.updated`` event, as a consumer works it out from the event alone."""
    return merged(event["data"]["object"], event["data"]["previous_attributes"])


def merged(now: Row, previous: Row) -> Row:
    """Nested hashes hold only what changed; everything else is there as a whole."""
    return now | {
        name: merged(now[name], value) if isinstance(value, dict) and isinstance(now.get(name), dict) else value
        for name, value in previous.items()
    }


def check_previous_attributes_chain() -> None:
    """What an update says was before is what the last event about that object showed."""
    sandbox = business().sandbox
    told: dict[str, Row] = {}
    seen: set[str] = set()
    undone: Counter[str] = Counter()
    for _ in range(6):
        sandbox.advance(20 * DAY)
        for event in [e for e in events_of(sandbox) if e["id"] not in seen]:
            seen.add(event["id"])
            shown = event["data"]["object"]
            previous = event["data"].get("previous_attributes")
            if previous is not None:
                known = told[shown["id"]]
                assert {name: before_of(event)[name] for name in previous} == {n: known.get(n) for n in previous}
                undone[event["type"]] += bool(previous)
            told[shown["id"]] = shown
    assert min(undone[f"{kind}.updated"] for kind in ("customer.subscription", "customer", "invoice")) >= 2


def test_previous_attributes_lead_back_to_what_was_told_before() -> None:
    """facts/stripe 4.2: a consumer can undo an update event by its previous_attributes."""
    check_previous_attributes_chain()


def check_each_attempt_is_signed_anew() -> None:
    """facts/stripe 4.1: the signature is of the attempt, with the time of the attempt, and the SDK accepts each."""
    client = Client(fresh(now=START))
    world = client.sandbox.stripe.world
    secret = str(client.sandbox.stripe.register_webhook("http://127.0.0.1:9/")["secret"])
    client.stripe("POST", "customers", name="Signed")
    for moment in (1_700_000_000, 1_700_000_060):
        (delivery,) = due(world, wall=lambda moment=moment: moment)  # type: ignore[misc]
        signature = delivery.headers["Stripe-Signature"]
        assert signature.startswith(f"t={moment},")
        stripe.WebhookSignature.verify_header(delivery.body.decode(), signature, secret)
        client.sandbox.stripe.record_delivery(delivery.id, 500)
        client.sandbox.advance(3600)


def test_each_attempt_is_signed_anew() -> None:
    check_each_attempt_is_signed_anew()


# Deals and their lines

Edits = st.lists(
    st.tuples(
        st.sampled_from(["add", "quantity", "price", "remove", "amount"]), st.integers(0, 5), st.integers(1, 9999)
    ),
    max_size=10,
)


def check_amount_is_the_sum_of_the_lines(edits: list[tuple[str, int, int]]) -> None:
    """An Opportunity with lines is worth their sum, whatever is written to it, and its stamp moves with them."""
    sandbox = fresh(now=START)
    client = Client(sandbox)
    product = client.salesforce("POST", "sobjects/Product2", {"Name": "Seat", "IsActive": True})["id"]
    book = client.salesforce("GET", "query", q="SELECT Id FROM Pricebook2 WHERE IsStandard = true")["records"][0]["Id"]
    entry = client.salesforce(
        "POST",
        "sobjects/PricebookEntry",
        {"Pricebook2Id": book, "Product2Id": product, "UnitPrice": 10, "IsActive": True},
    )["id"]
    deal = client.salesforce(
        "POST",
        "sobjects/Opportunity",
        {"Name": "D", "StageName": "Prospecting", "CloseDate": "2027-01-01", "Pricebook2Id": book, "Amount": 77},
    )["id"]
    lines: list[str] = []
    for kind, which, value in edits:
        stamp = client.salesforce("GET", f"sobjects/Opportunity/{deal}")["SystemModstamp"]
        sandbox.advance(1)
        at = lines[which % len(lines)] if lines else None
        if kind == "add":
            line = {"OpportunityId": deal, "PricebookEntryId": entry, "Quantity": which + 1, "UnitPrice": value / 100}
            lines.append(client.salesforce("POST", "sobjects/OpportunityLineItem", line)["id"])
        elif kind == "amount":
            client.salesforce("PATCH", f"sobjects/Opportunity/{deal}", {"Amount": value})
        elif at is None:
            continue
        elif kind == "remove":
            client.salesforce("DELETE", f"sobjects/OpportunityLineItem/{at}")
            lines.remove(at)
        else:
            change = {"Quantity": which + 1} if kind == "quantity" else {"UnitPrice": value / 100}
            client.salesforce("PATCH", f"sobjects/OpportunityLineItem/{at}", change)
        found = client.salesforce("GET", f"sobjects/Opportunity/{deal}")
        assert found["SystemModstamp"] > stamp, kind
        assert found["HasOpportunityLineItem"] is bool(lines)
        if lines:
            query = f"SELECT TotalPrice FROM OpportunityLineItem WHERE OpportunityId = '{deal}'"
            totals = [r["TotalPrice"] for r in client.salesforce("GET", "query", q=query)["records"]]
            assert found["Amount"] == pytest.approx(sum(totals), abs=0.005)


@FEW
@given(Edits)
def test_a_deal_with_lines_is_worth_their_sum(edits: list[tuple[str, int, int]]) -> None:
    check_amount_is_the_sum_of_the_lines(edits)


def check_collection_order(goods: list[bool]) -> None:
    """Results of a collection stand in the order of its records, failures in their places, and only the good stay."""
    client = Client(fresh(now=START))
    records = [
        {"attributes": {"type": "Account"}, **({"Name": f"A{n}"} if good else {})} for n, good in enumerate(goods)
    ]
    results = client.salesforce("POST", "composite/sobjects", {"allOrNone": False, "records": records})
    assert [result["success"] for result in results] == goods
    for n, result in enumerate(results):
        if result["success"]:
            assert client.salesforce("GET", f"sobjects/Account/{result['id']}")["Name"] == f"A{n}"
    assert client.salesforce("GET", "query", q="SELECT COUNT() FROM Account")["totalSize"] == sum(goods)


@FEW
@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_results_of_a_collection_stand_in_its_order(goods: list[bool]) -> None:
    check_collection_order(goods)
