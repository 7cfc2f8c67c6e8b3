"""The schema's versions: which one a database has, and how it comes to the newest.

Alembic does the work. Importing it takes longer than asking a question, so it is imported only where there is
work: one query tells.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from claude_comms.errors import StoreError
from claude_comms.files import make_private
from claude_comms.storage._faults import advice_on

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from filelock import BaseFileLock
    from sqlalchemy import Connection

__all__ = ["MIGRATIONS", "bring_up_to_date"]

MIGRATIONS = Path(__file__).parent / "migrations"

_VERSION_FILE = re.compile(r"v(\d{4})_\w+\.py")
_LOCK_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05

_ALEMBIC = threading.Lock()
"""Alembic's `context` and `op` stand for whatever the process migrates: one database at a time, or they mix."""


def bring_up_to_date(
    path: Path, migrations: Path, connect: Callable[[], sqlite3.Connection], given_up: threading.Event
) -> None:
    """Migrate the database at `path` to the newest version in `migrations`, after a backup.

    Processes that open one database at once migrate it once. Once `given_up` is set, the wait for another process
    ends. StoreError for a database of a newer version, for one that is not ours, and for a migration that fails:
    then nothing was changed.
    """
    known = _known_versions(migrations)
    with contextlib.closing(connect()) as connection:
        if _is_ready(connection, path, known):
            return
        with _exclusively(path, given_up):
            if _is_ready(connection, path, known):
                return
            connection.execute("PRAGMA journal_mode = WAL")
            version = _version(connection, path)
            if version == known[-1]:
                return
            backup = _back_up(connection, path, version) if version is not None else None
            with _ALEMBIC:
                _upgrade(path, migrations, connect, backup)


def _known_versions(migrations: Path) -> list[str]:
    files = (_VERSION_FILE.fullmatch(file.name) for file in (migrations / "versions").iterdir())
    return sorted(match[1] for match in files if match)


def _is_ready(connection: sqlite3.Connection, path: Path, known: list[str]) -> bool:
    version = _version(connection, path)
    if version is not None and version not in known:
        raise StoreError(
            f"the store {path} has schema version {version}; this version of claude-comms knows up to {known[-1]}."
            " Upgrade claude-comms, or choose another store."
        )
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return version == known[-1] and mode == "wal"


def _version(connection: sqlite3.Connection, path: Path) -> str | None:
    """The database's schema version; None for an empty one."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        row = None
    if row is not None:
        return str(row[0])
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise StoreError(f"{path} is a database, but not a store of claude-comms. Choose another file for the store.")
    return None


@contextlib.contextmanager
def _exclusively(path: Path, given_up: threading.Event) -> Generator[None]:
    from filelock import FileLock

    lock = FileLock(f"{path}.migrating", mode=0o600)
    if not _acquired(lock, given_up):
        raise StoreError(
            f"the store {path}: another process has been migrating it for {_LOCK_WITHIN_S:g} s. Try again later."
        )
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: BaseFileLock, given_up: threading.Event) -> bool:
    from filelock import Timeout

    deadline = time.monotonic() + _LOCK_WITHIN_S
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if given_up.wait(_LOOK_EVERY_S) or time.monotonic() > deadline:
                return False
        else:
            return True


def _back_up(connection: sqlite3.Connection, path: Path, version: str) -> Path:
    """Copy the database, whole and consistent, to a private file beside it; no half of one stays."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    backup = path.with_name(f"{path.name}.backup-{version}-{moment}")
    make_private(backup)
    try:
        with contextlib.closing(sqlite3.connect(backup)) as copy:
            connection.backup(copy)
    except BaseException:
        backup.unlink()
        raise
    return backup


def _upgrade(path: Path, migrations: Path, connect: Callable[[], sqlite3.Connection], backup: Path | None) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except Exception as error:
        cause = getattr(error, "orig", None) or error
        advice = advice_on(cause)
        if advice and backup:
            backup.unlink()  # the database is as it was, and each further try on a full disk would leave another
        if advice:
            raise StoreError(f"the store {path} was not migrated: {advice}") from error
        kept = f" The database before it: {backup}." if backup else ""
        raise StoreError(
            f"the store {path} could not be migrated: {cause}. Nothing was changed.{kept}"
            " Use the version of claude-comms that you had, and report this."
        ) from error
