"""Questions and answers as they are read: Markdown, with tools, cost and trouble between."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from claude_comms.text import shorten
from claude_comms.tui._text import markdown_lines, plain_lines
from claude_comms.tui.model import Entry, EntryKind

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TranscriptPane"]

_SIGNS = {
    EntryKind.TOOL: ("⚙ ", "dim"),
    EntryKind.NOTE: ("· ", "dim"),
    EntryKind.TROUBLE: ("✗ ", "bad"),
    EntryKind.COST: ("Σ ", "dim"),
}
_LONGEST_WHOLE = 4_000
"""An answer under way is drawn anew with each piece; of a longer one only what stands behind its last paragraph."""


class TranscriptPane(ScrollView, can_focus=True):
    """Shows entries, and stays at their end while the reader is there."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"pane--asks", "pane--answers", "pane--dim", "pane--bad", "pane--warn"}
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
        self._lines: list[Strip] = []
        self._drawn: dict[tuple[int, int, bool], list[Strip]] = {}
        self._settled: dict[int, tuple[int, list[Strip]]] = {}
        """Of an answer under way: how much of it is drawn for good, and its lines."""

    def show(self, about: str, entries: Iterable[Entry], *, cut: bool = False) -> None:
        """Show these entries of what `about` names; another one begins at its end."""
        listed = list(entries)
        width = max(10, self.size.width - 1)
        shown = (about, width, cut, *(entry.stamp for entry in listed))
        if shown == self._shown:
            return
        follows = about != self._about or self._at_end()
        self._shown, self._about = shown, about
        self._lines = self._all_lines(listed, width, cut=cut)
        self.virtual_size = Size(width, len(self._lines))
        if follows:
            self.scroll_end(animate=False, force=True, immediate=True)
        self.refresh()

    def forget(self) -> None:
        """Draw everything anew: the colours have changed."""
        self._drawn.clear()
        self._settled.clear()
        self._shown = ()

    def _at_end(self) -> bool:
        return self.scroll_offset.y >= self.max_scroll_y - 1

    def _all_lines(self, entries: list[Entry], width: int, *, cut: bool) -> list[Strip]:
        lines: list[Strip] = []
        if cut and entries:
            lines.append(self._line("what was said before is not kept here; see Conversations", "pane--dim"))
        drawn: dict[tuple[int, int, bool], list[Strip]] = {}
        before: Entry | None = None
        for entry in entries:
            if lines and _stands_apart(before, entry):
                lines.append(Strip([]))
            key = (*entry.stamp[:2], entry.open)
            drawn[key] = self._drawn.get(key) or self._entry(entry, width, headed=_heads(before, entry))
            lines += drawn[key]
            before = entry
        self._drawn = drawn
        self._settled = {n: kept for n, kept in self._settled.items() if any(e.number == n and e.open for e in entries)}
        return lines

    def _entry(self, entry: Entry, width: int, *, headed: bool) -> list[Strip]:
        sign = _SIGNS.get(entry.kind)
        if sign is not None:
            mark, tone = sign
            return [self._line(f"{mark}{line}", f"pane--{tone}") for line in _plain(entry.text, width - 2)]
        asks = entry.kind is EntryKind.QUESTION
        does = "asks" if asks else "answers …" if entry.open else "answers"
        heading = f"{shorten(entry.speaker, 60) or 'somebody'} {does}"
        head = [self._line(heading, "pane--asks" if asks else "pane--answers")] if headed else []
        return head + (self._growing(entry, width) if entry.open else _strips(markdown_lines(entry.text, width)))

    def _growing(self, entry: Entry, width: int) -> list[Strip]:
        """An answer under way: its finished paragraphs are drawn once."""
        done, lines = self._settled.get(entry.number, (0, []))
        if done > len(entry.text):
            done, lines = 0, []
        if len(entry.text) - done > _LONGEST_WHOLE:
            end = entry.text.rfind("\n\n", done, len(entry.text) - 1)
            if end > done and entry.text.count("```", done, end) % 2 == 0:
                lines = [*lines, *_strips(markdown_lines(entry.text[done:end], width)), Strip([])]
                done = end + 2
                self._settled[entry.number] = (done, lines)
        rest = entry.text[done:]
        draw = markdown_lines if len(rest) <= 2 * _LONGEST_WHOLE else plain_lines
        return [*lines, *_strips(draw(rest, width))]

    def _line(self, text: str, component: str) -> Strip:
        return Strip([Segment(text, self.get_component_rich_style(component, partial=True))])

    def render_line(self, y: int) -> Strip:
        """One line of what is to be read."""
        width, base = self.size.width, self.rich_style
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
    """Lines for the screen, of plain styles only."""
    return [Strip([Segment(part.text, _quiet(part.style)) for part in line]) for line in lines]


def _quiet(style: Style | None) -> Style | None:
    """The style without anything that acts: links, meta data."""
    if style is None or (style.link is None and not style.meta):
        return style
    return Style(bold=style.bold, italic=style.italic, underline=style.underline, dim=style.dim, strike=style.strike)
