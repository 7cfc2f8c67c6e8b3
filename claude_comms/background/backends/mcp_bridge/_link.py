"""What all sessions share: one bridge process, one connection to it, and both again when they are lost."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from claude_comms.background.backends.mcp_bridge._client import Client, connected
from claude_comms.background.backends.mcp_bridge._failures import ConnectionLostError, RefusedError
from claude_comms.errors import BackendCrashedError, BackendUnavailableError, ClaudeCommsError, TurnFailedError
from claude_comms.types import BRIDGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from claude_comms.background.backends.mcp_bridge._process import BridgeProcess
    from claude_comms.errors import BackendError

__all__ = ["Link", "Member", "StormLimit"]

_START_WITHIN_S = 15.0
_RECONNECT_WITHIN_S = 5.0
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_CALL_WITHIN_S = 10.0
_END_WITHIN_S = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StormLimit:
    """How often the bridge may be started, so that one that cannot live does not eat the machine."""

    starts: int = 5
    within_s: float = 180.0


class Member(Protocol):
    """A session that lives in the bridge."""

    @property
    def session_id(self) -> str:
        """Its id there."""
        ...

    def heard(self) -> None:
        """Its process gave a sign of life."""
        ...

    def lose(self, how: str, stderr_tail: str = "") -> None:
        """Its process has died."""
        ...

    async def close(self) -> None:
        """End its process."""
        ...


class Link:
    """Starts the bridge when it is needed, and again when it has died. All methods belong to one event loop.

    `make` gives a process that is not started yet; `client` is how we call ourselves.
    """

    def __init__(self, make: Callable[[], Awaitable[BridgeProcess]], client: str, storm: StormLimit) -> None:
        self._make = make
        self._name = client
        self._storm = storm
        self._starts: deque[float] = deque(maxlen=storm.starts)
        self._process: BridgeProcess | None = None
        self._client: Client | None = None
        self._opening: asyncio.Task[Client] | None = None
        self._members: set[Member] = set()
        self._tasks: dict[asyncio.Task[Any], anyio.CancelScope] = {}
        self._closed = False
        self.facts: Mapping[str, Any] = {}
        """What the running bridge said of itself, or the last one."""

    # --- who is there ---

    @property
    def process(self) -> BridgeProcess | None:
        """The running bridge."""
        process = self._process
        return process if process is not None and process.alive else None

    def join(self, member: Member) -> None:
        """Tell the session of what concerns it from now on."""
        self._members.add(member)

    def holders(self, session_id: str) -> list[Member]:
        """The sessions of that id, which may be one twice: an instance goes on where another kept it warm."""
        return [member for member in self._members if member.session_id == session_id]

    def leave(self, member: Member) -> None:
        """Tell it nothing more."""
        self._members.discard(member)

    # --- asking ---

    async def client(self) -> Client:
        """The connection to a running bridge; one is started, or reached again, where that is needed.

        BackendUnavailableError says why that is impossible, BackendCrashedError that it died meanwhile.
        """
        self._closed = False
        if self._client is not None and not self._client.lost and self.process is not None:
            return self._client
        if self._opening is not None and not self._opening.done():
            with suppress(BackendCrashedError):  # of the bridge that was there before; it is started again now
                return await asyncio.shield(self._opening)
        if self._opening is None or self._opening.done():
            self._opening = self.later(self._reopen())
        # All who wait wait for the same, and none of them ends it by giving up.
        return await asyncio.shield(self._opening)

    async def tell(self, method: str, params: Mapping[str, Any], *, timeout_s: float) -> bool:
        """Make a request over the connection that is there, if there is one. Whether it was done; never raises."""
        client = self._client
        if client is None or client.lost or self.process is None:
            return False
        try:
            await client.call(method, params, timeout_s=timeout_s)
        except (RefusedError, ConnectionLostError, ClaudeCommsError, TimeoutError):
            return False
        return True

    async def why_lost(self, *, asked: bool = True) -> BackendError:
        """The error for a connection that was lost in the middle of something; of a turn, `asked` says whether the
        question may have been put to the model.
        """
        process = self._process
        if process is not None and await process.is_dying():
            return process.crashed()
        if not asked:
            return BackendCrashedError(
                "the connection to the bridge broke before the question was put. Ask again.", backend=BRIDGE
            )
        return TurnFailedError(
            "the connection to the bridge broke in the middle of the turn; the bridge lives, and the session goes on."
            " Ask again.",
            reason="cut",
            backend=BRIDGE,
            retryable=True,
        )

    def later(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Let `work` run, whether or not anybody waits for it."""
        scope = anyio.CancelScope()
        task = asyncio.get_running_loop().create_task(_within(scope, work), name="claude-comms bridge")
        self._tasks[task] = scope
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """End the bridge with all its sessions, in bounded time. May be called twice; a later question starts anew."""
        self._closed = True
        tasks = tuple(self._tasks)
        for scope in tuple(self._tasks.values()):
            scope.cancel()  # not the tasks: they could not clean up after themselves
        process, self._process = self._process, None
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        if process is not None:
            await process.stop()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_WITHIN_S)

    # --- start, loss, return ---

    async def _reopen(self) -> Client:
        if self.process is not None:
            try:
                return await self._connect()
            except BackendCrashedError:  # it was about to die when we looked, or hung
                if self._closed:
                    raise
        await self._start()
        return await self._connect()

    async def _start(self) -> None:
        self._refuse_a_storm()
        await self._drop_client()
        if self._process is not None:
            process, self._process = self._process, None
            await process.stop()
        process = await self._make()
        self._starts.append(anyio.current_time())
        try:
            await process.start(_START_WITHIN_S)
            if self._closed:
                raise _stopped()
        except BaseException:
            await process.stop()
            raise
        self._process = process
        self.later(self._mourn(process))

    def _refuse_a_storm(self) -> None:
        now = anyio.current_time()
        if len(self._starts) < self._storm.starts or now - self._starts[0] >= self._storm.within_s:
            return
        wait_s = self._storm.within_s - (now - self._starts[0])
        raise BackendUnavailableError(
            f"the bridge was started {self._storm.starts} times within {self._storm.within_s:.0f} s, and did not live."
            f" It may be started again in {wait_s:.0f} s. See what it lacks: claude-comms doctor",
            backend=BRIDGE,
        )

    async def _connect(self) -> Client:
        """A connection to the running bridge; while it lives, tried again, with pauses of random length.

        BackendCrashedError where it died, or was stopped because it cannot be reached.
        """
        await self._drop_client()
        process = self._process
        if process is None:
            raise _stopped()
        trying = AsyncRetrying(
            retry=retry_if_exception_type(ConnectionLostError),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S),
            stop=stop_after_delay(_RECONNECT_WITHIN_S),
            sleep=_sleep,
            reraise=True,
        )
        try:
            async for attempt in trying:
                with attempt:
                    if not process.alive:
                        raise process.crashed()
                    self._client = await connected(process.port, process.token, self._on_notice, self._name)
        except ConnectionLostError as error:
            await self._give_up(process)
            raise BackendCrashedError(
                f"the bridge ran and could not be reached ({error}), so it was stopped. Ask again.", backend=BRIDGE
            ) from error
        client = self._client
        if client is None:
            raise _stopped()
        self.facts = client.facts
        await self._missed(client)
        self.later(self._watch(client))
        return client

    async def _give_up(self, process: BridgeProcess) -> None:
        """End a bridge that hangs: it would go on hanging, and keep the next one from being started."""
        if self._process is process:
            self._process = None
        for member in tuple(self._members):
            member.lose("lost its bridge process, which hung and was stopped")
        await process.stop()

    async def _missed(self, client: Client) -> None:
        """Learn which sessions have ended while there was no connection."""
        if not self._members:
            return
        with suppress(RefusedError, ConnectionLostError, TimeoutError, ClaudeCommsError):
            told = await client.call("list", {}, timeout_s=_CALL_WITHIN_S)
            living = {entry["session"] for entry in told["sessions"] if entry["state"] != "dead"}
            for member in tuple(self._members):
                if member.session_id not in living:
                    member.lose("ended while the connection to the bridge was lost")

    async def _watch(self, client: Client) -> None:
        """Reach the bridge again as soon as its connection is lost: without one it lets idle sessions go."""
        await client.ended()
        if client is not self._client or self._closed or self.process is None:
            return
        if self._opening is None or self._opening.done():
            # A bridge that has died is started again by the next question, not by this.
            self._opening = self.later(self._connect())

    async def _mourn(self, process: BridgeProcess) -> None:
        how = await process.died()
        if how is None:
            return
        for member in tuple(self._members):
            member.lose(f"lost its bridge process, which {how}", process.crashed().stderr_tail)
        await process.stop()  # what is left of it

    async def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _on_notice(self, method: str, params: Mapping[str, Any]) -> None:
        session = params.get("session")
        for member in tuple(self._members):
            if member.session_id == session:
                if method == "session.died":
                    member.lose(str(params["how"]), str(params["stderr_tail"]))
                else:
                    member.heard()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()


async def _within(scope: anyio.CancelScope, work: Coroutine[Any, Any, T]) -> T:
    with scope:
        return await work
    raise _stopped()


def _stopped() -> BackendCrashedError:
    return BackendCrashedError("the bridge was stopped. Ask again.", backend=BRIDGE)


async def _sleep(seconds: float) -> None:
    await anyio.sleep(seconds)
