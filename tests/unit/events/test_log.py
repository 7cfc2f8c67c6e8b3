"""What only the log on disk does: faults, bounds, files, retention by a clock."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import tracemalloc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_comms.errors import StoreError
from claude_comms.events import EventFilter, Missed, Priority
from claude_comms.events._log_desk import done
from claude_comms.events.log import EventLog
from claude_comms.testing.conformance import make_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

_WAIT_S = 20.0


class _Now:
    """The time of day, as a test wants it."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def _log(path: Path, **more: Any) -> EventLog:
    values: dict[str, Any] = {"retention_s": 3600.0, "retention_bytes": 1 << 30}
    return EventLog(path, **(values | more))


@asynccontextmanager
async def _opened(path: Path, **more: Any) -> AsyncGenerator[EventLog]:
    log = _log(path, **more)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


async def _limit_pages(log: EventLog, more: int | None) -> None:
    """Let the disk be full after `more` pages; or not, with None."""

    def limit(kept: Any) -> None:
        (pages,) = kept._connection.execute("PRAGMA page_count").fetchone()
        kept._connection.execute(f"PRAGMA max_page_count = {1_000_000 if more is None else pages + more}")

    await done(log._writing(), limit)


def _content(path: Path) -> bytes:
    return path.read_bytes()


def _spoil(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


# --- files ---


async def test_its_files_are_private_whatever_the_umask(path: Path) -> None:
    program = (
        "import os, sys, anyio; os.umask(0); from pathlib import Path;"
        "from claude_comms.events import NewEvent;"
        "from claude_comms.events.log import EventLog\n"
        "async def main():\n"
        "    log = EventLog(Path(sys.argv[1]), retention_s=60, retention_bytes=10**9); await log.open()\n"
        "    await log.publish(NewEvent('turn.started', 'c', 'a/b'))\n"
        "    print(*sorted(f'{p.name}:{p.stat().st_mode & 0o777:o}' for p in Path(sys.argv[1]).parent.iterdir()))\n"
        "    await log.close()\n"
        "anyio.run(main)"
    )
    place = path.parent / "home" / "events.db"
    done = await anyio.run_process([sys.executable, "-c", program, str(place)], stderr=subprocess.STDOUT)
    assert done.stdout.split() == [b"events.db-shm:600", b"events.db-wal:600", b"events.db.lock:600", b"events.db:600"]
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


async def test_one_process_at_a_time_has_it_open(path: Path) -> None:
    async with _opened(path):
        with pytest.raises(StoreError, match="open in another process"):
            await _log(path).open()
    async with _opened(path) as log:
        await log.publish(make_event(1))


async def test_a_newer_log_or_another_file_is_refused_and_not_touched(path: Path) -> None:
    async with _opened(path) as log:
        await log.publish(make_event(1))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = _content(path)
    with pytest.raises(StoreError, match="version 99"):
        await _log(path).open()
    assert _content(path) == before
    _spoil(path)
    with pytest.raises(StoreError, match="not a database"):
        await _log(path).open()


async def test_before_it_is_opened_it_says_so(path: Path) -> None:
    log = _log(path)
    with pytest.raises(StoreError, match="Open it first"):
        log.post(make_event(1))
    with pytest.raises(StoreError, match="Open it first"):
        await log.read()
    await log.close()


# --- faults ---


async def test_a_full_disk_is_told_and_what_was_posted_is_written_when_there_is_room_again(path: Path) -> None:
    async with _opened(path) as log, log.subscribe() as subscription:
        group = log.group("workers")
        (first,) = await log.publish(make_event(0))
        (taken,) = await group.take()
        await _limit_pages(log, 0)
        big = {"text": "x" * 100_000}
        log.post(make_event(1, data=big))
        with pytest.raises(StoreError, match=r"disk is full.*Free some space"):
            await log.publish(make_event(2, data=big))
        assert log.last_seq == first.seq
        assert await log.read() == [first]
        with pytest.raises(StoreError, match="disk is full"):
            await group.acknowledge([taken])
        await _limit_pages(log, None)
        (third,) = await log.publish(make_event(3))
        assert [event.data["number"] for event in await log.read()] == [0, 1, 3]
        assert third.seq == 3
        with anyio.fail_after(_WAIT_S):
            heard = [await anext(subscription) for _ in range(3)]
        assert [event.seq for event in heard if not isinstance(event, Missed)] == [1, 2, 3]
        await group.acknowledge([taken])
        assert [event.data["number"] for event in await group.take()] == [1, 3]


async def test_what_was_posted_during_a_fault_is_written_without_anybody_asking(path: Path) -> None:
    async with _opened(path) as log, log.subscribe() as subscription:
        await log.publish(make_event(0))
        await _limit_pages(log, 0)
        log.post(make_event(1, data={"text": "x" * 100_000}))
        with pytest.raises(StoreError):
            await log.publish(make_event(2, data={"text": "x" * 100_000}))
        await _limit_pages(log, None)
        with anyio.fail_after(_WAIT_S):
            heard = [await anext(subscription) for _ in range(2)]
        assert [event.data["number"] for event in heard if not isinstance(event, Missed)] == [0, 1]


async def test_a_log_locked_by_another_process_is_told_and_serves_again(path: Path) -> None:
    async with _opened(path, busy_timeout_s=0.01) as log:
        await log.publish(make_event(1))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process holds it locked"):
            await log.publish(make_event(2))
        assert len(await log.read()) == 1
        other.execute("ROLLBACK")
        other.close()
        await log.publish(make_event(3))
        assert [event.data["number"] for event in await log.read()] == [1, 3]


async def test_closing_tells_how_many_posted_events_the_disk_did_not_take(path: Path) -> None:
    log = _log(path)
    await log.open()
    await _limit_pages(log, 0)
    for number in range(3):
        log.post(make_event(number, data={"text": "x" * 100_000}))
    with pytest.raises(StoreError, match=r"3 events could not be written.*disk is full"):
        await log.close()
    await log.close()


# --- bounds ---


async def test_memory_stays_bounded_while_nothing_can_be_written(path: Path) -> None:
    async with _opened(path, busy_timeout_s=0.01, waiting_events=100) as log:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(500):
            log.post(make_event(number, type="turn.delta"))  # low: let go of
        assert log.dropped == 450
        for number in range(50):
            log.post(make_event(number, type="turn.completed"))
        with pytest.raises(StoreError, match="100 events wait to be written, and no more are taken"):
            log.post(make_event(50, type="turn.completed"))
        with pytest.raises(StoreError, match="no more are taken"):
            await log.publish(make_event(50))
        other.execute("ROLLBACK")
        other.close()
        async with log.subscribe(EventFilter(types=("events.dropped",)), after=0) as subscription:
            with anyio.fail_after(_WAIT_S):
                told = await anext(subscription)
        assert not isinstance(told, Missed)
        assert told.data == {"count": 450, "types": {"turn.delta": 450}}
        assert told.priority is Priority.HIGH
        await log.publish(make_event(51))
        types = [event.type for event in await log.read() if event != told]
        assert types == ["turn.delta"] * 50 + ["turn.completed"] * 50 + ["turn.started"]


async def test_large_events_count_by_their_size(path: Path) -> None:
    async with _opened(path, busy_timeout_s=0.01, waiting_bytes=1_000_000) as log:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(9):
            log.post(make_event(number, data={"text": "x" * 100_000}))
        with pytest.raises(StoreError, match="no more are taken"):
            log.post(make_event(9, data={"text": "x" * 100_000}))
        other.execute("ROLLBACK")
        other.close()


async def test_a_page_of_large_events_is_cut_by_size_and_nothing_is_left_out(path: Path) -> None:
    async with _opened(path) as log:
        for number in range(30):
            await log.publish(make_event(number, data={"text": "x" * 1_000_000}))
        tracemalloc.start()
        async with log.subscribe(after=0) as subscription:
            numbers: list[int] = []
            with anyio.fail_after(_WAIT_S):
                while len(numbers) < 30:
                    event = await anext(subscription)
                    assert not isinstance(event, Missed)
                    numbers.append(event.data["number"])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert numbers == list(range(30))
        assert peak < 60_000_000
        assert len(await log.read(limit=20)) == 20


async def test_a_turn_is_found_wherever_it_lies_and_whatever_was_removed(path: Path) -> None:
    turn, instance = EventFilter(turn_id="t_7"), EventFilter(instance_id="i_7")
    numbers = range(5000)
    mine = [number for number in numbers if 1020 <= number < 1030 or number in {2047, 2048, 4000}]
    async with _opened(path, retention_bytes=2_000_000) as log:
        for first in range(0, 5000, 100):
            await log.publish(
                *(
                    make_event(number, data={"turn_id": f"t_{7 if number in mine else 1}", "instance_id": "i_7"})
                    for number in numbers[first : first + 100]
                )
            )
        assert [event.data["number"] for event in await log.read(turn)] == mine
        assert [event.data["number"] for event in await log.read(turn, after=1025, limit=6)] == mine[5:11]
        assert await log.read(EventFilter(turn_id="t_8")) == []
        assert len(await log.read(instance, limit=10_000)) == 5000
    async with _opened(path, retention_bytes=600_000) as log:
        assert await log.trim() > 0
        first = (await log.read(limit=1))[0].data["number"]
        assert 1030 < first < 4000
        assert [event.data["number"] for event in await log.read(turn)] == [n for n in mine if n >= first]
        await log.publish(make_event(5000, data={"turn_id": "t_7"}))
        assert [event.data["number"] for event in await log.read(turn)][-1] == 5000
        assert len(await log.read(instance, limit=10_000)) == 5000 - first


# --- retention ---


async def test_events_are_removed_by_age(path: Path) -> None:
    now = _Now()
    async with _opened(path, retention_s=100, now=now) as log:
        await log.publish(*(make_event(number) for number in range(2500)))
        now.time += 60
        await log.publish(make_event(2500))
        assert await log.trim() == 0
        now.time += 60
        assert await log.trim() == 2500
        assert [event.data["number"] for event in await log.read()] == [2500]
        now.time += 1000
        assert await log.trim() == 1
        assert log.last_seq == 2501
    async with _opened(path, now=now) as log:
        assert log.last_seq == 2501


async def test_a_clock_that_goes_back_an_hour_removes_nothing_too_early(path: Path) -> None:
    now = _Now()
    async with _opened(path, retention_s=100, now=now) as log:
        await log.publish(make_event(1))
        now.time -= 3600
        await log.publish(make_event(2))
        assert await log.trim() == 0
        now.time += 3600 + 50
        assert await log.trim() == 0
        now.time += 100
        assert await log.trim() == 2


async def test_what_a_group_has_not_acknowledged_stays_beyond_its_age(path: Path) -> None:
    now = _Now()
    async with _opened(path, retention_s=100, now=now) as log:
        group = log.group("workers", EventFilter(types=("job.*",)))
        await log.publish(*(make_event(number, type="turn.delta") for number in range(3)))
        (job,) = await log.publish(make_event(3, type="job.done"))
        await log.publish(make_event(4))
        now.time += 1000
        assert await log.trim() == 3  # nobody in the group wants these
        (taken,) = await group.take()
        assert taken == job
        assert await log.trim() == 0
        await group.acknowledge([taken])
        assert await log.trim() == 2
        assert await group.missed() == []


async def test_the_file_stays_within_its_size_under_steady_publishing(path: Path) -> None:
    allowed = 2_000_000
    async with _opened(path, retention_bytes=allowed) as log:
        for first in range(0, 20_000, 500):
            await log.publish(*(make_event(first + number, data={"text": "x" * 400}) for number in range(500)))
        await log.trim()
        kept = await log.read(limit=100_000)
        assert allowed / 2 < sum(700 for _ in kept) < 1.2 * allowed
        assert len(_content(path)) < 2 * allowed
        assert kept[-1].seq == log.last_seq == 20_000


async def test_a_group_that_nobody_uses_does_not_fill_the_disk(path: Path) -> None:
    async with _opened(path, retention_bytes=300_000) as log:
        await log.group("forgotten").take()
    async with _opened(path, retention_bytes=300_000) as log:
        for first in range(0, 3000, 100):
            await log.publish(*(make_event(first + number, data={"text": "x" * 400}) for number in range(100)))
        await log.trim()
        assert len(_content(path)) < 1_500_000
    async with _opened(path, retention_bytes=300_000) as log:
        group = log.group("forgotten")
        missed = await group.missed()
        (event,) = await group.take(1)
        assert (missed[0].first, missed[-1].last) == (1, event.seq - 1)


async def test_a_piece_of_an_answer_is_told_soon_though_nothing_follows(path: Path) -> None:
    async with _opened(path) as log, log.subscribe() as events:
        log.post(make_event(type="turn.delta", priority=Priority.LOW))
        with anyio.fail_after(_WAIT_S):
            told = await anext(aiter(events))
        assert getattr(told, "type", None) == "turn.delta"


async def test_what_waits_for_others_comes_before_what_follows_it_and_is_written_at_the_end(path: Path) -> None:
    async with _opened(path) as log:
        for number in range(3):
            log.post(make_event(type="turn.delta", priority=Priority.LOW, data={"number": number}))
        (last,) = await log.publish(make_event(type="turn.completed"))
        kept = [event.data.get("number") for event in await log.read()]
        log.post(make_event(type="turn.delta", priority=Priority.LOW))
    async with _opened(path) as log:
        again = await log.read()

    assert (last.seq, kept) == (4, [0, 1, 2, 0])
    assert [event.type for event in again] == [*["turn.delta"] * 3, "turn.completed", "turn.delta"]
