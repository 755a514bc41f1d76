"""A ledger belongs to one org and one Stripe account from its first use on, whatever the environment says later."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from sync_pipeline.config.settings import Secret
from sync_pipeline.engine.assembly import open_current_ledger, open_engine
from sync_pipeline.engine.binding import (
    ORG,
    STRIPE_ACCOUNT,
    STRIPE_KEY,
    Binding,
    WrongSystem,
    bind,
    bound,
    require_own_systems,
)
from sync_pipeline.ledger import cursors
from sync_pipeline.ledger.tables import cursor
from sync_pipeline_tests.engine.installation import NOW, Installation, installed
from sync_pipeline_tests.engine.people import fault, mark, requests_since, win
from sync_pipeline_tests.sandbox_process import start_sandbox


def _owner(sync: Installation) -> Binding:
    with sync.ledger.read() as conn:
        found = bound(conn)
    assert found is not None
    return found


def test_the_first_use_binds_the_ledger(sync: Installation) -> None:
    assert _owner(sync) == Binding(sync.engine.salesforce.org_id, "sandbox", sync.engine.stripe.account_id(), "test")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (ORG, "00DZz0000000009:production"),
        (STRIPE_ACCOUNT, "acct_other:test"),
    ],
)
def test_another_system_is_refused_before_anything_is_read_or_written(
    sync: Installation, name: str, value: str
) -> None:
    """As when the ledger was copied, or the credentials now lead elsewhere."""
    win(sync.sandbox)
    with sync.ledger.tx() as conn:
        cursors.put(conn, STRIPE_KEY, "of another key", NOW)
        conn.execute(update(cursor).where(cursor.c.name == name).values(value=value))
    start = mark(sync.sandbox)
    with pytest.raises(WrongSystem, match=value.partition(":")[0]) as refused:
        open_engine(sync.settings, run="a copy").__enter__()
    assert "ledger rebind" in str(refused.value)
    assert "\n" not in str(refused.value)
    reads = [entry["path"] for entry in requests_since(sync.sandbox, start) if "oauth2" not in entry["path"]]
    assert set(reads) <= {"/v1/account"}


def test_a_live_key_for_a_ledger_of_test_objects_is_refused(sync: Installation) -> None:
    """Objects of test mode and of live mode know nothing of each other."""
    own = replace(_owner(sync), stripe_mode="live")
    with sync.ledger.tx() as conn:
        bind(conn, own, NOW)
    with pytest.raises(WrongSystem, match=r"\(live\), but the credentials lead to .* \(test\)"):
        open_engine(sync.settings, run="a copy").__enter__()


def test_a_sandbox_org_never_meets_a_live_stripe_account(sync: Installation, tmp_path: Path) -> None:
    """The simulated account has test keys only, so what the settings say is changed behind the adapter's back."""
    live = replace(sync.settings, stripe_api_key=Secret("sk_live_canary"))
    fresh = replace(live, database_url=Secret(f"sqlite:///{tmp_path / 'fresh.db'}"))
    with open_current_ledger(fresh) as ledger:
        with pytest.raises(WrongSystem, match="must not write to a live Stripe account") as refused:
            require_own_systems(live, ledger, sync.engine.salesforce, sync.engine.stripe, NOW)
        with ledger.read() as conn:
            assert bound(conn) is None
    assert "canary" not in str(refused.value)


def test_a_production_org_is_bound_as_one(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"salesforce": {"is_sandbox": False}}))
    options = ("--data", "story", "--now", str(NOW), "--settings", str(settings))
    with start_sandbox(*options) as sandbox, installed(sandbox, tmp_path) as sync:
        assert _owner(sync).org_kind == "production"


def test_a_start_needs_no_answer_from_stripe_to_know_where_the_key_leads(sync: Installation) -> None:
    fault(sync.sandbox, "stripe_503", side="stripe", times=100)
    start = mark(sync.sandbox)
    with open_engine(sync.settings, run="while Stripe is down"):
        pass
    assert requests_since(sync.sandbox, start, "stripe") == []
