"""Idempotency keys: a question that was asked before is answered from the store, never asked twice."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.engine._answers import read_value
from claude_comms.errors import ConfigError, DeadlineExceededError, ReplyValidationError, TurnFailedError
from claude_comms.types import MessageState, Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.conversations import ConversationStore, KeyedTurn
    from claude_comms.types import Message, Question

__all__ = ["digest", "repair_key", "replay", "reply_of"]

_POLL_S = 0.05


def digest(question: Question) -> str:
    """What makes two questions the same for an idempotency key: who asks whom what, not in which thread or how long."""
    parts = (
        question.source,
        question.target,
        question.prompt,
        question.data,
        question.schema,
        question.template,
        dict(question.context),
    )
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def repair_key(key: str | None) -> str | None:
    """The key of the repair turn that belongs to the question with `key`."""
    return None if key is None else f"{key}#repair"


async def replay(store: ConversationStore, question: Question, deadline: float) -> Reply | None:
    """The stored reply of the question with the same key; None where it was never asked.

    While it is under way this waits for it, until `deadline`. ConfigError where the key is another question's;
    TurnFailedError where it failed: it may have been answered all the same, so it is not asked again;
    ReplyValidationError where the stored answer does not have the shape that is asked for.
    """
    key = question.idempotency_key
    if key is None:
        return None
    while True:
        turns = await _turns(store, key, digest(question))
        if not turns:
            return None
        asked, answer, _ = turns[-1]
        if answer is not None and asked.state is MessageState.COMPLETE:
            return _reply(question, answer, turns)
        if asked.state is not MessageState.PENDING:
            raise _failed(key, asked)
        if anyio.current_time() > deadline:
            raise DeadlineExceededError(f"the question with the key {key!r} is still under way. Wait for it.")
        await anyio.sleep(_POLL_S)


async def _turns(store: ConversationStore, key: str, wanted: str) -> list[KeyedTurn]:
    """The turn that was asked under `key`, and the repair that followed."""
    first = await store.by_key(key)
    if first is None:
        return []
    if first.request_digest != wanted:
        raise ConfigError(f"the idempotency key {key!r} belongs to another question. Take a new key.")
    repaired = await store.by_key(f"{repair_key(key)}")
    return [first] if repaired is None else [first, repaired]


def _failed(key: str, asked: Message) -> TurnFailedError:
    facts: Any = asked.error or {}
    error = TurnFailedError(
        f"the question with the key {key!r} was asked before and failed: {facts.get('message', 'unknown')}."
        " To ask it again, take a new key.",
        reason=str(facts.get("reason", "failed")),
        backend=asked.backend,
    )
    error.thread_id = asked.thread_id
    return error


def _reply(question: Question, answer: Message, turns: Sequence[KeyedTurn]) -> Reply:
    value, problems = read_value(answer.text, question) if question.schema is not None else (None, [])
    if problems:
        error = ReplyValidationError(problems, answer.text)
        error.thread_id = answer.thread_id
        raise error
    spent = sum((turn.answer.usage for turn in turns if turn.answer and turn.answer.usage), Usage(cost_usd=0.0))
    return reply_of(answer, source=question.source, target=question.target, value=value, usage=spent)


def reply_of(answer: Message, *, source: str, target: str, value: Any, usage: Usage | None = None) -> Reply:
    """The reply that a stored answer was; `value` is what it said in the shape that was asked for."""
    return Reply(
        response=answer.text,
        data=value,
        thread_id=answer.thread_id,
        message_id=answer.message_id,
        source=source,
        target=target,
        instance_id=answer.instance_id or "",
        backend=answer.backend or "",
        model=answer.model or "",
        usage=usage or answer.usage or Usage(cost_usd=0.0),
        stop_reason=answer.stop_reason or "",
        duration_ms=answer.duration_ms or 0.0,
        sources=answer.sources,
    )
