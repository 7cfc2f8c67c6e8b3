"""The store of jobs: what is still to be asked, what is being asked, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from anyio import to_thread
from sqlalchemy import func, insert, literal_column, select, update

from claude_comms.errors import JobNotFoundError
from claude_comms.jobs import _errors
from claude_comms.jobs._adding import IS_QUEUED, new_values, refuse_beyond, with_key
from claude_comms.jobs._job import Job, JobState
from claude_comms.jobs._rows import dumps, job_from, question_from
from claude_comms.jobs._tables import jobs
from claude_comms.types import Question, new_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from claude_comms.jobs._job import JobRequest
    from claude_comms.storage import Database, OwnerLock

__all__ = ["Changed", "Ending", "JobStore", "KeptJob"]

_MOST_MATCHES = 10
_IS_RUNNING = jobs.c.state == literal_column("'running'")


class KeptJob(NamedTuple):
    """A job and the whole question that it is to ask, its idempotency key among it."""

    job: Job
    question: Question


class Changed(NamedTuple):
    """A job as it stands, and whether the call made it so."""

    job: Job
    changed: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended: done with a `reply`, failed or cancelled with an `error`."""

    state: JobState
    reply: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    thread_id: str | None = None
    """None leaves what is known."""
    progress: Mapping[str, Any] | None = None
    """None leaves what was written last."""


class JobStore:
    """Jobs in `database`. What a method has returned is on disk, and survives a loss of power.

    `owner` is whose name running jobs are stored in: alive, and no other store's. Every method raises StoreError
    where the database cannot be used. `wanted` is an id or any unique beginning of one, or JobNotFoundError.
    """

    def __init__(self, database: Database, owner: OwnerLock) -> None:
        self._database = database
        self._owner = owner

    # --- what is to be asked -------------------------------------------------------------------

    async def add(self, request: JobRequest, *, job_id: str | None = None, max_queued: int | None = None) -> Job:
        """Queue a question, under the fresh id `job_id`.

        Where a job with the question's idempotency key is there already, that is returned: the same key never asks
        twice (ConfigError if it was another question's). ContextError names what of the question is no JSON value,
        ConfigError a priority or expiry that cannot be. PoolExhaustedError while `max_queued` jobs wait.
        """
        values = {"job_id": job_id or new_id("j"), **new_values(request)}

        def write(connection: Connection) -> Job:
            known = with_key(connection, values)
            if known is not None:
                return known
            refuse_beyond(connection, max_queued)
            connection.execute(insert(jobs).values(values))
            return _load(connection, values["job_id"])

        return await self._database.write(write)

    async def claim(self) -> KeptJob | None:
        """The next one to ask, running in this owner's name from now on: by priority, then in the order they came."""
        now = datetime.now(UTC)

        def write(connection: Connection) -> KeptJob | None:
            waits = IS_QUEUED & (jobs.c.expires_at.is_(None) | (jobs.c.expires_at > now))
            # Two steps down one index: in one, all of the highest priority would be sorted for the first of them.
            highest = select(func.max(jobs.c.priority)).where(waits).scalar_subquery()
            first = select(jobs).where(waits, jobs.c.priority == highest).order_by(jobs.c.seq).limit(1)
            row = connection.execute(first).one_or_none()
            if row is None:
                return None
            values = {"state": "running", "owner": self._owner.owner_id, "started_at": now}
            connection.execute(update(jobs).where(jobs.c.seq == row.seq).values(values))
            return KeptJob(replace(job_from(row), state=JobState.RUNNING, started_at=now), _question(row))

        return await self._database.write(write)

    async def put_back(self, job_id: str) -> None:
        """Queue a job again that was claimed and not asked."""
        values = {"state": "queued", "owner": None, "started_at": None}
        back = update(jobs).where(self._mine(job_id)).values(values)
        await self._database.write(lambda connection: connection.execute(back))

    async def expire(self) -> list[Job]:
        """End the queued ones whose time is over, and return them."""
        now = datetime.now(UTC)

        def write(connection: Connection) -> list[Job]:
            over = select(jobs).where(IS_QUEUED, jobs.c.expires_at <= now)
            return [_expire(connection, job_from(row), now) for row in connection.execute(over).all()]

        return await self._database.write(write)

    async def next_expiry(self) -> datetime | None:
        """When the first of the queued ones expires; None where none does."""
        first = select(func.min(jobs.c.expires_at)).where(IS_QUEUED, jobs.c.expires_at.is_not(None))
        return await self._database.read(lambda connection: connection.execute(first).scalar_one())

    # --- what is being asked -------------------------------------------------------------------

    async def note(self, progress: Mapping[str, Mapping[str, Any]], threads: Mapping[str, str]) -> None:
        """Keep how far running jobs have come, and their conversations, by their whole ids, in one commit."""

        def write(connection: Connection) -> None:
            for job_id in {*progress, *threads}:
                known: dict[str, Any] = {}
                if job_id in progress:
                    known["progress"] = dumps(dict(progress[job_id]))
                if job_id in threads:
                    known["thread_id"] = threads[job_id]
                connection.execute(update(jobs).where(self._mine(job_id)).values(known))

        await self._database.write(write)

    async def finish(self, job_id: str, ending: Ending) -> Changed:
        """End a job that this owner runs; one that it does not run is left as it stands."""
        return await self._database.write(lambda connection: _end(connection, self._mine(job_id), job_id, ending))

    async def cancel_queued(self, wanted: str) -> Changed:
        """Cancel a job if it is still queued."""

        def write(connection: Connection) -> Changed:
            job_id = _resolve(connection, wanted)
            thread_id = _load(connection, job_id).thread_id
            ending = Ending(JobState.CANCELLED, error=_errors.cancelled(thread_id, started=False))
            queued = (jobs.c.job_id == job_id) & IS_QUEUED
            return _end(connection, queued, job_id, ending)

        return await self._database.write(write)

    async def abandoned(self) -> list[KeptJob]:
        """Those that run in the name of dead owners, oldest first."""

        def read(connection: Connection) -> list[KeptJob]:
            running = select(jobs).where(_IS_RUNNING).order_by(jobs.c.seq)
            return [KeptJob(job_from(row), _question(row)) for row in connection.execute(running) if row.owner in dead]

        owners = select(jobs.c.owner).where(_IS_RUNNING).distinct()
        alive_or_dead = await self._database.read(lambda connection: connection.execute(owners).scalars().all())
        dead = await to_thread.run_sync(self._owner.dead_owners, alive_or_dead)
        return await self._database.read(read) if dead else []

    async def mark_abandoned(self, endings: Mapping[str, Ending] | None = None) -> list[Job]:
        """End what dead owners left running, and return it: as `endings` says by job id, else as failed.

        Queued jobs stay queued. Done when a runner opens.
        """
        left = [job for job, _ in await self.abandoned()]
        known = endings or {}

        def write(connection: Connection) -> list[Job]:
            ended: list[Job] = []
            for job in left:
                ending = known.get(job.job_id) or Ending(JobState.FAILED, error=_errors.abandoned(job.thread_id))
                running = (jobs.c.job_id == job.job_id) & _IS_RUNNING
                end, changed = _end(connection, running, job.job_id, ending)
                ended += [end] if changed else []
            return ended

        return await self._database.write(write) if left else []

    # --- what is known -------------------------------------------------------------------------

    async def get(self, wanted: str) -> Job:
        """One as it stands."""
        return await self._database.read(lambda connection: _load(connection, _resolve(connection, wanted)))

    async def list(self, *, state: JobState | None = None, limit: int = 50) -> list[Job]:
        """The newest first."""
        query = select(jobs).order_by(jobs.c.seq.desc()).limit(limit)
        if state is not None:
            query = query.where(jobs.c.state == str(state))
        return await self._database.read(lambda connection: [job_from(row) for row in connection.execute(query)])

    async def count(self) -> dict[JobState, int]:
        """How many are queued and running."""
        waiting = jobs.c.state.in_(("queued", "running"))
        query = select(jobs.c.state, func.count()).where(waiting).group_by(jobs.c.state)
        found = await self._database.read(lambda connection: connection.execute(query).all())
        return {JobState(state): number for state, number in found}

    # --- who is to be told ---------------------------------------------------------------------

    async def untold(self) -> Sequence[Job]:
        """Ended ones whose callback has not been told, in the order they came."""
        has_callback = jobs.c.callback.is_not(None) & jobs.c.callback_result.is_(None) & jobs.c.ended_at.is_not(None)
        due = select(jobs).where(has_callback).order_by(jobs.c.seq)
        return await self._database.read(lambda connection: [job_from(row) for row in connection.execute(due)])

    async def told(self, job_id: str, result: str) -> Job:
        """Keep what came of telling a job's callback."""

        def write(connection: Connection) -> Job:
            connection.execute(update(jobs).where(jobs.c.job_id == job_id).values(callback_result=result))
            return _load(connection, job_id)

        return await self._database.write(write)

    def _mine(self, job_id: str) -> Any:
        return (jobs.c.job_id == job_id) & _IS_RUNNING & (jobs.c.owner == self._owner.owner_id)


def _question(row: Any) -> Question:
    """The question to ask: under the job's own id where the caller gave no key, so that it is never asked twice."""
    question = question_from(row.question)
    return question if question.idempotency_key is not None else replace(question, idempotency_key=row.job_id)


def _expire(connection: Connection, job: Job, now: datetime) -> Job:
    assert job.expires_at is not None  # noqa: S101 - it was looked up by it
    waited_s = (job.expires_at - job.created_at).total_seconds()
    ending = Ending(JobState.FAILED, error=_errors.expired(job, waited_s=waited_s))
    return _end(connection, jobs.c.job_id == job.job_id, job.job_id, ending).job


def _end(connection: Connection, where: Any, job_id: str, ending: Ending) -> Changed:
    values: dict[str, Any] = {
        "state": str(ending.state),
        "ended_at": datetime.now(UTC),
        "reply": dumps(ending.reply),
        "error": dumps(ending.error),
    }
    if ending.thread_id is not None:
        values["thread_id"] = ending.thread_id
    if ending.progress is not None:
        values["progress"] = dumps(dict(ending.progress))
    changed = connection.execute(update(jobs).where(where).values(values)).rowcount > 0
    return Changed(_load(connection, job_id), changed)


def _load(connection: Connection, job_id: str) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.job_id == job_id)).one_or_none()
    if row is None:
        raise JobNotFoundError(job_id)
    return job_from(row)


def _resolve(connection: Connection, wanted: str) -> str:
    if not wanted:
        raise JobNotFoundError(wanted)
    if connection.execute(select(jobs.c.seq).where(jobs.c.job_id == wanted)).one_or_none() is not None:
        return wanted
    fits = select(jobs.c.job_id).where(jobs.c.job_id >= wanted, jobs.c.job_id < wanted + "\U0010ffff")
    matches = connection.execute(fits.order_by(jobs.c.job_id).limit(_MOST_MATCHES)).scalars().all()
    if len(matches) != 1:
        raise JobNotFoundError(wanted, matches=matches)
    return matches[0]
