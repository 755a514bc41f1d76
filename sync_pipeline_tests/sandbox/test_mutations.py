"""Every behaviour switched off turns a check red (sandbox facts 4.6): otherwise the suite would be blind there.

These are the switches of the shell and of the invariants; each system's own stand beside its tests. Each check passes
on the sandbox as it is before it has to fail on the broken one: one that fails for another reason proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from sync_pipeline.sandbox.clock import Clock
from sync_pipeline.sandbox.request_log import RequestLog
from sync_pipeline.sandbox.stripe.system import StripeSystem
from sync_pipeline_tests.sandbox import (
    mutants,
    test_connection_faults,
    test_control,
    test_invariants,
    test_webhook_delivery,
)
from sync_pipeline_tests.sandbox.conftest import START
from sync_pipeline_tests.sandbox.receiver import receiving
from sync_pipeline_tests.sandbox.stripe import test_prorations, test_reading, test_requests, test_webhooks
from sync_pipeline_tests.sandbox.stripe.conftest import Sandbox, Server
from sync_pipeline_tests.sandbox_process import SandboxHandle, start_sandbox

Check = Callable[..., None]

# Checked through a sandbox process, as its clients see it.
OVER_HTTP: list[tuple[mutants.Switch, Check]] = [
    (
        mutants.what_was_dropped_was_done,
        test_connection_faults.test_drop_before_closes_the_connection_and_nothing_was_done,
    ),
    (
        mutants.what_was_dropped_after_was_not_done,
        test_connection_faults.test_drop_after_closes_the_connection_though_the_work_was_done,
    ),
    (
        mutants.truncated_answers_are_whole,
        test_connection_faults.test_truncate_announces_the_whole_body_and_sends_half,
    ),
    (
        mutants.faults_strike_for_ever,
        test_connection_faults.test_the_same_idempotency_key_commits_once_under_drop_after,
    ),
    (
        mutants.failed_deliveries_are_given_up,
        test_webhook_delivery.test_a_failing_receiver_is_tried_again_as_sandbox_time_passes,
    ),
    (
        mutants.signatures_carry_the_sandboxes_time,
        test_webhook_delivery.test_an_event_arrives_signed_so_that_the_sdk_accepts_it,
    ),
    (mutants.doubled_deliveries_come_once, test_webhook_delivery.test_doubled_events_arrive_twice),
    (
        mutants.lost_deliveries_arrive,
        test_webhook_delivery.test_lost_events_never_arrive_though_stripe_believes_they_did,
    ),
    (mutants.reset_changes_nothing, test_control.test_reset_goes_back_to_the_first_state),
    (
        mutants.snapshots_forget_idempotency_keys,
        test_control.test_a_snapshot_document_can_be_put_back_even_with_ids_going_on_as_before,
    ),
]

# Checked in process, on one history that shows it.
IN_PROCESS: list[tuple[mutants.Switch, Check, tuple[Any, ...]]] = [
    (mutants.signatures_are_made_once, test_invariants.check_each_attempt_is_signed_anew, ()),
    (mutants.idempotency_keys_are_forgotten, test_invariants.check_a_key_commits_once, ([["drop_after"]],)),
    (mutants.external_ids_are_not_looked_up, test_invariants.check_an_external_id_commits_once, ([["truncate"]],)),
    (mutants.collections_answer_backwards, test_invariants.check_collection_order, ([True, False],)),
    (
        mutants.roll_ups_leave_the_parents_stamp,
        test_invariants.check_amount_is_the_sum_of_the_lines,
        ([("add", 1, 500)],),
    ),
    (mutants.pages_skip_a_row, test_invariants.check_pages_lose_nothing, ("customers", 3, [1])),
    (mutants.updates_tell_the_new_values_as_previous, test_invariants.check_previous_attributes_chain, ()),
    (mutants.timers_fire_when_the_clock_stops, test_invariants.check_moves_make_no_difference, ([86_400] * 40,)),
]

# Checked by the tests of Stripe's folder, through the SDK.
THROUGH_THE_SDK: list[tuple[mutants.Switch, Check]] = [
    (mutants.canceled_subscriptions_are_listed, test_reading.test_subscriptions_list_hides_canceled_ones),
    (mutants.endpoints_hear_everything, test_webhooks.test_only_enabled_events_and_endpoints),
    (mutants.changes_are_not_credited, test_prorations.test_there_and_back_nets_to_nothing),
    (mutants.requests_do_not_roll_back, test_requests.test_a_failed_request_leaves_nothing_behind),
]

# A check fails by its own words, by pytest.raises that saw nothing, or by what the broken answer made a client do.
FAILURES = (AssertionError, pytest.fail.Exception, stripe.StripeError, LookupError, OSError)


def named(cases: list[Any]) -> list[Any]:
    return [pytest.param(*case, id=case[0].__name__) for case in cases]


@pytest.mark.parametrize(("switch", "check"), named(OVER_HTTP))
def test_a_client_would_notice(
    switch: mutants.Switch, check: Check, sandbox: SandboxHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(check, sandbox)
    monkeypatch.setenv(mutants.CHOSEN, switch.__name__)
    # What a mutant says is no traffic of the sandbox: it goes to a file of its own.
    own_traffic = ("--traffic", str(tmp_path / "traffic.jsonl"))
    with (
        start_sandbox("--now", str(START), *own_traffic, module=mutants.__name__) as broken,
        pytest.raises(FAILURES),
    ):
        through(check, broken)


def through(check: Check, handle: SandboxHandle) -> None:
    """The check as pytest would run it; where it takes a receiver, webhooks arrive there."""
    names = check.__code__.co_varnames[: check.__code__.co_argcount]
    with receiving() as receiver:
        wanted: dict[str, Any] = {"sandbox": handle, "receiver": receiver}
        if "receiver" in names:
            handle.control("POST", "/webhooks", {"url": receiver.url})
        check(**{name: wanted[name] for name in names})


@pytest.mark.parametrize(("switch", "check", "history"), named(IN_PROCESS))
def test_an_invariant_breaks(
    switch: mutants.Switch, check: Check, history: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(*history)
    # What a mutant says is no traffic of the sandbox.
    monkeypatch.setattr(test_invariants, "recorded", RequestLog)
    switch(monkeypatch.setattr)
    with pytest.raises(FAILURES):
        check(*history)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.mark.parametrize(("switch", "check"), named(THROUGH_THE_SDK))
def test_the_sdk_would_notice(
    switch: mutants.Switch, check: Check, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(served(server))
    switch(monkeypatch.setattr)
    with pytest.raises(FAILURES):
        check(served(server))


def served(server: Server) -> Sandbox:
    clock = Clock(START, frozen=True)
    server.system = StripeSystem(clock, seed=7)
    client = stripe.StripeClient(server.system.secret_key, base_addresses={"api": server.url})
    return Sandbox(server.system, clock, client, server.url)
