"""HTTP/1.1 over the daemon's socket: one exchange at a time on each connection, and connections kept for the next.

By h11 alone. httpx would be as long in being imported as a command may take in all, and takes a millisecond of the
processor for each request: redirects, cookies, proxies and TLS, none of which the daemon has.
"""

from __future__ import annotations

import select
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import h11
from anyio.abc import SocketAttribute

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anyio.abc import UNIXSocketStream

__all__ = ["Answer", "BrokenExchangeError", "Exchanges", "UnreachableError"]

_MOST_AT_ONCE = 100
_MOST_IDLE = 20
_CONNECT_WITHIN_S = 5.0
_READ_BYTES = 64 * 1024


class UnreachableError(Exception):
    """Nobody could be connected to: nothing was sent."""


class BrokenExchangeError(Exception):
    """The connection broke before the answer was whole, or what came was no HTTP. What was sent may have arrived."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the daemon answered."""

    status: int
    reason: str
    content: bytes


class Exchanges:
    """Exchanges with whoever listens at the socket `path`; each sends `headers` besides its own."""

    def __init__(self, path: Path, headers: Sequence[tuple[str, str]]) -> None:
        self._path = path
        self._headers = [("Host", "localhost"), *headers]
        self._idle: list[_Connection] = []
        self._places = anyio.Semaphore(_MOST_AT_ONCE, fast_acquire=True)
        self._closed = False

    async def exchange(self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes) -> Answer:
        """The answer to one request. A cancelled one ends its connection.

        UnreachableError, BrokenExchangeError; TimeoutError where nobody takes the connection.
        """
        if body:
            headers = [*headers, ("Content-Length", str(len(body)))]
        request = h11.Request(method=method, target=target, headers=[*self._headers, *headers])
        async with self._places:
            return await self._exchange(request, body)

    async def _exchange(self, request: h11.Request, body: bytes) -> Answer:
        connection = await self._free()
        whole = False
        try:
            answer = await connection.exchange(request, body)
            whole = True
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, h11.RemoteProtocolError) as error:
            raise BrokenExchangeError(str(error) or type(error).__name__) from error
        finally:
            if whole and not self._closed and len(self._idle) < _MOST_IDLE and connection.begin_again():
                self._idle.append(connection)
            else:
                await connection.close()
        return answer

    async def close(self) -> None:
        """Let go of the connections; those in an exchange end with it."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _free(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            await connection.close()
        try:
            with anyio.fail_after(_CONNECT_WITHIN_S):
                return _Connection(await anyio.connect_unix(self._path))
        except TimeoutError:
            raise  # an OSError, too
        except OSError as error:
            raise UnreachableError(str(error)) from error


class _Connection:
    def __init__(self, stream: UNIXSocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)

    @property
    def is_open(self) -> bool:
        """Whether the daemon has not ended it meanwhile: nothing else can come before it is asked something."""
        poll = select.poll()
        poll.register(self._stream.extra(SocketAttribute.raw_socket), select.POLLIN)  # noqa: S610 - not Django's
        return not poll.poll(0)

    async def exchange(self, request: h11.Request, body: bytes) -> Answer:
        events = [request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]
        with suppress(anyio.BrokenResourceError):  # who refuses without having read it all has said why
            await self._stream.send(b"".join(self._http.send(event) or b"" for event in events))
        status, reason, content = 0, "", bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._received())
            elif isinstance(event, h11.Response):
                status, reason = event.status_code, bytes(event.reason).decode("latin-1")
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, reason, bytes(content))

    async def _received(self) -> bytes:
        try:
            return await self._stream.receive(_READ_BYTES)
        except anyio.EndOfStream:
            return b""  # h11 knows whether that may be

    def begin_again(self) -> bool:
        """Get ready for another exchange; False where there can be none."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(self._stream)
