"""One question's way through the Messages API: its tries, its continuations, and what its end means."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NoReturn

import anyio

from claude_comms.background.backends._messages_wire import AnswerSoFar, messages_of
from claude_comms.errors import (
    BackendError,
    BackendProtocolError,
    DeadlineExceededError,
    TurnFailedError,
)
from claude_comms.types import Delta, Retried, TurnResult, Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anthropic import AsyncStream
    from tenacity import RetryCallState

    from claude_comms.background.backends._messages_errors import Problem, Wording
    from claude_comms.types import Emit, RetryPolicy, TurnRequest

__all__ = ["Turn"]

_END = object()
_MOST_CONTINUATIONS = 5
_CHARACTERS_PER_TOKEN = 128
_LEAST_LIMIT = 1 << 20
_LAST_BYTES_S = 0.1
_CLOSE_S = 1.0


class _PassingError(Exception):
    """A try failed, and another may do better."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


class Turn:
    """The state of one `ask`. `send` posts messages and gives the stream; `problem_of` reads exceptions."""

    def __init__(
        self,
        request: TurnRequest,
        emit: Emit,
        *,
        policy: RetryPolicy,
        sleep: Callable[[float], Awaitable[None]],
        send: Callable[[list[dict[str, Any]], int], Awaitable[AsyncStream[object]]],
        problem_of: Callable[[Exception, str], Problem],
        wording: Wording,
    ) -> None:
        self._request = request
        self._emit = emit
        self._policy = policy
        self._sleep = sleep
        self._send = send
        self._problem_of = problem_of
        self._wording = wording
        self._limit = max(_LEAST_LIMIT, request.max_output_tokens * _CHARACTERS_PER_TOKEN)
        self._messages = messages_of(request.prompt)
        self._max_tokens = request.max_output_tokens
        self._text: list[str] = []
        self._usage = Usage()
        self._retries: list[Retried] = []

    async def run(self) -> TurnResult:
        """Ask until there is a complete answer; everything else is raised."""
        asked = self._messages
        written: list[dict[str, Any]] = []
        for _ in range(_MOST_CONTINUATIONS):
            answer = await self._answer()
            if answer.stop_reason != "pause_turn":
                return self._result(answer)
            written += answer.content()
            self._max_tokens = max(1, self._max_tokens - answer.usage.output_tokens)
            self._messages = [*asked, {"role": "assistant", "content": written}] if written else asked
        raise TurnFailedError(
            f"the model paused its turn {_MOST_CONTINUATIONS} times without an end. Ask something smaller.",
            reason="paused",
            backend="api",
        )

    def mark(self, error: BackendError | DeadlineExceededError) -> None:
        """Put on `error` what this turn had come to."""
        error.partial = "".join(self._text)
        error.usage = self._usage
        error.retries = tuple(self._retries)

    # --- tries ---

    async def _answer(self) -> AnswerSoFar:
        """The first try goes without tenacity, which takes a tenth of a millisecond to set up: few need a second."""
        try:
            return await self._try()
        except _PassingError as failed:
            return await self._try_again(failed)

    async def _try_again(self, first: _PassingError) -> AnswerSoFar:
        """Retry by the policy; `first` counts as the first try."""
        from tenacity import AsyncRetrying, retry_if_exception_type

        failed_already = [first]

        async def attempt() -> AnswerSoFar:
            if failed_already:
                raise failed_already.pop()
            return await self._try()

        tries = AsyncRetrying(
            sleep=self._sleep,
            stop=self._stop,
            wait=self._wait,
            retry=retry_if_exception_type(_PassingError),
            before_sleep=self._record,
            reraise=True,
        )
        try:
            return await tries(attempt)
        except _PassingError as failed:
            self._fail(self._last_word(failed.problem), failed.__cause__)

    def _stop(self, state: RetryCallState) -> bool:
        return state.attempt_number >= self._policy.attempts or self._too_late(state.upcoming_sleep)

    def _wait(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential, wait_random

        first, longest = self._policy.initial_wait_s, self._policy.max_wait_s
        ours = min(longest, (wait_exponential(multiplier=first, max=longest) + wait_random(0, first / 2))(state))
        # A date that has passed, or a clock that is ahead, must not make us ask in a tight loop.
        return max(ours, _problem_of(state).retry_after_s or 0.0)

    async def _record(self, state: RetryCallState) -> None:
        retried = Retried(state.attempt_number, _problem_of(state).reason, state.upcoming_sleep)
        self._retries.append(retried)
        await self._emit(retried)

    def _too_late(self, wait_s: float) -> bool:
        left = self._left_s()
        return wait_s > self._policy.max_wait_s if left is None else wait_s >= left

    def _left_s(self) -> float | None:
        deadline = self._request.deadline
        return None if deadline is None else max(0.0, deadline - anyio.current_time())

    def _last_word(self, problem: Problem) -> BackendError:
        """What to raise when no further try is made."""
        wait = problem.retry_after_s
        if wait is not None and self._too_late(wait):
            return self._wording.too_late(problem, self._left_s())
        return problem.error

    # --- one try ---

    async def _try(self) -> AnswerSoFar:
        answer = AnswerSoFar(self._limit)
        try:
            await self._receive(answer)
        finally:
            self._usage += answer.usage
        self._check(answer)
        return answer

    async def _receive(self, answer: AnswerSoFar) -> None:
        try:
            stream = await self._send(self._messages, self._max_tokens)
        except Exception as error:  # noqa: BLE001 - the library's edge: whatever it raises becomes ours
            self._failed(self._problem_of(error, self._request.model), error)
        try:
            kind = stream.response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                self._failed(self._wording.nonsense(f"content type {kind}, not an event stream"))
            await self._read(stream, answer)
        finally:
            if not stream.response.is_closed:
                with anyio.move_on_after(_CLOSE_S, shield=True):
                    await stream.close()

    async def _read(self, stream: AsyncStream[object], answer: AnswerSoFar) -> None:
        events = aiter(stream)
        while not answer.stopped:
            try:
                event = await anext(events, _END)
                if event is _END:
                    return
                text = answer.add(event)
            except BackendError:
                raise
            except Exception as error:  # noqa: BLE001 - the library's edge, and events without the shape of one
                self._failed(self._problem_of(error, self._request.model), error)
            if text:
                self._text.append(text)
                await self._emit(Delta(text))
        # The answer is whole. Reading to the end lets the connection be used again; more is not owed to anybody.
        with anyio.move_on_after(_LAST_BYTES_S), contextlib.suppress(Exception):
            await anext(events, None)

    # --- what its end means ---

    def _check(self, answer: AnswerSoFar) -> None:
        if not answer.stopped or answer.stop_reason is None:
            self._failed(self._wording.cut("no end of the message" if answer.started else "no message came"))
        error = self._ending(answer)
        if error is not None:
            raise error

    def _ending(self, answer: AnswerSoFar) -> BackendError | None:
        match answer.stop_reason:
            case "pause_turn":
                return None
            case "end_turn" | "stop_sequence":
                return None if "".join(self._text).strip() else _turn_failed("empty", "the answer is empty. Ask again.")
            case "max_tokens":
                limit = self._request.max_output_tokens
                text = f"the answer is longer than {limit} tokens. Raise max_output_tokens, or ask for less."
                return _turn_failed("max_tokens", text)
            case "refusal":
                why = f" ({self._wording.clean(answer.refusal)})" if answer.refusal else ""
                return _turn_failed("refusal", f"the model refuses to answer{why}. Ask differently.")
            case "model_context_window_exceeded":
                text = "the thread fills the model's context window. Start a new conversation, or lower the budget."
                return _turn_failed("context_window", text)
            case "tool_use":
                text = "the model called a tool, but has none here. Ask again."
            case other:
                text = f"the model stopped for an unknown reason, {self._wording.clean(other)!r}. Update claude-comms."
        return BackendProtocolError(text, line=self._wording.clean(answer.stop_reason), backend="api")

    def _result(self, answer: AnswerSoFar) -> TurnResult:
        return TurnResult(
            text="".join(self._text),
            model=self._wording.clean(answer.model) or self._request.model,
            stop_reason=str(answer.stop_reason),
            usage=self._usage,
            retries=tuple(self._retries),
        )

    def _failed(self, problem: Problem, cause: BaseException | None = None) -> NoReturn:
        """Raise what stands for `problem`: a passing one may be tried again, if nothing was shown yet."""
        known = problem.status is None or problem.status in self._policy.retry_on
        if problem.passing and known and not self._text:
            raise _PassingError(problem) from cause
        self._fail(problem.error, cause)

    def _fail(self, error: BackendError, cause: BaseException | None) -> NoReturn:
        raise error from (None if cause is None or self._wording.tells_key(cause) else cause)


def _turn_failed(reason: str, text: str) -> TurnFailedError:
    return TurnFailedError(text, reason=reason, backend="api", retryable=reason == "empty")


def _problem_of(state: RetryCallState) -> Problem:
    error = state.outcome.exception() if state.outcome is not None else None
    if not isinstance(error, _PassingError):
        raise TypeError("only passing errors are retried")
    return error.problem
