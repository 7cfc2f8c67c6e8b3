"""What communicators and instance managers share: an engine that the first call opens."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Self

import anyio

from claude_comms.errors import ConfigError, DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.context import ContextGenerator
    from claude_comms.protocols import Engine
    from claude_comms.settings import Settings

__all__ = ["EngineHolder"]


_CLOSE_WAIT_S = 10.0


class EngineHolder:
    """Holds an engine from the first call to `close`. An async context manager."""

    def __init__(
        self, settings: Settings, *, generator: ContextGenerator | None = None, backends: Iterable[Backend] = ()
    ) -> None:
        self.settings = settings
        self._generator = generator
        self._backends = {backend.name: backend for backend in backends}
        self._engine: Engine | None = None
        self._opening: asyncio.Task[Engine] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def close(self) -> None:
        """Interrupt what runs, store how it ended, and let go of everything, in bounded time. May be called twice."""
        self._closed = True
        opening, self._opening = self._opening, None
        if opening is not None:
            await asyncio.wait({opening}, timeout=_CLOSE_WAIT_S)
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    async def _opened(self, within_s: float | None = None) -> Engine:
        """The engine, opened by the first call that needs it; DeadlineExceededError if that takes longer.

        The opening goes on all the same: the store may be waiting for another process, and whoever calls next
        finds it open.
        """
        if self._opening is not None and self._loop is not asyncio.get_running_loop():
            raise ConfigError("this was opened in another event loop. Create one in each, or use ModuleCommunicator.")
        if self._engine is not None:
            return self._engine
        if self._closed:
            raise ConfigError("this is closed. Create a new one.")
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._loop = asyncio.get_running_loop()
            self._opening = asyncio.create_task(self._open(), name="claude-comms opening")
        with anyio.move_on_after(within_s):
            return await asyncio.shield(self._opening)
        raise DeadlineExceededError(
            f"the store could not be opened within {within_s:g} s. Ask again with a later deadline.",
            deadline_s=within_s,
        )

    async def _open(self) -> Engine:
        # Half a second of imports, in a thread: the loop goes on, and deadlines hold.
        await anyio.to_thread.run_sync(import_module, "claude_comms.engine", abandon_on_cancel=True)
        from claude_comms.engine import LocalEngine

        engine = LocalEngine(self.settings, generator=self._generator, backends=self._backends)
        await engine.open()
        self._engine = engine
        return engine

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()
