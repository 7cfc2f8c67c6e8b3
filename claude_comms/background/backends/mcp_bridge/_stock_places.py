"""Where a stock claude-code-mcp is, and the Node that runs it."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from claude_comms.background.backends.mcp_bridge._node import find_node
from claude_comms.errors import BackendUnavailableError
from claude_comms.types import BRIDGE

if TYPE_CHECKING:
    from claude_comms.background.backends.mcp_bridge._node import Node
    from claude_comms.settings import Settings

__all__ = ["PACKAGE", "StockServer", "find_server", "how_to_install"]

PACKAGE = "@steipete/claude-code-mcp"
KNOWN_VERSION = "1.10.12"
"""The version that the tests run with."""

_SCRIPT = Path("node_modules", PACKAGE, "dist", "server.js")
_NODE_SCRIPT = re.compile(rb"#!.*\bnode\b")


@dataclass(frozen=True, slots=True)
class StockServer:
    """How the server is started, how it was found, and its Node; None where `bridge_command` says all there is."""

    command: tuple[str, ...]
    origin: str
    node: Node | None = None

    def __str__(self) -> str:
        return f"{shlex.join(self.command)} ({self.origin})"


def find_server(settings: Settings) -> StockServer:
    """`bridge_command`; else claude-code-mcp on PATH; else the one in the home. BackendUnavailableError says what to
    install. It may run Node for its version: for a thread.
    """
    if settings.bridge_command:
        return _commanded(settings.bridge_command)
    found = shutil.which("claude-code-mcp")
    if found is not None:
        return _installed(Path(found), "PATH", settings)
    script = _prefix(settings) / _SCRIPT
    if script.is_file():
        return _installed(script, "home", settings)
    raise BackendUnavailableError(
        f"claude-code-mcp is neither on PATH nor in {_prefix(settings)}. {how_to_install(settings)}", backend=BRIDGE
    )


def how_to_install(settings: Settings) -> str:
    """A sentence with the command."""
    prefix = shlex.quote(str(_prefix(settings)))
    return f"Install it: npm install --omit=optional --prefix {prefix} {PACKAGE}@{KNOWN_VERSION}"


def _prefix(settings: Settings) -> Path:
    return settings.home / "claude-code-mcp"


def _commanded(command: tuple[str, ...]) -> StockServer:
    program = shutil.which(command[0])
    if program is None:
        raise BackendUnavailableError(
            f"bridge_command: {command[0]} is no program that can be run. Correct it, or leave it out.", backend=BRIDGE
        )
    return StockServer((str(Path(program).absolute()), *command[1:]), "bridge_command")


def _installed(program: Path, origin: str, settings: Settings) -> StockServer:
    """What npm put there is a script for Node, most of the time through a link; other package managers make a
    wrapper that finds Node by itself.
    """
    script = program.resolve()
    if not _is_for_node(script):
        return StockServer((str(program.absolute()),), origin)
    node = find_node(settings.node_binary)
    return StockServer((str(node.path.absolute()), str(script)), origin, node)


def _is_for_node(script: Path) -> bool:
    try:
        with script.open("rb") as file:
            return _NODE_SCRIPT.match(file.readline(200)) is not None
    except OSError:
        return False
