from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from filelock import FileLock

from claude_comms.errors import StoreError
from claude_comms.storage import Database
from claude_comms.storage._migrations import MIGRATIONS

if TYPE_CHECKING:
    from pathlib import Path


_NEXT = """
from alembic import op
import sqlalchemy as sa

revision = "9001"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("conversations", sa.Column("mood", sa.String, server_default="calm"))
    {more}
"""


def _later(tmp_path: Path, more: str = "") -> Path:
    """The shipped migrations and one that is to come."""
    directory = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, directory, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "versions" / "v9001_mood.py").write_text(_NEXT.format(more=more), encoding="utf-8")
    return directory


async def _first_store(path: Path) -> None:
    async with Database(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO conversations (thread_id, source, target, state, title, created_at, updated_at, message_count)"
            " VALUES ('c_1', 'a', 'b', 'active', 'kept', '2026', '2026', 0)"
        )
        connection.commit()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _backups(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.backup-*"))


def _rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.anyio
async def test_a_store_of_this_version_is_carried_forward_after_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _first_store(path)
    async with Database(path, migrations=_later(tmp_path)):
        assert _rows(path, "SELECT title, mood FROM conversations") == [("kept", "calm")]
        assert _rows(path, "SELECT version_num FROM alembic_version") == [("9001",)]
    (backup,) = _backups(path)
    assert backup.name.startswith("store.db.backup-0005-")
    assert _mode(backup) == 0o600
    assert _rows(backup, "SELECT title FROM conversations") == [("kept",)]
    assert _rows(backup, "SELECT version_num FROM alembic_version") == [("0005",)]


@pytest.mark.anyio
async def test_a_store_from_before_sessions_is_carried_forward(tmp_path: Path) -> None:
    path, first = tmp_path / "store.db", tmp_path / "first"
    shutil.copytree(
        MIGRATIONS, first, ignore=shutil.ignore_patterns("__pycache__", "v0002*", "v0003*", "v0004*", "v0005*")
    )
    async with Database(path, migrations=first):
        pass
    async with Database(path):
        assert _rows(path, "SELECT count(*) FROM sessions") == [(0,)]
        assert _rows(path, "SELECT tools, refusals, rebuilt FROM messages") == []
    assert len(_backups(path)) == 1


@pytest.mark.anyio
async def test_a_backup_is_a_store_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _first_store(path)
    async with Database(path, migrations=_later(tmp_path)):
        pass
    (backup,) = _backups(path)
    async with Database(backup):
        assert _rows(backup, "SELECT title FROM conversations") == [("kept",)]


@pytest.mark.anyio
async def test_a_new_store_has_no_backup(tmp_path: Path) -> None:
    async with Database(tmp_path / "store.db"):
        pass
    assert _backups(tmp_path / "store.db") == []


@pytest.mark.anyio
async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _first_store(path)
    with pytest.raises(StoreError, match=r"could not be migrated.*Nothing was changed.*backup-0005"):
        await Database(path, migrations=_later(tmp_path, more='op.execute("BROKEN")')).open()
    async with Database(path):
        columns = [row[1] for row in _rows(path, "PRAGMA table_info(conversations)")]
    assert "mood" not in columns


@pytest.mark.anyio
async def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with Database(path, migrations=_later(tmp_path)):
        pass
    with pytest.raises(StoreError, match=r"schema version 9001.*knows up to 0005.*Upgrade claude-comms"):
        await Database(path).open()


@pytest.mark.anyio
async def test_stores_that_open_at_once_migrate_once(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _first_store(path)
    migrations = _later(tmp_path)
    databases = [Database(path, migrations=migrations) for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for database in databases:
            tasks.start_soon(database.open)
    for database in databases:
        await database.close()
    assert len(_backups(path)) == 1
    assert _rows(path, "SELECT mood FROM conversations") == [("calm",)]


def test_stores_of_several_homes_migrate_side_by_side_in_one_process(tmp_path: Path) -> None:
    paths = [tmp_path / f"home-{number}" / "store.db" for number in range(8)]
    together = threading.Barrier(len(paths), timeout=30)

    async def opened(path: Path) -> None:
        together.wait()
        async with Database(path):
            pass

    with ThreadPoolExecutor(len(paths)) as threads:
        for done in [threads.submit(anyio.run, opened, path) for path in paths]:
            done.result()
    tables = [_rows(path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name") for path in paths]
    assert ("messages",) in tables[0]
    assert tables == [tables[0]] * len(paths)


@pytest.mark.anyio
async def test_a_full_disk_is_called_one_and_leaves_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _first_store(path)
    fill = (
        'op.get_bind().exec_driver_sql("PRAGMA max_page_count = 1"); '  # SQLite takes it as: none beyond those there
        'op.execute("CREATE TABLE big AS SELECT zeroblob(1000000)")'
    )
    with pytest.raises(StoreError, match=r"was not migrated: the disk is full\. Free some space") as caught:
        await Database(path, migrations=_later(tmp_path, more=fill)).open()
    assert "report this" not in str(caught.value)
    assert _backups(path) == []
    async with Database(path):
        assert _rows(path, "SELECT title FROM conversations") == [("kept",)]


@pytest.mark.anyio
async def test_a_backup_that_does_not_fit_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    await _first_store(path)
    connect = sqlite3.connect

    def on_a_small_disk(target: Path, **options: Any) -> sqlite3.Connection:
        connection = connect(target, **options)
        if ".backup-" in str(target):
            connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", on_a_small_disk)
    with pytest.raises(StoreError, match="the disk is full"):
        await Database(path, migrations=_later(tmp_path)).open()
    assert _backups(path) == []


@pytest.mark.anyio
async def test_a_cancelled_opening_does_not_wait_for_who_is_migrating(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    database = Database(path)
    with FileLock(f"{path}.migrating"), anyio.fail_after(10):
        with anyio.move_on_after(0.2) as scope:
            await database.open()
        assert scope.cancelled_caught
    await database.open()
    await database.close()


@pytest.mark.anyio
async def test_opening_an_up_to_date_store_does_not_import_alembic(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _first_store(path)
    script = (
        "import sys, anyio; from pathlib import Path; from claude_comms.storage import Database\n"
        "async def main():\n"
        "    async with Database(Path(sys.argv[1])): pass\n"
        "anyio.run(main); print('alembic' in sys.modules)"
    )
    done = await anyio.run_process([sys.executable, "-c", script, str(path)], stderr=subprocess.STDOUT)
    assert done.stdout.decode().strip() == "False"


def test_every_version_file_follows_the_one_before() -> None:
    files = sorted(path for path in (MIGRATIONS / "versions").glob("v*.py"))
    numbers = [path.name[1:5] for path in files]
    assert numbers == [f"{number:04}" for number in range(1, len(files) + 1)]
