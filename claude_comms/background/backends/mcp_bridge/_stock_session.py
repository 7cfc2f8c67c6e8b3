"""An instance's session with a stock claude-code-mcp: one server process, and the whole thread in each question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import anyio

from claude_comms.background.backends.claude_runtime.place import require_directory
from claude_comms.background.backends.mcp_bridge._stock_connection import StockConnection
from claude_comms.background.backends.mcp_bridge._stock_failures import interrupted
from claude_comms.background.backends.mcp_bridge._stock_prompt import stock_prompt
from claude_comms.errors import (
    BackendCrashedError,
    BackendUnavailableError,
    ConfigError,
    DeadlineExceededError,
    TurnFailedError,
)
from claude_comms.types import BRIDGE, Delta, TurnResult, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from claude_comms.background.backends.claude_runtime.workspace import Scratch
    from claude_comms.types import Emit, InstanceSpec, TurnRequest

__all__ = ["StockSession"]

START_S = 30.0
"""For a new server to answer."""

_BLOCK_BYTES = 64 * 1024
_TORN = "\ufffd"
"""What stands for half a character. An answer may hold one of its own: then it is refused without need."""

UNKNOWN = "unknown"
"""The stop reason: the server does not tell why an answer ended."""


class Starter(Protocol):
    """What the backend gives its sessions."""

    @property
    def login(self) -> str: ...

    @property
    def command(self) -> Sequence[str]: ...

    def scratch(self) -> Scratch: ...

    def environment(self, scratch: Scratch, spec: InstanceSpec, model: str) -> Mapping[str, str]: ...

    def forget(self, session: StockSession) -> None: ...


class StockSession:
    """One instance. Its server is started by the first question, and kept until it has to be killed."""

    def __init__(self, starter: Starter, spec: InstanceSpec) -> None:
        self._starter = starter
        self._spec = spec
        self._connection: StockConnection | None = None
        self._scratch: Scratch | None = None
        self._arrived = anyio.Event()
        """Set when a connection is made, for `died`."""
        self._turn: anyio.CancelScope | None = None
        """Of the running turn."""
        self._interrupted = False
        self._closed = False

    # --- the protocol ---

    async def ask(self, request: TurnRequest, emit: Emit) -> TurnResult:
        """Answer, all at once, by a Claude Code process that ends with the answer. See `Session.ask`.

        ConfigError for a question whose cost is limited; ContextError, or ContextTooLargeError, for one that cannot
        be passed on.
        """
        _refuse_limited(request)
        prompt, left_out = stock_prompt(request.prompt)
        text = await self._in_turn(request, prompt)
        await emit(Delta(text))
        rebuilt = f"the server keeps nothing, and {left_out} of the oldest turns did not fit" if left_out else ""
        return TurnResult(text, request.model, UNKNOWN, Usage(), rebuilt=rebuilt)

    async def interrupt(self) -> None:
        """Stop the running turn, and the server with it. See `Session.interrupt`."""
        if self._turn is not None:
            self._interrupted = True
            self._turn.cancel()

    async def close(self) -> None:
        """Stop the server and all it started. See `Session.close`.

        A question that another task is asking ends in BackendCrashedError.
        """
        self._closed = True
        try:
            await self._drop()
        finally:
            self._starter.forget(self)

    # --- warm, watched ---

    async def warm(self, request: TurnRequest) -> None:
        """Start the server. See `Warmable.warm`."""
        self._refuse_closed()
        require_directory(self._spec, backend=BRIDGE)
        try:
            await self._connected(request)
        except GeneratorExit:
            self._abandon()
            raise
        except BaseException:
            await self._drop()
            raise

    @property
    def pid(self) -> int | None:
        """The launcher's process id: the root of the server's process tree. See `Observable.pid`."""
        return None if self._connection is None else self._connection.pid

    @property
    def last_alive(self) -> float | None:
        """When the server last wrote anything: while Claude Code works, it writes nothing. See
        `Observable.last_alive`.
        """
        return None if self.pid is None or self._connection is None else self._connection.last_byte

    async def died(self) -> str:
        """Wait until a server dies that nobody has stopped. See `Mortal.died`."""
        while True:
            self._arrived = anyio.Event()
            connection = self._connection
            how = None if connection is None else await connection.died()
            if how is not None:
                return f"claude-code-mcp {how}"
            if self._connection is connection or self._connection is None:
                await self._arrived.wait()

    async def prove(self, timeout_s: float) -> None:
        """Have the idle server list its tools. See `Provable.prove`."""
        connection = self._connection
        if connection is None or self._turn is not None:
            return
        try:
            with anyio.fail_after(timeout_s):
                await connection.prove()
        except Exception:
            if connection is self._connection and self._turn is None:
                raise

    # --- a turn ---

    async def _in_turn(self, request: TurnRequest, prompt: str) -> str:
        """The answer to `prompt`. However it ends but with an answer, or with the server's word that there is none,
        nothing of the server is left.
        """
        self._interrupted = False
        self._refuse_closed()
        require_directory(self._spec, backend=BRIDGE)
        with anyio.CancelScope(deadline=_deadline(request)) as turn:
            self._turn = turn
            try:
                connection = await self._connected(request)
                return _whole(await connection.call(prompt, self._folder))
            except GeneratorExit:  # nothing may be awaited any more
                self._abandon()
                raise
            except (TurnFailedError, BackendUnavailableError):
                if self._connection is None or not self._connection.alive:
                    await self._drop()
                raise
            except BaseException:
                await self._drop()
                raise
            finally:
                self._turn = None
        if self._interrupted:
            raise interrupted()
        raise DeadlineExceededError("claude-code-mcp did not answer by the deadline. Allow more time.")

    async def _connected(self, request: TurnRequest) -> StockConnection:
        """A running server whose Claude Code uses the question's model."""
        connection = self._connection
        if connection is not None and connection.alive and connection.model == request.model:
            return connection
        await self._drop()
        self._connection = connection = StockConnection(model=request.model, login=self._starter.login)
        self._scratch = self._starter.scratch()
        self._arrived.set()
        environment = self._starter.environment(self._scratch, self._spec, request.model)
        await connection.start(self._starter.command, directory=self._folder, environment=environment, within_s=START_S)
        self._refuse_closed()
        return connection

    def _refuse_closed(self) -> None:
        if self._closed:
            raise BackendCrashedError("the session has been closed. Ask again.", backend=BRIDGE)

    @property
    def _folder(self) -> Path:
        """Where Claude Code works. The server would take the user's home where it is told nothing."""
        if self._spec.directory is not None:
            return self._spec.directory.absolute()
        if self._scratch is None:
            raise BackendCrashedError("the session was closed. Ask again.", backend=BRIDGE)
        return self._scratch.empty

    def _abandon(self) -> None:
        connection, scratch = self._take()
        if connection is not None:
            connection.abandon()
        if scratch is not None:
            scratch.remove()

    async def _drop(self) -> None:
        connection, scratch = self._take()
        try:
            if connection is not None:
                await connection.stop()
        except BaseException:  # a second cancellation, say: no process may outlive it
            if connection is not None:
                connection.abandon()
            raise
        finally:
            if scratch is not None:
                scratch.remove()

    def _take(self) -> tuple[StockConnection | None, Scratch | None]:
        taken = self._connection, self._scratch
        self._connection = self._scratch = None
        return taken


def _deadline(request: TurnRequest) -> float:
    return float("inf") if request.deadline is None else request.deadline


def _refuse_limited(request: TurnRequest) -> None:
    if request.max_cost_usd is not None or request.check_spent is not None:
        raise ConfigError(
            "claude-code-mcp does not tell what a question costs, so its cost cannot be capped. Leave the cost limit"
            " out, or set bridge_server to claude-comms-bridge."
        )


def _whole(text: str) -> str:
    """The answer in what `claude -p` printed: it ends the last line where the answer did not.

    TurnFailedError for none, and for one that is not what Claude Code said: the server reads that in blocks, and
    decodes each by itself.
    """
    answer = text if text.endswith("\n\n") else text.removesuffix("\n")
    if not answer:
        raise TurnFailedError(
            "claude-code-mcp answered nothing. Ask again.", reason="cut", backend=BRIDGE, retryable=True
        )
    if _TORN in answer and len(answer.encode()) > _BLOCK_BYTES:
        raise TurnFailedError(
            "claude-code-mcp has damaged the answer: of one longer than 64 KiB it loses characters at the seams."
            " Ask for something shorter, or set bridge_server to claude-comms-bridge.",
            reason="damaged",
            partial=answer,
            backend=BRIDGE,
        )
    return answer
