"""HTTP over a socket: connections that serve again, and how their end is noticed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import anyio
import pytest

from claude_comms.daemon.client._exchanges import BrokenExchangeError, Exchanges, UnreachableError

if TYPE_CHECKING:
    from asyncio import StreamReader as Reader
    from asyncio import StreamWriter as Writer
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


class Listener:
    """Answers each request with what it read of it, and counts its connections."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Writer] = []
        self.answer: Callable[[Reader, Writer], Awaitable[None]] = self.echo

    async def talk(self, reader: Reader, writer: Writer) -> None:
        self.connections.append(writer)
        try:
            while not reader.at_eof():
                await self.answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def echo(reader: Reader, writer: Writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        told = json.dumps({"request": head.split("\r\n")[0], "body": body.decode(), "of": fields.get("x-of")}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))


@pytest.fixture
async def listener(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Listener]:
    listener = Listener(tmp_path_factory.mktemp("s") / "sock")
    async with await asyncio.start_unix_server(listener.talk, listener.path):
        yield listener
        for writer in listener.connections:
            writer.close()


async def said(exchanges: Exchanges, method: str = "GET", body: bytes = b"") -> dict[str, str]:
    answer = await asyncio.wait_for(exchanges.exchange(method, "/a?b=c", [], body), 5)
    assert (answer.status, answer.reason) == (200, "OK")
    return json.loads(answer.content)


async def test_a_request_is_sent_whole_and_a_connection_serves_one_after_the_other(listener: Listener) -> None:
    exchanges = Exchanges(listener.path, [("X-Of", "all")])
    assert await said(exchanges) == {"request": "GET /a?b=c HTTP/1.1", "body": "", "of": "all"}
    large = b"x" * 300_000
    assert (await said(exchanges, "POST", large))["body"] == large.decode()
    assert len(listener.connections) == 1
    await exchanges.close()


async def test_requests_at_once_have_a_connection_each(listener: Listener) -> None:
    exchanges = Exchanges(listener.path, [])
    await asyncio.gather(*(said(exchanges) for _ in range(3)))
    assert len(listener.connections) == 3
    await said(exchanges)
    assert len(listener.connections) == 3
    await exchanges.close()


async def test_a_connection_that_was_ended_meanwhile_is_not_used_again(listener: Listener) -> None:
    exchanges = Exchanges(listener.path, [])
    await said(exchanges)
    listener.connections[0].close()
    await listener.connections[0].wait_closed()
    assert (await said(exchanges, "POST", b"once"))["body"] == "once"
    assert len(listener.connections) == 2
    await exchanges.close()


async def test_a_cancelled_exchange_leaves_no_connection_to_be_mixed_up_with_the_next(listener: Listener) -> None:
    async def never(reader: Reader, _: Writer) -> None:
        await reader.readexactly(1_000_000)

    exchanges = Exchanges(listener.path, [])
    listener.answer = never
    with anyio.move_on_after(0.05) as waiting:
        await exchanges.exchange("GET", "/slow", [], b"")
    assert waiting.cancelled_caught
    listener.answer = listener.echo
    assert (await said(exchanges))["request"] == "GET /a?b=c HTTP/1.1"
    assert len(listener.connections) == 2
    await exchanges.close()


async def test_who_refuses_before_all_is_read_is_heard(listener: Listener) -> None:
    async def refuse(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.write_eof()
        await reader.read()

    listener.answer = refuse
    exchanges = Exchanges(listener.path, [])
    answer = await asyncio.wait_for(exchanges.exchange("POST", "/", [], b"x" * 100_000), 5)
    assert (answer.status, answer.reason, answer.content) == (413, "Too Large", b"{}")
    await exchanges.close()


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b"nonsense\r\n\r\n"])
async def test_an_answer_that_is_none_is_told_from_nobody_being_there(listener: Listener, words: bytes) -> None:
    async def speak(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(words)
        raise ConnectionError

    listener.answer = speak
    exchanges = Exchanges(listener.path, [])
    with pytest.raises(BrokenExchangeError):
        await asyncio.wait_for(exchanges.exchange("GET", "/", [], b""), 5)
    elsewhere = Exchanges(listener.path.with_name("nobody"), [])
    with pytest.raises(UnreachableError):
        await asyncio.wait_for(elsewhere.exchange("GET", "/", [], b""), 5)
