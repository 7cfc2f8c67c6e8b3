"""The backend: finds Claude Code, says whether it can be used, and opens sessions."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

import anyio.to_thread

from claude_comms.background.backends.claude_runtime.binary import (
    SDK_VERSION,
    Binary,
    dotted,
    find_binary,
    sdk_version,
)
from claude_comms.background.backends.claude_runtime.confinement import Confinement
from claude_comms.background.backends.claude_runtime.login import login_of, not_logged_in, unusable
from claude_comms.background.backends.claude_runtime.place import require_directory
from claude_comms.background.backends.claude_runtime.versions import known_versions
from claude_comms.background.backends.claude_runtime.warm import WarmSessions
from claude_comms.background.backends.claude_runtime.workspace import Workspace
from claude_comms.background.backends.protocol import BackendHealth
from claude_comms.errors import BackendUnavailableError, ClaudeCommsError
from claude_comms.types import CLAUDE_CODE, BackendFeatures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import ModuleType

    from claude_comms.background.backends.claude_code._interactive import InteractiveSession
    from claude_comms.background.backends.claude_code._session import ClaudeCodeSession, Limits
    from claude_comms.background.backends.claude_runtime.workspace import Scratch
    from claude_comms.mcp_servers import McpServer
    from claude_comms.types import InstanceSpec, TurnRequest

__all__ = ["ClaudeCodeBackend", "look_for_claude_code"]

_EXTRA = "claude-code"


class ClaudeCodeBackend:
    """Answers by Claude Code processes that sit in the target modules' directories.

    `home` is claude-comms' own: sessions, logins and scratch files live in ``claude-code/`` below it. `binary`
    overrides where Claude Code is looked for. `variables` are set for its processes beside those of
    `_workspace.PASSED_ON`, and win over them; they may name an API key and address. At most two processes start
    at once: a start costs seconds of processor time. At most `most_idle` processes stay warm without anything to do.
    `mcp_servers` are those that the user has defined; an instance gets the ones that it was granted.
    """

    def __init__(
        self,
        home: Path,
        *,
        binary: Path | None = None,
        variables: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        most_idle: int = 8,
        mcp_servers: Mapping[str, McpServer] | None = None,
    ) -> None:
        self.workspace = Workspace(home)
        self._home = home
        self._setting = binary
        self._variables = dict(variables or {})
        self._limits = limits
        self.warm = WarmSessions(self.workspace, most_idle)
        self._mcp_servers = dict(mcp_servers or {})
        self._found: tuple[Binary, tuple[int, int, int]] | None = None

    @property
    def name(self) -> str:
        """``claude-code``."""
        return CLAUDE_CODE

    @property
    def features(self) -> BackendFeatures:
        """All of them."""
        return BackendFeatures(streaming=True, resume=True, tools=True, interrupt=True, structured=True)

    async def open(self, spec: InstanceSpec) -> ClaudeCodeSession:
        """A session whose process starts with the first question. See `Backend.open`."""
        require_directory(spec)
        confinement = Confinement(spec, self._mcp_servers)
        if self._found is None:
            self._found = await anyio.to_thread.run_sync(self._find, abandon_on_cancel=True)
        await anyio.to_thread.run_sync(self.workspace.open)
        # The SDK takes half a second to import: once, and not on the loop.
        module = await anyio.to_thread.run_sync(_session_module)
        session: ClaudeCodeSession = module.ClaudeCodeSession(self, spec, confinement, self._limits or module.Limits())
        self.warm.add(session)
        return session

    def in_terminal(self, spec: InstanceSpec, request: TurnRequest) -> InteractiveSession:
        """An interactive Claude Code that goes on where `request`'s session stands, as confined as an instance of
        `spec`. Nothing runs yet. Raises what `open` raises. It waits: not for an event loop.
        """
        from claude_comms.background.backends.claude_code._interactive import InteractiveSession

        require_directory(spec)
        confinement = Confinement(spec, self._mcp_servers)
        if self._found is None:
            self._found = self._find()
        self.workspace.open()
        return InteractiveSession(self, spec, confinement, request)

    async def health(self) -> BackendHealth:
        """Whether the SDK, a binary of a known version, and credentials are there. Asks nobody."""
        facts = {"SDK": sdk_version() or "missing", "configuration": str(self.workspace.config)}
        try:
            binary, version = await anyio.to_thread.run_sync(lambda: self._find(fresh=True))
        except ClaudeCommsError as error:
            return unusable(error, facts)
        facts |= {"binary": f"{binary.path} ({binary.origin})", "version": dotted(version)}
        credentials = login_of(self._variables, self.workspace)
        if credentials is None:
            return not_logged_in(self.workspace, binary, facts)
        facts["credentials"] = credentials
        return BackendHealth(
            usable=True, reason=f"Claude Code {dotted(version)} from {binary.origin}, {credentials}", facts=facts
        )

    async def close(self) -> None:
        """Stop every process that is left. May be called twice."""
        await self.warm.close()

    # --- what sessions need ---

    @property
    def binary(self) -> Path:
        """Where Claude Code is. Known once a session has been opened."""
        return self._known[0].path

    @property
    def version(self) -> str:
        """Claude Code's version."""
        return dotted(self._known[1])

    def environment(self, spec: InstanceSpec, scratch: Scratch, max_output_tokens: int) -> dict[str, str]:
        """The whole environment of a process; the instance's own variables win over the usual ones."""
        return self.workspace.environment(
            os.environ,
            scratch,
            given={**self._variables, **dict(spec.environment)},
            max_output_tokens=max_output_tokens,
        )

    @property
    def _known(self) -> tuple[Binary, tuple[int, int, int]]:
        if self._found is None:
            raise BackendUnavailableError("no session has been opened yet.", backend=CLAUDE_CODE)
        return self._found

    def _find(self, *, fresh: bool = False) -> tuple[Binary, tuple[int, int, int]]:
        binary = _located(self._setting)
        return binary, known_versions(self._home).accepted(binary.path, fresh=fresh)


def look_for_claude_code(home: Path, setting: Path | None, variables: Mapping[str, str]) -> BackendHealth:
    """The same finding as `ClaudeCodeBackend.health`, cheap enough for each question: a binary that is met for the
    first time is run for its version, for 3 s at most; from then on it is only looked at.
    """
    workspace = Workspace(home)
    try:
        binary = _located(setting)
        credentials = login_of(variables, workspace)
        if credentials is None:
            return not_logged_in(workspace, binary, {})
        version = known_versions(home).accepted(binary.path)
    except ClaudeCommsError as error:
        return unusable(error, {})
    reason = f"Claude Code {dotted(version)} was found ({binary.origin}), {credentials}"
    return BackendHealth(usable=True, reason=reason)


def _located(setting: Path | None) -> Binary:
    """The binary, where the SDK is the one we know. BackendUnavailableError says what to install."""
    installed = sdk_version()
    if installed is None:
        raise BackendUnavailableError(
            f"the Agent SDK is not installed. Install it: pip install 'claude-module-comms[{_EXTRA}]'",
            backend=CLAUDE_CODE,
        )
    if installed != SDK_VERSION:
        raise BackendUnavailableError(
            f"claude-agent-sdk {installed} is installed, and only {SDK_VERSION} is known to work."
            f" Install it: pip install 'claude-module-comms[{_EXTRA}]'",
            backend=CLAUDE_CODE,
        )
    binary = find_binary(setting)
    if binary is None:
        where = f"at {setting}" if setting is not None else "beside the Agent SDK or on PATH"
        raise BackendUnavailableError(
            f"no Claude Code binary {where}. Install Claude Code, or set claude_code_binary to it.",
            backend=CLAUDE_CODE,
        )
    return binary


def _session_module() -> ModuleType:
    return import_module("claude_comms.background.backends.claude_code._session")
