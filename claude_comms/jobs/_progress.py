"""How far running jobs have come: told and written at most once in a while, for all of them together."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from claude_comms.errors import StoreError
from claude_comms.jobs._telling import job_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from claude_comms.events import NewEvent
    from claude_comms.jobs._run import Run
    from claude_comms.jobs.store import JobStore

__all__ = ["Progress"]

_LOG = logging.getLogger(__name__)


class Progress:
    """Collects which runs have moved. `every_s` is the least time between two writes."""

    def __init__(self, store: JobStore, post: Callable[[NewEvent], None], *, every_s: float) -> None:
        self._store = store
        self._post = post
        self._every_s = every_s
        self._moved: dict[str, Run] = {}
        self._wake = asyncio.Event()

    def moved(self, run: Run) -> None:
        """`run` has come further; cheap."""
        self._moved[run.job_id] = run
        self._wake.set()

    async def found_thread(self, run: Run) -> None:
        """Keep which conversation `run` is in, at once: should the process die, this is what leads to it."""
        if run.thread_id is not None and run.thread_id != run.job.thread_id:
            run.job = replace(run.job, thread_id=run.thread_id)
            await self._note({}, {run.job_id: run.thread_id})

    async def keep_telling(self) -> None:
        """Runs as long as its runner."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            moved, self._moved = self._moved, {}
            await self._tell([run for run in moved.values() if not run.ended.is_set()])
            await asyncio.sleep(self._every_s)

    async def _tell(self, runs: list[Run]) -> None:
        await self._note({run.job_id: run.so_far for run in runs}, {})
        for run in runs:
            run.job = replace(run.job, progress=run.so_far)
            if not run.ended.is_set():
                self._post(job_event(run.job, "progress"))

    async def _note(self, progress: Mapping[str, Mapping[str, Any]], threads: Mapping[str, str]) -> None:
        try:
            await self._store.note(progress, threads)
        except StoreError as error:
            _LOG.warning("how far jobs have come could not be kept: %s", error)
