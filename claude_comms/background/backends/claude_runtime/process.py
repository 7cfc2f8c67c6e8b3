"""A process of ours: its three streams, its death, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from claude_comms.background.backends.claude_runtime.orphans import MARK, kill_marked
from claude_comms.errors import BackendCrashedError, BackendProtocolError, BackendUnavailableError
from claude_comms.text import printable, shorten
from claude_comms.types import CLAUDE_CODE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LaunchedProcess"]

_LAUNCHER = Path(__file__).with_name("_launcher.py")
_LONGEST_LINE_BYTES = 32 * 1024 * 1024
_STDERR_KEPT_BYTES = 8 * 1024
_DRAIN_S = 0.3
_EXIT_GRACE_S = 0.5
_KILL_WAIT_S = 0.5


class LaunchedProcess:
    """A program under the launcher, in a process group of its own. All methods belong to one event loop.

    `name` is what errors call it, and `backend` the one that they belong to.

    Lines of its stdout come from `read_line`; the last 8 kB of its stderr are kept for errors. Its death is seen
    at once (pidfd on Linux, the end of stdout elsewhere), whoever else may hold its pipes.
    """

    def __init__(self, name: str = "Claude Code", *, backend: str = CLAUDE_CODE) -> None:
        self._name = name
        self._backend = backend
        self._popen: subprocess.Popen[bytes] | None = None
        self._stdout = asyncio.StreamReader(limit=_LONGEST_LINE_BYTES)
        self._stdin: asyncio.StreamWriter | None = None
        self._pipes: list[asyncio.BaseTransport] = []
        self._stderr: deque[bytes] = deque()
        self._stderr_bytes = 0
        self._lifeline = -1
        self._pidfd = -1
        self._dead = asyncio.Event()
        self._stopping = False
        self._mark = ""
        self._sweeping: threading.Thread | None = None
        self._last_byte = 0.0
        self._quiet_since = 0.0

    # --- start ---

    async def start(self, argv: Sequence[str], *, directory: Path, environment: Mapping[str, str]) -> None:
        """Run `argv`. BackendUnavailableError where that is impossible, BackendCrashedError once it was stopped."""
        if self._stopping:
            raise self.crashed()
        self.heard()
        self._mark = environment.get(MARK, "")
        lifeline, self._lifeline = os.pipe()
        try:
            # Spawned in the loop's own thread: a short-lived thread must not be the parent.
            self._popen = subprocess.Popen(  # noqa: S603, ASYNC220 - argv is ours; the call returns within ms
                [sys.executable, "-I", "-S", str(_LAUNCHER), str(lifeline), *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory,
                env=dict(environment),
                pass_fds=(lifeline,),
                start_new_session=True,
            )
        except OSError as error:
            self._close_lifeline()
            raise BackendUnavailableError(
                f"cannot start {self._name} in {directory}: {error.strerror or error}."
                " Check that the directory exists.",
                backend=self._backend,
            ) from error
        finally:
            os.close(lifeline)
        await self._connect(self._popen)
        self._watch(self._popen)

    async def _connect(self, popen: subprocess.Popen[bytes]) -> None:
        loop = asyncio.get_running_loop()
        unconnected = [popen.stdin, popen.stderr, popen.stdout]
        try:
            transport, _ = await loop.connect_read_pipe(lambda: _Lines(self, self._stdout), unconnected.pop())
            self._pipes.append(transport)
            transport, _ = await loop.connect_read_pipe(lambda: _Tail(self), unconnected.pop())
            self._pipes.append(transport)
            writing, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, unconnected.pop())
        except BaseException:  # a cancellation: asyncio closes the one it was at
            for pipe in unconnected:
                if pipe is not None:
                    pipe.close()
            raise
        self._stdin = asyncio.StreamWriter(writing, protocol, None, loop)
        self._pipes.append(writing)

    def _watch(self, popen: subprocess.Popen[bytes]) -> None:
        if not hasattr(os, "pidfd_open"):
            return
        self._pidfd = os.pidfd_open(popen.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._died)

    # --- while it runs ---

    @property
    def pid(self) -> int | None:
        """The launcher's process id, while it runs."""
        return None if self._popen is None or self._dead.is_set() else self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it was started, has not died, and nobody is stopping it."""
        return self._popen is not None and not self._dead.is_set() and not self._stopping

    @property
    def quiet_s(self) -> float:
        """Seconds since its last byte on stdout or stderr, or since the end of a silence that was expected."""
        return asyncio.get_running_loop().time() - self._quiet_since

    @property
    def last_byte(self) -> float:
        """When its last byte came, on the event loop's clock; when it was started, before the first."""
        return self._last_byte

    @property
    def stderr_tail(self) -> str:
        """The end of what it wrote to stderr, without control characters."""
        return printable(b"".join(self._stderr).decode("utf-8", "replace")).strip()

    async def write(self, data: bytes) -> None:
        """Send to its stdin. BackendCrashedError once it is dead."""
        if self._stdin is None or not self.alive:
            raise self.crashed()
        try:
            self._stdin.write(data)
            await self._stdin.drain()
        except (OSError, RuntimeError) as error:
            raise self.crashed() from error

    async def read_line(self) -> bytes:
        """The next line, or b"" once it has been stopped by us.

        BackendCrashedError when it died of itself, BackendProtocolError for a line of more than 32 MB.
        """
        try:
            line = await self._stdout.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return await self._ended(error.partial)
        except asyncio.LimitOverrunError as error:
            raise BackendProtocolError(
                f"{self._name} wrote a line of more than {_LONGEST_LINE_BYTES >> 20} MB. Ask again on a new process.",
                backend=self._backend,
            ) from error
        # What was received counts from when it is read: who reads it may have been slow.
        self.expect_quiet(0)
        return line

    async def _ended(self, rest: bytes) -> bytes:
        if self._stopping:
            return b""
        # stdout may close a moment before the launcher has swept up and ended.
        with anyio.move_on_after(_EXIT_GRACE_S):
            await self._dead.wait()
        if self._stopping:
            return b""
        error = self.crashed()
        if rest.strip():
            error.add_note(f"Its last line was cut: {shorten(rest.decode('utf-8', 'replace'), 200)}")
        raise error

    async def died(self) -> str | None:
        """Wait for its end; how it died, or None where it was stopped."""
        await self._dead.wait()
        return None if self._stopping else self._how

    @property
    def _how(self) -> str:
        code = None if self._popen is None else self._popen.poll()
        return "ended" if code is None else f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"

    def crashed(self) -> BackendCrashedError:
        """The error that says how it died."""
        code = None if self._popen is None else self._popen.poll()
        tail = self.stderr_tail
        said = f" It said: {shorten(tail, 500)}" if tail else ""
        return BackendCrashedError(
            f"{self._name} {self._how} in the middle of its work.{said} The next question starts a new process.",
            exit_code=code,
            stderr_tail=tail,
            backend=self._backend,
        )

    # --- end ---

    async def stop(self, *, grace_s: float | None = _EXIT_GRACE_S) -> None:
        """End it and everything it started, within 1.5 s: end of input, SIGTERM to the launcher, SIGKILL.

        With `grace_s` None it is not told by the end of its input, and does nothing any more. Where the launcher
        died without having swept, that is done here, within 2 s more.
        """
        self._stopping = True
        try:
            with anyio.CancelScope(shield=True):
                await self._stop(grace_s)
                await self._swept()
        finally:
            self.kill()

    async def _stop(self, grace_s: float | None) -> None:
        if grace_s is not None:
            if self._stdin is not None:
                self._stdin.close()
            await self._wait_dead(grace_s)
        self._close_lifeline()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._popen is not None and not self._dead.is_set():
                self._popen.send_signal(number)
                await self._wait_dead(_KILL_WAIT_S)

    def kill(self) -> None:
        """Let go of it without waiting: the launcher kills everything once the lifeline is closed."""
        self._stopping = True
        self._close_lifeline()
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()
        self._end_reading()
        if self._popen is not None and self._popen.poll() is None:
            reap = threading.Thread(target=self._reap, args=(self._popen,), name="claude-comms reaper", daemon=True)
            reap.start()
        elif self._popen is not None:
            self._sweep_after(self._popen)
        self._unwatch()

    def _reap(self, popen: subprocess.Popen[bytes]) -> None:
        popen.wait()
        self._sweep_after(popen)
        if self._sweeping is not None:
            self._sweeping.join()

    def _sweep_after(self, popen: subprocess.Popen[bytes]) -> None:
        """Kill what the launcher left, where it was killed itself: it had no time to. It also ends so where its
        program was killed, and then there is nothing to find.
        """
        if popen.returncode == -signal.SIGKILL and self._mark and self._sweeping is None:
            self._sweeping = threading.Thread(
                target=kill_marked, args=(self._mark,), name="claude-comms sweeper", daemon=True
            )
            self._sweeping.start()

    async def _swept(self) -> None:
        if self._popen is not None:
            self._sweep_after(self._popen)
        if self._sweeping is not None:
            await anyio.to_thread.run_sync(self._sweeping.join)

    async def _wait_dead(self, seconds: float) -> None:
        if self._popen is None:
            return
        with anyio.move_on_after(seconds):
            if self._pidfd >= 0:
                await self._dead.wait()
            while not self._dead.is_set():
                if self._popen.poll() is not None:
                    self._dead.set()
                await anyio.sleep(0.02)

    def _died(self) -> None:
        if self._popen is not None:
            self._popen.poll()
            self._sweep_after(self._popen)
        self._unwatch()
        self._dead.set()
        # A descendant that got away may hold stdout open: end the reading after what is in the pipe.
        asyncio.get_running_loop().call_later(_DRAIN_S, self._end_reading)

    def _end_reading(self) -> None:
        with suppress(AssertionError):
            self._stdout.feed_eof()

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _close_lifeline(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    # --- called by the pipes ---

    def heard(self) -> None:
        """Note that a byte came."""
        self._last_byte = self._quiet_since = asyncio.get_running_loop().time()

    def expect_quiet(self, seconds: float) -> None:
        """Do not count the next `seconds` as silence."""
        self._quiet_since = asyncio.get_running_loop().time() + seconds

    def keep_stderr(self, data: bytes) -> None:
        """Keep the last bytes of stderr."""
        self._stderr.append(data[-_STDERR_KEPT_BYTES:])
        self._stderr_bytes += len(self._stderr[-1])
        while self._stderr_bytes - len(self._stderr[0]) >= _STDERR_KEPT_BYTES:
            self._stderr_bytes -= len(self._stderr.popleft())


class _Lines(asyncio.StreamReaderProtocol):
    """Feeds stdout to the reader, and the reader's clock."""

    def __init__(self, process: LaunchedProcess, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._process = process

    def data_received(self, data: bytes) -> None:
        self._process.heard()
        super().data_received(data)


class _Tail(asyncio.Protocol):
    """Keeps the end of stderr."""

    def __init__(self, process: LaunchedProcess) -> None:
        self._process = process

    def data_received(self, data: bytes) -> None:
        self._process.heard()
        self._process.keep_stderr(data)
