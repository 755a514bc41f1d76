"""What these tests exchange with the sandbox's Stripe is held against Stripe's own contract, where that is at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sync_pipeline_tests.sandbox.stripe.conftest import Sandbox, Server


@pytest.mark.contract
def test_an_answer_or_a_webhook_that_stripe_would_not_send_is_noticed(
    sandbox: Sandbox, contract: Path, tmp_path: Path
) -> None:
    """Facts: sandbox 4.1. A skip of this test says that the traffic of this folder was held against nothing."""
    sandbox.system.register_webhook("http://127.0.0.1:9/")
    before = len(sandbox.traffic)
    sandbox.customer()
    judged = Server()
    judged.stop()
    judged.traffic = [exchange for exchange in sandbox.traffic[before:] if exchange["path"] == "/v1/customers"]
    judged.note_webhooks(sandbox.system)
    assert len(judged.traffic) == len(judged.webhooks) == 1
    judged.judge(contract, tmp_path)
    for wrong in (judged.traffic[0]["response"], judged.webhooks[0]["data"]["object"]):
        kept = json.dumps(wrong["created"])
        wrong["created"] = "yesterday"
        with pytest.raises(AssertionError, match="created"):
            judged.judge(contract, tmp_path)
        wrong["created"] = json.loads(kept)
