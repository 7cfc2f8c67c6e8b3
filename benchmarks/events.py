"""How many durable events a second the embedded log takes, and how long a publisher waits.

    python benchmarks/events.py [--events 60000] [--rate 20000] [--seconds 5]

- publishers in a row: each publishes an event, waits until it is durable, and publishes the next; the rival beside it
  commits each event by itself with plain sqlite3, with the same durability (WAL, synchronous NORMAL)
- at a steady rate, from 64 publishers: the wait is counted from the moment at which an event was due, so it holds
  the timers' lateness, too
- posted: nobody waits for each, but for each thousand
- end to end: published, heard by a subscriber, taken and acknowledged by a consumer group

Targets: 20,000 durable events a second; p99 of the wait under 5 ms. Nothing outside a temporary directory is touched.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import platform
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from claude_comms.events import Missed, NewEvent
from claude_comms.events.log import EventLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_TEXT = "A piece of an answer, as long as such pieces are. "
_numbers = itertools.count()


def _new() -> NewEvent:
    number = next(_numbers)
    return NewEvent(
        "turn.delta",
        f"c_{number % 64}",
        f"module_{number % 64}/arangodb",
        {"turn_id": f"t_{number // 500}", "instance_id": f"i_{number % 64}", "text": _TEXT, "number": number},
    )


class _Clock:
    """The time since it was made, and the processor's time of this process."""

    def __init__(self) -> None:
        self._begin, self._busy = time.perf_counter(), time.process_time()

    def line(self, label: str, count: int, waits_s: list[float], rival: float = 0.0) -> float:
        """Print what came of `count` events; events a second."""
        took_s, busy_s = time.perf_counter() - self._begin, time.process_time() - self._busy
        beside = f"   {count / took_s / rival:4.1f} x rival" if rival else ""
        _line(label, count, took_s, waits_s, f"   processor {busy_s / count * 1e6:4.0f} us each{beside}")
        return count / took_s


def _line(label: str, count: int, took_s: float, waits_s: list[float], beside: str) -> None:
    waits = ""
    if waits_s:
        waits_s.sort()
        middle, last = waits_s[len(waits_s) // 2], waits_s[min(len(waits_s) - 1, int(len(waits_s) * 0.99))]
        waits = f"   p50 {middle * 1000:6.2f} ms   p99 {last * 1000:6.2f} ms   slowest {waits_s[-1] * 1000:7.2f} ms"
    print(f"{label:48} {count / took_s:8,.0f} events/s{waits}{beside}", flush=True)


def _rival(directory: Path, count: int) -> float:
    """Events a second with a commit for each."""
    connection = sqlite3.connect(directory / "rival.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, event_id TEXT, type TEXT, subject TEXT, namespace TEXT,"
        " priority TEXT, time TEXT, data TEXT, turn_id TEXT, instance_id TEXT)"
    )
    waits: list[float] = []
    clock = _Clock()
    for _ in range(count):
        started = time.perf_counter()
        event = _new()
        connection.execute(
            "INSERT INTO events (event_id, type, subject, namespace, priority, time, data, turn_id, instance_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.event_id,
                event.type,
                event.subject,
                event.namespace,
                event.priority.value,
                event.time.isoformat(),
                json.dumps(event.data),
                event.data["turn_id"],
                event.data["instance_id"],
            ),
        )
        waits.append(time.perf_counter() - started)
    speed = clock.line("rival: sqlite3, a commit for each event", count, waits)
    connection.close()
    return speed


async def _publishers(log: EventLog, count: int, publishers: int, rival: float) -> None:
    waits: list[float] = []

    async def publish() -> None:
        for _ in range(count // publishers):
            started = time.perf_counter()
            await log.publish(_new())
            waits.append(time.perf_counter() - started)

    clock = _Clock()
    await asyncio.gather(*(publish() for _ in range(publishers)))
    clock.line(f"{publishers:2} publishers, each in a row", len(waits), waits, rival)


async def _steady(log: EventLog | None, rate: int, seconds: float) -> None:
    waits: list[float] = []
    every_s = 64 / rate
    begin = time.perf_counter() + 0.1

    async def publish(number: int) -> None:
        for turn in range(int(seconds / every_s)):
            due = begin + turn * every_s + number / rate
            if (early_s := due - time.perf_counter()) > 0:
                await asyncio.sleep(early_s)
            if log is not None:
                await log.publish(_new())
            # Counted from when it was due: a log that stands still does not hide behind a publisher that waits.
            waits.append(time.perf_counter() - due)

    clock = _Clock()
    await asyncio.gather(*(publish(number) for number in range(64)))
    what = "the same without the log: the timers alone" if log is None else f"64 publishers, {rate:,} a second in all"
    clock.line(what, len(waits), waits)


async def _posted(log: EventLog, count: int, rival: float) -> None:
    clock = _Clock()
    for _ in range(count // 1000):
        for _ in range(999):
            log.post(_new())
        await log.publish(_new())
    if log.dropped:
        raise SystemExit(f"{log.dropped} events were let go of")
    clock.line("posted by the thousand, until they are durable", count, [], rival)


async def _end_to_end(log: EventLog, count: int, rival: float) -> None:
    group = log.group("workers")
    await group.take()
    waits: list[float] = []
    sent: dict[int, float] = {}

    async def publish() -> None:
        for _ in range(count // 64 // 8):
            new = [_new() for _ in range(8)]
            for event in new:
                sent[event.data["number"]] = time.perf_counter()
            await log.publish(*new)

    async def follow() -> None:
        async with log.subscribe(buffer=100_000) as subscription:
            while len(waits) < count // 512 * 512:
                event = await anext(subscription)
                if isinstance(event, Missed):
                    raise SystemExit(f"the subscriber missed events: {event}")
                waits.append(time.perf_counter() - sent[event.data["number"]])

    async def work() -> None:
        done = 0
        while done < count // 512 * 512:
            events = await group.take(500, wait_s=10)
            await group.acknowledge(events)
            done += len(events)

    clock = _Clock()
    await asyncio.gather(follow(), work(), *(publish() for _ in range(64)))
    clock.line("published in eights, heard, taken, acknowledged", len(waits), waits, rival)


async def _with_log(directory: Path, run: Callable[[EventLog], Awaitable[None]]) -> None:
    log = EventLog(directory / f"events{next(_numbers)}.db", retention_s=86_400, retention_bytes=256 << 20)
    await log.open()
    await run(log)
    await log.close()


async def main(count: int, rate: int, seconds: float) -> None:
    """All of them, one after the other, each on a fresh log."""
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {count:,} events each")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rival = _rival(directory, count)
        for publishers in (1, 8, 64):
            of_them = count if publishers > 1 else count // 4
            await _with_log(directory, lambda log, n=of_them, p=publishers: _publishers(log, n, p, rival))
        for some in (rate // 4, rate // 2, rate):
            await _with_log(directory, lambda log, some=some: _steady(log, some, seconds))
            await _steady(None, some, seconds)
        await _with_log(directory, lambda log: _posted(log, count, rival))
        await _with_log(directory, lambda log: _end_to_end(log, count, rival))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.events, arguments.rate, arguments.seconds))
