"""Bulk jobs, and which attempts are sent by one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = sa.text("outcome IS NULL AND job IS NOT NULL")
GATHERING = sa.text("state = 'gathering'")


def upgrade() -> None:
    op.create_table(
        "bulk_job",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("object", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("salesforce_id", TEXT),
        sa.Column("opened_wall", INTEGER, nullable=False),
        sa.Column("deadline_wall", INTEGER, nullable=False),
        sa.Column("started_wall", INTEGER),
        sa.Column("lease_owner", TEXT, nullable=False, server_default=sa.text("''")),
        sa.Column("lease_until_wall", INTEGER, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("id", name="pk_bulk_job"),
        sa.CheckConstraint("state IN ('gathering', 'sending', 'running')", name=op.f("ck_bulk_job_state")),
        sqlite_strict=True,
    )
    op.create_index(
        "uq_bulk_job_gathering",
        "bulk_job",
        ["object"],
        unique=True,
        sqlite_where=GATHERING,
        postgresql_where=GATHERING,
    )
    op.add_column("attempt", sa.Column("job", TEXT))
    op.create_index("ix_attempt_job", "attempt", ["job"], sqlite_where=OPEN, postgresql_where=OPEN)


def downgrade() -> None:
    op.drop_index("ix_attempt_job", "attempt")
    op.drop_column("attempt", "job")
    op.drop_table("bulk_job")
