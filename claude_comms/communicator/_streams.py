"""Answers that come in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio

from claude_comms.errors import ConfigError
from claude_comms.portal import Blocking, blocking
from claude_comms.types import Delta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
    from types import TracebackType

    from claude_comms.communicator._shape import ResponseShape
    from claude_comms.protocols import Turn
    from claude_comms.types import Reply, TurnEvent

__all__ = ["AsyncMessageStream", "MessageStream"]


class AsyncMessageStream:
    """Iterate it for the answer's text in pieces; then `reply` is the whole.

    Leave it early through `close` or as a context manager: the turn is interrupted then, and what had come is stored
    as partial. So is a turn whose stream nobody holds any more.
    """

    def __init__(self, start: Callable[[], Awaitable[Turn]], shape: ResponseShape) -> None:
        self._start = start
        self._shape = shape
        self._turn: Turn | None = None
        self._reply: Reply | None = None

    def __del__(self) -> None:
        if self._turn is not None:
            self._turn.abandon()

    async def started(self) -> Self:
        """Ask the question, unless it has been asked; `await stream` does the same."""
        if self._turn is None:
            self._turn = await self._start()
        return self

    def __await__(self) -> Generator[object, None, Self]:
        return self.started().__await__()

    async def events(self) -> AsyncIterator[TurnEvent]:
        """Everything that happens, text among it as `Delta`; instead of iterating the stream itself."""
        turn = await self._running()
        async for event in turn:
            yield event
        await self.wait()

    async def __aiter__(self) -> AsyncIterator[str]:
        async for event in self.events():
            if isinstance(event, Delta):
                yield event.text

    async def wait(self) -> Reply:
        """The whole reply, or the error that the turn ended with; pieces that were not iterated are passed over."""
        if self._reply is None:
            self._reply = self._shape.applied(await (await self._running()).reply())
        return self._reply

    @property
    def reply(self) -> Reply:
        """The whole reply, once the iteration is over; before that, `await stream.wait()`."""
        if self._reply is None:
            raise ConfigError("the answer is not complete yet. Iterate to its end, or await stream.wait().")
        return self._reply

    async def interrupt(self) -> None:
        """Stop the turn; what had come is stored as partial, and `wait` raises TurnFailedError (``interrupted``)."""
        await (await self._running()).interrupt()

    async def close(self) -> None:
        """Interrupt the turn if it still runs, and wait, bounded, until the store says how it ended."""
        if self._turn is not None:
            await self._turn.close()

    async def _running(self) -> Turn:
        await self.started()
        assert self._turn is not None  # noqa: S101 - started() has set it
        return self._turn

    async def __aenter__(self) -> Self:
        return await self.started()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()


class MessageStream(Blocking[AsyncMessageStream]):
    """The same for synchronous callers: iterate it for the text in pieces; then `reply` is the whole.

    An exception out of the iteration, Ctrl-C for one, leaves the turn running: `interrupt` or `close` it.
    """

    def events(self) -> Iterator[TurnEvent]:
        """Everything that happens, text among it as `Delta`; instead of iterating the stream itself."""
        return self._each(self._inner.events())

    def __iter__(self) -> Iterator[str]:
        return self._each(self._inner.__aiter__())

    @property
    def reply(self) -> Reply:
        """The whole reply, or the error that the turn ended with; waits for the end."""
        return self.wait()

    wait = blocking(AsyncMessageStream.wait)
    interrupt = blocking(AsyncMessageStream.interrupt)
    close = blocking(AsyncMessageStream.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
