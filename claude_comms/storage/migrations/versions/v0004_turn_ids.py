"""Which turn a question belongs to: what its events are found by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """From questions that no event was told of."""
    op.add_column("messages", sa.Column("turn_id", sa.String))
    known = sa.text("turn_id IS NOT NULL")
    op.create_index("messages_by_turn", "messages", ["turn_id", "position"], sqlite_where=known)
