"""However our process ends, nothing of a process tree is left: not Claude Code, not what its Bash had started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.lowlevel
import pytest
from claude_code_support import Talk, descendants

from claude_comms.background.backends.claude_runtime.orphans import MARK
from claude_comms.background.backends.claude_runtime.workspace import Workspace
from claude_comms.errors import BackendCrashedError, ConfigError
from claude_comms.files import private_dir
from claude_comms.testing import Answer, LoopbackAPI, ToolUse
from claude_comms.types import HistoryMessage, Role

if TYPE_CHECKING:
    from claude_comms.background.backends.claude_code import ClaudeCodeBackend
    from claude_comms.testing import RecordedRequest
    from claude_comms.types import InstanceSpec

HERE = Path(__file__).parent
WITHIN_S = 10.0


def ours(mark: str) -> set[int]:
    """All processes that have `mark` in their environment."""
    found: set[int] = set()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environment.read_bytes():
                found.add(int(environment.parent.name))
        except OSError:
            continue
    return found


def script(request: RecordedRequest) -> Answer:
    """The first question starts two processes that want to outlive everything; the second is never answered."""
    if "started" in str(request.body["messages"][-1]):
        return Answer("done")
    if request.question.endswith("second"):
        return Answer("never", delay_s=3600)
    command = "setsid sleep 4242 >/dev/null 2>&1 & (trap '' TERM HUP INT; sleep 4242) & disown -a; echo started"
    return Answer(blocks=(ToolUse("Bash", {"command": command, "description": "x"}),))


@pytest.mark.parametrize(
    ("ending", "number"),
    [("wait", signal.SIGKILL), ("wait", signal.SIGINT), ("wait", signal.SIGTERM), ("raise", None)],
)
def test_nothing_is_left_within_ten_seconds(ending: str, number: signal.Signals | None, tmp_path: Path) -> None:
    (tmp_path / "module").mkdir()
    mark = str(tmp_path / "home" / "claude-code")
    with LoopbackAPI(script) as api:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "asking_with_bash.py"), api.base_url, str(tmp_path / "home"),
             str(tmp_path / "module"), ending],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), *sys.path])},
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        if number is not None:
            assert len(ours(mark)) >= 4
            process.send_signal(number)
        process.wait(WITHIN_S)
        process.stdout.close()
        until = time.monotonic() + WITHIN_S
        while ours(mark) and time.monotonic() < until:
            time.sleep(0.01)
        assert ours(mark) == set()


@pytest.mark.anyio
@pytest.mark.parametrize("in_a_turn", [False, True])
async def test_nothing_is_left_within_ten_seconds_when_the_launcher_itself_is_killed(
    in_a_turn: bool, backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI, tmp_path: Path
) -> None:
    api.script = script
    session = await backend.open(replace(spec, grants=("Bash",)))
    talk = Talk(session)
    await talk.ask("first")
    mark = str(tmp_path / "home" / "claude-code")
    assert len(ours(mark)) >= 4
    asking = asyncio.create_task(talk.ask("second")) if in_a_turn else None
    while in_a_turn and not api.requests.messages[-1].question.endswith("second"):
        await anyio.sleep(0.01)
    assert session.pid is not None
    os.kill(session.pid, signal.SIGKILL)
    if asking is not None:
        with pytest.raises(BackendCrashedError):
            await asking
    with anyio.move_on_after(WITHIN_S):
        while ours(mark):
            await anyio.sleep(0.01)
    assert ours(mark) == set()


@pytest.mark.anyio
async def test_a_close_returns_when_what_a_killed_launcher_left_is_gone(
    backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI, tmp_path: Path
) -> None:
    api.script = script
    session = await backend.open(replace(spec, grants=("Bash",)))
    await Talk(session).ask("first")
    assert session.pid is not None
    os.kill(session.pid, signal.SIGKILL)
    await session.close()
    assert ours(str(tmp_path / "home" / "claude-code")) == set()


def test_what_a_process_of_ours_left_when_it_and_its_launcher_were_killed_is_swept_by_the_next_open(
    tmp_path: Path,
) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    workspace = Workspace(tmp_path / "home")
    workspace.open()
    left, lives = (tmp_path / "home" / "claude-code" / "scratch" / f"{pid}-ab" for pid in (dead.pid, os.getpid()))
    sleepers = {
        folder: subprocess.Popen(["sleep", "4242"], env={"PATH": os.environ["PATH"], MARK: str(private_dir(folder))})
        for folder in (left, lives)
    }
    try:
        Workspace(tmp_path / "home").open()
        assert sleepers[left].wait(WITHIN_S) == -signal.SIGKILL
        assert sleepers[lives].poll() is None
        assert not left.exists()
        assert lives.exists()
    finally:
        for sleeper in sleepers.values():
            sleeper.kill()
            sleeper.wait()


def scratch_folders(backend: ClaudeCodeBackend) -> list[Path]:
    return list((backend.workspace.config.parent / "scratch").iterdir())


@pytest.mark.anyio
@pytest.mark.parametrize("times", [1, 2])
async def test_a_start_cancelled_while_it_waits_among_the_others_leaves_nothing(
    times: int, talk: Talk, backend: ClaudeCodeBackend
) -> None:
    before = descendants()
    for other in range(2):
        backend.warm.starting.acquire_on_behalf_of_nowait(other)
    asking = asyncio.create_task(talk.ask("one"))
    while not backend.warm.starting.statistics().tasks_waiting:
        await anyio.lowlevel.checkpoint()
    assert len(scratch_folders(backend)) == 1
    for _ in range(times):
        asking.cancel()
        await anyio.lowlevel.checkpoint()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert scratch_folders(backend) == []
    assert descendants() == before


@pytest.mark.anyio
async def test_a_start_that_finds_no_place_for_its_session_leaves_nothing(
    talk: Talk, backend: ClaudeCodeBackend
) -> None:
    talk.history = [HistoryMessage(Role.QUESTION, "one"), HistoryMessage(Role.ANSWER, "Answer to one")]
    private_dir(backend.workspace.config)
    (backend.workspace.config / "projects").write_text("in the way")
    with pytest.raises(ConfigError):
        await talk.ask("two")
    assert scratch_folders(backend) == []
