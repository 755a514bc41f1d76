"""Every behaviour switched off turns a test red (sandbox facts 4.6): otherwise the suite would be blind there.

Each row replaces one function of the sandbox with one that lacks a behaviour, and runs the test that guards it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from simple_salesforce.exceptions import SalesforceError as SdkError

from sync_pipeline.sandbox.salesforce import oauth, recycle_bin, values
from sync_pipeline.sandbox.salesforce.bulk import ingest, query_jobs
from sync_pipeline.sandbox.salesforce.contract import Contract
from sync_pipeline.sandbox.salesforce.database import Database
from sync_pipeline.sandbox.salesforce.errors import SalesforceError
from sync_pipeline.sandbox.salesforce.limits import Limits
from sync_pipeline.sandbox.salesforce.line_items import OpportunityLineItem
from sync_pipeline.sandbox.salesforce.opportunity import Opportunity
from sync_pipeline.sandbox.salesforce.rest import collections, composite, queries
from sync_pipeline.sandbox.salesforce.saving import NoBehaviour, Saver
from sync_pipeline.sandbox.salesforce.schema import Field
from sync_pipeline.sandbox.salesforce.soql import conditions
from sync_pipeline_tests.sandbox.salesforce import (
    test_access,
    test_bulk,
    test_composite,
    test_lifecycle,
    test_queries,
    test_records,
    test_sales,
)
from sync_pipeline_tests.sandbox.salesforce.served import Org


def _no_fold(self: Field, value: Any) -> Any:
    return value


def _always_fold(self: Field, value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def _stale_stamp(self: Saver, o: Any, row: Any, changes: Any, actor: Any) -> Any:
    stamps = {k: row.get(k) or self.db.now() for k in ("SystemModstamp", "LastModifiedDate")}
    return self.db.put(o, row | changes | stamps | {"LastModifiedById": actor.user_id})


def _amount_is_writable(self: Opportunity, saver: Any, old: Any, new: Any, given: set[str]) -> None:
    amount = {n: new[n] for n in ("Amount", "TotalOpportunityQuantity") if n in given}
    _PREPARE_OPPORTUNITY(self, saver, old, new, given)
    new.update(amount)


def _quantity_changes_the_total(self: OpportunityLineItem, old: Any, new: Any, given: set[str]) -> None:
    return _PRICE(self, old, new, given | {"UnitPrice"} if "TotalPrice" not in given else given)


_PREPARE_OPPORTUNITY = Opportunity.prepare
_PRICE = OpportunityLineItem._price

MUTATIONS: dict[str, tuple[Any, str, Any, Callable[..., None]]] = {
    "text is compared with its case": (Field, "index_key", _no_fold, test_queries.test_where),
    "Stripe ids are compared without case": (
        Field,
        "index_key",
        _always_fold,
        test_records.test_unique_minds_case_only_where_the_field_does,
    ),
    "LIKE minds case": (conditions, "_LIKE", re.DOTALL, test_queries.test_where),
    "unique is not enforced": (
        Saver,
        "_check_unique",
        _nothing,
        test_records.test_unique_minds_case_only_where_the_field_does,
    ),
    "writes do not move the stamp": (Saver, "stamp", _stale_stamp, test_records.test_every_write_moves_the_stamps),
    "inactive owners pass": (Saver, "_check_references", _nothing, test_sales.test_owners_must_be_active),
    "row locks never fail": (Saver, "check_locks", _nothing, test_composite.test_row_locks_hit_one_row_and_pass),
    "Amount can be written beside products": (
        Opportunity,
        "prepare",
        _amount_is_writable,
        test_sales.test_amount_is_ignored_in_silence_once_there_are_products,
    ),
    "quantity alone changes the total": (
        OpportunityLineItem,
        "_price",
        _quantity_changes_the_total,
        test_sales.test_quantity_alone_keeps_the_total,
    ),
    "a deleted line leaves the Amount": (
        OpportunityLineItem,
        "removed",
        NoBehaviour.removed,
        test_sales.test_roll_ups_move_the_parents_stamp,
    ),
    "contracts activate on creation": (Contract, "prepare", NoBehaviour.prepare, test_sales.test_contract_lifecycle),
    "everything fits on one page": (
        queries,
        "page_ends",
        lambda weights, size: [len(weights)],
        test_queries.test_paging,
    ),
    "children take no room": (
        queries,
        "page_ends",
        lambda weights, size: [*range(size, len(weights), size), len(weights)],
        test_queries.test_children_take_room_on_a_page,
    ),
    "a composite ignores failed rows": (
        composite,
        "_failed",
        lambda answer: answer.status >= 300,
        test_composite.test_outer_all_or_none_overrides_the_collection,
    ),
    "all or none keeps the good rows": (
        collections,
        "_all_or_none",
        lambda request: False,
        test_composite.test_all_or_none_rolls_back_with_the_documented_text,
    ),
    "the daily limit never ends": (
        Limits,
        "used",
        lambda self: 0,
        test_access.test_limit_header_counts_and_then_refuses,
    ),
    "tokens never expire": (
        oauth,
        "expire_all",
        _nothing,
        test_access.test_expired_session_is_a_401_list_and_the_sdk_recovers,
    ),
    "there is no log of deletions": (recycle_bin, "_log", _nothing, test_lifecycle.test_updated_and_deleted),
    "fresh writes are visible at once": (
        Database,
        "_hold_back",
        _nothing,
        test_queries.test_visibility_delay_hides_fresh_writes_from_queries,
    ),
    "#N/A is text": (ingest, "_NULL", "nothing", test_bulk.test_empty_cells_and_na),
    "bulk results are in order": (
        random.Random,
        "shuffle",
        _nothing,
        test_bulk.test_results_come_in_no_particular_order,
    ),
    "bulk pages end without the word null": (
        query_jobs,
        "page",
        lambda job, locator, most: (b'"Id"\n', 1, ""),
        test_bulk.test_query_job_headers,
    ),
    "numbers are rounded to their scale": (
        values,
        "_number",
        lambda field, value: round(float(value), field.scale),
        test_records.test_values_come_back_as_salesforce_shows_them,
    ),
}


def run(test: Callable[..., None], org: Org, org_with: Callable[..., Org]) -> None:
    """The test as pytest would run it; of a parametrised one, all of its rows."""
    names = test.__code__.co_varnames[: test.__code__.co_argcount]
    available: dict[str, Any] = {"org": org, "org_with": org_with, "shop": None, "company": None}
    if "shop" in names:
        available["shop"] = test_sales.Shop(org)
    if "company" in names:
        available["company"] = test_queries.fill(org)
    rows: list[dict[str, Any]] = [{}]
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            rows = [dict(zip(mark.args[0], row, strict=True)) for row in mark.args[1]]
    for row in rows:
        test(**{name: available[name] for name in names if name in available} | row)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_missing_behaviour_is_noticed(
    name: str, org_with: Callable[..., Org], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that passes on an org as it is, and fails on a broken one. Sandbox facts 4.6."""
    owner, attribute, replacement, test = MUTATIONS[name]
    run(test, org_with(), org_with)
    monkeypatch.setattr(owner, attribute, replacement)
    with pytest.raises((AssertionError, SdkError, SalesforceError, LookupError, pytest.fail.Exception)):
        run(test, org_with(), org_with)
