"""Whoever sits at the socket and is no daemon of ours: told in bounded time, as an error of ours."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import ServerConnection, unix_serve

from claude_comms.daemon import DaemonInfo, Places, own_version
from claude_comms.daemon._places import write_info
from claude_comms.daemon.client import RemoteEngine
from claude_comms.errors import DaemonError, DaemonNotRunningError
from claude_comms.settings import Settings
from claude_comms.types import Question

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(claude_comms_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    places = Places(claude_comms_home)
    places.token.write_text("token")
    socket = tmp_path_factory.mktemp("s") / "sock"
    info = DaemonInfo(os.getpid(), own_version(), socket, None, places.token, "2026-11-21T00:00:00+00:00", places.log)
    write_info(places, info)
    return Settings.load({"home": claude_comms_home})


def socket_of(settings: Settings) -> str:
    from claude_comms.daemon._places import read_info

    info = read_info(Places(settings.home))
    assert info is not None
    return str(info.socket)


@asynccontextmanager
async def saying(settings: Settings, words: bytes) -> AsyncGenerator[None]:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        writer.close()

    async with await asyncio.start_unix_server(answer, socket_of(settings)):
        yield


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<a>",
    ],
)
async def test_who_speaks_no_language_of_ours_is_told_as_our_error(settings: Settings, words: bytes) -> None:
    async with saying(settings, words):
        engine = RemoteEngine(settings, reconnect_s=0.2)
        for call in (engine.open, engine.list_conversations):
            with pytest.raises(DaemonError) as caught:
                await asyncio.wait_for(call(), 5)
            assert type(caught.value).__module__ == "claude_comms.errors"
        assert [check.ok for check in await asyncio.wait_for(engine.diagnose(), 5)] == [False]
        await engine.close()


@pytest.mark.parametrize("words", ["nonsense", "[]", '{"jsonrpc": "2.0"}', '{"method": "turn"}', '"x"', "null"])
async def test_nonsense_on_the_websocket_ends_what_waits(settings: Settings, words: str) -> None:
    async def talk(socket: ServerConnection) -> None:
        import json

        hello: dict[str, Any] = json.loads(await socket.recv())
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": hello["id"], "result": {}}))
        await socket.recv()
        await socket.send(words)
        await socket.wait_closed()

    async with unix_serve(talk, socket_of(settings)):
        engine = RemoteEngine(settings, reconnect_s=0.2)
        await engine.open()
        with pytest.raises(DaemonError):
            await asyncio.wait_for((await engine.ask(Question("marker", "arangodb", "?"))).reply(), 5)
        await engine.close()


async def test_a_socket_that_nobody_listens_at_is_no_daemon(settings: Settings) -> None:
    async with saying(settings, b""):
        pass
    with pytest.raises(DaemonNotRunningError):
        await RemoteEngine(settings, reconnect_s=0.1).open()
