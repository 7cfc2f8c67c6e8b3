"""Our bridge with the real TypeScript Agent SDK and Claude Code, against the loopback API; and what is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bridge_support import bridge_settings
from claude_code_support import MODEL, READING, Talk, descendants, last_line

from claude_comms.background.backends.mcp_bridge._own import OwnBridge
from claude_comms.testing import LoopbackAPI
from claude_comms.types import InstanceSpec, Pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from node_support import InstalledBridge

    from claude_comms.background.backends.mcp_bridge._session import BridgeSession


@pytest.fixture
def api() -> Iterator[LoopbackAPI]:
    with LoopbackAPI(lambda request: f"Answer to {last_line(request)}") as api:
        yield api


@pytest.fixture
def module_path(tmp_path: Path) -> Path:
    path = tmp_path / "module"
    path.mkdir()
    (path / "pages.py").write_text("def blocks(): ...\n")
    return path


@pytest.fixture
def spec(module_path: Path) -> InstanceSpec:
    return InstanceSpec(Pair("marker", "arangodb"), "bridge", MODEL, READING, module_path)


@pytest.fixture
async def backend(api: LoopbackAPI, tmp_path: Path, installed: InstalledBridge) -> AsyncIterator[OwnBridge]:
    """A backend over the loopback API. The test fails if any of its processes or files outlives it."""
    before = descendants()
    backend = OwnBridge(bridge_settings(tmp_path / "home", api, installed))
    yield backend
    await backend.close()
    assert descendants() <= before
    assert list((tmp_path / "home" / "claude-code" / "scratch").glob("*")) == []


@pytest.fixture
async def session(backend: OwnBridge, spec: InstanceSpec) -> BridgeSession:
    return await backend.open(spec)


@pytest.fixture
def talk(session: BridgeSession) -> Talk:
    return Talk(session)
