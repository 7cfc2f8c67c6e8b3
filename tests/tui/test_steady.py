"""That the monitor can be left open all day: what it holds stays as much, and lines that come move nothing else."""

from __future__ import annotations

import gc
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from rich.segment import Segment
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from claude_comms.tui._keys import KeyLine
from claude_comms.tui._pane import TranscriptPane
from claude_comms.tui._run import Tidying
from claude_comms.tui.conversations import ConversationsView
from tui.support import LARGE, SMALL, BoardEngine, driven, info, screen, shown_view, turn, until

if TYPE_CHECKING:
    from textual.pilot import Pilot

    from claude_comms.tui._app import MonitorApp

pytestmark = pytest.mark.anyio


def held() -> Counter[str]:
    """What there is of all that a screen is made of, by its type."""
    gc.collect()
    found: Counter[str] = Counter()
    for thing in gc.get_objects():
        if isinstance(thing, Widget):
            found["widgets"] += 1
        elif isinstance(thing, Strip):
            found["strips"] += 1
    return found


async def through_all_screens(pilot: Pilot[Any], times: int) -> None:
    for _ in range(times):
        await pilot.press("2", "3", "4", "5", "slash", "escape", "1", "j", "z", "z")
    await pilot.pause()


async def test_no_widget_is_left_behind_by_going_from_screen_to_screen() -> None:
    async with driven(BoardEngine(*(info(number) for number in range(6)))) as pilot:
        await through_all_screens(pilot, 2)
        before = held()["widgets"]
        await through_all_screens(pilot, 10)
        assert held()["widgets"] <= before


async def say(pilot: Pilot[Any], engine: BoardEngine, pieces: int) -> None:
    """Everybody says so much, and it is all seen."""
    app: MonitorApp = pilot.app  # pyright: ignore[reportAssignmentType]
    for number in range(pieces):
        engine.tell("turn.delta", turn(number % 6, text=f"Keep **document {number}**. " * 2))
        if number % 100 == 0:
            engine.tell("turn.retried", turn(number % 6, attempt=2, reason=f"busy {number}", wait_s=1.0))
    await until(pilot, lambda: app.world.events.seen >= len(engine.bus.events), within_s=25)
    await pilot.pause()


async def test_what_is_held_for_the_screen_stays_as_much_over_thousands_of_events() -> None:
    engine = BoardEngine(*(info(number) for number in range(6)))
    async with driven(engine, LARGE) as pilot:
        await say(pilot, engine, 2_000)
        await through_all_screens(pilot, 1)
        before = held()
        for _ in range(3):
            await say(pilot, engine, 2_000)
            await through_all_screens(pilot, 1)
        assert held()["strips"] < before["strips"] + 1_000  # a screen full of them, some times over


async def test_an_answer_that_grows_does_not_lay_the_screen_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = BoardEngine(info(0))
    async with driven(engine) as pilot:
        pane = pilot.app.query_one(TranscriptPane)

        async def say_lines(first: int, last: int) -> None:
            for number in range(first, last):
                said = f"Line {number}."
                engine.tell("turn.delta", turn(0, text=f"{said}\n\n"))
                await until(pilot, lambda said=said: said in screen(pilot))

        await say_lines(0, 1)
        laid_out: list[object] = []
        layout = Screen[Any]._refresh_layout

        def counted(self: Screen[Any], *given: Any, **named: Any) -> None:
            laid_out.append(self)
            layout(self, *given, **named)

        monkeypatch.setattr(Screen, "_refresh_layout", counted)
        await say_lines(1, 5)
        assert not laid_out, "there is room for it"
        await say_lines(5, 14)
        assert pane.show_vertical_scrollbar
        laid_out.clear()
        await say_lines(14, 20)
        assert not laid_out, "it scrolls already"
        assert pane.is_vertical_scroll_end


async def test_a_key_draws_the_two_rows_it_moves_between_and_not_all_that_have_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = BoardEngine(*(info(number) for number in range(12)))
    now_s = 1_000.0
    async with driven(engine, LARGE, clock=lambda: now_s) as pilot:
        table = shown_view(pilot).table
        drawn: set[int] = set()
        monkeypatch.setattr(table, "refresh_line", drawn.add)

        def moved(by: int) -> set[int]:
            drawn.clear()
            table.action_move(by)
            return drawn

        for number in range(12):
            engine.tell("turn.delta", turn(number, text="x" * 4_000))
        app: MonitorApp = pilot.app  # pyright: ignore[reportAssignmentType]
        await until(pilot, lambda: app.world.events.seen >= 12)
        now_s += 1.0  # now all of them say how fast that was
        assert moved(1) == {1, 2}
        assert moved(1) == {2, 3}
        assert moved(-1) == {2, 3}


async def test_rows_are_not_cut_by_the_scroll_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: set[str] = set()
    split = Segment.split_cells

    def counted(self: Segment, at: int) -> tuple[Segment, Segment]:
        cut.add(self.text)
        return split(self, at)

    monkeypatch.setattr(Segment, "split_cells", counted)
    async with driven(BoardEngine(*(info(number) for number in range(60)))) as pilot:
        assert shown_view(pilot).table.show_vertical_scrollbar
        cut.clear()
        await pilot.press("j", "j", "j", "k")
        await pilot.pause()
        assert not cut


async def test_a_click_on_a_key_presses_it() -> None:
    async with driven(BoardEngine(info(0))) as pilot:
        line = screen(pilot).splitlines()[-1]
        assert await pilot.click(KeyLine, offset=(line.index("Help"), 0))
        await until(pilot, lambda: "Escape closes" in screen(pilot) or len(pilot.app.screen_stack) > 1)
        await pilot.press("escape")
        await pilot.press("2")
        await until(pilot, lambda: isinstance(shown_view(pilot), ConversationsView))
        await until(pilot, lambda: screen(pilot).splitlines()[-1] != line)


@pytest.mark.parametrize("size", [(30, 24), SMALL, LARGE])
async def test_help_and_quit_are_always_among_the_keys(size: tuple[int, int]) -> None:
    async with driven(BoardEngine(info(0)), size) as pilot:
        line = screen(pilot).splitlines()[-1]
        assert line.rstrip().endswith("? Help q Quit")
        assert ("Export" in line) == (size[0] >= 80)


def test_what_stays_is_looked_at_for_garbage_only_twice() -> None:
    tidy = Tidying()
    frozen = gc.get_freeze_count()
    try:
        tidy()
        tidy()
        assert gc.get_freeze_count() > frozen
        frozen = gc.get_freeze_count()
        kept: list[list[int]] = [[] for _ in range(1_000)]
        tidy()
        assert gc.get_freeze_count() <= frozen
        assert len(kept) == 1_000
    finally:
        gc.unfreeze()
