"""What all processes share of the systems' limits: rates and retry budgets, circuit breakers, the daily allowance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "bucket",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("level", INTEGER, nullable=False),
        sa.Column("at_wall", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_bucket"),
        sqlite_strict=True,
    )
    op.create_table(
        "breaker",
        sa.Column("operation", TEXT, nullable=False),
        sa.Column("failures", INTEGER, nullable=False),
        sa.Column("retry_wall", INTEGER, nullable=False),
        sa.Column("why", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("operation", name="pk_breaker"),
        sqlite_strict=True,
    )
    op.create_table(
        "allowance",
        sa.Column("system", TEXT, nullable=False),
        sa.Column("used", INTEGER, nullable=False),
        sa.Column("allowed", INTEGER, nullable=False),
        sa.Column("seen_wall", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("system", name="pk_allowance"),
        sqlite_strict=True,
    )


def downgrade() -> None:
    for name in ("allowance", "breaker", "bucket"):
        op.drop_table(name)
