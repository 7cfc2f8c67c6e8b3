"""How long adding up usage takes over many stored messages, by grouping and filter: median of several queries.

    python benchmarks/usage.py [--messages 100000]

Fills a store with turns of 1,500 characters a message, straight into its tables, then adds them up. Nothing outside a
temporary directory is touched.
"""

from __future__ import annotations

import argparse
import platform
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast, get_args

import anyio

from claude_comms.conversations import ConversationStore
from claude_comms.protocols import UsageBy
from claude_comms.storage import Database, OwnerLock

_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_BETWEEN = timedelta(seconds=200)
_TURNS_A_CONVERSATION = 10
_TEXT = "word " * 300
_TIMES = 9

_CONVERSATION = "INSERT INTO conversations VALUES (?, ?, ?, 'api', 'm', 'active', 't', '2026', '2026', 20)"
_QUESTION = """
INSERT INTO messages (message_id, thread_id, position, role, speaker, text, state, created_at)
VALUES (?, ?, ?, 'question', 'a', ?, 'complete', ?)
"""
_ANSWER = """
INSERT INTO messages (message_id, thread_id, position, role, speaker, text, state, created_at, backend, model,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd)
VALUES (?, ?, ?, 'answer', 'b', ?, 'complete', ?, 'api', ?, 10, 200, 3000, 0, 0.01)
"""


def _fill(path: Path, messages: int) -> datetime:
    """The moment of the last message."""
    turns = messages // 2
    threads = [f"c_{number * 7919 % 1_000_003:026d}" for number in range(turns // _TURNS_A_CONVERSATION)]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER messages_fts_insert")  # the full-text index has no part in this
        for number, thread in enumerate(threads):
            connection.execute(_CONVERSATION, (thread, f"module_{number % 20}", f"module_{number % 7}"))
        for turn in range(turns):
            thread, position = threads[turn % len(threads)], turn // len(threads) * 2
            at = (_FIRST + turn * _BETWEEN).isoformat(timespec="microseconds")
            connection.execute(_QUESTION, (f"m_q{turn}", thread, position, _TEXT, at))
            connection.execute(_ANSWER, (f"m_a{turn}", thread, position + 1, _TEXT, at, f"model-{turn % 3}"))
        connection.commit()
    return _FIRST + turns * _BETWEEN


async def _measure(store: ConversationStore, by: UsageBy, **wanted: Any) -> str:
    times: list[float] = []
    for _ in range(_TIMES):
        begin = time.perf_counter()
        await store.usage(by, **wanted)
        times.append((time.perf_counter() - begin) * 1000)
    return f"{statistics.median(times):8.2f} ms"


async def _run(messages: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        async with Database(path):
            pass
        last = _fill(path, messages)
        print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {messages} messages")
        print(f"{'by':10}{'everything':>12}{'one source':>12}{'last week':>12}")
        async with Database(path) as database:
            store = ConversationStore(database, OwnerLock(path))
            for by in cast("tuple[UsageBy, ...]", get_args(UsageBy)):
                everything = await _measure(store, by)
                source = await _measure(store, by, source="module_3")
                week = await _measure(store, by, since=last - timedelta(days=7))
                print(f"{by:10}{everything:>12}{source:>12}{week:>12}")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=100_000)
    anyio.run(_run, parser.parse_args().messages)


if __name__ == "__main__":
    main()
