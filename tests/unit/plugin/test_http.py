"""The ASGI application before the SDK is loaded, and where it cannot be."""

from __future__ import annotations

import sys

import httpx
import pytest

from claude_comms.plugin import MCP_PATH, McpApp
from claude_comms.settings import Settings

pytestmark = pytest.mark.anyio


async def asked(method: str) -> httpx.Response:
    transport = httpx.ASGITransport(McpApp(Settings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, MCP_PATH, json={})


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_there_is_no_session_to_listen_to_or_to_end(method: str) -> None:
    answer = await asked(method)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_without_the_sdk_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    answer = await asked("POST")
    assert answer.status_code == 503
    assert "claude-module-comms[mcp]" in answer.json()["error"]["message"]
