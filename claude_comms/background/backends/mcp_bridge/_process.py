"""The bridge as a process of ours: started under the launcher, known by the line that it announces itself with."""

from __future__ import annotations

import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from claude_comms.background.backends.claude_runtime import process as claude_process
from claude_comms.background.backends.claude_runtime.orphans import MARK
from claude_comms.background.backends.claude_runtime.process import LaunchedProcess
from claude_comms.errors import BackendCrashedError, BackendUnavailableError
from claude_comms.files import write_private
from claude_comms.jsonable import as_mapping
from claude_comms.text import shorten
from claude_comms.types import BRIDGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.background.backends.claude_runtime.workspace import Scratch, Workspace

__all__ = ["BridgeProcess"]

_PASSED_ON = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ")
"""All that the bridge needs to know: each process of Claude Code gets an environment of its own from us."""

_END_WITHIN_S = 0.5
_DEATH_SEEN_WITHIN_S = 0.3
_DEATH_TICK_S = 0.01
_SWEPT_WITHIN_S = 3.0
_LAUNCHER = Path(claude_process.__file__).with_name("_launcher.py")


@dataclass(frozen=True, slots=True)
class _Announcement:
    port: int
    pid: int


class BridgeProcess:
    """One bridge. It, and all that it started, ends with this process, however that ends."""

    def __init__(self, argv: Sequence[str], workspace: Workspace) -> None:
        self._argv = argv
        self._workspace = workspace
        self._scratch: Scratch | None = None
        self._process = LaunchedProcess("the bridge process", backend=BRIDGE)
        self.token = ""
        self.port = 0
        self._node_pid = 0

    async def start(self, timeout_s: float) -> None:
        """Run it until it listens. BackendUnavailableError where it ends by itself, with what it said, or says nothing;
        BackendCrashedError where it is killed.

        However it fails, `stop` must follow.
        """
        scratch = await anyio.to_thread.run_sync(self._prepared)
        await self._process.start(self._argv_with(scratch), directory=scratch.folder, environment=_environment(scratch))
        try:
            with anyio.fail_after(timeout_s):
                line = await self._process.read_line()
        except TimeoutError as error:
            raise self._unusable(f"it did not come up within {timeout_s:.0f} s") from error
        except BackendCrashedError as error:
            if error.exit_code is None or error.exit_code < 0:  # somebody killed it, which says nothing against it
                raise
            raise self._unusable(f"it exited with code {error.exit_code}") from error
        announced = _announced(line)
        if announced is None:
            raise self._unusable(f"it announced itself as {shorten(line.decode('utf-8', 'replace'), 200)!r}")
        self.port, self._node_pid = announced.port, announced.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.alive

    @property
    def pid(self) -> int | None:
        """The launcher's process id: the root of the bridge's process tree."""
        return self._process.pid

    async def died(self) -> str | None:
        """Wait for its end; how it died, or None where it was stopped."""
        return await self._process.died()

    async def is_dying(self) -> bool:
        """Whether it has died, now that its connection broke. Its end is told when all below it is gone, too."""
        with anyio.move_on_after(_DEATH_SEEN_WITHIN_S):
            while _is_there(self._node_pid):  # noqa: ASYNC110 - it is not our child: nobody tells of its end
                await anyio.sleep(_DEATH_TICK_S)
        if _is_there(self._node_pid):
            return False
        with anyio.move_on_after(_SWEPT_WITHIN_S):
            await self.died()
        return True

    def crashed(self) -> BackendCrashedError:
        """The error that says how it died."""
        return self._process.crashed()

    async def stop(self) -> None:
        """End it and everything it started, in bounded time."""
        with anyio.CancelScope(shield=True):
            await self._process.stop(grace_s=_END_WITHIN_S)
            if self._scratch is not None:
                await anyio.to_thread.run_sync(self._scratch.remove)

    def _prepared(self) -> Scratch:
        self._workspace.open()
        # At once: whoever waits for this may be cancelled, and then nobody else would know of it.
        self._scratch = scratch = self._workspace.scratch()
        self.token = secrets.token_urlsafe(32)
        write_private(scratch.token, self.token)
        return scratch

    def _argv_with(self, scratch: Scratch) -> list[str]:
        launcher = json.dumps([sys.executable, "-I", "-S", str(_LAUNCHER)])
        return [*self._argv, "serve", "--token-file", str(scratch.token), "--port", "0", "--launcher", launcher]

    def _unusable(self, problem: str) -> BackendUnavailableError:
        tail = self._process.stderr_tail
        said = f" It said: {shorten(tail, 500)}" if tail else ""
        return BackendUnavailableError(
            f"the bridge cannot be started ({' '.join(self._argv)}): {problem}.{said}"
            " See `claude-comms doctor`, or install it anew: claude-comms install bridge",
            backend=BRIDGE,
        )


def _environment(scratch: Scratch) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    folder = str(scratch.folder)
    return {"PATH": os.defpath, **passed, "HOME": folder, "TMPDIR": folder, "NODE_ENV": "production", MARK: folder}


def _is_there(pid: int) -> bool:
    """Whether the Node process still runs. Its parent, the launcher, collects it at once when it has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another's, which has got the number since
        return False
    return True


def _announced(line: bytes) -> _Announcement | None:
    try:
        told: Any = as_mapping(json.loads(line))
    except (ValueError, RecursionError):
        return None
    port, pid = told.get("port"), told.get("pid")
    if not isinstance(port, int) or not 0 < port < 65536 or not isinstance(pid, int) or pid < 1:
        return None
    return _Announcement(port, pid)
