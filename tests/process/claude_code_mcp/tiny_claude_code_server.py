"""An MCP server on stdio with a tool claude_code: it writes down what it is called with, and behaves as it is told."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from mcp.server import MCPServer
from mcp_types import CallToolResult, ImageContent, TextContent

record, behaviour = Path(sys.argv[1]), sys.argv[2]
server = MCPServer("tiny")
wire = os.dup(1)  # from the moment that it serves, 1 is its stderr


def answer(prompt: str, folder: str) -> CallToolResult:
    call = {"pid": os.getpid(), "prompt": prompt, "folder": folder, "variables": dict(os.environ)}
    with record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(call) + "\n")
    if behaviour == "dies":
        os.write(2, b"out of luck\n")
        os._exit(3)
    if behaviour == "babbles":
        os.write(wire, b"debug: this is no message\n")
        time.sleep(60)
    if behaviour == "shows":
        return CallToolResult(content=[ImageContent(data="AA==", mime_type="image/png")])
    text = {"fails": "no luck today", "silent": ""}.get(behaviour, f"{prompt.splitlines()[-1]} in {folder}")
    return CallToolResult(content=[TextContent(text=text)], is_error=behaviour == "fails")


if behaviour == "other":

    @server.tool()
    def count(table: str) -> str:
        """How many rows a table has."""
        return table

elif behaviour == "homeless":

    @server.tool()
    def claude_code(prompt: str) -> str:
        """Ask, wherever."""
        return prompt

else:

    @server.tool(name="claude_code")
    def ask(prompt: str, workFolder: str) -> CallToolResult:  # noqa: N803 - the tool's own name for it
        """Ask."""
        return answer(prompt, workFolder)


if behaviour == "mute":
    time.sleep(60)
server.run()
