"""One warm Claude Code process in the bridge, holding one session at a time."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from claude_comms.background.backends.claude_runtime.launch import LaunchFacts
from claude_comms.background.backends.claude_runtime.tenure import Tenure
from claude_comms.background.backends.mcp_bridge._failures import ConnectionLostError, RefusedError
from claude_comms.errors import (
    BackendCrashedError,
    BackendError,
    BackendProtocolError,
    BackendUnavailableError,
    ClaudeCommsError,
)
from claude_comms.jsonable import as_mapping
from claude_comms.text import printable, shorten
from claude_comms.types import BRIDGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_comms.background.backends.claude_runtime.leases import Lease
    from claude_comms.background.backends.claude_runtime.workspace import Workspace
    from claude_comms.background.backends.mcp_bridge._client import Client, RemoteTurn
    from claude_comms.background.backends.mcp_bridge._link import Link
    from claude_comms.types import TurnRequest

__all__ = ["BridgeConnection", "Launch"]

_CLEAR_S = 10.0
_CLOSE_S = 0.8
_CONNECTED = "connected"


class Launch(LaunchFacts):
    """All that is fixed when a process starts, and how the bridge is told of it."""

    __slots__ = ()

    def parameters(self) -> dict[str, Any]:
        """The same as the bridge's `open` has it; of `resume`, all but what is resumed."""
        servers = self.scratch.told_servers(self.confinement.servers)
        return {
            "session": self.session_id,
            "directory": str(self.directory),
            "system": self.system,
            "model": self.model,
            "max_output_tokens": self.max_output_tokens,
            "tools": list(self.confinement.tools),
            "directories": [str(path) for path in dict.fromkeys(self.confinement.directories)],
            "mcp_servers": {
                name: {"definition": definition, "tools": self.confinement.tools_of(name)}
                for name, definition in servers.items()
            },
            "environment": dict(self.environment),
            "binary": str(self.binary),
            "scratch": str(self.scratch.folder),
        }


class BridgeConnection:
    """A session in the bridge, and the process that holds it. One task asks; `close` may be called twice.

    `lease` is taken, and `kept` says whether a handle of the session is out in the world; see `Tenure`.
    """

    def __init__(self, link: Link, launch: Launch, workspace: Workspace, lease: Lease, *, kept: bool) -> None:
        self.launch = launch
        self.model = launch.model
        self.used = launch.resume is not None
        """Whether the session holds anything yet."""
        self.last_byte = 0.0
        """When the process last gave a sign of life, on `anyio.current_time()`'s clock."""
        self._quiet_since = 0.0
        self._tenure = Tenure(
            workspace, launch.scratch, lease, session_id=launch.session_id, position=launch.position, kept=kept
        )
        self._link = link
        self._client: Client | None = None
        self._pid: int | None = None
        self._servers: list[Mapping[str, Any]] = []
        self._opened = False
        self._dead = anyio.Event()
        self._how = ""
        self._stderr_tail = ""
        self._starting: anyio.CancelScope | None = None
        self._leaving = False

    # --- life ---

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._opened and not self._dead.is_set() and not self._leaving and self._link.process is not None

    @property
    def pid(self) -> int | None:
        """The process id of its launcher, the root of the process tree, while it runs."""
        return None if self._dead.is_set() else self._pid

    @property
    def handle(self) -> str:
        """What finds this session again, up to its last complete answer."""
        return self._tenure.handle

    @property
    def gone(self) -> anyio.Event:
        """Set once the process has ended and everything of it was let go of."""
        return self._tenure.gone

    @property
    def session_id(self) -> str:
        """Its id in the bridge."""
        return self._tenure.session_id

    @property
    def quiet_s(self) -> float:
        """Seconds since its last sign of life, or since the end of a silence that was expected."""
        return anyio.current_time() - self._quiet_since

    def heard(self) -> None:
        """Note a sign of life."""
        self.last_byte = anyio.current_time()
        self._quiet_since = max(self._quiet_since, self.last_byte)

    def expect_quiet(self, seconds: float) -> None:
        """Do not count the next `seconds` as silence."""
        self._quiet_since = anyio.current_time() + seconds

    async def look(self, within_s: float) -> None:
        """Learn from the bridge when the process last gave a sign of life: it does not tell of each."""
        with suppress(RefusedError, ConnectionLostError, TimeoutError, ClaudeCommsError):
            told = await self._open_client().call("health", {}, timeout_s=within_s)
            for entry in told["sessions"]:
                if entry["session"] == self.session_id and entry["last_alive_at"] is not None:
                    age_s = (datetime.now(UTC) - datetime.fromisoformat(entry["last_alive_at"])).total_seconds()
                    self.last_byte = max(self.last_byte, anyio.current_time() - max(0.0, age_s))
                    self._quiet_since = max(self._quiet_since, self.last_byte)

    def lose(self, how: str, stderr_tail: str = "") -> None:
        """Its process has died."""
        if not self._dead.is_set():
            self._how, self._stderr_tail = printable(how), printable(stderr_tail)
            self._dead.set()

    async def died(self) -> str | None:
        """Wait for its process's end; how it died, or None where it was stopped."""
        await self._dead.wait()
        return None if self._leaving else self._how

    def crashed(self) -> BackendCrashedError:
        """The error that says how it died."""
        said = f" It said: {shorten(self._stderr_tail, 500)}" if self._stderr_tail else ""
        return BackendCrashedError(
            f"Claude Code {self._how or 'ended'} in the middle of its work.{said}"
            " The next question starts a new process.",
            stderr_tail=self._stderr_tail,
            backend=BRIDGE,
        )

    async def start(self, timeout_s: float) -> None:
        """Start the process and shake hands. BackendCrashedError when it dies or does not answer in time.

        However it fails, `close` or `abandon` must follow.
        """
        if self._leaving:
            raise self.crashed()
        self._tenure.note()
        try:
            with anyio.CancelScope() as self._starting, anyio.fail_after(timeout_s):
                self._client = await self._link.client()
                self._link.join(self)
                await self._open()
            if self._starting.cancelled_caught:
                raise self.crashed()
        except TimeoutError as error:
            raise BackendCrashedError(
                f"Claude Code did not answer within {timeout_s:.0f} s of its start. Ask again.", backend=BRIDGE
            ) from error

    async def _open(self) -> None:
        method, parameters = "open", self.launch.parameters()
        if self.launch.resume is not None:
            # The bridge has a session once. Whoever kept it warm is idle, for its lease is ours.
            for other in self._link.holders(self.session_id):
                if other is not self:
                    await other.close()
            method, parameters["transcript"] = "resume", str(self.launch.resume)
            if self.launch.position is not None:
                parameters["position"] = self.launch.position
        try:
            told = await self._call(method, parameters, timeout_s=float("inf"))
        except BackendUnavailableError as error:
            for name in self.launch.confinement.servers:  # the bridge does not know where it is defined
                if f'MCP server "{name}"' in str(error):
                    error.args = (f"{error.args[0]} See [mcp_servers.{name}] in config.toml.",)
            raise
        if told["session"] != self.session_id:
            raise BackendProtocolError("the bridge opened another session than it was asked for.", backend=BRIDGE)
        self._pid, self._servers, self._opened = told["pid"], list(told["servers"]), True
        self.heard()

    async def reach_servers(self, timeout_s: float) -> None:  # the bridge has waited for them
        """BackendUnavailableError names an MCP server that was granted and is not connected."""
        told = {entry["name"]: entry for entry in self._servers}
        for name in self.launch.confinement.servers:
            entry = as_mapping(told.get(name))
            if entry.get("status") != _CONNECTED:
                reason = str(entry.get("error") or entry.get("status") or "it did not answer in time")
                raise BackendUnavailableError(
                    f"the MCP server {name!r}, which was granted, cannot be used: {shorten(reason, 300)}."
                    f" Correct [mcp_servers.{name}] in config.toml.",
                    backend=BRIDGE,
                )

    async def prove(self, timeout_s: float) -> None:
        """Return once the process has answered a control request; TimeoutError after `timeout_s`."""
        try:
            with anyio.fail_after(timeout_s):
                self._client = await self._link.client()
                await self._client.call("health", {"prove": self.session_id}, timeout_s=timeout_s)
        except RefusedError as error:
            if error.kind == "timeout":
                raise TimeoutError(error.message) from error
            raise error.ours() from error
        except ConnectionLostError as error:
            raise await self._link.why_lost() from error
        self.heard()

    async def close(self) -> None:
        """Stop the process with all it started, and give up the lease. Bounded.

        For any task of the loop: a `start` that is under way or still to come ends in BackendCrashedError.
        """
        self._leaving = True
        if self._starting is not None:
            self._starting.cancel()
        with anyio.CancelScope(shield=True):
            if not self._tenure.hold():
                # Its last words would land in a session that goes on elsewhere.
                self._kill()
            await self._stopped()
            self._link.leave(self)
            self._dead.set()
            await anyio.to_thread.run_sync(self.launch.scratch.remove)
        self._tenure.end()

    async def _stopped(self) -> None:
        if self._client is None:  # nothing was ever asked of the bridge
            return
        parameters = {"session": self.session_id, "discard": False}
        if not self._dead.is_set() and not await self._link.tell("close", parameters, timeout_s=_CLOSE_S):
            self._kill()

    def abandon(self) -> None:
        """Let go of everything without waiting."""
        self._leaving = True
        self._kill()
        self._link.leave(self)
        if self._client is not None:
            with suppress(RuntimeError):  # the event loop is gone: so will be the bridge
                parameters = {"session": self.session_id, "discard": False}
                self._link.later(self._link.tell("close", parameters, timeout_s=_CLOSE_S))
        self._dead.set()
        self.launch.scratch.remove()
        self._tenure.end()

    def _kill(self) -> None:
        """Have the launcher kill everything. Its process id is its own for as long as the bridge has not told of its
        death.
        """
        if self._pid is not None and not self._dead.is_set() and self._link.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self._pid, signal.SIGTERM)

    def hold(self) -> bool:
        """Take the session's lease. See `Tenure.hold`."""
        return self._tenure.hold()

    def release(self) -> None:
        """Give up the lease. See `Tenure.release`."""
        self._tenure.release()

    # --- asking ---

    def suits(self, request: TurnRequest) -> bool:
        """Whether what was fixed when the process started is what the question needs."""
        return self.launch.suits(request)

    async def propose(self, text: str, *, model: str, window: int) -> RemoteTurn:
        """A question that goes to the model with the turn's first credit."""
        self._client = await self._link.client()
        if not self.alive:
            raise self.crashed()
        try:
            turn = await self._client.begin_turn(self.session_id, text, model=model, window=window)
        except ConnectionLostError as error:
            raise await self._link.why_lost(asked=False) from error
        self.model, self.used = model, True
        self.heard()
        return turn

    async def why(self, error: Exception, *, asked: bool) -> BaseException:
        """What ended a turn, as an error of ours; `asked` says whether the question may have been put."""
        if isinstance(error, ConnectionLostError):
            return await self._link.why_lost(asked=asked)
        return error.ours() if isinstance(error, RefusedError) else error

    def answered(self, position: str | None) -> None:
        """Note that the session ends in a complete answer. See `Tenure.answered`."""
        self._tenure.answered(position)

    async def clear(self) -> bool:
        """Begin a new session in the same process, and hold its lease; False where that did not work."""
        parameters = {**self.launch.parameters(), "session": self.session_id, "reuse": self.session_id}
        try:
            told = await self._call("open", parameters, timeout_s=_CLEAR_S)
        except (BackendError, TimeoutError):
            return False
        if told["session"] == self.session_id or not self._tenure.moved(told["session"]):
            return False
        self._pid, self.used = told["pid"], False
        self.heard()
        return True

    async def _call(self, method: str, parameters: Mapping[str, Any], *, timeout_s: float) -> Mapping[str, Any]:
        try:
            return await self._open_client().call(method, parameters, timeout_s=timeout_s)
        except RefusedError as error:
            raise error.ours() from error
        except ConnectionLostError as error:
            raise await self._link.why_lost(asked=False) from error

    def _open_client(self) -> Client:
        if self._client is None:
            raise self.crashed()
        return self._client
