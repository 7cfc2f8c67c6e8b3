"""An instance's session with Claude Code: which process and which of its sessions a question goes to.

How a process is reached and a turn is run on it is the backend's own: it gives the connections and the exchanges.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import anyio

from claude_comms.background.backends.claude_runtime.place import find_place, handle_parts, require_directory
from claude_comms.background.backends.claude_runtime.revision import git_revision
from claude_comms.errors import BackendCrashedError, BackendUnavailableError, TurnFailedError
from claude_comms.types import Source

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.background.backends.claude_runtime.confinement import Confinement
    from claude_comms.background.backends.claude_runtime.launch import LaunchFacts
    from claude_comms.background.backends.claude_runtime.place import Place
    from claude_comms.background.backends.claude_runtime.warm import WarmSessions
    from claude_comms.background.backends.claude_runtime.workspace import Scratch, Workspace
    from claude_comms.types import Emit, InstanceSpec, TurnRequest, TurnResult

__all__ = ["Exchange", "Limits", "ProcessSession", "Starter", "WarmConnection"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session waits. Seconds."""

    start_s: float = 30.0
    """For a new process to answer."""
    stall_s: float = 300.0
    """For any byte within a turn, before it is interrupted and then killed."""


class Starter(Protocol):
    """What the backend gives its sessions."""

    @property
    def name(self) -> str:
        """The backend's."""
        ...

    @property
    def workspace(self) -> Workspace:
        """Where sessions and scratch files live."""
        ...

    @property
    def version(self) -> str:
        """Claude Code's."""
        ...

    @property
    def binary(self) -> Path:
        """Where Claude Code is."""
        ...

    @property
    def warm(self) -> WarmSessions:
        """All its sessions."""
        ...

    def environment(self, spec: InstanceSpec, scratch: Scratch, max_output_tokens: int) -> dict[str, str]:
        """The whole environment of a process of Claude Code."""
        ...


class WarmConnection(Protocol):
    """A started Claude Code process that holds one session at a time."""

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        ...

    @property
    def used(self) -> bool:
        """Whether the session holds anything yet."""
        ...

    @property
    def handle(self) -> str:
        """What finds the session again, up to its last complete answer."""
        ...

    @property
    def gone(self) -> anyio.Event:
        """Set once the process has ended and everything of it was let go of."""
        ...

    @property
    def pid(self) -> int | None:
        """The root of its process tree, while it runs."""
        ...

    @property
    def last_byte(self) -> float:
        """When the process last said anything, on `anyio.current_time()`'s clock."""
        ...

    def suits(self, request: TurnRequest) -> bool:
        """Whether what was fixed when the process started is what `request` needs."""
        ...

    def hold(self) -> bool:
        """Take the session's lease, for a turn; False while another process has it."""
        ...

    def release(self) -> None:
        """Give up the lease while there is nothing to do."""
        ...

    async def start(self, timeout_s: float) -> None:
        """Start the process and shake hands. However it fails, `close` or `abandon` must follow."""
        ...

    async def reach_servers(self, timeout_s: float) -> None:
        """Wait for the MCP servers that were granted. BackendUnavailableError names one that is not reached."""
        ...

    async def clear(self) -> bool:
        """Begin a new session in the same process, and hold its lease; False where that did not work."""
        ...

    async def prove(self, timeout_s: float) -> None:
        """Return once the process has answered a control request; TimeoutError after `timeout_s`."""
        ...

    async def died(self) -> str | None:
        """Wait for the process's end; how it died, or None where it was stopped."""
        ...

    async def close(self) -> None:
        """Stop the process with all it started, and give up the lease. Bounded; for any task of the loop."""
        ...

    def abandon(self) -> None:
        """Let go of everything without waiting."""
        ...


class Exchange(Protocol):
    """One turn on a connection."""

    @property
    def heard(self) -> bool:
        """Whether the question may have been put to the model."""
        ...

    def interrupt(self) -> None:
        """Let the turn be stopped by the task that runs it."""
        ...

    async def run(self) -> TurnResult:
        """Put the question and read its answer."""
        ...


ConnectionT = TypeVar("ConnectionT", bound=WarmConnection)
LaunchT = TypeVar("LaunchT", bound="LaunchFacts")


class ProcessSession(ABC, Generic[ConnectionT]):
    """One instance. It has at most one process, started by the first question and kept warm from then on."""

    def __init__(self, starter: Starter, spec: InstanceSpec, confinement: Confinement, limits: Limits) -> None:
        self._starter = starter
        self._spec = spec
        self._confinement = confinement
        self._limits = limits
        self._connection: ConnectionT | None = None
        self._leaving: ConnectionT | None = None
        """The one that was let go of last; until it is gone it has the session's lease."""
        self._arrived = anyio.Event()
        """Set when a connection is made, for `died`."""
        self._exchange: Exchange | None = None
        """The running turn, or the last one."""
        self._running = False
        self._interrupted = False
        self._closed = False
        self.last_used = 0.0
        """When it was last asked, on `anyio.current_time()`'s clock."""

    # --- the backend's own ---

    @abstractmethod
    def _connect(self, request: TurnRequest, scratch: Scratch, directory: Path, place: Place) -> ConnectionT:
        """A connection to a process for the session at `place`; it is not started."""

    @abstractmethod
    def _exchange_on(self, connection: ConnectionT, request: TurnRequest, emit: Emit) -> Exchange:
        """The question's turn on `connection`."""

    def _died_unasked(self, *, warm: bool) -> bool:
        """Whether a crash was the death of something that had been warm, noticed only now; nothing was asked then."""
        return warm and self._exchange is not None and not self._exchange.heard

    # --- the protocol ---

    async def ask(self, request: TurnRequest, emit: Emit) -> TurnResult:
        """Answer on the warm process where it holds the conversation, else on a new one. See `Session.ask`."""
        self._begin()
        try:
            await self._check_directory()
            return await self._ask_again_if_it_helps(request, emit)
        finally:
            self._end()

    def _begin(self) -> None:
        self._running, self._exchange = True, None
        self._interrupted = self._closed = False
        self.last_used = anyio.current_time()

    def _end(self) -> None:
        self._running = False
        if self._connection is not None:
            self._connection.release()

    async def _check_directory(self) -> None:
        try:
            require_directory(self._spec, backend=self._starter.name)
        except BackendUnavailableError:
            # A warm process sits in what was deleted, also once the path is there again.
            await self._drop()
            raise

    async def _ask_again_if_it_helps(self, request: TurnRequest, emit: Emit) -> TurnResult:
        warm, spent, rebuild = self._connection is not None, None, ""
        try:
            return await self._ask(request, emit, rebuild="")
        except BackendCrashedError:
            if self._closed or not self._died_unasked(warm=warm):
                raise
        except TurnFailedError as error:
            # What the session holds is refused by the API, and would be each time: begin again from the store.
            if not _poisoned(error, request):
                raise
            spent, rebuild = error.usage, "the API refused what the session held"
            await self._drop()
        result = await self._ask(request, emit, rebuild=rebuild)
        return result if spent is None else replace(result, usage=result.usage + spent)

    async def interrupt(self) -> None:
        """Stop the running turn. See `Session.interrupt`."""
        if self._running:
            self._interrupted = True
            if self._exchange is not None:
                self._exchange.interrupt()

    async def close(self) -> None:
        """Stop the process and all it started. See `Session.close`.

        A question that another task is asking ends in BackendCrashedError.
        """
        self._closed = True
        try:
            await self._drop()
        finally:
            self._starter.warm.forget(self)

    # --- warm, watched, at rest ---

    async def warm(self, request: TurnRequest) -> None:
        """Start the process that a new conversation's first question, `request`, will find. See `Warmable.warm`."""
        self._begin()
        try:
            await self._check_directory()
            connection = self._connection
            if connection is None or not (connection.alive and connection.suits(request)):
                await self._drop()
                await self._start(request, "")
        finally:
            self._end()

    @property
    def pid(self) -> int | None:
        """The launcher's process id: the root of the process tree. See `Observable.pid`."""
        return None if self._connection is None else self._connection.pid

    @property
    def last_alive(self) -> float | None:
        """When the process last wrote anything. See `Observable.last_alive`."""
        return None if self.pid is None or self._connection is None else self._connection.last_byte

    async def died(self) -> str:
        """Wait until a process dies that nobody has stopped. See `Mortal.died`."""
        while True:
            self._arrived = anyio.Event()
            connection = self._connection
            if connection is not None:
                how = await connection.died()
                if how is not None:
                    return f"Claude Code {how}"
                await connection.gone.wait()
            if self._connection is connection or self._connection is None:
                await self._arrived.wait()

    async def prove(self, timeout_s: float) -> None:
        """Have an idle process answer a question of its state, which asks no model. See `Provable.prove`."""
        connection = self._connection
        if connection is None or self._running:
            return
        try:
            await connection.prove(timeout_s)
        except Exception:
            if connection is self._connection and not self._running:
                raise

    @property
    def idle(self) -> bool:
        """Whether it keeps a process warm that has nothing to do."""
        return self._connection is not None and not self._running

    async def rest(self) -> None:
        """Let an idle process go; the next question resumes its session on a new one.

        May be called by any task of the loop, also while the next question begins: that one waits until it is gone.
        """
        if self.idle:
            await self._drop()

    # --- where a question goes ---

    async def _ask(self, request: TurnRequest, emit: Emit, *, rebuild: str) -> TurnResult:
        connection, rebuilt = await self._connected(request, rebuild)
        self._exchange = self._exchange_on(connection, request, emit)
        if self._interrupted:
            self._exchange.interrupt()
        try:
            result = await self._exchange.run()
        except GeneratorExit:
            self._abandon()
            raise
        if rebuilt and request.session_handle is not None:
            self._starter.workspace.discard(handle_parts(request.session_handle)[0])
        return replace(result, sources=(*result.sources, *self._revision()), rebuilt=rebuilt)

    async def _connected(self, request: TurnRequest, rebuild: str) -> tuple[ConnectionT, str]:
        """The process for a question, and why its session had to be built anew; empty where it had not."""
        connection = self._connection
        if connection is not None and not rebuild and await self._goes_on(connection, request):
            return connection, ""
        await self._drop()
        return await self._start(request, rebuild)

    async def _goes_on(self, connection: ConnectionT, request: TurnRequest) -> bool:
        """Whether the warm process holds the question's conversation, or has been cleared for a new one."""
        if not (connection.alive and connection.suits(request)) or not connection.hold():
            return False
        if request.session_handle is not None or request.prompt.history:
            return request.session_handle == connection.handle
        return not connection.used or await connection.clear()

    async def _start(self, request: TurnRequest, rebuild: str) -> tuple[ConnectionT, str]:
        await self._starter.warm.make_room()
        with ExitStack() as undo:
            scratch = self._starter.workspace.scratch()
            undo.callback(scratch.remove)
            directory = self._spec.directory or scratch.empty
            place = await find_place(
                self._starter.workspace,
                request,
                directory,
                version=self._starter.version,
                wait_s=self._time_to_start(request),
                rebuild=rebuild,
                backend=self._starter.name,
            )
            undo.callback(place.lease.release)
            connection = self._connect(request, scratch, directory, place)
            await self._started(connection, request)
            undo.pop_all()
        return connection, place.rebuilt

    async def _started(self, connection: ConnectionT, request: TurnRequest) -> None:
        """Start the process as the session's own; however that fails, nothing of it stays."""
        self._connection = connection
        self._arrived.set()
        try:
            if self._closed:
                raise BackendCrashedError(
                    "the session was closed before its process started. Ask again.", backend=self._starter.name
                )
            async with self._starter.warm.starting:
                await connection.start(self._time_to_start(request))
            await connection.reach_servers(self._time_to_start(request))
        except GeneratorExit:
            self._abandon()
            raise
        except BaseException:
            await self._drop()
            raise

    def _launch(
        self, kind: type[LaunchT], request: TurnRequest, scratch: Scratch, directory: Path, place: Place
    ) -> LaunchT:
        return kind(
            binary=self._starter.binary,
            directory=directory,
            environment=self._starter.environment(self._spec, scratch, request.max_output_tokens),
            scratch=scratch,
            system=request.prompt.system_text,
            model=request.model,
            confinement=self._confinement,
            max_output_tokens=request.max_output_tokens,
            session_id=place.session_id,
            resume=place.transcript,
            position=place.position,
        )

    def _time_to_start(self, request: TurnRequest) -> float:
        if request.deadline is None:
            return self._limits.start_s
        return max(0.0, min(self._limits.start_s, request.deadline - anyio.current_time()))

    def _revision(self) -> tuple[Source, ...]:
        revision = None if self._spec.directory is None else git_revision(self._spec.directory)
        return () if revision is None else (Source("revision", revision),)

    def _abandon(self) -> None:
        """Let go of the process where nothing may be awaited any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    async def _drop(self) -> None:
        """Let the process go, and return when it is gone, whoever had begun to let it go."""
        connection, self._connection = self._connection, None
        if connection is None:
            # A second one while the first still stops would find the session's lease taken.
            if self._leaving is not None:
                await self._leaving.gone.wait()
            return
        self._leaving = connection
        try:
            await connection.close()
        except BaseException:  # a second cancellation, say: no process may outlive it
            connection.abandon()
            raise


def _poisoned(error: TurnFailedError, request: TurnRequest) -> bool:
    """Whether asking the same session again would fail the same way, and a new one might not."""
    return error.reason == "invalid_request" and not error.partial and bool(request.prompt.history)
