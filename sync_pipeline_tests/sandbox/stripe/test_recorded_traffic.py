"""Everything that the tests of this folder exchanged, held against Stripe's own contract."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sync_pipeline_tests.sandbox.stripe.conftest import Server

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "check_contract.py"


@pytest.mark.contract
def test_recorded_traffic_keeps_to_the_contract(server: Server, contract: Path, tmp_path: Path) -> None:
    """Facts: sandbox 4.1: every response and event, 0 violations. Runs after all other tests of the folder."""
    if not server.traffic:
        pytest.skip("nothing was recorded: run it together with the other tests of this folder")
    server.write(tmp_path / "1.jsonl")
    command = [sys.executable, str(SCRIPT), "--contract", str(contract), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
