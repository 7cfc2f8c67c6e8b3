"""Questions and answers as they are read: Markdown, with tools, cost and trouble between."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.strip import Strip

from claude_comms.text import shorten, visible
from claude_comms.tui._blocks import blocks_of
from claude_comms.tui._lines import LineView
from claude_comms.tui._text import markdown_lines, plain_lines
from claude_comms.tui.model import Entry, EntryKind

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TranscriptPane"]

_Drawn = dict[tuple[str, int, str], list[Strip]]

_SIGNS = {
    EntryKind.TOOL: ("⚙ ", "dim"),
    EntryKind.NOTE: ("· ", "dim"),
    EntryKind.TROUBLE: ("✗ ", "bad"),
    EntryKind.COST: ("Σ ", "dim"),
}
_LONGEST_HEAD = 60
_WHOLE_CHARACTERS = 64_000
"""What is drawn at once where all is wanted, and again each time the reader comes to its beginning: a megabyte of
Markdown takes half a minute to draw."""


class TranscriptPane(LineView, can_focus=True):
    """Shows entries, and stays at their end while the reader is there.

    Only as much as fills the screen some times is drawn, from the end backwards. With `whole` it is more, and who goes
    up to the beginning of that finds what was said before it.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"pane--asks", "pane--answers", "pane--dim", "pane--bad"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "Down", show=False),
        Binding("k", "scroll_up", "Up", show=False),
        Binding("G", "scroll_end", "End", show=False),
    ]

    def __init__(self, *, empty: str = "", id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.empty = empty
        self._shown: tuple[object, ...] = ()
        self._about = ""
        self._given: tuple[str, Sequence[Entry], bool, bool] = ("", (), False, False)
        self._sticks = True
        self._lines: list[Strip] = []
        self._drawn: _Drawn = {}
        """What was drawn for the entries that are shown, by kind, width and text."""
        self._further = 0
        """So many characters more are drawn, because the reader went up to them."""
        self._more_above = False
        self._base: Style | None = None
        self._tones: dict[str, Style] = {}

    def show(self, about: str, entries: Sequence[Entry], *, cut: bool = False, whole: bool = False) -> None:
        """Show these entries of what `about` names; another one begins at its end.

        `cut`: something was said before them. `whole`: draw as many of them as the reader wants to see.
        """
        if about != self._given[0] or not whole:
            self._further = 0
        self._given = (about, entries, cut, whole)
        if not self.size.width:  # it is not on the screen yet
            return
        width = max(10, self.size.width - 1)
        last = entries[-1].stamp if entries else None
        shown = (about, width, cut, whole, self._further, len(entries), entries[0].number if entries else 0, last)
        if shown == self._shown:
            return
        self._sticks = about != self._about or self._sticks
        self._shown, self._about = shown, about
        room = max(1_000, self.size.width * self.size.height, _WHOLE_CHARACTERS + self._further if whole else 0)
        before = self._on_screen()
        self._lines = self._all_lines(entries, width, room, cut=cut, hint="go up for" if whole else "z shows")
        laid_out = self.set_lines(len(self._lines))
        self._keep_to_end()
        if laid_out:
            self.call_after_refresh(self._keep_to_end)
        self.draw_lines(before, self._on_screen())

    def _on_screen(self) -> list[Strip]:
        """The lines on the screen now."""
        top = self.scroll_offset.y
        return self._lines[top : top + self.size.height]

    def _keep_to_end(self) -> None:
        if self._sticks:
            self.scroll_end(animate=False, force=True, immediate=True)

    def on_resize(self) -> None:
        """Draw it for the new width, and stay at the end where the reader is there."""
        about, entries, cut, whole = self._given
        self.show(about, entries, cut=cut, whole=whole)
        self._keep_to_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whether the reader is at the end."""
        super().watch_scroll_y(old_value, new_value)
        if self.size.height:
            self._sticks = new_value >= self.max_scroll_y - 1
        if new_value < min(old_value, self.size.height) and self._more_above and self._given[3] and not self._sticks:
            self.call_next(self._go_further)

    def _go_further(self) -> None:
        """Draw what was said before, and stay where the reader is."""
        self._further += _WHOLE_CHARACTERS
        lines = len(self._lines)
        about, entries, cut, whole = self._given
        self.show(about, entries, cut=cut, whole=whole)
        self.scroll_to(y=self.scroll_y + len(self._lines) - lines, animate=False, force=True, immediate=True)

    def forget(self) -> None:
        """Draw everything anew: the colours have changed."""
        self._drawn.clear()
        self._shown = ()

    def notify_style_update(self) -> None:
        """Colours may be others."""
        super().notify_style_update()
        self._base = None
        self._tones.clear()

    def _all_lines(self, entries: Sequence[Entry], width: int, room: int, *, cut: bool, hint: str) -> list[Strip]:
        """The lines of the entries, from the last one backwards until `room` characters are drawn."""
        old, self._drawn = self._drawn, {}
        parts: list[list[Strip]] = []
        left = room
        self._more_above = False
        for at in range(len(entries) - 1, -1, -1):
            if left <= 0:
                self._more_above = True
                parts.append([self._line(f"({hint} what was said before)", "pane--dim")])
                break
            before = entries[at - 1] if at else None
            lines, taken = self._entry(entries[at], before, width, old, left)
            parts.append([Strip([]), *lines] if _stands_apart(before, entries[at]) else lines)
            left -= taken
        else:
            if cut and entries:
                parts.append([self._line("(what was said before is not kept here; see Conversations)", "pane--dim")])
        return [line for part in reversed(parts) for line in part]

    def _entry(
        self,
        entry: Entry,
        before: Entry | None,
        width: int,
        old: _Drawn,
        room: int,
    ) -> tuple[list[Strip], int]:
        """The lines of an entry, the last ones of a long one, and how many characters they say."""
        sign = _SIGNS.get(entry.kind)
        if sign is not None:
            mark, tone = sign
            lines = [self._line(f"{mark}{line}", f"pane--{tone}") for line in _plain(entry.text, width - 2)]
            return lines, len(entry.text)
        taken = 0
        parts: list[list[Strip]] = []
        for block in reversed(blocks_of(entry.text)):
            if taken >= room:
                self._more_above = True
                return [line for part in reversed(parts) for line in part], taken
            if not block.strip():
                continue
            key = (entry.kind, width, block)
            self._drawn[key] = lines = old.get(key) or self._drawn.get(key) or _strips(markdown_lines(block, width))
            # A blank line stood between this block and the next one.
            parts.append([*lines, Strip([])] if parts and block.endswith("\n\n") else lines)
            taken += len(block) + 1
        if _heads(before, entry):
            parts.append([self._heading(entry)])
        return [line for part in reversed(parts) for line in part], taken

    def _heading(self, entry: Entry) -> Strip:
        asks = entry.kind is EntryKind.QUESTION
        does = "asks" if asks else "answers …" if entry.open else "answers"
        heading = f"{shorten(visible(entry.speaker), _LONGEST_HEAD) or 'somebody'} {does}"
        return self._line(heading, "pane--asks" if asks else "pane--answers")

    def _line(self, text: str, component: str) -> Strip:
        style = self._tones.get(component)
        if style is None:
            style = self._tones[component] = self.get_component_rich_style(component, partial=True)
        return Strip([Segment(text, style)])

    def render_line(self, y: int) -> Strip:
        """One line of what is to be read."""
        if self._base is None:
            self._base = self.rich_style
        width, base = self.size.width, self._base
        row = self.scroll_offset.y + y
        if row < len(self._lines):
            line = self._lines[row]
            return line.apply_style(base).adjust_cell_length(width, base).crop(0, width)
        if y == 0 and self.empty and not self._lines:
            empty = self._line(self.empty, "pane--dim")
            return empty.apply_style(base).adjust_cell_length(width, base).crop(0, width)
        return Strip.blank(width, base)


def _stands_apart(before: Entry | None, entry: Entry) -> bool:
    """An empty line stands before questions and answers, and before the first of the small lines after them."""
    large = (EntryKind.QUESTION, EntryKind.ANSWER)
    return before is not None and (entry.kind in large or before.kind in large)


def _heads(before: Entry | None, entry: Entry) -> bool:
    """Whether it is said who speaks: not again for what the same turn's answer goes on with after a tool."""
    return (
        entry.kind is not EntryKind.ANSWER
        or before is None
        or before.kind in (EntryKind.QUESTION, EntryKind.COST)
        or (before.turn_id != entry.turn_id)
    )


def _plain(text: str, width: int) -> list[str]:
    return ["".join(part.text for part in line) for line in plain_lines(text, width)]


def _strips(lines: list[list[Segment]]) -> list[Strip]:
    """Lines for the screen, of plain styles only, without the blank ones around them."""
    strips = [Strip([Segment(part.text, _quiet(part.style)) for part in line]) for line in lines]
    said = [at for at, strip in enumerate(strips) if strip.text.strip()]
    return strips[said[0] : said[-1] + 1] if said else []


def _quiet(style: Style | None) -> Style | None:
    """The style without anything that acts: links, meta data."""
    if style is None or (style.link is None and not style.meta):
        return style
    return Style(bold=style.bold, italic=style.italic, underline=style.underline, dim=style.dim, strike=style.strike)
