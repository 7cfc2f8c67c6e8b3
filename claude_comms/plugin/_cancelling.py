"""Cancelling over HTTP in the older revision, where a call and its cancellation are two requests that share nothing."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]
    Call = tuple[str, str | int]

__all__ = ["Cancelling"]

_SESSION = b"mcp-session-id"
_REVISION = b"mcp-protocol-version"


class Cancelling:
    """Tells `app` that the client of a call is gone, once that client has cancelled it.

    Clients of 2025-11-25 number their calls themselves, so one that says hello is given a session id by which its
    cancellations find its calls. Nothing else hangs on it: any id will do, one from before a restart too, and none is
    kept. In 2026-07-28 a client cancels by closing its request, and goes through here untouched.
    """

    def __init__(self, app: App, *, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._running: dict[Call, asyncio.Event] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        session = headers.get(_SESSION, b"").decode("latin-1")
        if not session and _REVISION in headers:
            await self._app(scope, receive, send)
            return
        read = await _read(receive, self._most_bytes)
        asked = _parsed(read)
        replayed = _replaying(read, receive)
        if asked.get("method") == "initialize":
            await self._app(scope, replayed, _with_session(send))
        elif session and asked.get("method") == "notifications/cancelled":
            self._cancel(session, asked)
            await self._app(scope, replayed, send)
        elif session and isinstance(asked.get("id"), str | int):
            await self._call((session, asked["id"]), scope, replayed, send)
        else:
            await self._app(scope, replayed, send)

    def _cancel(self, session: str, asked: dict[str, Any]) -> None:
        told: object = asked.get("params")
        call = cast("dict[str, Any]", told).get("requestId") if isinstance(told, dict) else None
        if isinstance(call, str | int) and (session, call) in self._running:
            self._running[session, call].set()

    async def _call(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        cancelled = self._running[call] = asyncio.Event()
        ending = _Ending(send)
        try:
            await self._app(scope, _until(cancelled, receive), ending)
            if cancelled.is_set():  # it took the client for gone, and left the answer open
                await ending.end()
        finally:
            if self._running.get(call) is cancelled:
                del self._running[call]


class _Ending:
    """`send` that can end a response which was left open."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._open = False

    async def __call__(self, message: Message) -> None:
        self._open = message["type"] == "http.response.start" or bool(message.get("more_body"))
        await self._send(message)

    async def end(self) -> None:
        if self._open:
            await self({"type": "http.response.body", "body": b""})


async def _read(receive: Receive, most_bytes: int) -> list[Message]:
    """The request's body as it came, at least to where it is longer than allowed."""
    read: list[Message] = []
    size_bytes = 0
    while size_bytes <= most_bytes:
        message = await receive()
        read.append(message)
        size_bytes += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    return read


def _parsed(read: list[Message]) -> dict[str, Any]:
    """The request in that body; empty where it is none, which is for others to say."""
    try:
        asked: object = json.loads(b"".join(message.get("body", b"") for message in read))
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", asked) if isinstance(asked, dict) else {}


def _replaying(read: list[Message], receive: Receive) -> Receive:
    left = iter(read)

    async def replayed() -> Message:
        for message in left:
            return message
        return await receive()

    return replayed


def _until(cancelled: asyncio.Event, receive: Receive) -> Receive:
    """`receive`, to which the client is gone once it `cancelled`."""

    async def received() -> Message:
        coming = asyncio.ensure_future(receive())
        ended = asyncio.ensure_future(cancelled.wait())
        try:
            await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else {"type": "http.disconnect"}
        finally:
            coming.cancel()
            ended.cancel()

    return received


def _with_session(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            given = (_SESSION, secrets.token_urlsafe(16).encode())
            message = {**message, "headers": [*message.get("headers", ()), given]}
        await send(message)

    return sent
