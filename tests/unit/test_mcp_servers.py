"""When a definition of an MCP server is the one that the user agreed to."""

from __future__ import annotations

from typing import Any

import pytest

from claude_comms.mcp_servers import McpServer, changed_servers, granted_definitions

PROGRAM: dict[str, Any] = {"command": "rows", "args": ["--all"], "env": {"ROWS_KEY": "one"}}
ADDRESS: dict[str, Any] = {"url": "https://rows.example.org/mcp", "headers": {"Authorization": "one"}}


def server(values: dict[str, Any]) -> McpServer:
    return McpServer.model_validate(values)


@pytest.mark.parametrize(
    ("was", "now", "changed"),
    [
        (PROGRAM, PROGRAM, False),
        (PROGRAM, {**PROGRAM, "env": {"ROWS_KEY": "two"}}, False),
        (PROGRAM, {**PROGRAM, "command": "other"}, True),
        (PROGRAM, {**PROGRAM, "args": ["--all", "--write"]}, True),
        (PROGRAM, {**PROGRAM, "args": ["--a", "ll"]}, True),
        (PROGRAM, {**PROGRAM, "env": {"LD_PRELOAD": "one"}}, True),
        (PROGRAM, ADDRESS, True),
        (ADDRESS, {**ADDRESS, "headers": {"Authorization": "two"}}, False),
        (ADDRESS, {**ADDRESS, "url": "https://other.example.org/mcp"}, True),
        (ADDRESS, {**ADDRESS, "headers": {"X-Key": "one"}}, True),
    ],
)
def test_what_is_run_counts_and_a_renewed_secret_does_not(
    was: dict[str, Any], now: dict[str, Any], changed: bool
) -> None:
    grants = ("Bash", "mcp:rows/count", "mcp:rows/list")
    agreed = granted_definitions(grants, {"rows": server(was)})
    assert changed_servers(grants, agreed, {"rows": server(now), "other": server(ADDRESS)}) == (
        ("rows",) if changed else ()
    )


def test_a_server_that_was_defined_after_it_was_granted_was_never_agreed_to() -> None:
    agreed = granted_definitions(("mcp:rows",), {})
    assert agreed == {}
    assert changed_servers(("mcp:rows",), agreed, {"rows": server(PROGRAM)}) == ("rows",)


def test_a_server_that_is_not_defined_has_not_changed() -> None:
    assert changed_servers(("mcp:rows",), {"rows": "x"}, {}) == ()


def test_no_secret_can_be_guessed_from_a_digest() -> None:
    assert server(PROGRAM).digest == server({**PROGRAM, "env": {"ROWS_KEY": "another"}}).digest
