"""All that the monitor knows, and what each event changes in it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_comms.events import Missed, Priority, kind_of
from claude_comms.tui.model._events import EventList
from claude_comms.tui.model._instances import InstanceBoard
from claude_comms.tui.model._words import words_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.events import Event

__all__ = ["Alarm", "World"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """What cannot wait, since the last time somebody asked: how many, and the newest of them in words."""

    count: int
    type: str
    words: str
    critical: bool


class World:
    """Give it each event with `take`; look at its parts. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.board = InstanceBoard()
        self.events = EventList(clock)
        self.changes: Counter[str] = Counter()
        """How many events of each kind (the part of the type before the dot) have come."""
        self._alarms = 0
        self._loudest: Event | None = None

    def take(self, event: Event | Missed) -> None:
        """One more has come, or will not come."""
        if isinstance(event, Missed):
            self.events.missed(event)
            self.board.stale = True
            return
        now_s = self.clock()
        self.changes[event.type.partition(".")[0]] += 1
        self.board.take(event, now_s)
        self.events.take(event)
        if _pressing(event):
            self._alarms += 1
            if self._loudest is None or not _louder(self._loudest, event):
                self._loudest = event

    def alarm(self) -> Alarm | None:
        """What cannot wait and was not told yet."""
        loudest, count = self._loudest, self._alarms
        self._loudest, self._alarms = None, 0
        if loudest is None:
            return None
        critical = loudest.priority is Priority.CRITICAL
        return Alarm(count, loudest.type, f"{loudest.namespace}: {words_of(loudest)}", critical)


def _pressing(event: Event) -> bool:
    return event.priority is Priority.CRITICAL or kind_of(event.type).interrupts


def _louder(one: Event, other: Event) -> bool:
    return one.priority is Priority.CRITICAL and other.priority is not Priority.CRITICAL
