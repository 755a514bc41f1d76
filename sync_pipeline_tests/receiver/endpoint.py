"""The receiver as it runs in production, served over HTTP, and a sender that signs like Stripe."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
import uvicorn

from sync_pipeline.receiver.app import build_app
from sync_pipeline_tests.engine.installation import Installation

ORG = "00DAa0000000001"


@dataclass(frozen=True)
class Endpoint:
    """A running receiver. `now` is its wall clock in seconds."""

    url: str
    secret: str
    sync: Installation

    @property
    def now(self) -> int:
        return self.sync.env.wall() // 1_000_000

    def signature(self, body: bytes, *, at: int | None = None, secret: str | None = None) -> str:
        moment = self.now if at is None else at
        signed = hmac.new((secret or self.secret).encode(), b"%d." % moment + body, hashlib.sha256).hexdigest()
        return f"t={moment},v1={signed}"

    def post(self, body: bytes, signature: str | None = None, path: str = "/webhooks/stripe") -> requests.Response:
        """Sends a body, rightly signed unless told otherwise."""
        headers = {"stripe-signature": self.signature(body) if signature is None else signature}
        with requests.Session() as session:
            session.trust_env = False
            return session.post(self.url + path, data=body, headers=headers, timeout=60)

    def deliver(self, event: dict[str, Any]) -> requests.Response:
        return self.post(json.dumps(event, indent=2).encode())


@contextmanager
def serving(sync: Installation) -> Iterator[Endpoint]:
    secrets = sync.settings.stripe_webhook_secrets
    app = build_app(sync.ledger, sync.env, secrets, org_id=ORG)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the receiver did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Endpoint(f"http://127.0.0.1:{port}", str(secrets[0]), sync)
    finally:
        server.should_exit = True
        thread.join()
