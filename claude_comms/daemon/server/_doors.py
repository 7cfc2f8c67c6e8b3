"""Who may come in, and with how much: token, Host, Origin, size and rate. Every request passes here first."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from claude_comms.daemon.server._answers import Refusal, problem_response
from claude_comms.daemon.server._limits import TokenBucket
from claude_comms.errors import DaemonError, PoolExhaustedError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from claude_comms.daemon.server._limits import Limits

__all__ = ["BUCKET", "Door", "authorities"]

BUCKET = "claude_comms.bucket"
"""Where in ``scope["state"]`` a connection's own bucket is."""

_Headers = dict[bytes, list[bytes]]


def authorities(port: int) -> frozenset[str]:
    """What a Host header may say to a server that listens on `port` of this machine."""
    return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))


class Door:
    """An ASGI application before another. With `token` and `hosts` it is the door to TCP, else that to the socket.

    The socket's own mode, and the check of its peer, stand in for the token there. An Origin is what browsers send:
    one that is not the very host that was asked is refused, on the socket too.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, *, token: str | None = None, hosts: frozenset[str] | None = None
    ) -> None:
        self._app = app
        self._limits = limits
        self._token = None if token is None else token.strip().encode()
        self._hosts = hosts
        self._held_bytes = 0
        self._bucket = TokenBucket(limits.door_requests_per_s, limits.door_requests_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may come in; answer the rest."""
        refusal = self._refusal(scope)
        if refusal is not None:
            response = problem_response(refusal.error, refusal.status_code, refusal.headers)
            await response(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers: _Headers = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        return (
            self._too_often(scope)
            or self._long_head(scope)
            or self._wrong_host(headers)
            or self._foreign_origin(headers)
            or self._wrong_token(headers)
            or self._too_large(headers)
        )

    def _too_often(self, scope: Scope) -> Refusal | None:
        own: TokenBucket | None = scope.get("state", {}).get(BUCKET)
        wait_s = max(self._bucket.take(), own.take() if own is not None else 0.0)
        if not wait_s:
            return None
        limit = int(self._limits.requests_per_s)
        message = f"more than {limit} requests a second. Wait {wait_s:.3f} s and ask again."
        return Refusal(PoolExhaustedError(message, limit=limit, retry_after_s=wait_s), 429)

    def _long_head(self, scope: Scope) -> Refusal | None:
        # The parser's own limit is only for what has not come whole.
        size_bytes = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        size_bytes += sum(len(name) + len(value) for name, value in scope["headers"])
        if size_bytes <= self._limits.head_bytes:
            return None
        return Refusal(DaemonError(f"address and headers are over {self._limits.head_bytes} bytes. Send less."), 431)

    def _wrong_host(self, headers: _Headers) -> Refusal | None:
        if self._hosts is None:
            return None
        told = headers.get(b"host", [])
        if len(told) == 1 and told[0].decode("latin-1").lower() in self._hosts:
            return None
        return Refusal(DaemonError("this Host is not served here. Use 127.0.0.1 with the daemon's port."), 403)

    def _foreign_origin(self, headers: _Headers) -> Refusal | None:
        origins = headers.get(b"origin", [])
        if not origins:
            return None
        host = headers.get(b"host", [b""])[0].lower()
        if self._hosts is not None and origins == [b"http://" + host]:
            return None
        return Refusal(DaemonError("requests that a web page makes are not served. Use a program's own client."), 403)

    def _wrong_token(self, headers: _Headers) -> Refusal | None:
        if self._token is None:
            return None
        told = headers.get(b"authorization", [])
        scheme, _, token = (told[0] if len(told) == 1 else b"").partition(b" ")
        if hmac.compare_digest(token.strip(), self._token) and scheme.lower() == b"bearer":
            return None
        error = DaemonError(
            "no valid token. Send Authorization: Bearer with what the file named in `claude-comms daemon status` holds."
        )
        return Refusal(error, 401, {"WWW-Authenticate": "Bearer"})

    def _too_large(self, headers: _Headers) -> Refusal | None:
        told = headers.get(b"content-length", [b"0"])[0]
        # A server of HTTP has already refused a length that is not a number.
        return self._over() if told.isdigit() and int(told) > self._limits.body_bytes else None

    def _over(self) -> Refusal:
        return Refusal(DaemonError(f"the body is over {self._limits.body_bytes} bytes. Send less."), 413)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; `receive` raises once bodies without an honest length have become too long."""
        held_bytes = 0

        async def receive_some() -> Message:
            nonlocal held_bytes
            message = await receive()
            size_bytes = len(message.get("body", b""))
            held_bytes += size_bytes
            self._held_bytes += size_bytes
            if held_bytes > self._limits.body_bytes:
                raise self._over()
            if self._held_bytes > self._limits.bodies_bytes:
                raise self._full()
            return message

        try:
            await self._app(scope, receive_some, send)
        finally:
            self._held_bytes -= held_bytes

    def _full(self) -> Refusal:
        limit = self._limits.bodies_bytes
        message = f"the requests being served have {limit} bytes. Ask again when some are done."
        return Refusal(PoolExhaustedError(message, limit=limit, retry_after_s=1.0), 503)
