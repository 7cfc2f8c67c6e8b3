"""The event log of one process: durable, in an SQLite file of its own.

What is published is committed in groups by one thread, and passed on only then. Durable means through kill -9; a loss
of power may cost the last moments, never the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from filelock import FileLock, Timeout

from claude_comms.errors import StoreError
from claude_comms.events._accepting import accept
from claude_comms.events._bus import EventBus
from claude_comms.events._consumer import Consumer
from claude_comms.events._fanout import Hub
from claude_comms.events._following import Following
from claude_comms.events._kept import KeptLog, Retention
from claude_comms.events._log_desk import LogDesk, done
from claude_comms.events._priority import Priority
from claude_comms.events._rows import bring_up_to_date, read_page
from claude_comms.events._writer import Bounds, LogWriter, Put
from claude_comms.files import make_private, private_dir
from claude_comms.storage import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from claude_comms.events._bus import ConsumerGroup, Subscription
    from claude_comms.events._envelope import Event, NewEvent
    from claude_comms.events._following import Page
    from claude_comms.events._selection import EventFilter

__all__ = ["EventLog"]

_READERS = 2
_CLOSE_WITHIN_S = 5.0
_LOOK_EVERY_S = 30.0
_TOGETHER_S = 0.002


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class EventLog(EventBus):
    """The bus whose events are in the file `path`; one process at a time has it open.

    Events are kept for `retention_s` seconds and up to about `retention_bytes`. What a consumer group has not
    acknowledged stays longer, up to twice that size; then it goes, and the group is told of it as `missed`.

    `post` never waits. What it is given waits in memory while the disk is slow or full, up to `waiting_events` or
    `waiting_bytes`; from half of that on, events of low priority are let go of, and an event ``events.dropped`` says
    how many; beyond it, `post` and `publish` raise StoreError. `busy_timeout_s` is how long a commit waits for
    somebody else's lock on the file. `clock` (seconds, monotonic) and `now` (time of day) are for tests.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention_s: float,
        retention_bytes: int,
        waiting_events: int = 100_000,
        waiting_bytes: int = 128 << 20,
        busy_timeout_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._retention = Retention(retention_s, retention_bytes, now)
        self._bounds = Bounds(waiting_events, waiting_bytes)
        self._busy_timeout_s = busy_timeout_s
        self._clock = clock
        self._lock = FileLock(f"{path}.lock", timeout=0, mode=0o600, thread_local=False)
        self._kept: KeptLog | None = None
        self._writer: LogWriter | None = None
        self._readers: list[sqlite3.Connection] = []
        self._limiter: anyio.CapacityLimiter | None = None
        self._hub = Hub(lambda: self.last_seq)

    async def open(self) -> None:
        """Make the file if there is none (0600), and be ready. Called once.

        StoreError where it cannot be used, is of a newer version, or is open in another process.
        """
        if self._writer is not None:
            return
        self._limiter = anyio.CapacityLimiter(_READERS)
        await to_thread.run_sync(self._open)

    @property
    def last_seq(self) -> int:
        """The number of the newest durable event; 0 where there never was one."""
        return self._opened().last_seq

    @property
    def dropped(self) -> int:
        """How many events of low priority were let go of since the log was opened."""
        return self._writing().dropped

    def post(self, event: NewEvent) -> None:
        """Take an event and return at once. Any thread.

        It outlives a full disk or a lock, in memory, and is written when that is over. ConfigError for an event that
        cannot be kept; StoreError where too many wait already. One of low priority waits up to 2 ms for others to be
        committed with.
        """
        writer, accepted = self._writing(), accept(event)
        loop = _running_loop() if accepted.priority is Priority.LOW else None
        if writer.put(Put(None, batch=(accepted,)), hold=loop is not None) and loop is not None:
            loop.call_later(_TOGETHER_S, writer.release)

    async def publish(self, *events: NewEvent) -> list[Event]:
        """Take events and return them once they are durable. All or none of them are kept.

        ConfigError for an event that cannot be kept; StoreError where they could not be written. A call that is
        cancelled while it waits is still carried out.
        """
        call = Put(asyncio.get_running_loop().create_future(), batch=[accept(event) for event in events])
        writer = self._writing()
        if not events:
            return []
        writer.put(call)
        return await call.answer()

    async def read(self, wanted: EventFilter | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Kept events behind the cursor `after` that fit, oldest first."""
        events: list[Event] = []
        until = self.last_seq
        while len(events) < limit and after < until:
            page = await self._page(wanted, after=after, until=until, limit=limit - len(events))
            events += page.events
            after = page.end
        return events

    def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 10_000
    ) -> Subscription:
        """Follow what fits, from the cursor `after` on, or from now on. See `EventBus`.

        Who is more than `buffer` events behind gets `Missed`, and may read what it says from the log.
        """
        return Following(self._hub, self._page, wanted, after=self.last_seq if after is None else after, buffer=buffer)

    def group(self, name: str, wanted: EventFilter | None = None, *, hold_s: float = 60.0) -> ConsumerGroup:
        """A consumer of the durable group `name`. A new group begins with the events published after this call.

        All consumers of one name want the same events. A group gives out no more than 10,000 events that are not
        acknowledged, and none beyond 100,000 acknowledged ones that have an open one before them.
        """
        return Consumer(self._hub, LogDesk(self._writing(), name, wanted), name, wanted, hold_s)

    async def trim(self) -> int:
        """Remove what need not be kept any more, now; else it goes bit by bit. How many events that were."""
        removed = 0
        while some := await done(self._writing(), lambda kept: kept.remove_some()):
            removed += some
        return removed

    async def close(self) -> None:
        """Write what was posted, end the subscriptions, let go of the file: within 5 seconds, or with a StoreError.

        StoreError, too, where the disk does not take what was posted.
        """
        writer = self._writer
        if writer is None:
            return
        finished = False
        with anyio.CancelScope(shield=True):
            finished = await to_thread.run_sync(writer.close, _CLOSE_WITHIN_S)
        self._hub.end()
        if not finished:
            raise StoreError(
                f"the event log {self.path} did not finish writing within {_CLOSE_WITHIN_S:g} s. Check the disk."
            )
        if not self._lock.is_locked:
            return
        self._let_go()
        if writer.unwritten_events:
            raise StoreError(
                f"the event log {self.path}: {writer.unwritten_events} events could not be written. {writer.failure}"
            )

    def _open(self) -> None:
        with self._translating():
            if not self.path.parent.exists():
                private_dir(self.path.parent)
            make_private(Path(f"{self.path}.lock"))
            try:
                self._lock.acquire()
            except Timeout as error:
                raise StoreError(
                    f"the event log {self.path} is open in another process. Stop that one, or use another home."
                ) from error
            try:
                self._begin()
            except BaseException:
                self._lock.release()
                raise

    def _begin(self) -> None:
        make_private(self.path)
        for suffix in ("-wal", "-shm"):  # SQLite makes them with the mode of the database
            beside = Path(f"{self.path}{suffix}")
            if beside.exists():
                beside.chmod(0o600)
        connection = self._connect()
        try:
            bring_up_to_date(connection, self.path)
            self._kept = KeptLog(connection, self.path, self._retention, self._clock)
            self._readers = [self._connect() for _ in range(_READERS)]
        except BaseException:
            connection.close()
            raise
        self._kept.hub = self._hub
        look_every_s = min(_LOOK_EVERY_S, max(1.0, self._retention.retention_s / 10))
        self._writer = LogWriter(self._kept, self._bounds, look_every_s)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        # Durable through the death of the process; a loss of power may take the last commits, not the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _let_go(self) -> None:
        while self._readers:
            self._readers.pop().close()
        self._lock.release()

    def abandon(self) -> None:
        """End as kill -9 would: what is not durable is gone, and nobody hears of it. For tests of what comes after."""
        self._writing().abandon()
        self._hub.end()
        self._let_go()

    def _opened(self) -> KeptLog:
        if self._kept is None:
            raise StoreError(f"the event log {self.path} is not open. Open it first.")
        return self._kept

    def _writing(self) -> LogWriter:
        if self._writer is None:
            raise StoreError(f"the event log {self.path} is not open. Open it first.")
        return self._writer

    async def _page(self, wanted: EventFilter | None, *, after: int, until: int, limit: int) -> Page:
        read = partial(read_page, wanted=wanted, after=after, until=until, limit=limit)
        return await to_thread.run_sync(self._read, read, limiter=self._limiter)

    def _read(self, read: Callable[[sqlite3.Connection], Page]) -> Page:
        try:
            connection = self._readers.pop()
        except IndexError:
            raise StoreError(f"the event log {self.path} is not open. Open it first.") from None
        try:
            with self._translating():
                return read(connection)
        finally:
            if self._lock.is_locked:
                self._readers.append(connection)
            else:
                connection.close()

    @contextlib.contextmanager
    def _translating(self) -> Generator[None]:
        try:
            yield
        except Exception as error:
            told = translated(error, self.path)
            if told is error:
                raise
            raise told from error
