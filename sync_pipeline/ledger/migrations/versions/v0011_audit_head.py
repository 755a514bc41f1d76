"""The end of a chain of the audit can neither be deleted nor set back."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"

GOES_BACK = "NEW.seq < OLD.seq OR NEW.account <> OLD.account"

SQLITE_TRIGGERS = (
    """
    CREATE TRIGGER audit_head_append_only_delete BEFORE DELETE ON audit_head
    BEGIN SELECT RAISE(ABORT, 'audit_head is append-only'); END
    """,
    f"""
    CREATE TRIGGER audit_head_append_only_update BEFORE UPDATE ON audit_head WHEN {GOES_BACK}
    BEGIN SELECT RAISE(ABORT, 'audit_head is append-only'); END
    """,
)

POSTGRES_TRIGGERS = (
    """
    CREATE TRIGGER audit_head_append_only_delete BEFORE DELETE OR TRUNCATE ON audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()
    """,
    f"""
    CREATE TRIGGER audit_head_append_only_update BEFORE UPDATE ON audit_head
    FOR EACH ROW WHEN ({GOES_BACK}) EXECUTE FUNCTION ledger_append_only()
    """,
)


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in SQLITE_TRIGGERS if sqlite else POSTGRES_TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    of_table = "" if op.get_bind().dialect.name == "sqlite" else " ON audit_head"
    for name in ("audit_head_append_only_delete", "audit_head_append_only_update"):
        op.execute(f"DROP TRIGGER {name}{of_table}")
