"""Backend ``bridge`` over a stock claude-code-mcp, or any MCP server with its tool ``claude_code{prompt, workFolder}``.

Such a server runs Claude Code with its permission bypass, so it is refused until the user's settings allow it by
name. It keeps nothing between calls and tells nothing but the answer's text.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from claude_comms.background.backends._login import login_variables
from claude_comms.background.backends.claude_runtime.binary import Binary, dotted, find_binary, login_command
from claude_comms.background.backends.claude_runtime.login import login_of, not_logged_in, unusable
from claude_comms.background.backends.claude_runtime.place import require_directory
from claude_comms.background.backends.claude_runtime.versions import known_versions
from claude_comms.background.backends.claude_runtime.workspace import Workspace
from claude_comms.background.backends.mcp_bridge._stock_places import StockServer, find_server
from claude_comms.background.backends.protocol import BackendHealth
from claude_comms.errors import BackendUnavailableError, ClaudeCommsError, PermissionDeniedError
from claude_comms.types import BRIDGE, BackendFeatures

if TYPE_CHECKING:
    from types import ModuleType

    from claude_comms.background.backends.claude_runtime.workspace import Scratch
    from claude_comms.background.backends.mcp_bridge._stock_session import StockSession
    from claude_comms.settings import Settings
    from claude_comms.types import InstanceSpec

__all__ = ["StockBridge"]

_NAME = "claude-code-mcp"
_OF_THE_SDK = ("CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SDK_READS_SESSION_STATE")
"""Variables of a workspace that are only true of a process that the Agent SDK speaks to."""

_UNCONFINED = "not enforced: Claude Code may do whatever this user may"
_WHY = (
    f"{_NAME} runs Claude Code with its permission bypass: it may read, change and run anything that your user may,"
    " and no grant confines it"
)


@dataclass(frozen=True, slots=True)
class _Found:
    """All that a session needs to be there."""

    server: StockServer
    binary: Binary
    version: tuple[int, int, int]


class StockBridge:
    """Answers by an MCP server of its own for each session, that starts Claude Code anew for each question.

    Nothing is started or looked for before a session is opened.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._variables = login_variables(settings)
        self._workspace = Workspace(settings.home)
        self._found: _Found | None = None
        self._sessions: set[StockSession] = set()

    @property
    def name(self) -> str:
        """``bridge``."""
        return BRIDGE

    @property
    def features(self) -> BackendFeatures:
        """A turn can be stopped, and a shape asked for. No grants, pieces or sessions, and no costs that are told."""
        return BackendFeatures(interrupt=True, structured=True, metered=False)

    async def open(self, spec: InstanceSpec) -> StockSession:
        """A session whose server starts with the first question. See `Backend.open`.

        PermissionDeniedError also while the user's settings do not allow the permission bypass to the server.
        """
        refusal = self._refusal()
        if refusal:
            raise PermissionDeniedError(f"{_WHY}. {refusal}", grant="permission bypass")
        if spec.grants:
            raise PermissionDeniedError(
                f"backend {BRIDGE} over {_NAME} cannot keep Claude Code to {spec.grants[0]!r}: it may do anything."
                " Ask without grants, or set bridge_server to claude-comms-bridge, which keeps to them.",
                grant=spec.grants[0],
            )
        require_directory(spec, backend=BRIDGE)
        self._found = await anyio.to_thread.run_sync(lambda: self._find({}), abandon_on_cancel=True)
        await anyio.to_thread.run_sync(self._workspace.open)
        module = await anyio.to_thread.run_sync(_session_module)
        session: StockSession = module.StockSession(self, spec)
        self._sessions.add(session)
        return session

    async def health(self) -> BackendHealth:
        """Whether it is allowed, and server, Node, Claude Code and a login are there. Asks nobody."""
        facts: dict[str, str] = {}
        try:
            found = await anyio.to_thread.run_sync(lambda: self._find(facts, fresh=True))
        except ClaudeCommsError as error:
            health = unusable(error, facts)
        else:
            health = self._health(found, facts)
        refusal = self._refusal()
        # First, whatever else is missing: that is the user's to decide.
        return BackendHealth(usable=False, reason=_WHY, hint=refusal, facts=facts) if refusal else health

    def _health(self, found: _Found, facts: dict[str, str]) -> BackendHealth:
        login = login_of(self._variables, self._workspace)
        if login is None:
            return not_logged_in(self._workspace, found.binary, facts)
        reason = f"{_NAME} from {found.server.origin} may use its permission bypass, as you allow; {login}"
        return BackendHealth(usable=True, reason=reason, facts={**facts, "grants": _UNCONFINED})

    async def close(self) -> None:
        """Stop every server that is left. May be called twice."""
        async with anyio.create_task_group() as closing:
            for session in tuple(self._sessions):
                closing.start_soon(session.close)

    # --- what sessions need ---

    @property
    def command(self) -> tuple[str, ...]:
        """What starts a server. Known once a session has been opened."""
        return self._known.server.command

    @property
    def login(self) -> str:
        """What a user types to log Claude Code in."""
        return login_command(self._known.binary.path, self._workspace.config)

    def scratch(self) -> Scratch:
        """A new directory for one server."""
        return self._workspace.scratch()

    def environment(self, scratch: Scratch, spec: InstanceSpec, model: str) -> dict[str, str]:
        """A server's whole environment, which Claude Code inherits."""
        given = {**self._variables, **dict(spec.environment)}
        # With a limit of ours Claude Code would join on what was cut off, and print only the last part of it.
        ours = self._workspace.environment(os.environ, scratch, given=given, max_output_tokens=0)
        for name in (*_OF_THE_SDK, "CLAUDE_CODE_MAX_OUTPUT_TOKENS"):
            ours.pop(name, None)
        return {
            **ours,
            "CLAUDE_CLI_NAME": str(self._known.binary.path.absolute()),
            "ANTHROPIC_MODEL": model,
            # What each call leaves would hold the whole conversation, and nobody ever resumes it.
            "CLAUDE_CODE_SKIP_PROMPT_HISTORY": "1",
            # Else it reads and sends what a text of another module names with an @.
            "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
            # Claude Code refuses its bypass to root elsewhere.
            **({"IS_SANDBOX": "1"} if os.geteuid() == 0 else {}),
        }

    def forget(self, session: StockSession) -> None:
        """The session has closed itself."""
        self._sessions.discard(session)

    # --- parts ---

    def _refusal(self) -> str:
        """What to do where the bypass is not allowed; empty where it is."""
        own = 'Take our own bridge, which confines it: bridge_server = "claude-comms-bridge"'
        allow = f'or allow it in {self._settings.home / "config.toml"}: allow_permission_bypass = ["{_NAME}"]'
        if _NAME not in self._settings.allow_permission_bypass:
            return f"{own}; {allow}."
        if self._settings.origin("allow_permission_bypass") in ("argument", "default"):
            return f"An argument cannot allow that, only you in your configuration can. {own}; {allow}."
        return ""

    @property
    def _known(self) -> _Found:
        if self._found is None:
            raise BackendUnavailableError("no session has been opened yet.", backend=BRIDGE)
        return self._found

    def _find(self, facts: dict[str, str], *, fresh: bool = False) -> _Found:
        """All that is needed; `facts` gets what is there. BackendUnavailableError names what is not."""
        server = find_server(self._settings)
        facts["server"] = str(server)
        facts["Node"] = str(server.node or "as the command finds it")
        setting = self._settings.claude_code_binary
        binary = find_binary(setting)
        if binary is None:
            where = f"at {setting}" if setting is not None else "beside the Agent SDK or on PATH"
            raise BackendUnavailableError(
                f"no Claude Code binary {where}. Install Claude Code, or set claude_code_binary to it.", backend=BRIDGE
            )
        try:
            version = known_versions(self._settings.home).accepted(binary.path, fresh=fresh)
        except BackendUnavailableError as error:
            raise BackendUnavailableError(str(error), backend=BRIDGE) from error
        facts["Claude Code"] = f"{dotted(version)} at {binary.path} ({binary.origin})"
        return _Found(server, binary, version)


def _session_module() -> ModuleType:
    try:
        return import_module("claude_comms.background.backends.mcp_bridge._stock_session")
    except ImportError as error:
        raise BackendUnavailableError(
            "the MCP SDK is not installed. Install it: pip install 'claude-module-comms[mcp]'", backend=BRIDGE
        ) from error
