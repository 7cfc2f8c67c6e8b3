"""The stock claude-code-mcp with the real Claude Code against the loopback API, and what is left afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from claude_code_mcp_support import TinyServer, stock_bridge
from claude_code_support import MODEL, Talk, descendants, last_line

from claude_comms.testing import LoopbackAPI
from claude_comms.types import InstanceSpec, Pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from claude_comms.background.backends.mcp_bridge._stock import StockBridge
    from claude_comms.background.backends.mcp_bridge._stock_session import StockSession

_TINY = Path(__file__).with_name("tiny_claude_code_server.py")


@pytest.fixture
def api() -> Iterator[LoopbackAPI]:
    with LoopbackAPI(lambda request: f"Answer to {last_line(request)}") as api:
        yield api


@pytest.fixture
def module_path(tmp_path: Path) -> Path:
    path = tmp_path / "module"
    path.mkdir()
    return path


@pytest.fixture
def spec(module_path: Path) -> InstanceSpec:
    return InstanceSpec(Pair("marker", "arangodb"), "bridge", MODEL, directory=module_path)


@pytest.fixture
async def nothing_left(tmp_path: Path) -> AsyncIterator[None]:
    """The test fails if a process, or a scratch folder, outlives its backends."""
    before = descendants()
    yield
    assert descendants() <= before
    assert list((tmp_path / "home" / "claude-code" / "scratch").glob("*")) == []


@pytest.fixture
async def backend(
    api: LoopbackAPI, tmp_path: Path, claude_code_mcp: tuple[str, ...], nothing_left: None
) -> AsyncIterator[StockBridge]:
    """A backend over the stock server."""
    backend = stock_bridge(tmp_path / "home", api, claude_code_mcp)
    yield backend
    await backend.close()


@pytest.fixture
async def session(backend: StockBridge, spec: InstanceSpec) -> StockSession:
    return await backend.open(spec)


@pytest.fixture
def talk(session: StockSession) -> Talk:
    return Talk(session)


@pytest.fixture
async def tiny(api: LoopbackAPI, tmp_path: Path, nothing_left: None) -> AsyncIterator[Callable[[str], TinyServer]]:
    """Makes backends over a tiny MCP server that behaves as it is told."""
    made: list[TinyServer] = []

    def make(behaviour: str) -> TinyServer:
        record = tmp_path / "record.jsonl"
        command = (sys.executable, str(_TINY), str(record), behaviour)
        made.append(TinyServer(stock_bridge(tmp_path / "home", api, command), record))
        return made[-1]

    yield make
    for server in made:
        await server.backend.close()
