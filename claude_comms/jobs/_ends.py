"""Whoever is to hear that a job has ended: readers of events, those who wait for it, and its callback."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from claude_comms.errors import StoreError
from claude_comms.jobs._telling import job_event

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import anyio.abc

    from claude_comms.events import NewEvent
    from claude_comms.jobs._callbacks import Callbacks
    from claude_comms.jobs._job import Job
    from claude_comms.jobs.store import JobStore

__all__ = ["Ends"]

_LOG = logging.getLogger(__name__)

_AT_ONCE = 4


class Ends:
    """Tells them. `changed` is called when a callback has been told."""

    def __init__(
        self, store: JobStore, callbacks: Callbacks, post: Callable[[NewEvent], None], changed: Callable[[], None]
    ) -> None:
        self.telling = 0
        """How many callbacks are being told, or wait for that."""
        self._store = store
        self._callbacks = callbacks
        self._post = post
        self._changed = changed
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._tasks: anyio.abc.TaskGroup | None = None

    def tell_in(self, tasks: anyio.abc.TaskGroup) -> None:
        """Tell callbacks in `tasks` from now on."""
        self._tasks = tasks

    def tell_no_more(self) -> None:
        """Leave callbacks that come from now on untold: they stay due."""
        self._tasks = None

    def over(self, job: Job) -> None:
        """`job` has ended, and that is kept."""
        self._post(job_event(job))
        for event in self._waiting.pop(job.job_id, ()):
            event.set()
        if job.callback is not None:
            self.tell(job)

    def tell(self, job: Job) -> None:
        """Tell the job's callback, in its turn."""
        if self._tasks is not None:
            self.telling += 1
            self._tasks.start_soon(self._tell, job)

    @contextmanager
    def awaited(self, job_id: str) -> Generator[asyncio.Event]:
        """An event that is set when the job ends, or when nobody waits for anything any more."""
        event = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            events = self._waiting.get(job_id, set())
            events.discard(event)
            if not events:
                self._waiting.pop(job_id, None)

    def release(self) -> None:
        """Let all go who wait."""
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def _tell(self, job: Job) -> None:
        """Tell the callback, then keep that it was told: after a crash between the two it is told again."""
        try:
            async with self._places:
                result = await self._result(job)
                told = await self._store.told(job.job_id, result)
                self._post(job_event(told, "callback", callback_result=result))
        except StoreError as error:
            _LOG.warning("the callback of job %s was told, which could not be kept: %s", job.job_id, error)
        finally:
            self.telling -= 1
            self._changed()

    async def _result(self, job: Job) -> str:
        try:
            return await self._callbacks.tell(job)
        except Exception as error:  # noqa: BLE001 - a callback's trouble must not end all jobs
            _LOG.exception("the callback of job %s", job.job_id)
            return f"failed: {type(error).__name__}"
