"""One exchange over the bridge: a question is put, its turn is read to the end or stopped."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.background.backends.claude_runtime.binary import login_command
from claude_comms.background.backends.mcp_bridge._failures import ConnectionLostError, RefusedError, usage_of
from claude_comms.errors import (
    BackendError,
    BackendProtocolError,
    BackendUnavailableError,
    BudgetExceededError,
    DeadlineExceededError,
    TurnFailedError,
)
from claude_comms.text import mended
from claude_comms.turn_file import write_turn_file
from claude_comms.types import BRIDGE, Delta, Refused, Retried, Source, ToolUsed, TurnResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from claude_comms.background.backends.claude_runtime.session import Limits
    from claude_comms.background.backends.mcp_bridge._client import RemoteTurn
    from claude_comms.background.backends.mcp_bridge._connection import BridgeConnection
    from claude_comms.types import Emit, TurnRequest, Usage

__all__ = ["WINDOW", "BridgeExchange"]

WINDOW = 32
"""The most pieces, of 64 KiB at most, that may be under way to us."""

_STOP_S = 0.8
_STOP_AGAIN_S = 0.25
_TICK_S = 5.0
_LOOK_S = 2.0

_TOLD = (BackendError, DeadlineExceededError, BudgetExceededError)
"""What ends a turn and is not somebody's cancellation: it is said what the turn did and cost."""

_STOPPABLE = (TurnFailedError, DeadlineExceededError, BackendUnavailableError, BudgetExceededError)
"""Ends of turns that leave the process as good as it was."""


class BridgeExchange:
    """A question's turn on `connection`. `drop` lets the process go, which what cannot be stopped needs."""

    def __init__(
        self,
        connection: BridgeConnection,
        request: TurnRequest,
        emit: Emit,
        limits: Limits,
        drop: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._request = request
        self._emit = emit
        self._limits = limits
        self._drop = drop
        self._turn: RemoteTurn | None = None
        self._interrupted = False
        self.heard = False
        """Whether the first credit was given: from then on the question may have been asked."""
        self._over = False
        """Whether the bridge has told how the turn ended."""
        self._owed = 0
        self._pieces: list[str] = []
        self._retries: list[Retried] = []
        self._tools: list[ToolUsed] = []
        self._refusals: list[Refused] = []
        self._requests: tuple[Usage, ...] = ()
        self._usage: Usage | None = None

    def interrupt(self) -> None:
        """Let the turn be stopped by the task that runs it."""
        self._interrupted = True
        if self._turn is not None:
            self._turn.wake()

    async def run(self) -> TurnResult:
        """Put the question and read its answer. However it ends but by GeneratorExit, the connection can be asked
        again or has been dropped; errors carry what the turn cost and the text that had come.
        """
        try:
            if self._connection.launch.confinement.servers:
                write_turn_file(self._connection.launch.scratch.turn, self._request)
            self._turn = await self._connection.propose(
                self._request.prompt.message, model=self._request.model, window=WINDOW
            )
            return self._answer(await self._read(self._turn))
        except GeneratorExit:  # nothing may be awaited any more
            raise
        except BaseException as error:
            await self._after_failure(error)
            raise
        finally:
            if self._turn is not None:
                self._turn.forget()

    # --- reading ---

    async def _read(self, turn: RemoteTurn) -> Mapping[str, Any]:
        while True:
            if self._interrupted:
                return await self._stopped(turn)
            if self._request.deadline is not None and anyio.current_time() >= self._request.deadline:
                raise DeadlineExceededError("Claude Code did not answer by the deadline. Allow more time.")
            quiet_s = self._connection.quiet_s
            if quiet_s >= self._limits.stall_s:
                raise TurnFailedError(
                    f"Claude Code said nothing for {quiet_s:.0f} s. Ask again: it starts a new process if it must.",
                    reason="stalled",
                    backend=BRIDGE,
                    retryable=True,
                )
            told = await self._next(turn, self._patience())
            if told is None:
                await self._look()
                continue
            if told[0] == "result":
                return told[1]
            await self._take(turn, *told)

    async def _next(self, turn: RemoteTurn, timeout_s: float) -> tuple[str, Mapping[str, Any]] | None:
        try:
            return await turn.next(timeout_s)
        except (RefusedError, ConnectionLostError) as error:
            self._over = True
            if isinstance(error, RefusedError):
                self._usage = error.usage
            raise self._with_login(await self._connection.why(error, asked=self.heard)) from error

    async def _look(self) -> None:
        """Ask the bridge for the process's signs of life; for nothing else there is time near the deadline."""
        left_s = _LOOK_S if self._request.deadline is None else self._request.deadline - anyio.current_time()
        if left_s > 0 and not self._interrupted:
            await self._connection.look(min(_LOOK_S, left_s))

    def _patience(self) -> float:
        patience = min(_TICK_S, self._limits.stall_s - self._connection.quiet_s)
        if self._request.deadline is not None:
            patience = min(patience, self._request.deadline - anyio.current_time())
        return max(0.0, patience)

    async def _take(self, turn: RemoteTurn, method: str, told: Mapping[str, Any]) -> None:
        match method:
            case "turn.ready":
                self.heard = True
                await self._credit(turn, WINDOW)
            case "turn.delta":
                await self._say(told)
                self._owed += 1
                if self._owed * 2 >= WINDOW:
                    owed, self._owed = self._owed, 0
                    await self._credit(turn, owed)
            case "turn.spent":
                self._requests = tuple(usage_of(usage) for usage in told["requests"])
                if self._request.check_spent is not None:
                    self._request.check_spent(self._requests)
            case _:
                await self._note(method, told)

    async def _credit(self, turn: RemoteTurn, pieces: int) -> None:
        # Where the connection is lost, the turn tells so itself, in its place.
        with suppress(ConnectionLostError):
            await turn.credit(pieces)

    async def _say(self, told: Mapping[str, Any]) -> None:
        if told["piece"] != len(self._pieces):
            raise BackendProtocolError(
                f"the bridge sent piece {told['piece']} of the answer in place of {len(self._pieces)}. Ask again.",
                backend=BRIDGE,
            )
        self._pieces.append(mended(told["text"]))  # half a character can be neither stored nor printed
        await self._emit(Delta(self._pieces[-1]))

    async def _note(self, method: str, told: Mapping[str, Any]) -> None:
        """What happens beside the text."""
        match method:
            case "turn.tool":
                self._tools.append(ToolUsed(told["tool"], told["arguments"]))
                await self._emit(self._tools[-1])
            case "turn.refused":
                self._refusals.append(Refused(told["tool"], told["target"], told["reason"]))
                await self._emit(self._refusals[-1])
            case "turn.retried":
                self._retries.append(Retried(told["attempt"], told["reason"], float(told["wait_s"])))
                self._connection.expect_quiet(self._retries[-1].wait_s)
                await self._emit(self._retries[-1])
            case _:
                pass

    @property
    def _text(self) -> str:
        return "".join(self._pieces)

    # --- the end ---

    async def _stopped(self, turn: RemoteTurn) -> Mapping[str, Any]:
        """The result after an interrupt; an answer that was complete before the interrupt came is an answer."""
        result = await self._stop(turn, tell=True)
        if result is not None:
            return result
        error = TurnFailedError("the turn was interrupted.", reason="interrupted", backend=BRIDGE)
        error.usage = self._usage or self._spent_so_far()
        raise error

    async def _stop(self, turn: RemoteTurn, *, tell: bool) -> Mapping[str, Any] | None:
        """Interrupt until the turn's end comes: its result, or None where it ended in an error. Where it does not end
        in time, the process is let go.
        """
        with anyio.move_on_after(_STOP_S), suppress(BackendError, TimeoutError, ConnectionLostError, RefusedError):
            while not self._over:
                # One that comes before the turn has begun may be lost: say it again.
                await turn.interrupt(_STOP_AGAIN_S)
                until = anyio.current_time() + _STOP_AGAIN_S
                while (left := until - anyio.current_time()) > 0:
                    told = await self._next(turn, left)
                    if told is not None and told[0] == "result":
                        self._over, self._usage = True, usage_of(told[1]["usage"])
                        return told[1]
                    if told is not None and tell and told[0] == "turn.delta":
                        await self._say(told[1])
                    elif told is not None and told[0] not in ("turn.delta", "turn.ready", "turn.spent"):
                        await self._note(*told)
        if not self._over:
            await self._drop()
        return None

    async def _after_failure(self, error: BaseException) -> None:
        """Bring the turn to its end, so that the next one begins cleanly; and put what is known on the error."""
        with anyio.CancelScope(shield=True):
            if not isinstance(error, _STOPPABLE):
                await self._drop()
            elif not self._over and self._turn is not None:
                await self._stop(self._turn, tell=False)
        if isinstance(error, _TOLD):
            error.usage = error.usage or self._usage or self._spent_so_far()
        if isinstance(error, BackendError | DeadlineExceededError):
            error.partial = self._text

    def _spent_so_far(self) -> Usage | None:
        """What the requests that are told of have used; None without any."""
        if not self._requests:
            return None
        first, *others = self._requests
        for usage in others:
            first += usage
        return first

    def _answer(self, result: Mapping[str, Any]) -> TurnResult:
        if result["pieces"] != len(self._pieces):
            raise BackendProtocolError(
                f"the bridge says that the answer had {result['pieces']} pieces, and {len(self._pieces)} came."
                " Ask again.",
                backend=BRIDGE,
            )
        self._over = True
        self._connection.answered(result["position"])
        return TurnResult(
            text=self._text,
            model=result["model"] or self._connection.model,
            stop_reason=result["stop_reason"],
            usage=usage_of(result["usage"]),
            session_handle=self._connection.handle,
            sources=self._files(result["files"]),
            retries=tuple(self._retries),
            tools=tuple(self._tools),
            refusals=tuple(self._refusals),
        )

    def _files(self, paths: list[str]) -> tuple[Source, ...]:
        """The files that were read, relative to the module's path where they are in it."""
        base = self._connection.launch.directory.resolve()
        found = [Path(path) for path in dict.fromkeys(paths)]
        return tuple(
            Source("file", str(path.relative_to(base) if path.is_relative_to(base) else path)) for path in found
        )

    def _with_login(self, error: BaseException) -> BaseException:
        """The error, with the command that logs in where nobody is."""
        launch = self._connection.launch
        if isinstance(error, BackendUnavailableError) and "log in" in str(error):
            command = login_command(launch.binary, launch.environment["CLAUDE_CONFIG_DIR"])
            if command not in str(error):
                error.args = (f"{error.args[0]} To log in: {command}",)
        return error
