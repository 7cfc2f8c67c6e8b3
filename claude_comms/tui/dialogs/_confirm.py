"""Whether something that cannot be undone is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from claude_comms.text import visible

if TYPE_CHECKING:
    from textual.app import ComposeResult

__all__ = ["ConfirmDialog"]


class ConfirmDialog(ModalScreen[bool]):
    """Says what will happen, and gives whether it shall. Enter alone changes nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", "Yes"),
        Binding("n,escape,q", "no", "No"),
        Binding("left,right", "app.focus_next", "Other button", show=False),
    ]

    def __init__(self, text: str, yes: str) -> None:
        super().__init__()
        self._text = visible(text)
        self._yes = yes

    def compose(self) -> ComposeResult:
        """The text and two buttons."""
        with Vertical(classes="dialog"):
            yield Static(self._text, markup=False)
            with Horizontal(classes="buttons"):
                yield Button(f"{self._yes} (y)", id="yes", variant="error", compact=True)
                yield Button("Keep (n)", id="no", compact=True)

    def on_mount(self) -> None:
        """The harmless button has the focus."""
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of the two."""
        self.dismiss(event.button.id == "yes")

    def action_yes(self) -> None:
        """It is meant."""
        self.dismiss(True)  # noqa: FBT003 - the dialog's result

    def action_no(self) -> None:
        """It is not."""
        self.dismiss(False)  # noqa: FBT003 - the dialog's result
