"""SOQL: shapes, paging, null and case rules, errors with positions (facts: salesforce.md 2.3, 5)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from simple_salesforce.exceptions import SalesforceMalformedRequest

from sync_pipeline_tests.sandbox.salesforce.served import BASE, START, Org, bare, errors


@pytest.fixture
def company(org: Org) -> Org:
    return fill(org)


def fill(org: Org) -> Org:
    """Three accounts, one nested below another, and four deals."""
    acme = org.person("Account", Name="Acme", Industry="Technology", AnnualRevenue=100, Stripe_Customer_Id__c="cus_A")
    beta = org.person(
        "Account", Name="beta", Industry="Banking", AnnualRevenue=50, ParentId=acme, Stripe_Customer_Id__c="cus_a"
    )
    org.person("Account", Name="Ce_ta%")
    for name, account, amount, closes in (
        ("one", acme, 10, "2026-09-20"),
        ("two", acme, None, "2026-09-21"),
        ("three", beta, 30.5, "2026-10-02"),
    ):
        org.person(
            "Opportunity", Name=name, AccountId=account, Amount=amount, StageName="Prospecting", CloseDate=closes
        )
    org.person("Opportunity", Name="alone", StageName="Closed Won", CloseDate="2025-01-01", Amount=7)
    return org


def names(org: Org, where: str, source: str = "Account", order: str = "Id") -> list[str]:
    return [r["Name"] for r in org.query(f"SELECT Name FROM {source} WHERE {where} ORDER BY {order}")]


def refused(org: Org, soql: str) -> tuple[str, str]:
    with pytest.raises(SalesforceMalformedRequest) as caught:
        org.sf.query(soql)
    error = errors(caught.value)[0]
    return error["errorCode"], error["message"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("Name = 'ACME'", ["Acme"]),
        ("Name LIKE 'a%'", ["Acme"]),
        ("Name LIKE '%E_a'", ["beta"]),
        (r"Name LIKE '%\_ta\%'", ["Ce_ta%"]),
        ("Industry = null", ["Ce_ta%"]),
        ("Industry != null", ["Acme", "beta"]),
        ("Industry != 'Banking'", ["Acme", "Ce_ta%"]),
        ("NOT Industry = 'Banking'", ["Acme", "Ce_ta%"]),
        ("AnnualRevenue > 50", ["Acme"]),
        ("AnnualRevenue <= 50", ["beta"]),
        ("Name IN ('acme', 'BETA')", ["Acme", "beta"]),
        ("Name NOT IN ('acme')", ["beta", "Ce_ta%"]),
        ("Industry IN (null, 'banking')", ["beta", "Ce_ta%"]),
        ("Stripe_Customer_Id__c = 'cus_a'", ["beta"]),
        ("Stripe_Customer_Id__c LIKE 'CUS%'", []),
        ("Parent.Name = 'acme'", ["beta"]),
        ("Parent.Name = null", ["Acme", "Ce_ta%"]),
        ("(Name = 'acme' OR Name = 'beta') AND AnnualRevenue < 99.5", ["beta"]),
        ("Id IN (SELECT AccountId FROM Opportunity WHERE Amount > 5)", ["Acme", "beta"]),
        ("Id NOT IN (SELECT AccountId FROM Opportunity)", ["Ce_ta%"]),
        ("CreatedDate = TODAY", ["Acme", "beta", "Ce_ta%"]),
        (
            "SystemModstamp >= 2026-09-21T16:13:20+02:00 AND SystemModstamp < 2026-09-21T14:13:21Z",
            ["Acme", "beta", "Ce_ta%"],
        ),
        ("SystemModstamp > 2026-09-21T14:13:20.000Z", []),
        ("IsDeleted = null", ["Acme", "beta", "Ce_ta%"]),
        ("a.Name = 'acme'", ["Acme"]),
        ("Account.Name = 'acme'", ["Acme"]),
    ],
)
def test_where(company: Org, where: str, expected: list[str]) -> None:
    """5: operators, case, null and LIKE as the reference has them."""
    source = "Account a" if "a.Name" in where and "Account." not in where else "Account"
    assert names(company, where, source) == expected


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("CloseDate = TODAY", ["two"]),
        ("CloseDate = LAST_N_DAYS:5", ["one", "two"]),
        ("CloseDate < THIS_MONTH", ["alone"]),
        ("CloseDate > THIS_MONTH", ["three"]),
        ("CloseDate = NEXT_MONTH", ["three"]),
        ("CloseDate = THIS_QUARTER", ["one", "two"]),
        ("CloseDate = LAST_YEAR", ["alone"]),
        ("CloseDate >= 2026-09-21", ["two", "three"]),
        ("CloseDate = YESTERDAY", ["one"]),
        ("CloseDate = NEXT_N_DAYS:11", ["three"]),
        ("IsWon = true", ["alone"]),
        ("Account.Parent.Name = 'Acme'", ["three"]),
        ("AccountId = null", ["alone"]),
    ],
)
def test_where_on_opportunities(company: Org, literal: str, expected: list[str]) -> None:
    """The clock stands at 2026-09-21. 5: date literals."""
    assert names(company, literal, "Opportunity") == expected


def test_order_puts_nulls_first_unless_told(company: Org) -> None:
    """5: ascending with nulls first is the default."""
    assert names(company, "Name != null", "Opportunity", "Amount") == ["two", "alone", "one", "three"]
    assert names(company, "Name != null", "Opportunity", "Amount DESC NULLS LAST") == ["three", "one", "alone", "two"]
    assert names(company, "Name != null", "Opportunity", "Account.Name NULLS LAST, Name DESC") == [
        "two",
        "one",
        "three",
        "alone",
    ]


def test_parents_and_children_are_nested(company: Org) -> None:
    """5: parents as objects, null when there is none; children as a result of their own, null when there are none."""
    rows = company.sf.query(
        "SELECT Name, Account.Name, Account.Parent.Name FROM Opportunity WHERE Name IN ('three', 'alone') ORDER BY Name"
    )
    alone, three = rows["records"]
    assert alone["Account"] is None
    assert bare(three["Account"]) == {"Name": "beta", "Parent": {"Name": "Acme"}}
    assert three["Account"]["attributes"]["type"] == "Account"
    accounts = company.sf.query(
        "SELECT Name, (SELECT Name FROM Opportunities WHERE Amount > 5 ORDER BY Name) FROM Account ORDER BY Name"
    )
    acme, beta, ceta = accounts["records"]
    assert acme["Opportunities"]["totalSize"] == 1
    assert bare(acme["Opportunities"]["records"]) == [{"Name": "one"}]
    assert bare(beta["Opportunities"]["records"]) == [{"Name": "three"}]
    assert ceta["Opportunities"] is None


def test_aggregates(company: Org) -> None:
    """5: COUNT() stands in totalSize; the others are AggregateResult rows, with aliases or expr0, expr1."""
    assert company.sf.query("SELECT COUNT() FROM Account") == {"totalSize": 3, "done": True, "records": []}
    rows = company.sf.query(
        "SELECT AccountId, COUNT(Id), SUM(Amount) total, MAX(CloseDate) FROM Opportunity WHERE AccountId != null "
        "GROUP BY AccountId HAVING COUNT(Id) > 1"
    )["records"]
    assert rows[0]["attributes"] == {"type": "AggregateResult"}
    assert [(r["expr0"], r["total"], r["expr1"]) for r in rows] == [(2, 10.0, "2026-09-21")]
    assert bare(
        company.sf.query("SELECT COUNT(Amount) c, AVG(Amount), MIN(Name) FROM Opportunity WHERE Name = 'none'")[
            "records"
        ]
    ) == [{"c": 0, "expr0": None, "expr1": None}]


def test_fields_function(company: Org) -> None:
    """5: FIELDS(ALL) needs a LIMIT, FIELDS(STANDARD) does not."""
    every = company.query("SELECT FIELDS(ALL) FROM Account LIMIT 1")[0]
    described = [f["name"] for f in company.sf.Account.describe()["fields"]]
    assert list(every) == described
    standard = company.query("SELECT FIELDS(STANDARD) FROM Account")[0]
    assert [n for n in described if not n.endswith("__c")] == list(standard)
    assert refused(company, "SELECT FIELDS(ALL) FROM Account")[0] == "MALFORMED_QUERY"


def test_a_path_crosses_at_most_five_parents(org: Org) -> None:
    """4: dot depth 5."""
    above = org.person("Account", Name="A0")
    for n in range(1, 6):
        above = org.person("Account", Name=f"A{n}", ParentId=above)
    five = ".".join(["Parent"] * 5)
    where = f"FROM Account WHERE Id = '{above}'"
    (found,) = org.query(f"SELECT {five}.Name {where}")
    for _ in range(5):
        found = found["Parent"]
    assert found["Name"] == "A0"
    assert org.query(f"SELECT Id FROM Account WHERE {five}.Name = 'A0'") == [{"Id": above}]
    assert refused(org, f"SELECT Parent.{five}.Name {where}")[0] == "INVALID_FIELD"


def test_paging(org_with: Callable[..., Org]) -> None:
    """2.3: totalSize is the total; the next page's address says /query/ even for queryAll; every row once."""
    org = org_with(page_size=2)
    made = [org.person("Account", Name=f"A{i}") for i in range(5)]
    org.sf.Account.delete(made[0])
    first = org.sf.query("SELECT Id FROM Account", include_deleted=True)
    assert (first["totalSize"], first["done"], len(first["records"])) == (5, False, 2)
    assert first["nextRecordsUrl"].startswith(f"{BASE}/query/01g")
    assert first["nextRecordsUrl"].endswith("-2")
    rows = list(org.sf.query_all_iter("SELECT Id FROM Account", include_deleted=True))
    assert [r["Id"] for r in rows] == made
    assert [r["Id"] for r in org.query("SELECT Id FROM Account")] == made[1:]


def test_the_client_may_ask_for_smaller_pages(org: Org) -> None:
    """2.1: Sforce-Query-Options, from 200 to 2000."""
    rows = [{"attributes": {"type": "Account"}, "Name": f"A{i}"} for i in range(200)]
    for _ in range(2):
        org.call("POST", "composite/sobjects", {"records": rows})
    for asked, given in ((1, 200), (250, 250)):
        header = {"Sforce-Query-Options": f"batchSize={asked}"}
        page = org.call("GET", "query?q=SELECT+Id+FROM+Account", headers=header).json()
        assert (len(page["records"]), page["totalSize"]) == (given, 400)


def test_children_take_room_on_a_page(org_with: Callable[..., Org]) -> None:
    """2.3: a page holds its rows including child rows."""
    org = org_with(page_size=4)
    for i in range(3):
        account = org.person("Account", Name=f"A{i}")
        for n in range(2):
            org.person("Contact", LastName=f"C{n}", AccountId=account)
    pages = org.sf.query("SELECT Id, (SELECT Id FROM Contacts) FROM Account")
    assert (pages["totalSize"], len(pages["records"])) == (3, 1)


def test_locators_live_two_days(org_with: Callable[..., Org]) -> None:
    """2.3: two days, then INVALID_QUERY_LOCATOR."""
    org = org_with(page_size=1)
    for name in "AB":
        org.person("Account", Name=name)
    url = org.sf.query("SELECT Id FROM Account")["nextRecordsUrl"]
    assert org.call("GET", url).status_code == 200
    org.clock.move_to(START + 2 * 86400)
    answer = org.call("GET", url)
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "INVALID_QUERY_LOCATOR")


def test_deleted_rows_show_in_query_all_only(org: Org) -> None:
    """2.3: queryAll returns what lies in the recycle bin, with IsDeleted."""
    record_id = org.person("Account", Name="A")
    org.sf.Account.delete(record_id)
    assert org.query("SELECT Id FROM Account WHERE IsDeleted = true") == []
    gone = org.sf.query("SELECT Id, IsDeleted FROM Account WHERE IsDeleted = true", include_deleted=True)
    assert bare(gone["records"]) == [{"Id": record_id, "IsDeleted": True}]


@pytest.mark.parametrize(
    ("soql", "code", "position", "message"),
    [
        (
            "SELECT Id, Foo__c FROM Account",
            "INVALID_FIELD",
            "Row:1:Column:12",
            "No such column 'Foo__c' on entity 'Account'.",
        ),
        ("SELECT Id FROM Nope__c", "INVALID_TYPE", "Row:1:Column:16", "sObject type 'Nope__c' is not supported."),
        ("SELECT Id FROM Account WHERE\nFoo__c = 1", "INVALID_FIELD", "Row:2:Column:1", "No such column 'Foo__c'"),
        (
            "SELECT Id, Owner.Foo FROM Account",
            "INVALID_FIELD",
            "Row:1:Column:12",
            "No such column 'Foo' on entity 'User'",
        ),
        (
            "SELECT Id, Boss.Name FROM Account",
            "INVALID_FIELD",
            "Row:1:Column:12",
            "Didn't understand relationship 'Boss'",
        ),
        (
            "SELECT Id, (SELECT Id FROM Nopes) FROM Account",
            "INVALID_TYPE",
            "Row:1:Column:28",
            "Didn't understand relationship 'Nopes'",
        ),
        ("SELECT * FROM Account", "MALFORMED_QUERY", "Row:1:Column:8", "unexpected token: '*'"),
        ("SELECT Id FROM Account LIMIT 1 FOR VIEW", "MALFORMED_QUERY", "Row:1:Column:32", "unexpected token: 'FOR'"),
        (
            "SELECT Id FROM Account LIMIT 1 FOR REFERENCE",
            "MALFORMED_QUERY",
            "Row:1:Column:32",
            "unexpected token: 'FOR'",
        ),
        ("SELECT Id FROM Account LIMIT 1 FOR UPDATE", "MALFORMED_QUERY", "Row:1:Column:32", "unexpected token: 'FOR'"),
        (
            "SELECT Id FROM Account WHERE Name = 'a' AND Name = 'b' OR Name = 'c'",
            "MALFORMED_QUERY",
            "Row:1:Column:56",
            "unexpected token: 'OR'",
        ),
        (
            "SELECT Id FROM Account WHERE AnnualRevenue = '5'",
            "INVALID_FIELD",
            "Row:1:Column:30",
            "must be of type currency and should not be enclosed in quotes",
        ),
        (
            "SELECT Id FROM Account WHERE Name = 5",
            "INVALID_FIELD",
            "Row:1:Column:30",
            "must be of type string and should be enclosed in quotes",
        ),
        (
            "SELECT Id FROM Account WHERE CreatedDate > '2026-01-01T00:00:00Z'",
            "INVALID_FIELD",
            "Row:1:Column:30",
            "must be of type dateTime and should not",
        ),
        (
            "SELECT Id FROM Account WHERE Id = 'x'",
            "INVALID_QUERY_FILTER_OPERATOR",
            "Row:1:Column:30",
            "invalid ID field: x",
        ),
        (
            "SELECT Id FROM Account WHERE Id LIKE '001%'",
            "INVALID_QUERY_FILTER_OPERATOR",
            "Row:1:Column:30",
            "invalid operator on id field",
        ),
        (
            "SELECT Id FROM Account WHERE Description = 'x'",
            "INVALID_FIELD",
            "Row:1:Column:30",
            "can not be filtered in a query call",
        ),
        ("SELECT Name, Name FROM Account", "INVALID_FIELD", "Row:1:Column:14", "duplicate field selected: Name"),
        (
            "SELECT Id FROM Account OFFSET 2001",
            "NUMBER_OUTSIDE_VALID_RANGE",
            "Row:1",
            "Maximum SOQL offset allowed is 2000",
        ),
        (
            "SELECT Name, COUNT(Id) FROM Account",
            "MALFORMED_QUERY",
            "Row:1:Column:8",
            "Field must be grouped or aggregated: Name",
        ),
        (
            "SELECT CALENDAR_YEAR(CloseDate), COUNT(Id) FROM Opportunity GROUP BY Name",
            "MALFORMED_QUERY",
            "Row:1:Column:8",
            "unexpected token",
        ),
        (
            "SELECT Id FROM Account WHERE CreatedDate = SOMEDAY",
            "MALFORMED_QUERY",
            "Row:1:Column:44",
            "unexpected token: 'SOMEDAY'",
        ),
        ("SELECT Id FROM Account WHERE Name = 'a", "MALFORMED_QUERY", "Row:1:Column:37", "unexpected token"),
        (
            "SELECT Id FROM Account WHERE Id IN (SELECT AccountId FROM Contact) OR Name = 'a'",
            "MALFORMED_QUERY",
            "Row:1",
            "not allowed with the 'OR'",
        ),
        ("SELECT toLabel(Industry) FROM Account", "MALFORMED_QUERY", "Row:1:Column:8", "unexpected token: 'TOLABEL'"),
        ("SELECT Id FROM Account LIMIT x", "MALFORMED_QUERY", "Row:1:Column:30", "unexpected token: 'x'"),
    ],
)
def test_errors_point_at_the_place(org: Org, soql: str, code: str, position: str, message: str) -> None:
    """2.8, 5: the code, the position counted from 1, the text."""
    found, text = refused(org, soql)
    assert found == code
    assert position in text
    assert message in text
    assert text.startswith("\n")


def test_queries_in_the_sdks_own_quoting(company: Org) -> None:
    """2.3, 5: what `format_soql` escapes is read as it was meant."""
    from simple_salesforce.format import format_soql

    company.person("Account", Name='O\'Brien \\ "Söhne"')
    soql = format_soql("SELECT Name FROM Account WHERE Name = {}", 'O\'Brien \\ "Söhne"')
    assert company.query(soql) == [{"Name": 'O\'Brien \\ "Söhne"'}]


def test_visibility_delay_hides_fresh_writes_from_queries(org_with: Callable[..., Org]) -> None:
    """5.2: a row can become visible after its stamp; reads by id are not delayed."""
    org = org_with(visibility_delay=30)
    record_id = org.person("Account", Name="A")
    assert org.query("SELECT Name FROM Account") == []
    assert org.sf.Account.get(record_id)["Name"] == "A"
    org.clock.move_to(START + 30)
    org.sf.Account.update(record_id, {"Name": "B"})
    assert org.query("SELECT Name FROM Account") == [{"Name": "A"}]
    org.sf.Account.delete(record_id)
    assert org.query("SELECT Name FROM Account") == [{"Name": "A"}]
    org.clock.move_to(START + 60)
    assert org.query("SELECT Name FROM Account") == []


def test_every_page_size_gives_the_same_rows(org_with: Callable[..., Org]) -> None:
    """2.3: the server may return fewer rows than 2000; together they are the same."""
    expected: list[Any] = []
    for size in (1, 2, 3, 7):
        org = org_with(page_size=size)
        for n in range(7):
            org.person("Account", Name=f"A{n}")
        rows = [r["Name"] for r in org.query("SELECT Name FROM Account")]
        expected.append(rows)
    assert all(a == b for a, b in itertools.pairwise(expected))
    assert expected[0] == [f"A{n}" for n in range(7)]


def test_columns_of_a_query(company: Org) -> None:
    """Sandbox facts 3: what command-line clients ask before they print a table: parents and children as joins."""
    soql = "SELECT Id, Name, Owner.Name, Owner.Email, (SELECT LastName FROM Contacts) FROM Account"
    body = company.call("GET", "query", params={"q": soql, "columns": "true"}).json()
    assert (body["entityName"], body["keyPrefix"], body["idSelected"]) == ("Account", "001", True)
    found = [
        (c["columnName"], c["aggregate"], [j["columnName"] for j in c["joinColumns"]]) for c in body["columnMetadata"]
    ]
    assert found == [
        ("Id", False, []),
        ("Name", False, []),
        ("Owner", False, ["Name", "Email"]),
        ("Contacts", True, ["LastName"]),
    ]
    counted = company.call(
        "GET", "query", params={"q": "SELECT Industry, COUNT(Id) FROM Account GROUP BY Industry", "columns": "true"}
    )
    assert [(c["columnName"], c["displayName"], c["aggregate"]) for c in counted.json()["columnMetadata"]] == [
        ("Industry", "Industry", False),
        ("expr0", "count(Id)", True),
    ]


def test_keyset_paging_by_id(company: Org) -> None:
    """5.2: ids compare in the order in which they were given."""
    every = [r["Id"] for r in company.query("SELECT Id FROM Opportunity ORDER BY Id")]
    after = company.query(f"SELECT Id FROM Opportunity WHERE Id > '{every[1]}' ORDER BY Id LIMIT 5")
    assert [r["Id"] for r in after] == every[2:]
