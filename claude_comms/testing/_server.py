"""A small HTTP/1.1 server on raw streams: h11 reads the requests; the responses are bytes of ours, right or wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import h11

from claude_comms.testing._wire import Close, Reset, Send, Step, Wait

__all__ = ["HttpRequest", "serve"]

_READ_BYTES = 65_536
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it came, its body whole."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Respond = Callable[[HttpRequest], Iterable[Step]]


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    early: bytearray = field(default_factory=bytearray)
    """What the client sent before its answer was out."""

    async def requests(self, respond: Respond) -> None:
        """Serve one request after the other until either side is done."""
        while True:
            request = await self._receive()
            if request is None or not await self._play(respond(request)):
                return
            if request.headers.get("connection", "").lower() == "close":
                return

    async def _receive(self) -> HttpRequest | None:
        # h11 wants to see the responses too; as ours may be wrong on purpose, each request gets a fresh parser.
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_READ_BYTES)
        if self.early:
            parser.receive_data(bytes(self.early))
            self.early.clear()
        found: h11.Request | None = None
        body = bytearray()
        while True:
            event = parser.next_event()
            match event:
                case h11.Request():
                    found = event
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage() if found is not None:
                    self.early += parser.trailing_data[0]
                    return _request(found, bytes(body))
                case h11.ConnectionClosed():
                    return None
                case _:
                    if parser.they_are_waiting_for_100_continue:
                        self.writer.write(_CONTINUE)
                        parser.send(h11.InformationalResponse(status_code=100, headers=[]))
                    parser.receive_data(await self.reader.read(_READ_BYTES))

    async def _play(self, steps: Iterable[Step]) -> bool:
        """Take the steps; False when the connection is over."""
        pending: list[bytes] = []
        for step in steps:
            match step:
                case Send():
                    pending.append(step.data)
                    if len(pending) == 256:
                        await self._flush(pending)
                case Wait():
                    if step.seconds > 0:
                        await self._flush(pending)
                        if await self._client_left(step.seconds):
                            return False
                case Reset():
                    await self._flush(pending)
                    _reset(self.writer)
                    return False
                case Close():
                    await self._flush(pending)
                    return False
        await self._flush(pending)
        return True

    async def _flush(self, pending: list[bytes]) -> None:
        if pending:
            self.writer.write(b"".join(pending))
            pending.clear()
            await self.writer.drain()

    async def _client_left(self, seconds: float) -> bool:
        """Wait; True as soon as the client closes its side."""
        ends = asyncio.get_running_loop().time() + seconds
        while (left := ends - asyncio.get_running_loop().time()) > 0:
            try:
                data = await asyncio.wait_for(self.reader.read(_READ_BYTES), left)
            except TimeoutError:
                return False
            if not data:
                return True
            self.early += data
        return False


def _request(found: h11.Request, body: bytes) -> HttpRequest:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in found.headers}
    return HttpRequest(found.method.decode("latin-1"), found.target.decode("latin-1"), headers, body)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def serve(listener: socket.socket, respond: Respond, changed: Callable[[int], None]) -> asyncio.Server:
    """Answer on `listener`. `changed` is called with +1 and -1 as connections come and go."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        changed(1)
        try:
            # A client may leave at any point, and the server may stop: neither is a failure to report.
            with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                try:
                    await _Connection(reader, writer).requests(respond)
                except h11.RemoteProtocolError:
                    writer.write(_BAD_REQUEST)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            changed(-1)

    return await asyncio.start_server(connection, sock=listener, limit=_READ_BYTES)
