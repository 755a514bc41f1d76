"""The receiver's tests run it beside an installation on a live sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_pipeline_tests.engine.conftest import running_sandbox, sandbox, sync
from sync_pipeline_tests.engine.installation import Installation
from sync_pipeline_tests.receiver.endpoint import Endpoint, serving

__all__ = ["running_sandbox", "sandbox", "sync"]


@pytest.fixture
def endpoint(sync: Installation) -> Iterator[Endpoint]:
    """The receiver of this installation, over HTTP."""
    with serving(sync) as running:
        yield running
