"""An MCP server on stdio for the tests: what it is called for, it writes down."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("tiny")
record = Path(sys.argv[1])


def note(line: str) -> None:
    with record.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


@server.tool()
def count(table: str) -> str:
    """How many rows a table has."""
    note(f"count {table}")
    return f"{table} has 4711 rows"


@server.tool()
def wipe(table: str) -> str:
    """Delete all rows of a table."""
    note(f"wipe {table}")
    return "gone"


@server.tool()
def variables() -> str:
    """The names of the variables that have a value here."""
    return json.dumps(sorted(name for name, value in os.environ.items() if value))


note(f"pid {os.getpid()} {len(os.environ['TINY_TOKEN'])}")
server.run()
