"""Communicators of marker's, over a scripted backend or over the loopback Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms import AsyncCommunicator
from claude_comms.testing.scripted import ScriptedBackend

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.settings import Settings

Open = Callable[..., AbstractAsyncContextManager[AsyncCommunicator]]


@pytest.fixture
def scripted() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
def communicator(claude_comms_home: Path, scripted: ScriptedBackend) -> Open:
    """Opens communicators over the scripted backend, in a fresh home; arguments override."""

    @asynccontextmanager
    async def opened(source: str | None = "marker", **options: Any) -> AsyncGenerator[AsyncCommunicator]:
        settings = {"home": claude_comms_home, **options.pop("settings", {})}
        options.setdefault("backend", scripted)
        async with AsyncCommunicator(source, settings=settings, **options) as comm:
            yield comm

    return opened


@pytest.fixture
def over_api(loopback_settings: Settings) -> Open:
    """Opens communicators over the loopback Messages API; `settings` overrides single ones."""

    @asynccontextmanager
    async def opened(source: str | None = "marker", **options: Any) -> AsyncGenerator[AsyncCommunicator]:
        settings = loopback_settings.with_overrides(**options.pop("settings", {}))
        async with AsyncCommunicator(source, settings=settings, **options) as comm:
            yield comm

    return opened
