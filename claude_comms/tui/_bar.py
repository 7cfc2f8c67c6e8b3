"""The first line: the screens, how it stands with the daemon, what it costs; and the banner when the daemon is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Static

from claude_comms.text import one_line, shorten, visible
from claude_comms.tui.feed import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult
    from textual.events import Resize

    from claude_comms.tui.feed import Feed
    from claude_comms.tui.model import World

__all__ = ["Banner", "TopBar"]


_WIDE, _NARROW = 100, 66


class _Tab(Static):
    def __init__(self, number: int, title: str, view: str) -> None:
        super().__init__(markup=False, id=f"tab-{view}")
        self.view = view
        self._number, self._title = number, title
        self.show_in(_WIDE)

    def show_in(self, width: int) -> None:
        """Say as much as a screen of `width` columns has room for: the number is enough to press."""
        if width >= _WIDE:
            self.update(f" {self._number} {self._title} ")
        elif width >= _NARROW or self.has_class("current"):
            self.update(f"{self._number} {self._title} ")
        else:
            self.update(f"{self._number} ")

    def on_click(self) -> None:
        self.post_message(TopBar.Picked(self.view))


class TopBar(Horizontal):
    """The screens by number, and a few words about everything."""

    class Picked(Message):
        """Somebody clicked on a screen's name."""

        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    def __init__(self, views: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._views = views
        self._said = ""

    def compose(self) -> ComposeResult:
        """A tab for each screen, and the rest of the line."""
        for number, (view, title) in enumerate(self._views, 1):
            yield _Tab(number, title, view)
        yield Static(id="state", markup=False)

    def show_view(self, view: str) -> None:
        """Mark the screen that is shown."""
        for tab in self.query(_Tab):
            tab.set_class(tab.view == view, "current")
            tab.show_in(self.size.width)

    def on_resize(self, event: Resize) -> None:
        """More room, or less."""
        for tab in self.query(_Tab):
            tab.show_in(event.size.width)

    def show_state(self, world: World, feed: Feed) -> None:
        """How things stand, as far as there is room."""
        state = self.query_one("#state", Static)
        text = _fitting(_states(world, feed), state.size.width)
        if text != self._said:
            self._said = text
            state.update(text, layout=False)


_NAMES = {
    Connection.CONNECTING: "connecting",
    Connection.LOST: "away",
    Connection.SILENT: "not answering",
    Connection.REFUSED: "another daemon",
}


def _states(world: World, feed: Feed) -> list[str]:
    """The most important first."""
    counts: dict[str, int] = {}
    for watched in world.board.known.values():
        counts[str(watched.info.state)] = counts.get(str(watched.info.state), 0) + 1
    failed, busy = counts.get("failed", 0), counts.get("busy", 0)
    states = ["● live" if feed.connection is Connection.CONNECTED else f"○ {_NAMES[feed.connection]}"]
    if not feed.caught_up:
        states.append("catching up")
    if failed:
        states.append(f"{failed} failed")
    focus = world.events.focus
    if focus.level != "everything":
        states.append(f"focus {focus.level}")
    states.append(f"{busy} of {sum(counts.values()) - counts.get('stopped', 0)} busy")
    if focus.level != "everything":
        states.append(f"{focus.held_back:,} held back")
    return states


def _fitting(parts: list[str], width: int) -> str:
    text = ""
    for part in parts:
        longer = f"{text} · {part}" if text else part
        if text and len(longer) > width:
            break
        text = longer
    return shorten(text, max(1, width))


_AWAY = "The daemon is away; what you see is old. Start it: claude-comms daemon start."


class Banner(Static):
    """Says that the daemon is away, while it is."""

    def show_connection(self, feed: Feed) -> None:
        """Appear, or go."""
        lost = feed.connection is Connection.LOST
        self.display = bool(feed.problem)
        if feed.problem:
            self.update(one_line(visible(f"{_AWAY} {feed.problem}" if lost else feed.problem)))
