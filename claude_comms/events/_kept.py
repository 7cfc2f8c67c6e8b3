"""What is on disk, as the writing thread sees it: insert, transactions, retention. Only that thread uses it."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING

from claude_comms.events._log_groups import LogGroups
from claude_comms.events._rows import insert
from claude_comms.events._spans import Spans, remove_spans

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from claude_comms.events._accepting import Accepted
    from claude_comms.events._fanout import Hub

__all__ = ["KeptLog", "Retention"]

_LOG = logging.getLogger(__name__)
_CHUNK = 1000
"""How many events one round removes at most: so long nobody who publishes has to wait."""
_ROW_BYTES = 250
"""What an event takes on disk besides its data, roughly."""
_REMOVE_AFTER = 250
"""How many new events cause a look at what is to be removed."""


class Retention:
    """How long and how much is kept. `now` is the time of day in seconds."""

    def __init__(self, retention_s: float, retention_bytes: int, now: Callable[[], float]) -> None:
        self.retention_s = retention_s
        self.retention_bytes = retention_bytes
        self.now = now


class KeptLog:
    """The log's file and numbers."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        retention: Retention,
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self._connection = connection
        self._retention = retention
        self._new_since_tidy = 0
        self.hub: Hub | None = None
        self._spans = Spans()
        self.groups = LogGroups(connection, clock)
        (self.floor,) = connection.execute("SELECT seq FROM floor").fetchone()
        (newest,) = connection.execute("SELECT max(seq) FROM events").fetchone()
        self.last_seq: int = max(self.floor, newest or 0)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    @contextlib.contextmanager
    def transaction(self) -> Generator[None]:
        """All or nothing, the groups' progress included."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.groups.write_progress()
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.rollback()
            self._spans.forget()
            self.groups.roll_back()
            raise
        self.groups.committed()

    def insert(self, batch: Sequence[Accepted]) -> None:
        """Add the events, numbered from `last_seq` on. In a transaction; `advance` follows it."""
        insert(self._connection, self.last_seq + 1, batch, self._retention.now())
        self._spans.note(self._connection, self.last_seq + 1, batch)

    def advance(self, batch: Sequence[Accepted]) -> None:
        """What was inserted is durable: count it, and pass it on."""
        first_seq = self.last_seq + 1
        self.last_seq += len(batch)
        # In this order: who begins to listen after the question knows of the new number.
        if self.hub is not None and self.hub.is_heard:
            self.hub.announce([(event.numbered(seq), event.size_bytes) for seq, event in enumerate(batch, first_seq)])

    def tidy(self, new_events: int, *, idle: bool) -> int:
        """Remove something, where it is time for that: more than what has come. How many events that were."""
        self._new_since_tidy += new_events
        if self._new_since_tidy < _REMOVE_AFTER and not idle:
            return 0
        self._new_since_tidy = 0
        return self.remove_some()

    def give_back(self, name: str, seqs: Sequence[int]) -> None:
        """Let other consumers of the group have these, and wake them."""
        if self.groups.give_back(name, seqs) and self.hub is not None:
            self.hub.rouse(name)

    def remove_some(self) -> int:
        """Remove up to 1,000 of the oldest events, those that need not be kept. How many that were."""
        upto = min(self._dispensable_to(), self.last_seq)
        removed = upto - self.floor
        if removed <= 0:
            return 0
        with self.transaction():
            self._connection.execute("DELETE FROM events WHERE seq <= ?", (upto,))
            self._connection.execute("UPDATE floor SET seq = ?", (upto,))
            remove_spans(self._connection, upto)
            lost = self.groups.lose(upto, "they were removed: the log was full")
        self.floor = upto
        for name, missed in lost:
            _LOG.warning(
                "the event log was full: events %d to %d are gone, which the group %r had not acknowledged",
                missed.first,
                missed.last,
                name,
            )
        return removed

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _dispensable_to(self) -> int:
        chunk_end = self.floor + _CHUNK
        used, allowed = self._used_bytes(), self._retention.retention_bytes
        if used > 2 * allowed:
            return self._excess_to(chunk_end, used - 2 * allowed)
        oldest = self._too_old_to(chunk_end)
        if used > allowed:
            oldest = max(oldest, self._excess_to(chunk_end, used - allowed))
        return min(oldest, self.groups.settled_to(self.last_seq)) if oldest > self.floor else self.floor

    def _excess_to(self, chunk_end: int, excess_bytes: int) -> int:
        """The last of so many of the oldest events that together are as large as `excess_bytes`, about."""
        (text,) = self._connection.execute(
            "SELECT json_group_array(size_bytes) FROM"
            " (SELECT size_bytes FROM events WHERE seq > ? AND seq <= ? ORDER BY seq)",
            (self.floor, chunk_end),
        ).fetchone()
        last = self.floor
        for size_bytes in json.loads(text):
            if excess_bytes <= 0:
                break
            excess_bytes -= size_bytes + _ROW_BYTES
            last += 1
        return last

    def _too_old_to(self, chunk_end: int) -> int:
        cutoff = self._retention.now() - self._retention.retention_s
        (young,) = self._connection.execute(
            "SELECT min(seq) FROM events WHERE seq > ? AND seq <= ? AND stored_at >= ?",
            (self.floor, chunk_end, cutoff),
        ).fetchone()
        return chunk_end if young is None else young - 1

    def _used_bytes(self) -> int:
        pages, free, size_bytes = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size_bytes
