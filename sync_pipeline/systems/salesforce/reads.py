"""What the sync asks of Salesforce: schema, whole Accounts, changes, complete tables; answers are records.

A composite call counts once against the daily limit and takes five queries, so whatever is asked for together is
pooled into such calls, their further pages as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar
from urllib.parse import quote

import requests

from sync_pipeline.core.observation import Unreadable
from sync_pipeline.core.org_schema import OrgObject, OrgStage
from sync_pipeline.core.rules import Names
from sync_pipeline.core.salesforce_ids import record_id
from sync_pipeline.core.salesforce_records import (
    SALESFORCE_RECORDS,
    Account,
    ChurnRecord,
    Contract,
    FailureTask,
    LineItem,
    Opportunity,
    PriceBookEntry,
    SyncConflict,
)
from sync_pipeline.systems.outcomes import UNKNOWN_SHAPE, ReadFailed
from sync_pipeline.systems.salesforce import parse
from sync_pipeline.systems.salesforce.connection import SUBREQUESTS_PER_CALL, Connection, Login
from sync_pipeline.systems.salesforce.describe import STAGES, org_object, org_stage

TEAM = "AccountTeamMembers"
OF_ACCOUNT = ("contract", "churn_record", "sync_conflict")
OWNERS = ("account_id", "opportunity_id", "id")
"""Where a record names what it is looked up by: the first of these that it has."""
LONGEST_ADDRESS = 16_384
"""Bytes that Salesforce takes for an address (414 above), here also for those within a composite call."""
ID = "001000000000000AAA"

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class AccountRecords:
    """Everything that Salesforce shows for one Account; None for an Account that it does not show.

    One that is not shown was `deleted`, perhaps by a merge into another, or this user may not see it. Of one with
    anything that cannot be read only that is told, in the place of the Account: the rest alone would look as if there
    were no more.
    """

    account: Account | Unreadable | None
    deleted: bool = False
    merged_into: str | None = None
    opportunities: tuple[Opportunity, ...] = ()
    lines: tuple[LineItem, ...] = ()
    contracts: tuple[Contract, ...] = ()
    churn_records: tuple[ChurnRecord, ...] = ()
    tasks: tuple[FailureTask, ...] = ()
    conflicts: tuple[SyncConflict, ...] = ()

    @classmethod
    def of(cls, account: Account | Unreadable | None, **parts: Any) -> AccountRecords:
        """The Account with its parts, among which may be some that cannot be read."""
        for each in (account, *chain.from_iterable(parts.values())):
            if isinstance(each, Unreadable):
                return cls(each)
        return cls(account, **parts)


@dataclass(frozen=True, slots=True)
class Change:
    """A record that moved: its object and id, the Account that it belongs to, and its SystemModstamp.

    `merged_into` is the Account that took the place of a deleted one. `by_us`: nobody has edited it since we did.
    """

    object: str
    id: str
    account_id: str | None
    modified_at: int
    merged_into: str | None = None
    by_us: bool = False


@dataclass(frozen=True, slots=True)
class Moved:
    """What moved of an object: its records as they are now, and the ids of those too that were deleted."""

    records: list[Any]
    ids: list[str]


class Reads(Connection):
    """One org, read through the names of the rules file.

    `rows` counts the rows that were read. `team_role`: the role in an Account's team whose member is read; None where
    the org has no Account Teams.
    """

    def __init__(
        self,
        login: Login,
        names: Mapping[str, Names],
        team_role: str | None = None,
        *,
        transport: requests.adapters.BaseAdapter | None = None,
    ) -> None:
        super().__init__(login, transport=transport)
        self._names = names
        self.team_role = team_role
        self.rows = 0

    def is_sandbox(self) -> bool:
        """Whether the org is a copy to try things in."""
        (org,) = self.query_all({"org": "SELECT IsSandbox FROM Organization"})["org"]
        return bool(org["IsSandbox"])

    @cached_property
    def described(self) -> Mapping[str, OrgObject]:
        """The mapped objects that this user can see, by API name."""
        return self.describe({names.object for names in self._names.values()})

    def describe(self, objects: Iterable[str]) -> dict[str, OrgObject]:
        """Those of the objects that this user can see, by API name, described in one call."""
        wanted = sorted(set(objects))
        if not wanted:
            return {}
        paths = {f"object{n}": f"sobjects/{name}/describe" for n, name in enumerate(wanted)}
        return {raw["name"]: org_object(raw) for raw in self._composite(paths, or_missing=True).values()}

    def object_names(self) -> frozenset[str]:
        """Every object of the org that this user can see."""
        return frozenset(raw["name"] for raw in self._composite({"all": "sobjects"})["all"]["sobjects"])

    def stages(self) -> dict[str, OrgStage]:
        """The active Opportunity stages, by name."""
        return {row["ApiName"]: org_stage(row) for row in self.query_all({"stages": STAGES})["stages"]}

    @cached_property
    def fields(self) -> Mapping[str, Mapping[str, str]]:
        """The readable fields per object, by the sync's own names.

        Raises ReadFailed naming the first mapped field that this user cannot see: Salesforce hides a field
        without permission exactly as if it did not exist.
        """
        seen: dict[str, Mapping[str, str]] = {}
        for name, names in self._names.items():
            described = self.described.get(names.object)
            available = described.fields if described else {}
            usable = {}
            for own, api_name in names.fields.items():
                if described is not None and described.lacks(api_name):
                    continue
                if "." in api_name or api_name in available:
                    usable[own] = api_name
                else:
                    why = (
                        f"the integration user cannot see {names.object}.{api_name}; deploy salesforce_package "
                        "and assign the permission set Stripe_Sync, or map the field in the rules file"
                    )
                    raise ReadFailed("Salesforce", why, access=True)
            seen[name] = usable
        return seen

    def record_types(self, name: str) -> dict[str, str]:
        """The ids, by DeveloperName, of the record types with which this user may make records of an object."""
        described = self.described.get(self._names[name].object)
        known = described.record_types if described is not None else {}
        return {developer_name: each.id for developer_name, each in known.items() if each.usable}

    def accounts(self, ids: Sequence[str]) -> dict[str, AccountRecords]:
        """What Salesforce shows for each of the Accounts, read in as few calls as their ids and rows take.

        One more asks the recycle bin for those that are not shown.
        """
        queries = self.account_queries(ids)
        found = self.account_records(self.query_all(dict(enumerate(queries))).values())
        gone = self._in_the_bin([each for each in ids if each not in found])
        absent = {
            each: AccountRecords(None, deleted=each in gone, merged_into=gone.get(each))
            for each in ids
            if each not in found
        }
        return found | absent

    def customer_ids(self, accounts: Sequence[str]) -> dict[str, str]:
        """The Stripe customers that Accounts name, by Account: those of them that name any."""
        named = self.fields["account"]["stripe_customer_id"]
        soql = f"SELECT Id, {named} FROM {self._names['account'].object} WHERE Id IN ({{}}) AND {named} != null"
        found = self.query_all(dict(enumerate(self._asking_for(accounts, soql))))
        return {row["Id"]: row[named] for rows in found.values() for row in rows}

    def account_queries(self, ids: Sequence[str]) -> list[str]:
        """The queries that show these Accounts whole, two for as many of them as an address takes.

        What belongs to an Account comes as children of its row, and lines as children of their Opportunity.
        """
        whole = self._select(
            "account",
            "Id IN ({})",
            self._open_tasks("Tasks"),
            *(self._select(name, None, source=self._children_of("account", name)) for name in OF_ACCOUNT),
        )
        lines = self._select("line", None, source=self._children_of("opportunity", "line"))
        deals = self._select("opportunity", "AccountId IN ({})", lines)
        return self._asking_for(ids, whole, deals)

    def _asking_for(self, ids: Sequence[str], *queries: str) -> list[str]:
        """Queries with `{}` for a list of ids, each as often as its address can hold all of them.

        What can be no id is left out: Salesforce would refuse the whole query, or answer with an id written otherwise.
        """
        ids = [each for each in ids if record_id(each) == each]
        longest = max(len(quote(self._url(f"queryAll?q={soql}"))) for soql in queries)
        most = (LONGEST_ADDRESS - longest) // len(quote(f"'{ID}',"))
        chunks = [",".join(f"'{each}'" for each in ids[at : at + most]) for at in range(0, len(ids), most)]
        return [soql.replace("{}", chunk) for chunk in chunks for soql in queries]

    def account_records(self, rows: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, AccountRecords]:
        """The Accounts in the rows of such queries, by id."""
        by_type: dict[str, list[Mapping[str, Any]]] = {}
        for raw in (raw for some in rows for raw in some):
            by_type.setdefault(raw["attributes"]["type"], []).append(raw)
        accounts, deals = (by_type.get(self._names[name].object, []) for name in ("account", "opportunity"))
        of_account: dict[str | None, list[Mapping[str, Any]]] = {}
        for raw in deals:
            of_account.setdefault(raw["AccountId"], []).append(raw)
        lines = self._children_of("opportunity", "line")
        found = {}
        for raw, account in zip(accounts, self.parsed("account", accounts), strict=True):
            own = of_account.get(account.id, [])
            contracts, churn_records, conflicts = (
                tuple(self.parsed(name, _children(raw, self._children_of("account", name)))) for name in OF_ACCOUNT
            )
            found[account.id] = AccountRecords.of(
                account,
                opportunities=tuple(self.parsed("opportunity", own)),
                lines=tuple(self.parsed("line", (line for deal in own for line in _children(deal, lines)))),
                contracts=contracts,
                churn_records=churn_records,
                conflicts=conflicts,
                tasks=tuple(self._tasks(_children(raw, "Tasks"))),
            )
        return found

    def _children_of(self, parent: str, child: str) -> str:
        """The name by which a parent's query reaches its children. Raises ReadFailed when the org has given it none."""
        lookup = self._names[child].fields[f"{parent}_id"]
        known = self.described[self._names[parent].object].children
        if (found := known.get((self._names[child].object, lookup))) is None:
            why = (
                f"{self._names[child].object}.{lookup} has no child relationship name; give it one in Setup, "
                "or deploy salesforce_package"
            )
            raise ReadFailed("Salesforce", why, access=True)
        return found

    def _in_the_bin(self, ids: Sequence[str]) -> dict[str, str | None]:
        """The deleted ones of some Accounts, each with the one that it was merged into."""
        soql = f"SELECT Id, MasterRecordId FROM {self._names['account'].object} WHERE Id IN ({{}}) AND IsDeleted = true"
        rows = self.query_all(dict(enumerate(self._asking_for(ids, soql))), deleted=True)
        return {raw["Id"]: raw["MasterRecordId"] for some in rows.values() for raw in some}

    def price_book_entries(self, product_ids: Collection[str]) -> tuple[PriceBookEntry, ...]:
        """The active entries of some products in all price books and currencies."""
        soql = self._select("price_book_entry", "IsActive = true AND Product2Id IN ({})")
        rows = self.query_all(dict(enumerate(self._asking_for(sorted(product_ids), soql))))
        names = self.fields["price_book_entry"]
        return tuple(parse.record(PriceBookEntry, names, raw) for some in rows.values() for raw in some)

    def account_of(self, name: str, value: str, *, by: str = "id") -> str | None:
        """The Account that a record belongs to; None when there is no such record, or it belongs to none.

        `by` names the field that holds `value`; of several records, the first by id.
        """
        path, names = self._account_paths[name], self._names[name]
        columns = ", ".join(dict.fromkeys(["Id", path]))
        soql = f"SELECT {columns} FROM {names.object} WHERE {names.fields[by]} = '{value}' ORDER BY Id LIMIT 1"
        rows = self.query_all({name: soql})[name]
        return parse.at_path(rows[0], path) if rows else None

    def record(self, name: str, record_id: str) -> dict[str, Any] | None:
        """The mapped fields of one record, by the sync's own names and as Salesforce shows them; None if there is none.

        For objects that no world holds whole.
        """
        fields = self.fields[name]
        columns = ", ".join(sorted({"Id", *fields.values()}))
        soql = f"SELECT {columns} FROM {self._names[name].object} WHERE Id = '{record_id}'"
        rows = self.query_all({name: soql})[name]
        return {own: parse.at_path(rows[0], path) for own, path in fields.items()} if rows else None

    @property
    def _account_paths(self) -> Mapping[str, str]:
        """Where each object that is read names its Account."""
        paths = {"account": "Id", "opportunity": "AccountId", "line": "Opportunity.AccountId", "contract": "AccountId"}
        return paths | {name: self._names[name].fields["account_id"] for name in ("churn_record", "sync_conflict")}

    def changes_since(self, since: Mapping[str, int]) -> list[Change]:
        """Records that moved or were deleted at or after a moment per object (microseconds UTC), in one composite call.

        A deleted line shows in its Opportunity alone.
        """
        paths = self._account_paths
        queries = {}
        for name, moment in since.items():
            api_object = self._names[name].object
            stamp = _soql_moment(moment)
            master = ["MasterRecordId"] if name == "account" else []
            columns = ", ".join(dict.fromkeys(["Id", "SystemModstamp", "LastModifiedById", paths[name], *master]))
            where = f"WHERE SystemModstamp >= {stamp} ORDER BY SystemModstamp"
            queries[name] = f"SELECT {columns} FROM {api_object} {where}"
        changed = []
        for name, rows in self.query_all(queries, deleted=True).items():
            for raw in rows:
                try:
                    stamped = parse.moment(raw["SystemModstamp"]) or 0
                except UNKNOWN_SHAPE:
                    # The look at its Account tells what is wrong with it.
                    stamped = 0
                account_id, merged_into = parse.at_path(raw, paths[name]), raw.get("MasterRecordId")
                by_us = raw["LastModifiedById"] == self.user_id
                changed.append(Change(name, raw["Id"], account_id, stamped, merged_into, by_us))
        return changed

    def moved_since(self, since: Mapping[str, int]) -> dict[str, Moved]:
        """Records that moved or were deleted at or after a moment per object (microseconds UTC).

        All lines of an Opportunity that moved are among them: a deleted line shows in that alone.
        """
        queries = {}
        for name, moment in since.items():
            stamp = _soql_moment(moment)
            where = f"SystemModstamp >= {stamp}"
            if name == "line":
                where += f" OR Opportunity.SystemModstamp >= {_soql_moment(since['opportunity'])}"
            queries[name] = self._select(name, where).replace("SELECT ", "SELECT IsDeleted, ", 1)
        found = {}
        for name, rows in self.query_all(queries, deleted=True).items():
            there = [raw for raw in rows if not raw["IsDeleted"]]
            found[name] = Moved(list(self.parsed(name, there)), [raw["Id"] for raw in rows])
        return found

    def open_tasks(self) -> Iterator[FailureTask]:
        """All open Tasks that were made for a failed payment."""
        yield from self.whole(["task"])["task"]

    def everything(self, name: str) -> Iterator[Any]:
        """All records of an object."""
        yield from self.whole([name])[name]

    def whole(self, names: Iterable[str]) -> dict[str, list[Any]]:
        """All records of some objects, read together; of Tasks the open ones that were made for a failed payment."""
        of_tasks = self._open_tasks(self._names["task"].object)
        rows = self.query_all({name: of_tasks if name == "task" else self._select(name, None) for name in names})
        return {
            name: list(self._tasks(found) if name == "task" else self.parsed(name, found))
            for name, found in rows.items()
        }

    def parsed(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
        """Rows of a query as records; Unreadable in the place of one that has a field of an unexpected shape."""
        fields = self.fields[name]
        for raw in rows:
            try:
                found = parse.record(SALESFORCE_RECORDS[name], fields, raw)
            except parse.FieldUnreadable as field:
                owner = next(parse.at_path(raw, fields[own]) for own in OWNERS if own in fields)
                record_id = parse.at_path(raw, fields["id"])
                why = f"Salesforce: {field} of {self._names[name].object} {record_id} cannot be read"
                yield Unreadable(record_id, owner, why)
                continue
            if name == "account":
                able = (member["UserId"] for member in _children(raw, TEAM) if parse.at_path(member, "User.IsActive"))
                found = replace(found, team_owner_id=min(able, default=None))
            yield found

    def query_all(self, queries: Mapping[Key, str], *, deleted: bool = False) -> dict[Key, list[Mapping[str, Any]]]:
        """The rows of queries, followed to their last page and that of their children, five in a call.

        With `deleted` also those in the recycle bin.
        """
        resource = "queryAll" if deleted else "query"
        rows: dict[Key, list[Mapping[str, Any]]] = {name: [] for name in queries}
        pending = [(rows[name], f"{resource}?q={quote(soql)}") for name, soql in queries.items()]
        while pending:
            now, pending = pending[:SUBREQUESTS_PER_CALL], pending[SUBREQUESTS_PER_CALL:]
            answers = self._composite({f"page{number}": path for number, (_, path) in enumerate(now)})
            for number, (into, _) in enumerate(now):
                answer = answers[f"page{number}"]
                self.rows += len(answer["records"])
                pending += [(found, next_page) for found, next_page in further_pages(answer, into)]
        return rows

    def _tasks(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[FailureTask]:
        for raw in rows:
            yield parse.record(FailureTask, self.fields["task"], raw)

    def _open_tasks(self, source: str) -> str:
        """The query of open Tasks for failed payments, from the object or from an Account's relationship to it."""
        names = self.fields["task"]
        columns = ", ".join(names[field.name] for field in dataclasses.fields(FailureTask))
        return f"SELECT {columns} FROM {source} WHERE IsClosed = false AND {names['failure_key']} != null ORDER BY Id"

    def _select(self, name: str, where: str | None, *subqueries: str, source: str | None = None) -> str:
        """The query of an object's mapped fields, from the object or from a parent's relationship to it."""
        if name == "account" and self.team_role is not None:
            role = self.team_role.replace("\\", "\\\\").replace("'", "\\'")
            subqueries = (*subqueries, f"SELECT UserId, User.IsActive FROM {TEAM} WHERE TeamMemberRole = '{role}'")
        columns = ", ".join([*sorted(set(self.fields[name].values())), *(f"({query})" for query in subqueries)])
        clause = f" WHERE {where}" if where else ""
        return f"SELECT {columns} FROM {source or self._names[name].object}{clause} ORDER BY Id"


def further_pages(
    answer: Mapping[str, Any], into: list[Mapping[str, Any]]
) -> Iterator[tuple[list[Mapping[str, Any]], str]]:
    """Takes a page of rows; where more is to be read, of them or of their children, and into what."""
    into.extend(answer["records"])
    if not answer["done"]:
        yield into, _next_page(answer)
    for raw in answer["records"]:
        for value in raw.values():
            if isinstance(value, Mapping) and value.get("done") is False:
                yield value["records"], _next_page(value)


def _next_page(answer: Mapping[str, Any]) -> str:
    return "query/" + str(answer["nextRecordsUrl"]).rpartition("/")[2]


def _children(raw: Mapping[str, Any], relationship: str) -> list[Mapping[str, Any]]:
    """The rows of a subquery; Salesforce shows none of them as null."""
    return list((raw.get(relationship) or {}).get("records", []))


def _soql_moment(micros: int) -> str:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
