"""An MCP server as a process of ours, for as long as its tools are asked for: bounded in what it may say.

The SDK's own stdio transport reads a line of any length; this one counts. The process leads a group of its own, and
the whole group is ended with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from typing import IO, TYPE_CHECKING

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from claude_comms.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client import Transport

    Received = MemoryObjectSendStream[SessionMessage | Exception]

__all__ = ["ServerProcess"]

_CHUNK_BYTES = 64 * 1024
_STDERR_TAIL_BYTES = 2_000
_POLL_S = 0.01
_POLLS = 100


class ServerProcess:
    """The server that `command` starts, with `environment` and nothing else of ours.

    `overrun` tells whether it was cut off for saying more than `max_bytes` on stdout; `stderr_tail` is the end of what
    it said on stderr.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], max_bytes: int) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._left_bytes = max_bytes
        self._tail = bytearray()
        self._popen: subprocess.Popen[bytes] | None = None
        self.overrun = False

    @property
    def stderr_tail(self) -> str:
        return self._tail.decode("utf-8", "replace").strip()

    def start(self) -> None:
        """ConfigError where the command cannot be run."""
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - the command that the user gave
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=self._environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigError(f"{self._command[0]} cannot be run: {said}. Check the command.") from error

    async def stop(self) -> None:
        """End the process and its group: its stdin closes, then SIGTERM, then SIGKILL, each with a second between."""
        popen = self._popen
        if popen is None:
            return
        with anyio.CancelScope(shield=True):
            for pipe in (popen.stdin, popen.stdout, popen.stderr):
                if pipe is not None:
                    pipe.close()
            if not await self._ends(popen):
                self._signal(popen, signal.SIGTERM)
                await self._ends(popen)
            self._signal(popen, signal.SIGKILL)  # whoever is left of its group, while its zombie holds the number
            await self._ends(popen)
            popen.poll()

    async def _ends(self, popen: subprocess.Popen[bytes]) -> bool:
        """Whether it ends within the grace."""
        for _ in range(_POLLS):
            if _has_ended(popen):
                return True
            await anyio.sleep(_POLL_S)
        return False

    def _signal(self, popen: subprocess.Popen[bytes], number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(popen.pid, number)

    def transport(self) -> Transport:
        """What an MCP client speaks through."""
        return self._transport()

    @asynccontextmanager
    async def _transport(
        self,
    ) -> AsyncGenerator[
        tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]
    ]:
        heard_in, heard = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        spoken, spoken_out = anyio.create_memory_object_stream[SessionMessage](0)
        async with heard_in, heard, spoken, spoken_out, anyio.create_task_group() as tasks:
            tasks.start_soon(self._hear, heard_in)
            tasks.start_soon(self._speak, spoken_out)
            tasks.start_soon(self._overhear)
            try:
                yield heard, spoken
            finally:
                tasks.cancel_scope.cancel()
                self._take_last_words()

    async def _hear(self, heard: Received) -> None:
        """Pass its messages on. Lines that are none are skipped: some servers log on stdout."""
        line = bytearray()
        async with heard:
            while chunk := await self._counted_chunk():
                *ended, rest = chunk.split(b"\n")
                for part in ended:
                    await self._pass_on(bytes(line + part), heard)
                    line.clear()
                line += rest

    async def _pass_on(self, line: bytes, heard: Received) -> None:
        try:
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            return
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await heard.send(SessionMessage(message))

    async def _overhear(self) -> None:
        """Keep the end of its stderr. How much it says there does not matter: nothing else is kept."""
        while chunk := await _chunk_of(self._popen.stderr if self._popen is not None else None):
            self._tail += chunk
            del self._tail[:-_STDERR_TAIL_BYTES]

    def _take_last_words(self) -> None:
        """What stands in its stderr by now: it may have ended before that was read."""
        pipe = self._popen.stderr if self._popen is not None else None
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            with suppress(BlockingIOError):
                self._tail += os.read(pipe.fileno(), _CHUNK_BYTES)
                del self._tail[:-_STDERR_TAIL_BYTES]

    async def _counted_chunk(self) -> bytes:
        """The next of its stdout; empty at the end, and once it has said too much."""
        chunk = await _chunk_of(self._popen.stdout if self._popen is not None else None)
        self._left_bytes -= len(chunk)
        self.overrun = self._left_bytes < 0
        return b"" if self.overrun else chunk

    async def _speak(self, spoken: MemoryObjectReceiveStream[SessionMessage]) -> None:
        pipe = self._popen.stdin if self._popen is not None else None
        if pipe is None:
            return
        os.set_blocking(pipe.fileno(), False)
        with suppress(OSError):  # it closed its stdin or ended: its stdout ends, too, or the deadline comes
            async for message in spoken:
                await _write(pipe.fileno(), message.message.model_dump_json(by_alias=True, exclude_unset=True))


def _has_ended(popen: subprocess.Popen[bytes]) -> bool:
    """Whether it is dead; it stays a zombie, so that its number means nobody else."""
    return os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


async def _chunk_of(pipe: IO[bytes] | None) -> bytes:
    if pipe is None:
        return b""
    await anyio.wait_readable(pipe)
    return os.read(pipe.fileno(), _CHUNK_BYTES)


async def _write(handle: int, line: str) -> None:
    data = f"{line}\n".encode()
    while data:
        await anyio.wait_writable(handle)
        with suppress(BlockingIOError):
            data = data[os.write(handle, data) :]
