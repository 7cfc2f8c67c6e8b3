from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.jobs.store import JobStore
from claude_comms.storage import Database, OwnerLock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "store.db") as database:
        yield database


@pytest.fixture
async def store(database: Database) -> AsyncIterator[JobStore]:
    owner = OwnerLock(database.path)
    owner.acquire()
    yield JobStore(database, owner)
    owner.release()
