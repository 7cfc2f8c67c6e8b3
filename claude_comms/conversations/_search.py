"""Full-text search over what was said.

BM25 weighs a word by how many messages hold it, and FTS5 counts them anew in each search: for the common words of
100,000 messages that alone takes tens of milliseconds, and their weight then comes out near nothing. So only
telling words are scored, those in fewer than 1,000 messages. Where a search has none, newer messages come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from claude_comms.ranking import fts_query
from claude_comms.storage import driver_of
from claude_comms.types import MessageState, Record, Role

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Connection

__all__ = ["SearchHit", "search"]

_COMMON = 1_000
_MOST_WORDS = 16

_NEWEST = "SELECT rowid FROM messages_fts WHERE messages_fts MATCH ? ORDER BY rowid DESC LIMIT ?"
_SCORES = "SELECT rowid, -bm25(messages_fts) FROM messages_fts WHERE messages_fts MATCH ?"
_HIT = """
SELECT m.thread_id, m.message_id, m.position, m.role, m.speaker, m.state, c.source, c.target,
       snippet(messages_fts, 0, '«', '»', '…', 24), m.created_at
FROM messages_fts JOIN messages m ON m.seq = messages_fts.rowid JOIN conversations c ON c.thread_id = m.thread_id
WHERE messages_fts MATCH :query AND messages_fts.rowid = :seq
  AND (:source IS NULL OR c.source = :source) AND (:target IS NULL OR c.target = :target)
  AND (:archived OR c.state = 'active')
"""


@dataclass(frozen=True, slots=True)
class SearchHit(Record):
    """A message that was found. Scores are comparable within one search only; higher is better."""

    thread_id: str
    message_id: str
    position: int
    role: Role
    speaker: str
    state: MessageState
    source: str
    target: str
    excerpt: str
    """Around the words that were found, which stand between « and »."""
    score: float
    """0.0 where only common words were found."""
    created_at: datetime


def search(
    connection: Connection, text: str, *, source: str | None, target: str | None, archived: bool, limit: int
) -> list[SearchHit]:
    """The messages with all words of `text`; where there are none, those with any. Best first."""
    words = _words(text)
    if not words:
        return []
    driver = driver_of(connection)
    scope = _scope(source, target)
    telling = [word for word in words if len(_newest(driver, _said(word))) < _COMMON]
    filters = {"source": source, "target": target, "archived": archived}
    for operator in (" AND ", " OR "):
        query = _said(operator.join(words))
        found = set(_newest(driver, query + scope))
        scored = _said(operator.join(telling)) if telling else ""
        if scored and operator == " OR ":  # an old message with a telling word, and newer ones with common words
            found.update(_newest(driver, scored + scope))
        scores: dict[int, float] = dict(driver.execute(_SCORES, (scored,))) if scored and found else {}
        best = sorted(found, key=lambda seq: (-scores.get(seq, 0.0), -seq))
        hits = _hits(driver, {**filters, "query": query}, best, scores, limit)
        if hits:
            return hits
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


def _hits(
    driver: sqlite3.Connection, parameters: dict[str, object], best: list[int], scores: dict[int, float], limit: int
) -> list[SearchHit]:
    hits: list[SearchHit] = []
    for seq in best:
        if len(hits) >= limit:
            break
        row = driver.execute(_HIT, {**parameters, "seq": seq}).fetchone()
        if row is not None:
            hits.append(_hit(row, scores.get(seq, 0.0)))
    return hits


def _hit(row: tuple[str, str, int, str, str, str, str, str, str, str], score: float) -> SearchHit:
    thread_id, message_id, position, role, speaker, state, source, target, excerpt, created_at = row
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
