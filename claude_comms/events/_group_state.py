"""How far a consumer group is: what is settled, who holds what, what may be given out next. No I/O, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from claude_comms.events._bus import Missed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["GroupState", "Progress"]

_MOST_HELD = 10_000
_MOST_AHEAD = 100_000
"""How many acknowledged events are remembered one by one, while an older one is still open."""


class Progress(NamedTuple):
    """What is to be made durable: all up to `cursor` is settled, and `beyond` is acknowledged, too."""

    cursor: int
    beyond: list[int]


class GroupState:
    """All numbers are sequence numbers.

    An event that the group wants is, in turn: unread (behind `scanned`), held by a consumer until a moment, maybe
    free again, and at last acknowledged. Up to `cursor` everything is settled.
    """

    def __init__(self, name: str, cursor: int, acknowledged: Iterable[int] = ()) -> None:
        self.name = name
        self.cursor = cursor
        self.scanned = cursor
        self._acknowledged = set(acknowledged)
        self._held: dict[int, float] = {}
        self._free: set[int] = set()
        self._fresh: list[int] = []
        self._undo: list[tuple[int, float | None]] = []

    @property
    def settled_to(self) -> int:
        """The newest number up to which nothing is left to do, durable or not."""
        open_ = min(min(self._held, default=self.scanned + 1), min(self._free, default=self.scanned + 1))
        return max(self.cursor, open_ - 1)

    @property
    def room(self) -> int:
        """How many more events may be given out."""
        return 0 if len(self._acknowledged) >= _MOST_AHEAD else max(0, _MOST_HELD - len(self._held) - len(self._free))

    @property
    def soonest_end(self) -> float | None:
        """When the first hold ends."""
        return min(self._held.values(), default=None)

    def is_acknowledged(self, seq: int) -> bool:
        """Whether `seq` needs no consumer any more."""
        return seq <= self.cursor or seq in self._acknowledged

    def expire(self, now: float) -> None:
        """Free what was held for too long."""
        self.give_back([seq for seq, until in self._held.items() if until <= now])

    def next_free(self, limit: int) -> list[int]:
        """The oldest of what was given back."""
        return sorted(self._free)[:limit]

    def hold(self, seqs: Iterable[int], until: float) -> None:
        """A consumer has these, until the moment `until`."""
        for seq in seqs:
            self._free.discard(seq)
            self._held[seq] = until

    def give_back(self, seqs: Iterable[int]) -> bool:
        """Free those of `seqs` that are held. Whether there were any."""
        mine = [seq for seq in seqs if self._held.pop(seq, None) is not None]
        self._free.update(mine)
        return bool(mine)

    def acknowledge(self, seqs: Sequence[int]) -> None:
        """These are dealt with, whoever holds them, as soon as `committed` says so."""
        for seq in seqs:
            if not self.is_acknowledged(seq):
                until = self._held.pop(seq, None)
                if until is not None or seq in self._free:
                    self._undo.append((seq, until))
                self._free.discard(seq)
                self._acknowledged.add(seq)
                self._fresh.append(seq)

    def progress(self) -> Progress | None:
        """What has changed since the last commit; None where nothing has."""
        cursor = self.settled_to
        if cursor == self.cursor and not self._fresh:
            return None
        return Progress(cursor, [seq for seq in self._fresh if seq > cursor])

    def committed(self, progress: Progress) -> None:
        """`progress` is durable."""
        if progress.cursor > self.cursor:
            self.cursor = progress.cursor
            self._acknowledged = {seq for seq in self._acknowledged if seq > self.cursor}
        self._fresh.clear()
        self._undo.clear()

    def roll_back(self) -> None:
        """What was acknowledged since the last commit could not be made durable: it is open again."""
        self._acknowledged.difference_update(self._fresh)
        for seq, until in self._undo:
            if until is None:
                self._free.add(seq)
            else:
                self._held[seq] = until
        self._fresh.clear()
        self._undo.clear()

    def lose(self, floor: int, reason: str) -> Missed | None:
        """All up to `floor` is being removed; what of it was still open is missed."""
        settled = self.settled_to
        if floor <= settled:
            return None
        self._held = {seq: until for seq, until in self._held.items() if seq > floor}
        self._free = {seq for seq in self._free if seq > floor}
        self.scanned = max(self.scanned, floor)
        return Missed(settled + 1, floor, reason)
