"""The way from the daemon to what the monitor knows: events without gaps, and the list of instances beside them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING

from claude_comms.daemon.wire.handshake import OTHER_SETTINGS
from claude_comms.errors import ClaudeCommsError, DaemonVersionError
from claude_comms.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.events import Missed, Subscription
    from claude_comms.protocols import Engine
    from claude_comms.tui.model import World
    from claude_comms.types import InstanceInfo

__all__ = ["Connection", "Feed"]

_TRIES_AGAIN_S = 0.5
_LISTS_EVERY_S = 2.0
_LISTS_AGAIN_S = 0.4
"""The soonest, where events told of an instance that no list has named."""
_ANSWERS_WITHIN_S = 3.0
"""A daemon that takes longer to list its instances is said not to answer."""
_MOST_WAITING = 5_000
"""Events read and not yet taken. Beyond them reading waits, and the client holds what comes."""
_YIELDS_EVERY = 50
_FRAME_BUDGET_S = 0.01
_GATHERS_S = 0.05
"""To be woken for each event costs more than the event: what comes in so long is taken at once."""


class Connection(StrEnum):
    """How it stands with the daemon."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    """It is away, and may come back."""
    SILENT = "silent"
    """It is there, and does not answer."""
    REFUSED = "refused"
    """It is another one than this monitor was started for: waiting does not help."""


class Feed:
    """Follows the daemon of `engine`, from when `run` is called until that is cancelled.

    It holds one subscription, whose cursor outlives the daemon: what happened while the daemon was away, or being
    restarted, comes when it is back. `take` moves what has come into `world`, for so long as a frame may take.
    """

    def __init__(
        self,
        engine: Engine,
        world: World,
        *,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.connection = Connection.CONNECTING
        self.problem = ""
        """Why there is no connection, and where waiting does not help, what does."""
        self.caught_up = True
        """All that has come is in the world."""
        self._engine = engine
        self._world = world
        self._changed = changed
        self._waiting: deque[Event | Missed] = deque()
        self._room = asyncio.Event()
        self._listed: list[InstanceInfo] | None = None
        self._wake = asyncio.Event()
        self._clock = clock
        self._answered_at = clock()

    async def run(self) -> None:
        """Follow and list, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="monitor events")
            tasks.create_task(self._list(), name="monitor instances")

    def take(self, clock: Callable[[], float], budget_s: float = _FRAME_BUDGET_S) -> bool:
        """Bring the world up to date, as far as `budget_s` reaches; whether anything changed."""
        until = clock() + budget_s
        listed, self._listed = self._listed, None
        if listed is not None:
            self._world.board.listed(listed)
        taken = 0
        while self._waiting:
            self._world.take(self._waiting.popleft())
            taken += 1
            if taken % _YIELDS_EVERY == 0 and clock() > until:
                break
        self.caught_up = not self._waiting
        if len(self._waiting) < _MOST_WAITING:
            self._room.set()
        if self._world.board.stale:
            self._wake.set()
        return bool(taken) or listed is not None

    @property
    def waiting(self) -> int:
        """How many events have been read and are not in the world yet."""
        return len(self._waiting)

    def refresh(self) -> None:
        """List the instances soon: something was done to one."""
        self._world.board.stale = True
        self._wake.set()

    # --- events --------------------------------------------------------------------------------

    async def _follow(self) -> None:
        cursor: int | None = None
        while True:
            events = self._engine.follow(after=cursor)
            try:
                cursor = await self._read(events, cursor)
            finally:
                await _close(events)
            # It ended by itself: the daemon stops.
            self._tell(Connection.LOST, "the daemon is stopping")
            await asyncio.sleep(_TRIES_AGAIN_S)

    async def _read(self, events: Subscription, cursor: int | None) -> int | None:
        """Read to the end of the subscription, through times without a daemon; where the next one begins."""
        await self._entered(events)
        while True:
            try:
                came = [await events.__anext__(), *events.ready()]
            except StopAsyncIteration:
                return cursor
            except ClaudeCommsError as error:
                self._tell(*_trouble(error))
                await self._entered(events)
                continue
            newest = came[-1]
            cursor = newest.seq if isinstance(newest, Event) else newest.last
            await self._put(came)
            await asyncio.sleep(_GATHERS_S)

    async def _put(self, came: list[Event | Missed]) -> None:
        """Have them wait for a frame, not too many at a time."""
        for event in came:
            if len(self._waiting) >= _MOST_WAITING:
                self._room.clear()
                await self._room.wait()
            self._waiting.append(event)

    async def _entered(self, events: Subscription) -> None:
        """Be subscribed: again where the daemon was away, for as long as that takes."""
        while True:
            try:
                await events.__aenter__()
            except ClaudeCommsError as error:
                self._tell(*_trouble(error))
                await asyncio.sleep(_TRIES_AGAIN_S)
                continue
            self._answered_at = self._clock()
            self._tell(Connection.CONNECTED, "")
            self.refresh()
            return

    def _tell(self, connection: Connection, problem: str) -> None:
        if (connection, problem) != (self.connection, self.problem):
            self.connection, self.problem = connection, problem
            self._changed()

    # --- instances -----------------------------------------------------------------------------

    async def _list(self) -> None:
        while True:
            self._wake.clear()
            if self.connection in (Connection.CONNECTED, Connection.SILENT):
                await self._list_once()
            await asyncio.sleep(_LISTS_AGAIN_S)
            try:
                async with asyncio.timeout(_LISTS_EVERY_S - _LISTS_AGAIN_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _list_once(self) -> None:
        """Events may come, and nothing else be answered: that is told, too."""
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                self._listed = list(await self._engine.instances.list())
        except TimeoutError:
            problem = f"The daemon has not answered for {self._clock() - self._answered_at:.0f} s. You see what was."
        except ClaudeCommsError as error:
            problem = f"The daemon does not say how it stands with its instances: {error}"
        else:
            problem, self._answered_at = "", self._clock()
        if self.connection in (Connection.CONNECTED, Connection.SILENT):  # still
            self._tell(Connection.SILENT if problem else Connection.CONNECTED, problem)


def _trouble(error: ClaudeCommsError) -> tuple[Connection, str]:
    """How it stands with the daemon after `error`, and what to say of it."""
    if isinstance(error, DaemonVersionError):
        versions = f"The daemon is now {error.daemon_version}, this monitor {error.client_version}"
        return Connection.REFUSED, f"{versions}: leave with q and start it again."
    if str(error).startswith(OTHER_SETTINGS):
        names = str(error).removeprefix(OTHER_SETTINGS).partition(".")[0]
        return (
            Connection.REFUSED,
            f"The daemon has other settings now: leave with q and start it again. Differing{names}",
        )
    return Connection.LOST, str(error)


async def _close(events: Subscription) -> None:
    try:
        await events.__aexit__(None, None, None)
    except ClaudeCommsError:
        return  # it has ended with the connection
