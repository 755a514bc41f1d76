"""The sandbox as a process: three ports on one event loop, from the ready line to the last byte of the kept state."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import uvicorn

from sync_pipeline.sandbox.connections import Application, ReachableConnection, system_application
from sync_pipeline.sandbox.control import control_application, sign_in
from sync_pipeline.sandbox.courier import Courier
from sync_pipeline.sandbox.desk import Desk
from sync_pipeline.sandbox.first_state import first_state
from sync_pipeline.sandbox.keeping import Keeper
from sync_pipeline.sandbox.options import Options, SandboxError
from sync_pipeline.sandbox.ready_file import published
from sync_pipeline.sandbox.request_log import RequestLog
from sync_pipeline.sandbox.world import Sandbox

HOST = "127.0.0.1"


def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Prints one line of JSON to stdout when all three ports answer.

    Raises SandboxError if a port is taken or a file cannot be used.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="sandbox: %(message)s")
    config = uvicorn.Config(_no_application, loop="auto", log_config=None)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(options))


async def _serve(options: Options) -> None:
    log = _open_log(options.traffic)
    sockets = {
        "salesforce": _bind("--salesforce-port", options.salesforce_port),
        "stripe": _bind("--stripe-port", options.stripe_port),
        "control": _bind("--control-port", options.control_port),
    }
    urls = {name: f"http://{HOST}:{sock.getsockname()[1]}" for name, sock in sockets.items()}
    begins_anew = options.keep is None or not options.keep.exists()
    sandbox = first_state(options, lambda: urls["salesforce"], log)
    courier = Courier(sandbox)
    if options.webhook_url is not None:
        Desk(sandbox).point_webhooks(options.webhook_url)
    applications = {
        "salesforce": system_application(sandbox, "salesforce", courier.wake),
        "stripe": system_application(sandbox, "stripe", courier.wake),
        "control": control_application(sandbox, courier, urls),
    }
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = [_Server(application) for application in applications.values()]
    serving = [
        asyncio.create_task(server.serve(sockets=[sock]))
        for server, sock in zip(servers, sockets.values(), strict=True)
    ]
    while not all(server.started for server in servers):
        await asyncio.sleep(0.005)
    line = json.dumps(ready_line(sandbox, urls))
    with _published(options, line, begins_anew):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        keeper = Keeper(sandbox, options.keep) if options.keep is not None else None
        working = [asyncio.create_task(each.run()) for each in (courier, keeper) if each is not None]
        await asyncio.wait([asyncio.create_task(stop.wait()), *working], return_when=asyncio.FIRST_COMPLETED)
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)
        for task in working:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        if keeper is not None:
            keeper.save()
    log.close()


def _published(options: Options, line: str, begins_anew: bool) -> AbstractContextManager[None]:
    if options.ready_file is None:
        return contextlib.nullcontext()
    return published(options.ready_file, line, begins_anew=begins_anew)


def ready_line(sandbox: Sandbox, urls: dict[str, str]) -> dict[str, str]:
    """Where everything is and how to sign in: what a client needs to start."""
    return {
        "salesforce_url": urls["salesforce"],
        "stripe_url": urls["stripe"],
        "control_url": urls["control"],
        "client_id": sandbox.salesforce.client_id,
        "client_secret": sandbox.salesforce.client_secret,
        "access_token": sandbox.salesforce.access_token,
        "stripe_key": sandbox.stripe.secret_key,
        "webhook_secret": sandbox.webhook_secret,
        **sign_in(sandbox),
    }


class _Server(uvicorn.Server):
    """One of three servers on a loop: stopping is decided for all of them together, so it takes no signals itself."""

    def __init__(self, application: Application) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http=ReachableConnection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=300,
                timeout_graceful_shutdown=1,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _no_application(*_: object) -> None:
    raise AssertionError("only the loop of this configuration is used")


def _open_log(traffic: Path | None) -> RequestLog:
    try:
        return RequestLog(traffic)
    except OSError as error:
        raise SandboxError(f"--traffic {traffic}: {error.strerror}. Name a file that can be written.") from None


def _bind(option: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
    except OSError as error:
        raise SandboxError(f"{option} {port}: {error.strerror}. Choose another port, or 0 for a free one.") from None
    sock.listen(1024)
    return sock
