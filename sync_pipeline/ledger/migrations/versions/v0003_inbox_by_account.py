"""The newest events of an account are found by index: every audit row names those that came before its write."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("ix_inbox_account_received_wall", "inbox", ["account", "received_wall"])


def downgrade() -> None:
    op.drop_index("ix_inbox_account_received_wall", "inbox")
