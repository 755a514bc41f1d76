"""What a run has done is found by index: undo starts from it."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("ix_audit_run", "audit", ["run"])


def downgrade() -> None:
    op.drop_index("ix_audit_run", "audit")
