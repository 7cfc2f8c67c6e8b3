"""Instances that have failed stay known, with the reason; and which conversation each was last asked in by its id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """From a roster of living instances only."""
    op.add_column("roster", sa.Column("failure", sa.String))
    op.add_column("roster", sa.Column("own_thread_id", sa.String))
