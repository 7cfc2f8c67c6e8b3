"""One question's whole way: route, prompt, store, instance, and back."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.conversations import ConversationChangedError, IdempotencyKeyTakenError
from claude_comms.engine._answers import check_schema, declines, read_value
from claude_comms.engine._replay import digest, repair_key, replay
from claude_comms.errors import (
    ClaudeCommsError,
    ConfigError,
    DeadlineExceededError,
    InstanceStateError,
    ReplyValidationError,
    StoreError,
    TurnFailedError,
)
from claude_comms.jsonable import to_json_value
from claude_comms.text import shorten
from claude_comms.types import OFFLINE, Delta, Refused, Reply, Started, ToolUsed, TurnRequest, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from claude_comms.accounting import PriceTable
    from claude_comms.background.backends.protocol import Backend
    from claude_comms.background.pool import Lease, Pool
    from claude_comms.conversations import ConversationStore
    from claude_comms.engine._prompts import PromptBuilder
    from claude_comms.engine._route import Route, Router
    from claude_comms.engine._turn import RunningTurn
    from claude_comms.errors import Problem
    from claude_comms.settings import Settings
    from claude_comms.types import Message, Prompt, Question, TurnEvent, TurnResult

__all__ = ["Asking"]

_STORE_WAIT_S = 5.0
_MOST_REBUILDS = 5
_BUSY_POLL_S = 0.05
_TITLE_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Parts:
    """What a question meets on its way."""

    settings: Settings
    router: Router
    prompts: PromptBuilder
    store: ConversationStore
    pool: Pool
    prices: PriceTable
    backend: Callable[[str], Backend]


@dataclass(frozen=True, slots=True)
class _Answered:
    """A stored, complete answer: the message, the turn's result, the validated value."""

    message: Message
    result: TurnResult
    usage: Usage
    value: Any
    problems: list[Problem]


class Asking:
    """Takes one question to its answer. Used once."""

    def __init__(self, parts: Parts, question: Question, turn: RunningTurn) -> None:
        self._parts = parts
        self._turn = turn
        self._started = time.perf_counter()
        self._question = replace(question, data=to_json_value(question.data)) if question.data is not None else question
        self._deadline_s = question.deadline_s if question.deadline_s is not None else parts.settings.deadline_s
        self._deadline = anyio.current_time() + self._deadline_s
        self._spent = Usage(cost_usd=0.0)
        self._pieces: list[str] = []
        self._tools: list[ToolUsed] = []
        self._refusals: list[Refused] = []

    async def answer(self) -> Reply:
        """The reply, its answer and usage stored. What cannot be answered is raised, and stored as failed."""
        check_schema(self._question)
        if self._deadline_s <= 0:
            raise DeadlineExceededError("the deadline is not in the future. Give more seconds.", deadline_s=0.0)
        while True:
            known = await replay(self._parts.store, self._question, self._deadline)
            if known is not None:
                return known
            with suppress(IdempotencyKeyTakenError):  # by somebody who asked the same in this moment
                return await self._answer()

    async def _answer(self) -> Reply:
        route = await self._parts.router.route(self._question)
        self._refuse_unsupported(route)
        with await self._lease(route) as lease:
            answered = await self._ask(lease, route, self._question)
            if answered.problems and not declines(answered.result.text):
                answered = await self._repair(lease, route, answered)
            if answered.problems:
                raise _unshaped(answered)
            if self._question.schema is not None:
                await self._turn.emit(Delta(answered.result.text))
            return self._reply(route, lease, answered)

    async def _lease(self, route: Route) -> Lease:
        """A place for the question, before anything is stored: what is refused leaves no trace."""
        if route.instance_id is not None:
            return await self._parts.pool.lease_instance(route.instance_id, route.thread_id, self._deadline)
        return await self._parts.pool.lease(route.spec, route.thread_id, self._deadline)

    # --- one turn ------------------------------------------------------------------------------

    async def _ask(self, lease: Lease, route: Route, question: Question) -> _Answered:
        prompt, asked = await self._record(route, question)
        started = time.perf_counter()
        try:
            limit = self._output_limit(route, prompt)
            handle = await self._session_handle(route, asked.thread_id)
            request = TurnRequest(prompt, asked.thread_id, route.model, limit, handle, deadline=self._deadline)
            await self._turn.emit(_started(route, lease, asked))
            result = await self._send(lease, request)
        except BaseException as error:
            await self._record_failure(asked, route, lease, error, started)
            raise
        return await self._record_answer(asked, route, lease, question, result, started)

    async def _session_handle(self, route: Route, thread_id: str) -> str | None:
        if route.thread is None or not self._parts.backend(route.backend).features.resume:
            return None
        return await self._parts.store.session(thread_id, route.backend)

    async def _send(self, lease: Lease, request: TurnRequest) -> TurnResult:
        self._pieces.clear()
        self._tools.clear()
        self._refusals.clear()
        self._turn.on_interrupt(lease.instance.interrupt)
        try:
            if self._turn.interrupted:
                raise TurnFailedError("the turn was interrupted before it was sent. Ask again.", reason="interrupted")
            return await lease.ask(request, self._emit)
        finally:
            self._turn.on_interrupt(None)

    async def _emit(self, event: TurnEvent) -> None:
        """Pass an event on. Pieces of a structured answer are held back: a repair would make them untrue."""
        if isinstance(event, Delta):
            self._pieces.append(event.text)
            if self._question.schema is not None:
                return
        elif isinstance(event, ToolUsed):
            self._tools.append(event)
        elif isinstance(event, Refused):
            self._refusals.append(event)
        await self._turn.emit(event)

    def _output_limit(self, route: Route, prompt: Prompt) -> int:
        limit = self._parts.settings.max_output_tokens
        most = self._most_cost()
        if most is None or route.backend == OFFLINE:
            return limit
        left = most - (self._spent.cost_usd or 0.0)
        affordable = self._parts.prices.affordable_output_tokens(route.model, prompt.tokens.tokens, left)
        if affordable is None:
            raise ConfigError(
                f"no price is known for {route.model}, so its cost cannot be capped."
                " Choose another model, or leave the cost limit out."
            )
        return min(limit, affordable)

    def _most_cost(self) -> float | None:
        asked = self._question.max_cost_usd
        return asked if asked is not None else self._parts.settings.max_cost_usd

    # --- the store's side ----------------------------------------------------------------------

    async def _record(self, route: Route, question: Question) -> tuple[Prompt, Message]:
        """Build the prompt on the thread as it is, and store the question; again where the thread moved on."""
        for _ in range(_MOST_REBUILDS):
            prompt = await self._parts.prompts.build(route, question)
            try:
                return prompt, await self._begin(route, question, prompt)
            except ConversationChangedError:
                assert route.thread is not None  # noqa: S101 - a new conversation cannot have changed
                thread = await self._parts.store.thread(route.thread.conversation.thread_id)
                route = replace(route, thread=thread)
        raise StoreError("the conversation is being written by others all the time. Ask again later.")

    async def _begin(self, route: Route, question: Question, prompt: Prompt) -> Message:
        """Store the question, waiting, bounded, while another process asks in the same conversation."""
        give_up = min(self._deadline, anyio.current_time() + self._parts.settings.queue_wait_s)
        while True:
            try:
                return await self._parts.store.begin_turn(
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
                )
            except InstanceStateError:
                if anyio.current_time() > give_up:
                    raise
                await anyio.sleep(_BUSY_POLL_S)

    async def _record_answer(
        self, asked: Message, route: Route, lease: Lease, question: Question, result: TurnResult, started: float
    ) -> _Answered:
        value, problems = read_value(result.text, question) if question.schema is not None else (None, [])
        usage = self._priced(route, result.usage)
        message = await self._store_answer(
            asked,
            text=result.text,
            model=result.model,
            backend=route.backend,
            instance_id=lease.instance.instance_id,
            usage=usage,
            price_date=self._parts.prices.price_date,
            stop_reason=result.stop_reason,
            duration_ms=_since(started),
            data=None if problems else value,
            sources=result.sources,
            retries=result.retries,
            tools=result.tools,
            refusals=result.refusals,
            rebuilt=result.rebuilt or None,
            session_handle=result.session_handle,
        )
        return _Answered(message, result, usage, value, problems)

    async def _store_answer(self, asked: Message, *, text: str, **facts: Any) -> Message:
        """Store a complete answer. A caller that goes away now does not undo it: what is submitted is written."""
        try:
            return await self._parts.store.complete_turn(asked.message_id, text=text, **facts)
        except StoreError as error:
            error.thread_id, error.response = asked.thread_id, text
            raise

    async def _record_failure(
        self, asked: Message, route: Route, lease: Lease, error: BaseException, started: float
    ) -> None:
        """Mark the question as failed, with what had come. Also while being cancelled, but never for long."""
        partial = "".join(self._pieces)
        usage = getattr(error, "usage", None)
        if isinstance(error, ClaudeCommsError):
            error.thread_id = asked.thread_id
        with anyio.move_on_after(_STORE_WAIT_S, shield=True), _noted(error):
            await self._parts.store.fail_turn(
                asked.message_id,
                error=_facts_of(error),
                partial=partial,
                usage=self._priced(route, usage) if isinstance(usage, Usage) else None,
                price_date=self._parts.prices.price_date,
                backend=route.backend,
                model=route.model,
                instance_id=lease.instance.instance_id,
                duration_ms=_since(started),
                retries=getattr(error, "retries", ()),
                tools=self._tools,
                refusals=self._refusals,
            )

    def _priced(self, route: Route, usage: Usage) -> Usage:
        priced = self._parts.prices.priced(usage, route.model)
        self._spent += priced
        return priced

    # --- structured answers --------------------------------------------------------------------

    def _refuse_unsupported(self, route: Route) -> None:
        features = self._parts.backend(route.backend).features
        if self._question.schema is not None and not features.structured:
            raise ConfigError(
                f"the backend {route.backend} cannot answer in a given shape."
                " Choose another backend (ANTHROPIC_API_KEY set: api), or leave the schema out."
            )

    async def _repair(self, lease: Lease, route: Route, answered: _Answered) -> _Answered:
        """One more turn that names the exact problems."""
        thread = await self._parts.store.thread(answered.message.thread_id)
        problems = "\n".join(f"- {problem}" for problem in answered.problems)
        question = replace(
            self._question,
            prompt=f"Your last answer does not have the shape that was asked for:\n{problems}\n"
            "Answer the same question again, as JSON that matches the schema.",
            data=None,
            idempotency_key=repair_key(self._question.idempotency_key),
        )
        return await self._ask(lease, replace(route, thread=thread), question)

    # --- the reply -----------------------------------------------------------------------------

    def _reply(self, route: Route, lease: Lease, answered: _Answered) -> Reply:
        return Reply(
            response=answered.result.text,
            data=answered.value,
            thread_id=answered.message.thread_id,
            message_id=answered.message.message_id,
            source=route.pair.source,
            target=route.pair.target,
            instance_id=lease.instance.instance_id,
            backend=route.backend,
            model=answered.result.model,
            usage=self._spent,
            stop_reason=answered.result.stop_reason,
            duration_ms=_since(self._started),
            sources=answered.result.sources,
        )


def _unshaped(answered: _Answered) -> ReplyValidationError:
    error = ReplyValidationError(answered.problems, answered.result.text)
    error.thread_id = answered.message.thread_id
    return error


@contextmanager
def _noted(error: BaseException) -> Generator[None]:
    """Why the turn failed matters more than that the store could not be told: that becomes a note."""
    try:
        yield
    except StoreError as trouble:
        error.add_note(f"The question could not be marked as failed: {trouble}")


def _started(route: Route, lease: Lease, asked: Message) -> Started:
    return Started(
        thread_id=asked.thread_id,
        source=route.pair.source,
        target=route.pair.target,
        backend=route.backend,
        reason=route.reason,
        model=route.model,
        instance_id=lease.instance.instance_id,
    )


def _facts_of(error: BaseException) -> dict[str, object]:
    """An error as the store keeps it."""
    if isinstance(error, ClaudeCommsError):
        return error.as_dict()
    if isinstance(error, Exception):
        return {"type": type(error).__name__, "message": str(error)}
    return {"type": "TurnFailedError", "reason": "interrupted", "message": "the caller went away"}


def _since(started: float) -> float:
    """Milliseconds since `started` on `time.perf_counter`'s clock."""
    return round((time.perf_counter() - started) * 1000, 3)
