from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_comms.engine import LocalEngine
from claude_comms.jobs.runner import JobRunner
from claude_comms.jobs.store import JobStore
from claude_comms.settings import Settings
from claude_comms.storage import Database, OwnerLock
from claude_comms.testing.scripted import ScriptedBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from claude_comms.events import NewEvent


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


class House:
    """An engine over a scripted backend, and runners over its store. `events` are what runners have told."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.backend = ScriptedBackend()
        self.engine = LocalEngine(
            Settings.load({"home": home, "backend": "scripted", **settings}), backends={"scripted": self.backend}
        )
        self.events: list[NewEvent] = []
        self._told = asyncio.Event()
        self._runners: list[JobRunner] = []

    @property
    def store(self) -> JobStore:
        return JobStore(self.engine.database, self.engine._owner)

    def post(self, event: NewEvent) -> None:
        self.events.append(event)
        self._told.set()

    async def runner(self, **options: Any) -> JobRunner:
        """Another runner, open."""
        options = {"post": self.post, "max_running": 2, "progress_every_s": 0.001, **options}
        runner = JobRunner(options.pop("store", self.store), options.pop("ask", self.engine.ask), **options)
        self._runners.append(runner)
        await runner.open()
        return runner

    async def until(self, kind: str, job_id: str | None = None) -> NewEvent:
        """The first such event, told or to be told."""
        with anyio.fail_after(20):
            while True:
                for event in self.events:
                    if event.type == f"job.{kind}" and job_id in (None, event.subject):
                        return event
                self._told.clear()
                await self._told.wait()

    def told(self, job_id: str) -> list[str]:
        """What happened to a job, in order; progress left out."""
        kinds = [event.type.removeprefix("job.") for event in self.events if event.subject == job_id]
        return [kind for kind in kinds if kind != "progress"]

    async def close(self) -> None:
        for runner in self._runners:
            await runner.close()
        await self.engine.close()


@pytest.fixture
async def house(claude_comms_home: Path) -> AsyncIterator[House]:
    house = House(claude_comms_home)
    await house.engine.open()
    yield house
    await house.close()
