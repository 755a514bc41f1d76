"""Calling the sandbox's ports with nothing but HTTP, so that the shell is tested and not an SDK."""

from __future__ import annotations

from typing import Any

import requests

from sync_pipeline_tests.sandbox_process import SandboxHandle

VERSION = "2026-10-28.endive"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def stripe(
    handle: SandboxHandle, method: str, path: str, *, key: str | None = None, timeout: float = 30, **params: Any
) -> requests.Response:
    """One call to Stripe on a fresh connection; `key` is an idempotency key, `params` flat form parameters."""
    headers = {"Authorization": f"Bearer {handle.ready['stripe_key']}", "Stripe-Version": VERSION}
    if key is not None:
        headers["Idempotency-Key"] = key
    url = handle.ready["stripe_url"] + path
    with requests.Session() as session:
        session.trust_env = False
        if method == "POST":
            return session.request(method, url, data=params, headers=headers, timeout=timeout)
        return session.request(method, url, params=params, headers=headers, timeout=timeout)


def soql(handle: SandboxHandle, query: str) -> list[dict[str, Any]]:
    """The records of a query, as the integration user."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            handle.ready["salesforce_url"] + "/services/data/v66.0/query",
            params={"q": query},
            headers={"Authorization": f"Bearer {handle.ready['access_token']}"},
            timeout=30,
        )
    answer.raise_for_status()
    records: list[dict[str, Any]] = answer.json()["records"]
    return records


def customers(handle: SandboxHandle) -> list[str]:
    """The names of all customers, newest first."""
    return [customer["name"] for customer in stripe(handle, "GET", "/v1/customers", limit=100).json()["data"]]
