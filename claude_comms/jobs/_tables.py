"""The table, as the newest migration leaves it."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, text

from claude_comms.storage import UtcDateTime

__all__ = ["METADATA", "jobs"]

METADATA = MetaData()

jobs = Table(
    "jobs",
    METADATA,
    Column("seq", Integer, primary_key=True),  # the order in which they came
    Column("job_id", String, nullable=False, unique=True),
    Column("state", String, nullable=False),
    Column("source", String, nullable=False),
    Column("target", String, nullable=False),
    Column("prompt", String, nullable=False),
    Column("question", String, nullable=False),  # the whole of it, as JSON
    Column("idempotency_key", String),  # the caller's own; a job without one asks under its id
    Column("priority", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
    Column("thread_id", String),
    Column("owner", String),  # of one that was started: the OwnerLock of the process that runs it
    Column("progress", String),  # this and the rest but the last are JSON
    Column("reply", String),
    Column("error", String),
    Column("callback", String),
    Column("callback_result", String),
    Index("jobs_queued", "priority", "seq", sqlite_where=text("state = 'queued'")),
    Index("jobs_running", "owner", sqlite_where=text("state = 'running'")),
    Index("jobs_expiring", "expires_at", sqlite_where=text("state = 'queued' AND expires_at IS NOT NULL")),
    Index("jobs_by_key", "idempotency_key", unique=True, sqlite_where=text("idempotency_key IS NOT NULL")),
    Index(
        "jobs_untold",
        "seq",
        sqlite_where=text("callback IS NOT NULL AND callback_result IS NULL AND ended_at IS NOT NULL"),
    ),
)
