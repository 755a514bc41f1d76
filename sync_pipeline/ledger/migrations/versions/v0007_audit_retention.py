"""Old rows of the audit may be removed: only under an anchor that fits their chain and of which the chain tells."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

IS_ANCHORED = "EXISTS (SELECT 1 FROM audit_anchor WHERE account = OLD.account AND seq >= OLD.seq)"
FITS = """
    EXISTS (SELECT 1 FROM audit WHERE account = NEW.account AND seq = NEW.seq AND hash = NEW.hash)
    AND EXISTS (SELECT 1 FROM audit WHERE account = NEW.account AND seq > NEW.seq AND what = 'audit retention')
"""
UNFIT = "an anchor must name a row of its chain, which tells of it"

SQLITE_TRIGGERS = (
    "DROP TRIGGER audit_append_only_delete",
    f"""
    CREATE TRIGGER audit_append_only_delete BEFORE DELETE ON audit WHEN NOT {IS_ANCHORED}
    BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END
    """,
    f"""
    CREATE TRIGGER audit_anchor_fits BEFORE INSERT ON audit_anchor WHEN NOT ({FITS})
    BEGIN SELECT RAISE(ABORT, '{UNFIT}'); END
    """,
    """
    CREATE TRIGGER audit_anchor_append_only_delete BEFORE DELETE ON audit_anchor
    BEGIN SELECT RAISE(ABORT, 'audit_anchor is append-only'); END
    """,
    """
    CREATE TRIGGER audit_anchor_append_only_update BEFORE UPDATE ON audit_anchor
    BEGIN SELECT RAISE(ABORT, 'audit_anchor is append-only'); END
    """,
)

POSTGRES_TRIGGERS = (
    "DROP TRIGGER audit_append_only ON audit",
    """
    CREATE TRIGGER audit_append_only BEFORE UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()
    """,
    f"""
    CREATE FUNCTION ledger_audit_delete() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT {IS_ANCHORED} THEN
            RAISE EXCEPTION 'audit is append-only';
        END IF;
        RETURN OLD;
    END $$
    """,
    """
    CREATE TRIGGER audit_append_only_delete BEFORE DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION ledger_audit_delete()
    """,
    f"""
    CREATE FUNCTION ledger_audit_anchor() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT ({FITS}) THEN
            RAISE EXCEPTION '{UNFIT}';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER audit_anchor_fits BEFORE INSERT ON audit_anchor
    FOR EACH ROW EXECUTE FUNCTION ledger_audit_anchor()
    """,
    """
    CREATE TRIGGER audit_anchor_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_anchor
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only()
    """,
)


def upgrade() -> None:
    op.create_table(
        "audit_anchor",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.Column("removed", INTEGER, nullable=False),
        sa.Column("at", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("account", "seq", name="pk_audit_anchor"),
        sqlite_strict=True,
    )
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in SQLITE_TRIGGERS if sqlite else POSTGRES_TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    """What was removed cannot come back, and its anchors must not be lost."""
    raise NotImplementedError("a ledger whose audit may have been shortened cannot be downgraded")
