from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from claude_comms.roster import RosterEntry
from claude_comms.roster._tables import METADATA
from claude_comms.roster.store import RosterStore
from claude_comms.storage import Database
from claude_comms.types import InstanceLimits, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import Connection

pytestmark = pytest.mark.anyio

BORN = datetime(2026, 11, 21, 12, tzinfo=UTC)
WHOLE = RosterEntry(
    instance_id="i_1",
    source="marker",
    target="arangodb",
    backend="claude-code",
    created_at=BORN,
    last_used_at=BORN + timedelta(hours=1),
    name="pages",
    model="m",
    grants=("Read", "Grep"),
    limits=InstanceLimits(max_turns=5, max_idle_s=1.5, deadline_s=60.0, max_memory_mb=512, max_cost_usd=0.5),
    directory="/some/where",
    thread_id="c_1",
    state="paused",
    turns=3,
    usage=Usage(1, 2, 3, 4, 0.25),
    restarts=1,
    failure="it broke",
    own_thread_id="c_2",
)
PLAIN = RosterEntry("i_2", "marker", "arangodb", "api", BORN - timedelta(days=1), BORN)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "store.db") as database:
        yield database


@pytest.fixture
def store(database: Database) -> RosterStore:
    return RosterStore(database)


async def test_the_table_is_what_the_migrations_make(database: Database) -> None:
    def ours(item: Any, name: str | None, kind: str, *_: object) -> bool:
        return str(name if kind == "table" else item.table.name) in METADATA.tables

    def compare(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection, opts={"include_object": ours}), METADATA)

    assert await database.read(compare) == []


async def test_instances_come_back_as_they_were_the_oldest_first(store: RosterStore) -> None:
    await store.save(WHOLE, PLAIN)
    assert await store.list() == [PLAIN, WHOLE]


async def test_what_was_known_of_an_instance_is_replaced(store: RosterStore) -> None:
    await store.save(WHOLE)
    later = replace(WHOLE, state="idle", turns=4, thread_id=None, usage=Usage(9, cost_usd=None))
    await store.save(later)
    assert await store.list() == [later]


async def test_a_stopped_instance_is_forgotten(store: RosterStore) -> None:
    await store.save(WHOLE, PLAIN)
    await store.remove("i_1")
    await store.remove("i_unknown")
    assert await store.list() == [PLAIN]


async def test_an_empty_roster_is_empty(store: RosterStore) -> None:
    await store.save()
    assert await store.list() == []


@pytest.mark.parametrize("given", [{"MODE": "canary", "API_TOKEN": "canary"}, (("API_TOKEN", "canary"), ("MODE", ""))])
async def test_the_values_of_an_environment_are_never_on_disk(
    store: RosterStore, database: Database, given: Any
) -> None:
    """Not even where somebody passes the whole environment instead of its names."""
    entry = replace(WHOLE, environment=given)
    assert "canary" not in repr(entry)
    await store.save(entry)
    (kept,) = await store.list()
    assert kept.environment == ("API_TOKEN", "MODE")
    await database.close()
    for file in database.path.parent.iterdir():
        assert file.is_dir() or b"canary" not in file.read_bytes()


def test_an_instance_with_variables_of_its_own_is_not_to_come_back_without_them() -> None:
    assert WHOLE.restorable
    assert WHOLE.refusal is None
    with_variables = replace(WHOLE, environment=("API_TOKEN",))
    assert not with_variables.restorable
    assert "API_TOKEN" in str(with_variables.refusal)
    assert "start-instance --name pages --from marker --to arangodb" in str(with_variables.refusal)


def test_entries_cost_no_database_to_import() -> None:
    code = (
        "import sys, claude_comms.roster, claude_comms.jobs; print('sqlalchemy' in sys.modules, 'httpx' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == ["False", "False"]
