"""What is asked of the daemon beside questions: the same answers as from an engine of one's own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from claude_comms.daemon import Places
from claude_comms.daemon._places import write_info
from claude_comms.daemon.client import RemoteEngine
from claude_comms.errors import (
    ClaudeCommsError,
    ConfigError,
    ConversationNotFoundError,
    DaemonError,
    DaemonNotRunningError,
    DaemonVersionError,
    DeadlineExceededError,
    InstanceNotFoundError,
    JobNotFoundError,
    UnknownModuleError,
)
from claude_comms.jobs import JobRequest, JobState
from claude_comms.testing.scripted import Stall
from claude_comms.types import ConversationState, InstanceLimits, InstanceState, Pair, Question

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon_road import Connect, Daemon

pytestmark = pytest.mark.anyio

PAIR = Pair("marker", "arangodb")
QUESTION = Question("marker", "arangodb", "How should I store my page blocks?")


WRONG: list[tuple[Callable[[RemoteEngine], Awaitable[object]], type[ClaudeCommsError]]] = [
    (lambda engine: engine.get_conversation("c_nothing"), ConversationNotFoundError),
    (lambda engine: engine.get_conversation("../daemon"), ClaudeCommsError),
    (lambda engine: engine.get_conversation(""), ClaudeCommsError),
    (lambda engine: engine.create_conversation(Pair("marker", "nobody")), UnknownModuleError),
    (lambda engine: engine.create_conversation(Pair("marker", "x" * 300)), ConfigError),
    (lambda engine: engine.preview(Question("marker", "nobody", "?")), UnknownModuleError),
    (lambda engine: engine.instances.get("i_nothing"), InstanceNotFoundError),
    (lambda engine: engine.instances.start(Pair("marker", "nobody")), UnknownModuleError),
    (lambda engine: engine.jobs.get("j_nothing"), JobNotFoundError),
    (lambda engine: engine.jobs.start(JobRequest(Question("marker", "nobody", "?"))), UnknownModuleError),
    (lambda engine: engine.jobs.start(JobRequest(QUESTION, priority=10**9)), ConfigError),
]


async def test_what_is_kept_is_told_as_the_engine_itself_tells_it(daemon: Daemon, connect: Connect) -> None:
    assert daemon.engine is not None
    here = daemon.engine
    async with connect() as there:
        reply = await (await there.ask(QUESTION)).reply()
        created = await there.create_conversation(PAIR, title="a title")
        assert await there.get_conversation(created.thread_id) == await here.get_conversation(created.thread_id)
        assert await there.get_conversation(reply.thread_id[:-1]) == await here.get_conversation(reply.thread_id)
        assert await there.list_conversations(source="marker") == await here.list_conversations(source="marker")
        assert await there.search_conversations("page blocks") == await here.search_conversations("page blocks")
        assert await there.find_modules("store blocks") == await here.find_modules("store blocks")
        assert (await there.preview(QUESTION)).prompt == (await here.preview(QUESTION)).prompt
        assert await there.usage("day", since=datetime.now(UTC) - timedelta(days=1)) == await here.usage("day")
        archived = await there.archive_conversation(created.thread_id)
        assert archived.state is ConversationState.ARCHIVED
        assert len(await there.list_conversations()) == 1
        assert len(await there.list_conversations(state=None)) == 2
        assert (await there.restore_conversation(created.thread_id)).state is ConversationState.ACTIVE


@pytest.mark.parametrize(("call", "kind"), WRONG)
async def test_errors_have_the_engines_types(
    connect: Connect, call: Callable[[RemoteEngine], Awaitable[object]], kind: type[ClaudeCommsError]
) -> None:
    async with connect() as engine:
        with pytest.raises(kind) as caught:
            await call(engine)
        assert type(caught.value).__module__ == "claude_comms.errors"


async def test_instances_are_started_steered_and_stopped(connect: Connect) -> None:
    async with connect() as engine:
        limits = InstanceLimits(max_turns=5)
        started = await engine.instances.start(PAIR, name="mine", limits=limits, environment={"A": "b"})
        assert (started.state, started.limits, started.backend) == (InstanceState.IDLE, limits, "scripted")
        assert [info.instance_id for info in await engine.instances.list()] == [started.instance_id]
        assert (await engine.instances.pause("mine")).state is InstanceState.PAUSED
        assert (await engine.instances.resume("mine")).state is InstanceState.IDLE
        assert (await engine.instances.interrupt("mine")).state is InstanceState.IDLE
        assert (await engine.instances.hibernate("mine")).state is InstanceState.HIBERNATED
        asked = Question("marker", "arangodb", "?", instance_id=started.instance_id)
        assert (await (await engine.ask(asked)).reply()).instance_id == started.instance_id
        assert (await engine.instances.stop("mine")).state is InstanceState.STOPPED


async def test_jobs_are_waited_for_listed_and_cancelled(daemon: Daemon, connect: Connect) -> None:
    async with connect() as engine:
        job = await engine.jobs.start(JobRequest(QUESTION, priority=2))
        done = await engine.jobs.wait(job.job_id, timeout_s=10)
        assert done.state is JobState.DONE
        assert await engine.jobs.list(state=JobState.DONE) == [done] == [await engine.jobs.get(job.job_id)]
        daemon.scripted.add(Stall("some"))
        slow = await engine.jobs.start(JobRequest(QUESTION))
        with pytest.raises(DeadlineExceededError, match="cancel-job"):
            await engine.jobs.wait(slow.job_id, timeout_s=0.05)
        await engine.jobs.cancel(slow.job_id)
        assert (await engine.jobs.wait(slow.job_id, timeout_s=10)).state is JobState.CANCELLED


async def test_a_request_whose_connection_breaks_is_repeated_only_where_that_is_safe(
    daemon: Daemon, connect: Connect
) -> None:
    async with connect() as engine:
        await engine.list_conversations()
        daemon.road.block()
        reading = asyncio.create_task(engine.list_conversations())
        writing = asyncio.create_task(engine.create_conversation(PAIR))
        await asyncio.wait({reading, writing}, timeout=0.2)
        await daemon.road.cut()
        daemon.road.open.set()
        assert isinstance(await asyncio.wait_for(reading, 10), list)
        with pytest.raises(DaemonError, match="See what came of it"):
            await asyncio.wait_for(writing, 10)


async def test_a_request_to_a_daemon_that_is_not_there_is_sent_when_it_is(daemon: Daemon, connect: Connect) -> None:
    async with connect() as engine:
        await daemon.fall()
        writing = asyncio.create_task(engine.create_conversation(PAIR))
        await asyncio.wait({writing}, timeout=0.1)
        await daemon.rise()
        assert (await asyncio.wait_for(writing, 10)).source == "marker"


async def test_without_a_daemon_it_says_so_in_bounded_time(daemon: Daemon, connect: Connect) -> None:
    async with connect(reconnect_s=0.2) as engine:
        await daemon.road.close()
        with pytest.raises(DaemonNotRunningError, match="claude-comms daemon start"):
            await asyncio.wait_for(engine.list_conversations(), 10)
        (check,) = await engine.diagnose()
        assert (check.name, check.ok) == ("daemon", False)


async def test_diagnosis_begins_with_the_daemon_itself(connect: Connect) -> None:
    async with connect() as engine:
        daemon, *rest = await engine.diagnose()
    assert (daemon.name, daemon.ok) == ("daemon", True)
    assert daemon.duration_ms is not None
    assert "answers in" in daemon.detail
    assert {check.name for check in rest} >= {"versions", "home", "store"}


async def test_another_version_and_other_settings_are_named(daemon: Daemon, connect: Connect) -> None:
    with pytest.raises(DaemonError, match="max_output_tokens"):
        async with connect(max_output_tokens=7):
            pass
    places = Places(daemon.settings.home)
    write_info(places, daemon.info(places, version="9.9.9"))
    with pytest.raises(DaemonVersionError):
        async with connect():
            pass


async def test_a_token_that_is_gone_is_named(daemon: Daemon) -> None:
    Places(daemon.settings.home).token.unlink()
    engine = RemoteEngine(daemon.settings, reconnect_s=0.2)
    with pytest.raises(DaemonError, match=r"daemon\.token"):
        await engine.open()
    await engine.close()
    await engine.close()
