"""What an instance may do with tools: decided here, for each call, with the reason.

Claude Code confines itself too (``--restricted``, its deny rules, its list of tools). This is the same
decision made again by us, before each call, on paths whose links have been followed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_comms.background.backends.claude_runtime.secret_names import secret_in
from claude_comms.errors import PermissionDeniedError
from claude_comms.mcp_servers import MCP_GRANT, McpServer, how_to_define
from claude_comms.text import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from claude_comms.types import InstanceSpec

__all__ = ["DIRECTORY_GRANT", "FILE_TOOLS", "GRANTABLE", "READING", "Confinement", "Decision"]

READING = ("Read", "Grep", "Glob")
"""The tools of the default grant: they read inside the module's path."""

_WRITING = ("Write", "Edit", "NotebookEdit")
_OTHER = ("Bash", "WebFetch", "WebSearch")
FILE_TOOLS = (*READING, *_WRITING)
"""The tools that are confined to paths."""

GRANTABLE = (*FILE_TOOLS, *_OTHER)
"""The tools that can be granted, by Claude Code's names."""

DIRECTORY_GRANT = "directory:"
"""``directory:/abs/path`` lets the file tools into another directory."""

_PATH_ARGUMENTS = ("file_path", "path", "notebook_path")
_MCP_TOOL = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call of a tool may go ahead, what it was aimed at, and why."""

    allowed: bool
    target: str
    reason: str
    path: Path | None = None
    """Where an allowed file tool goes, with all links followed."""


class Confinement:
    """The grants of one instance. PermissionDeniedError for a grant that this backend cannot give.

    `servers` are all that the user has defined; the instance gets those that it was granted.
    """

    def __init__(self, spec: InstanceSpec, servers: Mapping[str, McpServer] | None = None) -> None:
        directories = [Path(path) for path in _of_kind(DIRECTORY_GRANT, spec.grants)]
        self.tools = tuple(
            dict.fromkeys(grant for grant in spec.grants if not grant.startswith((DIRECTORY_GRANT, MCP_GRANT)))
        )
        """Claude Code's own."""
        self.directories = tuple(directories)
        """Granted beside the module's own."""
        granted = [_server_and_tool(grant, servers or {}) for grant in _of_kind(MCP_GRANT, spec.grants)]
        self.servers = {name: (servers or {})[name] for name, _ in granted}
        """The MCP servers of which it may use anything."""
        self._tools_of: dict[str, list[str]] = {}
        for name, tool in granted:
            self._tools_of.setdefault(name, []).append(tool)
        self._whole_servers = tuple(f"mcp__{name}__" for name, tool in granted if not tool)
        self._server_tools = {f"mcp__{name}__{tool}" for name, tool in granted if tool}
        _refuse_unknown(self.tools, directories)
        if self.tools and spec.directory is None and not directories and not set(self.tools) <= set(_OTHER):
            raise PermissionDeniedError(
                f"{spec.pair.target} has no path, so its instance cannot be granted {', '.join(self.tools)}."
                f" Register it with one: claude-comms register-module {spec.pair.target} --path DIR",
                grant=self.tools[0],
            )
        own = [] if spec.directory is None else [spec.directory]
        self._roots = tuple(path.resolve() for path in (*own, *directories))

    def tools_of(self, server: str) -> list[str] | None:
        """The tools of a granted MCP server that may be used; None for all."""
        tools = self._tools_of[server]
        return None if "" in tools else tools

    def rule(self, tool: str, arguments: Mapping[str, Any], directory: Path) -> Decision:
        """The same as `decide`, and a refusal where it raises: what cannot be decided may not happen."""
        try:
            return self.decide(tool, arguments, directory)
        except Exception as error:  # noqa: BLE001 - whatever it is, the call may not happen
            reason = f"it could not be decided: {shorten(repr(error), _SHOWN_CHARACTERS)}"
            return Decision(allowed=False, target="", reason=reason)

    def decide(self, tool: str, arguments: Mapping[str, Any], directory: Path) -> Decision:
        """Whether `tool` may be called with `arguments` by a process that sits in `directory`."""
        target = _target(arguments)
        if self._of_server(tool):
            return Decision(allowed=True, target=target, reason=f"{tool} is granted")
        if tool not in self.tools:
            return Decision(allowed=False, target=target, reason=f"{tool} is not granted")
        if tool in _OTHER:
            return Decision(allowed=True, target=target, reason=f"{tool} is granted")
        paths = list(self._paths(tool, arguments, directory))
        for path in paths:
            reason = self._objection(path)
            if reason is not None:
                return Decision(allowed=False, target=target, reason=reason)
        reason = f"{tool} is granted inside the module's path"
        return Decision(allowed=True, target=target, reason=reason, path=paths[0].resolve())

    def _of_server(self, tool: str) -> bool:
        # No name of a server holds "__", so none is the beginning of another's.
        return tool in self._server_tools or tool.startswith(self._whole_servers)

    def _paths(self, tool: str, arguments: Mapping[str, Any], directory: Path) -> Iterable[Path]:
        given = [str(arguments[name]) for name in _PATH_ARGUMENTS if arguments.get(name)]
        base = directory / _expanded(given[0]) if given else directory
        yield base
        # The pattern of Glob, and the filter of Grep, are paths too.
        pattern = arguments.get("pattern" if tool == "Glob" else "glob")
        if tool in {"Glob", "Grep"} and isinstance(pattern, str):
            yield base / _expanded(pattern)

    def _objection(self, path: Path) -> str | None:
        try:
            resolved = path.resolve()
            odd = resolved.exists() and not (resolved.is_file() or resolved.is_dir())
        except (OSError, ValueError, RuntimeError):
            return "the path cannot be followed"
        root = next((root for root in self._roots if resolved.is_relative_to(root)), None)
        if root is None:
            return "outside the module's path"
        seen = [resolved.relative_to(root)]
        if path.is_relative_to(root):
            seen.append(path.relative_to(root))
        for part in seen:
            pattern = secret_in(part)
            if pattern is not None:
                return f"looks like a secret ({pattern})"
        return "neither a file nor a directory" if odd else None


def _expanded(path: str) -> str:
    """The path with ``~`` as Claude Code reads it; its home is a private directory, never in a module's path."""
    return f"/{path}" if path.startswith("~") else path


def _of_kind(kind: str, grants: Iterable[str]) -> list[str]:
    """The grants that begin with `kind`, without it."""
    return [grant.removeprefix(kind) for grant in grants if grant.startswith(kind)]


def _server_and_tool(grant: str, servers: Mapping[str, McpServer]) -> tuple[str, str]:
    """The server's name, and the tool's as Claude Code has it; empty for all of the server's tools."""
    name, slash, tool = grant.partition("/")
    if slash and not _MCP_TOOL.fullmatch(tool):
        raise PermissionDeniedError(
            f"cannot grant {MCP_GRANT}{grant}: {tool!r} is no name of a tool. It has letters, digits, _ and -, and _"
            " in place of any other character.",
            grant=f"{MCP_GRANT}{grant}",
        )
    if name not in servers:
        raise PermissionDeniedError(
            f"cannot grant {MCP_GRANT}{grant}: no MCP server {name!r} is defined. {how_to_define(name)}",
            grant=f"{MCP_GRANT}{grant}",
        )
    return name, tool


def _refuse_unknown(tools: Iterable[str], directories: Iterable[Path]) -> None:
    for tool in tools:
        if tool not in GRANTABLE:
            raise PermissionDeniedError(
                f"claude-code cannot grant {tool!r}. It can grant: {', '.join(GRANTABLE)}, {DIRECTORY_GRANT}/ABS/PATH,"
                f" {MCP_GRANT}SERVER, {MCP_GRANT}SERVER/TOOL.",
                grant=tool,
            )
    for path in directories:
        if not path.is_absolute() or not path.is_dir():
            raise PermissionDeniedError(
                f"cannot grant {DIRECTORY_GRANT}{path}: not an absolute path of a directory that exists.",
                grant=f"{DIRECTORY_GRANT}{path}",
            )


def _target(arguments: Mapping[str, Any]) -> str:
    """What the call is aimed at, shortened: a path, a command, an address, or all arguments."""
    for name in (*_PATH_ARGUMENTS, "command", "url", "query", "pattern"):
        value = arguments.get(name)
        if isinstance(value, str) and value:
            return shorten(value, _SHOWN_CHARACTERS)
    return shorten(str(dict(arguments)), _SHOWN_CHARACTERS) if arguments else ""
