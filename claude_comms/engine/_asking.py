"""One question's whole way: route, place, prompt, store, instance, and back."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.conversations import ConversationChangedError, IdempotencyKeyTakenError
from claude_comms.engine._answers import check_schema, declines, read_value
from claude_comms.engine._cost_cap import CostCap
from claude_comms.engine._lineage import Branch
from claude_comms.engine._recording import Recorder, Said, since
from claude_comms.engine._replay import repair_key, replay
from claude_comms.errors import (
    ConfigError,
    DeadlineExceededError,
    ReplyValidationError,
    StoreError,
    TurnFailedError,
)
from claude_comms.jsonable import to_json_value
from claude_comms.types import Delta, Reply, Started, TurnRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.accounting import PriceTable
    from claude_comms.background.backends.protocol import Backend
    from claude_comms.background.pool import Lease, Pool
    from claude_comms.conversations import ConversationStore
    from claude_comms.engine._lineage import Lineage
    from claude_comms.engine._prompts import PromptBuilder
    from claude_comms.engine._route import Route, Router
    from claude_comms.engine._turn import RunningTurn
    from claude_comms.errors import Problem
    from claude_comms.settings import Settings
    from claude_comms.types import InstanceLimits, Message, Prompt, Question, TurnEvent, TurnResult

__all__ = ["Asking", "Parts"]

_MOST_REBUILDS = 5
_GRACE_S = 1.0
"""Instances end their turns by the deadline; should anything else hang, this is when everything is cancelled."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a question meets on its way."""

    settings: Settings
    router: Router
    prompts: PromptBuilder
    store: ConversationStore
    pool: Pool
    prices: PriceTable
    lineage: Lineage
    backend: Callable[[str], Backend]


@dataclass(frozen=True, slots=True)
class _Answered:
    """A stored, complete answer: the message, the turn's result, and the value where a shape was asked for."""

    message: Message
    result: TurnResult
    value: Any
    problems: list[Problem]
    """What is wrong with the value; then it does not count."""


class Asking:
    """Takes one question to its answer. Used once.

    One that `outlives` the turn it was asked in has a deadline of its own.
    """

    def __init__(self, parts: Parts, question: Question, turn: RunningTurn, *, outlives: bool = False) -> None:
        self._parts = parts
        self._turn = turn
        self._recorder = Recorder(parts.store, parts.prices, turn.news)
        self._started = time.perf_counter()
        self._question = replace(question, data=to_json_value(question.data)) if question.data is not None else question
        above = parts.lineage.above(question)
        self._deadline_s = question.deadline_s if question.deadline_s is not None else parts.settings.deadline_s
        self._deadline = anyio.current_time() + self._deadline_s
        if above is not None and above.deadline < self._deadline and not outlives:
            self._deadline, self._deadline_s = above.deadline, above.deadline - anyio.current_time()
        self._cap = CostCap(question, parts.settings, parts.prices, self._recorder, above.cap if above else None)
        self._thread_id = question.thread_id

    async def answer(self) -> Reply:
        """The reply, its answer and usage stored. What cannot be answered is raised, and stored as failed."""
        check_schema(self._question)
        chain = self._parts.lineage.chain(self._question)
        if self._deadline_s <= 0:
            raise DeadlineExceededError("the deadline is not in the future. Give more seconds.", deadline_s=0.0)
        with (
            self._parts.lineage.entered(self._turn.news.turn_id, Branch(chain, self._deadline, self._cap)),
            anyio.move_on_at(self._deadline + _GRACE_S),
        ):
            return await self._answer_once()
        error = DeadlineExceededError(
            f"no answer within {self._deadline_s:g} s. Ask again with a later deadline.", deadline_s=self._deadline_s
        )
        error.thread_id = self._thread_id
        raise error

    async def _answer_once(self) -> Reply:
        """Ask, unless the same question was asked before under the same key."""
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
            self._keep_to(lease.instance.limits)
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

    def _keep_to(self, limits: InstanceLimits) -> None:
        """An instance's own deadline counts where the question gave none."""
        if self._question.deadline_s is None and limits.deadline_s is not None:
            waited_s = time.perf_counter() - self._started
            self._deadline = min(self._deadline, anyio.current_time() - waited_s + limits.deadline_s)

    # --- one turn ------------------------------------------------------------------------------

    async def _ask(self, lease: Lease, route: Route, question: Question) -> _Answered:
        prompt, limit, asked = await self._begin(route, question, lease.instance.instance_id)
        self._thread_id = asked.thread_id
        instance_id = lease.instance.instance_id
        said = Said()
        try:
            handle = await self._session_handle(route, asked.thread_id)
            request = TurnRequest(
                prompt,
                asked.thread_id,
                route.model,
                limit,
                handle,
                self._deadline,
                turn_id=self._turn.news.turn_id,
                chain=self._parts.lineage.chain(self._question),
                max_cost_usd=self._cap.left_usd,
                check_spent=self._cap.check_of(route),
            )
            await self._turn.emit(_started(route, lease, asked, self._turn.news.turn_id))
            result = await self._send(lease, request, said)
            value, problems = read_value(result.text, question) if question.schema is not None else (None, [])
        except BaseException as error:
            over = self._cap.exceeded(error, limit)
            if over is not None and over.usage is not None:
                over.spent = self._recorder.with_turn(route, over.usage).cost_usd or 0.0
            lease.instance.charge(await self._recorder.fail(asked, route, over or error, said, instance_id))
            self._turn.news.spent = self._recorder.spent
            self._cap.turn_ended()
            if over is None or over is error:
                raise
            raise over from error
        message = await self._recorder.complete(
            asked, route, result, said, instance_id, data=None if problems else value
        )
        lease.instance.charge(message.usage or result.usage)
        self._cap.turn_ended()
        return _Answered(message, result, value, problems)

    async def _begin(self, route: Route, question: Question, instance_id: str) -> tuple[Prompt, int, Message]:
        """Build the prompt on the thread as it is, and store the question; again where the thread moved on."""
        give_up_at = min(self._deadline, anyio.current_time() + self._parts.settings.queue_wait_s)
        for _ in range(_MOST_REBUILDS):
            prompt = await self._parts.prompts.build(
                route, question, exact=self._cap.most_usd is not None, deadline=self._deadline
            )
            limit = self._cap.output_limit(route, prompt)
            try:
                return (
                    prompt,
                    limit,
                    await self._recorder.begin(route, question, prompt, instance_id, give_up_at=give_up_at),
                )
            except ConversationChangedError:
                assert route.thread is not None  # noqa: S101 - a new conversation cannot have changed
                thread = await self._parts.store.thread(route.thread.conversation.thread_id)
                route = replace(route, thread=thread)
        raise StoreError("the conversation is being written by others all the time. Ask again later.")

    async def _session_handle(self, route: Route, thread_id: str) -> str | None:
        if route.thread is None or not self._parts.backend(route.backend).features.resume:
            return None
        return await self._parts.store.session(thread_id, route.backend)

    async def _send(self, lease: Lease, request: TurnRequest, said: Said) -> TurnResult:
        async def emit(event: TurnEvent) -> None:
            """Pass an event on. Pieces of a structured answer are held back: a repair would make them untrue."""
            said.add(event)
            if not (isinstance(event, Delta) and self._question.schema is not None):
                await self._turn.emit(event)

        self._turn.on_interrupt(lease.instance.interrupt)
        try:
            if self._turn.interrupted:
                raise TurnFailedError("the turn was interrupted before it was sent. Ask again.", reason="interrupted")
            return await lease.ask(request, emit)
        finally:
            self._turn.on_interrupt(None)

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
            usage=self._recorder.spent,
            stop_reason=answered.result.stop_reason,
            duration_ms=since(self._started),
            sources=answered.result.sources,
        )


def _unshaped(answered: _Answered) -> ReplyValidationError:
    error = ReplyValidationError(answered.problems, answered.result.text)
    error.thread_id = answered.message.thread_id
    return error


def _started(route: Route, lease: Lease, asked: Message, turn_id: str) -> Started:
    return Started(
        thread_id=asked.thread_id,
        source=route.pair.source,
        target=route.pair.target,
        backend=route.backend,
        reason=route.reason,
        model=route.model,
        instance_id=lease.instance.instance_id,
        turn_id=turn_id,
    )
