"""The stock claude-code-mcp from npm, installed once for a whole run of the tests; and the backend over it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from claude_comms.background.backends.mcp_bridge._stock import StockBridge
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from claude_comms.testing import LoopbackAPI

PACKAGE = "@steipete/claude-code-mcp"
VERSION = "1.10.12"
_INSTALL_S = 110.0
_PASSED_ON = {
    "PATH", "HOME", "LANG", "LC_ALL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
}  # fmt: skip

_NPM_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name in _PASSED_ON or name.lower().startswith("npm_config_")
}
"""As it was before the tests changed theirs: npm has to find the registry as its user has set it up."""


@pytest.fixture(scope="session")
def claude_code_mcp(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The command that starts it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("claude-code-mcp needs node and npm on PATH")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "claude-code-mcp"
    script = folder / "node_modules" / PACKAGE / "dist" / "server.js"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            _install(npm, folder)
            (folder / "done").touch()
    return node, str(script.resolve())


def _install(npm: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "package.json").write_text('{"private": true}')
    done = subprocess.run(
        [npm, "install", "--omit=optional", "--no-audit", "--no-fund", "--ignore-scripts", f"{PACKAGE}@{VERSION}"],
        cwd=folder,
        env=_NPM_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_INSTALL_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"npm install ended with {done.returncode}: {done.stderr[-2000:]}")


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
