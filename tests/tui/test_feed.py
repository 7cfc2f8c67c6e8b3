"""Following a daemon that goes and comes: nothing twice, nothing left out, and the reader told."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from daemon_support import ListSubscription

from claude_comms import AsyncCommunicator
from claude_comms.daemon import find, start, stop
from claude_comms.daemon.client import RemoteEngine
from claude_comms.daemon.wire.handshake import OTHER_SETTINGS
from claude_comms.errors import DaemonError, DaemonNotRunningError, DaemonVersionError
from claude_comms.settings import Settings
from claude_comms.tui._app import MonitorApp
from claude_comms.tui.feed import Connection, Feed
from claude_comms.tui.model import EventQuery, World
from tui.support import SMALL, BoardEngine, BoardInstances, driven, info, notices, screen, turn, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from claude_comms.events import Event, EventFilter, Missed
    from claude_comms.types import InstanceInfo

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
    error: DaemonError = DaemonNotRunningError("no daemon is running. Start it: claude-comms daemon start")

    def follow(self, *given: Any, **options: Any) -> Any:
        subscription = super().follow(*given, **options)
        entered = subscription.__aenter__

        async def enter() -> Any:
            if self.away:
                self.away -= 1
                raise self.error
            return await entered()

        subscription.__aenter__ = enter
        return subscription


async def test_a_daemon_that_is_not_there_yet_is_waited_for_and_said_so() -> None:
    engine = Vanishing(info(0))
    app = MonitorApp(engine, Settings.load({}))
    async with app.run_test() as pilot:
        await until(pilot, lambda: "The daemon is away" in screen(pilot))
        await until(pilot, lambda: "● live" in screen(pilot) and "The daemon is away" not in screen(pilot))


async def test_where_waiting_does_not_help_it_is_said_what_does() -> None:
    for error, said in (
        (
            DaemonVersionError("x", daemon_version="9.9.9", client_version="0.1.0"),
            "now 9.9.9, this monitor 0.1.0: leave",
        ),
        (DaemonError(f"{OTHER_SETTINGS}: templates, log_texts. Restart it."), "other settings now: leave with q"),
    ):
        engine = Vanishing(info(0))
        engine.error = error
        engine.away = 1_000_000
        app = MonitorApp(engine, Settings.load({}))
        async with app.run_test(size=SMALL) as pilot:
            await until(pilot, lambda said=said: said in screen(pilot))
            assert "start it again." in screen(pilot)
            assert "○ another daemon" in screen(pilot)


class Mute(BoardInstances):
    """Instances that are not listed while something is the matter."""

    trouble: Exception | None = None
    hangs = False

    async def list(self, *, check: bool = False) -> list[InstanceInfo]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.trouble is not None:
            raise self.trouble
        return await super().list(check=check)


@pytest.mark.parametrize(
    ("hangs", "trouble", "said"),
    [(True, None, "has not answered for"), (False, DaemonError("broken pipe."), "broken pipe.")],
)
async def test_a_daemon_that_sends_events_and_answers_nothing_is_not_called_live(
    monkeypatch: pytest.MonkeyPatch, *, hangs: bool, trouble: Exception | None, said: str
) -> None:
    monkeypatch.setattr("claude_comms.tui.feed._ANSWERS_WITHIN_S", 0.2)
    engine = BoardEngine(info(0))
    engine.instances = mute = Mute(engine.instances.known)
    async with driven(engine) as pilot:
        mute.hangs, mute.trouble = hangs, trouble
        await until(pilot, lambda: said in screen(pilot) and "○ not answering" in screen(pilot))
        mute.hangs, mute.trouble = False, None
        await until(pilot, lambda: "● live" in screen(pilot) and said not in screen(pilot))


class OneEvent(ListSubscription):
    """Ends after one event."""

    read = False

    def ready(self) -> list[Event | Missed]:
        return []

    async def __anext__(self) -> Event | Missed:
        if self.read:
            raise StopAsyncIteration
        self.read = True
        return await super().__anext__()


class Stopping(BoardEngine):
    """A daemon whose first subscription ends in order, after one event."""

    def __init__(self, *infos: InstanceInfo) -> None:
        super().__init__(*infos)
        self.after: list[int | None] = []

    def follow(self, wanted: EventFilter | None = None, *, after: int | None = None) -> Any:
        self.after.append(after)
        if len(self.after) > 1:
            return super().follow(wanted, after=after)
        return OneEvent(self.bus, wanted, self.bus.last_seq, 100)


async def test_what_happens_while_a_daemon_that_stopped_in_order_is_away_comes_afterwards() -> None:
    engine, world = Stopping(info(0)), World()
    async with fed(engine, world) as feed:
        engine.tell("daemon.draining")
        engine.tell("daemon.stopped")
        engine.tell("daemon.started")
        await so_soon(lambda: feed.take(time.monotonic) and world.events.seen == 3)
        assert engine.after == [None, 1]
        assert seqs(world) == [1, 2, 3]


async def test_instances_are_listed_anew_as_soon_as_the_daemon_is_back() -> None:
    engine, world = Stopping(info(0)), World()
    async with fed(engine, world) as feed:
        await so_soon(lambda: feed.take(time.monotonic) and "i_00" in world.board.known)
        assert not world.board.stale
        engine.tell("daemon.draining")
        await so_soon(lambda: feed.connection is Connection.LOST)
        await so_soon(lambda: feed.connection is Connection.CONNECTED)
        assert world.board.stale


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
