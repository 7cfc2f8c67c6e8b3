"""A turn's three moments, each one transaction: asked, answered, failed.

What holds after each: positions have no gaps; at most one question of a thread is pending, and it is the last
message; a complete answer stands right behind its question, which is complete, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from claude_comms.conversations._faults import (
    ConversationChangedError,
    IdempotencyKeyTakenError,
    PendingQuestionError,
)
from claude_comms.conversations._rows import (
    error_text,
    message_from,
    message_values,
    records_text,
    usage_values,
)
from claude_comms.conversations._tables import conversations, messages
from claude_comms.errors import ConversationNotFoundError, StoreError
from claude_comms.text import shorten
from claude_comms.types import ConversationState, Message, MessageState, Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from claude_comms.types import Pair, Retried, Usage

__all__ = ["Ending", "NewQuestion", "abandon", "add_conversation", "begin", "complete", "fail", "withdraw"]

_TITLE_WIDTH = 80

_CONVERSATION = select(conversations).where(conversations.c.thread_id == bindparam("thread_id"))
_MESSAGE = select(messages).where(messages.c.message_id == bindparam("message_id"))
_PENDING = select(messages.c.owner).where(messages.c.thread_id == bindparam("thread_id"), messages.c.state == "pending")
_ADD_CONVERSATION = insert(conversations)
_ADD_MESSAGE = insert(messages)
_SET_CONVERSATION = update(conversations).where(conversations.c.thread_id == bindparam("of"))
_SET_MESSAGE = update(messages).where(messages.c.message_id == bindparam("of"))


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """A question to be stored, with what only the store keeps. Its position is found when it is."""

    message: Message
    pair: Pair
    is_new_thread: bool
    sent_text: str
    owner: str
    title: str
    idempotency_key: str | None
    request_digest: str | None
    expected_messages: int | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn failed. None leaves what the question says."""

    error: Mapping[str, Any]
    partial: str
    partial_id: str
    at: datetime
    usage: Usage | None = None
    price_date: str | None = None
    backend: str | None = None
    model: str | None = None
    instance_id: str | None = None
    duration_ms: float | None = None
    retries: Sequence[Retried] = ()


def add_conversation(connection: Connection, thread_id: str, pair: Pair, title: str, at: datetime) -> None:
    """A conversation without messages."""
    connection.execute(
        _ADD_CONVERSATION,
        {
            "thread_id": thread_id,
            "source": pair.source,
            "target": pair.target,
            "backend": None,
            "model": None,
            "state": str(ConversationState.ACTIVE),
            "title": title,
            "created_at": at,
            "updated_at": at,
            "message_count": 0,
        },
    )


def begin(connection: Connection, question: NewQuestion) -> Message:
    """Store the question as pending, at the end of its thread."""
    message = question.message
    thread_id = message.thread_id
    if question.is_new_thread:
        add_conversation(connection, thread_id, question.pair, question.title, message.created_at)
    conversation = _open_conversation(connection, question)
    message = replace(message, position=conversation.message_count)
    values = {
        **message_values(message),
        "sent_text": question.sent_text,
        "owner": question.owner,
        "idempotency_key": question.idempotency_key,
        "request_digest": question.request_digest,
    }
    try:
        connection.execute(_ADD_MESSAGE, values)
    except IntegrityError as error:
        if question.idempotency_key is not None and "idempotency_key" in str(error.orig):
            raise IdempotencyKeyTakenError(question.idempotency_key) from error
        raise
    title = conversation.title or question.title or shorten(message.text, _TITLE_WIDTH)
    _touch(connection, thread_id, message.created_at, message_count=message.position + 1, title=title)
    return message


def complete(connection: Connection, question_id: str, answer: Message) -> Message:
    """Store `answer` behind its question. Thread, position and speaker are found here."""
    question = _pending_question(connection, question_id)
    conversation = _conversation(connection, question.thread_id)
    answer = replace(answer, thread_id=question.thread_id, position=question.position + 1, speaker=conversation.target)
    connection.execute(_SET_MESSAGE, {"of": question_id, "state": str(MessageState.COMPLETE)})
    connection.execute(_ADD_MESSAGE, message_values(answer))
    _touch(
        connection,
        answer.thread_id,
        answer.created_at,
        message_count=answer.position + 1,
        backend=answer.backend,
        model=answer.model,
    )
    return answer


def fail(connection: Connection, question_id: str, ending: Ending) -> Message | None:
    """Mark the question failed, and keep the partial text as what it is. What it cost stands on one of the two."""
    question = _pending_question(connection, question_id)
    partial = _partial_answer(connection, question, ending) if ending.partial else None
    where_counted = None if partial else ending.usage
    failed = {
        "state": str(MessageState.FAILED),
        "error": error_text(ending.error),
        "instance_id": ending.instance_id,
        "duration_ms": ending.duration_ms,
        "price_date": ending.price_date if where_counted else None,
        **usage_values(where_counted),
    }
    if partial is None:
        failed["retries"] = records_text(ending.retries)
    connection.execute(_SET_MESSAGE, {"of": question_id, **failed})
    if partial is not None:
        connection.execute(_ADD_MESSAGE, message_values(partial))
    last = partial.position if partial else question.position
    _touch(connection, question.thread_id, ending.at, message_count=last + 1)
    return partial


def abandon(connection: Connection, owners: set[str], error: Mapping[str, Any], at: datetime) -> list[Message]:
    """Mark what `owners` left pending as failed, and return it."""
    left = connection.execute(
        select(messages).where(messages.c.state == "pending", messages.c.owner.in_(sorted(owners)))
    ).fetchall()
    for row in left:
        values = {"of": row.message_id, "state": str(MessageState.FAILED), "error": error_text(error)}
        connection.execute(_SET_MESSAGE, values)
        _touch(connection, row.thread_id, at)
    return [replace(message_from(row), state=MessageState.FAILED, error=dict(error)) for row in left]


def withdraw(connection: Connection, question: NewQuestion) -> None:
    """Take back a question whose asker never heard that it was stored: as if it had not been asked."""
    message = question.message
    row = connection.execute(_MESSAGE, {"message_id": message.message_id}).one_or_none()
    if row is None or row.state != MessageState.PENDING:
        return
    connection.execute(delete(messages).where(messages.c.message_id == message.message_id))
    if question.is_new_thread:
        connection.execute(delete(conversations).where(conversations.c.thread_id == message.thread_id))
    else:
        _touch(connection, message.thread_id, message.created_at, message_count=row.position)


def _open_conversation(connection: Connection, question: NewQuestion) -> Row[Any]:
    """The conversation, if the question may be asked in it now."""
    thread_id = question.message.thread_id
    row = _conversation(connection, thread_id)
    if (row.source, row.target) != (question.pair.source, question.pair.target):
        raise _refusal(
            thread_id,
            f"the conversation {thread_id} is {row.source} → {row.target}, not {question.pair}."
            " Begin another for this pair.",
        )
    if row.state == ConversationState.ARCHIVED:
        raise _refusal(
            thread_id,
            f"the conversation {thread_id} is archived. Restore it first:"
            f" claude-comms archive-conversation {thread_id} --restore",
        )
    owner = connection.execute(_PENDING, {"thread_id": thread_id}).scalar_one_or_none()
    if owner is not None:
        raise PendingQuestionError(thread_id, owner)
    expected = question.expected_messages
    if expected is not None and row.message_count != expected:
        raise ConversationChangedError(thread_id, expected=expected, found=row.message_count)
    return row


def _partial_answer(connection: Connection, question: Row[Any], ending: Ending) -> Message:
    return Message(
        message_id=ending.partial_id,
        thread_id=question.thread_id,
        position=question.position + 1,
        role=Role.ANSWER,
        speaker=_conversation(connection, question.thread_id).target,
        text=ending.partial,
        state=MessageState.PARTIAL,
        created_at=ending.at,
        backend=ending.backend or question.backend,
        model=ending.model or question.model,
        instance_id=ending.instance_id,
        usage=ending.usage,
        price_date=ending.price_date,
        duration_ms=ending.duration_ms,
        error=ending.error,
        retries=tuple(ending.retries),
    )


def _conversation(connection: Connection, thread_id: str) -> Row[Any]:
    row = connection.execute(_CONVERSATION, {"thread_id": thread_id}).one_or_none()
    if row is None:
        raise ConversationNotFoundError(thread_id)
    return row


def _pending_question(connection: Connection, question_id: str) -> Row[Any]:
    row = connection.execute(_MESSAGE, {"message_id": question_id}).one_or_none()
    if row is None:
        raise StoreError(f"no question {question_id} is stored. Ask it again.")
    if row.state != MessageState.PENDING or row.role != Role.QUESTION:
        raise _refusal(
            row.thread_id,
            f"the message {question_id} is {row.state}, not a pending question; nothing was stored. Ask again.",
        )
    return row


def _touch(connection: Connection, thread_id: str, at: datetime, **values: Any) -> None:
    connection.execute(_SET_CONVERSATION, {"of": thread_id, "updated_at": at, **values})


def _refusal(thread_id: str, message: str) -> StoreError:
    error = StoreError(message)
    error.thread_id = thread_id
    return error
