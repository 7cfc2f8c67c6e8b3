"""Processes that are started before they are asked, and what can be seen of one."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from claude_code_support import MODEL, Talk, descendants

from claude_comms.background.backends.protocol import Observable, Warmable
from claude_comms.errors import BackendUnavailableError
from claude_comms.testing import Answer

if TYPE_CHECKING:
    from claude_comms.background.backends.claude_code import ClaudeCodeBackend
    from claude_comms.background.backends.claude_code._session import ClaudeCodeSession
    from claude_comms.testing import LoopbackAPI
    from claude_comms.types import InstanceSpec

pytestmark = pytest.mark.anyio


def pipes() -> set[str]:
    """The pipes that this process has open."""
    found: set[str] = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(link.readlink()))
    return {name for name in found if name.startswith("pipe:")}


async def test_the_first_question_to_a_warmed_session_starts_no_process(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    assert isinstance(session, Warmable)
    before = descendants()
    await session.warm(talk.request(""))
    warmed = descendants() - before
    assert len(warmed) == 2
    assert session.idle
    assert api.requests.messages == []
    result = await talk.ask("one")
    assert descendants() - before == warmed
    assert result.rebuilt == ""
    assert [text for role, text in api.requests.messages[-1].thread if role == "user"][-1].endswith("one")


async def test_warming_again_changes_nothing_and_keeps_the_conversation_that_is_there(
    talk: Talk, session: ClaudeCodeSession
) -> None:
    await session.warm(talk.request(""))
    await talk.ask("one")
    before = descendants()
    await session.warm(Talk(session).request(""))
    await talk.ask("two")
    assert descendants() == before


async def test_warming_for_another_system_prompt_starts_another_process(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    before = descendants()
    await session.warm(talk.request(""))
    talk.system = "You are the module, and it has changed."
    await session.warm(talk.request(""))
    warmed = descendants() - before
    assert len(warmed) == 2
    await talk.ask("one")
    assert descendants() - before == warmed
    assert any("it has changed" in text for text in api.requests.messages[-1].system)


async def test_a_warmed_session_that_is_asked_for_another_model_answers_with_that(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    await session.warm(replace(talk.request(""), model="claude-haiku-5-5"))
    await talk.ask("one")
    assert api.requests.messages[-1].body["model"] == MODEL


async def test_a_warmed_session_goes_on_with_a_stored_conversation(
    talk: Talk, session: ClaudeCodeSession, backend: ClaudeCodeBackend, spec: InstanceSpec
) -> None:
    await talk.ask("one")
    other = await backend.open(spec)
    await other.warm(Talk(other).request(""))
    assert (await talk.on(other).ask("two")).rebuilt == ""


async def test_a_session_that_was_warmed_for_nothing_leaves_nothing(
    talk: Talk, session: ClaudeCodeSession, backend: ClaudeCodeBackend
) -> None:
    before = descendants()
    await session.warm(talk.request(""))
    await session.close()
    assert descendants() == before
    assert list((backend.workspace.config / "projects").glob("*/*")) == []


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8])
async def test_a_start_that_is_cancelled_while_its_pipes_are_connected_closes_them(
    steps: int, talk: Talk, session: ClaudeCodeSession
) -> None:
    before = pipes()
    warming = asyncio.create_task(session.warm(talk.request("")))
    while session.pid is None:
        await anyio.lowlevel.checkpoint()
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    warming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await warming
    await session.close()
    with anyio.fail_after(5):
        while not pipes() <= before:
            await anyio.sleep(0.01)


async def test_warming_that_fails_or_is_cancelled_leaves_nothing_and_the_session_can_be_asked(
    talk: Talk, session: ClaudeCodeSession, backend: ClaudeCodeBackend, module_path: Path
) -> None:
    before = descendants()
    moved = module_path.rename(module_path.with_name("away"))
    with pytest.raises(BackendUnavailableError, match="is not a directory"):
        await session.warm(talk.request(""))
    moved.rename(module_path)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def give_up() -> None:
                while descendants() <= before:
                    await anyio.sleep(0.001)
                scope.cancel()

            tasks.start_soon(give_up)
            await session.warm(talk.request(""))
    assert scope.cancelled_caught
    assert descendants() <= before
    assert not session.idle
    assert (await talk.ask("one")).text == "Answer to one"


async def test_warmed_processes_count_among_the_idle_ones(backend: ClaudeCodeBackend, spec: InstanceSpec) -> None:
    backend.warm.most_idle = 2
    before = descendants()
    for _ in range(4):
        session = await backend.open(spec)
        await session.warm(Talk(session).request(""))
    assert len(descendants() - before) == 4


async def test_a_running_process_can_be_watched(talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI) -> None:
    assert isinstance(session, Observable)
    assert (session.pid, session.last_alive) == (None, None)
    before, begun = descendants(), anyio.current_time()
    await talk.ask("one")
    assert session.pid in descendants() - before
    assert os.getpgid(session.pid or 0) == session.pid
    first = session.last_alive
    assert first is not None
    assert begun <= first <= anyio.current_time()
    api.answer(Answer("two"))
    asked = anyio.current_time()
    await talk.ask("two")
    assert session.last_alive is not None
    assert asked <= session.last_alive <= anyio.current_time()
    await session.rest()
    assert (session.pid, session.last_alive) == (None, None)
