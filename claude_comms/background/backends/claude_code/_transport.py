"""The Agent SDK's seam: its protocol goes over a process of ours, so that nothing it loses is lost here.

For claude-agent-sdk 0.2.186, whose own transport takes a cut line or an exit for the end of a turn, gives up
after a long line, hangs while a grandchild holds stdout, and hands on the whole environment.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import anyio
from claude_agent_sdk import Transport

from claude_comms.errors import BackendProtocolError
from claude_comms.text import shorten
from claude_comms.types import CLAUDE_CODE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from claude_comms.background.backends.claude_runtime.process import LaunchedProcess

__all__ = ["ProcessTransport"]

_MOST_NOISE_LINES = 100


class ProcessTransport(Transport):
    """Newline-separated JSON over a `LaunchedProcess`. Every end that was not asked for is a typed error."""

    def __init__(
        self, process: LaunchedProcess, argv: Sequence[str], directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._process = process
        self._argv = tuple(argv)
        self._directory = directory
        self._environment = environment
        self._writing = anyio.Lock()

    async def connect(self) -> None:
        """Start the process."""
        await self._process.start(self._argv, directory=self._directory, environment=self._environment)

    async def write(self, data: str) -> None:
        """Send one line. BackendCrashedError once the process is dead."""
        async with self._writing:
            await self._process.write(data.encode("utf-8", "replace"))

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Each line that is a JSON object, until we stop the process; else its crash, or BackendProtocolError."""
        noise = 0
        while line := await self._process.read_line():
            text = line.strip()
            if text.startswith(b"{"):
                yield _parsed(text)
                continue
            # Some builds write a remark to stdout now and then; something that only does so is not Claude Code.
            noise += bool(text)
            if noise > _MOST_NOISE_LINES:
                raise _broken(text)

    async def close(self) -> None:
        """Stop the process, in bounded time."""
        await self._process.stop()

    def is_ready(self) -> bool:
        """Whether it can be written to."""
        return self._process.alive

    async def end_input(self) -> None:
        """Nothing: only `close` ends the input of a session that stays warm."""


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _broken(line) from error
    if not isinstance(value, dict):
        raise _broken(line)
    return cast("dict[str, Any]", value)


def _broken(line: bytes) -> BackendProtocolError:
    said = shorten(line[:400].decode("utf-8", "replace"), 200)
    return BackendProtocolError(
        f"Claude Code wrote something that is not its protocol: {said!r}. The next question starts a new process;"
        " if it happens again, check the binary with: claude-comms doctor",
        line=said,
        backend=CLAUDE_CODE,
    )
