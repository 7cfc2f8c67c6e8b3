"""The monitor: its screens, what is the same on all of them, and the frames in which news is shown."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import App
from textual.binding import Binding, BindingType
from textual.widgets import ContentSwitcher

from claude_comms.events import FocusLevel
from claude_comms.tui._bar import Banner, TopBar
from claude_comms.tui._colours import COLOURS
from claude_comms.tui._commands import MonitorCommands
from claude_comms.tui._digest import digest_line, digest_text
from claude_comms.tui._keys import KeyLine
from claude_comms.tui._notices import notify
from claude_comms.tui._pane import TranscriptPane
from claude_comms.tui._view import Desk, View
from claude_comms.tui.conversations import ConversationsView
from claude_comms.tui.dialogs import HelpScreen, ReadingScreen
from claude_comms.tui.events import EventsView
from claude_comms.tui.feed import Feed
from claude_comms.tui.instances import InstancesView
from claude_comms.tui.jobs import JobsView
from claude_comms.tui.model import World
from claude_comms.tui.usage import UsageView

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from claude_comms.protocols import Engine
    from claude_comms.settings import Settings

__all__ = ["MonitorApp"]

_FRAME_S = 0.1
_AT_LEAST_EVERY_S = 1.0
"""Ages and rates change when nothing happens, too."""
_ALARMS_EVERY_S, _CRITICAL_EVERY_S = 8.0, 2.0
"""So that one notice has gone when the next one comes."""
_TIDIES_EVERY_S = 5.0
_VIEWS: dict[str, type[View[object]]] = {
    "instances": InstancesView,
    "conversations": ConversationsView,
    "events": EventsView,
    "jobs": JobsView,
    "usage": UsageView,
}  # pyright: ignore[reportAssignmentType]
_THEMES = ("textual-dark", "textual-light")


class MonitorApp(App[int]):
    """Shows what the daemon of `engine` does. It opens the engine, and closes it at its end.

    `tidy` is called now and then, for what costs a moment. `clock` gives the seconds that rates are made of.
    """

    TITLE = "claude-comms"
    CSS_PATH = "monitor.tcss"
    COMMANDS: ClassVar[set[Callable[[], type[MonitorCommands]]]] = {lambda: MonitorCommands}  # pyright: ignore[reportIncompatibleVariableOverride]
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"show_view('{view}')", shown.TITLE, show=False)
            for number, (view, shown) in enumerate(_VIEWS.items(), 1)
        ),
        Binding("f", "focus_level", "Focus", show=False),
        Binding("g", "digest", "Digest", show=False),
        Binding("ctrl+t", "light_or_dark", "Light or dark", show=False),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("f1", "help", "Help", key_display="F1"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False),
    ]

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        theme: str = _THEMES[0],
        tidy: Callable[[], object] | None = None,
    ) -> None:
        # Without colours the terminal's own two are taken: greys instead of colours cannot be told from each other.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.world = World(clock)
        self.feed = Feed(engine, self.world, changed=self._connection_changed)
        self.desk = Desk(engine, self.world, self.feed, settings)
        self.theme = theme
        self._engine = engine
        self._tidy = tidy
        self._shown_at = self._alarmed_at = float("-inf")

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The monitor's colours beside those of the theme."""
        return COLOURS[self.current_theme.dark]

    def compose(self) -> ComposeResult:
        """The bar, the banner, a screen, the keys."""
        yield TopBar([(view, shown.TITLE) for view, shown in _VIEWS.items()])
        yield Banner(markup=False)
        with ContentSwitcher(initial="instances"):
            for name, view in _VIEWS.items():
                yield view(self.desk, id=name)
        yield KeyLine()

    def on_mount(self) -> None:
        """Begin to follow, and to show."""
        self.run_worker(self.feed.run(), name="feed", exit_on_error=True)
        self.set_interval(_FRAME_S, self._frame)
        if self._tidy is not None:
            self.set_interval(_TIDIES_EVERY_S, self._tidy)
        self.action_show_view("instances")

    async def on_unmount(self) -> None:
        """Let go of the daemon."""
        self.workers.cancel_all()
        await self._engine.close()

    # --- frames --------------------------------------------------------------------------------

    @property
    def view(self) -> View[object]:
        """The screen that is shown."""
        return cast("View[object]", self.query_one(ContentSwitcher).visible_content)

    def _frame(self) -> None:
        """Take what has come, and show it where it can be seen."""
        if not self.is_running:  # the screen is being taken down
            return
        changed = self.feed.take(time.monotonic)
        now = time.monotonic()
        if not changed and now - self._shown_at < _AT_LEAST_EVERY_S:
            return
        self._shown_at = now
        digest = self.world.events.tick()
        if digest is not None:
            notify(self, digest_line(digest))
        self.query_one(TopBar).show_state(self.world, self.feed)
        self.view.bring_up_to_date(changed=changed)
        self._alarm(now)

    def _alarm(self, now: float) -> None:
        """Say what cannot wait; several at once in one go."""
        critical = self.world.critical_alarm
        if now - self._alarmed_at < (_CRITICAL_EVERY_S if critical else _ALARMS_EVERY_S):
            return
        alarm = self.world.alarm()
        if alarm is None:
            return
        self._alarmed_at = now
        more = f" (and {alarm.count - 1} more)" if alarm.count > 1 else ""
        severity = "error" if alarm.critical else "warning"
        notify(self, alarm.words, severity, title=f"{alarm.type}{more}", most_lines=2)

    def _connection_changed(self) -> None:
        if self.is_running:
            self.query_one(Banner).show_connection(self.feed)
            self.query_one(TopBar).show_state(self.world, self.feed)

    # --- what keys do --------------------------------------------------------------------------

    def on_top_bar_picked(self, event: TopBar.Picked) -> None:
        """A click on a screen's name."""
        self.action_show_view(event.view)

    def action_show_view(self, name: str) -> None:
        """Show a screen."""
        self.query_one(ContentSwitcher).current = name
        self.query_one(TopBar).show_view(name)
        self.view.enter()
        self.view.bring_up_to_date(changed=True)

    def on_view_conversation_wanted(self, event: View.ConversationWanted) -> None:
        """Show a conversation."""
        self.action_show_view("conversations")
        self.query_one(ConversationsView).open(event.thread_id)

    def action_focus_level(self) -> None:
        """Let less through, or everything again."""
        levels = list(FocusLevel)
        focus = self.world.events.focus
        self.world.events.version += 1  # other rows are listed
        focus.level = levels[(levels.index(focus.level) + 1) % len(levels)]
        means = {
            FocusLevel.EVERYTHING: "all events are listed again",
            FocusLevel.ATTENTION: "what interrupts is listed, g tells the rest",
            FocusLevel.CRITICAL: "what is critical is listed, g tells the rest",
        }[focus.level]
        if focus.level is FocusLevel.EVERYTHING:
            self.world.events.digest()
        notify(self, f"Focus {focus.level}: {means}.")
        self._shown_at = float("-inf")

    def action_digest(self) -> None:
        """What was held back, in a few lines."""
        self.world.events.digest()
        self.world.events.were_read()
        said = digest_text(self.world.events.digests, self.size.width)
        self.push_screen(ReadingScreen("Held back by the focus", said))

    def action_help(self) -> None:
        """All keys."""
        self.push_screen(HelpScreen())

    def action_light_or_dark(self) -> None:
        """The other one."""
        self.theme = _THEMES[1 - _THEMES.index(self.theme)] if self.theme in _THEMES else _THEMES[0]
        for pane in self.query(TranscriptPane):
            pane.forget()
        self._shown_at = float("-inf")
