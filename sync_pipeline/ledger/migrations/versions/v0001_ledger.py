"""The first ledger: all tables, and the triggers that make facts and the audit append-only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# A fact may only follow its account into the one that a merge left over, as the alias table says.
SQLITE_TRIGGERS = (
    """
    CREATE TRIGGER fact_append_only_delete BEFORE DELETE ON fact
    BEGIN SELECT RAISE(ABORT, 'fact is append-only'); END
    """,
    """
    CREATE TRIGGER fact_append_only_update BEFORE UPDATE ON fact
    WHEN (NEW.kind, NEW.external_id, NEW.revision, NEW.currency, NEW.amount_minor, NEW.occurred_at, NEW.attributes)
        IS NOT (OLD.kind, OLD.external_id, OLD.revision, OLD.currency, OLD.amount_minor, OLD.occurred_at,
            OLD.attributes)
        OR NOT EXISTS (SELECT 1 FROM alias WHERE old_id = OLD.account AND new_id = NEW.account)
    BEGIN SELECT RAISE(ABORT, 'fact is append-only'); END
    """,
    """
    CREATE TRIGGER audit_append_only_delete BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END
    """,
    """
    CREATE TRIGGER audit_append_only_update BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END
    """,
)

POSTGRES_TRIGGERS = (
    """
    CREATE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
    END $$
    """,
    """
    CREATE FUNCTION ledger_fact_update() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (NEW.kind, NEW.external_id, NEW.revision, NEW.currency, NEW.amount_minor, NEW.occurred_at, NEW.attributes)
            IS DISTINCT FROM (OLD.kind, OLD.external_id, OLD.revision, OLD.currency, OLD.amount_minor,
                OLD.occurred_at, OLD.attributes)
            OR NOT EXISTS (SELECT 1 FROM alias WHERE old_id = OLD.account AND new_id = NEW.account)
        THEN
            RAISE EXCEPTION 'fact is append-only';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER fact_append_only_update BEFORE UPDATE ON fact
    FOR EACH ROW EXECUTE FUNCTION ledger_fact_update()
    """,
    """
    CREATE TRIGGER fact_append_only_delete BEFORE DELETE OR TRUNCATE ON fact
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()
    """,
    """
    CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()
    """,
)


def upgrade() -> None:
    """Creates everything. The order of the tables does not matter: none refers to another."""
    op.create_table(
        "work",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("dirty_seq", INTEGER, nullable=False, server_default=sa.text("0")),
        sa.Column("clean_seq", INTEGER, nullable=False, server_default=sa.text("0")),
        sa.Column("priority", INTEGER, nullable=False),
        sa.Column("due_at_wall", INTEGER, nullable=False),
        sa.Column("lease_owner", TEXT, nullable=False, server_default=sa.text("''")),
        sa.Column("lease_until_wall", INTEGER, nullable=False, server_default=sa.text("0")),
        sa.Column("fence", INTEGER, nullable=False, server_default=sa.text("0")),
        sa.Column("fails", INTEGER, nullable=False, server_default=sa.text("0")),
        sa.Column("last_observed_at", INTEGER, nullable=True),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_work")),
        sa.CheckConstraint("clean_seq <= dirty_seq", name=op.f("ck_work_clean_seq")),
        sqlite_strict=True,
    )
    _partial_index("ix_work_dirty", "work", ["priority", "due_at_wall"], where="dirty_seq > clean_seq")
    op.create_table(
        "worker",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("started_wall", INTEGER, nullable=False),
        sa.Column("heartbeat_wall", INTEGER, nullable=False),
        sa.Column("ends_wall", INTEGER, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker")),
        sqlite_strict=True,
    )
    op.create_table(
        "inbox",
        sa.Column("source", TEXT, nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("object_ids", TEXT, nullable=False),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.Column("received_wall", INTEGER, nullable=False),
        sa.Column("account", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("source", "event_id", name=op.f("pk_inbox")),
        sa.CheckConstraint("source IN ('stripe', 'salesforce')", name=op.f("ck_inbox_source")),
        sqlite_strict=True,
    )
    op.create_index("ix_inbox_received_wall", "inbox", ["received_wall"])
    _partial_index("ix_inbox_unresolved", "inbox", ["received_wall"], where="account IS NULL")
    op.create_table(
        "link",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("system", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("external_id", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False, server_default=sa.text("''")),
        sa.Column("linked_at", INTEGER, nullable=False),
        sa.Column("changed_at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("system", "kind", "external_id", name=op.f("pk_link")),
        sa.CheckConstraint("role IN ('primary', 'secondary')", name=op.f("ck_link_role")),
        sa.CheckConstraint("state IN ('live', 'tombstoned', 'merged_into')", name=op.f("ck_link_state")),
        sa.CheckConstraint("system IN ('salesforce', 'stripe')", name=op.f("ck_link_system")),
        sqlite_strict=True,
    )
    op.create_index("ix_link_account", "link", ["account"])
    _partial_index(
        "uq_link_primary",
        "link",
        ["account", "system", "kind", "subject"],
        unique=True,
        where="role = 'primary' AND state = 'live'",
    )
    op.create_table(
        "alias",
        sa.Column("system", TEXT, nullable=False),
        sa.Column("old_id", TEXT, nullable=False),
        sa.Column("new_id", TEXT, nullable=False),
        sa.Column("at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("system", "old_id", name=op.f("pk_alias")),
        sqlite_strict=True,
    )
    op.create_index("ix_alias_new_id", "alias", ["new_id"])
    op.create_table(
        "base",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("field", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("canon_version", INTEGER, nullable=False),
        sa.Column("agreed_at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("account", "subject", "field", name=op.f("pk_base")),
        sqlite_strict=True,
    )
    op.create_table(
        "fact",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("external_id", TEXT, nullable=False),
        sa.Column("revision", INTEGER, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("currency", TEXT, nullable=False),
        sa.Column("amount_minor", INTEGER, nullable=False),
        sa.Column("occurred_at", INTEGER, nullable=False),
        sa.Column("attributes", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("kind", "external_id", "revision", name=op.f("pk_fact")),
        sqlite_strict=True,
    )
    op.create_index("ix_fact_account", "fact", ["account"])
    op.create_table(
        "command",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("number", INTEGER, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("target", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("priority", INTEGER, nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("input_hash", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("changes", TEXT, nullable=False),
        sa.Column("code_version", TEXT, nullable=False),
        sa.Column("generation", INTEGER, nullable=False),
        sa.Column("next_generation", INTEGER, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.Column("changed_at", INTEGER, nullable=False),
        sa.Column("first_sent", INTEGER, nullable=True),
        sa.Column("last_sent", INTEGER, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_command")),
        sa.CheckConstraint(
            "state IN ('planned', 'sending', 'ambiguous', 'done', 'rejected', 'parked', 'superseded')",
            name=op.f("ck_command_state"),
        ),
        sa.UniqueConstraint("key", "number", name=op.f("uq_command_key_number")),
        sqlite_strict=True,
    )
    op.create_index("ix_command_account_state", "command", ["account", "state"])
    op.create_index("ix_command_state_changed_at", "command", ["state", "changed_at"])
    _partial_index(
        "uq_command_open_key", "command", ["key"], unique=True, where="state IN ('planned', 'sending', 'ambiguous')"
    )
    _partial_index(
        "uq_command_unresolved_target",
        "command",
        ["account", "target"],
        unique=True,
        where="state IN ('sending', 'ambiguous')",
    )
    op.create_table(
        "attempt",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("command_id", TEXT, nullable=False),
        sa.Column("number", INTEGER, nullable=False),
        sa.Column("fence", INTEGER, nullable=False),
        sa.Column("idempotency_key", TEXT, nullable=False),
        sa.Column("sent_at", INTEGER, nullable=False),
        sa.Column("deadline_wall", INTEGER, nullable=False),
        sa.Column("outcome", TEXT, nullable=True),
        sa.Column("http_status", INTEGER, nullable=True),
        sa.Column("request_id", TEXT, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("cost_calls", INTEGER, nullable=False, server_default=sa.text("0")),
        sa.Column("finished_at", INTEGER, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
        sa.CheckConstraint(
            "outcome IN ('done', 'rejected', 'ambiguous', 'throttled', 'stale')", name=op.f("ck_attempt_outcome")
        ),
        sa.UniqueConstraint("command_id", "number", name=op.f("uq_attempt_command_id_number")),
        sqlite_strict=True,
    )
    op.create_index("ix_attempt_sent_at", "attempt", ["sent_at"])
    op.create_table(
        "audit",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("at", INTEGER, nullable=False),
        sa.Column("attempt_id", TEXT, nullable=True),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("what", TEXT, nullable=False),
        sa.Column("fields", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("evidence", TEXT, nullable=False),
        sa.Column("run", TEXT, nullable=True),
        sa.Column("code_version", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=True),
        sa.Column("previous_hash", TEXT, nullable=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("account", "seq", name=op.f("pk_audit")),
        sa.UniqueConstraint("attempt_id", name=op.f("uq_audit_attempt_id")),
        sqlite_strict=True,
    )
    op.create_table(
        "audit_head",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("hash", TEXT, nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_audit_head")),
        sqlite_strict=True,
    )
    op.create_table(
        "cursor",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("updated_at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursor")),
        sqlite_strict=True,
    )
    op.create_table(
        "review",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("rule", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("opened_at", INTEGER, nullable=False),
        sa.Column("last_seen", INTEGER, nullable=False),
        sa.Column("closed_at", INTEGER, nullable=True),
        sa.PrimaryKeyConstraint("account", "key", name=op.f("pk_review")),
        sqlite_strict=True,
    )
    _partial_index("ix_review_open", "review", ["opened_at"], where="closed_at IS NULL")
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in SQLITE_TRIGGERS if sqlite else POSTGRES_TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    """There is no way back from the first version but to delete the ledger."""
    raise NotImplementedError("the first ledger version cannot be downgraded")


def _partial_index(name: str, table: str, columns: list[str], *, where: str, unique: bool = False) -> None:
    clause = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=clause, postgresql_where=clause)
