"""The bridge with the npm packages that it needs, installed once for all tests and workers of a checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from claude_comms.background.backends.mcp_bridge._node import Node, find_node, npm_of
from claude_comms.background.backends.mcp_bridge._sources import PROGRAM
from claude_comms.background.backends.mcp_bridge.installation import npm_environment

if TYPE_CHECKING:
    import pytest

SOURCES = Path(__file__).parent.parent / "bridge"
_NPM_S = 300.0
_NOT_COPIED = ("node_modules",)


@dataclass(frozen=True)
class InstalledBridge:
    """A copy of ``bridge/`` beside its packages, and the Node that runs it."""

    folder: Path
    node: Node

    @property
    def command(self) -> tuple[str, ...]:
        """The setting `bridge_command` that starts it."""
        return (str(self.node.path), str(self.folder / PROGRAM))


def run_npm(folder: Path, *arguments: str) -> str:
    """What npm prints; fails with it where npm does."""
    done = subprocess.run(
        [*npm_of(find_node()), *arguments],
        cwd=folder, env=npm_environment(os.environ), capture_output=True, text=True, timeout=_NPM_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"npm {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
    return done.stdout


def installed_bridge(config: pytest.Config) -> InstalledBridge:
    """The bridge of this checkout, ready to run; npm is run where its package.json is met for the first time."""
    assert config.cache is not None
    packages = Path(config.cache.mkdir("claude-comms-node")) / f"packages-{_digest(SOURCES / 'package.json')}"
    folder = packages / f"bridge-{_digest(*_files())}"
    with FileLock(packages.with_suffix(".lock")):
        if not (packages / "complete").exists():
            shutil.rmtree(packages, ignore_errors=True)
            packages.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCES / name, packages)
            run_npm(packages, "install", "--omit=optional", "--no-audit", "--no-fund")
            (packages / "complete").touch()
        if not folder.exists():
            for old in packages.glob("bridge-*"):
                shutil.rmtree(old)
            copy = packages / "being-copied"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED))
            (copy / "node_modules").symlink_to(packages / "node_modules")
            copy.rename(folder)
    return InstalledBridge(folder, find_node())


def _files() -> list[Path]:
    found = [path for path in SOURCES.rglob("*") if path.is_file()]
    return sorted(path for path in found if not set(path.relative_to(SOURCES).parts) & set(_NOT_COPIED))


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path.relative_to(SOURCES)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
