"""The inbox of conflicts, which keeps each of them and what a person ruled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "conflict",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("rule", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("record_id", TEXT, nullable=False),
        sa.Column("opportunity_id", TEXT, nullable=True),
        sa.Column("base", TEXT, nullable=True),
        sa.Column("salesforce", TEXT, nullable=False),
        sa.Column("stripe", TEXT, nullable=False),
        sa.Column("base_in_words", TEXT, nullable=True),
        sa.Column("salesforce_in_words", TEXT, nullable=False),
        sa.Column("stripe_in_words", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("winner", TEXT, nullable=True),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("opened_at", INTEGER, nullable=False),
        sa.Column("edited_by_id", TEXT, nullable=True),
        sa.Column("edited_at", INTEGER, nullable=True),
        sa.Column("stripe_object", TEXT, nullable=True),
        sa.Column("stripe_event", TEXT, nullable=True),
        sa.Column("stripe_edited_at", INTEGER, nullable=True),
        sa.Column("decided_by", TEXT, nullable=True),
        sa.Column("decided_at", INTEGER, nullable=True),
        sa.Column("ruling", TEXT, nullable=True),
        sa.Column("ruled_by", TEXT, nullable=True),
        sa.Column("ruled_at", INTEGER, nullable=True),
        sa.Column("shown", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_conflict"),
        sa.CheckConstraint("status IN ('Open', 'Decided', 'Overtaken')", name=op.f("ck_conflict_status")),
        sqlite_strict=True,
    )
    op.create_index("ix_conflict_account", "conflict", ["account"])


def downgrade() -> None:
    op.drop_table("conflict")
