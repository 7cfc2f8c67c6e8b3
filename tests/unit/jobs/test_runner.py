from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_comms.errors import (
    ConfigError,
    DaemonError,
    DeadlineExceededError,
    JobNotFoundError,
    PoolExhaustedError,
    StoreError,
    UnknownModuleError,
)
from claude_comms.jobs import JobRequest, JobState
from claude_comms.jobs.store import Changed, Ending, JobStore
from claude_comms.storage import Database, OwnerLock
from claude_comms.testing.scripted import Answer, Fail, IgnoreCancellation, Stall
from claude_comms.types import MessageState, Question, Role

if TYPE_CHECKING:
    from claude_comms.events import NewEvent
    from claude_comms.jobs import Job
    from claude_comms.protocols import Jobs
    from claude_comms.types import Reply
    from tests.unit.jobs.conftest import House

pytestmark = pytest.mark.anyio


def request(prompt: str = "How?", **options: Any) -> JobRequest:
    question = {name: options.pop(name) for name in tuple(options) if name not in JobRequest.__slots__}
    return JobRequest(Question("marker", "arangodb", prompt, **question), **options)


async def ended(runner: Jobs, job: Job) -> Job:
    return await runner.wait(job.job_id, timeout_s=20)


def asked(house: House) -> list[str]:
    return [item.prompt.question for item in house.backend.requests]


async def test_a_job_is_asked_and_holds_the_whole_reply(house: House) -> None:
    runner = await house.runner()
    house.backend.add("In collections.")
    queued = await runner.start(request("Where?"))
    assert queued.state is JobState.QUEUED
    job = await ended(runner, queued)
    assert job.state is JobState.DONE
    assert job.reply is not None
    assert (job.reply["response"], job.reply["status"]) == ("In collections.", "complete")
    assert job.progress == {"characters": 15, "tools": 0}
    assert job.started_at is not None
    assert job.ended_at is not None
    conversation = await house.engine.get_conversation(str(job.thread_id))
    assert [message.text for message in conversation.messages] == ["Where?", "In collections."]
    assert house.told(job.job_id) == ["queued", "started", "done"]


async def test_events_name_the_job_its_pair_and_its_state(house: House) -> None:
    runner = await house.runner()
    job = await ended(runner, await runner.start(request()))
    event = await house.until("done", job.job_id)
    assert (event.subject, event.namespace) == (job.job_id, "marker/arangodb")
    assert (event.data["job_id"], event.data["state"]) == (job.job_id, "done")
    assert (event.data["source"], event.data["target"], event.data["thread_id"]) == (
        "marker",
        "arangodb",
        job.thread_id,
    )


async def test_what_fails_is_kept_with_its_reason_and_thread(house: House) -> None:
    runner = await house.runner()
    house.backend.add(Fail(StoreError("the disk is gone. Find it."), after="Half"))
    job = await ended(runner, await runner.start(request()))
    assert (job.state, job.reply) == (JobState.FAILED, None)
    assert job.error is not None
    assert (job.error["type"], job.error["thread_id"]) == ("StoreError", job.thread_id)
    assert house.told(job.job_id) == ["queued", "started", "failed"]


async def test_a_strangers_error_fails_its_job_and_no_other(house: House) -> None:
    async def ask(question: Question) -> Any:
        if question.prompt == "bad":
            raise ZeroDivisionError("oh")
        return await house.engine.ask(question)

    runner = await house.runner(ask=ask)
    bad, good = await runner.start(request("bad")), await runner.start(request("good"))
    error = (await ended(runner, bad)).error
    assert error is not None
    assert error["type"] == "InternalError"
    assert "ZeroDivisionError: oh" in error["message"]
    assert (await ended(runner, good)).state is JobState.DONE


async def test_what_is_wrong_with_a_question_is_said_before_it_is_queued(house: House) -> None:
    async def check(question: Question) -> None:
        await house.engine.preview(question)

    runner = await house.runner(check=check)
    with pytest.raises(UnknownModuleError):
        await runner.start(JobRequest(Question("marker", "nowhere", "?")))
    with pytest.raises(ConfigError, match="callback"):
        await runner.start(request(callback="ftp://127.0.0.1/"))
    with pytest.raises(ConfigError, match="callback"):
        await runner.start(request(callback=("no-such-program-anywhere",)))
    assert await runner.list() == []
    assert house.events == []


async def test_no_more_run_at_once_than_may(house: House) -> None:
    gates = [Stall() for _ in range(4)]
    house.backend.add(*gates)
    runner = await house.runner(max_running=2)
    jobs = [await runner.start(request(str(number))) for number in range(4)]
    for job in jobs[:2]:
        await house.until("started", job.job_id)
    assert [job.state for job in await runner.list(state=JobState.QUEUED)] == [JobState.QUEUED] * 2
    gates[0].release.set()
    gates[1].release.set()
    for job in jobs[2:]:
        await house.until("started", job.job_id)
    gates[2].release.set()
    gates[3].release.set()
    assert [(await ended(runner, job)).state for job in jobs] == [JobState.DONE] * 4


async def test_the_urgent_go_first_and_equals_in_their_order(house: House) -> None:
    gate = Stall()
    house.backend.add(gate)
    runner = await house.runner(max_running=1)
    first = await runner.start(request("first"))
    await house.until("started", first.job_id)
    jobs = [await runner.start(request(name, priority=p)) for name, p in (("c", 0), ("a", 9), ("d", 0), ("b", 9))]
    gate.release.set()
    for job in jobs:
        await ended(runner, job)
    assert asked(house) == ["first", "a", "b", "c", "d"]


async def test_a_job_that_waits_too_long_fails_and_is_never_asked(house: House) -> None:
    gate = Stall()
    house.backend.add(gate)
    runner = await house.runner(max_running=1)
    running = await runner.start(request("running"))
    await house.until("started", running.job_id)
    late = await ended(runner, await runner.start(request("late", expires_in_s=0.01)))
    assert late.state is JobState.FAILED
    assert late.error is not None
    assert late.error["type"] == "DeadlineExceededError"
    assert late.error["deadline_s"] == pytest.approx(0.01)
    gate.release.set()
    await ended(runner, running)
    assert asked(house) == ["running"]
    assert house.told(late.job_id) == ["queued", "failed"]


async def test_a_queued_job_is_cancelled_at_once(house: House) -> None:
    gate = Stall()
    house.backend.add(gate)
    runner = await house.runner(max_running=1)
    running, queued = await runner.start(request("running")), await runner.start(request("queued"))
    await house.until("started", running.job_id)
    assert (await runner.cancel(queued.job_id)).state is JobState.CANCELLED
    assert (await runner.cancel(queued.job_id)).state is JobState.CANCELLED
    gate.release.set()
    await ended(runner, running)
    assert asked(house) == ["running"]
    assert house.told(queued.job_id) == ["queued", "cancelled"]


async def test_cancelling_a_running_job_keeps_what_had_come_as_partial(house: House) -> None:
    house.backend.add(Stall(after="Half of it"))
    runner = await house.runner()
    job = await runner.start(request())
    await house.until("progress", job.job_id)
    cancelled = await runner.cancel(job.job_id)
    assert (cancelled.state, cancelled.reply) == (JobState.CANCELLED, None)
    assert cancelled.error is not None
    assert cancelled.error["reason"] == "interrupted"
    question, partial = (await house.engine.get_conversation(str(cancelled.thread_id))).messages
    assert question.state is MessageState.FAILED
    assert (partial.role, partial.text, partial.state) == (Role.ANSWER, "Half of it", MessageState.PARTIAL)
    assert house.told(job.job_id) == ["queued", "started", "cancelled"]


async def test_cancelling_what_has_ended_changes_nothing(house: House) -> None:
    runner = await house.runner()
    job = await ended(runner, await runner.start(request()))
    assert await runner.cancel(job.job_id) == job
    with pytest.raises(JobNotFoundError):
        await runner.cancel("j_none")


async def test_how_far_it_has_come_is_told_and_seen_while_it_runs(house: House) -> None:
    gate = anyio.Event()
    house.backend.add(Answer("four more", pieces=("four", " more"), gates=(gate,)))
    runner = await house.runner()
    job = await runner.start(request())
    event = await house.until("progress", job.job_id)
    assert event.data["progress"] == {"characters": 4, "tools": 0}
    seen = await runner.get(job.job_id)
    assert (seen.state, seen.progress) == (JobState.RUNNING, {"characters": 4, "tools": 0})
    assert seen.thread_id is not None
    stored = await house.store.get(job.job_id)
    assert (stored.progress, stored.thread_id) == (seen.progress, seen.thread_id)
    assert (await runner.list())[0].progress == seen.progress
    gate.set()
    assert (await ended(runner, job)).progress == {"characters": 9, "tools": 0}


async def test_a_thousand_pieces_are_few_events(house: House) -> None:
    house.backend.add(Answer("", pieces=("x",) * 1000))
    runner = await house.runner(progress_every_s=60.0)
    job = await ended(runner, await runner.start(request()))
    assert job.progress["characters"] == 1000
    assert sum(event.type == "job.progress" for event in house.events) <= 1


async def test_waiting_is_bounded_and_the_job_goes_on(house: House) -> None:
    gate = Stall()
    house.backend.add(gate)
    runner = await house.runner()
    job = await runner.start(request())
    with pytest.raises(DeadlineExceededError, match="wait again"):
        await runner.wait(job.job_id, timeout_s=0.01)
    gate.release.set()
    assert (await ended(runner, job)).state is JobState.DONE


async def test_many_may_wait_for_one_job(house: House) -> None:
    gate = Stall()
    house.backend.add(gate)
    runner = await house.runner()
    job = await runner.start(request())
    waiting = [asyncio.create_task(ended(runner, job)) for _ in range(5)]
    await house.until("started", job.job_id)
    gate.release.set()
    assert {item.state for item in await asyncio.gather(*waiting)} == {JobState.DONE}


async def test_the_same_key_is_one_job_and_one_turn(house: House) -> None:
    runner = await house.runner()
    first = await ended(runner, await runner.start(request(idempotency_key="mine")))
    again = await runner.start(request(idempotency_key="mine"))
    assert again == first
    assert len(asked(house)) == 1


async def test_too_many_waiting_jobs_are_refused(house: House) -> None:
    gate = Stall()
    house.backend.add(gate)
    runner = await house.runner(max_running=1, max_queued=1)
    running = await runner.start(request())
    await house.until("started", running.job_id)
    await runner.start(request())
    with pytest.raises(PoolExhaustedError):
        await runner.start(request())
    gate.release.set()


async def test_a_job_waits_for_a_place_that_the_pool_does_not_have(house: House) -> None:
    refusals = [PoolExhaustedError("full. Later.", limit=1, retry_after_s=0.001)] * 3

    async def ask(question: Question) -> Any:
        if refusals:
            raise refusals.pop()
        return await house.engine.ask(question)

    runner = await house.runner(ask=ask)
    assert (await ended(runner, await runner.start(request()))).state is JobState.DONE


async def test_a_job_that_waits_for_a_place_can_be_cancelled(house: House) -> None:
    full = asyncio.Event()

    async def ask(_: Question) -> Any:
        full.set()
        raise PoolExhaustedError("full. Later.", limit=1, retry_after_s=1000.0)

    runner = await house.runner(ask=ask)
    job = await runner.start(request())
    await full.wait()
    assert (await runner.cancel(job.job_id)).state is JobState.CANCELLED


async def test_closing_interrupts_what_runs_and_leaves_what_is_queued(house: House) -> None:
    house.backend.add(Stall(after="Half"))
    runner = await house.runner(max_running=1)
    running, queued = await runner.start(request("running")), await runner.start(request("queued"))
    waiting = asyncio.create_task(runner.wait(queued.job_id))
    await house.until("progress", running.job_id)
    await runner.close()
    await runner.close()
    stopped = await house.store.get(running.job_id)
    assert stopped.state is JobState.FAILED
    assert stopped.error is not None
    assert "the daemon was stopped while it ran; ask again" in stopped.error["message"]
    assert stopped.error["thread_id"] == stopped.thread_id
    assert (await house.store.get(queued.job_id)).state is JobState.QUEUED
    for refused in (waiting, runner.start(request())):
        with pytest.raises(DaemonError, match="stopping"):
            await refused
    later = await house.runner()
    assert (await ended(later, queued)).state is JobState.DONE
    assert asked(house) == ["running", "queued"]


async def test_draining_lets_running_jobs_end_and_starts_no_more(house: House) -> None:
    gate = Stall()
    house.backend.add(gate)
    runner = await house.runner(max_running=1)
    running, queued = await runner.start(request("running")), await runner.start(request("queued"))
    await house.until("started", running.job_id)
    assert not await runner.drain(0.001)
    gate.release.set()
    assert await runner.drain(20)
    assert (await runner.get(running.job_id)).state is JobState.DONE
    assert (await runner.get(queued.job_id)).state is JobState.QUEUED


async def test_closing_is_bounded_where_a_turn_does_not_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_comms.jobs.runner._CLOSE_WAIT_S", 0.05)
    deaf = IgnoreCancellation(after="Half")
    house.backend.add(deaf)
    runner = await house.runner()
    job = await runner.start(request())
    await house.until("progress", job.job_id)
    with anyio.fail_after(20):
        await runner.close()
    assert (await house.store.get(job.job_id)).state is JobState.FAILED
    deaf.release.set()


async def test_after_a_death_the_running_one_is_marked_and_the_queued_ones_run(house: House) -> None:
    dying = OwnerLock(house.engine.database.path)
    dying.acquire()
    theirs = JobStore(house.engine.database, dying)
    running, queued = await theirs.add(request("running")), await theirs.add(request("queued"))
    await theirs.claim()
    dying.release()
    runner = await house.runner()
    assert (await ended(runner, queued)).state is JobState.DONE
    marked = await runner.get(running.job_id)
    assert marked.state is JobState.FAILED
    assert marked.error is not None
    assert "the daemon died while it ran; ask again" in marked.error["message"]
    assert house.told(running.job_id) == ["failed"]
    assert asked(house) == ["queued"]


async def test_an_answer_that_was_stored_before_the_death_is_the_jobs(house: House) -> None:
    async def replay(question: Question) -> Reply | None:
        assert question.idempotency_key in stored
        return await (await house.engine.ask(question)).reply()

    dying = OwnerLock(house.engine.database.path)
    dying.acquire()
    theirs = JobStore(house.engine.database, dying)
    await theirs.add(request("answered"))
    claimed = await theirs.claim()
    assert claimed is not None
    stored = {claimed.question.idempotency_key}
    reply = await (await house.engine.ask(claimed.question)).reply()
    dying.release()
    runner = await house.runner(replay=replay)
    job = await runner.get(claimed.job.job_id)
    assert job.state is JobState.DONE
    assert job.reply is not None
    assert job.reply["message_id"] == reply.message_id
    assert asked(house) == ["answered"]


async def test_a_store_that_is_gone_for_a_while_costs_no_job(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_comms.jobs.runner._STORE_AGAIN_AFTER_S", 0.001)
    troubles = [StoreError("the disk is full. Free some space.")] * 3

    class FullAtFirst(JobStore):
        async def finish(self, job_id: str, ending: Ending) -> Changed:
            if troubles:
                raise troubles.pop()
            return await super().finish(job_id, ending)

    runner = await house.runner(store=FullAtFirst(house.engine.database, house.engine._owner))
    job = await ended(runner, await runner.start(request()))
    assert (job.state, troubles) == (JobState.DONE, [])


async def test_an_expiry_is_waited_for_and_not_looked_for_again_and_again(house: House) -> None:
    class Counting(JobStore):
        looked = 0

        async def expire(self) -> list[Job]:
            self.looked += 1
            return await super().expire()

    store = Counting(house.engine.database, house.engine._owner)
    runner = await house.runner(store=store, max_running=0)
    await runner.start(request(expires_in_s=1000.0))
    late = await runner.start(request(expires_in_s=0.2))
    assert (await ended(runner, late)).state is JobState.FAILED
    assert store.looked < 10  # at the start, for each new job, and when the time had come


async def test_a_job_that_waits_for_a_place_when_the_daemon_stops_stays_queued(house: House) -> None:
    full = asyncio.Event()

    async def ask(_: Question) -> Any:
        full.set()
        raise PoolExhaustedError("full. Later.", limit=1, retry_after_s=1000.0)

    runner = await house.runner(ask=ask)
    job = await runner.start(request())
    await full.wait()
    await runner.close()
    assert (await house.store.get(job.job_id)).state is JobState.QUEUED
    assert (await ended(await house.runner(), job)).state is JobState.DONE


async def test_a_job_does_not_hang_on_whether_anybody_can_be_told(house: House) -> None:
    def post(_: NewEvent) -> None:
        raise StoreError("the log is full. Make room.")

    runner = await house.runner(post=post)
    assert (await ended(runner, await runner.start(request()))).state is JobState.DONE


async def test_a_caller_who_goes_away_leaves_a_job_that_runs(house: House) -> None:
    class LeftAlone(JobStore):
        async def add(self, request: JobRequest, **options: Any) -> Job:
            await super().add(request, **options)
            raise asyncio.CancelledError

    runner = await house.runner(store=LeftAlone(house.engine.database, house.engine._owner))
    with pytest.raises(asyncio.CancelledError):
        await runner.start(request())
    assert await house.until("done")


async def test_a_locked_store_is_said_and_jobs_go_on_when_it_is_free(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_comms.jobs.runner._STORE_AGAIN_AFTER_S", 0.01)
    seen = asyncio.Event()

    class Noticing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "jobs wait for the store" in record.getMessage() and "locked" in record.getMessage():
                seen.set()

    handler = Noticing()
    logging.getLogger("claude_comms.jobs.runner").addHandler(handler)
    path = house.engine.database.path
    async with Database(path, busy_timeout_s=0.01) as database:
        runner = await house.runner(store=JobStore(database, house.engine._owner), max_running=0)
        late = await runner.start(request(expires_in_s=0.1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"holds it locked\. Try again"):
                await runner.start(request())
            with anyio.fail_after(20):
                await seen.wait()
            other.execute("ROLLBACK")
        assert (await ended(runner, late)).state is JobState.FAILED
        assert (await runner.start(request())).state is JobState.QUEUED
        await runner.close()
    logging.getLogger("claude_comms.jobs.runner").removeHandler(handler)
