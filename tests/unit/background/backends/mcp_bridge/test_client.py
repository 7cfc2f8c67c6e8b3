"""The client against a small server that answers as it is told to: a bridge that is of another mind."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

from claude_comms.background.backends.mcp_bridge import _client
from claude_comms.background.backends.mcp_bridge._client import Client, connected
from claude_comms.background.backends.mcp_bridge._failures import ConnectionLostError, RefusedError
from claude_comms.errors import BackendProtocolError, BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from websockets.asyncio.server import ServerConnection


def ignore(_method: str, _params: Mapping[str, Any]) -> None:
    pass


pytestmark = pytest.mark.anyio

SESSION = "0b7a3f0e-3a52-4d8e-9d6c-0d2b8a1c7e55"
HELLO = {"protocol": 1, "bridge": "0.1.0", "sdk": "0.3.329", "node": "v20.0.0", "pid": 1}
USAGE = {"input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 0, "cache_write_tokens": 0, "cost_usd": None}


class Server:
    """A bridge's side: `answers` by method, a value or what makes the frames of it."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.answers: dict[str, Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]] = {}

    async def handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.headers.append(dict(socket.request.headers))
        with suppress(ConnectionClosed):
            await self.answer(socket)

    async def answer(self, socket: ServerConnection) -> None:
        async for frame in socket:
            message = json.loads(frame)
            self.heard.append(message)
            answer = self.answers.get(message["method"])
            if answer is not None:
                await answer(socket, message)
            elif message["method"] == "hello":
                await socket.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": HELLO}))

    @asynccontextmanager
    async def client(self, notices: list[str] | None = None) -> AsyncGenerator[Client]:
        heard = [] if notices is None else notices
        client = await connected(self.port, "secret", lambda method, _: heard.append(method), "test/1")
        try:
            yield client
        finally:
            await client.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with serve(made.handle, "127.0.0.1", 0, subprotocols=["claude-comms.bridge.v1"]) as listening:  # type: ignore[list-item]
        made.port = next(iter(listening.sockets)).getsockname()[1]
        yield made


def result(value: object) -> Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]:
    async def answer(socket: ServerConnection, message: dict[str, Any]) -> None:
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": value}))

    return answer


def error(code: int, message: str, **data: object) -> Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]:
    async def answer(socket: ServerConnection, request: dict[str, Any]) -> None:
        told = {"code": code, "message": message, "data": data}
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": told}))

    return answer


async def test_it_says_who_it_is_and_with_which_token(server: Server) -> None:
    async with server.client() as client:
        assert client.facts["bridge"] == "0.1.0"
    assert server.headers[0]["authorization"] == "Bearer secret"
    assert server.heard[0]["params"] == {"protocols": [1], "client": "test/1"}


async def test_another_version_is_told_with_what_to_upgrade(server: Server) -> None:
    text = "the client speaks protocols 1 and this bridge (9.0) 4. Upgrade the client."
    server.answers["hello"] = error(-32000, text, type="version", supported=[4], bridge="9.0")
    with pytest.raises(BackendUnavailableError, match="Upgrade the client"):
        async with server.client():
            pass


async def test_a_bridge_that_speaks_nonsense_is_told_and_left(server: Server) -> None:
    server.answers["hello"] = result({"protocol": "one"})
    with pytest.raises(BackendProtocolError, match=r"hello\.result"):
        async with server.client():
            pass


async def test_nobody_there_is_a_lost_connection(server: Server) -> None:
    with pytest.raises(ConnectionLostError):
        await connected(9, "secret", ignore, "test/1")


async def test_a_bridge_that_does_not_answer_pings_is_lost(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_client, "_PING_EVERY_S", 0.05)
    monkeypatch.setattr(_client, "_PONG_WITHIN_S", 0.1)

    asleep: list[ServerConnection] = []

    async def sleep(socket: ServerConnection, _message: dict[str, Any]) -> None:
        socket.transport.pause_reading()
        asleep.append(socket)

    server.answers["list"] = sleep
    async with server.client() as client:
        with anyio.fail_after(10), pytest.raises(ConnectionLostError):
            await client.call("list", {}, timeout_s=20)
        assert client.lost
    asleep[0].transport.abort()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_port_where_our_token_is_not_taken_is_said(status: int) -> None:
    def refuse(_connection: ServerConnection, _request: object) -> Response:
        return Response(status, "No", Headers())

    async with serve(Server().handle, "127.0.0.1", 0, process_request=refuse) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        with pytest.raises(BackendUnavailableError, match="does not take our token"):
            await connected(port, "secret", ignore, "test/1")


async def test_a_bridge_that_does_not_say_hello_in_time_is_lost(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_socket: ServerConnection, _message: dict[str, Any]) -> None:
        pass

    monkeypatch.setattr(_client, "_HELLO_WITHIN_S", 0.05)
    server.answers["hello"] = never
    with anyio.fail_after(10), pytest.raises(ConnectionLostError, match="hello"):
        await connected(server.port, "secret", ignore, "test/1")


async def test_a_request_has_a_deadline_and_the_connection_goes_on(server: Server) -> None:
    async def never(_socket: ServerConnection, _message: dict[str, Any]) -> None:
        pass

    async with server.client() as client:
        server.answers["health"] = never
        with pytest.raises(TimeoutError):
            await client.call("health", {}, timeout_s=0.05)
        server.answers["list"] = result({"sessions": []})
        assert await client.call("list", {}, timeout_s=5) == {"sessions": []}


async def test_answers_find_their_requests_in_any_order(server: Server) -> None:
    waiting: list[dict[str, Any]] = []

    async def late(socket: ServerConnection, message: dict[str, Any]) -> None:
        waiting.append(message)
        if len(waiting) == 2:
            for each in reversed(waiting):
                listed: dict[str, Any] = {"session": each["params"]["session"], "pid": 5, "servers": []}
                await socket.send(json.dumps({"jsonrpc": "2.0", "id": each["id"], "result": listed}))

    server.answers["open"] = late
    ids = [SESSION, SESSION.replace("0b", "1b")]
    found: dict[str, str] = {}
    async with server.client() as client, anyio.create_task_group() as tasks:

        async def open_one(session: str) -> None:
            found[session] = (await client.call("open", {"session": session}, timeout_s=5))["session"]

        for session in ids:
            tasks.start_soon(open_one, session)
    assert found == {session: session for session in ids}


async def test_a_connection_that_ends_fails_all_that_wait(server: Server) -> None:
    async def hang_up(socket: ServerConnection, _message: dict[str, Any]) -> None:
        await socket.close()

    server.answers["list"] = hang_up
    async with server.client() as client:
        with pytest.raises(ConnectionLostError):
            await client.call("list", {}, timeout_s=5)
        await client.ended()
        assert client.lost
        with pytest.raises(ConnectionLostError):
            await client.call("list", {}, timeout_s=5)


async def test_an_answer_that_is_invalid_ends_the_connection_and_says_where(server: Server) -> None:
    server.answers["list"] = result({"sessions": [{"session": "no uuid"}]})
    async with server.client() as client:
        with pytest.raises(BackendProtocolError, match=r"list\.result/sessions/0"):
            await client.call("list", {}, timeout_s=5)
        await client.ended()


async def test_a_refusal_carries_its_kind(server: Server) -> None:
    server.answers["close"] = error(-32000, "no such session.", type="unknown_session")
    async with server.client() as client:
        with pytest.raises(RefusedError) as raised:
            await client.call("close", {"session": SESSION, "discard": False}, timeout_s=5)
    assert raised.value.kind == "unknown_session"


async def test_a_turn_is_told_in_order_and_ends_once(server: Server) -> None:
    async def turn(socket: ServerConnection, message: dict[str, Any]) -> None:
        names = {"session": SESSION, "turn": message["params"]["turn"]}

        async def tell(method: str, **more: object) -> None:
            await socket.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": {**names, **more}}))

        await tell("turn.ready")
        await tell("turn.delta", piece=0, text="a")
        await tell("turn.delta", piece=1, text="b")
        end: dict[str, Any] = {
            "pieces": 2,
            "model": "m",
            "stop_reason": "end_turn",
            "position": None,
            "usage": USAGE,
            "files": [],
        }
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {**names, **end}}))

    server.answers["turn"] = turn
    notices: list[str] = []
    async with server.client(notices) as client:
        running = await client.begin_turn(SESSION, "question", model="m", window=8)
        told = [await running.next(5) for _ in range(4)]
        assert [event[0] for event in told if event] == ["turn.ready", "turn.delta", "turn.delta", "result"]
        running.wake()
        assert await running.next(5) is None
    assert notices == ["turn.ready", "turn.delta", "turn.delta", "turn.result"]
