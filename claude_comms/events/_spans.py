"""Where in the log a turn or an instance is found.

An index entry for each event would cost more than the event: the entries of turns that run side by side lie on
different pages, and every commit would write them all. So the log notes for each block of 1,024 events, once, whose
events are in it; what lies between the first and the last such block is looked through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from claude_comms.events._accepting import Accepted
    from claude_comms.events._selection import EventFilter

__all__ = ["SPANS_SCHEMA", "Spans", "narrowed", "remove_spans"]

SPANS_SCHEMA = """
CREATE TABLE spans (
    block INTEGER NOT NULL, whose TEXT NOT NULL, PRIMARY KEY (block, whose)
) STRICT, WITHOUT ROWID;
"""
_BITS = 10


class Spans:
    """Notes what is in the newest block. Only the writing thread has one."""

    def __init__(self) -> None:
        self._block = -1
        self._noted: set[str] = set()

    def note(self, connection: sqlite3.Connection, first_seq: int, batch: Sequence[Accepted]) -> None:
        """Put down whose events `batch` has, numbered from `first_seq` on. In their transaction."""
        rows: list[tuple[int, str]] = []
        for seq, event in enumerate(batch, first_seq):
            if seq >> _BITS != self._block:
                self._block = seq >> _BITS
                self._noted.clear()
            for kind, id_ in (("t", event.turn_id), ("i", event.instance_id)):
                if id_ is not None and (whose := kind + id_) not in self._noted:
                    self._noted.add(whose)
                    rows.append((self._block, whose))
        if rows:
            connection.executemany("INSERT OR IGNORE INTO spans VALUES (?, ?)", rows)

    def forget(self) -> None:
        """The transaction was rolled back: note everything again."""
        self._noted.clear()


def remove_spans(connection: sqlite3.Connection, floor: int) -> None:
    """Drop the notes on blocks of which nothing is left. In a transaction."""
    connection.execute("DELETE FROM spans WHERE block < ?", ((floor + 1) >> _BITS,))


def narrowed(connection: sqlite3.Connection, wanted: EventFilter | None, after: int, until: int) -> tuple[int, int]:
    """The part of `after` < seq <= `until` outside of which nothing fits; empty where nothing does at all."""
    if wanted is None or (wanted.turn_id is None and wanted.instance_id is None):
        return after, until
    whose = f"t{wanted.turn_id}" if wanted.turn_id is not None else f"i{wanted.instance_id}"
    first, last = connection.execute(
        "SELECT min(block), max(block) FROM spans WHERE whose = ? AND block BETWEEN ? AND ?",
        (whose, (after + 1) >> _BITS, until >> _BITS),
    ).fetchone()
    if first is None:
        return after, after
    return max(after, (first << _BITS) - 1), min(until, ((last + 1) << _BITS) - 1)
