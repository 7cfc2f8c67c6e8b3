"""Whatever ends a turn, nothing of it is left, nothing is asked twice, and the next question is answered."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from claude_code_mcp_support import asked
from claude_code_support import descendants

from claude_comms.background._detached import Detached
from claude_comms.errors import BackendCrashedError, ClaudeCommsError, DeadlineExceededError, TurnFailedError
from claude_comms.testing import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_code_support import Talk

    from claude_comms.background.backends.mcp_bridge._stock import StockBridge
    from claude_comms.background.backends.mcp_bridge._stock_session import StockSession
    from claude_comms.testing import LoopbackAPI

pytestmark = pytest.mark.anyio


def running(word: str) -> list[int]:
    """Our processes with `word` in their command lines."""
    found: list[int] = []
    for pid in descendants():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if word.encode() in command and b"_launcher.py" not in command:
            found.append(pid)
    return found


async def ended(talk: Talk, api: LoopbackAPI, act: Callable[[], object]) -> ClaudeCommsError:
    """The error of a turn in which `act` is done once the API has its question and says no more."""
    api.fail(Fault.stall(after=0))
    before = len(api.requests.messages)
    errors: list[ClaudeCommsError] = []

    async def ask() -> None:
        try:
            await talk.ask("How long?")
        except ClaudeCommsError as error:
            errors.append(error)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await asked(api, before + 1)
            done = act()
            if hasattr(done, "__await__"):
                await done  # type: ignore[misc]
    assert len(api.requests.messages) == before + 1
    return errors[0]


async def test_a_server_that_is_killed_in_a_turn_is_told_and_replaced(
    talk: Talk, session: StockSession, api: LoopbackAPI
) -> None:
    await talk.ask("First?")
    error = await ended(talk, api, lambda: os.kill(running("server.js")[0], signal.SIGKILL))
    assert isinstance(error, BackendCrashedError)
    assert error.backend == "bridge"
    assert running("--dangerously-skip-permissions") == []
    assert session.pid is None
    assert (await talk.ask("Second?")).text == "Answer to Second?"


async def test_a_claude_code_that_is_killed_in_a_turn_is_told(talk: Talk, api: LoopbackAPI) -> None:
    error = await ended(talk, api, lambda: os.kill(running("--dangerously-skip-permissions")[0], signal.SIGKILL))
    assert isinstance(error, BackendCrashedError)
    assert "Claude Code was killed" in str(error)
    assert (await talk.ask("Second?")).text == "Answer to Second?"


async def test_an_interrupt_ends_the_turn_and_all_its_processes(
    talk: Talk, session: StockSession, api: LoopbackAPI
) -> None:
    error = await ended(talk, api, session.interrupt)
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.partial) == ("interrupted", "")
    assert running("server.js") == running("--dangerously-skip-permissions") == []
    assert (await talk.ask("Second?")).text == "Answer to Second?"


async def test_a_cancelled_turn_leaves_no_process(talk: Talk, api: LoopbackAPI) -> None:
    api.fail(Fault.stall(after=0))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk.ask, "How long?")
            await asked(api, 1)
            tasks.cancel_scope.cancel()
    assert running("server.js") == running("--dangerously-skip-permissions") == []


async def test_a_turn_ends_at_its_deadline_with_its_processes(talk: Talk, api: LoopbackAPI) -> None:
    api.fail(Fault.stall(after=0))
    with pytest.raises(DeadlineExceededError):
        await talk.ask("How long?", deadline=anyio.current_time() + 2.0)
    assert running("server.js") == running("--dangerously-skip-permissions") == []


async def test_closing_the_backend_ends_a_running_turn(talk: Talk, backend: StockBridge, api: LoopbackAPI) -> None:
    assert isinstance(await ended(talk, api, backend.close), BackendCrashedError)
    with pytest.raises(BackendCrashedError, match="has been closed"):
        await talk.ask("Still there?")


async def test_a_turn_that_is_let_go_of_where_it_stands_leaves_no_process(talk: Talk, api: LoopbackAPI) -> None:
    api.fail(Fault.stall(after=0))
    before = descendants()

    async def ask() -> None:
        await talk.ask("How long?")

    turn = Detached(ask())
    await asked(api, 1)
    turn.let_go()
    assert await turn.wait(10)
    with anyio.fail_after(10):
        while descendants() - before:
            await anyio.sleep(0.01)


async def test_a_death_between_turns_is_told_at_once(talk: Talk, session: StockSession) -> None:
    await talk.ask("First?")
    told: list[str] = []

    async def watch() -> None:
        told.append(await session.died())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            os.kill(running("server.js")[0], signal.SIGKILL)
    assert told == ["claude-code-mcp was killed by signal 9"]
    assert session.pid is None
    assert (await talk.ask("Second?")).text == "Answer to Second?"


async def test_a_server_that_is_stopped_proves_nothing_in_time(talk: Talk, session: StockSession) -> None:
    await talk.ask("First?")
    await session.prove(10)
    (server,) = running("server.js")
    os.kill(server, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        await session.prove(0.2)
    os.kill(server, signal.SIGCONT)
