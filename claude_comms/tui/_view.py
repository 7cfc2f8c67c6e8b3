"""What the monitor's screens share: the desk they work at, and how they say what went wrong."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, ParamSpec, TypeVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from claude_comms.errors import ClaudeCommsError
from claude_comms.text import one_line, printable, shorten, visible
from claude_comms.tui._notices import notify
from claude_comms.tui._table import ListTable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from textual.app import App

    from claude_comms.protocols import Engine
    from claude_comms.settings import Settings
    from claude_comms.tui.feed import Feed
    from claude_comms.tui.model import World

__all__ = ["NOT_LOADED", "AboutLine", "Desk", "FilterLine", "View", "write_new"]

NOT_LOADED = "Not loaded: there is no daemon that answers."
P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Desk:
    """What all screens work with."""

    engine: Engine
    world: World
    feed: Feed
    settings: Settings


class FilterLine(Input):
    """A line to type into that filters the rows below it. Enter keeps what was typed, Escape takes it back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "leave", "To the list"),
        Binding("down", "leave", "To the list", show=False),
        Binding("escape", "clear", "Show all"),
    ]

    def __init__(self, hint: str, *, otherwise: str = "") -> None:
        super().__init__(otherwise, placeholder=hint, compact=True, select_on_focus=False)
        self._otherwise = otherwise

    @property
    def typed(self) -> str:
        """What somebody typed; empty where that is what always stands here."""
        typed = self.value.strip()
        return "" if typed == self._otherwise.strip() else typed

    def action_clear(self) -> None:
        """Filter no more, and go back to the list."""
        self.value = self._otherwise
        self.action_leave()

    def action_leave(self) -> None:
        """Back to the list."""
        self.post_message(self.Left())

    class Left(Message):
        """The reader wants to go back to the list."""


class AboutLine(Static):
    """A line about what is chosen."""

    text = ""

    def __init__(self) -> None:
        super().__init__(id="about", markup=False)


class View(Vertical, Generic[Item]):
    """One screen of the monitor, shown or not. `bring_up_to_date` is called while it is shown, some times a second."""

    class ConversationWanted(Message):
        """Somebody wants to read a conversation."""

        def __init__(self, thread_id: str) -> None:
            super().__init__()
            self.thread_id = thread_id

    TITLE: ClassVar[str] = ""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", show=False),
        Binding("escape", "show_all", "Show all", show=False),
    ]

    def __init__(self, desk: Desk, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.desk = desk

    @property
    def table(self) -> ListTable[Item]:
        """The list that the screen is about."""
        return self.query_one(ListTable)  # pyright: ignore[reportUnknownVariableType]

    @property
    def chosen(self) -> Item | None:
        """What is chosen in it."""
        return self.table.chosen

    @property
    def filter_text(self) -> str:
        """What was typed to filter by."""
        return self.query_one(FilterLine).value

    def bring_up_to_date(self, *, changed: bool) -> None:
        """Show what is known now; `changed`: something has come since the last time."""
        raise NotImplementedError

    def enter(self) -> None:
        """It is shown from now on."""
        self.table.focus()

    def on_filter_line_left(self) -> None:
        """Back from the filter."""
        self.table.focus()

    def action_filter(self) -> None:
        """Type a filter."""
        self.query_one(FilterLine).focus()

    def action_show_all(self) -> None:
        """The list without its filter."""
        self.query_one(FilterLine).action_clear()

    def none_of(self, otherwise: str) -> str:
        """What an empty list says: that nothing fits what was typed, else `otherwise`."""
        typed = self.query_one(FilterLine).typed
        return f"None fits {shorten(typed, 30)!r}. Escape shows all." if typed else otherwise

    def not_loaded(self, error: ClaudeCommsError) -> None:
        """What the list shows could not be had. While the daemon is away the banner says so."""
        connected = self.desk.feed.connection == "connected"
        if connected:
            self.complain(str(error))
        self.table.empty = "Not loaded." if connected else NOT_LOADED
        self.table.draw_changed()

    def tell_about(self, text: str) -> None:
        """Write the line that says more about what is chosen."""
        line, text = self.query_one(AboutLine), one_line(visible(text))
        if line.text != text:
            line.text = text
            line.update(text, layout=False)

    @property
    def monitor(self) -> App[int]:
        """The app that it belongs to."""
        return cast("App[int]", self.app)  # pyright: ignore[reportUnknownMemberType]

    # --- doing things --------------------------------------------------------------------------

    def do(self, doing: Callable[[], Awaitable[T]], said: Callable[[T], str] | None = None) -> None:
        """Do something at the daemon beside everything else; then say so, or why not."""
        self.run_worker(functools.partial(self._done, doing, said), exit_on_error=True)

    async def _done(self, doing: Callable[[], Awaitable[T]], said: Callable[[T], str] | None) -> None:
        try:
            came = await doing()
        except ClaudeCommsError as error:
            self.complain(str(error))
        else:
            if said is not None:
                self.say(said(came))

    def say(self, text: str) -> None:
        """Tell the reader that something went well."""
        notify(self.monitor, text)

    def complain(self, text: str) -> None:
        """Tell the reader that something did not."""
        notify(self.monitor, text, "error")

    def copy(self, text: str, what: str) -> None:
        """Put `text` where the terminal pastes from."""
        if text:
            self.monitor.copy_to_clipboard(printable(text))
            self.say(f"{what} copied")
        else:
            self.complain(f"there is no {what} to copy")

    def worked(
        self, group: str, load: Callable[P, Coroutine[Any, Any, None]], *given: P.args, **named: P.kwargs
    ) -> None:
        """Load something; a later load of the same group makes an earlier one pointless."""
        work = functools.partial(load, *given, **named)
        self.run_worker(work, group=f"{self.id}-{group}", exclusive=True, exit_on_error=True)


def write_new(path: Path, text: str) -> None:
    """Write a file that was not there. OSError, FileExistsError among them."""
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
