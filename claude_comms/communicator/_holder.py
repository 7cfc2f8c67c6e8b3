"""What communicators and their like share: an engine, in this process or the daemon's, that the first call opens."""

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
    """Holds an engine from the first call to `close`. An async context manager.

    `use_background`: True takes the daemon's and starts it, False one of this process, None the daemon's where one
    runs and the settings do not forbid it. A generator and backends of the caller's own stay in this process:
    ConfigError with True. With `adopts` a daemon's settings hold as they are, also where they are others here.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        use_background: bool | None = None,
        adopts: bool = False,
        generator: ContextGenerator | None = None,
        backends: Iterable[Backend] = (),
    ) -> None:
        self.settings = settings
        self._use_background = use_background
        self._adopts = adopts
        self._generator = generator
        self._backends = {backend.name: backend for backend in backends}
        self._engine: Engine | None = None
        self._opening: asyncio.Task[Engine] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        if use_background and self._own_parts:
            raise ConfigError(
                f"{self._own_parts} is an object of this process, and the daemon is another process."
                " Leave use_background out, or name a backend that the daemon knows."
            )

    @property
    def _own_parts(self) -> str:
        """What cannot be handed to a daemon; empty where there is nothing."""
        if self._backends:
            return f"the backend {next(iter(self._backends.values()))!r}"
        return "context_generator" if self._generator is not None else ""

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
            self._opening.add_done_callback(_known)
        with anyio.move_on_after(within_s):
            return await asyncio.shield(self._opening)
        raise DeadlineExceededError(
            f"neither the store nor a daemon could be opened within {within_s:g} s. Ask again with a later deadline.",
            deadline_s=within_s,
        )

    async def _open(self) -> Engine:
        engine = await self._chosen()
        await engine.open()
        self._engine = engine
        return engine

    async def _chosen(self) -> Engine:
        if self._use_background or (self._use_background is None and await self._runs()):
            await _imported("claude_comms.daemon.client")
            from claude_comms.daemon.client import RemoteEngine

            return RemoteEngine(self.settings, starts=bool(self._use_background), adopts=self._adopts)
        await _imported("claude_comms.engine")
        from claude_comms.engine import LocalEngine

        return LocalEngine(self.settings, generator=self._generator, backends=self._backends)

    async def _runs(self) -> bool:
        """Whether there is a daemon, and it may be used."""
        if self.settings.daemon == "off" or self._own_parts:
            return False
        from claude_comms.daemon import find

        return await anyio.to_thread.run_sync(find, self.settings) is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()


def _known(opening: asyncio.Task[Engine]) -> None:
    """How the opening failed concerns who waits for it; where its deadline has come first, that is nobody any more."""
    if not opening.cancelled():
        opening.exception()


async def _imported(room: str) -> None:
    """Import `room` in a thread: it may take half a second, the loop goes on meanwhile, and deadlines hold."""
    await anyio.to_thread.run_sync(import_module, room, abandon_on_cancel=True)
