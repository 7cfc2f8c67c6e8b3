"""A bus that keeps events in this process and nowhere else."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

from claude_comms.errors import ConfigError, StoreError
from claude_comms.events._accepting import accept
from claude_comms.events._bus import EventBus
from claude_comms.events._consumer import Consumer, Taken
from claude_comms.events._fanout import Hub
from claude_comms.events._following import Following, Page
from claude_comms.events._group_state import GroupState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_comms.events._bus import ConsumerGroup, Missed, Subscription
    from claude_comms.events._envelope import Event, NewEvent
    from claude_comms.events._selection import EventFilter

__all__ = ["MemoryBus"]

_LOOK_THROUGH = 5000


class MemoryBus(EventBus):
    """Keeps the latest `kept_events` events, or `kept_bytes` of them, and forgets all when the process ends.

    Where `EventBus` says durable, this bus means: kept here. What makes way before a consumer group has acknowledged
    it is told to the group as `missed`. `clock` (seconds, monotonic) is for tests.
    """

    def __init__(
        self,
        *,
        kept_events: int = 10_000,
        kept_bytes: int = 16 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept_events = kept_events
        self._kept_bytes = kept_bytes
        self._clock = clock
        self.lock = threading.RLock()
        """Held while events or groups change."""
        self._events: deque[tuple[Event, int]] = deque()
        self._size_bytes = 0
        self._last_seq = 0
        self._groups: dict[str, _Group] = {}
        self._open = False
        self._hub = Hub(lambda: self._last_seq)

    async def open(self) -> None:
        """Be ready."""
        self._open = True

    @property
    def last_seq(self) -> int:
        """The number of the newest event; 0 where there was none."""
        return self._last_seq

    def post(self, event: NewEvent) -> None:
        """Take an event and return. Any thread. ConfigError for an event that cannot be kept."""
        self._add([event])

    async def publish(self, *events: NewEvent) -> list[Event]:
        """Take events and return them, numbered. ConfigError for one that cannot be kept: then none is."""
        return self._add(events)

    async def read(self, wanted: EventFilter | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Kept events behind the cursor `after` that fit, oldest first."""
        self._check_open()
        return self.page(wanted, after=after, until=self._last_seq, limit=limit).events

    def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 10_000
    ) -> Subscription:
        """Follow what fits, from the cursor `after` on, or from now on. See `EventBus`."""
        self._check_open()
        return Following(self._hub, self._read, wanted, after=self._last_seq if after is None else after, buffer=buffer)

    def group(self, name: str, wanted: EventFilter | None = None, *, hold_s: float = 60.0) -> ConsumerGroup:
        """A consumer of the group `name`. ConfigError where others of that name want different events."""
        self._check_open()
        with self.lock:
            group = self._groups.get(name)
            if group is None:
                group = self._groups[name] = _Group(self, GroupState(name, self._last_seq), wanted)
            if group.wanted != wanted:
                raise ConfigError(
                    f"the consumers of the group {name!r} want different events. Give them one filter, or two names."
                )
        return Consumer(self._hub, group, name, wanted, hold_s)

    async def close(self) -> None:
        """End the subscriptions. May be called twice."""
        self._open = False
        self._hub.end()

    def now(self) -> float:
        """The moment by the bus's clock."""
        return self._clock()

    def rouse(self, group: str) -> None:
        """Events of `group` have become free."""
        self._hub.rouse(group)

    def page(self, wanted: EventFilter | None, *, after: int, until: int, limit: int) -> Page:
        """As `PageReader`."""
        with self.lock:
            floor = self._last_seq - len(self._events)
            begin = max(0, after - floor)
            kept = [self._events[index][0] for index in range(begin, min(until - floor, len(self._events)))]
        fitting: list[Event] = []
        for event in kept:
            if wanted is None or wanted.fits(event):
                if len(fitting) == limit:
                    return Page(fitting, fitting[-1].seq, floor)
                fitting.append(event)
        return Page(fitting, until, floor)

    def some(self, seqs: Sequence[int]) -> list[Event]:
        """The events with these numbers that are still there."""
        with self.lock:
            kept = list(self._events)
        numbers = [event.seq for event, _ in kept]
        places = [bisect_right(numbers, seq) - 1 for seq in seqs]
        return [kept[place][0] for place, seq in zip(places, seqs, strict=True) if place >= 0 and numbers[place] == seq]

    async def _read(self, wanted: EventFilter | None, *, after: int, until: int, limit: int) -> Page:
        return self.page(wanted, after=after, until=until, limit=limit)

    def _add(self, new: Sequence[NewEvent]) -> list[Event]:
        accepted = [accept(event) for event in new]
        self._check_open()
        with self.lock:
            batch = [(event.numbered(seq), event.size_bytes) for seq, event in enumerate(accepted, self._last_seq + 1)]
            self._events.extend(batch)
            self._size_bytes += sum(size_bytes for _, size_bytes in batch)
            self._last_seq += len(batch)
            self._make_room()
            self._hub.announce(batch)
        return [event for event, _ in batch]

    def _make_room(self) -> None:
        gone: list[Event] = []
        while len(self._events) > self._kept_events or (self._size_bytes > self._kept_bytes and len(self._events) > 1):
            event, size_bytes = self._events.popleft()
            self._size_bytes -= size_bytes
            gone.append(event)
        if gone:
            for group in self._groups.values():
                group.lose(gone)

    def _check_open(self) -> None:
        if not self._open:
            raise StoreError("the event bus is not open. Open it first.")


class _Group:
    """One group, for its consumers."""

    def __init__(self, bus: MemoryBus, state: GroupState, wanted: EventFilter | None) -> None:
        self.wanted = wanted
        self._bus = bus
        self._state = state
        self._missed: list[Missed] = []

    async def take(self, name: str, limit: int, hold_s: float) -> Taken:
        bus, state = self._bus, self._state
        with bus.lock:
            now = bus.now()
            state.expire(now)
            free = state.next_free(limit)
            events = bus.some(free)
            state.hold(free, now + hold_s)
            limit = min(limit - len(events), state.room)
            if limit > 0 and state.scanned < bus.last_seq:
                until = min(bus.last_seq, state.scanned + _LOOK_THROUGH)
                page = bus.page(self.wanted, after=state.scanned, until=until, limit=limit)
                state.scanned = page.end
                events += page.events
                state.hold([event.seq for event in page.events], now + hold_s)
            end = state.soonest_end
            more = state.room > 0 and state.scanned < bus.last_seq
            return Taken(events, more, None if end is None else max(0.0, end - now))

    async def acknowledge(self, name: str, seqs: Sequence[int]) -> None:
        with self._bus.lock:
            beyond = [seq for seq in seqs if seq > self._bus.last_seq]
            if beyond:
                raise ConfigError(f"the events {beyond} are not of this bus. Acknowledge what was taken from it.")
            self._state.acknowledge(seqs)
            if (progress := self._state.progress()) is not None:
                self._state.committed(progress)

    async def give_back(self, name: str, seqs: Sequence[int]) -> None:
        with self._bus.lock:
            changed = self._state.give_back(seqs)
        if changed:
            self._bus.rouse(name)

    async def missed(self, name: str) -> list[Missed]:
        with self._bus.lock:
            missed, self._missed = self._missed, []
        return missed

    def lose(self, gone: Sequence[Event]) -> None:
        """These have made way."""
        state, floor = self._state, gone[-1].seq
        if not any(event.seq > state.scanned and (self.wanted is None or self.wanted.fits(event)) for event in gone):
            state.scanned = max(state.scanned, floor)
        missed = state.lose(floor, "it made way for newer events")
        if missed is not None:
            self._missed.append(missed)
        if (progress := state.progress()) is not None:
            state.committed(progress)
