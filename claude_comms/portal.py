"""The synchronous face of an asynchronous object: an event loop in a thread of its own, and calls into it."""

from __future__ import annotations

import functools
import inspect
import threading
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from anyio.from_thread import start_blocking_portal

from claude_comms.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from anyio.from_thread import BlockingPortal

__all__ = ["Blocking", "Portal", "blocking"]


class _Closable(Protocol):
    async def close(self) -> None: ...


Inner = TypeVar("Inner")
Owned = TypeVar("Owned", bound=_Closable)
P = ParamSpec("P")
T = TypeVar("T")


class Blocking(Generic[Inner]):
    """The synchronous face of `inner`, which lives in the loop of `portal`. `blocking` makes its methods."""

    def __init__(self, inner: Inner, portal: Portal[Any]) -> None:
        self._inner = inner
        self._portal = portal

    def call(self, method: Callable[Concatenate[Inner, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the inner object and wait for it."""
        return self._portal.run(method, self._inner, *args, **kwargs)

    def _each(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Iterate over what lives in the loop."""
        while True:
            try:
                item = self._portal.run(items.__anext__)
            except StopAsyncIteration:
                return
            yield item


class Portal(Blocking[Owned]):
    """Holds an object in an event loop of its own.

    The loop's thread starts with the first call. Calls may come from any thread. An exception in the waiting
    thread, Ctrl-C for one, cancels the call. A portal that nobody closes is closed when the main thread ends.
    """

    def __init__(self, inner: Owned) -> None:
        super().__init__(inner, self)
        self._lock = threading.Lock()
        self._context: AbstractContextManager[BlockingPortal] | None = None
        self._loop: BlockingPortal | None = None
        self._closed = False

    def run(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in the loop and wait for it. ConfigError once this is closed."""
        with self._lock:
            if self._closed:
                raise ConfigError("this is closed. Create a new one.")
            loop = self._loop or self._start()
        future = loop.start_task_soon(functools.partial(function, *args, **kwargs))
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _start(self) -> BlockingPortal:
        self._context = start_blocking_portal("asyncio", name="claude-comms")
        self._loop = self._context.__enter__()
        _close_at_exit(self)
        return self._loop

    def close(self) -> None:
        """Close what is held, in bounded time, and end the thread. May be called twice."""
        with self._lock:
            loop, was_closed, self._closed = self._loop, self._closed, True
        if was_closed or loop is None:
            return
        loop.start_task_soon(self._inner.close).result()
        with self._lock:
            context, self._context, self._loop = self._context, None, None
        _open_portals.discard(self)
        if context is not None:
            context.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_OURS = ("claude-comms", "AnyIO worker thread", "MainThread")
"""How the names of threads begin that end with the portals, or have ended."""

_open_portals: set[Portal[Any]] = set()
_closer_lock = threading.Lock()
_closer: threading.Thread | None = None


def _close_at_exit(portal: Portal[Any]) -> None:
    """See to it that `portal` is closed when the program ends.

    `atexit` would be too late: the interpreter waits for the loop's threads before it calls what is registered
    there, and they wait for the loop's end. So a thread of ours waits for the program's own threads, and the
    interpreter waits for it.
    """
    global _closer  # noqa: PLW0603 - one for the process
    with _closer_lock:
        _open_portals.add(portal)
        if _closer is None or not _closer.is_alive():
            _closer = threading.Thread(target=_close_all_at_exit, name=f"{_OURS[0]} closer")
            _closer.start()


def _close_all_at_exit() -> None:
    threading.main_thread().join()
    while others := [
        t for t in threading.enumerate() if not t.daemon and t.is_alive() and not t.name.startswith(_OURS)
    ]:
        others[0].join()
    for portal in tuple(_open_portals):
        portal.close()


def blocking(
    method: Callable[Concatenate[Inner, P], Awaitable[T]],
) -> Callable[Concatenate[Blocking[Inner], P], T]:
    """`method` of the inner object as one that waits, with the same signature and documentation."""

    def wait(self: Blocking[Inner], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.call(method, *args, **kwargs)

    functools.update_wrapper(wait, method)
    vars(wait).pop("__wrapped__")  # it would pass for a coroutine function
    vars(wait)["__signature__"] = inspect.signature(method)
    return wait
