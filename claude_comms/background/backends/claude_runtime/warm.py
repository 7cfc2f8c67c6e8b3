"""The sessions of one backend that keep processes: few start at once, and few stay warm without anything to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from claude_comms.background.backends.claude_runtime.workspace import Workspace

__all__ = ["Resting", "WarmSessions"]

_STARTS_AT_ONCE = 2
"""A start costs seconds of processor time."""


class Resting(Protocol):
    """A session that can let its process go and start another when it is asked."""

    @property
    def idle(self) -> bool:
        """Whether it keeps a process warm that has nothing to do."""
        ...

    @property
    def last_used(self) -> float:
        """When it was last asked, on `anyio.current_time()`'s clock."""
        ...

    async def rest(self) -> None:
        """Let an idle process go."""
        ...

    async def close(self) -> None:
        """See `Session.close`."""
        ...


class WarmSessions:
    """The open sessions, of which at most `most_idle` keep a process warm without anything to do."""

    def __init__(self, workspace: Workspace, most_idle: int) -> None:
        self._workspace = workspace
        self.most_idle = most_idle
        self._limiter: anyio.CapacityLimiter | None = None
        self._sessions: set[Resting] = set()

    @property
    def starting(self) -> anyio.CapacityLimiter:
        """Two processes at a time may start."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_STARTS_AT_ONCE)
        return self._limiter

    def add(self, session: Resting) -> None:
        """The session has been opened."""
        self._sessions.add(session)

    def forget(self, session: Resting) -> None:
        """The session has closed itself."""
        self._sessions.discard(session)

    async def make_room(self) -> None:
        """Another process is about to start: those that have been idle longest make room, so that few stay warm."""
        if self._workspace.sweep_due:
            await anyio.to_thread.run_sync(self._workspace.sweep)
        idle = sorted((session for session in self._sessions if session.idle), key=lambda session: session.last_used)
        for session in idle[: max(0, len(idle) - self.most_idle + 1)]:
            await session.rest()

    async def close(self) -> None:
        """Close every session that is left."""
        async with anyio.create_task_group() as closing:
            for session in tuple(self._sessions):
                closing.start_soon(session.close)
