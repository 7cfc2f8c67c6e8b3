"""How many processes start at once, and how long a line of theirs may be."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from claude_code_support import Talk, descendants

from claude_comms.background.backends.claude_code import ClaudeCodeBackend
from claude_comms.errors import BackendCrashedError
from claude_comms.testing import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.background.backends.claude_code._session import ClaudeCodeSession
    from claude_comms.testing import LoopbackAPI
    from claude_comms.types import InstanceSpec

pytestmark = pytest.mark.anyio

NEVER_READY = (
    "import sys\nif '--version' in sys.argv: print('2.1.329 (Claude Code)'); sys.exit()\nsys.stdin.buffer.read()"
)


def never_ready(folder: Path) -> Path:
    """A program that ends when its input ends, and shakes no hands."""
    binary = folder / "claude"
    binary.write_text(f"#!{sys.executable} -S\n{NEVER_READY}\n")
    binary.chmod(0o755)
    return binary


async def test_at_most_two_processes_start_at_once_and_the_others_follow(
    spec: InstanceSpec, api: LoopbackAPI, tmp_path: Path
) -> None:
    backend = ClaudeCodeBackend(tmp_path / "home", binary=never_ready(tmp_path), variables=api.environment())
    before = descendants()
    sessions = [await backend.open(spec) for _ in range(4)]

    def launchers() -> set[int]:
        return {session.pid for session in sessions if session.pid is not None}

    async def ask(number: int) -> None:
        with pytest.raises(BackendCrashedError):
            await Talk(sessions[number]).ask("one")

    async with anyio.create_task_group() as asking:
        for number in range(4):
            asking.start_soon(ask, number)
        with anyio.fail_after(30):
            while len(launchers()) < 2 or backend.warm.starting.statistics().tasks_waiting < 2:
                await anyio.sleep(0.01)
            first = launchers()
            assert len(first) == 2
            for session in sessions:
                if session.pid in first:
                    await session.close()
            while not launchers() - first or len(launchers() | first) < 4:
                await anyio.sleep(0.01)
            assert len(launchers()) == 2
            await backend.close()
    assert descendants() <= before


async def test_closing_the_backend_ends_questions_that_start_and_those_that_wait_to(
    spec: InstanceSpec, api: LoopbackAPI, tmp_path: Path
) -> None:
    before = descendants()
    backend = ClaudeCodeBackend(tmp_path / "home", binary=never_ready(tmp_path), variables=api.environment())
    sessions = [await backend.open(spec) for _ in range(4)]

    async def ask(number: int) -> None:
        with pytest.raises(BackendCrashedError):
            await Talk(sessions[number]).ask("one")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as asking:
            for number in range(4):
                asking.start_soon(ask, number)
            while backend.warm.starting.statistics().tasks_waiting < 2:
                await anyio.sleep(0.01)
            await backend.close()
    assert descendants() <= before


async def test_a_question_whose_session_is_closed_is_not_asked_again_on_a_new_process(
    talk: Talk, session: ClaudeCodeSession
) -> None:
    before = descendants()
    await talk.ask("one")
    asking = asyncio.create_task(talk.ask("two"))
    while not session._running or session._exchange is None:
        await anyio.lowlevel.checkpoint()
    await session.close()
    with pytest.raises(BackendCrashedError):
        await asking
    assert descendants() <= before


async def test_a_session_closed_while_a_question_waits_for_its_lease_starts_nothing(
    talk: Talk, session: ClaudeCodeSession, backend: ClaudeCodeBackend
) -> None:
    before = descendants()
    await talk.ask("one")
    await session.rest()
    assert talk.handle is not None
    lease = backend.workspace.lease(talk.handle.partition("@")[0])
    assert lease.take()
    asking = asyncio.create_task(talk.ask("two"))
    while not list((backend.workspace.config.parent / "scratch").iterdir()):
        await anyio.lowlevel.checkpoint()
    await session.close()
    lease.release()
    with pytest.raises(BackendCrashedError, match="was closed before"):
        await asking
    assert descendants() <= before


async def test_an_answer_of_five_megabytes_comes_whole(talk: Talk, api: LoopbackAPI) -> None:
    text = "A quite ordinary line.\n" * (5 * 1024 * 1024 // 23)
    api.answer(Answer(text))
    assert (await talk.ask("one")).text == text
    assert (await talk.ask("two")).text == "Answer to two"
