"""A running sandbox with the story's deal, and the two adapters pointed at it, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_pipeline.config.rules import load_rules
from sync_pipeline.systems.salesforce.client import Salesforce
from sync_pipeline.systems.salesforce.connection import Login
from sync_pipeline.systems.stripe.client import Stripe
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

START = 1_795_000_000


@pytest.fixture(scope="module")
def story_process() -> Iterator[SandboxHandle]:
    with start_sandbox("--data", "story", "--now", str(START)) as handle:
        yield handle


@pytest.fixture(scope="module")
def first_state(story_process: SandboxHandle) -> object:
    return story_process.control("GET", "/snapshot")


@pytest.fixture
def sandbox(story_process: SandboxHandle, first_state: object) -> SandboxHandle:
    """The story at its beginning, for every test."""
    story_process.control("POST", "/snapshot", first_state)
    return story_process


@pytest.fixture
def salesforce(sandbox: SandboxHandle) -> Salesforce:
    login = Login(
        domain="sandbox.my",
        client_id=sandbox.ready["client_id"],
        client_secret=sandbox.ready["client_secret"],
        base_url=sandbox.ready["salesforce_url"],
    )
    return Salesforce(login, load_rules().salesforce, "Customer Success Manager")


@pytest.fixture
def stripe(sandbox: SandboxHandle) -> Stripe:
    return Stripe(sandbox.ready["stripe_key"], base_url=sandbox.ready["stripe_url"])
