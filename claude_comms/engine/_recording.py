"""What the store is told of a turn: the question before anything is sent, then how it ended."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.engine._news import facts_of
from claude_comms.engine._replay import digest
from claude_comms.errors import ClaudeCommsError, InstanceStateError, StoreError
from claude_comms.text import shorten
from claude_comms.types import Delta, Refused, ToolUsed, Usage

if TYPE_CHECKING:
    from collections.abc import Generator

    from claude_comms.accounting import PriceTable
    from claude_comms.conversations import ConversationStore
    from claude_comms.engine._news import TurnNews
    from claude_comms.engine._route import Route
    from claude_comms.types import Message, Prompt, Question, TurnEvent, TurnResult

__all__ = ["Recorder", "Said", "since"]

_STORE_WAIT_S = 0.5
"""How long a failed turn waits for the store; what was submitted is written all the same."""
_BUSY_POLL_S = 0.05
_TITLE_WIDTH = 80


@dataclass(slots=True)
class Said:
    """What a turn has shown so far, should it fail."""

    pieces: list[str] = field(default_factory=list[str])
    tools: list[ToolUsed] = field(default_factory=list[ToolUsed])
    refusals: list[Refused] = field(default_factory=list[Refused])
    started: float = field(default_factory=time.perf_counter)

    def add(self, event: TurnEvent) -> None:
        """Keep what the store keeps of events."""
        match event:
            case Delta():
                self.pieces.append(event.text)
            case ToolUsed():
                self.tools.append(event)
            case Refused():
                self.refusals.append(event)
            case _:
                pass


class Recorder:
    """Writes the turns of one question to the store, and adds up what they cost (`spent`)."""

    def __init__(self, store: ConversationStore, prices: PriceTable, news: TurnNews) -> None:
        self._store = store
        self._news = news
        self._prices = prices
        self.spent = Usage(cost_usd=0.0)

    async def begin(
        self, route: Route, question: Question, prompt: Prompt, instance_id: str, *, give_up_at: float
    ) -> Message:
        """Store the question, durably. ConversationChangedError where the thread is not the route's any more.

        Within a process the pool lets one question at a time into a conversation; while *another process* asks in
        it, this waits, until `give_up_at` on anyio's clock, and then raises InstanceStateError.
        """
        while True:
            try:
                asked = await self._store.begin_turn(
                    thread_id=route.thread_id,
                    pair=route.pair,
                    text=question.prompt,
                    sent_text=prompt.message,
                    data=question.data,
                    backend=route.backend,
                    model=route.model,
                    context_version=prompt.version,
                    idempotency_key=question.idempotency_key,
                    request_digest=digest(question) if question.idempotency_key is not None else None,
                    expected_messages=route.thread.conversation.message_count if route.thread else None,
                    title=shorten(question.prompt, _TITLE_WIDTH),
                    turn_id=self._news.turn_id,
                )
            except InstanceStateError:
                if anyio.current_time() > give_up_at:
                    raise
                await anyio.sleep(_BUSY_POLL_S)
            else:
                self._tell_of_question(route, asked, instance_id)
                return asked

    async def complete(
        self, asked: Message, route: Route, result: TurnResult, said: Said, instance_id: str, *, data: Any
    ) -> Message:
        """Store a complete answer. A caller that goes away now does not undo it: what is submitted is written.

        StoreError carries the answer (`response`): it is there and nowhere else.
        """
        try:
            answer = await self._store.complete_turn(
                asked.message_id,
                text=result.text,
                model=result.model,
                backend=route.backend,
                instance_id=instance_id,
                usage=self._priced(route, result.usage),
                price_date=self._prices.price_date,
                stop_reason=result.stop_reason,
                duration_ms=since(said.started),
                data=data,
                sources=result.sources,
                retries=result.retries,
                tools=result.tools,
                refusals=result.refusals,
                rebuilt=result.rebuilt or None,
                session_handle=result.session_handle,
            )
        except StoreError as error:
            error.thread_id, error.response = asked.thread_id, result.text
            raise
        self._news.message(answer, instance_id=instance_id)
        return answer

    async def fail(self, asked: Message, route: Route, error: BaseException, said: Said, instance_id: str) -> Usage:
        """Mark the question as failed, with what had come. Also while being cancelled, but never for long.

        Returns what it has cost, as far as that is known.
        """
        known = getattr(error, "usage", None)
        usage = self._priced(route, known) if isinstance(known, Usage) else None
        if isinstance(error, ClaudeCommsError):
            error.thread_id = asked.thread_id
        with anyio.move_on_after(_STORE_WAIT_S, shield=True), _noted(error):
            partial = await self._store.fail_turn(
                asked.message_id,
                error=facts_of(error),
                partial="".join(said.pieces),
                usage=usage,
                price_date=self._prices.price_date,
                backend=route.backend,
                model=route.model,
                instance_id=instance_id,
                duration_ms=since(said.started),
                retries=getattr(error, "retries", ()),
                tools=said.tools,
                refusals=said.refusals,
            )
            if partial is not None:
                self._news.message(partial, instance_id=instance_id)
        return usage or Usage(cost_usd=0.0)

    def _tell_of_question(self, route: Route, asked: Message, instance_id: str) -> None:
        self._news.message(asked, instance_id=instance_id)
        if route.thread is None:
            self._news.began(shorten(asked.text, _TITLE_WIDTH))

    def with_turn(self, route: Route, usage: Usage) -> Usage:
        """What was spent, together with a turn that is not stored yet."""
        return self.spent + self._prices.priced(usage, route.model)

    def _priced(self, route: Route, usage: Usage) -> Usage:
        priced = self._prices.priced(usage, route.model)
        self.spent += priced
        return priced


def since(started: float) -> float:
    """Milliseconds since `started` on `time.perf_counter`'s clock."""
    return round((time.perf_counter() - started) * 1000, 3)


@contextmanager
def _noted(error: BaseException) -> Generator[None]:
    """Why the turn failed matters more than that the store could not be told: that becomes a note."""
    try:
        yield
    except StoreError as trouble:
        error.add_note(f"The question could not be marked as failed: {trouble}")
