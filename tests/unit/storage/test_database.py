from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from sqlalchemy import text

from claude_comms.errors import StoreError
from claude_comms.storage import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

pytestmark = pytest.mark.anyio


def _make_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE numbers (number INTEGER PRIMARY KEY)"))


def _add(number: int, connection: Connection) -> int:
    connection.execute(text("INSERT INTO numbers VALUES (:number)"), {"number": number})
    return number


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _files(path: Path) -> list[Path]:
    """The database and what SQLite keeps beside it."""
    return [Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")]


def _share(paths: list[Path]) -> None:
    for path in paths:
        path.chmod(0o644)


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _scribble(path: Path) -> bytes:
    path.write_bytes(b"these are my notes, not a database\n" * 100)
    return path.read_bytes()


def _numbers(connection: Connection) -> list[int]:
    return list(connection.execute(text("SELECT number FROM numbers ORDER BY number")).scalars())


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


async def test_what_was_written_is_read_and_survives_reopening(tmp_path: Path) -> None:
    async with Database(tmp_path / "store.db") as database:
        await database.write(_make_table)
        assert await database.write(partial(_add, 1)) == 1
        assert await database.read(_numbers) == [1]
    async with Database(tmp_path / "store.db") as database:
        assert await database.read(_numbers) == [1]


async def test_files_are_private_whatever_the_umask(tmp_path: Path, loose_umask: None) -> None:
    path = tmp_path / "home" / "store.db"
    async with Database(path) as database:
        await database.write(_make_table)
        assert [_mode(file) for file in (path.parent, *_files(path))] == [0o700, 0o600, 0o600, 0o600]


async def test_files_left_open_to_others_are_made_private_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with Database(path) as first:
        await first.write(_make_table)
        _share(_files(path))
        async with Database(path):
            assert [_mode(file) for file in _files(path)] == [0o600] * 3


async def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    _share([tmp_path])
    async with Database(tmp_path / "store.db"):
        assert _mode(tmp_path) == 0o644


async def test_commits_flush_the_disk_before_they_are_acknowledged(tmp_path: Path) -> None:
    async with Database(tmp_path / "store.db") as database:
        settings = await database.write(
            lambda connection: {
                name: connection.execute(text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
        )
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


async def test_calls_that_wait_together_share_one_commit_and_a_failing_one_hurts_no_other(tmp_path: Path) -> None:
    gate, at_gate = threading.Event(), threading.Event()
    failed: list[BaseException] = []
    stored: list[int] = []

    def hold(connection: Connection) -> None:
        at_gate.set()
        assert gate.wait(10)

    async with Database(tmp_path / "store.db") as database:
        await database.write(_make_table)

        async def add(number: int) -> None:
            def call(connection: Connection) -> int:
                _add(number, connection)
                if number == 3:
                    raise ValueError("three is refused")
                return _add(number + 100, connection)

            try:
                stored.append(await database.write(call))
            except ValueError as error:
                failed.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.write, hold)
            await anyio.to_thread.run_sync(at_gate.wait)
            for number in range(1, 6):
                tasks.start_soon(add, number)
            await anyio.wait_all_tasks_blocked()
            gate.set()
        numbers = await database.read(_numbers)
    assert sorted(stored) == [101, 102, 104, 105]
    assert [str(error) for error in failed] == ["three is refused"]
    assert numbers == [1, 2, 4, 5, 101, 102, 104, 105]


async def test_a_group_is_one_transaction(tmp_path: Path) -> None:
    """Calls that queue while the writer is busy see one another before anybody else sees them."""
    gate, at_gate = threading.Event(), threading.Event()
    seen_outside: list[list[int]] = []

    def hold(connection: Connection) -> None:
        at_gate.set()
        assert gate.wait(10)

    path = tmp_path / "store.db"
    async with Database(path) as database:
        await database.write(_make_table)

        def last(connection: Connection) -> None:
            assert _numbers(connection) == [1, 2]
            with closing(sqlite3.connect(path)) as outside:
                seen_outside.append([row[0] for row in outside.execute("SELECT number FROM numbers")])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.write, hold)
            await anyio.to_thread.run_sync(at_gate.wait)
            tasks.start_soon(database.write, partial(_add, 1))
            tasks.start_soon(database.write, partial(_add, 2))
            tasks.start_soon(database.write, last)
            await anyio.wait_all_tasks_blocked()
            gate.set()
        assert seen_outside == [[]]
        assert await database.read(_numbers) == [1, 2]


async def test_a_cancelled_write_is_still_carried_out(tmp_path: Path) -> None:
    gate, at_gate = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        _add(1, connection)
        at_gate.set()
        assert gate.wait(10)

    async with Database(tmp_path / "store.db") as database:
        await database.write(_make_table)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.write, slow)
            await anyio.to_thread.run_sync(at_gate.wait)
            tasks.cancel_scope.cancel()
        gate.set()
        await database.write(partial(_add, 2))
        assert await database.read(_numbers) == [1, 2]


async def test_reads_cannot_write(tmp_path: Path) -> None:
    async with Database(tmp_path / "store.db") as database:
        with pytest.raises(StoreError, match="cannot be written"):
            await database.read(_make_table)


async def test_reads_go_on_while_a_write_is_under_way(tmp_path: Path) -> None:
    gate, at_gate = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        _add(1, connection)
        at_gate.set()
        assert gate.wait(10)

    async with Database(tmp_path / "store.db") as database:
        await database.write(_make_table)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.write, slow)
            await anyio.to_thread.run_sync(at_gate.wait)
            assert await database.read(_numbers) == []
            gate.set()
        assert await database.read(_numbers) == [1]


async def test_two_stores_on_one_file_see_each_others_writes(tmp_path: Path) -> None:
    async with Database(tmp_path / "store.db") as one, Database(tmp_path / "store.db") as other:
        await one.write(_make_table)
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                database = one if number % 2 else other
                tasks.start_soon(database.write, partial(_add, number))
        assert await one.read(_numbers) == await other.read(_numbers) == list(range(20))


async def test_close_finishes_what_was_submitted_and_refuses_the_rest(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.db")
    await database.open()
    await database.write(_make_table)
    database.post(partial(_add, 7))
    await database.close()
    await database.close()
    with pytest.raises(StoreError, match="not open"):
        await database.write(_make_table)
    with pytest.raises(StoreError, match="not open"):
        await database.read(_numbers)
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("SELECT number FROM numbers").fetchall() == [(7,)]


# --- faults ------------------------------------------------------------------------------------


async def test_a_file_locked_by_another_process_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with Database(path, busy_timeout_s=0.01) as database:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"another process holds it locked.*Try again"):
                await database.write(_make_table)
        await database.write(_make_table)


async def test_a_full_disk_fails_the_group_and_leaves_the_store_usable(tmp_path: Path) -> None:
    async with Database(tmp_path / "store.db") as database:
        await database.write(_make_table)
        pages = await database.write(lambda connection: connection.execute(text("PRAGMA page_count")).scalar_one())
        await database.write(lambda connection: connection.execute(text(f"PRAGMA max_page_count = {pages}")).scalar())
        with pytest.raises(StoreError, match=r"disk is full.*Free some space"):
            await database.write(lambda connection: connection.execute(text("CREATE TABLE more (a)")))
        assert await database.write(partial(_add, 1)) == 1


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    before = _scribble(path)
    with pytest.raises(StoreError, match=r"not a database.*backup"):
        await Database(path).open()
    assert _read(path) == before


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreError, match="not a store of claude-comms"):
        await Database(path).open()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


async def test_a_path_that_cannot_be_a_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Check the path"):
        await Database(tmp_path).open()


async def test_text_that_is_not_unicode_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with Database(tmp_path / "store.db") as database:
        with pytest.raises(StoreError, match=r"lone surrogate.*Pass clean text"):
            await database.write(lambda connection: connection.execute(text("SELECT :a"), {"a": "half \ud800"}))


async def test_wrong_sql_of_ours_is_a_store_error_too(tmp_path: Path) -> None:
    async with Database(tmp_path / "store.db") as database:
        with pytest.raises(StoreError, match="no such table"):
            await database.read(lambda connection: connection.execute(text("SELECT * FROM nowhere")))
