"""A longer text over everything else: one event in full, a digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from claude_comms.text import one_line, printable, visible

if TYPE_CHECKING:
    from textual.app import App, ComposeResult

__all__ = ["ReadingScreen"]


class ReadingScreen(ModalScreen[None]):
    """Shows a text as it is, to be scrolled, until Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "leave", "Close"),
        Binding("y", "copy", "Copy"),
        Binding("j", "down", "Down", show=False),
        Binding("k", "up", "Up", show=False),
    ]

    def __init__(self, heading: str, text: str) -> None:
        super().__init__()
        self._heading = one_line(visible(heading))
        self._text = printable(text)

    def compose(self) -> ComposeResult:
        """The heading, the text, the keys."""
        with Vertical(classes="dialog reading"):
            yield Static(self._heading, classes="heading", markup=False)
            with VerticalScroll():
                yield Static(Text(visible(self._text)), markup=False)
            yield Static("Escape closes · y copies", classes="keys")

    def on_mount(self) -> None:
        """Arrows scroll."""
        self.query_one(VerticalScroll).focus()

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)

    def action_copy(self) -> None:
        """Put the text where the terminal pastes from."""
        app = cast("App[int]", self.app)  # pyright: ignore[reportUnknownMemberType]
        app.copy_to_clipboard(self._text)
        app.notify("copied", markup=False, timeout=3)

    def action_down(self) -> None:
        """A line down."""
        self.query_one(VerticalScroll).scroll_down(animate=False)

    def action_up(self) -> None:
        """A line up."""
        self.query_one(VerticalScroll).scroll_up(animate=False)
