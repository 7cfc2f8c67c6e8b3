"""Server-sent events: at the reader's pace, and never silent for long."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from starlette.responses import Response

from claude_comms.daemon.server._answers import internal_error
from claude_comms.daemon.server._connections import ABORT
from claude_comms.daemon.wire import encoded
from claude_comms.errors import ClaudeCommsError
from claude_comms.events import Event, Missed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from starlette.types import Receive, Scope, Send

    from claude_comms.daemon.server._service import Service

__all__ = ["EVENT_STREAM", "EventStream", "in_parts"]

EVENT_STREAM = "text/event-stream"
_LAST_WORDS_S = 0.2
_PART_BYTES = 64 * 1024


class EventStream(Response):
    """What `feed` delivers, as server-sent events, until it ends or the reader goes away.

    A reader that takes nothing for `send_wait_s` is cut off: it comes back with Last-Event-ID.
    """

    media_type = EVENT_STREAM

    def __init__(
        self,
        feed: Callable[[Callable[[Sequence[Event | Missed]], Awaitable[None]]], Awaitable[object]],
        service: Service,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._feed = feed
        self._limits = service.limits
        self._closing = service.closing
        self._lock = anyio.Lock(fast_acquire=True)
        self._said = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream."""
        self._send = send
        self._abort: Callable[[], None] | None = scope.get("state", {}).get(ABORT)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await self._write(b": claude-comms\n\n")
        tasks = [
            asyncio.create_task(work)
            for work in (self._serve(), self._show_life(), self._end(), _gone(receive))
        ]  # fmt: skip
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _serve(self) -> None:
        try:
            await self._feed(self._deliver)
        except ClaudeCommsError as error:
            await self._write(_told("problem", error.as_dict()))
        except OSError:
            pass  # the reader is gone
        except Exception as error:  # noqa: BLE001 - the answer has begun: only the stream itself can tell
            await self._write(_told("problem", internal_error(error)))

    async def _deliver(self, items: Sequence[Event | Missed]) -> None:
        for part in in_parts(map(_item, items)):
            await self._write(b"".join(part))

    async def _show_life(self) -> None:
        while True:
            self._said = False
            await asyncio.sleep(self._limits.ping_s)
            if not self._said:
                await self._write(b": alive\n\n")

    async def _end(self) -> None:
        """With the daemon, once its last event has had the time to get here."""
        await self._closing.wait()
        await asyncio.sleep(_LAST_WORDS_S)

    async def _write(self, body: bytes) -> None:
        async with self._lock:
            self._said = True
            with anyio.move_on_after(self._limits.send_wait_s) as waiting:
                await self._send({"type": "http.response.body", "body": body, "more_body": True})
            if waiting.cancelled_caught:
                if self._abort is not None:
                    self._abort()
                raise OSError("the reader takes nothing")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def in_parts(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """`pieces` in runs that are sent together: up to 64 KiB, or one larger piece. Between two a slow reader is met."""
    part: list[bytes] = []
    size_bytes = 0
    for piece in pieces:
        if part and size_bytes + len(piece) > _PART_BYTES:
            yield part
            part, size_bytes = [], 0
        part.append(piece)
        size_bytes += len(piece)
    if part:
        yield part


def _item(item: Event | Missed) -> bytes:
    if isinstance(item, Event):
        return _told(item.type, item.as_cloudevent(), item.seq)
    return _told("missed", {"first": item.first, "last": item.last, "reason": item.reason}, item.last)


def _told(name: str, data: object, seq: int | None = None) -> bytes:
    # JSON has no line breaks of its own, so one line of data is enough.
    number = b"" if seq is None else b"id: %d\n" % seq
    return number + b"event: " + name.encode() + b"\ndata: " + encoded(data) + b"\n\n"
