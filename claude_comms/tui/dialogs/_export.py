"""Where a conversation is written to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from claude_comms.text import one_line

if TYPE_CHECKING:
    from textual.app import ComposeResult

__all__ = ["ExportDialog"]


class ExportDialog(ModalScreen[Path | None]):
    """Gives the path of a file that does not exist yet, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, thread_id: str) -> None:
        super().__init__()
        self._exported = one_line(thread_id)

    def compose(self) -> ComposeResult:
        """The path, and what was wrong with it."""
        with Vertical(classes="dialog"):
            yield Static(f"Write {self._exported} to", classes="heading", markup=False)
            yield Input(f"{self._exported}.md", compact=True)
            yield Static(
                "Enter writes · Escape cancels · .md for reading, .json for everything", id="hint", markup=False
            )

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the path, unless somebody's file is there."""
        path = Path(event.value.strip()).expanduser()
        if not path.name or path.suffix not in (".md", ".json"):
            self._say("The name has to end in .md or .json.")
        elif not path.parent.is_dir():
            self._say(f"There is no directory {path.parent}.")
        elif path.exists():
            self._say(f"{path} exists. Choose another name.")
        else:
            self.dismiss(path)

    def _say(self, problem: str) -> None:
        self.query_one("#hint", Static).update(problem)

    def action_cancel(self) -> None:
        """Write nothing."""
        self.dismiss(None)
