"""Conversations, their messages, and the full-text index over them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# What is searched. A text is indexed up to 200,000 characters, so that one huge answer slows no search down.
# The pair is indexed with it, each name as one word: searching within a pair then costs no more than everywhere.
_SEARCHABLE = """
CREATE VIEW searchable AS
SELECT messages.seq AS seq, substr(messages.text, 1, 200000) AS text,
       replace(replace(conversations.source, '-', ''), '_', '') AS source,
       replace(replace(conversations.target, '-', ''), '_', '') AS target
FROM messages JOIN conversations USING (thread_id)
"""

_INDEX = """
CREATE VIRTUAL TABLE messages_fts USING fts5(
    text, source, target, content = 'searchable', content_rowid = 'seq', tokenize = 'porter unicode61'
)
"""

_ADD = """
CREATE TRIGGER messages_fts_{name} AFTER {event} ON messages BEGIN
    INSERT INTO messages_fts (rowid, text, source, target)
    SELECT seq, text, source, target FROM searchable WHERE seq = new.seq;
END
"""

# FTS5 forgets a row only when it is told the very values it was given: so before they change.
_REMOVE = """
CREATE TRIGGER messages_fts_{name} BEFORE {event} ON messages BEGIN
    INSERT INTO messages_fts (messages_fts, rowid, text, source, target)
    SELECT 'delete', seq, text, source, target FROM searchable WHERE seq = old.seq;
END
"""


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "conversations",
        sa.Column("thread_id", sa.String, primary_key=True),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("backend", sa.String),
        sa.Column("model", sa.String),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("updated_at", sa.String, nullable=False),
        sa.Column("message_count", sa.Integer, nullable=False),
    )
    op.create_index("conversations_by_age", "conversations", ["updated_at", "thread_id"])
    op.create_index("conversations_by_pair", "conversations", ["source", "target"])
    op.create_table(
        "messages",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("message_id", sa.String, nullable=False, unique=True),
        sa.Column("thread_id", sa.String, sa.ForeignKey("conversations.thread_id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("speaker", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("sent_text", sa.String),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("backend", sa.String),
        sa.Column("model", sa.String),
        sa.Column("instance_id", sa.String),
        sa.Column("data", sa.String),
        sa.Column("input_tokens", sa.Integer),
        sa.Column("output_tokens", sa.Integer),
        sa.Column("cache_read_tokens", sa.Integer),
        sa.Column("cache_write_tokens", sa.Integer),
        sa.Column("cost_usd", sa.Float),
        sa.Column("price_date", sa.String),
        sa.Column("stop_reason", sa.String),
        sa.Column("duration_ms", sa.Float),
        sa.Column("error", sa.String),
        sa.Column("sources", sa.String),
        sa.Column("retries", sa.String),
        sa.Column("context_version", sa.String),
        sa.Column("owner", sa.String),
        sa.Column("idempotency_key", sa.String),
        sa.Column("request_digest", sa.String),
        sa.UniqueConstraint("thread_id", "position"),
    )
    op.create_index("messages_pending", "messages", ["thread_id"], sqlite_where=sa.text("state = 'pending'"))
    keyed = sa.text("idempotency_key IS NOT NULL")
    op.create_index("messages_by_key", "messages", ["idempotency_key"], unique=True, sqlite_where=keyed)
    op.execute(_SEARCHABLE)
    op.execute(_INDEX)
    op.execute(_ADD.format(name="insert", event="INSERT"))
    op.execute(_REMOVE.format(name="delete", event="DELETE"))
    op.execute(_REMOVE.format(name="before_update", event="UPDATE OF text"))
    op.execute(_ADD.format(name="after_update", event="UPDATE OF text"))
