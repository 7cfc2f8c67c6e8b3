"""The one thread that writes: it takes what is waiting, commits it together, and only then acknowledges.

A commit that survives a loss of power costs one flush of the disk, however many calls it holds. Grouping what
waits makes the flush serve them all, and an uncontended call pays for nothing but its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from claude_comms.errors import StoreError
from claude_comms.storage._faults import translated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

__all__ = ["Writer", "driver_of"]

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

_LARGEST_GROUP = 256


@dataclass(slots=True, eq=False)
class _Call:
    """One call on its way to the disk and back. Nobody waits for it where `future` is None."""

    fn: Callable[[Connection], Any]
    future: asyncio.Future[Any] | None
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """In the waiting loop's thread: hand over what came of it."""
        if self.future is None or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Runs calls on `connection`, in the order they came, each all or nothing, several to a commit.

    `connection` leaves beginning and ending transactions to the caller; it belongs to the thread now.
    """

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="claude-comms-writer", daemon=True)
        self._thread.start()

    async def submit(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` and return its result once it is on disk. A cancelled call is still carried out."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put(_Call(fn, future))
        return await future

    def post(self, fn: Callable[[Connection], object]) -> None:
        """Run `fn` after what was submitted before; nobody hears what came of it, but a failure is logged."""
        self._put(_Call(fn, None))

    def close(self, timeout_s: float) -> bool:
        """Finish what was submitted, then end. False if that took longer than `timeout_s`."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _put(self, call: _Call) -> None:
        with self._gate:
            if self._closed:
                raise StoreError("the store is closed. Open it again to write.")
            self._queue.put(call)

    def _run(self) -> None:
        try:
            while (first := self._queue.get()) is not None:
                group, ended = self._waiting(first)
                self._commit(group)
                _acknowledge(group)
                if ended:
                    return
        finally:
            self._connection.close()

    def _waiting(self, first: _Call) -> tuple[list[_Call], bool]:
        """`first` and what waits behind it; and whether the end was among it."""
        group = [first]
        while len(group) < _LARGEST_GROUP:
            try:
                call = self._queue.get_nowait()
            except queue.Empty:
                break
            if call is None:
                return group, True
            group.append(call)
        return group, False

    def _commit(self, group: Sequence[_Call]) -> None:
        driver = driver_of(self._connection)
        try:
            driver.execute("BEGIN IMMEDIATE")
            if len(group) == 1:  # what makes it fail may end the transaction: there is nothing else in it
                group[0].result = group[0].fn(self._connection)
            else:
                for call in group:
                    self._run_one(call, driver)
            driver.commit()
        except BaseException as error:  # noqa: BLE001 - whatever it was, every caller must hear of it
            driver.rollback()
            for call in group:
                call.error = translated(error, self._path)

    def _run_one(self, call: _Call, driver: sqlite3.Connection) -> None:
        """Run one call in a savepoint of its own: if it fails, the others do not."""
        driver.execute("SAVEPOINT one")
        try:
            call.result = call.fn(self._connection)
        except BaseException as error:
            if not driver.in_transaction:
                # A full disk and the like end the whole transaction: nothing of the group is stored.
                raise
            driver.execute("ROLLBACK TO one")
            call.error = translated(error, self._path)
        driver.execute("RELEASE one")


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The sqlite3 connection under `connection`, to begin and end transactions without detours."""
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _acknowledge(group: Sequence[_Call]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
    for call in group:
        if call.future is None and call.error is not None:
            _LOG.error("a write that nobody waits for failed", exc_info=call.error)
        elif call.future is not None:
            by_loop.setdefault(call.future.get_loop(), []).append(call)
    for loop, calls in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is waiting
            loop.call_soon_threadsafe(_settle, calls)


def _settle(calls: Sequence[_Call]) -> None:
    for call in calls:
        call.settle()
