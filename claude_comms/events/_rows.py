"""The event log's tables, and events as their rows.

Pages are read, and events inserted, with one statement for many rows. SQLite's module for Python gives up the
interpreter's lock at each row it steps over, and may have to wait for it; so a thread that goes row by row beside a
busy event loop takes a hundred times as long.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from claude_comms.errors import StoreError
from claude_comms.events._envelope import Event
from claude_comms.events._following import Page
from claude_comms.events._priority import Priority
from claude_comms.events._spans import SPANS_SCHEMA, narrowed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    from claude_comms.events._accepting import Accepted
    from claude_comms.events._selection import EventFilter

__all__ = ["bring_up_to_date", "insert", "read_page", "read_some"]

_VERSION = 1
_SCHEMA = f"""{SPANS_SCHEMA}
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    namespace TEXT NOT NULL,
    priority TEXT NOT NULL,
    time TEXT NOT NULL,
    data TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    stored_at REAL NOT NULL,
    turn_id TEXT,
    instance_id TEXT
) STRICT;
CREATE TABLE floor (seq INTEGER NOT NULL) STRICT;
INSERT INTO floor VALUES (0);
CREATE TABLE consumer_groups (name TEXT PRIMARY KEY, cursor INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE acknowledged (name TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (name, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE missed (name TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
"""
_COLUMNS = "seq, event_id, type, subject, namespace, priority, time, data"
_INSERT = f"INSERT INTO events ({_COLUMNS}, size_bytes, stored_at, turn_id, instance_id) VALUES "
_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PRIORITIES = {priority.value: priority for priority in Priority}
_LARGEST_INSERT = 256
_PAGE_BYTES = 8 << 20
_AS_ONE = (
    "SELECT (SELECT seq FROM floor),"
    " json_group_array(json_array(seq, event_id, type, subject, namespace, priority, time, data)) FROM "
)


def bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables where there are none. StoreError for a log of a newer version, or a file that is not a log."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == _VERSION:
        return
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version > _VERSION or tables:
        raise StoreError(
            f"the event log {path} has version {version}, or is something else; this version of claude-comms knows"
            f" {_VERSION}. Upgrade claude-comms, or move the file away: a new one is begun."
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")


def insert(connection: sqlite3.Connection, first_seq: int, batch: Sequence[Accepted], stored_at: float) -> None:
    """Add `batch`, numbered from `first_seq` on."""
    begin = 0
    while begin < len(batch):
        # Powers of two, so that few statements do for all lengths, and stay prepared.
        count = min(_LARGEST_INSERT, 1 << (len(batch) - begin).bit_length() - 1)
        values: list[Any] = []
        for seq, event in enumerate(batch[begin : begin + count], first_seq + begin):
            values += (
                seq,
                event.event_id,
                event.type,
                event.subject,
                event.namespace,
                event.priority.value,
                event.time_text,
                event.data_text,
                len(event.data_text),
                stored_at,
                event.turn_id,
                event.instance_id,
            )
        connection.execute(_INSERT + ", ".join([_ROW] * count), values)
        begin += count


def read_page(
    connection: sqlite3.Connection, wanted: EventFilter | None, *, after: int, until: int, limit: int
) -> Page:
    """The first events with `after` < seq <= `until` that fit: up to `limit`, or about 8 MB."""
    conditions, values = _conditions(wanted)
    where = " AND ".join(["seq > ?", "seq <= ?", *conditions])
    chosen = f"FROM events WHERE {where} ORDER BY seq LIMIT ?"
    connection.execute("BEGIN")  # one snapshot for all
    try:
        bounds = [*narrowed(connection, wanted, after, until), *values]
        row = connection.execute(
            f"SELECT json_group_array(size_bytes) FROM (SELECT size_bytes {chosen})", [*bounds, limit]
        ).fetchone()
        sizes_bytes: list[int] = json.loads(row[0])
        count = _fitting(sizes_bytes)
        floor, text = connection.execute(f"{_AS_ONE} (SELECT {_COLUMNS} {chosen})", [*bounds, count]).fetchone()
    finally:
        connection.rollback()
    events = _events(text)
    cut = events and (count == limit or count < len(sizes_bytes))
    return Page(events, events[-1].seq if cut else until, floor)


def _fitting(sizes_bytes: Sequence[int]) -> int:
    """How many of the first have room in a page; one always has."""
    total = 0
    for number, size_bytes in enumerate(sizes_bytes):
        total += size_bytes
        if number and total > _PAGE_BYTES:
            return number
    return len(sizes_bytes)


def read_some(connection: sqlite3.Connection, seqs: Sequence[int]) -> list[Event]:
    """The events with these numbers that are still there."""
    row = connection.execute(
        f"{_AS_ONE} (SELECT {_COLUMNS} FROM events WHERE seq IN (SELECT value FROM json_each(?)))",
        [json.dumps(list(seqs))],
    ).fetchone()
    return _events(row[1])


def _events(text: str) -> list[Event]:
    rows: list[tuple[int, str, str, str, str, str, str, str]] = json.loads(text)
    rows.sort(key=lambda row: row[0])
    return [_event(*row) for row in rows]


def _event(
    seq: int, event_id: str, type_: str, subject: str, namespace: str, priority: str, time: str, data: str
) -> Event:
    return Event(
        seq, event_id, type_, subject, namespace, _PRIORITIES[priority], datetime.fromisoformat(time), json.loads(data)
    )


def _conditions(wanted: EventFilter | None) -> tuple[list[str], list[str]]:
    """`EventFilter.fits`, in SQL."""
    conditions: list[str] = []
    values: list[str] = []
    if wanted is None:
        return conditions, values
    for column, patterns in (("type", wanted.types), ("subject", wanted.subjects), ("namespace", wanted.namespaces)):
        if patterns:
            conditions.append(f"({' OR '.join([f'{column} GLOB ?'] * len(patterns))})")
            values += map(_glob, patterns)
    if wanted.module is not None:
        conditions.append("'/' || namespace || '/' GLOB ?")
        values.append(f"*/{_exactly(wanted.module)}/*")
    if wanted.priority is not Priority.LOW:
        enough = [priority for priority in Priority if priority.reaches(wanted.priority)]
        conditions.append(f"priority IN ({', '.join('?' * len(enough))})")
        values += map(str, enough)
    for column, value in (("instance_id", wanted.instance_id), ("turn_id", wanted.turn_id)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    return conditions, values


def _glob(pattern: str) -> str:
    return "*".join(map(_exactly, pattern.split("*")))


def _exactly(text: str) -> str:
    """`text` where GLOB takes each character for itself."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)
