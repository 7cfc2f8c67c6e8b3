"""Engines over a daemon's, which is in the test's own loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from daemon_road import Daemon, Road

from claude_comms.daemon.client import RemoteEngine
from claude_comms.events import MemoryBus
from claude_comms.settings import Settings
from claude_comms.testing.scripted import ScriptedBackend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from daemon_road import Connect


@pytest.fixture
async def daemon(claude_comms_home: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Daemon]:
    short = tmp_path_factory.mktemp("s")
    settings = Settings.load({"home": claude_comms_home, "backend": "scripted"})
    bus = MemoryBus()
    await bus.open()
    daemon = Daemon(settings, ScriptedBackend(), bus, Road(short / "road", short / "real"))
    await daemon.rise()
    yield daemon
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            await daemon.fall()
    await bus.close()


@pytest.fixture
def connect(daemon: Daemon) -> Connect:
    """Opens engines over the daemon; `settings` overrides single ones of its."""

    @asynccontextmanager
    async def connected(*, reconnect_s: float = 5.0, **settings: Any) -> AsyncGenerator[RemoteEngine]:
        engine = RemoteEngine(daemon.settings.with_overrides(**settings), reconnect_s=reconnect_s)
        await engine.open()
        try:
            yield engine
        finally:
            await engine.close()

    return connected
