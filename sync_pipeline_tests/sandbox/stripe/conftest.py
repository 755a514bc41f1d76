"""A simulated Stripe behind real HTTP, and the real SDK pointed at it. Every exchange is recorded."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import stripe
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.stripe.settings import StripeSettings
from sync_pipeline.sandbox.stripe.system import StripeSystem
from sync_pipeline.sandbox.wire import Call
from sync_pipeline_tests.sandbox_process import TRAFFIC_FOLDER

START = 1_767_225_600  # 2026-01-01 00:00:00 UTC
DAY, HOUR = 86_400, 3_600
WEBHOOKS = ".webhooks.jsonl"
SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "check_contract.py"
stripe.enable_telemetry = False


class Server:
    """Serves whichever system is current on one port, in a thread."""

    def __init__(self) -> None:
        self.system: StripeSystem | None = None
        self.traffic: list[dict[str, Any]] = []
        self.webhooks: list[dict[str, Any]] = []
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(128)  # so that the first request waits for the thread instead of being refused
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        methods = ["GET", "POST", "DELETE"]
        app = Starlette(routes=[Route("/{path:path}", self._serve, methods=methods)])
        self._uvicorn = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._uvicorn.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()

    async def _serve(self, request: Request) -> Response:
        assert self.system is not None
        body = await request.body()
        headers = {k.lower(): v for k, v in request.headers.items()}
        path = request.scope["raw_path"].decode()
        call = Call(request.method, path, request.url.query, headers, body)
        reply = self.system.handle(call)
        self.traffic.append({
            "method": call.method, "path": call.path, "query": call.query, "body": body.decode(),
            "status": reply.status, "response": json.loads(reply.body),
        })  # fmt: skip
        return Response(reply.body, reply.status, reply.headers)

    def note_webhooks(self, system: StripeSystem) -> None:
        """Take down the bodies that wait to be delivered. Thin events are none of Stripe's v1 document."""
        bodies = [json.loads(delivery.body) for delivery in system.deliveries_due()]
        self.webhooks += [body for body in bodies if body["object"] == "event"]

    def write(self, path: Path) -> None:
        """All traffic so far, in the shape that contract/README.md describes, and the webhooks beside it."""
        for file, lines in ((path, self.traffic), (Path(f"{path}{WEBHOOKS}"), self.webhooks)):
            file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def judge(self, contract: Path, folder: Path) -> None:
        """Hold all traffic so far against Stripe's contract. Raises AssertionError with what is wrong."""
        self.write(folder / "1.jsonl")
        command = [sys.executable, str(SCRIPT), "--contract", str(contract), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        self._thread.join(5)


@dataclass
class Sandbox:
    system: StripeSystem
    clock: Clock
    client: stripe.StripeClient
    url: str
    traffic: list[dict[str, Any]] = field(default_factory=list)

    @property
    def v1(self) -> Any:
        return self.client.v1

    def advance(self, seconds: int) -> None:
        """Move the clock event by event, as the HTTP shell does."""
        target = self.clock.now() + seconds
        while (due := self.system.next_due()) is not None and due <= target:
            self.clock.move_to(max(due, self.clock.now()))
            self.system.run_due()
        self.clock.move_to(target)
        self.system.run_due()

    def events(self, *types: str) -> list[Any]:
        """Events of these types (all without any), oldest first."""
        found = list(self.v1.events.list({"limit": 100}).auto_paging_iter())[::-1]
        return [e for e in found if not types or e.type in types]

    def event_types(self) -> list[str]:
        return [e.type for e in self.events()]

    def customer(self, card: str | None = None, **fields: Any) -> Any:
        if card:
            fields |= {"payment_method": card, "invoice_settings": {"default_payment_method": card}}
        return self.v1.customers.create({"name": "Acme Ltd", "email": "billing@acme.example", **fields})

    def price(self, amount: int | str, interval: str | None = "month", currency: str = "gbp", **fields: Any) -> Any:
        product = fields.pop("product", None) or self.v1.products.create({"name": "Seats"}).id
        unit = {"unit_amount": amount} if isinstance(amount, int) else {"unit_amount_decimal": amount}
        recurring = {"recurring": {"interval": interval}} if interval else {}
        return self.v1.prices.create({"product": product, "currency": currency, **unit, **recurring, **fields})

    def subscribe(self, customer: Any, price: Any, quantity: int = 1, **fields: Any) -> Any:
        items = [{"price": price.id, "quantity": quantity}]
        return self.v1.subscriptions.create({"customer": customer.id, "items": items, **fields})


def check_invoices(sandbox: Sandbox) -> None:
    """What holds for every invoice at every moment (facts: sandbox 4, item 4)."""
    for invoice in sandbox.system.truth().get("invoice", []):
        if invoice.get("deleted"):
            continue
        lines = invoice["lines"]
        if not lines["has_more"]:
            assert sum(line["amount"] for line in lines["data"]) == invoice["subtotal"], invoice["id"]
        off = sum(part["amount"] for part in invoice["total_discount_amounts"])
        exclusive = sum(t["amount"] for t in invoice["total_taxes"] if t["tax_behavior"] == "exclusive")
        assert invoice["total"] == invoice["subtotal"] - off + exclusive, invoice["id"]
        owed = invoice["amount_due"] - invoice["amount_paid"]
        assert invoice["amount_remaining"] == max(0, owed), invoice["id"]


@pytest.fixture(scope="session")
def server(contract: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Where Stripe's contract is at hand, all that was exchanged is held against it when the last test is through.

    Facts: sandbox 4.1: every response and event, 0 violations. Each process of a run judges what went through it. Where
    the contract is absent, test_contract.py is skipped and says so.
    """
    running = Server()
    yield running
    running.stop()
    if folder := os.environ.get(TRAFFIC_FOLDER):
        running.write(Path(folder) / f"stripe-tests-{os.getpid()}.jsonl")
    if contract.is_dir():
        running.judge(contract, tmp_path_factory.mktemp("traffic"))


@pytest.fixture
def make_sandbox(server: Server) -> Iterator[Callable[..., Sandbox]]:
    made: list[Sandbox] = []

    def make(now: int = START, **settings: Any) -> Sandbox:
        clock = Clock(now, frozen=True)
        system = StripeSystem(clock, seed=7, settings=StripeSettings(**settings))
        server.system = system
        client = stripe.StripeClient(system.secret_key, base_addresses={"api": server.url})
        made.append(Sandbox(system, clock, client, server.url, server.traffic))
        return made[-1]

    yield make
    for sandbox in made[-1:]:
        sandbox.events()  # so that every event of every test is part of the recorded traffic
        server.note_webhooks(sandbox.system)
        check_invoices(sandbox)


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return make_sandbox()
