"""Whether the MCP SDK is there: it is an extra."""

from __future__ import annotations

from importlib.util import find_spec

from claude_comms.errors import ConfigError

__all__ = ["require_sdk"]


def require_sdk() -> None:
    """ConfigError that says what to install, where the SDK is missing."""
    if find_spec("mcp") is None or find_spec("mcp_types") is None:
        raise ConfigError("the MCP server needs the MCP SDK. Install it: pip install 'claude-module-comms[mcp]'")
