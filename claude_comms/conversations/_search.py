"""Full-text search over what was said.

BM25 weighs a word by how many messages hold it, and FTS5 counts them anew in each search: for the common words of
100,000 messages that alone takes tens of milliseconds, and their weight then comes out near nothing. So only
telling words are scored, those in fewer than 1,000 messages. Where a search has none, newer messages come first.

An excerpt from the index costs a search of its own for each hit. The few texts that are shown are indexed once more,
alone and in memory, and all excerpts are made at once there.
"""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import datetime
from typing import TYPE_CHECKING

from claude_comms.ranking import fts_query
from claude_comms.storage import driver_of
from claude_comms.types import MessageState, Role, SearchHit

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["search"]

_Row = tuple[int, str, str, int, str, str, str, str, str, str]

_COMMON = 1_000
_MOST_WORDS = 16

_IS_COMMON = f"SELECT 1 FROM messages_fts WHERE messages_fts MATCH ? LIMIT 1 OFFSET {_COMMON - 1}"
_NEWEST = "SELECT rowid FROM messages_fts WHERE messages_fts MATCH ? ORDER BY rowid DESC LIMIT ?"
_SCORES = "SELECT rowid, -bm25(messages_fts) FROM messages_fts WHERE messages_fts MATCH ?"
_HIT = """
SELECT m.seq, m.thread_id, m.message_id, m.position, m.role, m.speaker, m.state, c.source, c.target, m.created_at
FROM messages m JOIN conversations c USING (thread_id)
WHERE m.seq = :seq
  AND (:source IS NULL OR c.source = :source) AND (:target IS NULL OR c.target = :target)
  AND (:archived OR c.state = 'active')
"""
_TEXT = "SELECT seq, text FROM searchable WHERE seq = ?"
_EXCERPTS = "SELECT rowid, snippet(shown, 0, '«', '»', '…', 24) FROM shown WHERE shown MATCH ?"


def search(
    connection: Connection, text: str, *, source: str | None, target: str | None, archived: bool, limit: int
) -> list[SearchHit]:
    """The messages with all words of `text`; where there are none, those with any. Best first."""
    words = _words(text)
    if not words:
        return []
    driver = driver_of(connection)
    scope = _scope(source, target)
    telling = [word for word in words if not driver.execute(_IS_COMMON, (_said(word),)).fetchone()]
    filters: dict[str, object] = {"source": source, "target": target, "archived": archived}
    for operator in (" AND ", " OR "):
        query = _said(operator.join(words))
        found = set(_newest(driver, query + scope))
        scored = _said(operator.join(telling)) if telling else ""
        if scored and operator == " OR ":  # an old message with a telling word, and newer ones with common words
            found.update(_newest(driver, scored + scope))
        scores: dict[int, float] = dict(driver.execute(_SCORES, (scored,))) if scored and found else {}
        best = sorted(found, key=lambda seq: (-scores.get(seq, 0.0), -seq))
        rows = _shown(driver, filters, best, limit)
        if rows:
            excerpts = _excerpts(driver, query, [row[0] for row in rows])
            return [_hit(row, scores.get(row[0], 0.0), excerpts[row[0]]) for row in rows]
    return []


def _words(text: str) -> list[str]:
    """The words of `text`, each quoted; stop words only if there are no others."""
    query = fts_query(text) or fts_query(text, keep_stop_words=True)
    return query.split(" OR ")[:_MOST_WORDS] if query else []


def _said(words: str) -> str:
    return f"{{text}} : ({words})"


def _scope(source: str | None, target: str | None) -> str:
    """What narrows a query to a pair by the index, which has each name as one word.

    It may match a little more than those very names: without their marks, and stemmed, others may look alike.
    """
    parts: list[str] = []
    for column, name in (("source", source), ("target", target)):
        word = "".join(character for character in name or "" if character.isalnum())
        if word:
            parts.append(f' AND {{{column}}} : ("{word}")')
    return "".join(parts)


def _newest(driver: sqlite3.Connection, query: str) -> list[int]:
    return [seq for (seq,) in driver.execute(_NEWEST, (query, _COMMON))]


def _shown(driver: sqlite3.Connection, filters: dict[str, object], best: list[int], limit: int) -> list[_Row]:
    """The first `limit` of `best` that the filters let through."""
    found: list[_Row] = []
    for seq in best:
        if len(found) >= limit:
            break
        row = driver.execute(_HIT, {**filters, "seq": seq}).fetchone()
        if row is not None:
            found.append(row)
    return found


def _excerpts(driver: sqlite3.Connection, query: str, seqs: list[int]) -> dict[int, str]:
    """For each of the messages, what stands around the words of `query`."""
    texts = [driver.execute(_TEXT, (seq,)).fetchone() for seq in seqs]
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        memory.execute("CREATE VIRTUAL TABLE shown USING fts5(text, tokenize = 'porter unicode61')")
        memory.executemany("INSERT INTO shown (rowid, text) VALUES (?, ?)", texts)
        return dict(memory.execute(_EXCERPTS, (query,)))


def _hit(row: _Row, score: float, excerpt: str) -> SearchHit:
    _, thread_id, message_id, position, role, speaker, state, source, target, created_at = row
    return SearchHit(
        thread_id=thread_id,
        message_id=message_id,
        position=position,
        role=Role(role),
        speaker=speaker,
        state=MessageState(state),
        source=source,
        target=target,
        excerpt=excerpt,
        score=score,
        created_at=datetime.fromisoformat(created_at),
    )
