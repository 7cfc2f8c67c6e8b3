"""The screen of the events."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from claude_comms.events import Event, FocusLevel, Missed, Priority
from claude_comms.text import one_line
from claude_comms.tui._figures import clock
from claude_comms.tui._table import Column, ListTable
from claude_comms.tui._view import AboutLine, FilterLine, View
from claude_comms.tui.dialogs import ReadingScreen
from claude_comms.tui.model import USUAL, EventQuery, in_full, words_of

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from claude_comms.tui._table import Cell

__all__ = ["EventsView"]

_COLUMNS = (
    Column("TIME", 8),
    Column("TYPE", 21),
    Column("WHERE", 17, flexible=1),
    Column("WHAT", 20, flexible=3),
    Column("SUBJECT", 16, from_width=140),
    Column("SEQ", 9, right=True, from_width=120),
)
_TONES = {Priority.CRITICAL: "bad", Priority.HIGH: "warn", Priority.LOW: "dim"}
_SIGNS = {Priority.CRITICAL: "!! ", Priority.HIGH: "! "}
_SHOWS_EVERY_S = 0.25
_NONE = {
    FocusLevel.EVERYTHING: "Nothing yet: what happens from now on stands here.",
    FocusLevel.ATTENTION: "Nothing yet that interrupts. g shows what the focus held back.",
    FocusLevel.CRITICAL: "Nothing critical yet. g shows what the focus held back.",
}
_TYPED = f"!{USUAL} "
"""With the blank, so that what is typed after it is a word of its own."""
_SYNTAX = "turn.*, marker/*, @module, !high, i_01…, words"


def _key(row: Event | Missed) -> str:
    return f"{row.seq}" if isinstance(row, Event) else f"missed-{row.first}"


def _cells(row: Event | Missed) -> list[Cell]:
    if isinstance(row, Missed):
        return ["", ("missed", "warn"), "", (f"{row.first} to {row.last}: {row.reason}", "warn"), "", str(row.last)]
    tone = _TONES.get(row.priority, "")
    return [
        (clock(row.time), "dim"),
        (row.type, tone),
        row.namespace.replace("/", " → "),
        (_SIGNS.get(row.priority, "") + words_of(row), tone),
        (row.subject, "dim"),
        (str(row.seq), "dim"),
    ]


class _EventTable(ListTable[Event | Missed]):
    """The list; what its keys do here has names."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "In full"),
        Binding("end,G", "edge(1)", "Follow"),
    ]


class EventsView(View[Event | Missed]):
    """What happens, as far as filter and focus let it through."""

    TITLE = "Events"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy"),
        Binding("f", "app.focus_level", "Focus"),
        Binding("g", "app.digest", "Digest"),
    ]
    _shown: tuple[int, str] = (-1, "")
    _shown_at = float("-inf")

    def compose(self) -> ComposeResult:
        """The filter, what it leaves, and a line that says so."""
        yield FilterLine(f"/ filter: {_SYNTAX}", otherwise=_TYPED)
        yield _EventTable(_COLUMNS, _key, _cells, tail=True)
        yield AboutLine()

    def bring_up_to_date(self, *, changed: bool) -> None:
        """List what fits, some times a second."""
        events, now_s = self.desk.world.events, self.desk.world.clock()
        shown = (events.version, self.filter_text)
        if shown != self._shown and now_s - self._shown_at >= _SHOWS_EVERY_S:
            self._shown, self._shown_at = shown, now_s
            self.table.empty = self.none_of(_NONE[events.focus.level])
            self.table.show(events.rows(EventQuery.parse(self.filter_text)))
        self._say_where()

    def on_input_changed(self) -> None:
        """Filter as it is typed."""
        self._shown_at = float("-inf")
        self.bring_up_to_date(changed=True)

    def on_descendant_focus(self) -> None:
        """Into the filter, or out of it."""
        self._say_where()

    def on_list_table_chosen(self, event: ListTable.Chosen) -> None:
        """Another row."""
        event.stop()
        self._say_where()

    def _say_where(self) -> None:
        events, table = self.desk.world.events, self.table
        follows = "following" if table.at_end else "not following (End)"
        focus, held = events.focus.level, events.focus.held_back
        held_back = f" · focus {focus}: {held:,} held back (g)" if focus != "everything" else ""
        if events.unread:
            digests = f"{events.unread} unread digest{'s' if events.unread > 1 else ''}"
            held_back = (
                f" · {focus}: {held:,} held back, {digests} (g)" if focus != "everything" else f" · {digests} (g)"
            )
        unknown = EventQuery.parse(self.filter_text).unknown
        if unknown:
            held_back = f" · no priority is called {unknown[-1]!r}: low, normal, high, critical"
        elif self.query_one(FilterLine).has_focus:
            held_back = f" · {_SYNTAX}"
        text = f"{follows} · {len(table.items):,} of {events.seen:,} events listed{held_back}"
        self.tell_about(one_line(text))

    def on_list_table_opened(self, event: ListTable.Opened) -> None:
        """Enter on a row."""
        event.stop()
        self.action_read()

    def action_read(self) -> None:
        """The chosen event in full."""
        row = self.chosen
        if isinstance(row, Event):
            self.monitor.push_screen(ReadingScreen(f"{row.type} · {row.seq}", in_full(row)))

    def action_copy(self) -> None:
        """Copy the chosen event's envelope."""
        row = self.chosen
        self.copy(in_full(row) if isinstance(row, Event) else "", "event")
