"""What communicators and instance managers share: an engine that the first call opens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio

from claude_comms.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.context import ContextGenerator
    from claude_comms.settings import Settings
    from claude_comms.types import Engine

__all__ = ["EngineHolder"]


class EngineHolder:
    """Holds an engine from the first call to `close`. An async context manager."""

    def __init__(
        self, settings: Settings, *, generator: ContextGenerator | None = None, backends: Iterable[Backend] = ()
    ) -> None:
        self.settings = settings
        self._generator = generator
        self._backends = {backend.name: backend for backend in backends}
        self._engine: Engine | None = None
        self._opening = anyio.Lock(fast_acquire=True)
        self._closed = False

    async def close(self) -> None:
        """Interrupt what runs, store how it ended, and let go of everything, in bounded time. May be called twice."""
        self._closed = True
        async with self._opening:
            engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    async def _opened(self) -> Engine:
        """The engine, opened by the first call that needs it."""
        async with self._opening:
            if self._closed:
                raise ConfigError("this is closed. Create a new one.")
            if self._engine is None:
                from claude_comms.engine import LocalEngine

                engine = LocalEngine(self.settings, generator=self._generator, backends=self._backends)
                await engine.open()
                self._engine = engine
            return self._engine

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()
