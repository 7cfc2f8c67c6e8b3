"""Which texts speak about a question: BM25 with English stemming.

SQLite's FTS5 does the work, in memory. The Python libraries for BM25 need numpy, which costs more to import
than a whole question takes.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TextIndex", "fts_query"]

_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    "a about all also am an and any are as at be been but by can could did do does for from get had has have he her"
    " him his how i if in into is it its just like make may me more most my need no not of on one or our out please"
    " should show so some tell than that the their them then there these they this to up us use using want was we"
    " were what when where which who why will with would you your".split()
)


def fts_query(text: str, *, keep_stop_words: bool = False) -> str:
    """`text` as an FTS5 query that matches any of its words; empty if it has none worth matching.

    Words are quoted, so nothing in `text` acts as FTS5 syntax.
    """
    words = [word for word in _WORD.findall(text.lower()) if keep_stop_words or word not in _STOP_WORDS]
    parts = [part for word in words for part in word.split("_") if part]
    return " OR ".join(f'"{word}"' for word in dict.fromkeys(parts[:200]))


class TextIndex:
    """An immutable index over (title, body) pairs. A word in the title weighs three times one in the body."""

    def __init__(self, documents: Sequence[tuple[str, str]]) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute("create virtual table docs using fts5(title, body, tokenize = 'porter unicode61')")
        self._db.executemany(
            "insert into docs (rowid, title, body) values (?, ?, ?)",
            [(number, _split(title), _split(body)) for number, (title, body) in enumerate(documents)],
        )

    def __del__(self) -> None:
        self._db.close()

    def rank(self, question: str, *, limit: int | None = None) -> list[tuple[int, float]]:
        """(position, score) of the documents that share a word with `question`, best first.

        Scores are positive and comparable within one call only.
        """
        query = fts_query(question)
        if not query:
            return []
        with self._lock:
            rows = self._db.execute(
                "select rowid, -bm25(docs, 3.0, 1.0) from docs where docs match ? order by 2 desc, rowid limit ?",
                (query, -1 if limit is None else limit),
            ).fetchall()
        return [(int(number), float(score)) for number, score in rows]


def _split(text: str) -> str:
    """Identifiers as their words: ``extract_pdf`` and ``extractPdf`` are found by "pdf". No lone surrogates."""
    text = text.encode("utf-8", "replace").decode()
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text)
    return spaced.replace("_", " ").replace("-", " ")
