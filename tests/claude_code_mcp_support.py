"""The stock claude-code-mcp from npm, installed once for all tests of a checkout; and the backend over it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from filelock import FileLock
from node_support import run_npm

from claude_comms.background.backends.mcp_bridge._node import find_node
from claude_comms.background.backends.mcp_bridge._stock import StockBridge
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.testing import LoopbackAPI

PACKAGE = "@steipete/claude-code-mcp"
VERSION = "1.10.12"
_LEAN = ("--omit=optional", "--no-audit", "--no-fund", "--ignore-scripts")


@pytest.fixture(scope="session")
def claude_code_mcp(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The command that starts it. npm installs it where that has not been done for this checkout."""
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("claude-comms-node")) / f"claude-code-mcp-{VERSION}"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text('{"private": true}')
            run_npm(folder, "install", *_LEAN, f"{PACKAGE}@{VERSION}")
            (folder / "complete").touch()
    script = folder / "node_modules" / PACKAGE / "dist" / "server.js"
    return str(find_node().path), str(script.resolve())


def allow_bypass(home: Path, *, more: str = "") -> None:
    """What a user writes who wants a stock claude-code-mcp."""
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.toml").write_text(f'allow_permission_bypass = ["claude-code-mcp"]\n{more}')


def stock_settings(home: Path, api: LoopbackAPI, command: Sequence[str] = (), **more: Any) -> Settings:
    """Settings with a stock server that is asked over the loopback API."""
    return Settings.load(
        {
            "home": home,
            "backend": "bridge",
            "bridge_server": "claude-code-mcp",
            "bridge_command": tuple(command),
            "anthropic_api_key": api.key,
            "anthropic_base_url": api.base_url,
            **more,
        }
    )


def stock_bridge(home: Path, api: LoopbackAPI, command: Sequence[str], **more: Any) -> StockBridge:
    """The backend, allowed."""
    allow_bypass(home)
    return StockBridge(stock_settings(home, api, command, **more))


async def asked(api: LoopbackAPI, count: int) -> None:
    """Wait until the API has had `count` questions."""
    while len(api.requests.messages) < count:
        await anyio.to_thread.run_sync(api.wait_for_requests, len(api.requests) + 1)


def told(request_body: Any) -> str:
    """What the user says in a request of Claude Code's: the prompt that it was started with, and remarks of its own."""
    users = [message for message in request_body["messages"] if message["role"] == "user"]
    content = users[-1]["content"]
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


@dataclass(frozen=True)
class TinyServer:
    """A backend over a tiny MCP server, and where that writes down what it is called with."""

    backend: StockBridge
    record: Path

    @property
    def calls(self) -> list[dict[str, Any]]:
        """What it was called with: pid, prompt, folder, variables."""
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text().splitlines()]
