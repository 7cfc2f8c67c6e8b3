"""The MCP server over an engine of this process, and a real client of each revision in front of it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from mcp import Client

from claude_comms.plugin._desk import Desk
from claude_comms.plugin._server import make_server
from claude_comms.settings import Settings
from claude_comms.testing.scripted import ScriptedBackend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from mcp_types import CallToolResult

MODES = {"2025-11-25": "legacy", "2026-07-28": "2026-07-28"}


@dataclass
class Caller:
    """A client, and the words of what it is answered."""

    client: Client

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        return await self.client.call_tool(tool, arguments)

    async def values(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self.call(tool, **arguments)
        assert not result.is_error, self.words(result)
        assert result.structured_content is not None
        return result.structured_content

    async def failure(self, tool: str, **arguments: Any) -> str:
        result = await self.call(tool, **arguments)
        assert result.is_error
        return self.words(result)

    @staticmethod
    def words(result: CallToolResult) -> str:
        return "\n".join(getattr(block, "text", "") for block in result.content)


class Connect(Protocol):
    def __call__(self, **options: Any) -> AbstractAsyncContextManager[Caller]: ...


@pytest.fixture
def scripted() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture(params=list(MODES))
def connect(
    request: pytest.FixtureRequest,
    claude_comms_home: Path,
    scripted: ScriptedBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Connect:
    """Connects a client of one revision; `settings` and the client's own options may be given."""
    monkeypatch.chdir(tmp_path)

    @asynccontextmanager
    async def connected(settings: dict[str, Any] | None = None, **options: Any) -> AsyncGenerator[Caller]:
        chosen = Settings.load(
            {"home": claude_comms_home, "backend": scripted.name, "daemon": "off", **(settings or {})}
        )
        async with (
            Desk(chosen, over_http=False, backends=[scripted]) as desk,
            Client(make_server(desk), mode=MODES[request.param], **options) as client,
        ):
            yield Caller(client)

    return connected
