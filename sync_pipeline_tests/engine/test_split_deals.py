"""Deals that are too large for one subscription, split into parts: each line stays with its part, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sync_pipeline.engine.reconcile import reconcile
from sync_pipeline_tests.engine.installation import Installation, installed
from sync_pipeline_tests.engine.people import delete, fault, mark, only, records, requests_since
from sync_pipeline_tests.engine.selling import sell
from sync_pipeline_tests.sandbox_process import SandboxHandle

SUBSCRIPTIONS = {"side": "stripe", "method": "POST", "path": "^/v1/subscriptions$"}


@pytest.fixture
def sync(sandbox: SandboxHandle, tmp_path: Path) -> Iterator[Installation]:
    """An installation that splits, and a deal of 25 rates, of which a subscription takes 20."""
    with installed(sandbox, tmp_path) as made:
        rules = made.engine.rules
        rules = replace(rules, commercial=replace(rules.commercial, large_deals="split"))
        sell(sandbox, *[{"product": f"Product {number}", "price": 100 + number} for number in range(25)])
        made = replace(made, engine=replace(made.engine, rules=rules))
        made.wait(900)
        yield made


def test_lines_of_the_second_part_are_not_put_into_room_that_the_first_has_later(sync: Installation) -> None:
    """An attack found it: five lines stayed unbilled, because the first subscription could not take them."""
    fault(sync.sandbox, "stripe_429", **SUBSCRIPTIONS, nth=2)
    sync.serve_once(only(sync.sandbox, "Account")["Id"])
    sync.sandbox.control("DELETE", "/faults")
    first = only(sync.sandbox, "subscription")
    for item in first["items"]["data"][:5]:
        delete(sync.sandbox, "OpportunityLineItem", item["metadata"]["sf_line_id"])
    sync.wait(900)
    sync.rest()
    (second,) = [each for each in records(sync.sandbox, "subscription") if each["id"] != first["id"]]
    assert len(second["items"]["data"]) == 5
    sync.check_books()


def test_a_first_part_whose_answer_is_lost_is_no_single_deal(sync: Installation) -> None:
    """The deal was planned once as a whole, and Stripe refused the lines of the second part for the first."""
    fault(sync.sandbox, "drop_after", **SUBSCRIPTIONS)
    sync.serve_once(only(sync.sandbox, "Account")["Id"])
    since = mark(sync.sandbox)
    sync.wait(60)
    sync.rest()
    assert [len(each["items"]["data"]) for each in records(sync.sandbox, "subscription")] == [20, 5]
    assert all(each["status"] < 400 for each in requests_since(sync.sandbox, since, "stripe"))
    assert reconcile(sync.engine).agrees
    sync.check_books()
