"""What the sync writes to Salesforce: which fields on which occasion, in which words, and which keys keep it single.

The rows of the rule table say most of it; here stands what the planner writes beside them, by the sync's own
names. The org is checked against this before anything is written (`rules_check`), and a test holds every write of
the planner against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from sync_pipeline.core.churn import RETENTION
from sync_pipeline.core.conflict import Status
from sync_pipeline.core.conflict_inbox import SIDES
from sync_pipeline.core.kinds import LATCH_ORDER
from sync_pipeline.core.lifecycle import MOST_URGENT_FIRST
from sync_pipeline.core.rates import ONE_TIME, RECURRING
from sync_pipeline.core.rules import Rules

CREATED: Mapping[str, tuple[str, ...]] = {
    "opportunity": (
        "renewal_key",
        "record_type_id",
        "name",
        "account_id",
        "owner_id",
        "currency",
        "stage",
        "close_date",
        "amount",
    ),
    "contract": ("stripe_subscription_id", "account_id", "status", "start_date", "term_months"),
    "churn_record": (
        "key",
        "account_id",
        "opportunity_id",
        "kind",
        "subscription_id",
        "currency",
        "status",
        "effective_date",
        "lost_mrr",
        "reason",
        "feedback",
        "comment",
        "open_debt",
        "is_voluntary",
    ),
    "line": (
        "amends_line_id",
        "opportunity_id",
        "pricebook_entry_id",
        "quantity",
        "unit_price",
        "service_date",
        "billing_interval",
        "charge_type",
        "from_month",
        "stripe_change_key",
        "stripe_item_id",
    ),
    "sync_conflict": (
        "key",
        "account_id",
        "opportunity_id",
        "record_id",
        "field",
        "base_value",
        "salesforce_value",
        "stripe_value",
        "winner",
        "status",
        "reason",
        "salesforce_edited_by_id",
        "salesforce_edited_at",
        "stripe_event",
        "stripe_edited_at",
        "ruling",
        "decided_by",
        "decided_at",
    ),
    "payment_attempt": ("key", "account_id"),
    "task": ("what_id", "owner_id", "subject", "description", "due_date", "priority", "status", "failure_key"),
}
"""Fields that are set when a record is made."""

UPDATED: Mapping[str, tuple[str, ...]] = {
    "opportunity": ("contract_id", "stage", "close_date", "amount", "lost_reason", "amends_opportunity_id"),
    "contract": ("status", "cancel_requested_on"),
    "line": ("quantity", "unit_price"),
    "churn_record": tuple(name for name in CREATED["churn_record"] if name not in ("key", "currency")),
    "sync_conflict": ("winner", "status", "ruling", "decided_by", "decided_at"),
    "task": ("status",),
}
"""Fields of records that are there already, beside the targets of the rule table."""

ONCE_ONLY: Mapping[str, tuple[str, ...]] = {
    "opportunity": ("renewal_key",),
    "contract": ("stripe_subscription_id",),
    "churn_record": ("key",),
    "line": ("amends_line_id", "stripe_change_key"),
    "sync_conflict": ("key",),
    "payment_attempt": ("key",),
}
"""The external ids that keep a record from being made twice. They hold ids, which differ by case alone."""

WORDS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("churn_record", "kind"): ("Churn", "Contraction"),
    ("churn_record", "status"): ("Open", "Rescinded", "Final"),
    ("line", "charge_type"): (ONE_TIME, RECURRING),
    ("sync_conflict", "winner"): SIDES,
    ("sync_conflict", "status"): get_args(Status),
    ("sync_conflict", "ruling"): SIDES,
    ("task", "priority"): ("High", "Normal"),
    ("task", "status"): ("Not Started", "Completed"),
}
"""The values that are written to a field which may be a picklist."""

WORDS_OF_SOURCE: Mapping[str, tuple[str, ...]] = {
    "account_billing_status": MOST_URGENT_FIRST,
    "opportunity_billing_status": (*MOST_URGENT_FIRST, "Needs Attention"),
    "activation": tuple(word for word in LATCH_ORDER if word is not None),
    "account_retention": RETENTION,
}
"""The values that a reading of the rule table can have, where they are few."""


@dataclass(frozen=True, slots=True)
class Use:
    """How one field is written: at creation, later, and in which words (none where any value may come)."""

    created: bool = False
    updated: bool = False
    words: tuple[str, ...] = ()


def written_fields(rules: Rules) -> dict[tuple[str, str], Use]:
    """Every Salesforce field that the sync writes under these rules, by (object, field) in its own names."""
    fields = {(kind, name) for by_kind in (CREATED, UPDATED) for kind, names in by_kind.items() for name in names}
    rows = {(rule.object, rule.field): rule for rule in rules.fields if rule.side == "salesforce"}
    commercial = rules.commercial
    words = {
        **WORDS,
        ("contract", "status"): (commercial.contract_draft, commercial.contract_activated),
        ("line", "billing_interval"): tuple(commercial.intervals),
    }
    return {
        (kind, name): Use(
            created=name in CREATED.get(kind, ()),
            updated=name in UPDATED.get(kind, ()) or (kind, name) in rows,
            words=words.get((kind, name), ())
            or (WORDS_OF_SOURCE.get(rows[kind, name].source, ()) if (kind, name) in rows else ()),
        )
        for kind, name in sorted(fields | rows.keys())
    }
