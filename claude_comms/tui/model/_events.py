"""The latest events, in bounded memory, as far as the reader's focus lets them through."""

from __future__ import annotations

import heapq
import json
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from claude_comms.events import Digest, DigestLine, Focus, FocusLevel, Missed, Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from claude_comms.events import Event
    from claude_comms.tui.model._query import EventQuery

__all__ = ["EventList", "in_full"]

_MOST = 4_000
_MOST_LOW = 1_000
_MOST_GAPS = 50
_LONGEST_TEXT = 1_000
_DEEPEST = 4
_MOST_ITEMS = 30
_DIGEST_EVERY_S = 300.0
_MOST_DIGESTS = 5
_MOST_LINES = 200
_LATEST = 5


class EventList:
    """The latest events, listed as far as the focus passes them on.

    Those of low priority have a place of their own, and push out only their like. Long texts in them are cut: this is
    to look at; the daemon's log has the whole.
    """

    def __init__(self, clock: Callable[[], float], *, most: int = _MOST, most_low: int = _MOST_LOW) -> None:
        self.focus = Focus(FocusLevel.EVERYTHING, every_s=_DIGEST_EVERY_S, clock=clock)
        self.digests: deque[Digest] = deque()
        self.unread = 0
        """How many of the newest digests nobody has looked at. Where they are too many, the oldest become one."""
        self.gaps: deque[Missed] = deque(maxlen=_MOST_GAPS)
        self.seen = 0
        """All that have come."""
        self.version = 0
        """Grows with each change of what is kept."""
        self._kept: deque[Event] = deque(maxlen=most)
        self._low: deque[Event] = deque(maxlen=most_low)

    def take(self, event: Event) -> None:
        """One more has come."""
        self.seen += 1
        self.focus.pass_on(event)
        kept = self._low if event.priority is Priority.LOW else self._kept
        kept.append(_trimmed(event))
        self.version += 1

    def missed(self, missed: Missed) -> None:
        """Some are not coming."""
        self.gaps.append(missed)
        self.version += 1

    def tick(self) -> Digest | None:
        """The digest, where it is time for one."""
        return self._kept_digest(self.focus.due())

    def digest(self) -> Digest | None:
        """The digest of what was held back, now; None where nothing was."""
        return self._kept_digest(self.focus.digest())

    def that_fit(self, query: EventQuery) -> list[Event]:
        """Those kept that the focus passes on and `query` wants, oldest first."""
        low: Iterable[Event] = self._low if query.least is Priority.LOW else ()
        return [
            event
            for event in heapq.merge(self._kept, low, key=lambda e: e.seq)
            if self.focus.passes(event) and query.fits(event)
        ]

    def rows(self, query: EventQuery) -> list[Event | Missed]:
        """The same, with the gaps where they are."""
        return list(heapq.merge(self.that_fit(query), self.gaps, key=_place))

    def _kept_digest(self, digest: Digest | None) -> Digest | None:
        if digest is not None:
            self.digests.append(digest)
            self.unread += 1
            self.version += 1
            if len(self.digests) > _MOST_DIGESTS:
                first = self.digests.popleft()
                if self.unread > _MOST_DIGESTS:
                    self.digests[0] = _together(first, self.digests[0])
                    self.unread = _MOST_DIGESTS
        return digest

    def were_read(self) -> None:
        """Somebody has looked at the digests."""
        self.unread = 0
        self.version += 1


def _together(one: Digest, other: Digest) -> Digest:
    """Two digests, one after the other, as one."""
    lines = {(line.type, line.namespace): line for line in one.lines}
    for line in other.lines:
        known = lines.get((line.type, line.namespace))
        lines[line.type, line.namespace] = line if known is None else _joined(known, line)
    kept = sorted(lines.values(), key=lambda line: (not line.attention, -line.count))
    left_out = one.left_out + other.left_out + sum(line.count for line in kept[_MOST_LINES:])
    return Digest(
        one.count + other.count,
        one.load + other.load,
        tuple(kept[:_MOST_LINES]),
        one.first_seq,
        other.last_seq,
        left_out,
    )


def _joined(one: DigestLine, other: DigestLine) -> DigestLine:
    latest, texts = (*one.latest, *other.latest), (*one.texts, *other.texts)
    return replace(other, count=one.count + other.count, latest=latest[-_LATEST:], texts=texts[-_LATEST:])


def _place(row: Event | Missed) -> int:
    return row.last if isinstance(row, Missed) else row.seq


def in_full(event: Event) -> str:
    """The event's envelope as people read JSON."""
    return json.dumps(event.as_cloudevent(), indent=2, ensure_ascii=False, default=str)


def _trimmed(event: Event) -> Event:
    return replace(event, data=_cut(event.data, 0))


def _cut(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT] + "…"
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        # Names are the same in thousands of events, and each event came with its own copy of them.
        return {sys.intern(name): _cut(item, depth + 1) for name, item in items} if depth < _DEEPEST else "…"
    if isinstance(value, (list, tuple)):
        listed = cast("list[Any]", value)
        return [_cut(item, depth + 1) for item in listed[:_MOST_ITEMS]] if depth < _DEEPEST else "…"
    return value
