"""A subscription: first what is kept behind the cursor, page by page, then what comes, without gap or doubling."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from claude_comms.events._bus import Missed, Subscription
from claude_comms.events._fanout import Backlog

if TYPE_CHECKING:
    from types import TracebackType

    from claude_comms.events._envelope import Event
    from claude_comms.events._fanout import Hub, Inbox
    from claude_comms.events._selection import EventFilter

__all__ = ["Following", "Page", "PageReader"]

_PAGE = 500
_BUFFER_BYTES = 64 << 20


class Page(NamedTuple):
    """Some kept events, oldest first."""

    events: list[Event]
    end: int
    """The page holds all that fit up to this number."""
    floor: int
    """All events up to this number have been removed."""


class PageReader(Protocol):
    """Reads the first kept events that fit, of those with `after` < seq <= `until`."""

    async def __call__(self, wanted: EventFilter | None, *, after: int, until: int, limit: int) -> Page: ...


class Following(Subscription):
    """Reads pages until it has caught up with its inbox, then listens.

    While it reads what it believes to be the last page, it already collects what comes. So nothing falls between.
    """

    def __init__(self, hub: Hub, read: PageReader, wanted: EventFilter | None, *, after: int, buffer: int) -> None:
        self._hub = hub
        self._read = read
        self._wanted = wanted
        self._cursor = after
        self._replayed: deque[Event | Missed] = deque()
        self._backlog = Backlog(buffer, _BUFFER_BYTES)
        self._inbox: Inbox | None = None
        self._live = False
        self._ended = False
        self._wake: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inbox is not None:
            self._hub.leave(self._inbox, self)
        self._replayed.clear()
        self._backlog.clear()
        self.end()

    async def __anext__(self) -> Event | Missed:
        inbox = self._started()
        while True:
            if self._replayed:
                return self._replayed.popleft()
            if self._live and (item := self._backlog.take()) is not None:
                return item[0]
            if self._ended:
                raise StopAsyncIteration
            await (self._woken() if self._live else self._replay(inbox))

    def ready(self) -> list[Event | Missed]:
        """What could be had now without waiting, and is taken with this call."""
        there = [*self._replayed]
        self._replayed.clear()
        if self._live:
            there += [item for item, _ in self._backlog.take_all()]
        return there

    @property
    def turn_id(self) -> str | None:
        return None if self._wanted is None else self._wanted.turn_id

    def hear(self, event: Event | Missed, size_bytes: int) -> None:
        """Keep what is wanted until it is asked for."""
        if not self._live or self._ended:
            return
        if isinstance(event, Missed) or self._wants(event):
            self._backlog.add(event, size_bytes)
            self._rouse()

    def rouse(self, group: str) -> None:
        """Groups are no concern of a subscription."""

    def end(self) -> None:
        """Nothing will come after what waits."""
        self._ended = True
        self._rouse()

    def _started(self) -> Inbox:
        if self._inbox is None:
            self._inbox = self._hub.join(self)
            last = self._inbox.heard_seq
            if self._cursor > max(last, newest := self._hub.last_seq):
                self._replayed.append(
                    Missed(newest + 1, self._cursor, "the log ends before this cursor: it was lost or replaced")
                )
                self._cursor = newest
            self._live = self._cursor >= last
        return self._inbox

    def _wants(self, event: Event) -> bool:
        return event.seq > self._cursor and (self._wanted is None or self._wanted.fits(event))

    async def _replay(self, inbox: Inbox) -> None:
        heard = inbox.heard_seq
        self._live = heard - self._cursor <= _PAGE
        if self._cursor >= heard:
            return
        page = None
        try:
            page = await self._read(self._wanted, after=self._cursor, until=heard, limit=_PAGE)
        finally:
            if page is None or page.end < heard:
                # What was collected meanwhile is read again: all of it comes behind what is still missing.
                self._live = False
                self._backlog.clear()
        if page.floor > self._cursor:
            removed_to = min(page.floor, heard)
            self._replayed.append(Missed(self._cursor + 1, removed_to, "they were removed: too old, or too many"))
        self._replayed.extend(page.events)
        self._cursor = page.end

    async def _woken(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
