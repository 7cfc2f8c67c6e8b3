"""The backend over our own bridge: finds it, says whether it can be used, and opens sessions in it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import anyio.to_thread

from claude_comms.background.backends._login import login_variables
from claude_comms.background.backends.claude_runtime.binary import Binary, dotted, find_binary
from claude_comms.background.backends.claude_runtime.confinement import Confinement
from claude_comms.background.backends.claude_runtime.login import login_of, not_logged_in, unusable
from claude_comms.background.backends.claude_runtime.place import require_directory
from claude_comms.background.backends.claude_runtime.versions import known_versions
from claude_comms.background.backends.claude_runtime.warm import WarmSessions
from claude_comms.background.backends.claude_runtime.workspace import Workspace
from claude_comms.background.backends.mcp_bridge._node import Node, find_node
from claude_comms.background.backends.mcp_bridge._sources import BridgeProgram, find_bridge, npm_binary
from claude_comms.background.backends.protocol import BackendHealth
from claude_comms.errors import BackendUnavailableError, ClaudeCommsError
from claude_comms.types import BRIDGE, BackendFeatures

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.background.backends.claude_runtime.workspace import Scratch
    from claude_comms.background.backends.mcp_bridge._link import Link, StormLimit
    from claude_comms.background.backends.mcp_bridge._process import BridgeProcess
    from claude_comms.background.backends.mcp_bridge._session import BridgeSession, Limits
    from claude_comms.settings import Settings
    from claude_comms.types import InstanceSpec

__all__ = ["OwnBridge"]

_DISTRIBUTION = "claude-module-comms"
_ENTRYPOINT = {"CLAUDE_CODE_ENTRYPOINT": "sdk-ts"}


@dataclass(frozen=True, slots=True)
class _Found:
    """All that a session needs to be there."""

    program: BridgeProgram
    node: Node | None
    binary: Binary
    version: tuple[int, int, int]

    @property
    def argv(self) -> tuple[str, ...]:
        """How the bridge is started, by an absolute path."""
        if self.program.needs_node and self.node is not None:
            return (str(self.node.path), *self.program.argv)
        first, *others = self.program.argv
        return (shutil.which(first) or first, *others)


class OwnBridge:
    """Answers by Claude Code processes that live in one bridge process, which is started with the first question.

    Sessions, logins and scratch files are those of `claude-code`, below the same directory in the home.
    """

    def __init__(self, settings: Settings, *, limits: Limits | None = None, storm: StormLimit | None = None) -> None:
        self.workspace = Workspace(settings.home)
        self.warm = WarmSessions(self.workspace, settings.claude_code_warm)
        self._settings = settings
        self._variables = login_variables(settings)
        self._limits = limits
        self._storm = storm
        self._found: _Found | None = None
        self._link: Link | None = None

    @property
    def name(self) -> str:
        """``bridge``."""
        return BRIDGE

    @property
    def features(self) -> BackendFeatures:
        """All of them."""
        return BackendFeatures(streaming=True, resume=True, tools=True, interrupt=True, structured=True)

    async def open(self, spec: InstanceSpec) -> BridgeSession:
        """A session whose process starts with the first question. See `Backend.open`."""
        from claude_comms.background.backends.mcp_bridge._session import BridgeSession, Limits

        require_directory(spec, backend=BRIDGE)
        confinement = Confinement(spec, self._settings.mcp_servers)
        await self._look()
        await anyio.to_thread.run_sync(self.workspace.open)
        session = BridgeSession(self, spec, confinement, self._limits or Limits())
        self.warm.add(session)
        return session

    async def health(self) -> BackendHealth:
        """Whether Node, the bridge, Claude Code and credentials are there, and which. Asks nobody."""
        facts = {"configuration": str(self.workspace.config)}
        try:
            found = await anyio.to_thread.run_sync(lambda: self._find(facts, fresh=True))
        except ClaudeCommsError as error:
            return unusable(error, facts)
        login = login_of(self._variables, self.workspace)
        if login is None:
            return not_logged_in(self.workspace, found.binary, facts)
        facts["credentials"] = login
        reason = f"bridge {found.program.version or 'of unknown version'} from {found.program.origin}, {login}"
        return BackendHealth(usable=True, reason=reason, facts=facts)

    async def close(self) -> None:
        """Stop every process that is left, and the bridge. May be called twice."""
        try:
            await self.warm.close()
        finally:
            if self._link is not None:
                await self._link.close()

    # --- what sessions need ---

    @property
    def binary(self) -> Path:
        """Where Claude Code is. Known once a session has been opened."""
        return self._known.binary.path

    @property
    def version(self) -> str:
        """Claude Code's version."""
        return dotted(self._known.version)

    @property
    def link(self) -> Link:
        """The way to the bridge."""
        if self._link is None:
            from claude_comms.background.backends.mcp_bridge._link import Link, StormLimit

            self._link = Link(self._process, f"{_DISTRIBUTION}/{_own_version()}", self._storm or StormLimit())
        return self._link

    def environment(self, spec: InstanceSpec, scratch: Scratch, max_output_tokens: int) -> dict[str, str]:
        """The whole environment of a process of Claude Code; the instance's own variables win over the usual ones."""
        usual = self.workspace.environment(
            os.environ,
            scratch,
            given={**self._variables, **dict(spec.environment)},
            max_output_tokens=max_output_tokens,
        )
        return {**usual, **_ENTRYPOINT}

    async def _process(self) -> BridgeProcess:
        """A bridge process, not yet started. What was not there when the first session was opened may be by now."""
        from claude_comms.background.backends.mcp_bridge._process import BridgeProcess

        return BridgeProcess((await self._look()).argv, self.workspace)

    async def _look(self) -> _Found:
        if self._found is None:
            self._found = await anyio.to_thread.run_sync(lambda: self._find({}), abandon_on_cancel=True)
        return self._found

    @property
    def _known(self) -> _Found:
        if self._found is None:
            raise BackendUnavailableError("no session has been opened yet.", backend=BRIDGE)
        return self._found

    def _find(self, facts: dict[str, str], *, fresh: bool = False) -> _Found:
        """All that is needed; `facts` gets what is there. BackendUnavailableError names what is not."""
        settings = self._settings
        node = None
        if not settings.bridge_command:
            node = find_node(settings.node_binary)
            facts["Node"] = str(node)
        program = find_bridge(settings.home, settings.bridge_command)
        facts["bridge"] = str(program)
        if program.sdk is not None:
            facts["SDK"] = program.sdk
        binary = find_binary(settings.claude_code_binary)
        if binary is None and settings.claude_code_binary is None:
            binary = npm_binary(program)
        if binary is None:
            where = f"at {settings.claude_code_binary}" if settings.claude_code_binary else "on PATH or beside the SDKs"
            raise BackendUnavailableError(
                f"no Claude Code binary {where}. Install Claude Code, or set claude_code_binary to it.", backend=BRIDGE
            )
        found = known_versions(settings.home).accepted(binary.path, fresh=fresh)
        facts["Claude Code"] = f"{dotted(found)} at {binary.path} ({binary.origin})"
        return _Found(program, node, binary, found)


def _own_version() -> str:
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:  # from a checkout that is not installed
        return "unknown"
