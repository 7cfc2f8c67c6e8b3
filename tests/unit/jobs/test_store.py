from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, update

from claude_comms.errors import ConfigError, ContextError, JobNotFoundError, PoolExhaustedError
from claude_comms.jobs import JobRequest, JobState
from claude_comms.jobs._tables import METADATA, jobs
from claude_comms.jobs.store import Ending, JobStore
from claude_comms.storage import Database, OwnerLock, driver_of
from claude_comms.types import Question

if TYPE_CHECKING:
    from sqlalchemy import Connection

pytestmark = pytest.mark.anyio

ASKED = Question("marker", "arangodb", "How are pages stored?")


async def add(store: JobStore, prompt: str = "How?", **options: Any) -> str:
    return (await store.add(JobRequest(Question("marker", "arangodb", prompt), **options))).job_id


async def prompts_in_turn(store: JobStore) -> list[str]:
    found: list[str] = []
    while (claimed := await store.claim()) is not None:
        found.append(claimed.question.prompt)
    return found


async def over(database: Database) -> None:
    """What expires has expired."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    await database.write(
        lambda c: c.execute(update(jobs).where(jobs.c.expires_at.is_not(None)).values(expires_at=past))
    )


async def test_the_table_is_what_the_migrations_make(store: JobStore, database: Database) -> None:
    def ours(item: Any, name: str | None, kind: str, *_: object) -> bool:
        return str(name if kind == "table" else item.table.name) in METADATA.tables

    def compare(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection, opts={"include_object": ours}), METADATA)

    assert await database.read(compare) == []


async def test_a_queued_job_is_as_it_was_asked(store: JobStore) -> None:
    job = await store.add(JobRequest(ASKED, priority=3, expires_in_s=60.0, callback=("notify", "--now")))
    assert job == await store.get(job.job_id)
    assert (job.state, job.source, job.target, job.prompt) == (JobState.QUEUED, "marker", "arangodb", ASKED.prompt)
    assert (job.priority, job.callback, job.callback_result) == (3, ("notify", "--now"), None)
    assert job.expires_at is not None
    assert job.expires_at - job.created_at == timedelta(seconds=60)
    assert (job.reply, job.error, job.progress, job.thread_id) == (None, None, {}, None)


async def test_the_whole_question_comes_back_but_what_only_its_process_knew(store: JobStore) -> None:
    question = Question(
        source="marker",
        target="arangodb",
        prompt="How? \u00e4\U0001f600",
        source_path=Path("/somewhere/else"),
        thread_id="c_1",
        data={"pages": [1, None, 2.5, {"deep": True}]},
        schema={"type": "object"},
        template="multi-turn",
        context={"tone": "short"},
        backend="offline",
        model="m",
        instance_id="i_1",
        deadline_s=12.5,
        max_cost_usd=0.25,
        idempotency_key="mine",
        turn_id="t_1",
        check=lambda _: [],
    )
    await store.add(JobRequest(question))
    claimed = await store.claim()
    assert claimed is not None
    assert claimed.question == replace(question, check=None)


async def test_what_is_no_json_value_is_refused_by_its_place(store: JobStore) -> None:
    with pytest.raises(ContextError, match=r"data\.pages\[0\]"):
        await store.add(JobRequest(Question("a", "b", "?", data={"pages": [object()]})))
    with pytest.raises(ContextError, match="prompt"):
        await store.add(JobRequest(Question("a", "b", "half \ud83d")))
    assert await store.list() == []


async def test_a_job_asks_under_its_own_id_unless_it_was_given_a_key(store: JobStore) -> None:
    without = await add(store)
    await store.add(JobRequest(Question("a", "b", "?", idempotency_key="mine")))
    first, second = await store.claim(), await store.claim()
    assert first is not None
    assert second is not None
    assert (first.question.idempotency_key, second.question.idempotency_key) == (without, "mine")


async def test_the_same_key_is_the_same_job(store: JobStore) -> None:
    question = Question("a", "b", "?", data={"n": 1}, idempotency_key="mine")
    first = await store.add(JobRequest(question))
    assert (await store.add(JobRequest(question, priority=7))).job_id == first.job_id
    with pytest.raises(ConfigError, match="'mine' belongs to another"):
        await store.add(JobRequest(Question("a", "b", "else?", idempotency_key="mine")))
    assert len(await store.list()) == 1


async def test_the_next_one_is_of_the_highest_priority_and_then_the_oldest(store: JobStore) -> None:
    for prompt, priority in (("c", 0), ("a", 5), ("d", 0), ("b", 5), ("e", -1)):
        await add(store, prompt, priority=priority)
    assert await prompts_in_turn(store) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("lasts", [0.0, -1.0, float("nan"), float("inf"), 1e12])
async def test_an_expiry_that_cannot_be_is_refused(store: JobStore, lasts: float) -> None:
    with pytest.raises(ConfigError, match="expires_in_s"):
        await add(store, expires_in_s=lasts)


async def test_a_priority_that_cannot_be_stored_is_refused(store: JobStore) -> None:
    with pytest.raises(ConfigError, match="priority"):
        await add(store, priority=2**70)


async def test_more_than_may_wait_are_refused(store: JobStore) -> None:
    request = JobRequest(ASKED)
    await store.add(request, max_queued=2)
    await store.add(request, max_queued=2)
    with pytest.raises(PoolExhaustedError, match="2 jobs wait") as told:
        await store.add(request, max_queued=2)
    assert told.value.retry_after_s > 0
    await store.claim()
    await store.add(request, max_queued=2)


async def test_an_expired_job_is_never_started_and_fails_for_its_deadline(store: JobStore, database: Database) -> None:
    late, lasting = await add(store, "late", expires_in_s=60.0), await add(store, "lasting")
    assert await store.expire() == []
    assert await store.next_expiry() == (await store.get(late)).expires_at
    await over(database)
    assert await prompts_in_turn(store) == ["lasting"]
    (expired,) = await store.expire()
    assert (expired.job_id, expired.state) == (late, JobState.FAILED)
    assert expired.error is not None
    assert expired.error["type"] == "DeadlineExceededError"
    assert "Ask again" in expired.error["message"]
    assert expired.ended_at is not None
    assert await store.next_expiry() is None
    assert (await store.get(lasting)).state is JobState.RUNNING


async def test_what_has_started_does_not_expire(store: JobStore, database: Database) -> None:
    job_id = await add(store, expires_in_s=60.0)
    await store.claim()
    await over(database)
    assert await store.expire() == []
    assert await store.next_expiry() is None
    assert (await store.get(job_id)).state is JobState.RUNNING


async def test_a_running_job_keeps_how_far_it_has_come(store: JobStore) -> None:
    job_id = await add(store)
    await store.claim()
    await store.note({job_id: {"characters": 12, "tools": 1}}, {job_id: "c_9"})
    job = await store.get(job_id)
    assert (job.progress, job.thread_id) == ({"characters": 12, "tools": 1}, "c_9")
    assert job.started_at is not None
    await store.note({job_id: {"characters": 14, "tools": 1}}, {})
    assert (await store.get(job_id)).thread_id == "c_9"


async def test_a_job_ends_once(store: JobStore) -> None:
    job_id = await add(store)
    queued, changed = await store.finish(job_id, Ending(JobState.DONE, reply={"response": "too soon"}))
    assert (queued.state, changed) == (JobState.QUEUED, False)
    await store.claim()
    done, changed = await store.finish(job_id, Ending(JobState.DONE, reply={"response": "So."}, thread_id="c_9"))
    assert (done.state, done.reply, done.thread_id, changed) == (JobState.DONE, {"response": "So."}, "c_9", True)
    assert await store.finish(job_id, Ending(JobState.FAILED, error={"message": "late"})) == (done, False)
    assert await store.cancel_queued(job_id) == (done, False)


async def test_a_queued_job_is_cancelled_and_never_started(store: JobStore) -> None:
    job_id = await add(store)
    job, changed = await store.cancel_queued(job_id[:-1])
    assert changed
    assert job.state is JobState.CANCELLED
    assert job.error is not None
    assert job.error["reason"] == "interrupted"
    assert await store.claim() is None


async def test_a_job_is_found_by_any_unique_beginning(store: JobStore) -> None:
    first, second = await add(store), await add(store)
    assert (await store.get(second)).job_id == second
    with pytest.raises(JobNotFoundError) as several:
        await store.get("j_")
    assert set(several.value.matches) == {first, second}
    for wanted in ("", "j_zzz", "%", "_"):
        with pytest.raises(JobNotFoundError, match="list-jobs"):
            await store.get(wanted)


async def test_lists_are_newest_first_and_by_state(store: JobStore) -> None:
    first, second, third = await add(store, priority=1), await add(store), await add(store)
    await store.claim()
    assert [job.job_id for job in await store.list()] == [third, second, first]
    assert [job.job_id for job in await store.list(limit=1)] == [third]
    assert [job.job_id for job in await store.list(state=JobState.RUNNING)] == [first]


async def test_what_a_dead_process_ran_is_marked_and_what_it_had_queued_stays(
    store: JobStore, database: Database
) -> None:
    dying = OwnerLock(database.path)
    dying.acquire()
    theirs = JobStore(database, dying)
    running, answered, queued = await add(store, "1"), await add(store, "2"), await add(store, "3")
    for _ in range(2):
        await theirs.claim()
    await theirs.note({}, {running: "c_7"})
    assert await store.mark_abandoned() == []
    dying.release()
    assert [kept.job.job_id for kept in await store.abandoned()] == [running, answered]
    marked = await store.mark_abandoned({answered: Ending(JobState.DONE, reply={"response": "So."})})
    assert [(job.job_id, job.state) for job in marked] == [(running, JobState.FAILED), (answered, JobState.DONE)]
    error = marked[0].error
    assert error is not None
    assert "the daemon died while it ran; ask again, in the conversation c_7" in error["message"]
    assert error["thread_id"] == "c_7"
    assert (await store.get(queued)).state is JobState.QUEUED
    assert await store.mark_abandoned() == []


async def test_only_ended_jobs_with_a_callback_are_to_be_told_and_once(store: JobStore) -> None:
    await add(store, "silent", priority=2)
    loud = await add(store, "loud", callback="http://127.0.0.1:1/told")
    for _ in range(2):
        claimed = await store.claim()
        assert claimed is not None
        assert await store.untold() == []
    for job in await store.list():
        await store.finish(job.job_id, Ending(JobState.DONE, reply={}))
    assert [job.job_id for job in await store.untold()] == [loud]
    told = await store.told(loud, "HTTP 204")
    assert told.callback_result == "HTTP 204"
    assert await store.untold() == []


@pytest.mark.parametrize(
    ("call", "index"),
    [
        ("claim", "jobs_queued"),
        ("expire", "jobs_expiring"),
        ("next_expiry", "jobs_expiring"),
        ("abandoned", "jobs_running"),
        ("untold", "jobs_untold"),
    ],
)
async def test_what_is_asked_again_and_again_does_not_look_through_ended_jobs(
    store: JobStore, database: Database, call: str, index: str
) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    for connection in (*database._readers, database._open_writer()._connection):
        event.listen(connection, "before_cursor_execute", note)
    await getattr(store, call)()
    reading = [query for query in asked if "FROM jobs" in query[0]]
    assert reading

    def steps(connection: Connection) -> list[str]:
        driver = driver_of(connection)
        return [str(row[3]) for query, given in reading for row in driver.execute(f"EXPLAIN QUERY PLAN {query}", given)]

    found = [step for step in await database.read(steps) if "jobs" in step]
    assert found
    assert all(index in step for step in found), found
