"""The one thread that writes the event log.

It takes what waits, commits it together, and only then passes it on: no cursor runs ahead of the disk. What nobody
waits for (`post`) is kept through a fault and written when it is over; who waits is told of the fault.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claude_comms.errors import StoreError
from claude_comms.events._accepting import Accepted, accept
from claude_comms.events._envelope import NewEvent
from claude_comms.events._priority import Priority
from claude_comms.storage import translated

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from claude_comms.events._kept import KeptLog

__all__ = ["Bounds", "LogWriter", "Put", "Work"]

_LOG = logging.getLogger(__name__)
_LARGEST_GROUP = 512
_TRY_AGAIN_S = 0.25
_PAUSE_S = 0.01
"""Between two rounds of removing, while nothing else is to do."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait to be written. From half of it on, events of low priority are let go of."""

    events: int = 100_000
    size_bytes: int = 128 << 20


@dataclass(slots=True, eq=False)
class _Call:
    """Something to do, and who waits for it."""

    future: asyncio.Future[Any] | None
    result: Any = None
    error: BaseException | None = None

    @property
    def is_answered(self) -> bool:
        """Whether there is a result that somebody should have."""
        return self.future is not None and self.future.done() and not self.future.cancelled() and self.error is None

    async def answer(self) -> Any:
        """Wait for the result. What is cancelled while it waits is still carried out."""
        return None if self.future is None else await self.future

    def settle(self) -> None:
        """In the loop of whoever waits."""
        if self.future is None or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


@dataclass(slots=True, eq=False)
class Put(_Call):
    """Events to keep. The result is the list of them, numbered."""

    batch: Sequence[Accepted] = ()

    @property
    def size_bytes(self) -> int:
        """What they take while they wait."""
        return sum(event.size_bytes for event in self.batch)


@dataclass(slots=True, eq=False)
class Work(_Call):
    """Something else to do in the writing thread: in the transaction if it `writes`, else after it."""

    do: Callable[[KeptLog], Any] = lambda _: None
    writes: bool = False
    unclaimed: Callable[[Any], None] | None = None
    """Called with a result that nobody waits for any more, in the loop of whoever did."""

    def settle(self) -> None:
        """In the loop of whoever waits."""
        if self.future is not None and self.future.done() and self.error is None and self.unclaimed is not None:
            self.unclaimed(self.result)
        _Call.settle(self)


class LogWriter:
    """Runs on `kept`, which belongs to its thread from now on."""

    def __init__(self, kept: KeptLog, bounds: Bounds, look_every_s: float) -> None:
        self._kept = kept
        self._bounds = bounds
        self._look_every_s = look_every_s
        self._queue: queue.SimpleQueue[Put | Work | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._dropped: Counter[str] = Counter()
        self._dropped_before = 0
        self._closed = False
        self._abandoned = False
        self._held: list[Put] = []
        self._unwritten: list[Put] = []
        self._tidying = False
        self.failure: BaseException | None = None
        """What the last commit failed with; None since one has succeeded."""
        self._thread = threading.Thread(target=self._run, name="claude-comms-events", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many events of low priority were let go of since the log was opened."""
        with self._gate:
            return self._dropped_before + self._dropped.total()

    def put(self, call: Put, *, hold: bool = False) -> bool:
        """Have events kept. Never waits. StoreError where too much waits already, or the log is closed.

        With `hold` the thread is not woken for them alone, but by what comes after them, or by `release`. True: it is
        up to the caller to see to that, because they are the first that wait so.
        """
        count, size_bytes = len(call.batch), call.size_bytes
        with self._gate:
            self._check_open()
            events, bytes_ = self._waiting_events + count, self._waiting_bytes + size_bytes
            if self._waiting_events and (events > self._bounds.events or bytes_ > self._bounds.size_bytes):
                raise StoreError(
                    f"the event log {self._kept.path}: {self._waiting_events} events wait to be written, and no more"
                    f" are taken. {self._reason()}"
                )
            if call.future is None and 2 * max(events / self._bounds.events, bytes_ / self._bounds.size_bytes) > 1:
                kept = [event for event in call.batch if event.priority is not Priority.LOW]
                self._dropped.update(event.type for event in call.batch if event.priority is Priority.LOW)
                if not kept:
                    return False
                call.batch = kept
                count, size_bytes = len(kept), call.size_bytes
            self._waiting_events += count
            self._waiting_bytes += size_bytes
            self._held.append(call)
            if hold:
                return len(self._held) == 1
            self._release()
        return False

    def release(self) -> None:
        """Wake the thread for what is held."""
        with self._gate:
            self._release()

    def _release(self) -> None:
        for call in self._held:
            self._queue.put(call)
        self._held.clear()

    def work(self, call: Work) -> None:
        """Have something else done, in its turn. StoreError where the log is closed."""
        with self._gate:
            self._check_open()
            self._release()
            self._queue.put(call)

    def close(self, timeout_s: float) -> bool:
        """Write what waits, then end. False if that took longer than `timeout_s`."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._release()
                self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def unwritten_events(self) -> int:
        """After the end: how many posted events could not be written."""
        return sum(len(put.batch) for put in self._unwritten)

    def abandon(self) -> None:
        """End as a kill would: what is not durable is gone, and nobody hears of it. For tests."""
        with self._gate:
            self._closed = self._abandoned = True
            self._queue.put(None)
        self._thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the event log is closed. Open a new one.")

    def _reason(self) -> str:
        return f"The last fault: {self.failure}" if self.failure else "Publish less, or use a faster disk."

    def _run(self) -> None:
        try:
            ended = False
            while not ended:
                calls, ended = self._next()
                if self._abandoned:
                    return
                self._serve(calls)
        finally:
            self._kept.close()

    def _next(self) -> tuple[list[Put | Work], bool]:
        """What waits, up to a bound; and whether the end was among it."""
        calls: list[Put | Work] = []
        count = 0
        while count < _LARGEST_GROUP:
            try:
                call = self._queue.get_nowait() if calls else self._queue.get(timeout=self._patience_s)
            except queue.Empty:
                if not calls:
                    self.release()  # what a loop that is closed by now has held
                break
            if call is None:
                return calls, True
            calls.append(call)
            count += len(call.batch) if isinstance(call, Put) else 1
        return calls, False

    @property
    def _patience_s(self) -> float:
        if self._tidying:
            return _PAUSE_S
        return _TRY_AGAIN_S if self._unwritten else self._look_every_s

    def _serve(self, calls: list[Put | Work]) -> None:
        puts = [*self._unwritten, *(call for call in calls if isinstance(call, Put))]
        writes = [call for call in calls if isinstance(call, Work) and call.writes]
        self._unwritten = []
        if puts or writes:
            self._commit(puts, writes)
        if puts and self.failure is None and (told := self._told_of_dropped()):
            self._commit([told], [])
        for call in calls:
            if isinstance(call, Work) and not call.writes:
                self._do(call)
        self._answer(calls)
        self._tidy(sum(len(put.batch) for put in puts), idle=not calls)

    def _tidy(self, new_events: int, *, idle: bool) -> None:
        try:
            self._tidying = self._kept.tidy(new_events, idle=idle) > 0
        except Exception:  # noqa: BLE001 - the next round tries again; what is kept too long does no harm
            self._tidying = False
            _LOG.warning("the event log could not be trimmed", exc_info=True)

    def _commit(self, puts: list[Put], writes: list[Work]) -> None:
        batch = [event for put in puts for event in put.batch]
        try:
            with self._kept.transaction():
                self._kept.insert(batch)
                for call in writes:
                    self._do(call)
        except BaseException as error:  # noqa: BLE001 - whatever it was, every caller must hear of it
            self._failed(error, puts, writes)
            return
        self.failure = None
        self._done(puts)
        seq = self._kept.last_seq + 1
        self._kept.advance(batch)
        for put in puts:
            if put.future is not None:
                put.result = [event.numbered(number) for number, event in enumerate(put.batch, seq)]
            seq += len(put.batch)

    def _failed(self, error: BaseException, puts: list[Put], writes: list[Work]) -> None:
        if self.failure is None:
            _LOG.error("the event log cannot be written", exc_info=error)
        self.failure = translated(error, self._kept.path)
        self._unwritten = [put for put in puts if put.future is None]
        told = [put for put in puts if put.future is not None]
        self._done(told)
        for call in (*told, *writes):
            call.error = translated(error, self._kept.path)

    def _do(self, call: Work) -> None:
        try:
            call.result = call.do(self._kept)
        except Exception as error:
            if call.writes and not self._kept.in_transaction:
                raise  # a full disk and the like end the whole transaction
            call.error = translated(error, self._kept.path)

    def _done(self, puts: list[Put]) -> None:
        count, size_bytes = sum(len(put.batch) for put in puts), sum(put.size_bytes for put in puts)
        with self._gate:
            self._waiting_events -= count
            self._waiting_bytes -= size_bytes

    def _told_of_dropped(self) -> Put | None:
        """An event that says how many were let go of, now that the disk takes events again."""
        with self._gate:
            if not self._dropped:
                return None
            types, self._dropped = dict(self._dropped), Counter()
            count = sum(types.values())
            self._dropped_before += count
            new = NewEvent("events.dropped", "events", "daemon", {"count": count, "types": types})
            put = Put(None, batch=[accept(new)])
            self._waiting_events += 1
            self._waiting_bytes += put.size_bytes
        _LOG.warning("the event log fell behind and let go of %d events of low priority", count)
        return put

    def _answer(self, calls: Sequence[_Call]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
        for call in calls:
            if call.future is not None:
                by_loop.setdefault(call.future.get_loop(), []).append(call)
        for loop, waiting in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is waiting
                loop.call_soon_threadsafe(_settle, waiting)


def _settle(calls: Sequence[_Call]) -> None:
    for call in calls:
        call.settle()
