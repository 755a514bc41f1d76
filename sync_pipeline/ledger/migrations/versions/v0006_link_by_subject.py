"""Which subscription bills an Opportunity is found by index: every look at an Account asks it of all its deals."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_index("ix_link_subject", "link", ["subject"])


def downgrade() -> None:
    op.drop_index("ix_link_subject", "link")
