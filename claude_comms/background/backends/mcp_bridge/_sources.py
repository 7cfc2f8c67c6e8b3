"""Where the bridge's own files are: those that ship with this package, and where they are ready to run."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_comms.background.backends.claude_runtime.binary import Binary
from claude_comms.errors import BackendUnavailableError
from claude_comms.types import BRIDGE

__all__ = [
    "PROGRAM",
    "SHIPPED",
    "BridgeProgram",
    "find_bridge",
    "install_directory",
    "is_ready",
    "npm_binary",
    "schema",
    "shipped_directory",
    "version_of",
]

PROGRAM = "bin/claude-comms-bridge.mjs"
SHIPPED = (
    "bin",
    "src",
    "schema.json",
    "secret_names.json",
    "package.json",
    "package-lock.json",
    "LICENSE",
    "README.md",
)
"""What of the bridge's sources is in the wheel, and is installed; what is not there yet is left out."""

_COMMAND = "claude-comms-bridge"
_NEEDED = ("ws", "@anthropic-ai/claude-agent-sdk")


@dataclass(frozen=True, slots=True)
class BridgeProgram:
    """How the bridge is started, and how it was found (``setting``, ``home``, ``checkout``, ``PATH``)."""

    argv: tuple[str, ...]
    """Without the Node that runs it, where `needs_node`."""
    origin: str
    needs_node: bool = True
    folder: Path | None = None
    """Its package's, where that is known."""

    @property
    def version(self) -> str | None:
        """The version that its package tells; None where it is not known before it runs."""
        return None if self.folder is None else version_of(self.folder)

    @property
    def sdk(self) -> str | None:
        """The version of the TypeScript Agent SDK beside it; None where it is not known before it runs."""
        return None if self.folder is None else version_of(self.folder / "node_modules" / _NEEDED[1])

    def __str__(self) -> str:
        return f"{self.version or 'of unknown version'} at {self.folder or self.argv[0]} ({self.origin})"


def shipped_directory() -> Path:
    """The bridge's sources as this package brings them: in the wheel, else in the checkout."""
    in_wheel = Path(__file__).parent / "shipped"
    if in_wheel.is_dir():
        return in_wheel
    return Path(__file__).parents[4] / "bridge"


def install_directory(home: Path) -> Path:
    """Where ``claude-comms install bridge`` puts the bridge of this version."""
    return home / "bridge" / (version_of(shipped_directory()) or "unknown")


def is_ready(folder: Path) -> bool:
    """Whether the bridge in `folder` can be run: with the packages that it needs."""
    return (folder / PROGRAM).is_file() and all(_is_whole(folder / "node_modules" / name) for name in _NEEDED)


def _is_whole(package: Path) -> bool:
    """Whether what an npm package is entered by is there."""
    try:
        return (package / json.loads((package / "package.json").read_bytes())["main"]).is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def find_bridge(home: Path, command: tuple[str, ...] = ()) -> BridgeProgram:
    """The bridge of the setting `command`; else the one installed in the home, the checkout's own, or PATH's.

    BackendUnavailableError says how to install it.
    """
    if command:
        return BridgeProgram(command, "setting", needs_node=False, folder=_folder_of(command))
    for folder, origin in ((install_directory(home), "home"), (shipped_directory(), "checkout")):
        if is_ready(folder):
            return BridgeProgram((str(folder / PROGRAM),), origin, folder=folder)
    found = shutil.which(_COMMAND)
    if found is not None:
        return BridgeProgram((found,), "PATH", needs_node=False, folder=_folder_of((str(Path(found).resolve()),)))
    raise BackendUnavailableError(
        "the bridge is not installed. Install it: claude-comms install bridge", backend=BRIDGE
    )


def npm_binary(program: BridgeProgram) -> Binary | None:
    """The Claude Code of the SDK's platform package, where npm has installed one beside the bridge."""
    if program.folder is None:
        return None
    for path in sorted((program.folder / "node_modules" / "@anthropic-ai").glob("claude-agent-sdk-*/claude")):
        if path.is_file():
            return Binary(path, "npm package")
    return None


def version_of(folder: Path) -> str | None:
    """The version that the npm package in `folder` tells; None where it tells none."""
    try:
        told = json.loads((folder / "package.json").read_bytes())["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return told if isinstance(told, str) else None


def schema() -> dict[str, Any]:
    """What may cross the connection, as JSON Schema. BackendUnavailableError where it did not come with the package."""
    path = shipped_directory() / "schema.json"
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BackendUnavailableError(
            f"{path} cannot be read: {error}. Install claude-module-comms anew.", backend=BRIDGE
        ) from error


def _folder_of(command: tuple[str, ...]) -> Path | None:
    """The package that a command's script belongs to; None where that cannot be seen."""
    for word in command:
        path = Path(word)
        if path.is_absolute() and path.match(f"*/{PROGRAM}") and (path.parents[1] / "package.json").is_file():
            return path.parents[1]
    return None
