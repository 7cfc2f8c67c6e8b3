"""An asynchronous communicator belongs to the event loop that opened it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from claude_comms import AsyncCommunicator
from claude_comms.errors import ConfigError
from claude_comms.testing.scripted import ScriptedBackend

if TYPE_CHECKING:
    from pathlib import Path


def test_in_a_second_event_loop_it_says_what_to_do(claude_comms_home: Path) -> None:
    comm = AsyncCommunicator("marker", settings={"home": claude_comms_home}, backend=ScriptedBackend())

    async def ask() -> str:
        return (await comm.send_message("arangodb", "one")).status

    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(ask()) == "complete"
        with pytest.raises(ConfigError, match=r"another event loop\. Create one in each, or use ModuleCommunicator"):
            second.run(ask())
        assert first.run(ask()) == "complete"
        first.run(comm.close())
