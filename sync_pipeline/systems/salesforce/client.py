"""The Salesforce adapter: composite reads that return records, pooled composite writes that return outcomes.

One composite call counts once against the daily limit, so reads ask up to five queries and writes send up to
five collections of 200 in one call. Sign-in and token refresh are simple-salesforce's.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import requests
from simple_salesforce.api import Salesforce as Session

from sync_pipeline.core import canonical
from sync_pipeline.core.org_schema import OrgObject, OrgStage
from sync_pipeline.core.records import (
    SALESFORCE_RECORDS,
    Account,
    ChurnRecord,
    Contract,
    FailureTask,
    LineItem,
    Opportunity,
)
from sync_pipeline.core.rules import Names
from sync_pipeline.systems.outcomes import DeadlinePassed, Gate, Guard, NotNow, OpenGate, Outcome, ReadFailed
from sync_pipeline.systems.salesforce import parse
from sync_pipeline.systems.salesforce.describe import STAGES, org_object, org_stage
from sync_pipeline.systems.salesforce.errors import (
    CALL_ERRORS,
    failure_of_system,
    outcome_of_call,
    outcome_of_errors,
    read_failure,
)
from sync_pipeline.systems.salesforce.writes import (
    COLLECTIONS_PER_CALL,
    REFUSED,
    Part,
    Write,
    composite_body,
    composite_calls,
)

CONNECT_AND_READ_SECONDS = (5, 30)
SYSTEM = "salesforce"
USAGE = re.compile(r"(?<![\w-])api-usage=(\d+)/(\d+)")
SIGN_IN = "/services/oauth2/token"
QUERIES_PER_CALL = 5
ONLY_WITH_SEVERAL_CURRENCIES = "CurrencyIsoCode"
NOT_THERE = 404
TEAM = "AccountTeamMembers"


@dataclass(frozen=True, slots=True)
class Login:
    """How to sign in: client credentials, or a user's JWT bearer token when a private key is given."""

    domain: str
    client_id: str
    client_secret: str | None = None
    username: str | None = None
    private_key_file: str | None = None
    base_url: str | None = None
    api_version: str = "66.0"


@dataclass(frozen=True, slots=True)
class AccountRecords:
    """Everything that Salesforce shows for one Account; None for an Account that it does not show.

    One that is not shown was `deleted`, perhaps by a merge into another, or this user may not see it.
    """

    account: Account | None
    deleted: bool = False
    merged_into: str | None = None
    opportunities: tuple[Opportunity, ...] = ()
    lines: tuple[LineItem, ...] = ()
    contracts: tuple[Contract, ...] = ()
    churn_records: tuple[ChurnRecord, ...] = ()
    tasks: tuple[FailureTask, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A record that moved: its object and id, the Account that it belongs to, and its SystemModstamp.

    `merged_into` is the Account that took the place of a deleted one.
    """

    object: str
    id: str
    account_id: str | None
    modified_at: int
    merged_into: str | None = None


class Salesforce:
    """One org, seen through the names of the rules file.

    `calls` counts what was sent, `write_calls` those of them that write; `rows` counts the rows that were read.
    `team_role`: the role in an Account's team whose member is read; None where the org has no Account Teams.
    `transport` is what calls go through, where no network is between.
    """

    def __init__(
        self,
        login: Login,
        names: Mapping[str, Names],
        team_role: str | None = None,
        *,
        transport: requests.adapters.BaseAdapter | None = None,
    ) -> None:
        self._login = login
        self._names = names
        self._team_role = team_role
        self._transport = _Transport(login.base_url, transport or requests.adapters.HTTPAdapter())
        self.gate: Gate = OpenGate()
        self.calls = 0
        self.write_calls = 0
        self.rows = 0

    @cached_property
    def _session(self) -> Session:
        http = requests.Session()
        http.trust_env = False
        http.mount("https://", self._transport)
        known: dict[str, Any] = {"session": http, "version": self._login.api_version, "parse_float": parse.decimal}
        known |= {"domain": self._login.domain, "consumer_key": self._login.client_id}
        if self._login.private_key_file:
            known |= {"username": self._login.username, "privatekey_file": self._login.private_key_file}
        else:
            known |= {"consumer_secret": self._login.client_secret}
        try:
            return Session(**known)
        except CALL_ERRORS as error:
            raise read_failure(error) from None

    @property
    def org_id(self) -> str:
        """The org's id, 15 characters: every access token begins with it."""
        return str(self._session.session_id)[:15]

    def is_sandbox(self) -> bool:
        """Whether the org is a copy to try things in."""
        (org,) = self.query_all({"org": "SELECT IsSandbox FROM Organization"})["org"]
        return bool(org["IsSandbox"])

    @property
    def api_usage(self) -> tuple[int, int] | None:
        """Calls used and allowed in the rolling day, as of the last answer."""
        return self._transport.usage

    def news_of_usage(self) -> tuple[int, int] | None:
        """The same, once for every answer that told it; None when nothing has been heard since."""
        news, self._transport.unheard = self._transport.usage if self._transport.unheard else None, False
        return news

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
                if "." in api_name or api_name in available:
                    usable[own] = api_name
                elif api_name != ONLY_WITH_SEVERAL_CURRENCIES:
                    why = (
                        f"the integration user cannot see {names.object}.{api_name}; deploy salesforce_package "
                        "and assign the permission set Stripe_Sync, or map the field in the rules file"
                    )
                    raise ReadFailed("Salesforce", why, access=True)
            seen[name] = usable
        return seen

    def accounts(self, ids: Sequence[str]) -> dict[str, AccountRecords]:
        """What Salesforce shows for each of the Accounts (at most 200), read in one composite call.

        A second one asks the recycle bin for those that are not shown.
        """
        churn_account = self._names["churn_record"].fields["account_id"]
        wanted = ", ".join(f"'{record_id}'" for record_id in ids)
        rows = self.query_all(
            {
                "account": self._select("account", f"Id IN ({wanted})", self._open_tasks("Tasks")),
                "opportunity": self._select("opportunity", f"AccountId IN ({wanted})"),
                "line": self._select("line", f"Opportunity.AccountId IN ({wanted})"),
                "contract": self._select("contract", f"AccountId IN ({wanted})"),
                "churn_record": self._select("churn_record", f"{churn_account} IN ({wanted})"),
            }
        )
        accounts = {account.id: account for account in self.parsed("account", rows["account"])}
        tasks = {raw["Id"]: self._tasks(_children(raw, "Tasks")) for raw in rows["account"]}
        opportunities = list(self.parsed("opportunity", rows["opportunity"]))
        lines = list(self.parsed("line", rows["line"]))
        contracts = list(self.parsed("contract", rows["contract"]))
        churn_records = list(self.parsed("churn_record", rows["churn_record"]))
        account_of = {opportunity.id: opportunity.account_id for opportunity in opportunities}
        gone = self._in_the_bin([record_id for record_id in ids if record_id not in accounts])
        return {
            record_id: AccountRecords(
                account=accounts.get(record_id),
                deleted=record_id in gone,
                merged_into=gone.get(record_id),
                opportunities=tuple(o for o in opportunities if o.account_id == record_id),
                lines=tuple(line for line in lines if account_of.get(line.opportunity_id) == record_id),
                contracts=tuple(c for c in contracts if c.account_id == record_id),
                churn_records=tuple(r for r in churn_records if r.account_id == record_id),
                tasks=tuple(tasks.get(record_id, ())),
            )
            for record_id in ids
        }

    def _in_the_bin(self, ids: Sequence[str]) -> dict[str, str | None]:
        """The deleted ones of some Accounts, each with the one that it was merged into."""
        if not ids:
            return {}
        wanted = ", ".join(f"'{record_id}'" for record_id in ids)
        soql = (
            f"SELECT Id, MasterRecordId FROM {self._names['account'].object} "
            f"WHERE Id IN ({wanted}) AND IsDeleted = true"
        )
        return {raw["Id"]: raw["MasterRecordId"] for raw in self.query_all({"gone": soql}, deleted=True)["gone"]}

    def account_of(self, name: str, record_id: str) -> str | None:
        """The Account that a record belongs to; None when there is no such record, or it belongs to none."""
        path, names = self._account_paths[name], self._names[name]
        columns = ", ".join(dict.fromkeys(["Id", path]))
        soql = f"SELECT {columns} FROM {names.object} WHERE Id = '{record_id}'"
        rows = self.query_all({name: soql})[name]
        return parse.at_path(rows[0], path) if rows else None

    @property
    def _account_paths(self) -> Mapping[str, str]:
        """Where each object that is read names its Account."""
        paths = {"account": "Id", "opportunity": "AccountId", "line": "Opportunity.AccountId", "contract": "AccountId"}
        return paths | {"churn_record": self._names["churn_record"].fields["account_id"]}

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
            columns = ", ".join(dict.fromkeys(["Id", "SystemModstamp", paths[name], *master]))
            where = f"WHERE SystemModstamp >= {stamp} ORDER BY SystemModstamp"
            queries[name] = f"SELECT {columns} FROM {api_object} {where}"
        changed = []
        for name, rows in self.query_all(queries, deleted=True).items():
            for raw in rows:
                stamped = parse.moment(raw["SystemModstamp"]) or 0
                account_id, merged_into = parse.at_path(raw, paths[name]), raw.get("MasterRecordId")
                changed.append(Change(name, raw["Id"], account_id, stamped, merged_into))
        return changed

    def open_tasks(self) -> Iterator[FailureTask]:
        """All open Tasks that were made for a failed payment."""
        query = self._open_tasks(self._names["task"].object)
        yield from self._tasks(self.query_all({"task": query})["task"])

    def everything(self, name: str) -> Iterator[Any]:
        """All records of an object."""
        yield from self.parsed(name, self.query_all({name: self._select(name, None)})[name])

    def parsed(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
        """Rows of a query as records."""
        for raw in rows:
            found = parse.record(SALESFORCE_RECORDS[name], self.fields[name], raw)
            if name == "account":
                able = (member["UserId"] for member in _children(raw, TEAM) if parse.at_path(member, "User.IsActive"))
                found = replace(found, team_owner_id=min(able, default=None))
            yield found

    def query_all(self, queries: Mapping[str, str], *, deleted: bool = False) -> dict[str, list[Mapping[str, Any]]]:
        """The rows of up to five queries, asked in one composite call and followed to their last page.

        With `deleted` also those in the recycle bin.
        """
        resource = "queryAll" if deleted else "query"
        answers = self._composite({name: f"{resource}?q={quote(soql)}" for name, soql in queries.items()})
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for name, answer in answers.items():
            rows[name] = list(answer["records"])
            while not answer["done"]:
                answer = self._call("GET", "query/" + str(answer["nextRecordsUrl"]).rpartition("/")[2])
                rows[name].extend(answer["records"])
        self.rows += sum(len(found) for found in rows.values())
        return rows

    def write(self, writes: Sequence[Write], *, guard: Guard) -> list[Outcome]:
        """Makes the writes, pooled into composite calls; one outcome per write, in the order given."""
        outcomes: dict[int, Outcome] = {}
        for parts in composite_calls(writes):
            outcomes |= self.send(parts, guard=guard)
        return [outcomes[index] for index in range(len(writes))]

    def send(self, parts: Sequence[Part], *, guard: Guard) -> dict[int, Outcome]:
        """Sends up to five collections in one call; the outcome of each of their writes, by its index.

        What is refused as a whole is sent again in halves, pooled by five, until every write has an outcome of its
        own: k bad records of a collection of 200 cost at most 2k * log2(200) more calls. `guard` is called right
        before each call leaves; what is not sent in time is throttled.
        """
        outcomes: dict[int, Outcome] = {}
        waiting = list(parts)
        while waiting:
            load = waiting[-COLLECTIONS_PER_CALL:]
            try:
                guard()
            except DeadlinePassed:
                late = Outcome("throttled", message="it was not sent in time")
                return outcomes | {index: late for part in waiting for index in part.indexes}
            del waiting[-COLLECTIONS_PER_CALL:]
            answers = self._post(load)
            if isinstance(answers, Outcome) and answers.state in REFUSED and len(load) > 1:
                middle = len(load) // 2
                outcomes |= self.send(load[:middle], guard=guard) | self.send(load[middle:], guard=guard)
                continue
            for number, part in enumerate(load):
                if isinstance(answers, Outcome):
                    status, found = answers.http_status or 0, part.all(answers)
                else:
                    status, body = answers[number]
                    found = part.outcomes(status, body)
                if part.is_refused_whole(status, found):
                    waiting += part.halves()
                else:
                    outcomes |= found
        return outcomes

    def _post(self, parts: Sequence[Part]) -> Outcome | list[tuple[int, Any]]:
        """Status and body of each collection's answer, or what became of the whole call."""
        body = canonical.encode(composite_body(parts, self._url("composite/sobjects")))
        before = self.calls
        try:
            answer = self._send("write", "POST", "composite", data=body)
        except NotNow as error:
            return Outcome("throttled", message=str(error))
        except CALL_ERRORS as error:
            return outcome_of_call(error)
        finally:
            self.write_calls += self.calls - before
        return [(part["httpStatusCode"], part["body"]) for part in answer["compositeResponse"]]

    def _tasks(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[FailureTask]:
        for raw in rows:
            yield parse.record(FailureTask, self.fields["task"], raw)

    def _open_tasks(self, source: str) -> str:
        """The query of open Tasks for failed payments, from the object or from an Account's relationship to it."""
        names = self.fields["task"]
        columns = ", ".join(names[field.name] for field in dataclasses.fields(FailureTask))
        return f"SELECT {columns} FROM {source} WHERE IsClosed = false AND {names['failure_key']} != null ORDER BY Id"

    def _select(self, name: str, where: str | None, *subqueries: str) -> str:
        if name == "account" and self._team_role is not None:
            role = self._team_role.replace("\\", "\\\\").replace("'", "\\'")
            subqueries = (*subqueries, f"SELECT UserId, User.IsActive FROM {TEAM} WHERE TeamMemberRole = '{role}'")
        columns = ", ".join([*sorted(set(self.fields[name].values())), *(f"({query})" for query in subqueries)])
        clause = f" WHERE {where}" if where else ""
        return f"SELECT {columns} FROM {self._names[name].object}{clause} ORDER BY Id"

    def _url(self, path: str) -> str:
        return f"/services/data/v{self._login.api_version}/{path}"

    def _composite(self, paths: Mapping[str, str], *, or_missing: bool = False) -> dict[str, Any]:
        """Several GETs in one call; every one of them must succeed, except for what may be missing."""
        parts = [{"method": "GET", "url": self._url(p), "referenceId": name} for name, p in paths.items()]
        answer = self._call("POST", "composite", data=canonical.encode({"compositeRequest": parts}))
        bodies = {}
        for part in answer["compositeResponse"]:
            if or_missing and part["httpStatusCode"] == NOT_THERE:
                continue
            if part["httpStatusCode"] >= 300:
                outcome = outcome_of_errors(part["httpStatusCode"], part["body"])
                why = f"{part['httpStatusCode']} {outcome.code} {outcome.message}"
                raise ReadFailed("Salesforce", why, access=outcome.state == "denied")
            bodies[part["referenceId"]] = part["body"]
        return bodies

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            return self._send("read", method, path, **options)
        except NotNow as error:
            raise ReadFailed("Salesforce", str(error)) from None
        except CALL_ERRORS as error:
            raise read_failure(error) from None

    def _send(self, operation: str, method: str, path: str, **options: Any) -> Any:
        self.gate.before(SYSTEM, operation)
        self.calls += 1
        try:
            answer = self._session.restful(path, method=method, **options)
        except CALL_ERRORS as error:
            if (why := failure_of_system(error)) is not None:
                self.gate.failed(SYSTEM, operation, why)
            else:
                self.gate.worked(SYSTEM, operation)
            raise
        self.gate.worked(SYSTEM, operation)
        return answer


def _children(raw: Mapping[str, Any], relationship: str) -> list[Mapping[str, Any]]:
    """The rows of a subquery; Salesforce shows none of them as null."""
    return list((raw.get(relationship) or {}).get("records", []))


class _Transport(requests.adapters.BaseAdapter):
    """Gives every call a timeout, which the SDK does not, and sends it to the sandbox where one is set.

    `usage` is what the latest answer said of the daily allowance: calls used, calls allowed; `unheard` says that it
    was told since somebody last set it back.
    """

    def __init__(self, base_url: str | None, through: requests.adapters.BaseAdapter) -> None:
        self._base = urlsplit(base_url) if base_url else None
        self.usage: tuple[int, int] | None = None
        self.unheard = False
        self._through = through
        super().__init__()

    def close(self) -> None:
        self._through.close()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        options["timeout"] = CONNECT_AND_READ_SECONDS
        if self._base is not None:
            original = urlsplit(str(request.url))
            request.headers.setdefault("Host", original.netloc)
            target = (self._base.scheme, self._base.netloc, original.path, original.query, original.fragment)
            request.url = urlunsplit(target)
        answer = self._through.send(request, *args, **options)
        # Read here and not from the SDK, which forgets it on the very answers that say that nothing is left.
        if found := USAGE.search(answer.headers.get("Sforce-Limit-Info", "")):
            self.usage, self.unheard = (int(found[1]), int(found[2])), True
        if answer.status_code >= 500 and SIGN_IN in str(request.url):
            # The SDK takes every failed sign-in for a refusal; this one is an outage, and passes.
            raise requests.ConnectionError(f"sign-in is not available ({answer.status_code})")
        return answer


def _soql_moment(micros: int) -> str:
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
