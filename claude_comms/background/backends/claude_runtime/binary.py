"""Where the Claude Code binary is, and whether its version is one we know."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from claude_comms.errors import BackendUnavailableError
from claude_comms.types import CLAUDE_CODE

__all__ = [
    "MINIMUM_VERSION",
    "SDK_VERSION",
    "Binary",
    "dotted",
    "find_binary",
    "login_command",
    "read_version",
    "sdk_version",
]

SDK_VERSION = "0.2.186"
"""The version of claude-agent-sdk that the extra pins, because the protocol is not a stable interface."""

MINIMUM_VERSION = (2, 1, 329)
"""Older ones read ``@path`` and ``/command`` in questions, and lack ``--restricted``."""

_VERSION = re.compile(rb"(\d+)\.(\d+)\.(\d+)")
_VERSION_TIMEOUT_S = 3.0
_NAME = "claude.exe" if os.name == "nt" else "claude"


@dataclass(frozen=True, slots=True)
class Binary:
    """A Claude Code binary: its path, and how it was found (``setting``, ``SDK bundle``, ``PATH``)."""

    path: Path
    origin: str


def find_binary(setting: Path | None = None) -> Binary | None:
    """The binary of the setting; else the one that came with the SDK, whose version is known; else PATH's."""
    if setting is not None:
        return Binary(setting, "setting") if _runnable(setting) else None
    package = importlib.util.find_spec("claude_agent_sdk")
    if package is not None and package.origin is not None:
        bundled = Path(package.origin).parent / "_bundled" / _NAME
        if _runnable(bundled):
            return Binary(bundled, "SDK bundle")
    found = shutil.which("claude")
    return Binary(Path(found), "PATH") if found is not None else None


@functools.cache
def sdk_version() -> str | None:
    """The installed version of claude-agent-sdk, found without importing it; None where it is missing."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("claude-agent-sdk")
    except PackageNotFoundError:
        return None


def dotted(version: tuple[int, int, int]) -> str:
    """The version as people write it."""
    return ".".join(str(part) for part in version)


def login_command(binary: Path, config: Path | str) -> str:
    """What a user types to log in for us: with our own configuration directory."""
    return f"CLAUDE_CONFIG_DIR={shlex.quote(str(config))} {shlex.quote(str(binary))} /login"


def read_version(binary: Path) -> tuple[int, int, int]:
    """The version that `binary` says it has. BackendUnavailableError where it says none within 3 s. For a thread."""
    try:
        said, exit_code = _said(binary)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendUnavailableError(
            f"{binary} cannot be run: {error}. Set claude_code_binary to a working Claude Code.", backend=CLAUDE_CODE
        ) from error
    found = _VERSION.search(said)
    if found is None:
        raise BackendUnavailableError(
            f"{binary} --version does not answer as Claude Code does (exit code {exit_code})."
            " Set claude_code_binary to a working one.",
            backend=CLAUDE_CODE,
        )
    major, minor, patch = (int(part) for part in found.groups())
    return major, minor, patch


def _said(binary: Path) -> tuple[bytes, int]:
    """What ``--version`` prints, and its exit code. Nothing that it started is left, however it ends."""
    with subprocess.Popen(  # noqa: S603 - the user's own Claude Code
        [binary, "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # One that npm installed is a script, whose interpreter is found as its process will find it.
        env={"PATH": os.environ.get("PATH") or os.defpath, "DISABLE_AUTOUPDATER": "1"},
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=_VERSION_TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    return said, process.returncode


def _runnable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
