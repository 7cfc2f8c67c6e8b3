"""Processes killed at random moments: nothing is lost, nothing is asked twice, nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
from bridge_support import bridge_settings, times_asked
from claude_code_support import Talk, descendants

from claude_comms.background.backends.mcp_bridge._link import StormLimit
from claude_comms.background.backends.mcp_bridge._own import OwnBridge
from claude_comms.errors import BackendCrashedError, BackendError, TurnFailedError
from claude_comms.testing import Answer, LoopbackAPI

if TYPE_CHECKING:
    from node_support import InstalledBridge

    from claude_comms.types import InstanceSpec

pytestmark = pytest.mark.anyio

SEEDS = (20261121, 20261122)
KILLS = int(os.environ.get("CLAUDE_COMMS_BRIDGE_KILLS", "50")) // len(SEEDS)
"""For each of the conversations: two workers can share them."""
PIECES = ("a", "b", "c", "d")


def node_processes() -> list[int]:
    """The Node processes below us."""
    found: list[int] = []
    for pid in descendants():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if Path(os.fsdecode(words[0])).name == "node" and b"serve" in words:
                found.append(pid)
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_bridge_killed_at_random_answers_or_says_why_and_asks_nothing_twice(
    tmp_path: Path, spec: InstanceSpec, installed: InstalledBridge, seed: int
) -> None:
    chance = random.Random(seed)
    before = descendants()
    with LoopbackAPI(lambda _: Answer(pieces=PIECES, pause_s=0.02)) as api:
        backend = OwnBridge(
            bridge_settings(tmp_path / "home", api, installed), storm=StormLimit(starts=10 * KILLS, within_s=180.0)
        )
        talk = Talk(await backend.open(spec))
        await talk.ask("question 0")
        asked, failed, killed, rebuilt, number = ["question 0"], 0, 0, 0, 0
        while killed < KILLS:
            number += 1
            assert number <= 4 * KILLS, "hardly ever was there a bridge to kill"
            after_s, question = chance.uniform(0, 0.5), f"question {number}"
            async with anyio.create_task_group() as tasks:

                async def kill(after_s: float = after_s) -> None:
                    nonlocal killed
                    await anyio.sleep(after_s)
                    for pid in node_processes():
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                            killed += 1

                tasks.start_soon(kill)
                try:
                    result = await talk.ask(question, deadline=anyio.current_time() + 30)
                except BackendError as error:
                    assert isinstance(error, BackendCrashedError | TurnFailedError), error
                    assert "".join(PIECES).startswith(error.partial)
                    failed += 1
                else:
                    assert result.text == "".join(PIECES)
                    rebuilt += bool(result.rebuilt)
                    asked.append(question)
                    sent = [text.splitlines()[-1] for role, text in api.requests.messages[-1].thread if role == "user"]
                    assert sent == asked
            assert times_asked(api, question) <= 1
        last = await talk.ask("the last")
        assert (last.text, rebuilt) == ("".join(PIECES), 0)
        assert all(times_asked(api, question) == 1 for question in asked)
        assert failed + len(asked) == number + 1
        assert 0 < failed < number
        await backend.close()
    assert descendants() <= before
    assert list((tmp_path / "home" / "claude-code" / "scratch").glob("*")) == []


async def test_our_own_death_leaves_nothing_of_the_bridge(
    tmp_path: Path, module_path: Path, installed: InstalledBridge, api: LoopbackAPI
) -> None:
    program = Path(__file__).with_name("asking_program.py")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(  # noqa: ASYNC220 - it is read in a thread
        [sys.executable, program, api.base_url, tmp_path / "home", module_path, *installed.command],
        stdout=subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        with anyio.fail_after(30):
            assert await anyio.to_thread.run_sync(child.stdout.readline) == b"Answer to one\n"
        below = descendants(child.pid)
        assert len(below) >= 4  # two launchers, Node, Claude Code
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    with anyio.fail_after(10):
        while [pid for pid in below if Path(f"/proc/{pid}").exists()]:
            await anyio.sleep(0.05)


async def test_a_bridge_that_cannot_live_is_not_started_for_ever(
    tmp_path: Path, spec: InstanceSpec, api: LoopbackAPI, installed: InstalledBridge
) -> None:
    program = tmp_path / "bridge.py"
    program.write_text("import sys\nprint('no such module: ws', file=sys.stderr)\nsys.exit(1)\n")
    settings = bridge_settings(tmp_path / "home", api, installed, bridge_command=(sys.executable, str(program)))
    backend = OwnBridge(settings, storm=StormLimit(starts=3, within_s=180.0))
    talk = Talk(await backend.open(spec))
    for _ in range(3):
        with pytest.raises(BackendError, match="no such module: ws"):
            await talk.ask("one")
    with pytest.raises(BackendError, match="was started 3 times within 180 s") as raised:
        await talk.ask("one")
    assert "claude-comms doctor" in str(raised.value)
    await backend.close()
