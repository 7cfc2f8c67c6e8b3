"""How many connections there may be, and what becomes of those beyond."""

from __future__ import annotations

import resource
import socket
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from daemon_support import running

from claude_comms.daemon.server import Limits

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform == "win32", reason="needs descriptors to count")]


@pytest.mark.parametrize(("descriptors", "connections"), [(64, 8), (148, 50), (100_000, 256), (-1, 256)])
def test_connections_leave_descriptors_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, connections: int
) -> None:
    def limit(_: int) -> tuple[int, int]:
        return descriptors, descriptors

    monkeypatch.setattr(resource, "getrlimit", limit)
    assert Limits.fitting().connections == connections


async def test_those_beyond_the_limit_that_say_nothing_hold_nothing(claude_comms_home: Path) -> None:
    async with running(claude_comms_home, limits=Limits(connections=2)) as daemon:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        try:
            for client in clients:
                client.setblocking(False)
                client.connect(str(daemon.path))
            with anyio.fail_after(10):
                while _open(clients) > 2:  # noqa: ASYNC110 - it is the other side that changes
                    await anyio.sleep(0.05)
        finally:
            for client in clients:
                client.close()
        with anyio.fail_after(10):
            async with daemon.client() as client:
                while (await client.get("/v1/daemon")).status_code != 200:  # noqa: ASYNC110 - as above
                    await anyio.sleep(0.05)


def _open(clients: list[socket.socket]) -> int:
    """How many the daemon has not closed."""
    still = 0
    for client in clients:
        try:
            client.recv(1)
        except BlockingIOError:
            still += 1
        except OSError:
            continue
    return still
