"""Runs jobs: takes queued ones in their turn, asks them, and tells what came of it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from claude_comms.errors import ClaudeCommsError, DaemonError, DeadlineExceededError, InstanceStateError, StoreError
from claude_comms.jobs import _errors
from claude_comms.jobs._callbacks import Callbacks
from claude_comms.jobs._ends import Ends
from claude_comms.jobs._job import Job, JobState
from claude_comms.jobs._progress import Progress
from claude_comms.jobs._run import Run
from claude_comms.jobs._telling import guarded, job_event
from claude_comms.jobs.store import Ending
from claude_comms.types import new_id

if TYPE_CHECKING:
    import builtins
    from collections.abc import Awaitable, Callable

    from claude_comms.events import NewEvent
    from claude_comms.jobs._job import JobRequest
    from claude_comms.jobs.store import JobStore, KeptJob
    from claude_comms.protocols import Turn
    from claude_comms.types import Question, Reply

__all__ = ["JobRunner"]

_LOG = logging.getLogger(__name__)

_CLOSE_WAIT_S = 5.0
_CANCEL_WITHIN_S = 15.0
_STORE_AGAIN_AFTER_S = 1.0
_REPLAY_WITHIN_S = 5.0
_LOOK_AGAIN_S = 60.0
"""The longest sleep before an expiry, in case somebody sets the clock meanwhile."""


class JobRunner:
    """Implements `protocols.Jobs` over a store, on asyncio.

    `ask` starts a question on its way; `post` takes events; at most `max_running` jobs run at once, and beyond
    `max_queued` waiting ones `start` refuses. `check` raises what is wrong with a question before it is queued.
    `replay` gives the stored answer of a question that was asked under its idempotency key before, None where it
    was never asked, or raises why it failed: with it, a job whose answer was stored before its daemon died is done.
    `callbacks` stand in for the runner's own. Open it after what `ask` needs, and close it before that.
    """

    def __init__(
        self,
        store: JobStore,
        ask: Callable[[Question], Awaitable[Turn]],
        *,
        post: Callable[[NewEvent], None],
        max_running: int,
        allow_remote_callbacks: bool = False,
        check: Callable[[Question], Awaitable[None]] | None = None,
        replay: Callable[[Question], Awaitable[Reply | None]] | None = None,
        max_queued: int = 10_000,
        progress_every_s: float = 1.0,
        callbacks: Callbacks | None = None,
    ) -> None:
        self._store = store
        self._ask = ask
        self._post = post = guarded(post)
        self._max_running = max_running
        self._max_queued = max_queued
        self._check = check
        self._replay = replay
        self._callbacks = callbacks or Callbacks(allow_remote=allow_remote_callbacks)
        self._quiet = asyncio.Event()
        self._ends = Ends(store, self._callbacks, post, self._quiet.set)
        self._progress = Progress(store, post, every_s=progress_every_s)
        self._runs: dict[str, Run] = {}
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._draining = self._closed = False
        self._tasks: anyio.abc.TaskGroup | None = None
        self._host: asyncio.Task[None] | None = None

    # --- life ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Mark what a dead process left running, tell what it left untold, and go on with what is queued."""
        await self._mark_abandoned()
        untold = await self._store.untold()
        ready = asyncio.Event()
        self._host = asyncio.create_task(self._serve(ready), name="claude-comms jobs")
        await ready.wait()
        for job in untold:
            self._ends.tell(job)

    async def drain(self, timeout_s: float) -> bool:
        """Start no more jobs, and wait for the running ones. Whether they have ended within `timeout_s` seconds."""
        self._draining = True
        with anyio.move_on_after(timeout_s):
            await self._until_quiet()
            return True
        return False

    async def close(self) -> None:
        """Interrupt what runs, keep that it was stopped, and let go, in bounded time. May be called twice.

        Queued jobs stay queued, and callbacks that were not told stay due, for whoever opens the store next.
        """
        self._draining = self._closed = True
        self._ends.tell_no_more()
        self._wake.set()
        with anyio.move_on_after(_CLOSE_WAIT_S):
            async with anyio.create_task_group() as stopping:
                for run in tuple(self._runs.values()):
                    stopping.start_soon(run.stop)
            await self._until_quiet()
        self._stopping.set()
        if self._host is not None:
            _, late = await asyncio.wait({self._host}, timeout=_CLOSE_WAIT_S)
            for task in late:
                task.cancel()
        with anyio.move_on_after(_CLOSE_WAIT_S, shield=True):
            for run in tuple(self._runs.values()):
                await self._finish(run, run.ending or run.stopped())
        await self._callbacks.close()
        self._ends.release()

    async def _serve(self, ready: asyncio.Event) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._ends.tell_in(tasks)
            tasks.start_soon(self._progress.keep_telling)
            ready.set()
            await self._dispatch()
            await self._stopping.wait()
            tasks.cancel_scope.cancel()

    async def _until_quiet(self) -> None:
        """Until nothing runs and nobody is being told."""
        while self._runs or self._ends.telling:
            self._quiet.clear()
            await self._quiet.wait()

    async def _mark_abandoned(self) -> None:
        """What dead processes left running has failed, unless its answer was stored before. It is not asked again."""
        endings = {kept.job.job_id: await self._left(kept) for kept in await self._store.abandoned()}
        for job in await self._store.mark_abandoned(endings):
            self._post(job_event(job))

    async def _left(self, kept: KeptJob) -> Ending:
        thread_id = kept.job.thread_id
        try:
            with anyio.fail_after(_REPLAY_WITHIN_S):
                reply = await self._replay(kept.question) if self._replay is not None else None
        except (ClaudeCommsError, TimeoutError) as error:
            reply, thread_id = None, getattr(error, "thread_id", None) or thread_id
        if reply is not None:
            return Ending(JobState.DONE, reply=reply.as_dict(), thread_id=reply.thread_id)
        return Ending(JobState.FAILED, error=_errors.abandoned(thread_id), thread_id=thread_id)

    # --- running -------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        """Start what may start and end what is too late, whenever something has changed."""
        while not self._closed:
            self._wake.clear()
            try:
                for job in await self._store.expire():
                    self._ends.over(job)
                await self._fill()
                wait_s = await self._until_expiry_s()
            except StoreError as error:
                _LOG.warning("jobs wait for the store: %s", error)
                wait_s = _STORE_AGAIN_AFTER_S
            except Exception:  # noqa: BLE001 - one bad row must not end all jobs
                _LOG.exception("the next job could not be started")
                wait_s = _STORE_AGAIN_AFTER_S
            with anyio.move_on_after(wait_s):
                await self._wake.wait()

    async def _fill(self) -> None:
        assert self._tasks is not None  # noqa: S101 - `_serve` has set it
        while len(self._runs) < self._max_running and not self._draining:
            kept = await self._store.claim()
            if kept is None:
                return
            if self._draining:
                await self._store.put_back(kept.job.job_id)
                return
            run = Run(kept, self._ask, self._progress)
            self._runs[run.job_id] = run
            self._post(job_event(run.job))
            self._tasks.start_soon(self._carry_out, run)

    async def _until_expiry_s(self) -> float | None:
        """How long nothing expires; None for ever."""
        first = await self._store.next_expiry()
        if first is None:
            return None
        return min(max((first - datetime.now(UTC)).total_seconds(), 0.0), _LOOK_AGAIN_S)

    async def _carry_out(self, run: Run) -> None:
        try:
            ending = await run.carry_out()
            await (self._put_back(run) if ending is None else self._finish(run, ending))
        except Exception:  # noqa: BLE001 - it stays as running, and is marked at the next start
            _LOG.exception("the end of job %s could not be kept", run.job_id)

    async def _put_back(self, run: Run) -> None:
        """Queue it again: it was stopped before it could ask."""
        await self._store.put_back(run.job_id)
        self._gone(run)

    async def _finish(self, run: Run, ending: Ending) -> None:
        """Keep how it ended, however long the store takes to be there again: the job runs until that is kept."""
        while True:
            try:
                job, _ = await self._store.finish(run.job_id, ending)
                break
            except StoreError as error:
                _LOG.warning("the end of job %s waits for the store: %s", run.job_id, error)
                await anyio.sleep(_STORE_AGAIN_AFTER_S)
        self._gone(run)
        self._ends.over(job)

    def _gone(self, run: Run) -> None:
        run.ended.set()
        self._runs.pop(run.job_id, None)
        self._wake.set()
        self._quiet.set()

    # --- the callers' side ---------------------------------------------------------------------

    async def start(self, request: JobRequest) -> Job:
        """Queue it, durably. What is wrong with the question or the callback is raised here.

        A question whose idempotency key another job has is that job. PoolExhaustedError where too many wait.
        """
        self._refuse_closed()
        await self._callbacks.check(request.callback)
        if self._check is not None:
            await self._check(request.question)
        job_id = new_id("j")
        try:
            job = await self._store.add(request, job_id=job_id, max_queued=self._max_queued)
        finally:
            self._wake.set()  # a caller who goes away now leaves a queued job
        if job.job_id == job_id:
            self._post(job_event(job))
        return job

    async def list(self, *, state: JobState | None = None, limit: int = 50) -> builtins.list[Job]:
        """The newest first."""
        return [self._as_it_stands(job) for job in await self._store.list(state=state, limit=limit)]

    async def count(self) -> dict[JobState, int]:
        """How many are queued and running."""
        return await self._store.count()

    async def get(self, wanted: str) -> Job:
        """One as it stands."""
        return self._as_it_stands(await self._store.get(wanted))

    async def wait(self, wanted: str, *, timeout_s: float | None = None) -> Job:
        """One once it has ended; DeadlineExceededError after `timeout_s` seconds, DaemonError where this is closed."""
        job = await self.get(wanted)
        with self._ends.awaited(job.job_id) as event, anyio.move_on_after(timeout_s):
            return await self._ended(job.job_id, event)
        raise DeadlineExceededError(
            f"the job {job.job_id} has not ended within {timeout_s:g} s. It goes on; wait again.", deadline_s=timeout_s
        )

    async def cancel(self, wanted: str) -> Job:
        """End it. A running one is interrupted, and what had come of its answer is stored as partial.

        One that has ended stays as it is. InstanceStateError where another process runs it.
        """
        job, changed = await self._store.cancel_queued(wanted)
        if changed:
            self._ends.over(job)
        if job.state is not JobState.RUNNING:
            return job
        run = self._runs.get(job.job_id)
        if run is None:
            return await self._ended_meanwhile(job)
        await run.cancel()
        with anyio.move_on_after(_CANCEL_WITHIN_S):
            await run.ended.wait()
        return await self.get(job.job_id)

    async def _ended(self, job_id: str, event: asyncio.Event) -> Job:
        while True:
            job = await self.get(job_id)  # after the event was left behind: what ends from now on sets it
            if job.state.ended:
                return job
            self._refuse_closed()
            await event.wait()

    async def _ended_meanwhile(self, job: Job) -> Job:
        job = await self.get(job.job_id)
        if not job.state.ended:
            raise InstanceStateError(
                f"another process runs the job {job.job_id}. Cancel it there.", state="busy", wanted="idle"
            )
        return job

    def _refuse_closed(self) -> None:
        if self._closed:
            raise DaemonError(
                "the daemon is stopping; queued jobs stay queued. Start it again: claude-comms daemon start"
            )

    def _as_it_stands(self, job: Job) -> Job:
        """With what only the running turn knows yet."""
        run = self._runs.get(job.job_id)
        if run is None or job.state is not JobState.RUNNING:
            return job
        return replace(job, progress=run.so_far, thread_id=run.thread_id)
