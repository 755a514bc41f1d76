"""Facts: sandbox 4.6: switch one behaviour off at a time; a test of this folder must notice each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import pytest

from sync_pipeline.sandbox.store import Store
from sync_pipeline.sandbox.stripe import (
    customers,
    cycles,
    expand,
    idempotency,
    listing,
    money,
    parameters,
    pictures,
    proration,
    search,
    system,
    tax_ids,
    webhooks,
    world,
)
from sync_pipeline.sandbox.stripe.finalization import collect, finalize
from sync_pipeline.sandbox.stripe.periods import add_interval
from sync_pipeline.sandbox.stripe.world import World
from sync_pipeline_tests.sandbox.stripe import (
    test_catalog,
    test_cycles,
    test_invoices,
    test_prorations,
    test_reading,
    test_requests,
    test_subscriptions,
    test_webhooks,
)
from sync_pipeline_tests.sandbox.stripe.conftest import DAY

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch], None]


def idempotency_keys_are_ignored(patch: Patch) -> None:
    patch.setattr(idempotency, "recall", lambda *_: None)


def idempotency_keys_do_not_look_at_the_body(patch: Patch) -> None:
    patch.setattr(idempotency, "fingerprint", lambda *_: "same")


def has_more_is_always_false(patch: Patch) -> None:
    take = listing._take
    patch.setattr(listing, "_take", lambda rows, count: take(rows, count - 1))


def unknown_parameters_are_dropped(patch: Patch) -> None:
    check = parameters.check

    def lenient(operation: Any, raw: Any) -> Any:
        return check(operation, {k: v for k, v in raw.items() if k in operation.props})

    patch.setattr(system, "check", lenient)


def failed_requests_are_not_undone(patch: Patch) -> None:
    @contextmanager
    def transaction(self: Store) -> Iterator[None]:
        yield

    patch.setattr(Store, "transaction", transaction)


def metadata_is_replaced_not_merged(patch: Patch) -> None:
    patch.setattr(customers, "merge_metadata", lambda row, params: params.get("metadata") or {})


def expansion_has_no_limit(patch: Patch) -> None:
    patch.setattr(expand, "MAX_DEPTH", 99)


def search_sees_everything_at_once(patch: Patch) -> None:
    original = search.search_objects

    def eager(world: World, kind: str, params: Any, url: str) -> Any:
        moved = type("Now", (), {"now": lambda self: 10**11})()
        patch.setattr(world, "clock", moved)
        try:
            return original(world, kind, params, url)
        finally:
            patch.undo()

    patch.setattr("sync_pipeline.sandbox.stripe.behaviour.search_objects", eager)


def signatures_leave_out_the_prefix_of_the_secret(patch: Patch) -> None:
    headers = webhooks._headers

    def bare(body: bytes, secrets: list[str], at: int) -> dict[str, str]:
        return headers(body, [secret.removeprefix("whsec_") for secret in secrets], at)

    patch.setattr(webhooks, "_headers", bare)


def deliveries_are_not_retried(patch: Patch) -> None:
    patch.setattr(webhooks, "record", lambda world, key, status: webhooks._settle(world, key, {}))


def events_do_not_name_their_request(patch: Patch) -> None:
    emit = World.emit

    def anonymous(self: World, *args: Any) -> None:
        self.request = None
        emit(self, *args)

    patch.setattr(World, "emit", anonymous)


def previous_attributes_show_only_plain_values(patch: Patch) -> None:
    difference = pictures.difference

    def plain(before: Any, after: Any) -> Any:
        return {k: v for k, v in difference(before, after).items() if not isinstance(v, dict | list)}

    patch.setattr(pictures, "difference", plain)


def anchors_drift_to_the_last_billing_day(patch: Patch) -> None:
    def drifting(subscription: Any, price: Any, moment: int) -> tuple[int, int]:
        recurring = price["recurring"]
        return moment, add_interval(moment, recurring["interval"], recurring["interval_count"])

    patch.setattr(cycles, "full_period", drifting)


def renewals_are_final_at_once(patch: Patch) -> None:
    def hasty(world: World, subscription: Any, invoice: Any) -> None:
        world.emit("invoice.created", invoice)
        collect(world, finalize(world, invoice))

    patch.setattr(cycles, "_start_draft", hasty)


def prorations_are_by_the_day(patch: Patch) -> None:
    def daily(moment: int, start: int, end: int) -> Fraction:
        return Fraction((end - moment) // DAY, (end - start) // DAY)

    patch.setattr(proration, "share", daily)


def credits_follow_the_price_not_the_debit(patch: Patch) -> None:
    credit = proration.credit

    def classic(world: World, subscription: Any, *args: Any) -> None:
        credit(world, {**subscription, "billing_mode": {"type": "classic"}}, *args)

    patch.setattr("sync_pipeline.sandbox.stripe.subscription_changes.credit", classic)


def incomplete_subscriptions_live_on(patch: Patch) -> None:
    patch.setitem(world.TIMERS, "expire_incomplete", lambda *_: None)


def nothing_falls_overdue(patch: Patch) -> None:
    patch.setitem(world.TIMERS, "overdue", lambda *_: None)


def tiny_totals_are_charged(patch: Patch) -> None:
    patch.setattr(money, "minimum_charge", lambda currency: 0)


def any_tax_id_will_do(patch: Patch) -> None:
    patch.setattr(tax_ids, "_FORMATS", {})


CASES: list[tuple[Mutation, Callable[..., None], tuple[Any, ...]]] = [
    (idempotency_keys_are_ignored, test_requests.test_replay_of_an_idempotency_key, ()),
    (idempotency_keys_do_not_look_at_the_body, test_requests.test_idempotency_key_with_other_parameters, ()),
    (has_more_is_always_false, test_reading.test_lists_are_newest_first_with_cursors, ()),
    (unknown_parameters_are_dropped, test_requests.test_unknown_parameter, ()),
    (failed_requests_are_not_undone, test_requests.test_a_failed_request_leaves_nothing_behind, ()),
    (metadata_is_replaced_not_merged, test_requests.test_empty_string_unsets, ()),
    (expansion_has_no_limit, test_reading.test_expansion, ()),
    (search_sees_everything_at_once, test_reading.test_search_lags_and_finds, ("make",)),
    (signatures_leave_out_the_prefix_of_the_secret, test_webhooks.test_signed_with_the_whole_secret, ()),
    (deliveries_are_not_retried, test_webhooks.test_retries_with_growing_gaps_then_gives_up, ("make",)),
    (events_do_not_name_their_request, test_webhooks.test_request_identifies_our_own_writes, ()),
    (previous_attributes_show_only_plain_values, test_subscriptions.test_update_event_carries_whole_arrays, ()),
    (anchors_drift_to_the_last_billing_day, test_cycles.test_anchor_on_the_31st, ("make",)),
    (renewals_are_final_at_once, test_cycles.test_renewal, ()),
    (prorations_are_by_the_day, test_prorations.test_to_the_second, ()),
    (credits_follow_the_price_not_the_debit, test_prorations.test_credit_is_for_what_was_really_debited,
     ("make", "flexible", 0)),
    (incomplete_subscriptions_live_on,
     test_subscriptions.test_declined_first_payment_is_incomplete_for_23_hours, ()),
    (nothing_falls_overdue, test_cycles.test_sent_invoice_falls_overdue, ()),
    (tiny_totals_are_charged, test_invoices.test_too_small_totals_are_carried, ()),
    (any_tax_id_will_do, test_catalog.test_tax_id_formats, ("gb_vat", "GB12345678")),
]  # fmt: skip


@pytest.mark.parametrize(("mutation", "test", "args"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_test_notices(
    make_sandbox: Callable[..., Any], mutation: Mutation, test: Callable[..., None], args: tuple[Any, ...]
) -> None:
    """The named test passes as things are, and fails once the behaviour is gone. Sandbox facts 4.6."""
    makes = args[:1] == ("make",)
    rest = args[1:] if makes else args
    sound = make_sandbox()
    test(make_sandbox if makes else sound, *rest)
    recorded = len(sound.traffic)
    # Failures of every kind count: an assertion, pytest.raises that found nothing, an error out of the SDK.
    first = make_sandbox if makes else make_sandbox()
    with pytest.MonkeyPatch.context() as patch:
        mutation(patch)
        with pytest.raises((Exception, pytest.fail.Exception)):
            test(first, *rest)
    del sound.traffic[recorded:]  # what a mutant said is nobody's word
    make_sandbox()  # the last one made is checked when the test ends: leave a sound one
