"""Puts our bridge, with the npm packages that it needs, into the home; and takes it out again."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_comms.background.backends.claude_runtime.binary import find_binary
from claude_comms.background.backends.mcp_bridge._node import find_node, npm_of
from claude_comms.background.backends.mcp_bridge._sources import (
    SHIPPED,
    install_directory,
    is_ready,
    shipped_directory,
    version_of,
)
from claude_comms.errors import BackendUnavailableError
from claude_comms.files import private_dir
from claude_comms.text import shorten
from claude_comms.types import BRIDGE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_comms.background.backends.mcp_bridge._node import Node
    from claude_comms.settings import Settings

__all__ = ["Change", "npm_environment", "planned"]

_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
"""What npm gets of our environment, beside its own settings: no key or token of ours."""

_NPM_SETTINGS = "npm_config_"
_NPM_WITHIN_S = 600.0
_LOADED_WITHIN_S = 30.0
_LOAD = "for (const file of process.argv.slice(1)) await import(file)"
_LOADED = ("src/server.mjs", "src/mcp.mjs")
"""What of the bridge brings all the rest with it, and its packages."""


@dataclass(frozen=True, slots=True)
class Change:
    """What would be done. `needed` is False where it is so already."""

    directory: Path
    version: str
    remove: bool
    needed: bool
    node: Node | None = None
    """The Node that npm runs on; None where nothing is installed."""
    with_claude_code: bool = False
    """Whether npm brings a Claude Code, some 360 MB, because none is here."""

    @property
    def command(self) -> tuple[str, ...]:
        """npm, as it would be run in the directory; empty where it would not."""
        if self.node is None:
            return ()
        locked = (shipped_directory() / "package-lock.json").is_file()
        omitted = ("--omit=dev",) if self.with_claude_code else ("--omit=dev", "--omit=optional")
        return (
            *npm_of(self.node),
            *(("ci",) if locked else ("install", "--no-package-lock")),
            *omitted,
            *("--ignore-scripts", "--no-audit", "--no-fund"),
        )

    def apply(self) -> None:
        """Do it: whole, or not at all. BackendUnavailableError tells what npm said where it failed."""
        if self.remove:
            shutil.rmtree(self.directory, ignore_errors=True)
            with suppress(OSError):  # another version is there
                self.directory.parent.rmdir()
            return
        private_dir(self.directory.parent)
        beside = self.directory.with_name(f".{self.directory.name}.{os.getpid()}")
        try:
            _copy(private_dir(beside))
            self._run_npm(beside, self.node)
            shutil.rmtree(self.directory, ignore_errors=True)
            beside.rename(self.directory)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _run_npm(self, folder: Path, node: Node | None) -> None:
        problem = ""
        try:
            done = subprocess.run(  # noqa: S603 - npm, with words of ours
                self.command,
                cwd=folder,
                env=npm_environment(os.environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_NPM_WITHIN_S,
                check=False,
            )
            problem = "" if done.returncode == 0 else shorten(done.stderr or done.stdout, 1000) or "it said nothing"
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
        if not problem and not (is_ready(folder) and node is not None and _loads(folder, node)):
            problem = "it did not bring what the bridge needs"
        if problem:
            raise BackendUnavailableError(
                f"npm could not install the bridge: {problem}. Nothing was changed; correct npm's settings, and try"
                " again.",
                backend=BRIDGE,
            )


def planned(settings: Settings, *, remove: bool) -> Change:
    """What would be done so that the bridge of this version is in the home, or with `remove` is not.

    BackendUnavailableError where there is no Node or npm to do it with, or no sources of the bridge.
    """
    directory = install_directory(settings.home)
    version = version_of(shipped_directory())
    if version is None:
        raise BackendUnavailableError(
            f"the bridge's sources are not at {shipped_directory()}. Install claude-module-comms anew.", backend=BRIDGE
        )
    if remove:
        return Change(directory, version, remove=True, needed=directory.exists())
    node = find_node(settings.node_binary)
    if is_ready(directory) and _same(directory) and _loads(directory, node):
        return Change(directory, version, remove=False, needed=False)
    without = find_binary(settings.claude_code_binary) is None
    return Change(directory, version, remove=False, needed=True, node=node, with_claude_code=without)


def npm_environment(ambient: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of npm: it knows its user's registry, and nothing else of ours."""
    return {
        name: value for name, value in ambient.items() if name in _PASSED_ON or name.lower().startswith(_NPM_SETTINGS)
    }


def _copy(folder: Path) -> None:
    for name in SHIPPED:
        source = shipped_directory() / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.is_file():
            shutil.copy(source, folder)


def _loads(folder: Path, node: Node) -> bool:
    """Whether Node finds all of the bridge in `folder`, and all that it needs of its packages."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own Node, with words of ours
            [node.path, "--input-type=module", "--eval", _LOAD, *(str(folder / name) for name in _LOADED)],
            cwd=folder,
            env={"PATH": os.environ.get("PATH") or os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LOADED_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _same(folder: Path) -> bool:
    """Whether what is installed in `folder` is what ships with us, byte for byte."""
    shipped = shipped_directory()
    for name in SHIPPED:
        source = shipped / name
        files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
        for path in files:
            there = folder / path.relative_to(shipped)
            if path.is_file() and not (there.is_file() and there.read_bytes() == path.read_bytes()):
                return False
    return True
