"""A program under the launcher: its lines, its limits, and whose signals it gets."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from claude_comms.background.backends.claude_runtime.process import LaunchedProcess
from claude_comms.errors import BackendProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Start = Callable[[str], Awaitable[LaunchedProcess]]

pytestmark = pytest.mark.anyio

MB = 1024 * 1024


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    processes: list[LaunchedProcess] = []

    async def start(program: str) -> LaunchedProcess:
        processes.append(LaunchedProcess())
        await processes[-1].start(
            [sys.executable, "-I", "-S", "-c", program], directory=tmp_path, environment={"PATH": os.defpath}
        )
        return processes[-1]

    yield start
    for process in processes:
        await process.stop(grace_s=0)


def line_of(size_bytes: int) -> str:
    return f"import sys\nsys.stdout.write('x' * {size_bytes} + '\\nnext\\n'); sys.stdout.flush(); sys.stdin.read()"


@pytest.mark.parametrize("size_bytes", [1, 70_000, 5 * MB, 31 * MB])
async def test_a_line_of_up_to_32_mb_is_read_whole(size_bytes: int, start: Start) -> None:
    process = await start(line_of(size_bytes))
    with anyio.fail_after(30):
        assert await process.read_line() == b"x" * size_bytes + b"\n"
        assert await process.read_line() == b"next\n"


async def test_a_longer_line_is_a_typed_error(start: Start) -> None:
    process = await start(line_of(33 * MB))
    with anyio.fail_after(30), pytest.raises(BackendProtocolError, match="more than 32 MB"):
        await process.read_line()


async def test_it_is_in_a_session_of_its_own_so_that_a_ctrl_c_at_our_terminal_does_not_reach_it(start: Start) -> None:
    process = await start("import os\nprint(os.getsid(0), os.getpgid(0), flush=True)\nimport sys; sys.stdin.read()")
    with anyio.fail_after(30):
        session, group = (int(word) for word in (await process.read_line()).split())
    assert session == group == process.pid
    assert session != os.getsid(0)
    assert group != os.getpgid(0)


async def test_its_last_byte_is_no_later_for_a_silence_that_is_expected(start: Start) -> None:
    process = await start("import sys\nprint('x', flush=True); sys.stdin.read()")
    with anyio.fail_after(30):
        await process.read_line()
    came = process.last_byte
    process.expect_quiet(3600)
    assert process.quiet_s < -3000
    assert process.last_byte == came <= anyio.current_time()
