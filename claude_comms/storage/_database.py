"""One SQLite file: private, migrated, with one writer and a few readers."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from claude_comms.errors import StoreError
from claude_comms.files import make_private, private_dir
from claude_comms.storage import _migrations
from claude_comms.storage._faults import translated
from claude_comms.storage._writer import Writer, driver_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Self

    from sqlalchemy import Connection

__all__ = ["Database"]

T = TypeVar("T")

_READERS = 4
_CLOSE_WITHIN_S = 5.0


class Database:
    """The store's file and the ways in: `write`, grouped and durable, and `read`, beside it.

    Several processes may have one file open. Every method raises StoreError, with what to do, where the file
    cannot be used. `busy_timeout_s` is how long a writer waits for another process's commit; `migrations` is
    where the schema's versions are.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0, migrations: Path = _migrations.MIGRATIONS) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._migrations = migrations
        self._writer: Writer | None = None
        self._readers: list[Connection] = []
        self._limiter: anyio.CapacityLimiter | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Make the file if there is none, bring its schema up to date, start the writer. Twice is once.

        Before a schema is changed, the database is copied to a file beside it. A database of a newer schema
        than this version knows is refused. A cancelled call does not wait for another process that is migrating.
        """
        if self._writer is not None:
            return
        self._limiter = anyio.CapacityLimiter(_READERS)
        given_up = threading.Event()
        try:
            await to_thread.run_sync(self._bring_up_to_date, given_up, abandon_on_cancel=True)
        finally:
            given_up.set()
        await to_thread.run_sync(self._start)

    async def close(self) -> None:
        """Finish what was submitted and let go of the file, within 5 seconds or with a StoreError."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        finished = False
        with anyio.CancelScope(shield=True):
            finished = await to_thread.run_sync(writer.close, _CLOSE_WITHIN_S)
        while self._readers:
            self._readers.pop().close()
        if not finished:
            raise StoreError(
                f"the store {self.path} did not finish writing within {_CLOSE_WITHIN_S:g} s. Check the disk."
            )

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in the writer's transaction; return once its changes would survive a loss of power.

        `fn` runs in another thread, all or nothing, and must not commit. What it raises is raised here. A call
        that is cancelled while it waits is still carried out.
        """
        return await self._open_writer().submit(fn)

    def post(self, fn: Callable[[Connection], object]) -> None:
        """Like `write`, without waiting: for amends that must follow whatever was submitted before."""
        self._open_writer().post(fn)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in another thread, on one snapshot of the database that it cannot change."""
        return await to_thread.run_sync(self._read, fn, limiter=self._limiter)

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise StoreError(f"the store {self.path} is not open. Open it first.")
        return self._writer

    def _read(self, fn: Callable[[Connection], T]) -> T:
        try:
            connection = self._readers.pop()
        except IndexError:
            raise StoreError(f"the store {self.path} is not open. Open it first.") from None
        driver = driver_of(connection)
        try:
            driver.execute("BEGIN")
            return fn(connection)
        except Exception as error:
            told = translated(error, self.path)
            if told is error:
                raise
            raise told from error
        finally:
            driver.rollback()
            self._readers.append(connection)

    def _bring_up_to_date(self, given_up: threading.Event) -> None:
        with self._translating():
            self._prepare_files()
            _migrations.bring_up_to_date(self.path, self._migrations, self._connect, given_up)

    def _start(self) -> None:
        with self._translating():
            # Transactions are ours to begin and end: the writer groups several calls into one.
            engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool, isolation_level="AUTOCOMMIT")
            self._readers = [self._reading(engine.connect()) for _ in range(_READERS)]
            self._writer = Writer(engine.connect(), self.path)

    @contextlib.contextmanager
    def _translating(self) -> Generator[None]:
        try:
            yield
        except Exception as error:
            told = translated(error, self.path)
            if told is error:
                raise
            raise told from error

    @staticmethod
    def _reading(connection: Connection) -> Connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        return connection

    def _prepare_files(self) -> None:
        if not self.path.parent.exists():
            private_dir(self.path.parent)
            _flush_directory(self.path.parent.parent)
        new = not self.path.exists()
        make_private(self.path)
        if new:
            _flush_directory(self.path.parent)
        for suffix in ("-wal", "-shm"):  # SQLite makes them with the mode of the database
            beside = Path(f"{self.path}{suffix}")
            if beside.exists() and stat.S_IMODE(beside.stat().st_mode) != 0o600:
                beside.chmod(0o600)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: a plain fsync does not reach the platter
        connection.execute("PRAGMA foreign_keys = ON")
        return connection


def _flush_directory(path: Path) -> None:
    """Make new names in the directory `path` survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
