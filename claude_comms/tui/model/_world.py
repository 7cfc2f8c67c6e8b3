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


_EXPECTS_S = 30.0


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
        self._meant: dict[str, float] = {}

    def expect(self, *ids: str | None) -> None:
        """The reader ends something of these (an instance, a conversation, a job): that is no alarm, for a while."""
        now_s = self.clock()
        self._meant = {one: until_s for one, until_s in self._meant.items() if until_s > now_s}
        self._meant |= {one: now_s + _EXPECTS_S for one in ids if one}

    def _expected(self, event: Event) -> bool:
        facts = (event.subject, *(event.data.get(name) for name in ("instance_id", "thread_id", "job_id")))
        until_s = max((self._meant.get(str(fact), 0.0) for fact in facts), default=0.0)
        return event.priority is not Priority.CRITICAL and until_s > self.clock()

    @property
    def critical_alarm(self) -> bool:
        """Whether what `alarm` would give is critical."""
        return self._loudest is not None and self._loudest.priority is Priority.CRITICAL

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
        if _pressing(event) and not self._expected(event):
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
    return _rank(one) > _rank(other)


def _rank(event: Event) -> tuple[bool, bool]:
    """An instance that is gone says more than the turns and jobs that went with it."""
    return event.priority is Priority.CRITICAL, event.type.startswith("instance.")
