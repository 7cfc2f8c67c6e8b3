"""Instances started, asked and steered by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from claude_comms.communicator import AsyncInstanceManager, InstanceManager
from claude_comms.errors import (
    ConfigError,
    DeadlineExceededError,
    InstanceNotFoundError,
    InstanceStateError,
    TurnFailedError,
    UnknownModuleError,
)
from claude_comms.testing.scripted import ScriptedBackend, Stall
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
async def manager(claude_comms_home: Path, scripted: ScriptedBackend) -> AsyncIterator[AsyncInstanceManager]:
    async with AsyncInstanceManager({"home": claude_comms_home, "backend": "scripted"}, backends=[scripted]) as manager:
        yield manager


async def test_an_instance_is_started_found_asked_and_stopped(manager: AsyncInstanceManager) -> None:
    started = await manager.start("marker", "arangodb", name="mine")
    assert (started.state, started.source, started.target) == (InstanceState.IDLE, "marker", "arangodb")
    first = await manager.query("mine", "one")
    second = await manager.query(started.instance_id[:-2], "two")
    assert first.instance_id == second.instance_id == started.instance_id
    assert first.thread_id == second.thread_id
    info = await manager.get("mine")
    assert (info.turns, info.thread_id) == (2, first.thread_id)
    assert [item.instance_id for item in await manager.list()] == [started.instance_id]
    assert (await manager.stop("mine")).state is InstanceState.STOPPED
    assert await manager.list() == []
    with pytest.raises(InstanceStateError):
        await manager.query("mine", "three")


async def test_its_answers_stream(manager: AsyncInstanceManager) -> None:
    await manager.start("marker", "arangodb", name="mine")
    async with manager.stream("mine", "a question of several words") as stream:
        pieces = [piece async for piece in stream]
    assert len(pieces) > 1
    assert "".join(pieces) == stream.reply.response


async def test_a_paused_instance_lets_questions_wait_until_it_is_resumed(manager: AsyncInstanceManager) -> None:
    await manager.start("marker", "arangodb", name="mine")
    assert (await manager.pause("mine")).state is InstanceState.PAUSED
    with pytest.raises(DeadlineExceededError):
        await manager.query("mine", "one", deadline_s=0.1)
    answers: list[str] = []

    async def ask() -> None:
        answers.append((await manager.query("mine", "two")).response)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        await manager.resume("mine")
    assert answers == ["two"]


async def test_interrupting_ends_the_turn_and_not_the_instance(
    manager: AsyncInstanceManager, scripted: ScriptedBackend
) -> None:
    scripted.add(Stall(after="half"))
    await manager.start("marker", "arangodb", name="mine")
    async with manager.stream("mine", "one") as stream:
        async for _ in stream:
            assert (await manager.get("mine")).state is InstanceState.BUSY
            await manager.interrupt("mine")
            break
        with pytest.raises(TurnFailedError, match="interrupted"):
            await stream.wait()
    assert (await manager.query("mine", "two")).response == "two"


async def test_one_that_hibernates_answers_again(manager: AsyncInstanceManager, scripted: ScriptedBackend) -> None:
    await manager.start("marker", "arangodb", name="mine")
    first = await manager.query("mine", "one")
    assert (await manager.hibernate("mine")).state is InstanceState.HIBERNATED

    again = await manager.query("mine", "two")

    assert (again.response, again.thread_id, again.instance_id) == ("two", first.thread_id, first.instance_id)
    assert (await manager.get("mine")).state is InstanceState.IDLE


async def test_a_busy_one_does_not_hibernate(manager: AsyncInstanceManager, scripted: ScriptedBackend) -> None:
    scripted.add(Stall(after="half"))
    await manager.start("marker", "arangodb", name="mine")
    async with manager.stream("mine", "one") as stream:
        async for _ in stream:
            with pytest.raises(InstanceStateError, match="interrupt it"):
                await manager.hibernate("mine")
            break
        await manager.interrupt("mine")


async def test_what_is_wrong_is_told(manager: AsyncInstanceManager) -> None:
    with pytest.raises(UnknownModuleError):
        await manager.start("marker", "walrus")
    with pytest.raises(InstanceNotFoundError):
        await manager.get("nothing")
    await manager.start("marker", "arangodb", name="mine")
    with pytest.raises(ConfigError, match="mine"):
        await manager.start("marker", "arangodb", name="mine")


def test_the_synchronous_manager_does_the_same(claude_comms_home: Path) -> None:
    with InstanceManager({"home": claude_comms_home, "backend": "offline"}) as manager:
        started = manager.start("marker", "arangodb")
        assert manager.query(started.instance_id, "page blocks").backend == "offline"
        with manager.stream(started.instance_id, "page blocks") as stream:
            assert "".join(stream) == stream.reply.response
        assert manager.hibernate(started.instance_id).state is InstanceState.HIBERNATED
        assert manager.stop(started.instance_id).state is InstanceState.STOPPED
