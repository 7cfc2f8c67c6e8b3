"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - SQLModel reads the annotations

from sqlalchemy import Index, MetaData, UniqueConstraint, text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from claude_comms.storage import UtcDateTime

__all__ = ["METADATA", "conversations", "messages", "sessions"]

METADATA = MetaData()


class _Table(SQLModel, registry=registry(metadata=METADATA)):
    """Ours alone: a user's own SQLModel tables share nothing with these."""


class ConversationRow(_Table, table=True):
    """One row for each conversation."""

    __tablename__ = "conversations"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        Index("conversations_by_age", "updated_at", "thread_id"),
        Index("conversations_by_pair", "source", "target"),
    )

    thread_id: str = Field(primary_key=True)
    source: str
    target: str
    backend: str | None = None
    model: str | None = None
    state: str
    title: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)
    message_count: int


class MessageRow(_Table, table=True):
    """One row for each message. `data`, `error`, `sources`, `retries`, `tools` and `refusals` are JSON text."""

    __tablename__ = "messages"  # pyright: ignore[reportAssignmentType]
    __table_args__ = (
        UniqueConstraint("thread_id", "position"),
        Index("messages_pending", "thread_id", sqlite_where=text("state = 'pending'")),
        # Most messages have no key: a partial index costs them nothing.
        Index("messages_by_key", "idempotency_key", unique=True, sqlite_where=text("idempotency_key IS NOT NULL")),
        Index("messages_by_turn", "turn_id", "position", sqlite_where=text("turn_id IS NOT NULL")),
        # All that a sum of usage reads, so that it never touches a text.
        Index(
            "messages_usage",
            *("created_at", "thread_id", "backend", "model"),
            *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd"),
            *("role", "state"),
            sqlite_where=text("input_tokens IS NOT NULL OR (role = 'answer' AND state = 'complete')"),
        ),
    )

    seq: int | None = Field(default=None, primary_key=True)
    """The full-text index refers to this: unlike SQLite's own row ids, it survives a VACUUM."""
    message_id: str = Field(unique=True)
    thread_id: str = Field(foreign_key="conversations.thread_id")
    position: int
    role: str
    speaker: str
    text: str
    sent_text: str | None = None
    """Of a question: the whole user message as it was sent."""
    state: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    backend: str | None = None
    model: str | None = None
    instance_id: str | None = None
    data: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_usd: float | None = None
    price_date: str | None = None
    stop_reason: str | None = None
    duration_ms: float | None = None
    error: str | None = None
    sources: str | None = None
    retries: str | None = None
    context_version: str | None = None
    owner: str | None = None
    """Of a question: the OwnerLock of the process that asked."""
    idempotency_key: str | None = None
    request_digest: str | None = None
    tools: str | None = None
    refusals: str | None = None
    rebuilt: str | None = None
    turn_id: str | None = None
    """Of a question: what the events of its turn are found by. A repair belongs to the turn that it repairs."""


class SessionRow(_Table, table=True):
    """A backend's own memory of a conversation: one row for each of both."""

    __tablename__ = "sessions"  # pyright: ignore[reportAssignmentType]

    thread_id: str = Field(primary_key=True, foreign_key="conversations.thread_id")
    backend: str = Field(primary_key=True)
    handle: str
    covers: int
    """The position of the last answer that it holds. It serves while no other complete answer stands after that."""


conversations = METADATA.tables["conversations"]
messages = METADATA.tables["messages"]
sessions = METADATA.tables["sessions"]
