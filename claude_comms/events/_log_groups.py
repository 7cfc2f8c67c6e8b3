"""The consumer groups of the event log. Everything here happens in the log's one writing thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.errors import ConfigError
from claude_comms.events._bus import Missed
from claude_comms.events._consumer import Taken
from claude_comms.events._group_state import GroupState
from claude_comms.events._rows import read_page, read_some

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from claude_comms.events._envelope import Event
    from claude_comms.events._group_state import Progress
    from claude_comms.events._selection import EventFilter

__all__ = ["LogGroups"]

_LOOK_THROUGH = 5000
"""How many events one look for wanted ones passes over, so that nobody who publishes waits for it."""


class LogGroups:
    """All groups that the log knows, whether anybody uses them now or not.

    What is acknowledged changes the states first, then the tables (`write_progress`, in a transaction), and is taken
    back (`roll_back`) where that fails.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._states: dict[str, GroupState] = {}
        self._wanted: dict[str, EventFilter | None] = {}
        self._written: list[tuple[GroupState, Progress]] = []
        acknowledged: dict[str, list[int]] = {}
        for name, seq in connection.execute("SELECT name, seq FROM acknowledged"):
            acknowledged.setdefault(name, []).append(seq)
        for name, cursor in connection.execute("SELECT name, cursor FROM consumer_groups"):
            self._states[name] = GroupState(name, cursor, acknowledged.get(name, ()))

    def register(self, name: str, wanted: EventFilter | None, last_seq: int) -> None:
        """`name` is used, and begins behind `last_seq` if it is new. In a transaction.

        ConfigError where consumers of that name want something else.
        """
        if self._wanted.setdefault(name, wanted) != wanted:
            raise ConfigError(
                f"the consumers of the group {name!r} want different events. Give them one filter, or two names."
            )
        if name not in self._states:
            self._connection.execute("INSERT INTO consumer_groups VALUES (?, ?)", (name, last_seq))
            self._states[name] = GroupState(name, last_seq)

    def take(self, name: str, limit: int, hold_s: float, last_seq: int) -> Taken:
        """Give out what was given back, then what nobody has seen."""
        state, now = self._states[name], self._clock()
        state.expire(now)
        free = state.next_free(limit)
        events = read_some(self._connection, free) if free else []
        state.hold(free, now + hold_s)
        limit = min(limit - len(events), state.room)
        if limit > 0:
            events += self._unread(state, limit, last_seq)
            state.hold([event.seq for event in events], now + hold_s)
        end = state.soonest_end
        more = state.room > 0 and state.scanned < last_seq
        return Taken(events, more, None if end is None else max(0.0, end - now))

    def acknowledge(self, name: str, seqs: Sequence[int], last_seq: int) -> None:
        """In a transaction. ConfigError for numbers that the log has not given out yet."""
        beyond = [seq for seq in seqs if seq > last_seq]
        if beyond:
            raise ConfigError(f"the events {beyond} are not of this log. Acknowledge what was taken from it.")
        self._states[name].acknowledge(seqs)

    def give_back(self, name: str, seqs: Sequence[int]) -> bool:
        """Whether any of `seqs` are free now that were not."""
        return self._states[name].give_back(seqs)

    def missed(self, name: str) -> list[Missed]:
        """What was removed too early, and forget it. In a transaction."""
        rows = self._connection.execute(
            "SELECT first, last, reason FROM missed WHERE name = ? ORDER BY first", (name,)
        ).fetchall()
        if rows:
            self._connection.execute("DELETE FROM missed WHERE name = ?", (name,))
        return [Missed(*row) for row in rows]

    def write_progress(self) -> None:
        """Put down how far the groups are. In a transaction, at its end."""
        for name, state in self._states.items():
            if (progress := state.progress()) is not None:
                self._written.append((state, progress))
                self._connection.execute(
                    "UPDATE consumer_groups SET cursor = ? WHERE name = ?", (progress.cursor, name)
                )
                if progress.cursor > state.cursor:
                    self._connection.execute(
                        "DELETE FROM acknowledged WHERE name = ? AND seq <= ?", (name, progress.cursor)
                    )
                self._connection.executemany(
                    "INSERT OR IGNORE INTO acknowledged VALUES (?, ?)", [(name, seq) for seq in progress.beyond]
                )

    def committed(self) -> None:
        """What was put down is durable."""
        for state, progress in self._written:
            state.committed(progress)
        self._written.clear()

    def roll_back(self) -> None:
        """What was put down is not durable."""
        for state in self._states.values():
            state.roll_back()
        self._written.clear()
        known = {name for (name,) in self._connection.execute("SELECT name FROM consumer_groups")}
        self._states = {name: state for name, state in self._states.items() if name in known}

    def settled_to(self, last_seq: int) -> int:
        """The newest number up to which no group has anything left to do."""
        for name, state in self._states.items():
            if name in self._wanted:
                self._skip_unwanted(state, last_seq)
        return min((state.settled_to for state in self._states.values()), default=last_seq)

    def lose(self, floor: int, reason: str) -> list[tuple[str, Missed]]:
        """All up to `floor` is removed: what groups miss by that. In a transaction."""
        lost = [(name, missed) for name, state in self._states.items() if (missed := state.lose(floor, reason))]
        self._connection.executemany(
            "INSERT INTO missed VALUES (?, ?, ?, ?)",
            [(name, missed.first, missed.last, missed.reason) for name, missed in lost],
        )
        return lost

    def _unread(self, state: GroupState, limit: int, last_seq: int) -> list[Event]:
        until = min(last_seq, state.scanned + _LOOK_THROUGH)
        page = read_page(self._connection, self._wanted.get(state.name), after=state.scanned, until=until, limit=limit)
        state.scanned = page.end
        return [event for event in page.events if not state.is_acknowledged(event.seq)]

    def _skip_unwanted(self, state: GroupState, last_seq: int) -> None:
        """A group that waits for rare events is as far as the log, and does not hold up what nobody wants."""
        if state.scanned < last_seq and state.settled_to == state.scanned:
            until = min(last_seq, state.scanned + _LOOK_THROUGH)
            page = read_page(self._connection, self._wanted[state.name], after=state.scanned, until=until, limit=1)
            state.scanned = page.events[0].seq - 1 if page.events else page.end
