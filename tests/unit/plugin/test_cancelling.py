"""Cancelling over HTTP: what passes through as it came, and whose call a cancellation ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_comms.plugin._cancelling import Cancelling

if TYPE_CHECKING:
    from collections.abc import MutableMapping

pytestmark = pytest.mark.anyio

START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}


class Streaming:
    """An application that reads a request, begins its answer, and goes on until its client is gone."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.gone: list[bytes] = []
        self.begun = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        await send(START)
        if b"tools/call" not in body:
            await send({"type": "http.response.body", "body": b"done"})
            return
        await send({"type": "http.response.body", "body": b"...", "more_body": True})
        self.begun.set()
        assert (await receive())["type"] == "http.disconnect"
        self.gone.append(body)


async def posted(app: Cancelling, *chunks: bytes, **headers: str) -> list[MutableMapping[str, Any]]:
    """What is sent in answer to a request that comes in `chunks`; its client stays."""
    left = list(chunks)
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        if not left:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "headers": named}, receive, send)
    return sent


def request(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


CALL = request(id=1, method="tools/call")


def cancel(call: Any) -> bytes:
    return request(method="notifications/cancelled", params={"requestId": call})


async def test_a_cancellation_ends_the_call_of_its_own_session_and_the_answer_to_it() -> None:
    inner = Streaming()
    app = Cancelling(inner, most_bytes=1000)
    sent: list[MutableMapping[str, Any]] = []

    async def call() -> None:
        sent.extend(await posted(app, CALL[:5], CALL[5:], mcp_session_id="one"))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await inner.begun.wait()
            for other in ("one", "two"):
                for wrong in (cancel("1"), cancel(2), cancel([1]), request(method="notifications/cancelled", params=3)):
                    await posted(app, wrong, mcp_session_id=other)
            await posted(app, cancel(1), mcp_session_id="two")
            await posted(app, cancel(1))
            assert inner.gone == []
            await posted(app, cancel(1), mcp_session_id="one")
    assert inner.gone == [CALL]
    assert sent[-1] == {"type": "http.response.body", "body": b""}
    await posted(app, cancel(1), mcp_session_id="one")  # it is over: nothing is left to cancel


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"[" * 900, b'{"id": {}, "method": 1}', b"x" * 5000])
async def test_whatever_a_body_is_it_comes_through_whole(body: bytes) -> None:
    inner = Streaming()
    chunks = [body[:700], body[700:3000], body[3000:]]
    sent = await posted(Cancelling(inner, most_bytes=1000), *chunks, mcp_session_id="one")
    assert inner.bodies == [body]
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


async def test_only_a_hello_is_given_a_session_and_a_new_one_each_time() -> None:
    app = Cancelling(Streaming(), most_bytes=1000)
    hello = request(id=0, method="initialize")
    given = [dict((await posted(app, hello))[0]["headers"])[b"mcp-session-id"] for _ in range(2)]
    assert given[0] != given[1]
    assert min(map(len, given)) >= 20
    for headers in ({}, {"mcp_session_id": "one"}, {"mcp_protocol_version": "2026-07-28"}):
        assert (await posted(app, request(id=1, method="ping"), **headers))[0]["headers"] == []
