"""Telling Claude Code of the MCP server, and undoing that: through its own command if there is one, else its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import claude_comms
from claude_comms.errors import BackendUnavailableError, ConfigError
from claude_comms.plugin._claude_files import claude_file, claude_project
from claude_comms.plugin._sdk import require_sdk
from claude_comms.types import CLAUDE_CODE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_comms.settings import Settings

__all__ = ["PLUGIN_FOLDER", "SERVER_NAME", "Change", "Scope", "planned"]

Scope = Literal["user", "project", "local"]

SERVER_NAME = "claude-comms"
"""What Claude Code knows the server as: its tools are ``mcp__claude-comms__query_module`` and so on."""

PLUGIN_FOLDER = Path(__file__).with_name("claude_code_plugin")
"""The same as a plugin for Claude Code: a manifest, the MCP server, the command ``/ask-module``."""

_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done, and where it will stand. `before` and `after` are the server's definitions, None: none."""

    scope: Scope
    path: Path
    directory: Path
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    program: str | None
    """Claude Code's own command, where it is to be done through that."""

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return self.before != self.after

    def steps(self) -> list[list[str]]:
        """The commands that do it; none where the file is written directly."""
        if self.program is None:
            return []
        found: list[list[str]] = []
        if self.before is not None:  # it does not replace
            found.append([self.program, "mcp", "remove", "--scope", self.scope, SERVER_NAME])
        if self.after is not None:
            found.append(_adding(self.program, self.scope, self.after))
        return found

    def apply(self) -> None:
        """Do it. BackendUnavailableError where Claude Code's command fails, ConfigError where a file does."""
        if self.program is None:
            _write(self.path, self.scope, self.directory, self.after)
        try:
            for step in self.steps():
                _run(step, self.directory)
        except BackendUnavailableError:
            self._restore()
            raise

    def _restore(self) -> None:
        """Put the older definition back, where it is gone and none came in its place."""
        if self.program is None or not self.before or _definition_in(self.path, self.scope, self.directory) is not None:
            return
        with suppress(BackendUnavailableError):
            _run(_adding(self.program, self.scope, self.before), self.directory)


def planned(settings: Settings, scope: Scope, directory: Path, *, remove: bool = False) -> Change:
    """What registering the server for `directory` takes, or with `remove` the undoing of it. Changes nothing.

    ConfigError where a file of Claude Code's cannot be understood, or the server could not run here.
    """
    if not remove:
        require_sdk()
    path = directory / ".mcp.json" if scope == "project" else claude_file()
    return Change(
        scope=scope,
        path=path,
        directory=directory,
        before=_definition_in(path, scope, directory),
        after=None if remove else _definition(settings),
        program=shutil.which("claude"),
    )


def _definition(settings: Settings) -> dict[str, Any]:
    """How Claude Code starts the server: by an absolute command, with the home where it is not the usual one."""
    command, *args = _command()
    environment = {} if settings.origin("home") == "default" else {"CLAUDE_COMMS_HOME": str(settings.home)}
    checkout = Path(claude_comms.__file__).parents[1]
    if not _is_installed():
        environment["PYTHONPATH"] = str(checkout)
    return {"type": "stdio", "command": command, "args": args, "env": environment}


def _command() -> list[str]:
    """The script beside this interpreter, else the interpreter: with ``-P``, as it runs in somebody's project, whose
    files must not be taken for modules of ours.
    """
    script = Path(sys.executable).with_name("claude-comms")
    if _is_installed() and script.exists():
        return [str(script), "mcp"]
    return [sys.executable, "-P", "-m", "claude_comms", "mcp"]


def _is_installed() -> bool:
    return Path(claude_comms.__file__).parents[1].name in ("site-packages", "dist-packages")


# --- Claude Code's files -----------------------------------------------------------------------


def _adding(program: str, scope: Scope, definition: Mapping[str, Any]) -> list[str]:
    return [program, "mcp", "add-json", "--scope", scope, SERVER_NAME, json.dumps(definition)]


def _definition_in(path: Path, scope: Scope, directory: Path) -> dict[str, Any] | None:
    """The server's definition there; empty where something else stands in its place."""
    servers = _servers(path, _read(path), scope, directory)
    if SERVER_NAME not in servers:
        return None
    found: object = servers[SERVER_NAME]
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        values: object = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}. Correct it first.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not a JSON object. Correct it first.")
    return cast("dict[str, Any]", values)


def _servers(
    path: Path, values: dict[str, Any], scope: Scope, directory: Path, *, make: bool = False
) -> dict[str, Any]:
    """The table of servers for that scope; with `make` it is put there where it is missing."""
    keys = ["projects", str(claude_project(directory)), "mcpServers"] if scope == "local" else ["mcpServers"]
    table: Any = values
    for key in keys:
        inner: Any = table.setdefault(key, {}) if make else table.get(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{path}: {'.'.join(keys)} is not an object. Correct it first.")
        table = cast("dict[str, Any]", inner)
    return table


def _write(path: Path, scope: Scope, directory: Path, definition: Mapping[str, Any] | None) -> None:
    """Write the file with the definition in it, or out of it; one that held nothing else is gone then."""
    values = _read(path)
    servers = _servers(path, values, scope, directory, make=True)
    if definition is not None:
        servers[SERVER_NAME] = dict(definition)
    else:
        servers.pop(SERVER_NAME, None)
    try:
        if scope == "project" and values == {"mcpServers": {}}:
            path.unlink(missing_ok=True)
        else:
            _replace(path, _text(values))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}. Write it by hand.") from error


def _text(values: dict[str, Any]) -> bytes:
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a character, which JSON can only say as an escape
        return (json.dumps(values, indent=2) + "\n").encode()


def _replace(path: Path, text: bytes) -> None:
    """Replace the file in one step; it keeps its mode, and where it is a link, the link."""
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644 if path.name == ".mcp.json" else 0o600
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _run(command: list[str], directory: Path) -> None:
    said = ""
    try:
        done = subprocess.run(  # noqa: S603 - Claude Code's own command, with arguments of ours
            command, cwd=directory, capture_output=True, text=True, timeout=_WITHIN_S, check=False
        )
        if done.returncode == 0:
            return
        said = (done.stderr or done.stdout).strip()
        reason = said.splitlines()[-1] if said else f"it exited with {done.returncode}"
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(error)
    raise BackendUnavailableError(
        f"{' '.join(command[:3])} failed: {reason}. Run it by hand to see why.", backend=CLAUDE_CODE
    )
