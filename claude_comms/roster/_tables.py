"""The table, as the newest migration leaves it."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, String, Table

from claude_comms.storage import UtcDateTime

__all__ = ["METADATA", "roster"]

METADATA = MetaData()

roster = Table(
    "roster",
    METADATA,
    Column("instance_id", String, primary_key=True),
    Column("name", String),
    Column("source", String, nullable=False),
    Column("target", String, nullable=False),
    Column("backend", String, nullable=False),
    Column("model", String),
    Column("grants", String, nullable=False),  # this, the limits, the environment's names and the usage are JSON
    Column("limits", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("directory", String),
    Column("thread_id", String),
    Column("state", String, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("usage", String, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime, nullable=False),
    Column("failure", String),
    Column("own_thread_id", String),
)
