from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.conversations import ConversationStore
from claude_comms.storage import Database, OwnerLock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "store.db") as database:
        yield database


@pytest.fixture
async def store(database: Database) -> AsyncIterator[ConversationStore]:
    owner = OwnerLock(database.path)
    owner.acquire()
    yield ConversationStore(database, owner)
    owner.release()
