"""The screen of the conversations."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from claude_comms.errors import ClaudeCommsError
from claude_comms.text import one_line, shorten
from claude_comms.tui._figures import day_and_time
from claude_comms.tui._pane import TranscriptPane
from claude_comms.tui._table import Column, ListTable
from claude_comms.tui._threads import ask_anew, ask_in, export_thread
from claude_comms.tui._view import AboutLine, FilterLine, View
from claude_comms.tui.model import entries_of, last_answer

if TYPE_CHECKING:
    from datetime import datetime

    from textual.app import ComposeResult

    from claude_comms.conversations import SearchHit
    from claude_comms.tui._table import Cell
    from claude_comms.tui.model import Entry
    from claude_comms.types import Conversation

__all__ = ["ConversationsView"]

_COLUMNS = (
    Column("WHEN", 11),
    Column("PAIR", 16, flexible=1),
    Column("TITLE", 20, flexible=3),
    Column("BACKEND", 11, from_width=100),
    Column("N", 4, right=True),
)
_MOST = 200
_LISTS_EVERY_S = 2.0
_TYPING_PAUSE_S = 0.25
_EMPTY = "No conversations. Press n to ask somebody something."


@dataclass(frozen=True, slots=True)
class _Row:
    thread_id: str
    source: str
    target: str
    when: datetime
    text: str
    backend: str
    messages: int | None

    @classmethod
    def of(cls, conversation: Conversation) -> _Row:
        c = conversation
        return cls(c.thread_id, c.source, c.target, c.updated_at, c.title, c.backend or "", c.message_count)

    @classmethod
    def found(cls, hit: SearchHit) -> _Row:
        return cls(hit.thread_id, hit.source, hit.target, hit.created_at, hit.excerpt, "", None)


def _cells(row: _Row) -> list[Cell]:
    messages = "" if row.messages is None else str(row.messages)
    return [day_and_time(row.when), f"{row.source} → {row.target}", row.text, row.backend, messages]


class ConversationsView(View[_Row]):
    """Conversations, or those with a message that holds what is searched for, and under them the chosen one."""

    TITLE = "Conversations"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "ask", "Go on"),
        Binding("n", "new", "New"),
        Binding("x", "export", "Export"),
        Binding("y", "copy", "Copy"),
        Binding("z", "zoom", "Zoom"),
    ]
    _listed_at = float("-inf")
    _heard = -1
    _wanted: str | None = None
    """What is to be chosen once it is listed. Until then nothing is."""
    _beside: _Row | None = None
    """One that somebody wanted to see and that is not among those listed."""
    _cut = ""

    def compose(self) -> ComposeResult:
        """The search, the list, a line about the chosen one, and its messages."""
        yield FilterLine("/ search in all messages")
        yield ListTable(_COLUMNS, lambda row: row.thread_id, _cells, empty="Loading …")
        yield AboutLine()
        yield TranscriptPane(empty="Choose a conversation.")

    def on_mount(self) -> None:
        """Nothing is loaded before it is shown."""
        self._thread: list[Entry] = []
        self._loaded: str | None = None

    # --- the list ------------------------------------------------------------------------------

    def bring_up_to_date(self, *, changed: bool) -> None:
        """Load again what events say has changed."""
        changes, now_s = self.desk.world.changes, self.desk.world.clock()
        heard = changes["message"] + changes["conversation"]
        if heard != self._heard and now_s - self._listed_at >= _LISTS_EVERY_S:
            self._heard, self._listed_at = heard, now_s
            self.worked("list", self._list)
            chosen = self.chosen
            if chosen is not None:
                self.worked("thread", self._load, chosen.thread_id)
        self._show_thread()

    def on_input_changed(self) -> None:
        """Search as it is typed."""
        self.worked("list", self._list, pause_s=_TYPING_PAUSE_S)

    async def _list(self, pause_s: float = 0.0) -> None:
        await asyncio.sleep(pause_s)
        text = self.filter_text.strip()
        engine = self.desk.engine
        try:
            if text:
                hits = await engine.search_conversations(text, limit=_MOST)
                first = {hit.thread_id: hit for hit in reversed(hits)}
                rows = [_Row.found(hit) for hit in hits if first[hit.thread_id] is hit]
                self._cut = f"the best {_MOST} messages" if len(hits) >= _MOST else ""
            else:
                rows = [_Row.of(found) for found in await engine.list_conversations(limit=_MOST)]
                self._cut = f"the latest {_MOST}" if len(rows) >= _MOST else ""
                rows = await self._with_wanted(rows)
        except ClaudeCommsError as error:
            self.not_loaded(error)
            self._heard = -1
            return
        self.table.empty = f"No message holds {shorten(text, 30)!r}. Escape shows all." if text else _EMPTY
        self.table.show(rows)
        wanted, self._wanted = self._wanted, None
        if wanted is not None and self.table.choose(wanted) and wanted != self._loaded:
            self.worked("thread", self._load, wanted)

    async def _with_wanted(self, rows: list[_Row]) -> list[_Row]:
        """The rows, and before them the one that was wanted where it is old or put away."""
        wanted = self._wanted
        if wanted is not None and all(row.thread_id != wanted for row in rows):
            try:
                self._beside = _Row.of(await self.desk.engine.get_conversation(wanted))
            except ClaudeCommsError as error:
                self.complain(str(error))
        beside = self._beside
        if beside is None or any(row.thread_id == beside.thread_id for row in rows):
            return rows
        return [beside, *rows]

    @property
    def chosen(self) -> _Row | None:
        """What is chosen; nothing while what is wanted is looked for."""
        return None if self._wanted is not None else self.table.chosen

    def open(self, thread_id: str) -> None:
        """Choose a conversation, as soon as it is listed."""
        self._wanted = thread_id
        self.query_one(FilterLine).value = ""
        self.worked("list", self._list)

    # --- the chosen one ------------------------------------------------------------------------

    def on_list_table_chosen(self, event: ListTable.Chosen) -> None:
        """Another one's messages."""
        event.stop()
        if event.key is not None:
            self.worked("thread", self._load, event.key)
        else:
            self._show_none()

    def _show_none(self) -> None:
        """No conversation is chosen: what was read before belongs to none that is listed."""
        self.workers.cancel_group(self, f"{self.id}-thread")  # pyright: ignore[reportUnknownMemberType]
        self._thread, self._loaded = [], None
        self.tell_about("")
        self.query_one(TranscriptPane).show("", ())

    async def _load(self, thread_id: str) -> None:
        try:
            conversation = await self.desk.engine.get_conversation(thread_id)
        except ClaudeCommsError as error:
            if self.desk.feed.connection == "connected":
                self.complain(str(error))
            return
        self._thread = entries_of(conversation)
        self._loaded = thread_id
        pair = f"{conversation.source} → {conversation.target}"
        parts = (f"listed: {self._cut}" if self._cut else "", pair, conversation.thread_id, conversation.title)
        self.tell_about(one_line(" · ".join(part for part in parts if part)))
        self._show_thread()

    def _show_thread(self) -> None:
        if self._loaded is not None:
            self.query_one(TranscriptPane).show(self._loaded, self._thread, whole=self.has_class("zoomed"))

    def action_zoom(self) -> None:
        """The thread on the whole screen, and back."""
        zoomed = self.toggle_class("zoomed").has_class("zoomed")
        (self.query_one(TranscriptPane) if zoomed else self.table).focus()

    def on_list_table_opened(self) -> None:
        """Enter on a row."""
        self.action_zoom()

    # --- doing things --------------------------------------------------------------------------

    def _row(self) -> _Row | None:
        row = self.chosen
        if row is None:
            self.complain("there is no conversation to do that with")
        return row

    def action_ask(self) -> None:
        """Go on with the chosen one."""
        row = self._row()
        if row is not None:
            ask_in(self, row.source, row.target, thread_id=row.thread_id, heading="Go on")

    def action_new(self) -> None:
        """Begin a new one, with the pair of the chosen one to start from."""
        row = self.chosen
        ask_anew(self, source=row.source if row else "", target=row.target if row else "")

    def action_export(self) -> None:
        """Write it to a file."""
        row = self._row()
        if row is not None:
            export_thread(self, row.thread_id)

    def action_copy(self) -> None:
        """Copy its last answer."""
        self.copy(last_answer(self._thread), "answer")
