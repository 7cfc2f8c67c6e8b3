"""Full-text search over what was said.

Scoring every message that holds a common word takes a tenth of a second over 100,000 messages, so only the
newest matches are scored: 2,000 of them, which is all there are for most questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text as sql

from claude_comms.ranking import fts_query
from claude_comms.types import MessageState, Record, Role

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

__all__ = ["SearchHit", "search"]

_MOST_SCORED = 2_000
_MOST_WORDS = 16
_EXCERPT_WORDS = 24

# The newest matches first, by the index alone; then the best of them.
_BEST = sql("""
SELECT m.seq, m.thread_id, m.message_id, m.position, m.role, m.speaker, m.state, m.created_at,
       c.source, c.target, found.score
FROM (
    SELECT rowid, -bm25(messages_fts, 1.0, 0.0, 0.0) AS score
    FROM messages_fts WHERE messages_fts MATCH :query ORDER BY rowid DESC LIMIT :most
) AS found
JOIN messages m ON m.seq = found.rowid
JOIN conversations c ON c.thread_id = m.thread_id
WHERE (:source IS NULL OR c.source = :source) AND (:target IS NULL OR c.target = :target)
  AND (:archived OR c.state = 'active')
ORDER BY found.score DESC, m.seq DESC LIMIT :limit
""")
_EXCERPT = sql(
    "SELECT snippet(messages_fts, 0, '«', '»', '…', :words) FROM messages_fts"
    " WHERE messages_fts MATCH :query AND rowid = :seq"
)


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
    created_at: datetime


def search(
    connection: Connection, text: str, *, source: str | None, target: str | None, archived: bool, limit: int
) -> list[SearchHit]:
    """The messages with all words of `text`; where there are none, those with any. Best first."""
    words = _words(text)
    if not words:
        return []
    for operator in (" AND ", " OR "):
        query = _query(operator.join(words), source, target)
        parameters = {"query": query, "most": _MOST_SCORED, "limit": limit, "archived": archived}
        rows = connection.execute(_BEST, {**parameters, "source": source, "target": target}).fetchall()
        if rows or len(words) == 1:
            break
    return [_hit(connection, query, row) for row in rows]


def _words(text: str) -> list[str]:
    """The words of `text`, each quoted; the very common ones only if there are no others."""
    query = fts_query(text) or fts_query(text, keep_stop_words=True)
    return query.split(" OR ")[:_MOST_WORDS] if query else []


def _query(words: str, source: str | None, target: str | None) -> str:
    """Within a pair the index is asked for the pair's names, too: they may match a little more than that name."""
    parts = [f"{{text}} : ({words})"]
    for column, name in (("source", source), ("target", target)):
        tokens = fts_query(name, keep_stop_words=True).replace(" OR ", " AND ") if name else ""
        if tokens:
            parts.append(f"{{{column}}} : ({tokens})")
    return " AND ".join(parts)


def _hit(connection: Connection, query: str, row: Row[Any]) -> SearchHit:
    excerpt = connection.execute(_EXCERPT, {"query": query, "seq": row.seq, "words": _EXCERPT_WORDS}).scalar_one()
    return SearchHit(
        thread_id=row.thread_id,
        message_id=row.message_id,
        position=row.position,
        role=Role(row.role),
        speaker=row.speaker,
        state=MessageState(row.state),
        source=row.source,
        target=row.target,
        excerpt=excerpt,
        score=row.score,
        created_at=datetime.fromisoformat(row.created_at).astimezone(UTC),
    )
