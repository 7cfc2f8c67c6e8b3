"""Background questions, the instances that are to exist, and an index that adds up what turns have cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# Everything that a sum of usage reads, so that it never touches a text.
_USAGE = (
    "created_at",
    "thread_id",
    "backend",
    "model",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_usd",
)


def upgrade() -> None:
    """From a store whose questions were all asked by somebody who waited."""
    op.create_table(
        "jobs",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("job_id", sa.String, nullable=False, unique=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("prompt", sa.String, nullable=False),
        sa.Column("question", sa.String, nullable=False),
        sa.Column("idempotency_key", sa.String),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("started_at", sa.String),
        sa.Column("ended_at", sa.String),
        sa.Column("expires_at", sa.String),
        sa.Column("thread_id", sa.String),
        sa.Column("owner", sa.String),
        sa.Column("progress", sa.String),
        sa.Column("reply", sa.String),
        sa.Column("error", sa.String),
        sa.Column("callback", sa.String),
        sa.Column("callback_result", sa.String),
    )
    op.create_index("jobs_queued", "jobs", ["priority", "seq"], sqlite_where=sa.text("state = 'queued'"))
    op.create_index("jobs_running", "jobs", ["owner"], sqlite_where=sa.text("state = 'running'"))
    expiring = sa.text("state = 'queued' AND expires_at IS NOT NULL")
    op.create_index("jobs_expiring", "jobs", ["expires_at"], sqlite_where=expiring)
    keyed = sa.text("idempotency_key IS NOT NULL")
    op.create_index("jobs_by_key", "jobs", ["idempotency_key"], unique=True, sqlite_where=keyed)
    untold = sa.text("callback IS NOT NULL AND callback_result IS NULL AND ended_at IS NOT NULL")
    op.create_index("jobs_untold", "jobs", ["seq"], sqlite_where=untold)
    op.create_table(
        "roster",
        sa.Column("instance_id", sa.String, primary_key=True),
        sa.Column("name", sa.String),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("backend", sa.String, nullable=False),
        sa.Column("model", sa.String),
        sa.Column("grants", sa.String, nullable=False),
        sa.Column("limits", sa.String, nullable=False),
        sa.Column("environment", sa.String, nullable=False),
        sa.Column("directory", sa.String),
        sa.Column("thread_id", sa.String),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("turns", sa.Integer, nullable=False),
        sa.Column("usage", sa.String, nullable=False),
        sa.Column("restarts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("last_used_at", sa.String, nullable=False),
    )
    spent = sa.text("input_tokens IS NOT NULL OR (role = 'answer' AND state = 'complete')")
    op.create_index("messages_usage", "messages", [*_USAGE, "role", "state"], sqlite_where=spent)
