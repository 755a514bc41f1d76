"""The last step before the network: whether a write may still leave is asked right before its bytes do.

Between the engine's look at the deadline and the socket lie a wait for the rate limit, a sign-in, the resolution of a
name, two handshakes; and a process may stand still anywhere in between. What is refused here has not happened: neither
system acts on a request whose end it never gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import requests
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from sync_pipeline.systems.outcomes import Guard

CONNECT_AND_READ_SECONDS = (5, 30)
BYTES_AT_ONCE = 16_384
"""A large body waits for the other side to take it; between two such pieces it may be too late."""


def _nothing_to_keep() -> None:
    """Reads may leave at any time."""


_guard: ContextVar[Guard] = ContextVar("guard", default=_nothing_to_keep)


@contextmanager
def guarded(guard: Guard) -> Iterator[None]:
    """Whatever this thread sends leaves only while `guard` lets it, which is asked at once and before all bytes."""
    guard()
    token = _guard.set(guard)
    try:
        yield
    finally:
        _guard.reset(token)


def ask_guard() -> None:
    """For who hands a request on: raises DeadlinePassed when it must not leave any more."""
    _guard.get()()


def never_left(error: requests.RequestException) -> bool:
    """Whether nobody took a connection, over which alone the request could have left."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


class _Connection(HTTPConnection):
    def send(self, data: Any) -> None:
        for piece in _pieces(self, data):
            super().send(piece)


class _SecureConnection(HTTPSConnection):
    def send(self, data: Any) -> None:
        for piece in _pieces(self, data):
            super().send(piece)


def _pieces(connection: HTTPConnection, data: bytes) -> Iterator[bytes]:
    """What may leave, a piece at a time, over a connection that stands."""
    if connection.sock is None:
        connection.connect()
    for start in range(0, len(data), BYTES_AT_ONCE):
        ask_guard()
        yield data[start : start + BYTES_AT_ONCE]


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


POOLS = {"http": _Pool, "https": _SecurePool}


class Wire(requests.adapters.HTTPAdapter):
    """Requests over the network, proxies included."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = POOLS
        return manager


def new_session(transport: requests.adapters.BaseAdapter) -> requests.Session:
    """A session all of whose requests go that way."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, transport)
    return session
