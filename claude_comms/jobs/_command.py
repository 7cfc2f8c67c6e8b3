"""A callback that is a command: run without a shell, in bounded time, with bounded output and few variables."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from claude_comms.errors import ConfigError
from claude_comms.text import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_command", "run_command"]

_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
"""And `CLAUDE_COMMS_HOME`, so that the command can ask for more: no credentials, whatever the daemon has."""
_MOST_OUTPUT = 64 * 1024
_SHOWN_WIDTH = 500
_KILL_WITHIN_S = 2.0
_CHUNK = 4096

# Should our process die, the command dies with it (PR_SET_PDEATHSIG, SIGKILL); what it started itself may not.
_DIE_WITH_US = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


def check_command(arguments: Sequence[str]) -> None:
    """ConfigError where `arguments` cannot be a command, or its program is not found."""
    if not arguments or not arguments[0]:
        raise ConfigError("callback: an empty command. Give a program and its arguments.")
    for number, argument in enumerate(arguments):
        if "\0" in argument:
            raise ConfigError(f"callback[{number}]: a zero character. Leave it out.")
    if shutil.which(arguments[0]) is None:
        raise ConfigError(f"callback: no program {arguments[0]!r} is found. Give its whole path.")


async def run_command(arguments: Sequence[str], stdin: bytes, *, timeout_s: float) -> str:
    """Run it with `stdin`, and say in one line what came of it. Never raises.

    It has ended once it has exited and nobody holds its output any more; a process group that has not ended within
    `timeout_s` seconds, or when the call is cancelled, is killed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *_dying_with_us(arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"failed: it could not be started: {shorten(str(error), _SHOWN_WIDTH)}"
    output = bytearray()
    finished = False
    try:
        with anyio.move_on_after(timeout_s):
            await _talk(process, stdin, output)
            finished = True
    finally:
        if not finished:
            with anyio.CancelScope(shield=True):
                await _end(process)
    return _told(process.returncode, output, timeout_s, finished=finished)


def _dying_with_us(arguments: Sequence[str]) -> list[str]:
    if not sys.platform.startswith("linux"):
        return list(arguments)
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_US, str(os.getpid()), *arguments]


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in (*_PASSED_ON, "CLAUDE_COMMS_HOME") if name in os.environ}


async def _talk(process: asyncio.subprocess.Process, stdin: bytes, output: bytearray) -> None:
    async with anyio.create_task_group() as both:
        both.start_soon(_write, process, stdin)
        both.start_soon(_read, process, output)
    await process.wait()


async def _write(process: asyncio.subprocess.Process, stdin: bytes) -> None:
    assert process.stdin is not None  # noqa: S101 - a pipe was asked for
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read
        process.stdin.write(stdin)
        await process.stdin.drain()
    process.stdin.close()


async def _read(process: asyncio.subprocess.Process, output: bytearray) -> None:
    """Keep the beginning; read on, so that a talkative command does not wait for us."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    while piece := await process.stdout.read(_CHUNK):
        output += piece[: _MOST_OUTPUT - len(output)]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of its group: the group's number is its own as long as anything of it lives."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.move_on_after(_KILL_WITHIN_S):
        await process.wait()


def _told(code: int | None, output: bytearray, timeout_s: float, *, finished: bool) -> str:
    said = shorten(output.decode("utf-8", "replace"), _SHOWN_WIDTH)
    end = f"exit {code}" if finished else f"failed: killed after {timeout_s:g} s"
    return f"{end}: {said}" if said else end
