"""Focus: a reader who is busy sees what cannot wait, and has the rest told in a few lines later."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from claude_comms.events._catalogue import kind_of
from claude_comms.events._priority import Priority
from claude_comms.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.events._envelope import Event

__all__ = ["Digest", "DigestLine", "Focus", "FocusLevel"]

_TEXTS = ("text", "reason", "message", "tool", "title", "state")
_MOST_LINES = 200
_LATEST = 5
_TEXT_WIDTH = 120


class FocusLevel(StrEnum):
    """What reaches the reader at once."""

    EVERYTHING = "everything"
    ATTENTION = "attention"
    """What needs attention and is worth an interruption; and what has high priority."""
    CRITICAL = "critical"
    """Only what is critical."""


@dataclass(frozen=True, slots=True)
class DigestLine:
    """The events of one type in one namespace that were held back."""

    type: str
    namespace: str
    count: int
    attention: bool
    """Somebody should look at them."""
    latest: tuple[Event, ...]
    """The newest of them, oldest first; where they may not be batched, as many as there is room for."""
    texts: tuple[str, ...]
    """What those said, each on one line."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What was held back, the most pressing first."""

    count: int
    load: int
    """The load of all of them, had they been shown one by one."""
    lines: tuple[DigestLine, ...]
    first_seq: int
    last_seq: int
    left_out: int = 0
    """How many of them are in none of the lines, because there were too many kinds."""


@dataclass(slots=True)
class _Pile:
    count: int = 0
    latest: deque[Event] = field(default_factory=lambda: deque(maxlen=_LATEST))


class Focus:
    """Give it each event with `pass_on`; show the event if that is True. Ask for `due` from time to time.

    What is critical always passes. The rest is piled up by type and namespace, in bounded memory, until `digest` or
    `due` asks for it. `every_s` is the time between two digests that `due` gives, in seconds of `clock`; None: only
    when asked. Not for several threads.
    """

    def __init__(
        self,
        level: FocusLevel | str = FocusLevel.ATTENTION,
        *,
        every_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._level = FocusLevel(level)
        self._every_s = every_s
        self._clock = clock
        self._told_at = clock()
        self._forget()

    @property
    def level(self) -> FocusLevel:
        """What reaches the reader at once. Changing it leaves what was held back for the next digest."""
        return self._level

    @level.setter
    def level(self, level: FocusLevel | str) -> None:
        self._level = FocusLevel(level)

    @property
    def held_back(self) -> int:
        """How many events wait for the next digest."""
        return self._count

    def pass_on(self, event: Event) -> bool:
        """Whether `event` is to be shown now; else it is kept for the digest."""
        if self.passes(event):
            return True
        self._hold_back(event)
        return False

    def due(self) -> Digest | None:
        """The digest, where it is time for one and anything was held back."""
        if self._every_s is None or self._clock() - self._told_at < self._every_s or not self._count:
            return None
        return self.digest()

    def digest(self) -> Digest | None:
        """What was held back since the last digest; None where nothing was."""
        self._told_at = self._clock()
        if not self._count:
            return None
        lines = [_line(type_, namespace, pile) for (type_, namespace), pile in self._piles.items()]
        lines.sort(key=lambda line: (not line.attention, -kind_of(line.type).load, -line.latest[-1].seq))
        digest = Digest(
            count=self._count,
            load=self._load,
            lines=tuple(lines),
            first_seq=self._first_seq,
            last_seq=self._last_seq,
            left_out=self._count - sum(line.count for line in lines),
        )
        self._forget()
        return digest

    def passes(self, event: Event) -> bool:
        """Whether the level lets `event` through; nothing is kept for the digest."""
        if self._level is FocusLevel.EVERYTHING or event.priority is Priority.CRITICAL:
            return True
        if self._level is FocusLevel.CRITICAL:
            return False
        return event.priority is Priority.HIGH or kind_of(event.type).interrupts

    def _hold_back(self, event: Event) -> None:
        kind = kind_of(event.type)
        key = (event.type, event.namespace)
        pile = self._piles.get(key)
        if pile is None:
            if len(self._piles) >= _MOST_LINES and not self._give_way(attention=kind.attention):
                pile = _Pile()  # counted, but in no line
            else:
                pile = self._piles[key] = _Pile()
        pile.count += 1
        pile.latest.append(event)
        self._count += 1
        self._load += kind.load
        self._first_seq = self._first_seq or event.seq
        self._last_seq = event.seq

    def _give_way(self, *, attention: bool) -> bool:
        """Drop the line that matters least, for one that wants attention. Whether there was one."""
        idle = (key for key in self._piles if not kind_of(key[0]).attention)
        least = next(idle, None) if attention else None
        if least is None:
            return False
        del self._piles[least]
        return True

    def _forget(self) -> None:
        self._piles: OrderedDict[tuple[str, str], _Pile] = OrderedDict()
        self._count = self._load = self._first_seq = self._last_seq = 0


def _line(type_: str, namespace: str, pile: _Pile) -> DigestLine:
    return DigestLine(
        type_,
        namespace,
        pile.count,
        kind_of(type_).attention,
        tuple(pile.latest),
        tuple(text for event in pile.latest if (text := _text(event))),
    )


def _text(event: Event) -> str:
    """What an event says, in a few words; empty where it says nothing."""
    error = event.data.get("error")
    if isinstance(error, Mapping):
        return shorten(str(cast("Mapping[str, object]", error).get("message", "")), _TEXT_WIDTH)
    return next((shorten(str(event.data[name]), _TEXT_WIDTH) for name in _TEXTS if event.data.get(name)), "")
