"""Backends' sessions by their handles; the tools that were used, and those that were refused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From conversations without sessions: there were none."""
    op.create_table(
        "sessions",
        sa.Column("thread_id", sa.String, sa.ForeignKey("conversations.thread_id"), primary_key=True),
        sa.Column("backend", sa.String, primary_key=True),
        sa.Column("handle", sa.String, nullable=False),
        sa.Column("covers", sa.Integer, nullable=False),
    )
    for name in ("tools", "refusals", "rebuilt"):
        op.add_column("messages", sa.Column(name, sa.String))
