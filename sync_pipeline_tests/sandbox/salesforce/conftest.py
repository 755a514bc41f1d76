"""Fixtures: one HTTP server for the whole session, one fresh org for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sync_pipeline.sandbox.salesforce.settings import SalesforceSettings
from sync_pipeline_tests.sandbox.salesforce.served import Org, Server, new_org, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def org(server: Server) -> Org:
    """An org as it is on its first day."""
    return new_org(server)


@pytest.fixture
def org_with(server: Server) -> Callable[..., Org]:
    """An org with settings of its own: `org_with(page_size=2)`."""

    def make(**settings: Any) -> Org:
        return new_org(server, SalesforceSettings(**settings))

    return make
