"""A simulated Salesforce served over real HTTP inside the test process, so that tests see both sides of the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
import uvicorn
from requests.adapters import HTTPAdapter
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceError
from starlette.requests import Request
from starlette.responses import Response

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline.sandbox.salesforce.system import SalesforceSystem
from sync_pipeline.sandbox.wire import Call

START = 1_790_000_000
VERSION = "64.0"
BASE = f"/services/data/v{VERSION}"


class Redirect(HTTPAdapter):
    """Sends what the client addresses to https://anything to the local server, and nothing else differs."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        super().__init__()

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        url = urlsplit(str(request.url))
        request.headers.setdefault("Host", url.netloc)
        request.url = urlunsplit((self._target.scheme, self._target.netloc, url.path, url.query, url.fragment))
        return super().send(request, **options)


class Server:
    """Whatever system is current, on one port."""

    system: SalesforceSystem
    url: str

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        headers = {k.decode().lower(): v.decode() for k, v in request.headers.raw}
        call = Call(request.method, scope["path"], scope["query_string"].decode(), headers, await request.body())
        raw_path = scope.get("raw_path")
        if raw_path:
            call = Call(call.method, raw_path.decode(), call.query, call.headers, call.body)
        reply = self.system.handle(call)
        await Response(reply.body, reply.status, reply.headers)(scope, receive, send)


@contextmanager
def serving() -> Iterator[Server]:
    holder = Server()
    config = uvicorn.Config(
        holder.app, interface="asgi3", port=0, log_level="warning", lifespan="off", date_header=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    holder.url = f"http://127.0.0.1:{port}"
    yield holder
    server.should_exit = True
    thread.join()


@dataclass
class Org:
    """One fresh org, its clock, and the two ways of talking to it: the real SDK and plain HTTP."""

    system: SalesforceSystem
    clock: Clock
    sf: Any  # The SDK makes its objects from attribute names, which types cannot follow.
    session: requests.Session
    url: str

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """A request below /services/data/vXX.X with the token of the integration user."""
        headers = {"Authorization": f"Bearer {self.system.access_token}"} | options.pop("headers", {})
        url = f"{self.url}{path if path.startswith('/services') else f'{BASE}/{path}'}"
        return self.session.request(method, url, json=body, headers=headers, timeout=30, **options)

    def query(self, soql: str) -> list[dict[str, Any]]:
        """Records without their attributes."""
        return [bare(r) for r in self.sf.query_all(soql)["records"]]

    def person(self, kind: str, record_id: str | None = None, **fields: Any) -> str:
        """What somebody does in the user interface; the record's id."""
        return str(self.system.edit(object=kind, id=record_id, fields=fields)["Id"])


def bare(record: Any) -> Any:
    if isinstance(record, dict):
        return {k: bare(v) for k, v in record.items() if k != "attributes"}
    return [bare(r) for r in record] if isinstance(record, list) else record


def errors(refusal: SalesforceError) -> list[dict[str, Any]]:
    """The body of a refusal as the SDK passes it on."""
    found: Any = refusal.content
    return list(found)


def new_org(server: Server, settings: SalesforceSettings | None = None, seed: int = 0) -> Org:
    clock = Clock(START, frozen=True)
    system = SalesforceSystem(clock, seed=seed, settings=settings, base_url=lambda: server.url)
    server.system = system
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", Redirect(server.url))
    sf = Salesforce(
        consumer_key=system.client_id,
        consumer_secret=system.client_secret,
        domain="acme.my",
        session=session,
        version=VERSION,
    )
    return Org(system, clock, sf, session, server.url)
