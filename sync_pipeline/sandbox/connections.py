"""One system on one port: an ASGI callable around `Sandbox.answer`, and faults made real on the socket.

No routes and no vendor knowledge belong in it.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from sync_pipeline.sandbox.wire import Call, Reply
from sync_pipeline.sandbox.world import Answer, Sandbox

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_TRANSPORT = "sandbox.transport"
_WORTH_COMPRESSING = 1_000


class ReachableConnection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """Uvicorn's protocol, with its transport in each request's scope, so that a fault can close the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.app_state: dict[str, Any] = {**self.app_state, _TRANSPORT: transport}
        super().connection_made(transport)


def system_application(sandbox: Sandbox, side: str, written: Callable[[], None]) -> Application:
    """The system `side` as an ASGI application. `written` is called after each call that may have changed it."""

    async def application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        call = await _call(scope, receive)
        if call is None:
            return
        fault = sandbox.strike(side, call)
        try:
            if fault is not None and fault.kind == "delay":
                with sandbox.faults.contention.working_on(call) if side == "stripe" else nullcontext():
                    await asyncio.sleep(fault.seconds)
            answer = sandbox.answer(side, call, fault)
            if call.method != "GET":
                written()
            if answer.wait:
                await asyncio.sleep(answer.wait)
        except asyncio.CancelledError:  # the sandbox is being stopped while a fault holds this call back
            answer = Answer(None)
        await _respond(_coded(answer, call, sandbox.compresses(side)), sandbox.clock.now(), scope, receive, send)

    return application


async def _call(scope: MutableMapping[str, Any], receive: Receive) -> Call | None:
    """The whole request, or None if the client left before it was complete."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if message.get("body"):
            chunks.append(message["body"])
        if not message.get("more_body"):
            break
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return Call(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=_decoded(body) if headers.get("content-encoding") in ("gzip", "deflate") else body,
    )


def _decoded(body: bytes) -> bytes:
    """Without its gzip or zlib wrapping; what has none stays as it is, for the system to refuse."""
    try:
        return zlib.decompress(body, wbits=zlib.MAX_WBITS | 32)
    except zlib.error:
        return body


def _coded(answer: Answer, call: Call, compresses: bool) -> Answer:
    """The answer as it crosses the wire: compressed, if the vendor does that, the client asks and it is worth it."""
    reply = answer.reply
    if not compresses or reply is None or len(reply.body) < _WORTH_COMPRESSING:
        return answer
    if "gzip" not in call.headers.get("accept-encoding", ""):
        return answer
    body = gzip.compress(reply.body, compresslevel=1, mtime=0)
    return replace(answer, reply=replace(reply, body=body, headers=reply.headers | {"Content-Encoding": "gzip"}))


async def _respond(answer: Answer, now: int, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    transport = cast(asyncio.Transport, scope["state"][_TRANSPORT])
    if answer.reply is None:
        transport.abort()
        await _gone(receive)
        return
    await send(_start(answer.reply, now))
    if answer.cut:
        await send({"type": "http.response.body", "body": _first_half(answer.reply.body), "more_body": True})
        transport.close()
        await _gone(receive)
        return
    await send({"type": "http.response.body", "body": answer.reply.body})


class _AsWritten(bytes):
    """A header name that goes out in its own letters: uvicorn lowers names, the vendors do not, and clients mind."""

    def lower(self) -> bytes:
        return self


def _start(reply: Reply, now: int) -> Message:
    headers: list[tuple[bytes, bytes]] = [
        (_AsWritten(name.encode("latin-1")), value.encode("latin-1"))
        for name, value in reply.headers.items()
        if name.lower() != "content-length"
    ]
    if not any(name.lower() == "date" for name in reply.headers):
        headers.append((b"date", _date(now)))
    if reply.status not in (204, 304):
        headers.append((b"content-length", str(len(reply.body)).encode()))
    return {"type": "http.response.start", "status": reply.status, "headers": headers}


@lru_cache(maxsize=8)
def _date(now: int) -> bytes:
    """The vendor's clock is the sandbox's, also where clients read it off a header."""
    return formatdate(now, usegmt=True).encode()


def _first_half(body: bytes) -> bytes:
    return body[: len(body) // 2]


async def _gone(receive: Receive) -> None:
    """Wait until the closed connection is seen as closed, so that the server does not try to answer on it."""
    while (await receive())["type"] != "http.disconnect":
        pass
