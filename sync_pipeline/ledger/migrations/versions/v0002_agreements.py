"""A command says what both sides agree on once it took effect, so that the merge base can advance with its outcome."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("command", sa.Column("agreements", TEXT, nullable=False, server_default=sa.text("'[]'")))


def downgrade() -> None:
    op.drop_column("command", "agreements")
