"""Opening an engine, when whoever asked has stopped waiting."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms.communicator._holder import EngineHolder
from claude_comms.errors import DeadlineExceededError, StoreError
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.protocols import Engine


class _Late(EngineHolder):
    """One whose engine turns out to be out of reach once `told` is set."""

    told: asyncio.Event

    async def _chosen(self) -> Engine:
        await self.told.wait()
        raise StoreError("out of reach")

    async def ask(self) -> Engine:
        return await self._opened(0.01)


def test_an_opening_that_fails_after_the_deadline_is_no_news_on_the_terminal(claude_comms_home: Path) -> None:
    complaints: list[dict[str, Any]] = []

    async def ask() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, facts: complaints.append(facts))
        holder = _Late(Settings.load({"home": claude_comms_home}))
        holder.told = asyncio.Event()
        with pytest.raises(DeadlineExceededError, match="neither the store nor a daemon"):
            await holder.ask()
        holder.told.set()
        await holder.close()
        del holder
        gc.collect()

    asyncio.run(ask())
    gc.collect()
    assert complaints == []
