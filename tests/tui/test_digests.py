"""What the focus holds back: told in time, kept until it was read, and never less than all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.events import FocusLevel
from claude_comms.tui._digest import digest_text
from claude_comms.tui.model import EventQuery, World
from tui.support import BoardEngine, driven, event, info, notices, screen, until

if TYPE_CHECKING:
    from claude_comms.events import Digest


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def rounds(count: int) -> tuple[World, list[Digest]]:
    """A world in whose focus one event and one more of its own kind was held back in each of so many spans."""
    clock = Clock()
    world = World(clock)
    world.events.focus.level = FocusLevel.ATTENTION
    due: list[Digest] = []
    for number in range(count):
        world.take(event("job.done", {"title": f"job {number}"}, seq=2 * number + 1))
        world.take(event(f"odd.{number}", seq=2 * number + 2))
        clock.now += 301
        digest = world.events.tick()
        assert digest is not None
        due.append(digest)
    return world, due


def test_nothing_that_was_held_back_is_dropped_before_it_was_read() -> None:
    world, due = rounds(12)
    assert [digest.count for digest in due] == [2] * 12
    digests = world.events.digests
    assert len(digests) == world.events.unread == 5
    assert sum(digest.count for digest in digests) == 24
    assert (digests[0].first_seq, digests[-1].last_seq) == (1, 24)
    text = digest_text(digests, 80)
    assert all(f"odd.{number} " in text for number in range(12))
    assert "8  job.done" in text
    assert "job 7" in text


def test_what_was_read_gives_way() -> None:
    world, _ = rounds(5)
    world.events.were_read()
    assert world.events.unread == 0
    world.take(event("job.done", seq=99))
    assert world.events.digest() is not None
    assert [digest.count for digest in world.events.digests] == [2, 2, 2, 2, 1]
    assert world.events.unread == 1


def test_a_digest_says_when_and_marks_what_wants_attention() -> None:
    world, _ = rounds(1)
    text = digest_text(world.events.digests, 80)
    assert "2 events, 1 to 2, the last at 03:04:05" in text
    assert "!      1  job.done" in text
    assert "!      1  odd.0" not in text


def test_the_list_of_events_is_bounded() -> None:
    world = World(Clock())
    for seq in range(1, 6_000):
        world.take(event("job.done", seq=seq))
    kept = world.events.that_fit(EventQuery.parse(""))
    assert (len(kept), kept[0].seq, kept[-1].seq) == (4_000, 2_000, 5_999)


@pytest.mark.anyio
async def test_a_digest_that_is_due_is_announced_and_counted_until_it_is_read() -> None:
    clock = Clock()
    engine = BoardEngine(info(0))
    async with driven(engine, clock=clock) as pilot:
        await pilot.press("3", "f")
        engine.tell("job.done", {"job_id": "j_1"})
        await until(pilot, lambda: "1 held back" in screen(pilot))
        clock.now += 301
        await until(pilot, lambda: any("1 events held back: 1 job.done" in notice for notice in notices(pilot)))
        clock.now += 1
        await until(pilot, lambda: "1 unread digest (g)" in screen(pilot))
        await pilot.press("g")
        await until(pilot, lambda: "Held back by the focus" in screen(pilot))
        await pilot.press("escape")
        clock.now += 1
        await until(pilot, lambda: "unread" not in screen(pilot))
