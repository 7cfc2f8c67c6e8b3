"""How tools are offered: with hints, output schemas, and failures that a model can act on."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

from mcp_types import CallToolResult, TextContent, ToolAnnotations

from claude_comms.errors import ClaudeCommsError
from claude_comms.plugin._failures import failure_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.mcpserver import MCPServer

    from claude_comms.plugin._shapes import Shape

__all__ = ["answered", "failed", "offer"]

P = ParamSpec("P")
Effect = Literal["reads", "asks", "ends"]
"""What a tool does: looks at what is there, has a module asked, or ends something."""


def offer(server: MCPServer[Any], tool: Callable[P, Awaitable[CallToolResult]], *, title: str, effect: Effect) -> None:
    """Let clients call `tool` under its own name; its docstring is what models read."""
    server.add_tool(
        _reporting(tool),
        name=tool.__name__,
        title=title,
        description=inspect.getdoc(tool),
        annotations=ToolAnnotations(
            title=title,
            read_only_hint=effect == "reads",
            destructive_hint=effect == "ends",
            idempotent_hint=effect != "asks",
            # A module's instance is a model of its own, which may look into code that nobody here has seen.
            open_world_hint=effect == "asks",
        ),
    )


def answered(text: str, result: Shape) -> CallToolResult:
    """A result in words and as JSON."""
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=result.model_dump(mode="json")
    )


def failed(text: str) -> CallToolResult:
    """A failure, told to the model."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _reporting(tool: Callable[P, Awaitable[CallToolResult]]) -> Callable[P, Awaitable[CallToolResult]]:
    @functools.wraps(tool)
    async def called(*args: P.args, **kwargs: P.kwargs) -> CallToolResult:
        try:
            return await tool(*args, **kwargs)
        except ClaudeCommsError as error:
            return failed(failure_text(error))

    return called
