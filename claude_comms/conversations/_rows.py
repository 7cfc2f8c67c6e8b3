"""Between rows and the values that the rest of the house knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from claude_comms.storage import utc_text
from claude_comms.text import mended
from claude_comms.types import (
    Conversation,
    ConversationState,
    Message,
    MessageState,
    Refused,
    Retried,
    Role,
    Source,
    ToolUsed,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Row

__all__ = [
    "conversation_from",
    "error_text",
    "message_from",
    "message_values",
    "records_text",
    "usage_values",
]


def _dumps(value: object) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False)


def message_values(message: Message) -> dict[str, Any]:
    """The columns of `message`; those that only the store knows are left out."""
    usage = message.usage
    return {
        "message_id": message.message_id,
        "thread_id": message.thread_id,
        "position": message.position,
        "role": str(message.role),
        "speaker": message.speaker,
        "text": message.text,
        "state": str(message.state),
        "created_at": utc_text(message.created_at),
        "backend": message.backend,
        "model": message.model,
        "instance_id": message.instance_id,
        "data": _dumps(message.data),
        **usage_values(usage),
        "price_date": message.price_date,
        "stop_reason": message.stop_reason,
        "duration_ms": message.duration_ms,
        "error": error_text(message.error),
        "sources": records_text(message.sources),
        "retries": records_text(message.retries),
        "context_version": message.context_version,
        "tools": records_text(message.tools),
        "refusals": records_text(message.refusals),
        "rebuilt": message.rebuilt,
        "turn_id": message.turn_id,
    }


def usage_values(usage: Usage | None) -> dict[str, Any]:
    """The columns of `usage`; all None where nothing is known."""
    return {
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cache_read_tokens": usage.cache_read_tokens if usage else None,
        "cache_write_tokens": usage.cache_write_tokens if usage else None,
        "cost_usd": usage.cost_usd if usage else None,
    }


def error_text(error: Mapping[str, Any] | None) -> str | None:
    """An error as JSON text. Whatever is in it can be stored."""
    return None if error is None else mended(json.dumps(dict(error), default=str, ensure_ascii=False))


def message_from(row: Row[Any]) -> Message:
    """The message of a row that has all columns of `messages`."""
    return Message(
        message_id=row.message_id,
        thread_id=row.thread_id,
        position=row.position,
        role=Role(row.role),
        speaker=row.speaker,
        text=row.text,
        state=MessageState(row.state),
        created_at=row.created_at,
        backend=row.backend,
        model=row.model,
        instance_id=row.instance_id,
        data=_loads(row.data),
        usage=_usage(row),
        price_date=row.price_date,
        stop_reason=row.stop_reason,
        duration_ms=row.duration_ms,
        error=_loads(row.error),
        sources=tuple(Source(**item) for item in _loads(row.sources) or ()),
        retries=tuple(Retried(**item) for item in _loads(row.retries) or ()),
        context_version=row.context_version,
        tools=tuple(ToolUsed(**item) for item in _loads(row.tools) or ()),
        refusals=tuple(Refused(**item) for item in _loads(row.refusals) or ()),
        rebuilt=row.rebuilt,
        turn_id=row.turn_id,
    )


def conversation_from(row: Row[Any]) -> Conversation:
    """The conversation of a row that has all columns of `conversations`."""
    return Conversation(
        thread_id=row.thread_id,
        source=row.source,
        target=row.target,
        backend=row.backend,
        model=row.model,
        state=ConversationState(row.state),
        title=row.title,
        created_at=row.created_at,
        updated_at=row.updated_at,
        message_count=row.message_count,
    )


def _usage(row: Row[Any]) -> Usage | None:
    if row.input_tokens is None:
        return None
    return Usage(row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens, row.cost_usd)


def records_text(records: Iterable[Source | Retried | ToolUsed | Refused]) -> str | None:
    """Records as JSON text; None for none."""
    items = [record.as_dict() for record in records]
    return mended(json.dumps(items, ensure_ascii=False)) if items else None


def _loads(text: str | None) -> Any:
    return None if text is None else json.loads(text)
