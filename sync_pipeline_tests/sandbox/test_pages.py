"""The pages as a person uses them: in a headless browser, without JavaScript (issue B, pages)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from sync_pipeline_tests.sandbox import calls
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def story_process() -> Iterator[SandboxHandle]:
    with start_sandbox("--data", "story", "--now", str(START)) as handle:
        yield handle


@pytest.fixture
def story(story_process: SandboxHandle) -> SandboxHandle:
    """The £45,000 story at its start."""
    story_process.control("POST", "/reset", {})
    return story_process


@pytest.fixture
def page(browser: Browser, story: SandboxHandle) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=False, base_url=story.ready["control_url"])
    context.set_default_timeout(10_000)
    page = context.new_page()
    yield page
    context.close()


def open_account(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Northwind Analytics - Platform and seats").click()


def bill_the_deal(story: SandboxHandle) -> str:
    """What the pipeline would make of the deal: a customer with a subscription of three items; the customer's id."""
    account = calls.soql(story, "SELECT Id FROM Account")[0]["Id"]
    customer = calls.stripe(
        story, "POST", "/v1/customers",
        **{
            "name": "Northwind Analytics Ltd", "email": "accounts@northwind.example",
            "metadata[sf_account_id]": account, "payment_method": "pm_card_visa",
            "invoice_settings[default_payment_method]": "pm_card_visa",
            "tax_id_data[0][type]": "gb_vat", "tax_id_data[0][value]": "GB123456789",
        },
    ).json()  # fmt: skip
    items: dict[str, Any] = {}
    for n, (name, pence, quantity) in enumerate(
        [("Analytics Platform", 3_000_000, 1), ("Analyst Seat", 60_000, 20), ("Viewer Seat", 20_000, 15)]
    ):
        product = calls.stripe(story, "POST", "/v1/products", name=name).json()["id"]
        price = calls.stripe(
            story, "POST", "/v1/prices",
            **{"product": product, "currency": "gbp", "unit_amount": pence, "recurring[interval]": "year"},
        ).json()["id"]  # fmt: skip
        items |= {f"items[{n}][price]": price, f"items[{n}][quantity]": quantity}
    subscription = calls.stripe(story, "POST", "/v1/subscriptions", customer=customer["id"], **items).json()
    assert subscription["status"] == "active", subscription
    edit = {"system": "salesforce", "object": "Account", "id": account}
    story.control("POST", "/humans", edit | {"fields": {"Stripe_Customer_Id__c": customer["id"]}})
    return str(customer["id"])


def test_the_overview_shows_the_deal_at_its_amount(page: Page) -> None:
    page.goto("/")
    row = page.get_by_role("row").filter(has_text="Northwind Analytics - Platform and seats")
    expect(row).to_contain_text("Negotiation/Review")
    expect(row).to_contain_text("£45,000.00")


def test_the_account_page_shows_the_lines_and_that_stripe_knows_nothing_yet(page: Page) -> None:
    open_account(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Northwind Analytics Ltd")
    expect(page.get_by_text("14 Fleet Street, London, EC4Y 1AA, United Kingdom")).to_be_visible()
    for name, total in [
        ("Analytics Platform", "£30,000.00"),
        ("Analyst Seat", "£12,000.00"),
        ("Viewer Seat", "£3,000.00"),
    ]:
        expect(page.get_by_role("row").filter(has_text=name)).to_contain_text(total)
    expect(page.get_by_text("Stripe does not know this account yet.")).to_be_visible()


def test_a_person_closes_the_deal_as_won(page: Page, story: SandboxHandle) -> None:
    open_account(page)
    page.get_by_role("button", name="Close as won").click()
    expect(page.get_by_role("status")).to_have_text("Closed as won.")
    expect(page.get_by_role("button", name="Close as won")).to_have_count(0)
    assert calls.soql(story, "SELECT StageName, IsWon FROM Opportunity")[0]["IsWon"] is True


def test_a_person_moves_the_clock(page: Page, story: SandboxHandle) -> None:
    page.goto("/")
    page.get_by_role("button", name="+4 days").click()
    assert story.control("GET", "/clock")["now"] == START + 4 * 86_400
    expect(page.locator("time")).to_contain_text("UTC")


def test_a_person_changes_seats_on_the_opportunity(page: Page, story: SandboxHandle) -> None:
    open_account(page)
    quantity = page.get_by_label("Quantity of Analyst Seat")
    quantity.fill("25")
    quantity.locator("xpath=..").get_by_role("button").click()
    (line,) = calls.soql(
        story, "SELECT Quantity, UnitPrice FROM OpportunityLineItem WHERE Product2.Name = 'Analyst Seat'"
    )
    assert (line["Quantity"], line["UnitPrice"]) == (25, 600)
    assert calls.soql(story, "SELECT Amount FROM Opportunity")[0]["Amount"] == 48_000


def test_a_person_edits_a_field_and_is_told_why_it_was_refused(page: Page, story: SandboxHandle) -> None:
    open_account(page)
    name = page.get_by_label("Name", exact=True)
    name.fill("Northwind Group Ltd")
    name.locator("xpath=..").get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Northwind Group Ltd")
    name = page.get_by_label("Name", exact=True)
    name.fill("")
    name.locator("xpath=..").get_by_role("button").click()
    expect(page.get_by_role("status")).to_contain_text("Refused: Required fields are missing: [Name]")
    expect(page.get_by_role("heading", level=1)).to_have_text("Northwind Group Ltd")


def test_both_systems_stand_side_by_side_on_the_account_page(page: Page, story: SandboxHandle) -> None:
    bill_the_deal(story)
    open_account(page)
    left, right = page.locator(".side.salesforce"), page.locator(".side.stripe")
    expect(left).to_contain_text("£45,000.00")
    expect(right).to_contain_text("GB123456789")
    expect(right.get_by_role("row").filter(has_text="Analyst Seat")).to_contain_text("£600.00")
    expect(right.get_by_role("row").filter(has_text=re.compile("paid"))).to_contain_text("£45,000.00")
    boxes = left.bounding_box(), right.bounding_box()
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]


def test_the_packages_own_records_are_shown_with_the_account(page: Page, story: SandboxHandle) -> None:
    account = calls.soql(story, "SELECT Id FROM Account")[0]["Id"]
    fields = {"Account__c": account, "Key__c": "in_1:attempt:1"}
    story.control("POST", "/humans", {"system": "salesforce", "object": "Stripe_Payment_Attempt__c", "fields": fields})
    open_account(page)
    expect(page.get_by_role("definition").filter(has_text="in_1:attempt:1")).to_be_visible()


def test_billing_churn_and_tasks_stand_on_the_account_page(page: Page, story: SandboxHandle) -> None:
    account = calls.soql(story, "SELECT Id FROM Account")[0]["Id"]
    owner = calls.soql(story, "SELECT Id, Name FROM User WHERE Title = 'Customer Success Manager'")[0]

    def written(kind: str, record: str | None = None, **fields: Any) -> None:
        edit = {"system": "salesforce", "object": kind, "fields": fields} | ({"id": record} if record else {})
        story.control("POST", "/humans", edit)

    billing: dict[str, Any] = {
        "Stripe_Customer_Id__c": "cus_of_the_page",
        "Billing_Status__c": "Past Due",
        "Billing_Plan__c": "Analytics Platform",
        "Seats__c": 35,
        "MRR__c": 3750,
        "MRR_At_Risk__c": 3750.5,
        "Lifetime_Value__c": 45_000,
        "Retention_Status__c": "At Risk",
    }
    written("Account", account, **billing)
    churn: dict[str, Any] = {
        "Episode_Key__c": "sub_1:1",
        "Status__c": "Open",
        "Lost_MRR__c": 1250,
        "Reason__c": "too dear",
    }
    written("Churn_Record__c", Account__c=account, **churn)
    told = {"Subject": "Payment failed: GBP 45,000.00", "Description": "Attempt 1 failed: the card was declined."}
    written("Task", WhatId=account, OwnerId=owner["Id"], ActivityDate="2026-11-20", **told)
    open_account(page)
    shown = page.locator(".card").filter(has_text="Billing, as the sync keeps it")
    for label, value in [
        ("Lifetime value", "£45,000.00"),
        ("MRR", "£3,750.00"),
        ("MRR at risk", "£3,750.50"),
        ("Plan", "Analytics Platform"),
        ("Seats", "35"),
        ("Retention", "At Risk"),
        ("Stripe customer", "cus_of_the_page"),
    ]:
        term = shown.locator("dt", has_text=re.compile(f"^{label}$"))
        expect(term.locator("xpath=following-sibling::dd[1]")).to_have_text(value)
    expect(shown).to_contain_text("Past Due")
    record = page.locator(".card").filter(has_text="sub_1:1")
    for label, value in [("Status", "Open"), ("Lost MRR", "1,250"), ("Reason", "too dear")]:
        term = record.locator("dt", has_text=re.compile(f"^{label}$"))
        expect(term.locator("xpath=following-sibling::dd[1]")).to_have_text(value)
    for where in (None, "/tasks"):
        if where:
            page.goto(where)
        row = page.get_by_role("row").filter(has_text="Payment failed: GBP 45,000.00")
        for text in (told["Description"], owner["Name"], "Not Started"):
            expect(row).to_contain_text(text)


def test_nothing_stands_out_of_its_card(page: Page, story: SandboxHandle) -> None:
    """What people look at during the demo: no column is cut off on a laptop (on a telephone, cards scroll)."""
    customer = bill_the_deal(story)
    account = calls.soql(story, "SELECT Id FROM Account")[0]["Id"]
    deal = {"Account__c": account, "Episode_Key__c": "sub_1:1", "Status__c": "Open", "Comment__c": "word " * 40}
    story.control("POST", "/humans", {"system": "salesforce", "object": "Churn_Record__c", "fields": deal})
    page.set_viewport_size({"width": 1280, "height": 900})
    for path in ("/", f"/accounts/{account}", f"/customers/{customer}", "/deals", "/invoices", "/events"):
        page.goto(path)
        over = page.locator(".card").evaluate_all("cards => cards.filter(c => c.scrollWidth > c.clientWidth).length")
        assert (path, over) == (path, 0)


def test_a_person_makes_the_next_payment_fail(page: Page, story: SandboxHandle) -> None:
    customer = bill_the_deal(story)
    page.goto(f"/customers/{customer}")
    page.get_by_role("button", name="Next payment fails").click()
    expect(page.get_by_role("status")).to_have_text("The customer's next payment will fail.")
    story.control("POST", "/clock", {"advance_seconds": 366 * 86_400})
    page.reload()
    expect(page.locator(".side.stripe")).to_contain_text("past due")


def test_a_person_changes_seats_and_cancels_in_stripe(page: Page, story: SandboxHandle) -> None:
    customer = bill_the_deal(story)
    page.goto(f"/customers/{customer}")
    seats = page.get_by_label("Quantity of Viewer Seat in Stripe")
    seats.fill("30")
    seats.locator("xpath=..").get_by_role("button").click()
    expect(page.get_by_label("Quantity of Viewer Seat in Stripe")).to_have_value("30")
    expect(page.get_by_role("status")).to_have_text("Quantity changed in Stripe.")
    page.get_by_role("button", name="Cancel at period end").click()
    expect(page.get_by_text("cancel scheduled")).to_be_visible()
    page.get_by_role("button", name="Cancel now").click()
    expect(page.get_by_role("status")).to_have_text("The subscription is canceled.")
    expect(page.get_by_role("button", name="Cancel now")).to_have_count(0)


def test_a_person_reads_an_invoice_and_pays_it(page: Page, story: SandboxHandle) -> None:
    """More seats are billed by prorated lines; a declined charge is told with its reason, a transfer pays."""
    customer = bill_the_deal(story)
    subscription = calls.stripe(story, "GET", "/v1/subscriptions", customer=customer).json()["data"][0]
    seats = subscription["items"]["data"][2]
    story.control("POST", "/payments", {"customer": customer, "outcome": "fail"})
    calls.stripe(
        story, "POST", f"/v1/subscription_items/{seats['id']}", quantity=30, proration_behavior="always_invoice"
    )
    page.goto(f"/customers/{customer}")
    expect(page.get_by_text("invoice.payment_failed")).to_be_visible()
    page.locator("a[href^='/invoices/']").first.click()
    lines = page.locator(".side.stripe")
    expect(lines).to_contain_text("Remaining time on 30 × Viewer Seat")
    expect(lines).to_contain_text("-£3,000.00")  # 15 seats at £200, at the start of their year
    expect(lines).to_contain_text("£6,000.00")
    expect(lines).to_contain_text("Your card was declined.")
    page.get_by_role("button", name="Paid by transfer").click()
    expect(page.get_by_role("status")).to_have_text("The invoice is paid.")
    expect(page.get_by_role("button", name="Paid by transfer")).to_have_count(0)


@pytest.mark.parametrize(
    ("path", "heading", "text"),
    [
        ("/accounts", "Accounts", "Northwind Analytics Ltd"),
        ("/accounts?name=nobody", "Accounts", "No accounts."),
        ("/deals", "Deals", "Negotiation/Review"),
        ("/tasks", "Tasks", "No tasks."),
        ("/customers", "Customers", "Northwind Analytics Ltd"),
        ("/invoices", "Invoices", "£45,000.00"),
        ("/events", "Events", "customer.subscription.created"),
        ("/traffic", "Traffic", "POST /v1/subscriptions"),
    ],
)
def test_every_page_shows_what_it_is_for(page: Page, story: SandboxHandle, path: str, heading: str, text: str) -> None:
    bill_the_deal(story)
    page.goto(path)
    expect(page.get_by_role("heading", level=1)).to_have_text(heading)
    expect(page.locator("main")).to_contain_text(text)


@pytest.mark.parametrize("path", ["/accounts/001000000000000AAA", "/customers/cus_none", "/invoices/in_none"])
def test_what_is_not_there_is_said_plainly(page: Page, path: str) -> None:
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("heading", level=1)).to_have_text("Not found")


def test_looking_at_the_pages_is_not_traffic(page: Page, story: SandboxHandle) -> None:
    for path in ("/", "/accounts", "/customers", "/invoices"):
        page.goto(path)
    assert story.control("GET", "/requests")["counts"] == {}


def test_text_from_the_systems_is_never_markup(page: Page, story: SandboxHandle) -> None:
    edit = {"system": "salesforce", "object": "Account", "fields": {"Name": "<b id=x>&amp; Sons</b>"}}
    story.control("POST", "/humans", edit)
    page.goto("/accounts")
    expect(page.get_by_role("link", name="<b id=x>&amp; Sons</b>")).to_be_visible()
    assert page.locator("#x").count() == 0


def test_a_form_leads_only_back_to_a_page_of_the_sandbox(page: Page, story: SandboxHandle) -> None:
    answer = page.request.post("/act/clock", form={"back": "//elsewhere.example/x", "seconds": "1"}, max_redirects=0)
    assert answer.status == 303
    assert answer.headers["location"].startswith("/?said=")
