"""What a webhook endpoint may ask for when it is made."""

from __future__ import annotations

from sync_pipeline_tests.sandbox.stripe.conftest import Sandbox
from sync_pipeline_tests.sandbox.stripe.test_requests import error, raw

ENDPOINT = "url=http%3A%2F%2F127.0.0.1%3A9%2Fhook&enabled_events[]=*"
PATH = "/v1/webhook_endpoints"


def test_only_the_version_whose_shapes_it_has(sandbox: Sandbox) -> None:
    """Issue B: events are never made in a shape that was guessed; an older version is refused by name."""
    refused = raw(sandbox, "POST", PATH, f"{ENDPOINT}&api_version=2024-06-20")
    assert (refused.status_code, error(refused)["param"]) == (501, "api_version")
    assert "api_version=2024-06-20" in error(refused)["message"]
    assert sandbox.v1.webhook_endpoints.list().data == []
    pinned = raw(sandbox, "POST", PATH, f"{ENDPOINT}&api_version=2026-10-28.endive")
    assert (pinned.status_code, pinned.json()["api_version"]) == (200, "2026-10-28.endive")
    assert raw(sandbox, "POST", PATH, ENDPOINT).status_code == 200
