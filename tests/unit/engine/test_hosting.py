"""An engine that hosts for everybody: its instances come back, some are kept ready, jobs run."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_comms.engine import LocalEngine
from claude_comms.errors import (
    BackendUnavailableError,
    BudgetExceededError,
    ConfigError,
    DaemonError,
    DeadlineExceededError,
    InstanceStateError,
    PermissionDeniedError,
    StoreError,
    TurnFailedError,
)
from claude_comms.events import EventFilter, MemoryBus
from claude_comms.jobs import JobRequest, JobState
from claude_comms.settings import Settings
from claude_comms.testing.scripted import Answer, ScriptedBackend, Stall
from claude_comms.types import InstanceLimits, InstanceState, Load, Pair, Question

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from claude_comms.types import InstanceInfo

pytestmark = pytest.mark.anyio

PAIR = Pair("marker", "arangodb")
ASKED = Question("marker", "arangodb", "How?")


@asynccontextmanager
async def hosting(home: Path, backend: ScriptedBackend | None = None, **settings: Any) -> AsyncGenerator[LocalEngine]:
    backend = backend or ScriptedBackend()
    given = Settings.load({"home": home, "backend": backend.name, **settings})
    bus = MemoryBus()
    await bus.open()
    engine = LocalEngine(given, backends={backend.name: backend}, bus=bus, hosting=True)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()
        await bus.close()


def holding(folder: Path, text: str) -> list[Path]:
    """The files below `folder` that hold `text`."""
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


async def test_instances_come_back_with_their_names_limits_and_conversations(claude_comms_home: Path) -> None:
    limits = InstanceLimits(max_turns=7)
    async with hosting(claude_comms_home) as engine:
        started = await engine.instances.start(PAIR, name="mine", limits=limits)
        reply = await (await engine.ask(replace(ASKED, instance_id=started.instance_id))).reply()
        await engine.instances.start(PAIR, name="resting")
        await engine.instances.pause("resting")
        await engine.instances.start(PAIR, name="gone")
        await engine.instances.stop("gone")
    async with hosting(claude_comms_home) as engine:
        by_name = {instance.name: instance for instance in await engine.instances.list()}
        assert by_name.keys() == {"mine", "resting"}
        mine = by_name["mine"]
        assert (mine.instance_id, mine.state, mine.turns) == (started.instance_id, InstanceState.HIBERNATED, 1)
        assert (mine.thread_id, mine.limits) == (reply.thread_id, limits)
        assert by_name["resting"].state is InstanceState.PAUSED
        again = await (await engine.ask(replace(ASKED, thread_id=reply.thread_id))).reply()
        assert again.instance_id == started.instance_id


async def test_an_instance_with_variables_of_its_own_comes_back_as_one_that_has_failed_and_says_why(
    claude_comms_home: Path,
) -> None:
    canary = "the-value-of-the-variable"
    async with hosting(claude_comms_home) as engine:
        started = await engine.instances.start(PAIR, name="mine", environment={"TOKEN": canary})
    assert not holding(claude_comms_home, canary)
    for _ in range(2):
        async with hosting(claude_comms_home, max_instances=1) as engine:
            found, *_ = await engine.instances.list()
            assert (found.instance_id, found.state) == (started.instance_id, InstanceState.FAILED)
            assert "variables of its own (TOKEN)" in str(found.failure)
            (told,) = await engine.bus.read(EventFilter(types=("instance.failed",)))
            assert told.data["reason"] == found.failure
            with pytest.raises(InstanceStateError, match="TOKEN"):
                await (await engine.ask(replace(ASKED, instance_id=found.instance_id))).reply()
            await (await engine.ask(ASKED)).reply()  # it takes no place
    async with hosting(claude_comms_home) as engine:
        await engine.instances.stop("mine")
        assert "mine" not in {instance.name for instance in await engine.instances.list()}
    async with hosting(claude_comms_home) as engine:
        assert "mine" not in {instance.name for instance in await engine.instances.list()}


async def test_a_started_instance_takes_the_place_of_a_failed_one_of_its_name(claude_comms_home: Path) -> None:
    async with hosting(claude_comms_home) as engine:
        await engine.instances.start(PAIR, name="mine", environment={"TOKEN": "1"})
    async with hosting(claude_comms_home) as engine:
        again = await engine.instances.start(PAIR, name="mine", environment={"TOKEN": "2"})
        assert [info.instance_id for info in await engine.instances.list()] == [again.instance_id]


async def test_variables_mean_nothing_to_a_backend_without_a_process_so_its_instance_comes_back(
    claude_comms_home: Path,
) -> None:
    async with hosting(claude_comms_home, ScriptedBackend(name="api")) as engine:
        started = await engine.instances.start(PAIR, environment={"TOKEN": "1"})
    async with hosting(claude_comms_home, ScriptedBackend(name="api")) as engine:
        (found,) = await engine.instances.list()
        assert (found.instance_id, found.state) == (started.instance_id, InstanceState.HIBERNATED)
        await (await engine.ask(replace(ASKED, instance_id=found.instance_id))).reply()


async def test_an_instance_that_failed_is_listed_with_its_reason_also_by_the_next_daemon(
    claude_comms_home: Path,
) -> None:
    refusing = ScriptedBackend(open_error=BackendUnavailableError("no key. Set one."))
    async with hosting(claude_comms_home, refusing) as engine:
        with pytest.raises(BackendUnavailableError):
            await engine.instances.start(PAIR, name="mine")
        failed = await engine.instances.list()
    async with hosting(claude_comms_home) as engine:
        again = await engine.instances.list()
        for (found,) in (failed, again):
            assert (found.name, found.state, found.failure) == ("mine", InstanceState.FAILED, "no key. Set one.")
        with pytest.raises(InstanceStateError, match=r"is failed\. no key\. Set one\. Start another one\."):
            await (await engine.ask(replace(ASKED, instance_id=again[0].instance_id))).reply()


async def test_an_instance_for_which_there_is_no_room_any_more_comes_back_failed(claude_comms_home: Path) -> None:
    async with hosting(claude_comms_home) as engine:
        for name in ("one", "two"):
            await engine.instances.start(PAIR, name=name)
    async with hosting(claude_comms_home, max_instances=1) as engine:
        found = {info.name: info for info in await engine.instances.list()}
    assert (found["one"].state, found["two"].state) == (InstanceState.HIBERNATED, InstanceState.FAILED)
    assert "max_instances" in str(found["two"].failure)


async def test_an_instance_asked_by_its_id_keeps_its_own_conversation_also_across_restarts(
    claude_comms_home: Path,
) -> None:
    async with hosting(claude_comms_home) as engine:
        started = await engine.instances.start(PAIR, name="mine")
        mine = await (await engine.ask(replace(ASKED, instance_id=started.instance_id))).reply()
        other = await (await engine.ask(ASKED)).reply()
        assert (other.instance_id, other.thread_id != mine.thread_id) == (started.instance_id, True)
        assert (await engine.instances.get("mine")).thread_id == mine.thread_id
        again = await (await engine.ask(replace(ASKED, thread_id=other.thread_id))).reply()
        assert again.instance_id == started.instance_id, "whose conversation it holds still finds it"
    async with hosting(claude_comms_home) as engine:
        assert (await engine.instances.get("mine")).thread_id == mine.thread_id


@pytest.mark.parametrize(
    "name", ["", "i_01", "two words", "up/down", "a\nb", "a\x1b[2J", "-x", "_x", ".x", "n\n", "é", "n" * 65]
)
async def test_what_would_need_quoting_or_looks_like_an_id_names_no_instance(
    claude_comms_home: Path, name: str
) -> None:
    async with hosting(claude_comms_home) as engine:
        with pytest.raises(ConfigError, match="cannot name an instance") as caught:
            await engine.instances.start(PAIR, name=name)
        assert "\x1b" not in str(caught.value)
        assert await engine.instances.list() == []
        for good in ("n" * 64, "Marker_arangodb-2.0", "0", "i"):
            assert (await engine.instances.start(PAIR, name=good)).name == good


async def test_a_grant_that_the_module_does_not_have_is_refused_by_name(claude_comms_home: Path) -> None:
    async with hosting(claude_comms_home) as engine:
        with pytest.raises(PermissionDeniedError) as caught:
            await engine.instances.start(PAIR, grants=["Bash"])
    assert caught.value.grant == "Bash"


async def test_an_instance_refuses_questions_beyond_its_tokens_and_says_so(claude_comms_home: Path) -> None:
    async with hosting(claude_comms_home) as engine:
        started = await engine.instances.start(PAIR, limits=InstanceLimits(max_tokens=1))
        question = replace(ASKED, instance_id=started.instance_id)
        await (await engine.ask(question)).reply()
        with pytest.raises(BudgetExceededError):
            await (await engine.ask(question)).reply()
        told = await engine.bus.read(EventFilter(types=("budget.*",)))
    assert "budget.exceeded" in [event.type for event in told]


async def test_an_instance_keeps_its_own_deadline_where_a_question_has_none(claude_comms_home: Path) -> None:
    async with hosting(claude_comms_home, ScriptedBackend(Stall())) as engine:
        started = await engine.instances.start(PAIR, limits=InstanceLimits(deadline_s=0.05))
        with anyio.fail_after(10), pytest.raises(DeadlineExceededError):
            await (await engine.ask(replace(ASKED, instance_id=started.instance_id))).reply()


async def test_a_stalled_turn_is_told_and_stopped(claude_comms_home: Path) -> None:
    async with hosting(claude_comms_home, ScriptedBackend(Stall(after="half")), stall_s=0.05) as engine:
        with anyio.fail_after(10), pytest.raises(TurnFailedError) as caught:
            await (await engine.ask(replace(ASKED, turn_id="t_1"))).reply()
        told = await engine.bus.read(EventFilter(turn_id="t_1"))
    assert (caught.value.reason, caught.value.partial) == ("stalled", "half")
    assert [event.type for event in told if event.type in ("turn.stalled", "turn.failed")] == [
        "turn.stalled",
        "turn.failed",
    ]


async def test_instances_are_kept_ready_for_the_pairs_that_the_settings_name(claude_comms_home: Path) -> None:
    async def ready(engine: LocalEngine, count: int) -> list[InstanceInfo]:
        with anyio.fail_after(10):
            while True:
                every = await engine.instances.list()
                found = [one for one in every if one.thread_id is None and one.state is InstanceState.IDLE]
                if len(found) == count:
                    return found
                await anyio.lowlevel.checkpoint()

    async with hosting(claude_comms_home, prewarm={"marker/arangodb": 2, "nobody/arangodb": 1}) as engine:
        kept = {instance.instance_id for instance in await ready(engine, 2)}
        reply = await (await engine.ask(ASKED)).reply()
        assert reply.instance_id in kept
        assert reply.instance_id not in {instance.instance_id for instance in await ready(engine, 2)}


async def test_background_questions_are_answered(claude_comms_home: Path) -> None:
    async with hosting(claude_comms_home) as engine:
        job = await engine.jobs.start(JobRequest(ASKED))
        done = await engine.jobs.wait(job.job_id, timeout_s=10)
        assert done.state is JobState.DONE
        assert done.reply is not None
        assert (await engine.get_conversation(done.reply["thread_id"])).message_count == 2


async def test_draining_starts_no_queued_job_and_lets_the_running_one_end(claude_comms_home: Path) -> None:
    gate = anyio.Event()
    slow = ScriptedBackend([Answer("one two", pieces=2, gates=(gate,)), "never"])
    async with hosting(claude_comms_home, slow, max_jobs_running=1) as engine:
        first = await engine.jobs.start(JobRequest(ASKED))
        second = await engine.jobs.start(JobRequest(ASKED))
        async with engine.follow(EventFilter(types=("turn.delta",)), after=0) as deltas:
            await anext(deltas)
        assert await engine.load() == Load(0, 1, 1)
        async with anyio.create_task_group() as draining:
            draining.start_soon(engine.drain, 10)
            gate.set()
        assert (await engine.jobs.get(first.job_id)).state is JobState.DONE
        assert (await engine.jobs.get(second.job_id)).state is JobState.QUEUED
    async with hosting(claude_comms_home) as engine:
        assert (await engine.jobs.wait(second.job_id, timeout_s=10)).state is JobState.DONE


async def test_what_was_acknowledged_of_instances_is_on_disk(claude_comms_home: Path) -> None:
    """Read by another connection, as if this process had been killed at this moment."""

    def kept() -> dict[str, str]:
        with closing(sqlite3.connect(claude_comms_home / "claude-comms.db")) as connection:
            return dict(connection.execute("SELECT name, state FROM roster").fetchall())

    async with hosting(claude_comms_home) as engine:
        await engine.instances.start(PAIR, name="mine")
        assert kept() == {"mine": "idle"}
        await engine.instances.pause("mine")
        assert kept() == {"mine": "paused"}
        await engine.instances.resume("mine")
        assert kept() == {"mine": "idle"}
        await engine.instances.stop("mine")
        assert kept() == {}


async def test_an_instance_that_cannot_be_kept_is_not_acknowledged(claude_comms_home: Path) -> None:
    async with hosting(claude_comms_home) as engine:
        with closing(sqlite3.connect(claude_comms_home / "claude-comms.db", isolation_level=None)) as other:
            other.execute("DROP TABLE roster")
        with pytest.raises(StoreError):
            await engine.instances.start(PAIR, name="mine")
        assert await engine.instances.list() == []


async def test_a_cost_limit_without_a_known_price_is_refused(claude_comms_home: Path) -> None:
    async with hosting(claude_comms_home) as engine:
        with pytest.raises(ConfigError, match="no price is known for claude-nobody-9"):
            await engine.instances.start(PAIR, model="claude-nobody-9", limits=InstanceLimits(max_cost_usd=1.0))


async def test_questions_that_wait_are_counted(claude_comms_home: Path) -> None:
    async with hosting(claude_comms_home, ScriptedBackend(Stall()), max_instances=1) as engine:
        turns = [await engine.ask(ASKED) for _ in range(3)]
        with anyio.fail_after(10):
            while (await engine.load()).questions_waiting < 2:
                await anyio.lowlevel.checkpoint()
        for turn in turns:
            await turn.close()


async def test_without_hosting_a_background_question_is_refused(claude_comms_home: Path) -> None:
    engine = LocalEngine(Settings.load({"home": claude_comms_home}))
    await engine.open()
    try:
        with pytest.raises(DaemonError, match="daemon start"):
            await engine.jobs.start(JobRequest(ASKED))
    finally:
        await engine.close()


async def test_diagnosis_names_what_is_wrong_with_the_pairs_to_keep_ready(claude_comms_home: Path) -> None:
    async def found(engine: LocalEngine) -> list[str]:
        return [check.detail for check in await engine.diagnose() if check.name == "prewarm" and check.ok is False]

    prewarm = {"marker/arangodb": 1, "nobody/arangodb": 1, "no pair": 1}
    backend = ScriptedBackend()
    async with hosting(claude_comms_home, backend, prewarm=prewarm) as engine:
        await engine.pool.fill_ready()
        unknown, malformed = await found(engine)
        assert "none is kept ready for nobody/arangodb: " in unknown
        assert "SOURCE/TARGET" in malformed
    backend.open_error = BackendUnavailableError("no key.")
    async with hosting(claude_comms_home, backend, prewarm={"marker/arangodb": 1}) as engine:
        await engine.pool.fill_ready()
        assert await found(engine) == ["none is kept ready for marker/arangodb: no key."]
        assert await engine.instances.list() == [], "it is tried again by itself, and no one has to stop it"
    async with hosting(claude_comms_home) as engine:
        assert await found(engine) == []
