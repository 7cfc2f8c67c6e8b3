"""A turn's three moments, each one transaction: asked, answered, failed.

What holds after each: positions have no gaps; at most one question of a thread is pending, and it is the last
message; a complete answer stands right behind its question, which is complete, too.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, select, update

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
from claude_comms.storage import driver_of, utc_text
from claude_comms.text import mended, shorten
from claude_comms.types import Conversation, ConversationState, HistoryMessage, Message, MessageState, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from claude_comms.types import Pair, Refused, Retried, ToolUsed, Usage

__all__ = [
    "Ending",
    "NewQuestion",
    "abandon",
    "add_conversation",
    "begin",
    "complete",
    "end_if_pending",
    "fail",
    "head",
    "history",
    "session",
    "unstored",
    "withdraw",
]

_TITLE_WIDTH = 80

# Every question runs these: plain SQL for the driver, because expressions take longer to build than to run.
_ADD_CONVERSATION = """
INSERT INTO conversations (thread_id, source, target, state, title, created_at, updated_at, message_count)
VALUES (:thread_id, :source, :target, 'active', :title, :at, :at, 0)
"""
_HEAD = """
SELECT thread_id, source, target, backend, model, state, title, created_at, updated_at, message_count
FROM conversations WHERE thread_id = :thread_id
"""
_THREAD = """
SELECT source, target, state, title, message_count,
       (SELECT owner FROM messages WHERE messages.thread_id = conversations.thread_id AND messages.state = 'pending')
FROM conversations WHERE thread_id = :thread_id
"""
_QUESTION = """
SELECT messages.thread_id, position, role, messages.state, messages.backend, messages.model, target
FROM messages JOIN conversations USING (thread_id) WHERE message_id = :message_id
"""
_HISTORY = """
SELECT role, coalesce(sent_text, text) FROM messages
WHERE thread_id = :thread_id AND state = 'complete' ORDER BY position
"""
_KEEP_SESSION = """
INSERT INTO sessions (thread_id, backend, handle, covers) VALUES (:thread_id, :backend, :handle, :covers)
ON CONFLICT DO UPDATE SET handle = excluded.handle, covers = excluded.covers
"""
_SESSION = """
SELECT handle FROM sessions WHERE thread_id = :thread_id AND backend = :backend AND covers =
    (SELECT max(position) FROM messages WHERE thread_id = :thread_id AND state = 'complete')
"""
_ADD_MESSAGE = "INSERT INTO messages ({}) VALUES ({})"
_COMPLETE_QUESTION = "UPDATE messages SET state = 'complete' WHERE message_id = :message_id"
_GREW = """
UPDATE conversations SET updated_at = :at, message_count = :count, title = coalesce(:title, title),
       backend = coalesce(:backend, backend), model = coalesce(:model, model)
WHERE thread_id = :thread_id
"""


class _Thread(NamedTuple):
    source: str
    target: str
    state: str
    title: str
    message_count: int
    pending_owner: str | None


class _Question(NamedTuple):
    thread_id: str
    position: int
    role: str
    state: str
    backend: str | None
    model: str | None
    target: str


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
    tools: Sequence[ToolUsed] = ()
    refusals: Sequence[Refused] = ()


def add_conversation(connection: Connection, thread_id: str, pair: Pair, title: str, at: datetime) -> None:
    """A conversation without messages."""
    values = {"thread_id": thread_id, "source": pair.source, "target": pair.target, "title": title, "at": utc_text(at)}
    driver_of(connection).execute(_ADD_CONVERSATION, values)


def begin(connection: Connection, question: NewQuestion) -> Message:
    """Store the question as pending, at the end of its thread."""
    message = question.message
    if question.is_new_thread:
        add_conversation(connection, message.thread_id, question.pair, question.title, message.created_at)
    thread = _open_thread(connection, question)
    message = replace(message, position=thread.message_count)
    values = {
        **message_values(message),
        "sent_text": question.sent_text,
        "owner": question.owner,
        "idempotency_key": question.idempotency_key,
        "request_digest": question.request_digest,
    }
    try:
        _add_message(connection, values)
    except sqlite3.IntegrityError as error:
        if question.idempotency_key is not None and "idempotency_key" in str(error):
            raise IdempotencyKeyTakenError(question.idempotency_key) from error
        raise
    title = None if thread.title else question.title or shorten(message.text, _TITLE_WIDTH)
    _grew(connection, message, title=title)
    return message


def complete(connection: Connection, question_id: str, answer: Message, session_handle: str | None = None) -> Message:
    """Store `answer` behind its question, and the session that holds both. Thread, position and speaker are found
    here.
    """
    question = _pending_question(connection, question_id)
    answer = replace(answer, thread_id=question.thread_id, position=question.position + 1, speaker=question.target)
    driver_of(connection).execute(_COMPLETE_QUESTION, {"message_id": question_id})
    _add_message(connection, message_values(answer))
    _grew(connection, answer, backend=answer.backend, model=answer.model)
    if session_handle is not None:
        kept = {"thread_id": answer.thread_id, "backend": answer.backend, "covers": answer.position}
        driver_of(connection).execute(_KEEP_SESSION, {**kept, "handle": session_handle})
    return answer


def session(connection: Connection, thread_id: str, backend: str) -> str | None:
    """The handle of the backend's session, where that holds all complete turns of the thread."""
    values = {"thread_id": thread_id, "backend": backend}
    row = driver_of(connection).execute(_SESSION, values).fetchone()
    return None if row is None else row[0]


def fail(connection: Connection, question_id: str, ending: Ending) -> Message | None:
    """Mark the question failed, and keep the partial text as what it is. What it cost stands on one of the two."""
    question = _pending_question(connection, question_id)
    partial = _partial_answer(question, ending) if ending.partial else None
    values = {
        "state": str(MessageState.FAILED),
        "error": error_text(ending.error),
        "instance_id": ending.instance_id,
        "duration_ms": ending.duration_ms,
    }
    if partial is None:
        values |= {**usage_values(ending.usage), "price_date": ending.price_date}
        values["retries"] = records_text(ending.retries)
        values["tools"], values["refusals"] = records_text(ending.tools), records_text(ending.refusals)
        _changed(connection, question.thread_id, ending.at)
    else:
        _add_message(connection, message_values(partial))
        _grew(connection, partial)
    connection.execute(update(messages).where(messages.c.message_id == question_id), values)
    return partial


def unstored(answer: Message) -> Ending:
    """How a turn ended whose complete `answer` could not be stored: what there is of it is kept as partial."""
    return Ending(
        error=StoreError("the answer came, and could not be stored when it did. Ask again.").as_dict(),
        partial=mended(answer.text),
        partial_id=answer.message_id,
        at=answer.created_at,
        usage=answer.usage,
        price_date=answer.price_date,
        backend=answer.backend,
        model=answer.model,
        instance_id=answer.instance_id,
        duration_ms=answer.duration_ms,
        retries=answer.retries,
        tools=answer.tools,
        refusals=answer.refusals,
    )


def end_if_pending(connection: Connection, question_id: str, ending: Ending) -> None:
    """Mark the question failed, unless it has an end by now."""
    row = driver_of(connection).execute(_QUESTION, {"message_id": question_id}).fetchone()
    if row is not None and _Question(*row).state == MessageState.PENDING:
        fail(connection, question_id, ending)


def abandon(
    connection: Connection, owners: set[str], error_of: Callable[[str], Mapping[str, Any]], at: datetime
) -> list[Message]:
    """Mark what `owners` left pending as failed, with the error of its conversation, and return it."""
    left = (messages.c.state == "pending") & messages.c.owner.in_(sorted(owners))
    found = [message_from(row) for row in connection.execute(select(messages).where(left))]
    errors = {message.thread_id: error_of(message.thread_id) for message in found}
    for thread_id, error in errors.items():
        changed = update(messages).where(left & (messages.c.thread_id == thread_id))
        connection.execute(changed, {"state": str(MessageState.FAILED), "error": error_text(error)})
        _changed(connection, thread_id, at)
    return [replace(message, state=MessageState.FAILED, error=dict(errors[message.thread_id])) for message in found]


def withdraw(connection: Connection, question: NewQuestion) -> None:
    """Take back a question whose asker never heard that it was stored: as if it had not been asked."""
    message = question.message
    mine = (messages.c.message_id == message.message_id) & (messages.c.state == "pending")
    if connection.execute(delete(messages).where(mine)).rowcount == 0:
        return
    thread = conversations.c.thread_id == message.thread_id
    if question.is_new_thread:
        connection.execute(delete(conversations).where(thread))
    else:
        one_less = {"message_count": conversations.c.message_count - 1}
        connection.execute(update(conversations).where(thread).values(one_less))


def head(connection: Connection, thread_id: str) -> Conversation | None:
    """The conversation without its messages; None for an unknown id."""
    row = driver_of(connection).execute(_HEAD, {"thread_id": thread_id}).fetchone()
    if row is None:
        return None
    stored_id, source, target, backend, model, state, title, created_at, updated_at, count = row
    return Conversation(
        thread_id=stored_id,
        source=source,
        target=target,
        backend=backend,
        model=model,
        state=ConversationState(state),
        title=title,
        created_at=datetime.fromisoformat(created_at),
        updated_at=datetime.fromisoformat(updated_at),
        message_count=count,
    )


def history(connection: Connection, thread_id: str) -> tuple[HistoryMessage, ...]:
    """The complete turns, as a model is to see them."""
    rows = driver_of(connection).execute(_HISTORY, {"thread_id": thread_id})
    return tuple(HistoryMessage(Role(role), text) for role, text in rows)


def _open_thread(connection: Connection, question: NewQuestion) -> _Thread:
    """The conversation, if the question may be asked in it now."""
    thread_id = question.message.thread_id
    row = driver_of(connection).execute(_THREAD, {"thread_id": thread_id}).fetchone()
    if row is None:
        raise ConversationNotFoundError(thread_id)
    thread = _Thread(*row)
    if (thread.source, thread.target) != (question.pair.source, question.pair.target):
        raise _refusal(
            thread_id,
            f"the conversation {thread_id} is {thread.source} → {thread.target}, not {question.pair}."
            " Begin another for this pair.",
        )
    if thread.state == ConversationState.ARCHIVED:
        raise _refusal(
            thread_id,
            f"the conversation {thread_id} is archived. Restore it first:"
            f" claude-comms archive-conversation {thread_id} --restore",
        )
    if thread.pending_owner is not None:
        raise PendingQuestionError(thread_id, thread.pending_owner)
    expected = question.expected_messages
    if expected is not None and thread.message_count != expected:
        raise ConversationChangedError(thread_id, expected=expected, found=thread.message_count)
    return thread


def _pending_question(connection: Connection, question_id: str) -> _Question:
    row = driver_of(connection).execute(_QUESTION, {"message_id": question_id}).fetchone()
    if row is None:
        raise StoreError(f"no question {question_id} is stored. Ask it again.")
    question = _Question(*row)
    if question.state != MessageState.PENDING:
        raise _refusal(
            question.thread_id,
            f"the {question.role} {question_id} is {question.state}, not pending; nothing was stored. Ask again.",
        )
    return question


def _partial_answer(question: _Question, ending: Ending) -> Message:
    return Message(
        message_id=ending.partial_id,
        thread_id=question.thread_id,
        position=question.position + 1,
        role=Role.ANSWER,
        speaker=question.target,
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
        tools=tuple(ending.tools),
        refusals=tuple(ending.refusals),
    )


def _add_message(connection: Connection, values: Mapping[str, Any]) -> None:
    places = ", ".join(f":{column}" for column in values)
    driver_of(connection).execute(_ADD_MESSAGE.format(", ".join(values), places), values)


def _grew(
    connection: Connection,
    last: Message,
    *,
    title: str | None = None,
    backend: str | None = None,
    model: str | None = None,
) -> None:
    """The conversation ends with the message `last` now; None leaves a column as it is."""
    values = {"at": utc_text(last.created_at), "count": last.position + 1, "thread_id": last.thread_id}
    driver_of(connection).execute(_GREW, {**values, "title": title, "backend": backend, "model": model})


def _changed(connection: Connection, thread_id: str, at: datetime) -> None:
    thread = update(conversations).where(conversations.c.thread_id == thread_id)
    connection.execute(thread, {"updated_at": at})


def _refusal(thread_id: str, message: str) -> StoreError:
    error = StoreError(message)
    error.thread_id = thread_id
    return error
