"""What was written unasked lately, for the guards of all runs and workers together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "unasked",
        sa.Column("account", TEXT, nullable=False),
        sa.Column("at_wall", INTEGER, nullable=False),
        sa.Column("what", TEXT, nullable=False),
        sa.Column("amount", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("account", "at_wall", "what", name="pk_unasked"),
        sqlite_strict=True,
    )


def downgrade() -> None:
    op.drop_table("unasked")
