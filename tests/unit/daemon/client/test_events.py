"""Events followed over the daemon, each once and in order, whatever happens to the road."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.daemon.client._channel import Channel
from claude_comms.daemon.client._finding import Finder
from claude_comms.daemon.client._subscription import RemoteSubscription
from claude_comms.errors import ConfigError, DaemonNotRunningError
from claude_comms.events import Event, EventFilter, Missed, NewEvent
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from daemon_road import Connect, Daemon

    from claude_comms.events import Subscription

pytestmark = pytest.mark.anyio

WANTED = EventFilter(types=("note.*",))


async def tell(daemon: Daemon, *numbers: int) -> None:
    await daemon.bus.publish(*(NewEvent("note.told", str(number), "marker/arangodb") for number in numbers))


async def subjects(events: Subscription, count: int) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            event = await anext(events)
            assert isinstance(event, Event)
            found.append(event.subject)
    return found


async def test_events_come_from_now_on_or_from_a_cursor(daemon: Daemon, connect: Connect) -> None:
    await tell(daemon, 1)
    async with connect() as engine, engine.follow(WANTED) as later, engine.follow(WANTED, after=0) as all_of_them:
        await tell(daemon, 2)
        assert await subjects(later, 1) == ["2"]
        assert await subjects(all_of_them, 2) == ["1", "2"]


async def test_a_cut_road_loses_and_doubles_nothing(daemon: Daemon, connect: Connect) -> None:
    async with connect() as engine, engine.follow(WANTED) as events:
        await tell(daemon, 1, 2)
        assert await subjects(events, 1) == ["1"]
        await daemon.road.cut()
        await tell(daemon, 3)
        assert await subjects(events, 2) == ["2", "3"]
        await daemon.road.close()
        await tell(daemon, 4)
        await daemon.road.build()
        assert await subjects(events, 1) == ["4"]


async def test_nothing_is_lost_where_the_road_is_cut_before_the_first_event(daemon: Daemon, connect: Connect) -> None:
    async with connect() as engine, engine.follow(WANTED) as events:
        await daemon.road.close()
        await tell(daemon, 1)
        await daemon.road.build()
        assert await subjects(events, 1) == ["1"]


async def test_a_restarted_daemon_is_followed_on(daemon: Daemon, connect: Connect) -> None:
    async with connect() as engine, engine.follow(WANTED) as events:
        await tell(daemon, 1)
        assert await subjects(events, 1) == ["1"]
        await daemon.fall()
        await tell(daemon, 2)
        await daemon.rise()
        await tell(daemon, 3)
        assert await subjects(events, 2) == ["2", "3"]


async def test_a_daemon_that_stays_away_ends_it_with_an_error(daemon: Daemon, connect: Connect) -> None:
    async with connect(reconnect_s=0.3) as engine, engine.follow(WANTED) as events:
        await daemon.road.close()
        with pytest.raises(DaemonNotRunningError):
            await subjects(events, 1)


async def test_closing_ends_the_iteration(connect: Connect) -> None:
    async with connect() as engine:
        events = engine.follow(WANTED)
        async with events:
            reading = asyncio.create_task(subjects(events, 1))
            await asyncio.sleep(0)
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        reading.cancel()


async def test_a_filter_that_the_wire_has_no_place_for_is_named(connect: Connect) -> None:
    async with connect() as engine:
        with pytest.raises(ConfigError, match="types"):
            await anext(engine.follow(EventFilter(types=("x",) * 200)))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=30), st.integers(1, 8))
def test_a_reader_too_slow_is_told_what_it_missed_without_gaps(steps: list[int], room: int) -> None:
    """Whatever comes, what is kept and what is told as missed are all of it, in order, each once."""
    finder = Finder(Settings.model_construct(home=None), starts=False)  # never asked

    async def run() -> list[Event | Missed]:
        events = RemoteSubscription(Channel(finder, 0), None, None, most_ahead=room)
        seq = 0
        for step in steps:
            seq += step
            events.take("event", {"event": _event(seq)})
        return list(events.kept)

    kept = asyncio.run(run())
    told = [item.seq for item in kept if isinstance(item, Event)]
    missed = [item for item in kept if isinstance(item, Missed)]
    came = [sum(steps[: number + 1]) for number in range(len(steps))]
    assert told == came[: len(told)]
    assert len(missed) <= 1
    assert (len(told) == len(came)) == (not missed)
    if missed:
        assert kept[-1] is missed[0]
        assert (missed[0].first, missed[0].last) == (came[len(told)], came[-1])


def _event(seq: int) -> dict[str, object]:
    from datetime import UTC, datetime

    from claude_comms.events import Priority

    event = Event(seq, f"e_{seq}", "note.told", "x", "marker/arangodb", Priority.NORMAL, datetime.now(UTC), {})
    return event.as_cloudevent()


async def test_a_home_without_a_daemon_says_how_to_start_one(tmp_path: Path) -> None:
    finder = Finder(Settings(home=tmp_path), starts=False)
    with pytest.raises(DaemonNotRunningError, match="claude-comms daemon start"):
        await anext(RemoteSubscription(Channel(finder, 0.1), None, None))
