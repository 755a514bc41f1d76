"""The ledger's tables: one definition for SQLite and Postgres. No statements here.

Money is BIGINT minor units plus a currency, times are BIGINT microseconds (see the package docstring),
structured values are canonical JSON text. SQLite tables are STRICT, so that no float can slip into an
integer column; Postgres text compares by bytes ("C"), so that both databases sort alike. There are no
foreign keys: rows live for different times (a command 90 days, its attempts 13 months, facts 7 years),
and a row that arrives before the row it belongs to must still be stored.

The append-only triggers of `fact`, `audit`, `audit_anchor` and `audit_head` are in the migrations; audit_witness.py
names them. SCHEMA_VERSION must name the newest migration; a test holds the migrated schema equal to this file.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

SCHEMA_VERSION = "0011"

COMMAND_STATES = ("planned", "sending", "ambiguous", "done", "rejected", "parked", "superseded")
OPEN_STATES = ("planned", "sending", "ambiguous")
UNRESOLVED_STATES = ("sending", "ambiguous")
JOB_STATES = ("gathering", "sending", "running")
CONFLICT_STATES = ("Open", "Decided", "Overtaken")
OUTCOMES = ("done", "rejected", "ambiguous", "throttled", "stale")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _text() -> TypeEngine[str]:
    return Text().with_variant(Text(collation="C"), "postgresql")


def _integer() -> TypeEngine[int]:
    return BigInteger().with_variant(Integer(), "sqlite")


def _t(name: str, *, null: bool = False, default: str | None = None) -> Column[str]:
    return Column(name, _text(), nullable=null, server_default=None if default is None else text(f"'{default}'"))


def _i(name: str, *, null: bool = False, default: int | None = None) -> Column[int]:
    return Column(name, _integer(), nullable=null, server_default=None if default is None else text(str(default)))


def _table(name: str, *items: SchemaItem) -> Table:
    return Table(name, metadata, *items, sqlite_strict=True)


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({_quoted(values)})", name=column)


def _quoted(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    clause: Any = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=clause, postgresql_where=clause)


# The only queue: one row per account, forever. Dirty means dirty_seq > clean_seq.
work = _table(
    "work",
    _t("account"),
    _i("dirty_seq", default=0),
    _i("clean_seq", default=0),
    _i("priority"),
    _i("due_at_wall"),
    _t("lease_owner", default=""),
    _i("lease_until_wall", default=0),
    _i("fence", default=0),
    _i("fails", default=0),
    _i("last_observed_at", null=True),
    PrimaryKeyConstraint("account"),
    CheckConstraint("clean_seq <= dirty_seq", name="clean_seq"),
    _partial("ix_work_dirty", "priority", "due_at_wall", where="dirty_seq > clean_seq"),
)

worker = _table(
    "worker",
    _t("name"),
    _t("kind"),
    _i("started_wall"),
    _i("heartbeat_wall"),
    _i("ends_wall", null=True),
    PrimaryKeyConstraint("name"),
)

# Ids only, never payloads. account is null until it is known, '' when the event belongs to none of ours.
inbox = _table(
    "inbox",
    _t("source"),
    _t("event_id"),
    _t("type"),
    _t("object_ids"),
    _i("created_at"),
    _i("received_wall"),
    _t("account", null=True),
    PrimaryKeyConstraint("source", "event_id"),
    _one_of("source", ("stripe", "salesforce")),
    _partial("ix_inbox_unresolved", "received_wall", where="account IS NULL"),
    Index("ix_inbox_received_wall", "received_wall"),
    Index("ix_inbox_account_received_wall", "account", "received_wall"),
)

# The crosswalk of ids. Tombstones are kept; only a live primary occupies its slot.
link = _table(
    "link",
    _t("account"),
    _t("system"),
    _t("kind"),
    _t("external_id"),
    _t("role"),
    _t("state"),
    _t("subject", default=""),
    _i("linked_at"),
    _i("changed_at"),
    PrimaryKeyConstraint("system", "kind", "external_id"),
    _one_of("system", ("salesforce", "stripe")),
    _one_of("role", ("primary", "secondary")),
    _one_of("state", ("live", "tombstoned", "merged_into")),
    _partial(
        "uq_link_primary",
        "account",
        "system",
        "kind",
        "subject",
        where="role = 'primary' AND state = 'live'",
        unique=True,
    ),
    Index("ix_link_account", "account"),
    Index("ix_link_subject", "subject"),
)

# Account ids that were merged away, always pointing at the account that is left.
alias = _table(
    "alias",
    _t("system"),
    _t("old_id"),
    _t("new_id"),
    _i("at"),
    PrimaryKeyConstraint("system", "old_id"),
    Index("ix_alias_new_id", "new_id"),
)

# The merge base: the canonical values on which both systems last agreed.
base = _table(
    "base",
    _t("account"),
    _t("subject"),
    _t("field"),
    _t("value"),
    _i("canon_version"),
    _i("agreed_at"),
    PrimaryKeyConstraint("account", "subject", "field"),
)

fact = _table(
    "fact",
    _t("kind"),
    _t("external_id"),
    _i("revision"),
    _t("account"),
    _t("currency"),
    _i("amount_minor"),
    _i("occurred_at"),
    _t("attributes"),
    PrimaryKeyConstraint("kind", "external_id", "revision"),
    Index("ix_fact_account", "account"),
)

# number counts the commands of one key. generation goes into the idempotency key; next_generation is
# the one that a later command of the key starts with.
command = _table(
    "command",
    _t("id"),
    _t("key"),
    _i("number"),
    _t("account"),
    _t("target"),
    _t("kind"),
    _i("priority"),
    _t("body"),
    _t("input_hash"),
    _t("reason"),
    _t("changes"),
    _t("code_version"),
    _i("generation"),
    _i("next_generation"),
    _t("state"),
    _i("created_at"),
    _i("changed_at"),
    _i("first_sent", null=True),
    _i("last_sent", null=True),
    _t("agreements", default="[]"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("key", "number"),
    _one_of("state", COMMAND_STATES),
    _partial("uq_command_open_key", "key", where=f"state IN ({_quoted(OPEN_STATES)})", unique=True),
    _partial(
        "uq_command_unresolved_target",
        "account",
        "target",
        where=f"state IN ({_quoted(UNRESOLVED_STATES)})",
        unique=True,
    ),
    Index("ix_command_account_state", "account", "state"),
    Index("ix_command_state_changed_at", "state", "changed_at"),
)

attempt = _table(
    "attempt",
    _t("id"),
    _t("command_id"),
    _i("number"),
    _i("fence"),
    _t("idempotency_key"),
    _i("sent_at"),
    _i("deadline_wall"),
    _t("outcome", null=True),
    _i("http_status", null=True),
    _t("request_id", null=True),
    _t("error", null=True),
    _i("cost_calls", default=0),
    _i("finished_at", null=True),
    _t("job", null=True),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("command_id", "number"),
    _one_of("outcome", OUTCOMES),
    Index("ix_attempt_sent_at", "sent_at"),
    _partial("ix_attempt_job", "job", where="outcome IS NULL AND job IS NOT NULL"),
)

# Bulk jobs that are not in the books yet; the attempts that belong to one name it. One may gather at a time per object.
bulk_job = _table(
    "bulk_job",
    _t("id"),
    _t("object"),
    _t("state"),
    _t("salesforce_id", null=True),
    _i("opened_wall"),
    _i("deadline_wall"),
    _i("started_wall", null=True),
    _t("lease_owner", default=""),
    _i("lease_until_wall", default=0),
    PrimaryKeyConstraint("id"),
    _one_of("state", JOB_STATES),
    _partial("uq_bulk_job_gathering", "object", where="state = 'gathering'", unique=True),
)

audit = _table(
    "audit",
    _t("account"),
    _i("seq"),
    _i("at"),
    _t("attempt_id", null=True),
    _t("actor"),
    _t("what"),
    _t("fields"),
    _t("reason"),
    _t("evidence"),
    _t("run", null=True),
    _t("code_version"),
    _t("request_id", null=True),
    _t("previous_hash"),
    _t("hash"),
    PrimaryKeyConstraint("account", "seq"),
    UniqueConstraint("attempt_id"),
    Index("ix_audit_run", "run"),
)

# The end of each account's chain. It serialises appends, and shows when the newest rows were cut off.
audit_head = _table(
    "audit_head",
    _t("account"),
    _i("seq"),
    _t("hash", default=""),
    PrimaryKeyConstraint("account"),
)

# What retention has removed of a chain: the number and hash of the last row that is gone, and how many went with it.
# A row of the audit can only be deleted under an anchor, and an anchor must fit its chain, which tells of it.
audit_anchor = _table(
    "audit_anchor",
    _t("account"),
    _i("seq"),
    _t("hash"),
    _i("removed"),
    _i("at"),
    PrimaryKeyConstraint("account", "seq"),
)

cursor = _table(
    "cursor",
    _t("name"),
    _t("value"),
    _i("updated_at"),
    PrimaryKeyConstraint("name"),
)

# What a person has to look at. Closed rows stay; a review that comes back is opened again.
review = _table(
    "review",
    _t("account"),
    _t("key"),
    _t("rule"),
    _t("subject"),
    _t("detail"),
    _i("opened_at"),
    _i("last_seen"),
    _i("closed_at", null=True),
    PrimaryKeyConstraint("account", "key"),
    _partial("ix_review_open", "opened_at", where="closed_at IS NULL"),
)

# The inbox of conflicts, forever: one row per field, pair of values and time that they clashed. shown is 0 or 1.
conflict = _table(
    "conflict",
    _t("key"),
    _t("account"),
    _t("rule"),
    _t("subject"),
    _t("record_id"),
    _t("opportunity_id", null=True),
    _t("base", null=True),
    _t("salesforce"),
    _t("stripe"),
    _t("base_in_words", null=True),
    _t("salesforce_in_words"),
    _t("stripe_in_words"),
    _t("reason"),
    _t("winner", null=True),
    _t("status"),
    _i("opened_at"),
    _t("edited_by_id", null=True),
    _i("edited_at", null=True),
    _t("stripe_object", null=True),
    _t("stripe_event", null=True),
    _i("stripe_edited_at", null=True),
    _t("decided_by", null=True),
    _i("decided_at", null=True),
    _t("ruling", null=True),
    _t("ruled_by", null=True),
    _i("ruled_at", null=True),
    _i("shown"),
    PrimaryKeyConstraint("key"),
    _one_of("status", CONFLICT_STATES),
    Index("ix_conflict_account", "account"),
)

# Token buckets, shared by all processes: rates of calls, and the budgets of retries. level is in millionths.
bucket = _table(
    "bucket",
    _t("name"),
    _i("level"),
    _i("at_wall"),
    PrimaryKeyConstraint("name"),
)

# Operations that failed lately. From a number of failures on nothing is sent before retry_wall, and then one probe.
breaker = _table(
    "breaker",
    _t("operation"),
    _i("failures"),
    _i("retry_wall"),
    _t("why"),
    PrimaryKeyConstraint("operation"),
)

# What a system last said of its daily allowance of calls.
allowance = _table(
    "allowance",
    _t("system"),
    _i("used"),
    _i("allowed"),
    _i("seen_wall"),
    PrimaryKeyConstraint("system"),
)

# What was written lately that no person was asked about, by account and moment: a guard's name, and how much.
unasked = _table(
    "unasked",
    _t("account"),
    _i("at_wall"),
    _t("what"),
    _i("amount"),
    PrimaryKeyConstraint("account", "at_wall", "what"),
)
