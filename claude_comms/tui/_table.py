"""A table that draws only the lines on the screen, so that thousands of rows cost what twenty cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, TypeVar

from rich.segment import Segment
from rich.style import Style as RichStyle
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from claude_comms.tui._lines import LineView
from claude_comms.tui._text import fitted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.style import Style
    from textual import events

__all__ = ["Cell", "Column", "ListTable"]

Item = TypeVar("Item")
Cell = str | tuple[str, str]
"""A cell's text, maybe with its tone: ``good``, ``warn``, ``bad``, ``dim``."""

_MARK = 2
"""Columns for the mark of the row that is chosen: it has to be seen without colour, too."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, its width, and from which width of the table on there is room for it."""

    title: str
    width: int
    right: bool = False
    flexible: int = 0
    """Its share of what the others leave; then `width` is the least."""
    from_width: int = 0
    below_width: int = 10_000
    """From there on another column says the same with more room."""

    def has_room(self, total: int) -> bool:
        """Whether a table of `total` columns shows it."""
        return self.from_width <= total < self.below_width


class _Said(NamedTuple):
    row: int
    chosen: bool
    cells: Sequence[Cell]


class ListTable(LineView, Generic[Item], can_focus=True):
    """Rows of `items`, one of them chosen. It stays chosen, by its key, when the rows change.

    `key_of` gives an item's key, `cells_of` its cells, one for each column, called only for rows on the screen.
    With `tail` the last row is chosen and stays so as rows come, until another one is.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "listtable--header", "listtable--cursor", "listtable--blurred",
        "listtable--good", "listtable--warn", "listtable--bad", "listtable--dim",
    }  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "edge(-1)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
        Binding("enter", "open", "Open", show=False),
    ]

    class Chosen(Message):
        """Another row is the chosen one, or none is."""

        def __init__(self, table: ListTable[object], key: str | None) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> ListTable[object]:
            """The table."""
            return self.table

    class Opened(Chosen):
        """Enter, or a second click, on the chosen row."""

    class HeaderClicked(Message):
        """A column's heading was clicked."""

        def __init__(self, table: ListTable[object], title: str) -> None:
            super().__init__()
            self.table = table
            self.title = title

        @property
        def control(self) -> ListTable[object]:
            """The table."""
            return self.table

    def __init__(
        self,
        columns: Sequence[Column],
        key_of: Callable[[Item], str],
        cells_of: Callable[[Item], Sequence[Cell]],
        *,
        empty: str = "",
        tail: bool = False,
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.empty = empty
        self.items: Sequence[Item] = ()
        self.marked = ""
        """The heading that has `mark` behind it."""
        self.mark = ""
        self._key_of = key_of
        self._cells_of = cells_of
        self._tail = tail
        self._at_end = tail
        self._row = 0
        self._key: str | None = None
        self._said: list[object] = []
        """What the lines of the screen said when they were last looked at."""
        self._styles: dict[str, Style] = {}

    # --- rows ----------------------------------------------------------------------------------

    def show(self, items: Sequence[Item]) -> None:
        """Show these; the chosen one stays chosen while it is among them."""
        self.items = items
        self.set_lines(len(items) + 1)
        self._put_mark(len(items) - 1 if self._tail and self._at_end else self._row_of(self._key))
        self.draw_changed()

    def draw_changed(self) -> None:
        """Draw those lines of the screen again that say something else than before."""
        before, self._said = self._said, [self._says(y) for y in range(self.size.height)]
        self.draw_lines(before, self._said)

    def _says(self, y: int) -> object:
        """What line `y` of the screen says."""
        if y == 0:
            return self.marked, self.mark, self.columns
        row = self.scroll_offset.y + y - 1
        if row >= len(self.items):
            return self.empty if not self.items else None
        return _Said(row, row == self._row, self._cells_of(self.items[row]))

    def _cells(self, y: int, row: int) -> Sequence[Cell]:
        """What the row says there, as when it was last looked at: to find that out twice takes twice as long."""
        said = self._said[y] if y < len(self._said) else None
        return said.cells if isinstance(said, _Said) and said.row == row else self._cells_of(self.items[row])

    @property
    def chosen(self) -> Item | None:
        """The chosen item."""
        return self.items[self._row] if 0 <= self._row < len(self.items) else None

    @property
    def at_end(self) -> bool:
        """Whether the last row is the chosen one."""
        return self._at_end

    @property
    def titles(self) -> list[str]:
        """The headings that there is room for."""
        return [column.title for column in self.columns if column.has_room(self.size.width)]

    def choose(self, key: str) -> bool:
        """Choose the row of `key`; whether there is one."""
        self._choose(self._row_of(key))
        return self._key == key

    def _row_of(self, key: str | None) -> int:
        """Where `key` is now; where it was, if it is gone."""
        if key is not None:
            if 0 <= self._row < len(self.items) and self._key_of(self.items[self._row]) == key:
                return self._row
            for row, item in enumerate(self.items):
                if self._key_of(item) == key:
                    return row
        return self._row

    def _choose(self, row: int) -> None:
        """Choose a row now: what rows say is for the next frame, or a key would wait until they are all drawn."""
        before, top = self._row, self.scroll_offset.y
        self._put_mark(row)
        if self.scroll_offset.y == top:
            for moved in {before, self._row}:
                self._draw_mark(moved - top + 1)

    def _draw_mark(self, y: int) -> None:
        if not 0 < y < len(self._said):
            return
        said = self._said[y]
        if isinstance(said, _Said):
            self._said[y] = said._replace(chosen=said.row == self._row)
        self.refresh_line(y + self.scroll_offset.y)

    def _put_mark(self, row: int) -> None:
        self._row = max(0, min(row, len(self.items) - 1))
        self._at_end = self._row >= len(self.items) - 1
        chosen = self.chosen
        key = None if chosen is None else self._key_of(chosen)
        if key != self._key:
            self._key = key
            self.post_message(self.Chosen(self, key))  # pyright: ignore[reportArgumentType]
        if not self._scroll_to_row():
            # New rows are not yet part of what can be scrolled over.
            self.call_after_refresh(self._scroll_to_row)

    def _scroll_to_row(self) -> bool:
        """Bring the chosen row onto the screen; whether it was there already."""
        room = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self._row < top:
            self.scroll_to(y=self._row, animate=False)
        elif self._row >= top + room:
            self.scroll_to(y=self._row - room + 1, animate=False)
        else:
            return True
        return False

    def on_resize(self) -> None:
        """Keep the chosen row on the screen."""
        self.set_lines(len(self.items) + 1)
        self._scroll_to_row()

    # --- keys and mouse ------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        """So many rows down."""
        self._choose(self._row + by)

    def action_page(self, by: int) -> None:
        """So many screens down."""
        self._choose(self._row + by * max(1, self.size.height - 2))

    def action_edge(self, to: int) -> None:
        """To the first or the last row."""
        self._choose(0 if to < 0 else len(self.items) - 1)

    def action_open(self) -> None:
        """Open the chosen row."""
        if self._key is not None:
            self.post_message(self.Opened(self, self._key))  # pyright: ignore[reportArgumentType]

    def on_click(self, event: events.Click) -> None:
        """Choose a row, open the chosen one, or sort by a heading."""
        if event.y == 0:
            title = self._title_at(event.x)
            if title:
                self.post_message(self.HeaderClicked(self, title))  # pyright: ignore[reportArgumentType]
            return
        row = self.scroll_offset.y + event.y - 1
        if row >= len(self.items):
            return
        if row == self._row and event.chain > 1:
            self.action_open()
        self._choose(row)

    def _title_at(self, x: int) -> str:
        at = _MARK
        for column, width in self._layout():
            if at <= x < at + width + 1:
                return column.title
            at += width + 1
        return ""

    # --- drawing -------------------------------------------------------------------------------

    def _layout(self) -> list[tuple[Column, int]]:
        """The columns that there is room for, and how wide each is."""
        total = self.size.width
        shown = [column for column in self.columns if column.has_room(total)]
        left = total - _MARK - sum(column.width + 1 for column in shown)
        shares = sum(column.flexible for column in shown) or 1
        return [(c, c.width + max(0, left) * c.flexible // shares if c.flexible else c.width) for c in shown]

    def render_line(self, y: int) -> Strip:
        """One line: the headings, a row, or nothing."""
        width = self.size.width
        if y == 0:
            return self._header(width)
        row = self.scroll_offset.y + y - 1
        if not self.items and y == 1 and self.empty:
            return Strip([Segment(fitted("  " + self.empty, width), self._style("") + self._tone("dim"))])
        if row >= len(self.items):
            return Strip.blank(width, self._style(""))
        return self._drawn(self._cells(y, row), width, chosen=row == self._row)

    def _header(self, width: int) -> Strip:
        titles = [fitted(self._title(column, size), size, right=column.right) for column, size in self._layout()]
        return Strip([Segment(fitted(" " * _MARK + " ".join(titles), width), self._style("header"))])

    def _title(self, column: Column, size: int) -> str:
        """What stands over a column; the mark is always seen."""
        return column.title[: size - 1] + self.mark if column.title == self.marked else column.title

    def _drawn(self, cells: Sequence[Cell], width: int, *, chosen: bool) -> Strip:
        name = ("cursor" if self.has_focus else "blurred") if chosen else ""
        base = self._style(name)
        segments: list[Segment] = []
        plain = "▸ " if chosen else "  "
        for (column, size), cell in zip(self._layout(), self._shown(cells), strict=True):
            text, tone = (cell, "") if isinstance(cell, str) else cell
            said = fitted(text, size, right=column.right)
            if tone and not chosen:  # colours that can be read on the background cannot on that of the chosen row
                # As few segments as there can be: each is looked at several times on its way to the terminal.
                segments += [Segment(plain, base), Segment(said, self._toned(tone))]
                plain = " "
            else:
                plain += f"{said} "
        strip = Strip([*segments, Segment(plain, base)]).adjust_cell_length(width - 1, base).crop(0, width - 1)
        # The last column is the scroll bar's. Rich keeps 16,384 segments that were cut in two; so these are not.
        return Strip([*strip, Segment(" ", base)], width)

    def _shown(self, cells: Sequence[Cell]) -> list[Cell]:
        total = self.size.width
        return [cell for column, cell in zip(self.columns, cells, strict=True) if column.has_room(total)]

    def _style(self, name: str) -> Style:
        """A style by name, kept until the colours change: working one out takes longer than drawing a line."""
        style = self._styles.get(name)
        if style is None:
            style = self.get_component_rich_style(f"listtable--{name}") if name else self.rich_style
            self._styles[name] = style
        return style

    def _toned(self, tone: str) -> Style:
        style = self._styles.get(f"toned {tone}")
        if style is None:
            style = self._styles[f"toned {tone}"] = self._style("") + self._tone(tone)
        return style

    def _tone(self, tone: str) -> Style:
        """A colour, and nothing else but what is bold."""
        style = self._styles.get(f"tone {tone}")
        if style is None:
            whole = self.get_component_rich_style(f"listtable--{tone}", partial=True)
            style = self._styles[f"tone {tone}"] = RichStyle(color=whole.color, bold=whole.bold)
        return style

    def notify_style_update(self) -> None:
        """Colours may be others."""
        super().notify_style_update()
        self._styles.clear()
