"""SOQL against a filter written in plain Python, on random rows and random conditions (sandbox facts 4.4)."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline_tests.sandbox.salesforce.served import START, Org, Server, new_org

NAMES = ["Acme", "acme", "ACME Ltd", "Beta_x", "betaXx", "Ünï", "100%", "o'x"]
KEYS = [None, "cus_a", "cus_A", "cus_b", "CUS_B"]
NUMBERS = [None, -1, 0, 1, 2.5, 100]
DAYS = [None, "2026-09-20", "2026-09-21", "2026-09-22", "2026-10-01", "2025-12-31"]
MOMENTS = [None, "2026-09-20T23:59:59", "2026-09-21T00:00:00", "2026-09-21T00:00:01", "2026-03-29T01:30:00"]
PARENTS = [None, "Acme", "acme Group", "Beta"]
PLANS = [None, "basic", "Basic", "pro"]


@dataclass(frozen=True)
class Condition:
    soql: str
    holds: Callable[[dict[str, Any]], bool]


def literal(value: Any) -> str:
    if value is None:
        return "null"
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" if isinstance(value, str) else repr(value)


def folded(field: str, value: Any) -> Any:
    """What counts as equal in this field: only the Stripe id minds case."""
    return value.lower() if isinstance(value, str) and field != "Stripe_Subscription_Id__c" else value


def equal(field: str, value: Any) -> Condition:
    return Condition(f"{field} = {literal(value)}", lambda r: folded(field, r[field]) == folded(field, value))


def unequal(field: str, value: Any) -> Condition:
    same = equal(field, value)
    return Condition(f"{field} != {literal(value)}", lambda r: not same.holds(r))


def ordered(field: str, sign: str, value: Any, text: str) -> Condition:
    compare = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[sign]
    return Condition(
        f"{field} {sign} {text}",
        lambda r: r[field] is not None and compare(folded(field, r[field]), folded(field, value)),
    )


def among(field: str, values: list[Any], negated: bool) -> Condition:
    wanted = {folded(field, v) for v in values}
    listed = ", ".join(literal(v) for v in values)
    return Condition(
        f"{field} {'NOT ' if negated else ''}IN ({listed})", lambda r: (folded(field, r[field]) in wanted) != negated
    )


def like(start: str, any_one: bool) -> Condition:
    """Name LIKE 'start%' or 'start_%', wildcards in the start itself escaped."""
    shown = literal(start.replace("%", "\\%").replace("_", "\\_")).replace("\\\\", "\\")[1:-1]
    least = len(start) + any_one
    return Condition(
        f"Name LIKE '{shown}{'_' if any_one else ''}%'",
        lambda r: r["Name"].lower().startswith(start.lower()) and len(r["Name"]) >= least,
    )


def in_days(count: int) -> Condition:
    """CloseDate = LAST_N_DAYS:n, today included."""
    today = datetime.fromtimestamp(START, UTC).date()
    first = (today - timedelta(days=count)).isoformat()
    return Condition(f"CloseDate = LAST_N_DAYS:{count}", lambda r: first <= r["CloseDate"] <= today.isoformat())


def at(sign: str, moment: str, hours: int) -> Condition:
    """A moment, written in a zone so many hours ahead of UTC."""
    shown = datetime.fromisoformat(moment) + timedelta(hours=hours)
    return ordered("First_Payment_At__c", sign, moment, f"{shown.isoformat()}{'Z' if not hours else f'{hours:+03}:00'}")


def of_parents_like(start: str, negated: bool) -> Condition:
    """A semi-join; a deal without an Account is in no list, and so outside of every one."""
    return Condition(
        f"AccountId {'NOT ' if negated else ''}IN (SELECT Id FROM Account WHERE Name LIKE '{start}%')",
        lambda r: (r["Account.Name"] is not None and r["Account.Name"].lower().startswith(start.lower())) != negated,
    )


leaves = st.one_of(
    st.builds(at, st.sampled_from(["<", "<=", ">", ">="]), st.sampled_from(MOMENTS[1:]), st.sampled_from([0, 2, -7])),
    st.builds(equal, st.just("Account.Name"), st.sampled_from(PARENTS)),
    st.builds(unequal, st.just("Account.Name"), st.sampled_from(PARENTS)),
    st.builds(among, st.just("Account.Name"), st.lists(st.sampled_from(PARENTS[1:]), min_size=1), st.booleans()),
    st.builds(equal, st.just("Name"), st.sampled_from(NAMES)),
    st.builds(unequal, st.just("Name"), st.sampled_from(NAMES)),
    st.builds(equal, st.just("Stripe_Subscription_Id__c"), st.sampled_from(KEYS)),
    st.builds(unequal, st.just("Stripe_Subscription_Id__c"), st.sampled_from(KEYS)),
    st.builds(equal, st.just("Amount"), st.sampled_from(NUMBERS)),
    st.builds(unequal, st.just("NextStep"), st.sampled_from(PLANS)),
    st.builds(
        lambda sign, v: ordered("Amount", sign, v, literal(v)),
        st.sampled_from(["<", "<=", ">", ">="]),
        st.sampled_from(NUMBERS[1:]),
    ),
    st.builds(
        lambda sign, v: ordered("CloseDate", sign, v, v),
        st.sampled_from(["<", "<=", ">", ">="]),
        st.sampled_from(DAYS[1:]),
    ),
    st.builds(
        lambda sign, v: ordered("Name", sign, v, literal(v)),
        st.sampled_from(["<", "<=", ">", ">="]),
        st.sampled_from(NAMES),
    ),
    st.builds(among, st.just("NextStep"), st.lists(st.sampled_from(PLANS), min_size=1, max_size=3), st.booleans()),
    st.builds(
        among,
        st.just("Stripe_Subscription_Id__c"),
        st.lists(st.sampled_from(KEYS), min_size=1, max_size=3),
        st.booleans(),
    ),
    st.builds(like, st.sampled_from(["a", "Beta_", "beta", "100%", "o'", ""]), st.booleans()),
    st.builds(in_days, st.integers(0, 400)),
)


def joined(parts: list[Condition], word: str) -> Condition:
    combine = all if word == "AND" else any
    return Condition(f" {word} ".join(f"({p.soql})" for p in parts), lambda r: combine(p.holds(r) for p in parts))


def negated(part: Condition) -> Condition:
    return Condition(f"NOT ({part.soql})", lambda r: not part.holds(r))


conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(joined, st.lists(inner, min_size=2, max_size=3), st.sampled_from(["AND", "OR"])),
        st.builds(negated, inner),
    ),
    max_leaves=6,
)
rows = st.fixed_dictionaries(
    {
        "Name": st.sampled_from(NAMES),
        "Stripe_Subscription_Id__c": st.sampled_from(KEYS),
        "Amount": st.sampled_from(NUMBERS),
        "CloseDate": st.sampled_from(DAYS[1:]),
        "NextStep": st.sampled_from(PLANS),
        "First_Payment_At__c": st.sampled_from(MOMENTS),
        "Account.Name": st.sampled_from(PARENTS),
    }
)
# Salesforce takes a semi-join beside other conditions only where all of them must hold.
semi_joins = st.none() | st.builds(of_parents_like, st.sampled_from(["a", "acme", "B", "-"]), st.booleans())


@given(
    st.lists(rows, max_size=12),
    conditions,
    semi_joins,
    st.sampled_from(["Amount", "Name", "CloseDate"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 4),
    st.integers(0, 12),
)
def test_a_query_finds_what_a_plain_filter_finds(
    server: Server,
    data: list[dict[str, Any]],
    where: Condition,
    semi_join: Condition | None,
    sort: str,
    descending: bool,
    nulls_last: bool,
    offset: int,
    limit: int,
) -> None:
    """Sandbox facts 4.4: a compiled query is a brute-force filter on random rows."""
    org: Org = new_org(server)
    accounts = {name: org.person("Account", Name=name) for name in PARENTS if name}
    stored = []
    for row in data:
        own = {name: value for name, value in row.items() if "." not in name}
        if own["First_Payment_At__c"]:
            own["First_Payment_At__c"] += "Z"
        parent = accounts.get(row["Account.Name"])
        record_id = org.person("Opportunity", StageName="Prospecting", AccountId=parent, **own)
        stored.append(row | {"Id": record_id})
    if semi_join is not None:
        where = joined([where, semi_join], "AND")
    soql = (
        f"SELECT Id FROM Opportunity WHERE {where.soql} ORDER BY {sort} {'DESC' if descending else 'ASC'} "
        f"NULLS {'LAST' if nulls_last else 'FIRST'}, Id LIMIT {limit} OFFSET {offset}"
    )
    found = [r["Id"] for r in stored if where.holds(r)]
    by_id = {r["Id"]: r for r in stored}
    nulls = sorted(i for i in found if by_id[i][sort] is None)
    rest = sorted(i for i in found if by_id[i][sort] is not None)
    rest.sort(key=lambda i: folded(sort, by_id[i][sort]), reverse=descending)
    expected = rest + nulls if nulls_last else nulls + rest
    assert [r["Id"] for r in org.query(soql)] == expected[offset : offset + limit], soql
