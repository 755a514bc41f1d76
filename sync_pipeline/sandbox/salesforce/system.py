"""The simulated Salesforce as the HTTP shell and the control plane see it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.salesforce import ids, merging, oauth, recycle_bin, soap
from sync_pipeline.sandbox.salesforce.bulk import jobs
from sync_pipeline.sandbox.salesforce.errors import SalesforceError, not_found, unsupported
from sync_pipeline.sandbox.salesforce.org import Org
from sync_pipeline.sandbox.salesforce.rest import bulk_jobs, routes, versions
from sync_pipeline.sandbox.salesforce.rest.request import Answer, Request
from sync_pipeline.sandbox.salesforce.schema import SObject
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline.sandbox.salesforce.soql.execute import run
from sync_pipeline.sandbox.salesforce.soql.rows import Session
from sync_pipeline.sandbox.store import Row
from sync_pipeline.sandbox.wire import Call, Reply

_DATA = re.compile(r"/services/data(?:/v(?P<version>\d+\.\d)(?P<rest>/.*)?)?$")
_LONGEST_URI = 16_384
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_JSON = "application/json;charset=UTF-8"


class SalesforceSystem:
    """Implements `wire.System`. `access_token` is valid from the start and until tokens are expired on demand."""

    compresses = True

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int = 0,
        settings: SalesforceSettings | None = None,
        base_url: Callable[[], str] | None = None,
    ) -> None:
        self.org = Org(clock, seed, settings or SalesforceSettings(), base_url)
        self.client_id = self.org.client_id
        self.client_secret = self.org.client_secret
        self.username = self.org.username
        self.password = self.org.password
        self.security_token = self.org.security_token
        self.refresh_token = self.org.refresh_token
        self.org_id = self.org.org_id
        self.access_token = oauth.issue(self.org, forever=True)

    def handle(self, call: Call) -> Reply:
        try:
            with self.org.store.transaction():
                answer = self._answer(call)
        except SalesforceError as error:
            answer = Answer(error.status, error.as_response())
        except Exception as problem:  # The vendor's server does not die of one request either.
            body = [{"message": f"{type(problem).__name__}: {problem}", "errorCode": "UNKNOWN_EXCEPTION"}]
            answer = Answer(500, body)
        return self._reply(call, answer)

    def next_due(self) -> int | None:
        moments = (jobs.next_due(self.org), recycle_bin.next_purge(self.org.saver))
        return min((m for m in moments if m is not None), default=None)

    def run_due(self) -> None:
        """Bulk jobs run, and the recycle bin is emptied of what is old."""
        with self.org.store.transaction():
            bulk_jobs.run_ready(self.org)
            recycle_bin.purge(self.org.saver)

    def truth(self) -> dict[str, Any]:
        return self.org.truth()

    def snapshot(self) -> dict[str, Any]:
        return {
            "tables": self.org.store.snapshot(),
            "locks": dict(self.org.saver.row_locks),
            "rows_until_lock": self.org.saver.rows_until_lock,
            "fail_job_after": self.org.fail_job_after,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.org.store.restore(state["tables"])
        self.org.saver.row_locks = dict(state["locks"])
        self.org.saver.rows_until_lock = state.get("rows_until_lock")
        self.org.fail_job_after = state["fail_job_after"]
        self.org.db.rebuild_indexes()

    def edit(
        self,
        *,
        object: str,
        id: str | None,
        fields: dict[str, Any] | None,
        delete: bool = False,
        undelete: bool = False,
        user: str | None = None,
    ) -> Row:
        """What a person does in the user interface; returns the record. Raises SalesforceError.

        `id` None creates; `user` is an id or sales (the default), success or integration.
        """
        o, actor, saver = self._object(object), self.org.person(self._user(user)), self.org.saver
        with self.org.store.transaction():
            if id is None:
                return dict(saver.insert(o, fields or {}, actor))
            record_id = self._id(id)
            if undelete:
                return dict(recycle_bin.undelete(saver, o, record_id, actor))
            if delete:
                row = saver.existing(o, record_id)
                recycle_bin.delete(saver, o, record_id, actor)
                return dict(self.org.db.get(o, record_id) or row)
            return dict(saver.update(o, record_id, fields or {}, actor))

    def merge(self, *, object: str, winner: str, loser: str) -> Row:
        """A person merges two records; returns the winner. Raises SalesforceError."""
        with self.org.store.transaction():
            o = self._object(object)
            return dict(merging.merge(self.org.saver, o, self._id(winner), self._id(loser), self.org.person(None)))

    def select(self, soql: str) -> list[Row]:
        """What a person would see: all records that a query finds, whatever the limits. Raises SalesforceError."""
        base = f"/services/data/v{versions.NEWEST}.0"
        return run(Session(self.org.db, self.org.access, base), soql).records

    @property
    def settings(self) -> SalesforceSettings:
        return self.org.settings

    def configure(self, **changes: Any) -> None:
        """Changes settings (fields of SalesforceSettings) of the running org. Raises ValueError, TypeError."""
        self.org.configure(**changes)

    def expire_tokens(self) -> None:
        """Every session ends now; clients get 401 INVALID_SESSION_ID until they ask for a new token."""
        oauth.expire_all(self.org)

    def lock_row(self, record_id: str, times: int = 1) -> None:
        """The next writes that touch this record fail with UNABLE_TO_LOCK_ROW."""
        self.org.saver.lock(self._id(record_id), times)

    def lock_nth_row(self, nth: int) -> None:
        """The n-th row that is created or updated from now on fails with UNABLE_TO_LOCK_ROW."""
        self.org.saver.rows_until_lock = nth

    def fail_next_job(self, after_rows: int) -> None:
        """The next bulk job that runs stops after so many rows: state Failed, the rest unprocessed."""
        self.org.fail_job_after = after_rows

    def _object(self, name: str) -> SObject:
        o = self.org.schema.get(name)
        if o is None:
            raise SalesforceError("INVALID_TYPE", f"sObject type '{name}' is not supported.")
        return o

    def _id(self, text: str) -> str:
        record_id = ids.normalise(text)
        if record_id is None:
            raise SalesforceError("MALFORMED_ID", f"malformed id {text}", ["Id"])
        return record_id

    def _user(self, user: str | None) -> str | None:
        """A user by id, or by what the user is in a fresh org: sales, success, integration."""
        user_id = self.org.users.get(user) or ids.normalise(user) if user else None
        if user and (user_id is None or self.org.store.get("User", user_id) is None):
            raise SalesforceError("INVALID_CROSS_REFERENCE_KEY", f"there is no user {user}")
        return user_id

    def _answer(self, call: Call) -> Answer:
        # Clients that keep a slash at the end of the instance's address send two.
        path = "/" + call.path.strip("/")
        segments = path.split("/")[1:]
        spoken = soap.path(segments) if call.method == "POST" else None
        if spoken is not None:
            return soap.answer(self.org, call, *spoken)
        match segments:
            case ["services", "oauth2", "token"]:
                return oauth.token_endpoint(self.org, call)
            case ["services", "oauth2", "revoke"]:
                return oauth.revoke_endpoint(self.org, call)
            case ["services", "oauth2", "userinfo"]:
                return Answer(200, oauth.userinfo(self.org, self._caller(call), self.org.base_url(call)))
            case ["services", "async", *_]:
                return _no_bulk_api_1(call)
            case ["id", org_id, user_id]:
                return self._identity(call, org_id, user_id)
        found = _DATA.match(path)
        if found is None:
            raise unsupported(f"{call.method} {call.path}")
        if found["version"] is None:
            return Answer(200, versions.listing())
        return self._rest(call, found["version"], (found["rest"] or "").strip("/"))

    def _rest(self, call: Call, version: str, rest: str) -> Answer:
        versions.check(f"v{version}")
        if len(call.path) + len(call.query) > _LONGEST_URI:
            raise SalesforceError("URI_TOO_LONG", f"the URI has more than {_LONGEST_URI} bytes", status=414)
        user_id = self._caller(call)
        accepted = call.headers.get("accept", "")
        if "xml" in accepted and "json" not in accepted and "*/*" not in accepted:
            raise unsupported("answers in XML")
        self.org.limits.use_one()
        path = tuple(rest.split("/")) if rest else ()
        request = Request(
            self.org,
            self.org.api_actor(user_id, call.headers),
            "GET" if call.method == "HEAD" else call.method,
            version,
            path,
            call.query,
            call.headers,
            call.body,
            dispatch=routes.answer,
        )
        return routes.answer(request)

    def _identity(self, call: Call, org_id: str, user_id: str) -> Answer:
        caller = self._caller(call)
        if ids.normalise(org_id) != self.org_id or ids.normalise(user_id) != caller:
            raise not_found()
        return Answer(200, oauth.identity(self.org, caller, self.org.base_url(call)))

    def _caller(self, call: Call) -> str:
        return oauth.authenticate(self.org, call.headers)

    def _reply(self, call: Call, answer: Answer) -> Reply:
        headers = {"Date": formatdate(self.org.clock.now(), usegmt=True)} | answer.headers
        if re.match(r"/+services/data/v", call.path):
            headers["Sforce-Limit-Info"] = self.org.limits.header()
        if answer.body is None:
            return Reply(answer.status, b"", headers)
        if isinstance(answer.body, bytes):
            return Reply(answer.status, answer.body, headers)
        body = _encode(answer.body).encode()
        return Reply(answer.status, b"" if call.method == "HEAD" else body, {"Content-Type": _JSON} | headers)


def _no_bulk_api_1(call: Call) -> Answer:
    """Clients that still begin with Bulk API 1.0 know by this very message that they must go another way."""
    error = {"exceptionCode": "FeatureNotEnabled", "exceptionMessage": "Async API not enabled"}
    if "json" in call.headers.get("content-type", ""):
        return Answer(400, error)
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in error.items())
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><error xmlns="http://www.force.com/2009/06/asyncapi/dataload">{inner}'
    )
    return Answer(400, f"{body}</error>".encode(), {"Content-Type": "application/xml"})
