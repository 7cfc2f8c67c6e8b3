"""``mcp``: the MCP server on stdio. ``install``: put it where Claude Code finds it, or the bridge into the home."""

# No postponed annotations here: Typer reads them.
from enum import StrEnum
from typing import Annotated

import typer

from claude_comms.cli import _options as options

__all__ = ["install", "mcp"]


class _Scope(StrEnum):
    USER = "user"
    PROJECT = "project"
    LOCAL = "local"


class _Client(StrEnum):
    CLAUDE_CODE = "claude-code"
    BRIDGE = "bridge"


Scope = Annotated[
    _Scope,
    typer.Option(
        "--scope",
        help="user: for you, everywhere; project: .mcp.json here, to be shared; local: for you, in this directory.",
    ),
]


def mcp() -> None:
    """Serve MCP on stdin and stdout, for a client that starts it."""
    from claude_comms.plugin import serve_stdio
    from claude_comms.settings import Settings

    serve_stdio(Settings.load())


def install(
    what: Annotated[_Client, typer.Argument(metavar="WHAT", help="claude-code or bridge.")],
    scope: Scope = _Scope.USER,
    remove: Annotated[bool, typer.Option("--remove", metavar="", help="Undo it.")] = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """Let Claude Code ask modules: register the MCP server with it. Or put the Node bridge, which the backend bridge
    runs, into the home. The change is shown first.
    """
    if what is _Client.BRIDGE:
        from claude_comms.cli._installing_bridge import change_bridge

        change_bridge(remove=remove, yes=yes, as_json=as_json)
        return
    from claude_comms.cli._installing import change

    change(scope.value, remove=remove, yes=yes, as_json=as_json)
