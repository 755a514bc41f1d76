"""The vendors' clients for Node against the sandbox over HTTP: stripe-node and jsforce, fetched by npm for this run.

What the clients see is asserted here; the scripts beside this file only use them as a service would (issue B; facts:
sandbox.md 4.5).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sync_pipeline_tests.sandbox_process import start_sandbox

HERE = Path(__file__).parent
SCRIPTS = ("package.json", "stripe_node.mjs", "jsforce_client.mjs")
_INSTALL_SECONDS, _RUN_SECONDS = 240, 120


@pytest.fixture(scope="module")
def node_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts and what they import. Skips where there is no Node or no npm registry."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not here: install Node.js 20 or later to try the sandbox with its clients")
    folder = tmp_path_factory.mktemp("node clients")
    for name in SCRIPTS:
        shutil.copy(HERE / name, folder)
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefer-offline"]
    try:
        done = subprocess.run(
            install, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm could not fetch stripe and jsforce within {_INSTALL_SECONDS} seconds")
    if done.returncode != 0:
        pytest.skip(f"npm could not fetch stripe and jsforce: {done.stderr.strip()[-500:]}")
    return folder


def seen(folder: Path, script: str) -> dict[str, Any]:
    """What a script saw of an empty sandbox whose clock ticks."""
    with start_sandbox("--data", "empty") as handle:
        command = ["node", script, json.dumps(handle.ready)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_RUN_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_stripe_node(node_project: Path) -> None:
    found = seen(node_project, "stripe_node.mjs")
    assert found["lists"] == {
        "newestFirst": True,
        "upwards": True,
        "searched": ["Customer 7"],
        "searchedAll": 25,
        "removed": True,
        "stub": True,
    }
    assert found["refusals"] == {
        "replayed": True,
        "mismatch": {"class": "StripeIdempotencyError", "status": 400},
        "unknown": {
            "class": "StripeInvalidRequestError",
            "status": 400,
            "code": "parameter_unknown",
            "param": "nmae",
        },
        "missing": {
            "class": "StripeInvalidRequestError",
            "status": 404,
            "code": "resource_missing",
            "param": "id",
        },
        "key": {"class": "StripeAuthenticationError", "status": 401},
    }
    assert found["subscriptions"] == {
        "status": "active",
        "first": ["paid", 4500],
        "product": "Seat",
        "payment": "paid",
        "name": "Acme",
        "clock": "ready",
        "invoices": [["subscription_cycle", 4500, "Acme"], ["subscription_create", 4500, "Acme"]],
        "preview": 3,
        "cancels": True,
        "ended": "canceled",
    }
    assert found["webhooks"] == {
        "type": "product.created",
        "same": True,
        "tampered": "StripeSignatureVerificationError",
        "listed": True,
    }
    assert found["pinned"] == "2026-10-28.endive"


@pytest.mark.slow
def test_jsforce(node_project: Path) -> None:
    found = seen(node_project, "jsforce_client.mjs")
    assert found["signedIn"] == {"sameHost": True, "sameUser": True}
    assert found["records"] == {
        "created": 450,
        "pages": [200, 200, 50],
        "complete": True,
        "upserts": [True, False],
        "many": [False, True],
        "found": ["Fourth", "Third"],
        "mixed": ["saved", "REQUIRED_FIELD_MISSING"],
        "updated": True,
        "retrieved": "+44 20 7946 0000",
        "removed": [True, True],
        "counted": 451,
        "gone": 2,
        "prefix": "001",
        "objects": True,
        "limited": True,
        "missing": "NOT_FOUND",
        "malformed": "MALFORMED_QUERY",
    }
    assert found["bulk"] == {
        "loaded": [6, 1, 0],
        "failed": "STRING_TOO_LONG",
        "upserted": [["cus_bulk", "true"], ["cus_node", "false"]],
        "cleared": None,
        "awkward": True,
    }
