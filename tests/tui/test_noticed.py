"""Small promises of the screens that are easily broken without anybody noticing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms.daemon import find
from claude_comms.errors import DaemonNotRunningError
from claude_comms.settings import Settings
from claude_comms.tui._run import engine_for
from claude_comms.tui._view import write_new
from claude_comms.tui.instances._attach import command_of
from claude_comms.tui.instances._rows import SORTED_BY, ordered
from claude_comms.tui.model import Watched
from claude_comms.types import Usage, UsageRow
from tui.support import BoardEngine, driven, info, screen, turn, until

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.protocols import UsageBy


def watched(number: int, **other: Any) -> Watched:
    return Watched(info(number, **other))


def test_the_dearest_and_the_fastest_come_first() -> None:
    cheap, dear = watched(0, usage=Usage(cost_usd=0.1)), watched(1, usage=Usage(cost_usd=2.0))
    assert ordered([cheap, dear], "COST", 10.0, backwards=False) == [dear, cheap]
    assert ordered([dear, cheap], "COST", 10.0, backwards=True) == [cheap, dear]
    cheap.rate.add(4_000, 8.5)
    rate = next(title for title in SORTED_BY if "TOKENS/S" in title)
    assert ordered([dear, cheap], rate, 10.0, backwards=False) == [cheap, dear]
    assert ordered([cheap, dear], rate, 10.0, backwards=True) == [dear, cheap]


def test_a_file_that_appears_in_the_last_moment_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "thread.md"
    file.write_text("mine")
    with pytest.raises(FileExistsError):
        write_new(file, "other")
    assert file.read_text() == "mine"


def test_the_terminal_is_handed_to_the_chosen_instance() -> None:
    assert command_of("i_07")[-2:] == ["attach-instance", "i_07"]


class Billing(BoardEngine):
    """Remembers for which time usage was asked."""

    def __init__(self) -> None:
        super().__init__(info(0))
        self.since: list[datetime | None] = []

    async def usage(self, by: UsageBy = "pair", *, since: datetime | None = None, **_: Any) -> list[UsageRow]:
        self.since.append(since)
        return [UsageRow("marker/arangodb", len(self.since), Usage(1, 1, 0, 0, 0.5))]


@pytest.mark.anyio
async def test_usage_is_of_the_time_that_was_chosen() -> None:
    engine = Billing()
    async with driven(engine) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: engine.since == [None])
        await pilot.press("w")
        await until(pilot, lambda: len(engine.since) == 2)
        await pilot.press("w")
        await until(pilot, lambda: len(engine.since) == 3)
    week, day = (datetime.now(UTC) - since for since in engine.since[1:] if since is not None)
    assert abs(week - timedelta(days=7)) < timedelta(minutes=5)
    assert abs(day - timedelta(days=1)) < timedelta(minutes=5)


@pytest.mark.anyio
async def test_usage_is_loaded_again_once_turns_have_ended() -> None:
    engine, clock = Billing(), [100.0]
    async with driven(engine, clock=lambda: clock[0]) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: " 1 turns" in screen(pilot))
        clock[0] += 5
        engine.tell("turn.completed", turn(0, reply={}))
        await until(pilot, lambda: " 2 turns" in screen(pilot))


@pytest.mark.anyio
@pytest.mark.parametrize("key", ["1", "3"])
async def test_a_filter_is_at_work_before_the_next_frame(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_comms.tui._app._FRAME_S", 1_000.0)
    engine = BoardEngine()
    async with driven(engine) as pilot:
        app: Any = pilot.app
        app.world.board.listed([info(0), info(1)])
        await pilot.press("3", "1", key, "slash")
        assert app.view.table is not None
        shown: list[bool] = []

        def show(*, changed: bool) -> None:
            shown.append(changed)

        monkeypatch.setattr(app.view, "bring_up_to_date", show)
        await pilot.press("x")
        assert shown == [True]


@pytest.mark.anyio
async def test_a_daemon_that_somebody_stopped_is_not_started_again(tmp_path: Path) -> None:
    settings = Settings.load({"home": tmp_path / "home", "backend": "offline"})
    engine = engine_for(settings)
    with pytest.raises(DaemonNotRunningError):
        await engine.open()
    await engine.close()
    assert find(settings) is None
