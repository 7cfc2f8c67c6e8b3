"""A question: from whom, to whom, and what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widgets import Input, Label, Static, TextArea

from claude_comms.text import one_line, printable, visible

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from textual import events
    from textual.app import ComposeResult

__all__ = ["AskDialog", "Asked"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed."""

    source: str
    target: str
    prompt: str


class _Prompt(TextArea):
    """Enter sends. What is pasted keeps its lines, and Ctrl+J begins one."""

    class Sent(Message):
        """Enter was pressed."""

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Sent())
            return
        if event.key == "ctrl+j":
            event.stop()
            event.prevent_default()
            self.insert("\n")
            return
        await super()._on_key(event)


class AskDialog(ModalScreen[Asked | None]):
    """Hands what is to be asked to `send`, and stays until that has taken it; gives it then, or None.

    `send` gives what is wrong with it, or nothing. With `fixed` the pair is given, and cannot be changed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel"), Binding("ctrl+s", "send", "Ask")]

    def __init__(
        self,
        heading: str,
        send: Callable[[Asked], Awaitable[str]],
        *,
        source: str = "",
        target: str = "",
        fixed: bool = False,
    ) -> None:
        super().__init__()
        self._send = send
        self._sending = False
        self._known: SuggestFromList | None = None
        self._heading = one_line(visible(heading))
        self._from = one_line(source)
        self._to = one_line(target)
        self._fixed = fixed

    def compose(self) -> ComposeResult:
        """Pair, text, and what the keys do."""
        with Vertical(classes="dialog"):
            yield Static(self._heading, classes="heading", markup=False)
            with Horizontal(id="pair", classes="hidden" if self._fixed else ""):
                yield Label("From ")
                yield Input(self._from, placeholder="nobody", id="source", compact=True, disabled=self._fixed)
                yield Label(" to ")
                yield Input(self._to, placeholder="a module", id="target", compact=True, disabled=self._fixed)
            yield _Prompt(id="prompt", show_line_numbers=False, compact=True)
            yield Static(id="problem", markup=False)
            yield Static(
                "Enter asks · Ctrl+J new line · Escape cancels. It is asked in the background.", classes="keys"
            )

    def on_mount(self) -> None:
        """Begin where something is missing."""
        self.query_one("#prompt" if self._to else "#target").focus()
        self._complete()

    def on_input_submitted(self) -> None:
        """Enter in a name goes on to the next field."""
        self.focus_next()

    @on(_Prompt.Sent)
    def action_send(self) -> None:
        """Give what was typed, where anything was."""
        prompt = self.query_one(TextArea).text.strip()
        target = self.query_one("#target", Input).value.strip()
        if self._sending:
            return
        if not prompt or not target:
            self.query_one("#target" if not target else "#prompt").focus()
            self.tell("Type a question first." if target else "Name a module to ask.")
            return
        self._sending = True
        self.tell("asking …")
        asked = Asked(self.query_one("#source", Input).value.strip(), target, prompt)
        # Not this dialog's work: whoever leaves it now has asked all the same.
        self.app.run_worker(self._sent(asked), exit_on_error=True)  # pyright: ignore[reportUnknownMemberType]

    async def _sent(self, asked: Asked) -> None:
        problem = await self._send(asked)
        self._sending = False
        if not self.is_attached:
            return
        if problem:
            self.tell(problem)
        else:
            self.dismiss(asked)

    def tell(self, text: str) -> None:
        """Say what is the matter."""
        self.query_one("#problem", Static).update(printable(text))

    def offer(self, names: Iterable[str]) -> None:
        """Complete the names of modules."""
        self._known = SuggestFromList(names)
        self._complete()

    def _complete(self) -> None:
        for field in self.query(Input):
            field.suggester = self._known

    def action_cancel(self) -> None:
        """Ask nothing."""
        self.dismiss(None)
