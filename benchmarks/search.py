"""How long a search takes over many stored messages: p50, p99 and the slowest, by kind of query.

    python benchmarks/search.py [--messages 100000] [--queries 300]

Fills a store with turns whose words follow Zipf's law, as natural text does, then searches for one to four words
drawn from the same law, for its most common words, and within a pair. The processor's time tells what a search
takes where others use the machine, too. Target: p99 under 10 ms. Nothing outside a temporary directory is
touched.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from claude_comms.conversations import ConversationStore
from claude_comms.storage import Database, OwnerLock
from claude_comms.types import Pair

if TYPE_CHECKING:
    from collections.abc import Callable

_WORDS = [f"word{number}" for number in range(20_000)]
_WEIGHTS = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(_WORDS))))
_PAIRS = [Pair(f"module_{number}", "arangodb" if number % 3 else "marker") for number in range(20)]
_TURNS_A_CONVERSATION = 10


def _some_words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(_WORDS, cum_weights=_WEIGHTS, k=count))


async def _converse(store: ConversationStore, turns: int, seed: int) -> None:
    chance = random.Random(seed)
    thread_id = None
    pair = chance.choice(_PAIRS)
    for _ in range(turns):
        text = _some_words(chance, 30)
        question = await store.begin_turn(thread_id=thread_id, pair=pair, text=text, sent_text=text)
        thread_id = question.thread_id
        reply = _some_words(chance, chance.randrange(20, 160))
        await store.complete_turn(question.message_id, text=reply, model="m", backend="offline")


async def _fill(store: ConversationStore, messages: int) -> None:
    conversations = messages // 2 // _TURNS_A_CONVERSATION
    for first in range(0, conversations, 100):
        async with anyio.create_task_group() as tasks:
            for seed in range(first, min(first + 100, conversations)):
                tasks.start_soon(_converse, store, _TURNS_A_CONVERSATION, seed)


async def _measure(
    store: ConversationStore, label: str, queries: int, make: Callable[[random.Random], tuple[str, str | None]]
) -> None:
    chance = random.Random(7)
    times: list[float] = []
    busy: list[float] = []
    hits = 0
    for _ in range(queries):
        text, source = make(chance)
        begin, busy_before = time.perf_counter(), time.process_time()
        hits += len(await store.search(text, source=source))
        times.append((time.perf_counter() - begin) * 1000)
        busy.append((time.process_time() - busy_before) * 1000)
    times.sort()
    last = min(len(times) - 1, int(len(times) * 0.99))
    p99, busy_p99 = times[last], sorted(busy)[last]
    print(
        f"{label:34} p50 {statistics.median(times):6.2f} ms   p99 {p99:6.2f} ms   slowest {times[-1]:6.2f} ms"
        f"   processor p99 {busy_p99:6.2f} ms   {hits / queries:4.1f} hits"
    )


async def main(messages: int, queries: int) -> None:
    """Fill a store, then measure."""
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {messages} messages")
    with tempfile.TemporaryDirectory() as directory:
        async with Database(Path(directory) / "store.db") as database:
            owner = OwnerLock(database.path)
            owner.acquire()
            store = ConversationStore(database, owner)
            begin = time.perf_counter()
            await _fill(store, messages)
            print(f"filled in {time.perf_counter() - begin:.1f} s, {database.path.stat().st_size / 1e6:.0f} MB")
            await _measure(
                store, "1 to 4 words of the text", queries, lambda c: (_some_words(c, c.randrange(1, 5)), None)
            )
            await _measure(
                store,
                "the same, within a source",
                queries,
                lambda c: (_some_words(c, c.randrange(1, 5)), c.choice(_PAIRS).source),
            )
            await _measure(store, "one of the 10 most common words", queries, lambda c: (c.choice(_WORDS[:10]), None))
            await _measure(
                store,
                "three of the 10 most common words",
                queries,
                lambda c: (" ".join(c.sample(_WORDS[:10], 3)), None),
            )
            await _measure(store, "words that nobody said", queries, lambda c: (f"unsaid{c.random()} never", None))
            owner.release()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    arguments = parser.parse_args()
    anyio.run(main, arguments.messages, arguments.queries)
