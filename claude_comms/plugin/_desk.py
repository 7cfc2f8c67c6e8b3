"""What all tools share: the way to the daemon, the registry, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import anyio
from anyio import to_thread
from pydantic import BaseModel

from claude_comms.communicator import EngineHolder
from claude_comms.descriptors import Registry
from claude_comms.errors import ClaudeCommsError
from claude_comms.turn_file import RunningTurnFacts, read_turn_file
from claude_comms.types import ANONYMOUS, Question

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp.server.mcpserver import Context

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.protocols import Engine
    from claude_comms.settings import Settings

__all__ = ["DIRECTORY_HEADER", "Asker", "Desk"]

DIRECTORY_HEADER = "claude-comms-directory"
"""By which a client over HTTP may say where it works."""

_OPEN_WITHIN_S = 60.0
_ROOTS_WITHIN_S = 2.0


class _Root(BaseModel):
    uri: str


class _Roots(BaseModel):
    """What a client says of its roots."""

    roots: list[_Root]


@dataclass(frozen=True, slots=True)
class Asker:
    """The module that asks, and how that is known. `turn` is the instance's own, where one asks."""

    name: str
    reason: str
    turn: RunningTurnFacts | None = None

    def question(self, target: str, prompt: str, thread_id: str | None, *, waits: bool = True) -> Question:
        """Its question. An instance's carries the chain that led to it, and what its turn still allows; its deadline
        too, where somebody `waits`.
        """
        turn, thread_id = self.turn, thread_id or None  # some models fill in every argument
        if turn is None:
            return Question(self.name, target, prompt, thread_id=thread_id)
        return Question(
            self.name,
            target,
            prompt,
            thread_id=thread_id,
            chain=turn.chain,
            asked_in=turn.turn_id or None,
            # Nothing left, or no time, is refused by the engine; the wire takes only what is above zero.
            max_cost_usd=None if turn.max_cost_usd is None else max(turn.max_cost_usd, 1e-9),
            deadline_s=None if turn.left_s is None or not waits else max(turn.left_s, 0.001),
        )


class Desk(EngineHolder):
    """The daemon's engine, started when it is needed and taken with the settings it has.

    Over stdio (`over_http` False) with ``CLAUDE_COMMS_DAEMON=off`` it is an engine of this process, with `backends`.
    """

    def __init__(self, settings: Settings, *, over_http: bool, backends: Iterable[Backend] = ()) -> None:
        super().__init__(settings, use_background=over_http or settings.daemon != "off", adopts=True, backends=backends)
        self.registry = Registry(settings.home, settings.descriptors)
        self._over_http = over_http

    async def engine(self) -> Engine:
        """The engine, ready to be asked."""
        return await self._opened(_OPEN_WITHIN_S)

    async def daemon_runs(self) -> bool:
        """Whether there is an engine that need not be started for a look."""
        from claude_comms.daemon import find

        return self._engine is not None or await to_thread.run_sync(find, self.settings) is not None

    async def asker(self, context: Context[Any, Any]) -> Asker:
        """Who asks: the module whose instance this is a tool of; else the one in whose path the client works."""
        if not self._over_http:
            turn = read_turn_file()
            if turn is not None:
                return Asker(turn.module, "its own instance asks", turn)
        for directory in self._told_directories(context):
            module = await self._module_at(directory)
            if module is not None:
                return Asker(module, f"the client works in its path, {directory}")
        for directory in await _roots(context):
            module = await self._module_at(directory)
            if module is not None:
                return Asker(module, f"the client's root {directory} lies in its path")
        return Asker(ANONYMOUS, "the client works in no module's path")

    def _told_directories(self, context: Context[Any, Any]) -> list[Path]:
        """Where the client works, as far as it can be seen from here."""
        if self._over_http:
            told = _as_typed((context.headers or {}).get(DIRECTORY_HEADER, ""))
            return [Path(told)] if told.startswith("/") and "\0" not in told else []
        try:
            return [Path.cwd()]
        except FileNotFoundError:  # it is gone
            return []

    async def _module_at(self, directory: Path) -> str | None:
        try:
            module = await to_thread.run_sync(self.registry.module_for_path, directory)
        except (ClaudeCommsError, OSError, ValueError):
            return None
        return None if module is None else module.name


async def _roots(context: Context[Any, Any]) -> list[Path]:
    """The client's roots, where it offers them and can be asked."""
    session = context.session
    capabilities = context.client_capabilities
    if capabilities is None or capabilities.roots is None or not session.can_send_request:
        return []
    from mcp.shared.exceptions import MCPError
    from mcp_types import ListRootsRequest

    try:
        with anyio.fail_after(_ROOTS_WITHIN_S):
            # Not its own method, which warns: the newest revision has no roots, older clients have. And not its own
            # result, which takes no other roots than files: editors have some, too.
            told = await session.send_request(ListRootsRequest(), _Roots)
    except (MCPError, TimeoutError, ValueError):
        return []
    return [path for root in told.roots if (path := _path_of(root.uri)) is not None]


def _path_of(uri: str) -> Path | None:
    """The path that a file's address means; None for any other."""
    try:
        address = urlsplit(uri)
    except ValueError:
        return None
    path = unquote(address.path)
    return Path(path) if address.scheme == "file" and path.startswith("/") and "\0" not in path else None


def _as_typed(header: str) -> str:
    """A header's value as it was sent: servers read its bytes as Latin-1, and paths are UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
