"""From whatever thread keeps the events to the event loops in which they are wanted.

Each loop that has listeners has one inbox. Announcing puts events there and never waits; the loop empties it when it
gets round to it. A loop that does not get round to it loses the oldest, and its listeners are told.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

from claude_comms.events._bus import Missed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from claude_comms.events._envelope import Event

__all__ = ["Backlog", "Hub", "Inbox", "Listener"]

_INBOX_EVENTS = 100_000
_INBOX_BYTES = 64 << 20
_TOO_SLOW = "the reader was too slow"


class Backlog:
    """Events that wait for a reader. Beyond a bound the oldest make way, and are told of as `Missed`."""

    def __init__(self, most_events: int, most_bytes: int) -> None:
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._items: deque[tuple[Event | Missed, int]] = deque()
        self._size_bytes = 0
        self._lost: Missed | None = None

    def add(self, item: Event | Missed, size_bytes: int) -> None:
        """Put `item` at the end."""
        self._items.append((item, size_bytes))
        self._size_bytes += size_bytes
        while len(self._items) > self._most_events or (self._size_bytes > self._most_bytes and len(self._items) > 1):
            self._lose(self._pop()[0])

    def take(self) -> tuple[Event | Missed, int] | None:
        """The oldest, with its size; None where nothing waits."""
        if self._lost is not None:
            lost, self._lost = self._lost, None
            return lost, 0
        return self._pop() if self._items else None

    def take_all(self) -> Iterator[tuple[Event | Missed, int]]:
        """All that waits, oldest first."""
        while (item := self.take()) is not None:
            yield item

    def clear(self) -> None:
        """Forget all of it."""
        self._items.clear()
        self._size_bytes = 0
        self._lost = None

    def _pop(self) -> tuple[Event | Missed, int]:
        item, size_bytes = self._items.popleft()
        self._size_bytes -= size_bytes
        return item, size_bytes

    def _lose(self, item: Event | Missed) -> None:
        first, last = (item.first, item.last) if isinstance(item, Missed) else (item.seq, item.seq)
        self._lost = Missed(self._lost.first if self._lost else first, last, _TOO_SLOW)


class Listener(Protocol):
    """Somebody in an event loop who wants to hear of events. Called in that loop; must not wait."""

    @property
    def turn_id(self) -> str | None:
        """The one turn whose events it wants, always the same; None: it looks at all events itself."""
        ...

    def hear(self, event: Event | Missed, size_bytes: int) -> None:
        """`event` is kept now; or some were lost on the way."""
        ...

    def rouse(self, group: str) -> None:
        """Events of the group `group` have become free."""
        ...

    def end(self) -> None:
        """Nothing more will come."""
        ...


class Inbox:
    """What is on its way into one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, last_seq: int) -> None:
        self.heard_seq = last_seq
        """In the loop: all later events come to its listeners, none of the earlier ones will."""
        # By the turn that they want to hear of, so that turns side by side do not look at each other's events.
        self._listeners: dict[str | None, tuple[Listener, ...]] = {}
        self._loop = loop
        self._waiting = Backlog(_INBOX_EVENTS, _INBOX_BYTES)
        self._groups: set[str] = set()
        self._ending = False
        self._scheduled = False
        self._lock = threading.Lock()

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def add(self, listener: Listener) -> None:
        """Have `listener` told. In the loop."""
        self._listeners[listener.turn_id] = (*self._listeners.get(listener.turn_id, ()), listener)

    def remove(self, listener: Listener) -> None:
        """Tell it no more. In the loop."""
        others = tuple(other for other in self._listeners.pop(listener.turn_id, ()) if other is not listener)
        if others:
            self._listeners[listener.turn_id] = others

    def put(self, batch: Sequence[tuple[Event, int]] = (), *, groups: Iterable[str] = (), ending: bool = False) -> bool:
        """Have the loop told, soon. False where it is closed. Any thread."""
        with self._lock:
            for event, size_bytes in batch:
                self._waiting.add(event, size_bytes)
            self._groups.update(groups)
            self._ending = self._ending or ending
            if self._scheduled:
                return True
            self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            return False
        return True

    def _deliver(self) -> None:
        with self._lock:
            items = list(self._waiting.take_all())
            groups, self._groups = self._groups, set()
            self._scheduled = False
            ending = self._ending
        for item, size_bytes in items:
            self.heard_seq = item.last if isinstance(item, Missed) else item.seq
            for listener in self._concerned(item):
                listener.hear(item, size_bytes)
        if groups or ending:
            for listener in self._all():
                for group in groups:
                    listener.rouse(group)
                if ending:
                    listener.end()

    def _concerned(self, item: Event | Missed) -> Sequence[Listener]:
        if isinstance(item, Missed):
            return self._all()
        turn_id: object = item.data.get("turn_id")
        of_all = self._listeners.get(None, ())
        return (*of_all, *self._listeners.get(turn_id, ())) if isinstance(turn_id, str) else of_all

    def _all(self) -> list[Listener]:
        return [listener for listeners in self._listeners.values() for listener in listeners]


class Hub:
    """All the inboxes of one bus. `last_seq` tells the newest kept event."""

    def __init__(self, last_seq: Callable[[], int]) -> None:
        self._last_seq = last_seq
        self._inboxes: dict[asyncio.AbstractEventLoop, Inbox] = {}
        self._ended = False
        self._lock = threading.Lock()

    @property
    def last_seq(self) -> int:
        """The number of the newest kept event."""
        return self._last_seq()

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens. Who joins after this was asked knows what was kept before that."""
        return bool(self._inboxes)

    def join(self, listener: Listener) -> Inbox:
        """Have `listener` hear of what comes from now on, in the running loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            inbox = self._inboxes.get(loop)
            if inbox is None:
                inbox = self._inboxes[loop] = Inbox(loop, self._last_seq())
            inbox.add(listener)
            ended = self._ended
        if ended:
            listener.end()
        return inbox

    def leave(self, inbox: Inbox, listener: Listener) -> None:
        """`listener` wants to hear no more. In the loop in which it joined."""
        with self._lock:
            inbox.remove(listener)
            if not inbox.is_heard:
                self._inboxes = {loop: other for loop, other in self._inboxes.items() if other is not inbox}

    def announce(self, batch: Sequence[tuple[Event, int]]) -> None:
        """These are kept, each with its size. After the bus's `last_seq` tells of them, in order; any thread."""
        self._tell(lambda inbox: inbox.put(batch))

    def rouse(self, group: str) -> None:
        """Events of `group` have become free. Any thread."""
        self._tell(lambda inbox: inbox.put(groups=(group,)))

    def end(self) -> None:
        """Nothing more will be announced. Any thread."""
        with self._lock:
            self._ended = True
        self._tell(lambda inbox: inbox.put(ending=True))

    def _tell(self, put: Callable[[Inbox], bool]) -> None:
        with self._lock:
            closed = [loop for loop, inbox in self._inboxes.items() if not put(inbox)]
            for loop in closed:
                del self._inboxes[loop]
