"""One exchange with a started process: a question is put, its turn is read to the end or stopped."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from claude_comms.background.backends.claude_code._turn import Silent
from claude_comms.background.backends.claude_runtime.binary import login_command
from claude_comms.errors import (
    BackendError,
    BackendUnavailableError,
    BudgetExceededError,
    DeadlineExceededError,
    TurnFailedError,
)
from claude_comms.types import CLAUDE_CODE, TurnResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_agent_sdk import ResultMessage

    from claude_comms.background.backends.claude_code._connection import Connection
    from claude_comms.background.backends.claude_code._turn import TurnReader
    from claude_comms.background.backends.claude_runtime.session import Limits
    from claude_comms.types import TurnRequest, Usage

__all__ = ["Exchange"]

_STOP_S = 0.8
_STOP_AGAIN_S = 0.25
_TICK_S = 5.0

_TOLD = (BackendError, DeadlineExceededError, BudgetExceededError)
"""What ends a turn and is not somebody's cancellation: it is said what the turn did and cost."""

_STOPPABLE = (TurnFailedError, DeadlineExceededError, BackendUnavailableError, BudgetExceededError)
"""Ends of turns that leave the process as good as it was."""


class Exchange:
    """A question's turn on `connection`. `drop` lets the process go, which what cannot be stopped needs."""

    def __init__(
        self,
        connection: Connection,
        reader: TurnReader,
        request: TurnRequest,
        limits: Limits,
        drop: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._reader = reader
        reader.calls.rulings = connection.rulings
        reader.login = login_command(connection.launch.binary, connection.launch.environment["CLAUDE_CONFIG_DIR"])
        reader.check_spent = request.check_spent
        self._request = request
        self._limits = limits
        self._drop = drop
        self._interrupted = False
        self.heard = False
        """Whether anything came since the question was sent."""

    def interrupt(self) -> None:
        """Let the turn be stopped by the task that runs it."""
        self._interrupted = True
        self._connection.wake()

    async def run(self) -> TurnResult:
        """Put the question and read its answer. However it ends but by GeneratorExit, the connection can be asked
        again or has been dropped; errors carry what the turn cost and the text that had come.
        """
        try:
            self._connection.launch.write_turn(self._request)
            await self._connection.send(self._request.prompt.message, model=self._request.model)
            result = await self._read()
            await self._reader.calls.settle()
        except GeneratorExit:  # nothing may be awaited any more
            raise
        except BaseException as error:
            await self._after_failure(error)
            raise
        return self._answer(result)

    async def _read(self) -> ResultMessage:
        while True:
            if self._interrupted:
                return await self._stopped()
            if self._request.deadline is not None and anyio.current_time() >= self._request.deadline:
                raise DeadlineExceededError("Claude Code did not answer by the deadline. Allow more time.")
            quiet_s = self._connection.quiet_s
            if quiet_s >= self._limits.stall_s:
                raise TurnFailedError(
                    f"Claude Code said nothing for {quiet_s:.0f} s. Ask again: it starts a new process if it must.",
                    reason="stalled",
                    backend=CLAUDE_CODE,
                    retryable=True,
                )
            message = await self._connection.next_message(self._patience())
            if message is None:
                await self._reader.calls.settle_running()
            self.heard = self.heard or message is not None
            result = None if message is None else await self._reader.take(message)
            if result is not None:
                return result
            self._connection.expect_quiet(self._reader.pause_s)

    def _patience(self) -> float:
        patience = min(_TICK_S, self._limits.stall_s - self._connection.quiet_s)
        if self._request.deadline is not None:
            patience = min(patience, self._request.deadline - anyio.current_time())
        return max(0.0, patience)

    async def _stopped(self) -> ResultMessage:
        """The result after an interrupt; an answer that was complete before the interrupt came is an answer."""
        result = await self._stop(self._reader)
        if result is not None and self._reader.failure(result) is None:
            return result
        error = TurnFailedError("the turn was interrupted.", reason="interrupted", backend=CLAUDE_CODE)
        error.usage = self._connection.meter.streamed if result is None else self._spent(result, complete=False)
        raise error

    async def _stop(self, reader: TurnReader | Silent) -> ResultMessage | None:
        """Interrupt until the turn's result comes; None where it does not come in time: the process is gone then."""
        with anyio.move_on_after(_STOP_S), suppress(BackendError):
            while self._connection.alive:
                # One that comes before the turn has begun is acknowledged and lost: say it again.
                await self._connection.interrupt()
                until = anyio.current_time() + _STOP_AGAIN_S
                while (left := until - anyio.current_time()) > 0:
                    message = await self._connection.next_message(left)
                    result = None if message is None else await reader.take(message)
                    if result is not None:
                        return result
        await self._drop()
        return None

    async def _after_failure(self, error: BaseException) -> None:
        """Bring the turn to its end, so that the next one begins cleanly; and put what is known on the error."""
        usage = self._connection.meter.streamed
        ended = isinstance(error, TurnFailedError) and error.reason == "interrupted"
        with anyio.CancelScope(shield=True):
            if isinstance(error, _TOLD):
                await self._reader.calls.settle_running()
            if not isinstance(error, _STOPPABLE):
                await self._drop()
            elif not ended:
                result = await self._stop(Silent())
                usage = usage if result is None else self._spent(result, complete=False)
            if isinstance(error, _TOLD):
                # Only now: a call may have been decided until the turn had stopped.
                await self._reader.calls.settle()
                error.usage = error.usage or usage
        if isinstance(error, BackendError | DeadlineExceededError):
            error.partial = self._reader.text

    def _answer(self, result: ResultMessage) -> TurnResult:
        failure = self._reader.failure(result)
        usage = self._spent(result, complete=failure is None)
        if failure is not None:
            failure.usage, failure.partial = usage, self._reader.text
            raise failure
        self._connection.answered(self._reader.position)
        return TurnResult(
            text=self._reader.text,
            model=self._reader.model or self._connection.model,
            stop_reason=str(result.stop_reason),
            usage=usage,
            session_handle=self._connection.handle,
            sources=self._reader.calls.files,
            retries=tuple(self._reader.retries),
            tools=tuple(self._reader.calls.tools),
            refusals=tuple(self._reader.calls.refusals),
        )

    def _spent(self, result: ResultMessage, *, complete: bool) -> Usage:
        return self._connection.meter.take(result.model_usage, result.total_cost_usd, complete=complete)
