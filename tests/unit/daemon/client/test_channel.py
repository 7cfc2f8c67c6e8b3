"""One connection to the daemon, and when it counts as lost."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from websockets.exceptions import ConnectionClosedError

from claude_comms.daemon.client._channel import Connection, ConnectionLostError

pytestmark = pytest.mark.anyio


class ClosedSocket:
    """Closed by the other side; whoever reads has not been told yet."""

    async def send(self, *_: Any, **__: Any) -> None:
        raise ConnectionClosedError(None, None)

    async def recv(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None: ...


async def test_a_connection_over_which_nothing_can_be_sent_is_lost_at_once() -> None:
    """Else whoever asks again takes the same one again, without end, and nothing else in the loop ever runs."""
    connection = Connection(cast("Any", ClosedSocket()), cast("Any", None))
    assert not connection.lost
    with pytest.raises(ConnectionLostError):
        await connection.call("ask", {})
    assert connection.lost
    await connection.close()
