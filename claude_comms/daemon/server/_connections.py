"""Connections before anything is read from them: whose they are, and how many there are."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import anyio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from claude_comms.daemon.server._doors import BUCKET
from claude_comms.daemon.server._limits import TokenBucket
from claude_comms.daemon.wire import PROBLEM_TYPE, RETRY_AFTER_S, encoded, problem
from claude_comms.errors import ClaudeCommsError, DaemonError, PoolExhaustedError

if TYPE_CHECKING:
    import asyncio
    from contextlib import AbstractContextManager

    from starlette.types import ASGIApp

    from claude_comms.daemon.server._limits import Limits

__all__ = ["ABORT", "Listener", "peer_uid"]

ABORT = "claude_comms.abort"
"""Where in ``scope["state"]`` the function is that cuts a connection off."""

_CLOSE_WAIT_S = 3
_BACKLOG = 128
"""Connections that may wait to be let in."""
_MOST_REFUSED = 8
"""Connections beyond the limit that may wait to be told so; more are cut off, for each takes a descriptor."""
_REFUSED_WAIT_S = 1.0
"""How long one of them may say nothing."""
_AT_ONCE = 4
"""So many are let in before those beyond the limit are turned away: all at once would use up the descriptors."""


def peer_uid(connection: Any) -> int | None:
    """The user on the other side of a Unix socket; None where that is not to be known."""
    if connection.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", told)[1]


class Listener(uvicorn.Server):
    """One door's server. It leaves signals alone: they are the daemon's."""

    def __init__(self, app: ASGIApp, limits: Limits, siblings: list[Listener]) -> None:
        self.limits = limits
        self.opened = anyio.Event()
        """Set once it takes connections."""
        self.refused = 0
        """How many connections are open only to be told that they are refused."""
        self._siblings = siblings
        super().__init__(
            uvicorn.Config(
                app,
                http=self._protocol,  # type: ignore[arg-type] - anything that makes a protocol will do
                ws="websockets-sansio",
                ws_max_size=limits.body_bytes,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=limits.head_bytes,
                backlog=_AT_ONCE,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=_CLOSE_WAIT_S,
            )
        )

    def _protocol(self, **given: Any) -> asyncio.Protocol:
        return _Connection(self, **given)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, and say so."""
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(_BACKLOG)  # asyncio takes one number for both
        self.opened.set()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override] - a generator there
        """Nothing."""
        return nullcontext()

    @property
    def connections(self) -> int:
        """How many are open, through all doors."""
        return sum(len(listener.server_state.connections) for listener in self._siblings)

    def refuses(self, connection: Any) -> tuple[ClaudeCommsError, int] | None:
        """Why a new connection is not served, and with which status."""
        uid = peer_uid(connection)
        if uid is not None and uid != os.geteuid():
            return DaemonError("this daemon serves the user who started it, and nobody else. Start your own."), 403
        if self.connections >= self.limits.connections:
            message = f"{self.limits.connections} connections are open. Close some, or come back later."
            return PoolExhaustedError(message, limit=self.limits.connections, retry_after_s=RETRY_AFTER_S), 503
        return None


class _Connection(H11Protocol):
    """Answers a connection that is not served with why, and lets go of it. One that says nothing is let go of, too."""

    def __init__(self, listener: Listener, **given: Any) -> None:
        super().__init__(**given)
        self._listener = listener
        self._refused: tuple[ClaudeCommsError, int] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._refused = self._listener.refuses(transport.get_extra_info("socket"))
        limits = self._listener.limits
        if self._refused is not None:
            self.transport = transport
            self._listener.refused += 1
            if self._listener.refused > _MOST_REFUSED:
                transport.abort()
                return
        else:
            super().connection_made(transport)
            bucket = TokenBucket(limits.requests_per_s, limits.requests_burst)
            self.app_state = {**self.app_state, BUCKET: bucket, ABORT: transport.abort}
        wait_s = limits.head_wait_s if self._refused is None else min(limits.head_wait_s, _REFUSED_WAIT_S)
        self.timeout_keep_alive_task = self.loop.call_later(wait_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        # Only now: what is written before the other side has said anything is lost when it speaks to a closed door.
        if self._refused is not None:
            self._unset_keepalive_if_required()
            self._answer(*self._refused)
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_keepalive_if_required()
        if self._refused is None:
            super().connection_lost(exc)
        else:
            self._listener.refused -= 1

    def send_400_response(self, msg: str) -> None:
        """For what is not HTTP, or has too much of a head."""
        self._answer(
            DaemonError(f"{msg} Send HTTP/1.1, with headers below {self._listener.limits.head_bytes} bytes."), 400
        )

    def _answer(self, error: ClaudeCommsError, status: int) -> None:
        document = problem(error, status)
        body = encoded(document)
        lines = [
            f"HTTP/1.1 {status} {document['title']}",
            f"Content-Type: {PROBLEM_TYPE}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *([f"Retry-After: {RETRY_AFTER_S}"] if status == 503 else []),
        ]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.transport.close()
