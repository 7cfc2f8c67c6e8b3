"""The real Claude Code against the loopback API: a module's directory, a backend, and what is left afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from claude_code_support import MODEL, READING, Talk, descendants, last_line

from claude_comms.background.backends.claude_code import ClaudeCodeBackend
from claude_comms.testing import LoopbackAPI
from claude_comms.types import InstanceSpec, Pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from claude_comms.background.backends.claude_code._session import ClaudeCodeSession


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
    return InstanceSpec(Pair("marker", "arangodb"), "claude-code", MODEL, READING, module_path)


@pytest.fixture
async def backend(api: LoopbackAPI, tmp_path: Path) -> AsyncIterator[ClaudeCodeBackend]:
    """A backend over the loopback API. The test fails if any of its processes outlives it."""
    before = descendants()
    backend = ClaudeCodeBackend(tmp_path / "home", variables=api.environment())
    yield backend
    await backend.close()
    assert descendants() <= before
    assert list((tmp_path / "home" / "claude-code" / "scratch").glob("*")) == []


@pytest.fixture
async def session(backend: ClaudeCodeBackend, spec: InstanceSpec) -> ClaudeCodeSession:
    return await backend.open(spec)


@pytest.fixture
def talk(session: ClaudeCodeSession) -> Talk:
    return Talk(session)
