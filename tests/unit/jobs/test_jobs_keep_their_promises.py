"""Whatever happens to jobs, and in whatever order: each is asked once at most, and ends once."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from sqlalchemy import update

from claude_comms.jobs import JobRequest, JobState
from claude_comms.jobs._tables import jobs
from claude_comms.jobs.store import Ending, JobStore
from claude_comms.storage import Database, OwnerLock
from claude_comms.types import Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

PROCESSES = st.integers(0, 1)
ENDS = st.sampled_from([JobState.DONE, JobState.FAILED, JobState.CANCELLED])


@dataclass
class Expected:
    """A job as it must stand."""

    number: int
    priority: int
    state: JobState = JobState.QUEUED
    late: bool = False
    process: int | None = None
    asked: int = 0
    told: bool = False


class Jobs(RuleBasedStateMachine):
    """Two processes on one store; either may die at any time, and another takes its place."""

    added: Bundle[str] = Bundle("added")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.portal_context = start_blocking_portal()
        self.portal = self.portal_context.__enter__()
        self.processes = [self._begin(), self._begin()]
        self.expected: dict[str, Expected] = {}

    def _begin(self) -> tuple[Database, OwnerLock, JobStore]:
        database = Database(self.directory / "store.db")
        self.portal.call(database.open)
        owner = OwnerLock(database.path)
        owner.acquire()
        return database, owner, JobStore(database, owner)

    def _on(self, process: int, call: Callable[[JobStore], Any]) -> Any:
        async def carry_out() -> Any:
            return await call(self.processes[process][2])

        return self.portal.call(carry_out)

    def teardown(self) -> None:
        for database, owner, _ in self.processes:
            self.portal.call(database.close)
            owner.release()
        self.portal_context.__exit__(None, None, None)
        shutil.rmtree(self.directory)

    @rule(target=added, process=PROCESSES, priority=st.integers(-2, 2), lasts=st.booleans(), loud=st.booleans())
    def add(self, process: int, priority: int, *, lasts: bool, loud: bool) -> str:
        request = JobRequest(
            Question("marker", "arangodb", str(len(self.expected))),
            priority=priority,
            expires_in_s=1000.0 if lasts else None,
            callback=("true",) if loud else None,
        )
        job_id: str = self._on(process, lambda store: store.add(request)).job_id
        assert job_id not in self.expected
        self.expected[job_id] = Expected(len(self.expected), priority, told=not loud)
        return job_id

    @rule(job_id=added)
    def its_time_passes(self, job_id: str) -> None:
        past = datetime.now(UTC) - timedelta(seconds=1)
        lasting = (jobs.c.job_id == job_id) & jobs.c.expires_at.is_not(None)

        def pass_by(connection: Connection) -> int:
            return connection.execute(update(jobs).where(lasting).values(expires_at=past)).rowcount

        if self.portal.call(self.processes[0][0].write, pass_by):
            self.expected[job_id].late = True

    @rule(process=PROCESSES)
    def claim(self, process: int) -> None:
        waiting = [item for item in self.expected.items() if item[1].state is JobState.QUEUED and not item[1].late]
        claimed = self._on(process, lambda store: store.claim())
        if not waiting:
            assert claimed is None
            return
        job_id, job = min(waiting, key=lambda item: (-item[1].priority, item[1].number))
        assert claimed.job.job_id == job_id
        assert claimed.question.prompt == str(job.number)
        job.state, job.process, job.asked = JobState.RUNNING, process, job.asked + 1

    @rule(process=PROCESSES, job_id=added, state=ENDS)
    def finish(self, process: int, job_id: str, state: JobState) -> None:
        job = self.expected[job_id]
        mine = job.state is JobState.RUNNING and job.process == process
        stands, changed = self._on(process, lambda store: store.finish(job_id, Ending(state, reply={"by": process})))
        if mine:
            job.state = state
        assert (stands.state, changed) == (job.state, mine)

    @rule(process=PROCESSES, job_id=added)
    def cancel(self, process: int, job_id: str) -> None:
        job = self.expected[job_id]
        stands, changed = self._on(process, lambda store: store.cancel_queued(job_id))
        assert changed == (job.state is JobState.QUEUED)
        if changed:
            job.state = JobState.CANCELLED
        assert stands.state is job.state

    @rule(process=PROCESSES)
    def expire(self, process: int) -> None:
        late = {key for key, job in self.expected.items() if job.late and job.state is JobState.QUEUED}
        assert {job.job_id for job in self._on(process, lambda store: store.expire())} == late
        for job_id in late:
            self.expected[job_id].state = JobState.FAILED

    @rule(process=PROCESSES)
    def die_and_begin_again(self, process: int) -> None:
        database, owner, _ = self.processes[process]
        owner.release()
        self.portal.call(database.close)
        self.processes[process] = self._begin()
        left = {key for key, job in self.expected.items() if job.state is JobState.RUNNING and job.process == process}
        assert {job.job_id for job in self._on(process, lambda store: store.mark_abandoned())} == left
        for job_id in left:
            self.expected[job_id].state = JobState.FAILED

    @rule(process=PROCESSES)
    def tell(self, process: int) -> None:
        untold = [key for key, job in self.expected.items() if job.state.ended and not job.told]
        found = [job.job_id for job in self._on(process, lambda store: store.untold())]
        assert found == untold
        for job_id in found[:1]:
            self._on(process, lambda store, job_id=job_id: store.told(job_id, "exit 0"))
            self.expected[job_id].told = True

    @invariant()
    def each_stands_as_it_must(self) -> None:
        stored = {job.job_id: job for job in self._on(0, lambda store: store.list(limit=1000))}
        assert {job_id: job.state for job_id, job in stored.items()} == {
            job_id: job.state for job_id, job in self.expected.items()
        }
        assert all((job.ended_at is not None) == job.state.ended for job in stored.values())
        assert all(job.asked <= 1 for job in self.expected.values())


TestJobs = Jobs.TestCase
TestJobs.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
