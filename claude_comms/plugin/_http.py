"""The server over HTTP, as an ASGI application for the daemon. It keeps nothing between requests."""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from claude_comms.errors import ClaudeCommsError
from claude_comms.plugin._cancelling import Cancelling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from claude_comms.settings import Settings

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

__all__ = ["MCP_PATH", "McpApp"]

MCP_PATH = "/mcp"
"""Where the daemon serves it."""

_MOST_BODY_BYTES = 16 * 1024 * 1024
_NOTHING_TO_LISTEN_TO = "each request is answered by itself: there is no session to open a stream for, or to end"


class McpApp:
    """Streamable HTTP, both revisions, without sessions. Whoever stands before it lets only the right clients in.

    The first request loads the SDK and starts what serves them all; that ends with the event loop.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._serving: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._handle: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["method"] != "POST":
            await _refuse(send, 405, _NOTHING_TO_LISTEN_TO, [(b"allow", b"POST")])
            return
        try:
            handle = await self._opened()
        except ClaudeCommsError as error:
            await _refuse(send, 503, str(error))
            return
        await handle(scope, receive, send)

    async def _opened(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        if self._serving is None or self._serving.done():
            self._ready.clear()
            self._serving = asyncio.create_task(self._serve(), name="claude-comms mcp")
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait({ready, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._serving.done():
            await self._serving  # it says why it could not
        assert self._handle is not None  # noqa: S101 - it is ready
        return self._handle

    async def _serve(self) -> None:
        """Hold what all requests share, until the loop ends: it cancels this."""
        from claude_comms.plugin._sdk import require_sdk

        await to_thread.run_sync(require_sdk)
        await to_thread.run_sync(_load)
        from mcp.server.transport_security import TransportSecuritySettings

        from claude_comms.plugin._desk import Desk
        from claude_comms.plugin._server import make_server

        async with Desk(self._settings, over_http=True) as desk:
            server = make_server(desk)
            server.streamable_http_app(
                stateless_http=True,
                max_request_body_size=_MOST_BODY_BYTES,
                # Host and Origin are the doors' matter.
                transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            )
            async with server.session_manager.run():
                self._handle = Cancelling(server.session_manager.handle_request, most_bytes=_MOST_BODY_BYTES)
                self._ready.set()
                await anyio.sleep_forever()


def _load() -> None:
    """Half a second of imports, off the loop."""
    import_module("claude_comms.plugin._server")


async def _refuse(send: Send, status: int, message: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": message}}).encode()
    told = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
