"""Idempotency keys: the first answer of a POST is kept for a day and replayed to the letter."""

from __future__ import annotations

import hashlib
import json

from sync_pipeline.sandbox.stripe.errors import StripeError
from sync_pipeline.sandbox.stripe.parameters import decode
from sync_pipeline.sandbox.stripe.world import World

KEPT_SECONDS = 86_400
MAX_LENGTH = 255


def fingerprint(method: str, path: str, query: str, body: bytes) -> str:
    """The same for the same parameters in the same place, in whatever order and spelling they came."""
    said = [method, path, decode(query), decode(body.decode("utf-8", "replace"))]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def recall(world: World, key: str, print_: str) -> tuple[int, bytes, str] | None:
    """(status, body, request id) of the first use of a key, or None if this is the first."""
    if len(key) > MAX_LENGTH:
        raise StripeError(
            f"Idempotency keys can be up to {MAX_LENGTH} characters.", type="idempotency_error", keep=False
        )
    row = world.store.get("idempotency", key)
    if row is None or row["at"] + KEPT_SECONDS <= world.clock.now():
        return None
    if row["print"] != print_:
        raise StripeError(
            "Keys for idempotent requests can only be used with the same parameters they were first used with. "
            f"Try using a key other than '{key}' if you meant to execute a different request.",
            type="idempotency_error", keep=False,
        )  # fmt: skip
    return row["status"], row["body"].encode(), row["request"]


def remember(world: World, key: str, print_: str, status: int, body: bytes, request_id: str) -> None:
    world.store.put("idempotency", key, {
        "print": print_, "status": status, "body": body.decode(), "request": request_id, "at": world.clock.now(),
    })  # fmt: skip


def prune(world: World) -> None:
    """Forget keys older than a day. Rows are in order of first use, so it stops at the first young one."""
    table = world.store.table("idempotency")
    while table:
        key = next(iter(table))
        if table[key]["at"] + KEPT_SECONDS > world.clock.now():
            return
        world.store.delete("idempotency", key)
