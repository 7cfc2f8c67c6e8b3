"""Following a daemon that goes and comes: nothing twice, nothing left out, and the reader told."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms import AsyncCommunicator
from claude_comms.daemon import find, start, stop
from claude_comms.daemon.client import RemoteEngine
from claude_comms.errors import DaemonNotRunningError
from claude_comms.settings import Settings
from claude_comms.tui._app import MonitorApp
from claude_comms.tui.feed import Connection, Feed
from claude_comms.tui.model import EventQuery, World
from tui.support import BoardEngine, driven, info, notices, screen, turn, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


def seqs(world: World) -> list[int]:
    return [event.seq for event in world.events.that_fit(EventQuery.parse(""))]


@asynccontextmanager
async def fed(engine: BoardEngine, world: World) -> AsyncGenerator[Feed]:
    """A feed that follows, and is cancelled at the end."""
    feed = Feed(engine, world, changed=lambda: None)
    running = asyncio.create_task(feed.run())
    await so_soon(lambda: feed.connection is Connection.CONNECTED)
    yield feed
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def so_soon(true: Callable[[], bool]) -> None:
    """Let others run until something is so."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - it is the loop's turns that count
            await asyncio.sleep(0)


async def test_a_frame_takes_only_so_much_and_the_next_one_goes_on() -> None:
    engine, world = BoardEngine(info(0)), World()
    async with fed(engine, world) as feed:
        for _ in range(900):
            engine.tell("turn.delta", turn(0, text="x"))
        await so_soon(lambda: feed.waiting == 900)
        ticks = iter(range(1000))
        assert feed.take(lambda: float(next(ticks)), budget_s=0.5)
        assert world.events.seen == 50
        assert not feed.caught_up
        while feed.take(time.monotonic):
            pass
        assert world.events.seen == 900
        assert feed.caught_up


async def test_reading_waits_for_the_screen_and_loses_nothing() -> None:
    engine, world = BoardEngine(info(0)), World()
    async with fed(engine, world) as feed:
        for _ in range(12_000):
            engine.tell("turn.delta", turn(0, text="x"))
        await so_soon(lambda: feed.waiting == 5_000)
        for _ in range(100):
            await asyncio.sleep(0)
        assert feed.waiting == 5_000
        await so_soon(lambda: feed.take(time.monotonic) and world.events.seen == 12_000)


class Vanishing(BoardEngine):
    """A daemon that is not there the first times that somebody looks."""

    away = 2

    def follow(self, *given: Any, **options: Any) -> Any:
        subscription = super().follow(*given, **options)
        entered = subscription.__aenter__

        async def enter() -> Any:
            if self.away:
                self.away -= 1
                raise DaemonNotRunningError("no daemon is running. Start it: claude-comms daemon start")
            return await entered()

        subscription.__aenter__ = enter
        return subscription


async def test_a_daemon_that_is_not_there_yet_is_waited_for_and_said_so() -> None:
    engine = Vanishing(info(0))
    app = MonitorApp(engine, Settings.load({}))
    async with app.run_test() as pilot:
        await until(pilot, lambda: "The daemon is away" in screen(pilot))
        await until(pilot, lambda: "● live" in screen(pilot) and "The daemon is away" not in screen(pilot))


# --- the real daemon ---------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Settings]:
    """A home with its daemon, which ends with the test."""
    settings = Settings.load({"home": tmp_path / "home", "backend": "offline"})
    start(settings)
    yield settings
    if find(settings) is not None:
        stop(settings, drain_s=0)


async def ask(settings: Settings) -> None:
    async with AsyncCommunicator("marker", settings=settings, use_background=True) as comm:
        await comm.send_message(target="arangodb", prompt="How should I store my page blocks?")


async def test_the_monitor_says_that_the_daemon_was_killed_and_goes_on_without_a_gap(home: Settings) -> None:
    engine = RemoteEngine(home, reconnect_s=0.5)
    async with driven(engine) as pilot:
        app = pilot.app
        assert isinstance(app, MonitorApp)
        await ask(home)
        await until(pilot, lambda: "marker → arangodb" in screen(pilot))
        await until(pilot, lambda: "marker asks" in screen(pilot) or "Σ" in screen(pilot))
        before = seqs(app.world)

        daemon = find(home)
        assert daemon is not None
        os.kill(daemon.pid, signal.SIGKILL)
        await until(pilot, lambda: "The daemon is away" in screen(pilot))
        assert "○ away" in screen(pilot)
        await pilot.press("p")
        await until(pilot, lambda: notices(pilot))  # what cannot be done now is said, and nothing breaks
        await pilot.press("3")

        await asyncio.to_thread(start, home)
        await ask(home)
        await until(pilot, lambda: "● live" in screen(pilot) and "The daemon is away" not in screen(pilot))
        await until(pilot, lambda: "daemon.started" in types(app))
        await until(pilot, lambda: types(app).count("turn.completed") == 2)
        after = seqs(app.world)
        assert after == list(range(after[0], after[-1] + 1))
        assert after[: len(before)] == before


def types(app: object) -> list[str]:
    assert isinstance(app, MonitorApp)
    return [event.type for event in app.world.events.that_fit(EventQuery.parse(""))]


async def test_keys_reach_the_real_daemon(home: Settings) -> None:
    async with driven(RemoteEngine(home, reconnect_s=0.5), (120, 40)) as pilot:
        await ask(home)
        await until(pilot, lambda: "idle" in screen(pilot))
        await pilot.press("p")
        await until(pilot, lambda: "paused" in screen(pilot))
        await pilot.press("r")
        await until(pilot, lambda: "▸ idle" in screen(pilot))
        await pilot.press("a", *"And edges?", "enter")
        await until(pilot, lambda: types(pilot.app).count("turn.completed") == 2)
        await pilot.press("2")
        await until(pilot, lambda: "How should I store" in screen(pilot))
        await pilot.press("4")
        await until(pilot, lambda: "done" in screen(pilot))
        await pilot.press("5")
        await until(pilot, lambda: "2 turns" in screen(pilot))
        await pilot.press("1", "X", "y")
        await until(pilot, lambda: "stopped" in screen(pilot))
