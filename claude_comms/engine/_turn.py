"""A question under way: its events on one side, its end on the other."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from claude_comms.errors import ClaudeCommsError, TurnFailedError
from claude_comms.types import Started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from claude_comms.engine._news import TurnNews
    from claude_comms.types import Reply, TurnEvent

__all__ = ["RunningTurn"]

_CLOSE_WAIT_S = 5.0
_EVENTS_AHEAD = 64
"""How far the model may run ahead of a caller that reads slowly."""


class RunningTurn:
    """Implements `protocols.Turn` for a turn that a task of the engine carries out (`run`)."""

    def __init__(self, news: TurnNews) -> None:
        self.news = news
        # Not a stream of anyio's: that switches tasks for each piece, and many pieces come at once.
        self._events: deque[TurnEvent] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stored = anyio.Event()
        self._ended = anyio.Event()
        self._thread_id: str | None = None
        self._scope = anyio.CancelScope()
        self._reply: Reply | None = None
        self._error: BaseException | None = None
        self._unread = False
        self._interrupted = False
        self._stop: Callable[[], Awaitable[object]] | None = None

    # --- the engine's side ---------------------------------------------------------------------

    async def run(self, answer: Callable[[RunningTurn], Awaitable[Reply]]) -> None:
        """Carry the turn out; whatever happens is kept for the caller."""
        try:
            with self._scope:
                self._reply = await answer(self)
            if self._reply is None:
                self._error = _interrupted()
        except Exception as error:  # noqa: BLE001 - raised again where the caller waits
            self._error = error
        finally:
            if self._reply is None and self._error is None:
                self._error = _interrupted("the engine was closed before the answer came")
            self._tell_the_end()
            self._stored.set()
            self._ended.set()
            self._news.set()

    async def emit(self, event: TurnEvent) -> None:
        """Hand an event to the caller, at the caller's pace; dropped once nobody reads any more."""
        if isinstance(event, Started):
            self._thread_id = event.thread_id
            self._stored.set()
        self.news.event(event)
        while len(self._events) >= _EVENTS_AHEAD and not self._unread:
            self._room.clear()
            await self._room.wait()
        if not self._unread:
            self._events.append(event)
            self._news.set()

    def _tell_the_end(self) -> None:
        if self._reply is not None:
            self.news.completed(self._reply)
        elif self._error is not None:
            self.news.failed(self._error)

    def on_interrupt(self, stop: Callable[[], Awaitable[object]] | None) -> None:
        """From now on `stop` is how to interrupt; None: nothing is being sent, cancelling is enough."""
        self._stop = stop

    @property
    def interrupted(self) -> bool:
        """Whether somebody asked for an end."""
        return self._interrupted

    # --- the caller's side ---------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[TurnEvent]:
        while True:
            while self._events:
                event = self._events.popleft()
                self._room.set()
                yield event
            if self._ended.is_set() or self._unread:
                break
            self._news.clear()
            await self._news.wait()
        await self.reply()

    async def reply(self) -> Reply:
        self._read_no_more()
        await self._ended.wait()
        if self._reply is None:
            assert self._error is not None  # noqa: S101 - `run` sets one of the two
            raise self._error
        return self._reply

    async def thread_id(self) -> str | None:
        await self._stored.wait()
        return self._thread_id

    async def interrupt(self) -> None:
        if self._ended.is_set() or self._interrupted:
            return
        self._interrupted = True
        if self._stop is None:
            self._scope.cancel()
        else:
            await self._stop()

    def abandon(self) -> None:
        if not self._ended.is_set():
            with suppress(RuntimeError):  # the loop is closed, and so is the engine
                self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self.close()))

    async def close(self) -> None:
        self._read_no_more()
        if self._ended.is_set():
            return
        await self.interrupt()
        with anyio.move_on_after(_CLOSE_WAIT_S):
            await self._ended.wait()

    def _read_no_more(self) -> None:
        """Let the turn run on without anybody taking its events."""
        self._unread = True
        self._events.clear()
        self._room.set()
        self._news.set()


def _interrupted(message: str = "the turn was interrupted before it was sent") -> ClaudeCommsError:
    return TurnFailedError(f"{message}. Ask again.", reason="interrupted")
