"""An MCP server for the tests, on stdio or over HTTP on loopback. A tool that is called leaves a file behind."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp_types import ToolAnnotations

road, record = sys.argv[1], Path(sys.argv[2])
server = MCPServer("rows", version="3.1", instructions="Counts rows.\n\nAsk it before you delete.")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def count(table: str, limit: int = 10) -> dict[str, int]:
    """How many rows a table has."""
    record.touch()
    return {table: limit}


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
def wipe(table: str) -> str:
    """Delete all rows of a table."""
    record.touch()
    return "gone"


for name in sorted(os.environ):
    server.add_tool(lambda: "", name=f"saw_{name}", description="A variable that this server can see.")

if road == "stdio":
    print("this is no message", flush=True)  # as some servers do
    server.run()
else:
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="error", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])
