"""An SDK in another language: jsforce from npm, where node is found (sandbox facts 4.5)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sync_pipeline_tests.sandbox.salesforce.served import Org

_PACKAGE = "jsforce@3.10.16"


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with jsforce in it, fetched by npm."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed: install Node.js 18 or later to run this test")
    folder = tmp_path_factory.mktemp("jsforce")
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), _PACKAGE]
    done = subprocess.run(install, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot fetch {_PACKAGE} here: {done.stderr.strip().splitlines()[-1:]}")
    return folder / "node_modules"


@pytest.mark.slow
def test_jsforce_lists_creates_pages_and_upserts(org_with: Callable[..., Org], node_modules: Path) -> None:
    org = org_with(page_size=2)
    script = Path(__file__).with_name("jsforce_smoke.js")
    login = json.dumps({"url": org.url, "token": org.system.access_token})
    environment = os.environ | {"NODE_PATH": str(node_modules)}
    done = subprocess.run(
        ["node", str(script), login], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "created": [True, True, False],
        "upserted": [True, False],
        "names": ["A", "B", "D"],
        "prefix": "001",
        "refused": "INVALID_FIELD",
        "loaded": [1, 1],
    }
