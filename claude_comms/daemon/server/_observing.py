"""Everything that happens goes into the metrics and, without its texts, into the log."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from claude_comms.errors import ClaudeCommsError
from claude_comms.events import Event, Priority

if TYPE_CHECKING:
    from claude_comms.daemon.server._metrics import Metrics
    from claude_comms.events import Missed
    from claude_comms.protocols import Engine

__all__ = ["Observer"]

_log = logging.getLogger("claude_comms.daemon.events")

_LEVELS = {
    Priority.LOW: logging.DEBUG,
    Priority.NORMAL: logging.INFO,
    Priority.HIGH: logging.WARNING,
    Priority.CRITICAL: logging.ERROR,
}
_IDS = {"thread_id": "conversation", "instance_id": "instance", "turn_id": "turn", "job_id": "job"}
_AGAIN_S = 1.0


class Observer:
    """Follows an engine's events for as long as the server lives."""

    def __init__(self, engine: Engine, metrics: Metrics, *, texts: bool) -> None:
        self._engine = engine
        self._metrics = metrics
        self._texts = texts
        self._task: asyncio.Task[None] | None = None
        self._cursor: int | None = None

    def start(self, after: int) -> None:
        """Follow from the cursor `after` on."""
        self._cursor = after
        self._task = asyncio.create_task(self._follow(), name="observer")

    async def stop(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                await self._read()
            except ClaudeCommsError as error:
                _log.warning("events cannot be followed: %s", type(error).__name__)
            await asyncio.sleep(_AGAIN_S)

    async def _read(self) -> None:
        async with self._engine.follow(after=self._cursor) as events:
            async for first in events:
                for event in (first, *events.ready()):
                    self._see(event)

    def _see(self, event: Event | Missed) -> None:
        if isinstance(event, Event):
            self._cursor = event.seq
            self._metrics.saw(event)
            self._note(event)
        else:
            self._cursor = event.last
            self._metrics.missed(event)

    def _note(self, event: Event) -> None:
        level = _LEVELS[event.priority]
        if not _log.isEnabledFor(level):
            return
        ids = {name: event.data[key] for key, name in _IDS.items() if event.data.get(key)}
        facts: dict[str, Any] = {"seq": event.seq, "namespace": event.namespace, "subject": event.subject}
        if self._texts:
            facts["data"] = dict(event.data)
        elif isinstance(error := event.data.get("error"), dict):
            facts["error"] = error.get("type")  # pyright: ignore[reportUnknownMemberType]
        _log.log(level, "%s", event.type, extra={**ids, "facts": facts})
