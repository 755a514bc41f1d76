"""The quick stage: sandbox over HTTP, the receiver on a port, and the loop of `worker --once` in this process.

It has no Dagster and waits for nothing: to wait is to move the clocks on, so a year takes a second. What the sync
does is the engine's own; nothing of it is replaced.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn
import yaml
from sqlalchemy import func, select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from sync_pipeline.config.settings import Settings, load_settings, sandbox_environment
from sync_pipeline.core.units import MICROS
from sync_pipeline.demo.stage import Sandbox, StageError
from sync_pipeline.engine.assembly import open_engine
from sync_pipeline.engine.context import Engine
from sync_pipeline.engine.drain import DrainPlan, drain
from sync_pipeline.engine.env import SystemEnv
from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline.ledger.database import Ledger
from sync_pipeline.ledger.tables import work
from sync_pipeline.receiver.app import build_app

DAY_SECONDS = 86_400
SWEEP_SECONDS = 300
ECHOES = 6
"""How often our own writes may come back as webhooks before the stage gives up."""
LOOKS = 500


class HurriedEnv(SystemEnv):
    """The real environment, except that to wait is to move its own clock on."""

    def __init__(self, clock_url: str | None) -> None:
        super().__init__(clock_url, at_once=1)
        self.ahead_us = 0

    def wall(self) -> int:
        return super().wall() + self.ahead_us

    def sleep(self, seconds: float) -> None:
        self.ahead_us += int(seconds * MICROS)


@dataclass
class QuickStage:
    """A sandbox and an engine with a ledger of its own."""

    sandbox: Sandbox
    settings: Settings
    engine: Engine
    env: HurriedEnv
    patience_seconds: float = 0
    alerts: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return self.engine.ledger

    def settle(self) -> None:
        for _ in range(ECHOES):
            self.sandbox.control("POST", "/webhooks", {"flush": True})
            drain(self.engine, DrainPlan(poll_seconds=0, sweep_seconds=SWEEP_SECONDS))
            self.sandbox.control("POST", "/webhooks", {"flush": True})
            if not self._is_due():
                break

    def pass_time(self, seconds: int, *, receiving: bool = True) -> None:
        """A day at a time, or less where the sync has something to do sooner."""
        left = seconds
        for _ in range(seconds // DAY_SECONDS + LOOKS):
            if left <= 0:
                return
            stride = min(left, DAY_SECONDS)
            if receiving and (due := self._next_due()) is not None:
                stride = max(1, min(stride, -((self.env.wall() - due) // MICROS)))
            self.env.sleep(stride)
            self.sandbox.control("POST", "/clock", {"advance_seconds": stride})
            left -= stride
            if receiving and self._is_due():
                self.settle()
        raise StageError(f"the sync does not come to rest: it looked {LOOKS} times in {seconds} seconds")

    def wait(self, seconds: float) -> None:
        self.env.sleep(seconds)

    def reconcile(self) -> list[str]:
        return [
            f"{measure} differs by {total.difference} {currency} minor units"
            for measure, by_currency in reconcile(self.engine).totals.items()
            for currency, total in by_currency.items()
            if total.difference
        ]

    def _next_due(self) -> int | None:
        """When the sync will look at an account next (wall, microseconds)."""
        with self.engine.ledger.read() as conn:
            waiting = work.c.dirty_seq > work.c.clean_seq
            return conn.execute(select(func.min(work.c.due_at_wall)).where(waiting)).scalar()

    def _is_due(self) -> bool:
        due = self._next_due()
        return due is not None and due <= self.env.wall()


@contextmanager
def quick_stage(sandbox: Sandbox, home: Path, rules: Mapping[str, Any]) -> Iterator[QuickStage]:
    """An installation with an empty ledger under `home`. `rules` is a rules file: what differs from the shipped one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        environment = {**sandbox_environment(sandbox.ready), "SYNC_HOME": str(home)}
        environment["SYNC_ALERT_WEBHOOK"] = f"{address}/channel"
        if rules:
            file = home / "rules.yaml"
            file.write_text(yaml.safe_dump(dict(rules), sort_keys=False), "utf-8")
            environment["SYNC_RULES"] = str(file)
        settings = load_settings(environment)
        env = HurriedEnv(settings.clock_url)
        with open_engine(settings, run="story") as engine:
            stage = QuickStage(sandbox, settings, replace(engine, env=env), env)
            with _listening(listener, stage):
                sandbox.control("POST", "/webhooks", {"url": f"{address}/webhooks/stripe"})
                yield stage


@contextmanager
def _listening(listener: socket.socket, stage: QuickStage) -> Iterator[None]:
    """The webhook receiver, to which Stripe delivers, and beside it the channel that gets alerts."""
    settings = stage.settings
    clock = SystemEnv(settings.clock_url)
    receiver = build_app(stage.ledger, clock, settings.stripe_webhook_secrets, settings.expect_org_id)

    async def told(request: Request) -> Response:
        stage.alerts.append(await request.json())
        return Response()

    app = Starlette(routes=[Route("/channel", told, methods=["POST"]), Mount("/", receiver)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off"))
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    serving.start()
    try:
        yield
    finally:
        server.should_exit = True
        serving.join(timeout=10)
