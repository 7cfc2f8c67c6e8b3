"""The MCP server: what Claude Code, and any other MCP client, asks modules with.

Light to import: the SDK is loaded when the first client comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.plugin._http import MCP_PATH, McpApp

if TYPE_CHECKING:
    from claude_comms.settings import Settings

__all__ = ["MCP_PATH", "McpApp", "serve_stdio"]


def serve_stdio(settings: Settings) -> None:
    """Serve MCP on stdin and stdout until the client closes them. ConfigError where the SDK is not installed."""
    from claude_comms.plugin._stdio import serve

    serve(settings)
