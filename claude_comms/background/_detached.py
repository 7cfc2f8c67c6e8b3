"""A coroutine in a task of its own that can be let go of, even if it ignores cancellation.

A task group waits for its children whatever they do, and `asyncio.run` waits for every task that is left when it
ends. A backend that swallows its cancellation would hold both for ever. So what runs a backend's code is driven
step by step here, and letting go means to stop driving: the coroutine gets a GeneratorExit, as an unfinished
generator does, and the task ends. What still gets away is a coroutine that waits for *another* task which ignores
cancellation, and code that blocks the thread.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

__all__ = ["Detached", "wait_for"]


class Detached:
    """Runs `coroutine` at once. Its result is dropped and its errors are too: it reports by its own means."""

    __slots__ = ("_coroutine", "_let_go", "_task", "_timer")

    def __init__(self, coroutine: Coroutine[Any, Any, None], *, then: Callable[[], object] | None = None) -> None:
        self._coroutine = coroutine
        self._let_go = False
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._finish)
        if then is not None:
            self._task.add_done_callback(lambda _: then())

    @property
    def done(self) -> bool:
        """Whether the task has ended, whichever way."""
        return self._task.done()

    def cancel(self) -> None:
        """Cancel the coroutine once, at the place where it waits."""
        self._task.cancel()

    def let_go(self) -> None:
        """Drop the coroutine where it stands."""
        if not self._task.done():
            self._let_go = True
            self._task.cancel()

    def let_go_in(self, seconds: float) -> None:
        """Drop the coroutine unless it has ended by then."""
        if not self._task.done() and self._timer is None:
            self._timer = self._task.get_loop().call_later(seconds, self.let_go)

    async def wait(self, timeout_s: float) -> bool:
        """Wait for its end, at most so long, and say whether it came."""
        await asyncio.wait({self._task}, timeout=timeout_s)
        return self._task.done()

    async def _run(self) -> None:
        await self

    def __await__(self) -> Generator[Any, Any, None]:
        """Pass everything through, as ``yield from`` would, until it is to be let go of."""
        send: Callable[[], Any] = partial(self._coroutine.send, None)
        step = send
        while True:
            try:
                waits_for = step()
            except StopIteration:
                return
            try:
                yield waits_for
            except BaseException as error:
                if self._let_go:
                    with suppress(RuntimeError):  # "coroutine ignored GeneratorExit": nobody drives it any more
                        self._coroutine.close()
                    raise
                step = partial(self._coroutine.throw, error)
            else:
                step = send

    def _finish(self, task: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with suppress(RuntimeError):
            self._coroutine.close()  # it has not even begun if the task was cancelled at once
        if not task.cancelled():
            task.exception()  # or asyncio complains that nobody looked at it


async def wait_for(event: anyio.Event, seconds: float | None) -> bool:
    """Wait for `event`, at most so long (None: as long as it takes), and say whether it came."""
    with anyio.move_on_after(seconds):
        await event.wait()
    return event.is_set()
