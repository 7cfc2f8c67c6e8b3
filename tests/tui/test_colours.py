"""What is on the screen can be read: in the dark and in the light, chosen or not, and without any colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from textual.color import Color
from textual.screen import ModalScreen

from claude_comms.jobs import JobState
from claude_comms.tui.feed import Connection
from claude_comms.types import InstanceState
from tui.support import LARGE, SMALL, BoardEngine, conversation, driven, info, job, screen, turn, until

if TYPE_CHECKING:
    from rich.segment import Segment
    from textual.pilot import Pilot
    from textual.strip import Strip

pytestmark = pytest.mark.anyio
themes = pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
DRAWN = set("│─╭╮╰╯┃━╸╺▔▁▎▊▌█▇▆▅▄▃▂▁║╴╶┼├┤┬┴┌┐└┘╷╵▕▏ ")
"""What frames and bars are made of. It is seen, not read."""
TEXT, SHAPE = 4.5, 3.0
STATES = [state for state in InstanceState if state is not InstanceState.STOPPED]


def board() -> BoardEngine:
    """Something in every state that has a colour."""
    engine = BoardEngine(*(info(number, state, waiting=2, failure="gone") for number, state in enumerate(STATES)))
    engine.threads = {f"c_{number:02}": conversation(number) for number in range(3)}
    engine.jobs.known = {
        f"j_{number:02}": job(number, state, error={"type": "TurnFailedError", "message": "it stalled"})
        for number, state in enumerate(JobState)
    }
    return engine


def tell(engine: BoardEngine) -> None:
    """An event of each priority, and a turn with all that is shown of one."""
    engine.tell("message.stored", turn(0, role="question", speaker="marker", text="How?", state="pending"))
    engine.tell("turn.delta", turn(0, text="# So\n\n`a` *b*\n\n```\ncode\n```\n\n| a |\n|---|\n| b |\n\n> q\n\n---\n"))
    engine.tell("turn.tool_used", turn(0, tool="Read", arguments="README.md"))
    engine.tell("turn.failed", turn(0, error={"type": "Failed", "message": "it broke"}))
    engine.tell("budget.exceeded", {"reason": "spent"})


def contrast(part: Segment) -> float:
    style = part.style
    assert style is not None, part
    assert style.color is not None, part
    assert style.bgcolor is not None, part
    brightness = sorted(luminance(Color.from_rich_color(colour)) for colour in (style.color, style.bgcolor))
    return (brightness[1] + 0.05) / (brightness[0] + 0.05)


def luminance(colour: Color) -> float:
    """As WCAG 2 has it."""
    parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.normalized]
    return sum(part * weight for part, weight in zip(parts, (0.2126, 0.7152, 0.0722), strict=True))


def strips_of(pilot: Pilot[Any]) -> list[Strip]:
    """The lines of the screen; where a dialog is open, its part of them: the rest is behind a veil."""
    top = pilot.app.screen
    strips = top._compositor.render_strips()
    if not isinstance(top, ModalScreen):
        return strips
    inside = top.query(".dialog, #--container").first().region
    return [strip.crop(inside.x, inside.right) for strip in strips[inside.y : inside.bottom]]


def unreadable(pilot: Pilot[Any]) -> list[tuple[str, float]]:
    """What is on the screen with too little contrast, and how much it has."""
    found: list[tuple[str, float]] = []
    for strip in strips_of(pilot):
        for part in strip:
            said = part.text.strip()
            least = SHAPE if set(said) <= DRAWN else TEXT
            if said and (ratio := contrast(part)) < least:
                found.append((part.text, round(ratio, 2)))
    return found


async def look(pilot: Pilot[Any], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause(0.15)
    assert unreadable(pilot) == [], keys


@themes
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "200x60"])
async def test_everything_on_every_screen_can_be_read(theme: str, size: tuple[int, int]) -> None:
    engine = board()
    async with driven(engine, size, theme=theme, toasts=True) as pilot:
        tell(engine)
        await until(pilot, lambda: "budget.exceeded" in screen(pilot))
        await look(pilot)  # the alarm in its corner
        pilot.app.clear_notifications()
        for _ in STATES:
            await look(pilot, "down")
        for keys in (("tab",), ("z",), ("z",), ("slash",), ("x",), ("escape",), ("2",), ("tab",), ("1",)):
            await look(pilot, *keys)
        await look(pilot, "slash", *"zzzz")
        await look(pilot, "escape", "3")
        for _ in range(6):
            await look(pilot, "up")
        await look(pilot, "tab")
        await look(pilot, "enter")
        for _ in JobState:
            await look(pilot, "4", "down")
        await look(pilot, "5")


@themes
@pytest.mark.parametrize("keys", [["a"], ["n"], ["X"], ["x"], ["f1"], ["ctrl+p"], ["f", "g"]], ids="-".join)
async def test_everything_in_every_dialog_can_be_read(theme: str, keys: list[str]) -> None:
    engine = board()
    async with driven(engine, theme=theme) as pilot:
        await look(pilot, *keys)


@themes
async def test_notices_and_the_banner_can_be_read(theme: str) -> None:
    engine = board()
    async with driven(engine, theme=theme, toasts=True) as pilot:
        app: Any = pilot.app
        app.view.say("it is so")
        await until(pilot, lambda: "it is so" in screen(pilot))
        app.view.complain("it is not so")
        await until(pilot, lambda: "it is not so" in screen(pilot))
        await look(pilot)

        app.clear_notifications()
        app.feed.connection, app.feed.problem = Connection.LOST, "no daemon"
        app._connection_changed()
        await pilot.pause(0.1)
        assert "away" in screen(pilot).splitlines()[1]
        assert unreadable(pilot) == []


async def test_what_matters_less_is_quieter_than_the_rest() -> None:
    for theme in ("textual-dark", "textual-light"):
        async with driven(board(), theme=theme) as pilot:
            strips = strips_of(pilot)
            quiet = next(p for s in strips for p in s if p.text.strip() == "hibernated")
            usual = next(p for s in strips for p in s if "marker → arangodb" in p.text and p.style and not p.style.bold)
            assert contrast(quiet) < contrast(usual)


async def test_without_colours_the_terminals_own_are_taken_and_the_chosen_row_is_reversed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    engine = board()
    async with driven(engine, toasts=True) as pilot:
        tell(engine)
        await until(pilot, lambda: "budget.exceeded" in screen(pilot))
        for keys in ("1", "2", "3", "4", "5", "f1"):
            await pilot.press(keys)
            await pilot.pause(0.1)
            styles = [part.style for strip in pilot.app.screen._compositor.render_strips() for part in strip]
            assert all(style.color is None or style.color.is_default for style in styles if style)
            assert all(style.bgcolor is None or style.bgcolor.is_default for style in styles if style)
        await pilot.press("escape", "1")
        await pilot.pause(0.1)
        chosen = next(s for s in pilot.app.screen._compositor.render_strips() if "".join(p.text for p in s)[0] == "▸")
        assert all(part.style is not None and part.style.reverse for part in chosen if part.text.strip())
