"""The screen of the instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from claude_comms.errors import ClaudeCommsError
from claude_comms.text import one_line
from claude_comms.tui._pane import TranscriptPane
from claude_comms.tui._table import ListTable
from claude_comms.tui._threads import ask_anew, ask_in, export_thread
from claude_comms.tui._view import NOT_LOADED, AboutLine, FilterLine, View
from claude_comms.tui.dialogs import ConfirmDialog
from claude_comms.tui.instances._attach import attach
from claude_comms.tui.instances._rows import COLUMNS, cells_of, key_of, ordered, searched
from claude_comms.tui.model import Watched, contains_all
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from claude_comms.tui._table import Cell
    from claude_comms.types import InstanceInfo

__all__ = ["InstancesView"]

_ORDERS_EVERY_S = 1.0
"""Rows that change places all the time cannot be read."""
_DRAWS_EVERY_S = 0.2
_LATEST_ENTRIES = 20
_EMPTY = "No instances. Press n to ask somebody something."
_LOADING = "Loading …"


class InstancesView(View[Watched]):
    """All instances, and under them what the chosen one is asked and answers."""

    TITLE = "Instances"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "ask", "Ask"),
        Binding("p", "steer('pause')", "Pause"),
        Binding("r", "steer('resume')", "Resume"),
        Binding("i", "steer('interrupt')", "Interrupt"),
        Binding("X", "stop", "Stop", key_display="X"),
        Binding("t", "attach", "Attach"),
        Binding("x", "export", "Export"),
        Binding("y", "copy", "Copy"),
        Binding("n", "new", "New"),
        Binding("z", "zoom", "Zoom"),
        Binding("s", "sort(1)", "Sort"),
        Binding("S", "sort(0)", "Sort the other way", show=False),
        Binding("o", "open_conversation", "Its conversation", show=False),
    ]
    _sorted_by = "PAIR"
    _backwards = False
    _ordered_at = _drawn_at = float("-inf")
    _order: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        """The filter, the list, a line about the chosen one, and its output."""
        yield FilterLine("/ filter: state, module, backend, model, id …")
        yield ListTable(COLUMNS, key_of, self._cells, empty=_LOADING)
        yield AboutLine()
        yield TranscriptPane(empty="Nothing was asked yet.")

    def bring_up_to_date(self, *, changed: bool) -> None:
        """Rows and the line between now; the output some times a second, and so that a key gets in before it."""
        self.table.empty = self.none_of(self._none())
        self.table.show(self._rows())
        self._say_who()
        now_s = self.desk.world.clock()
        if now_s - self._drawn_at >= _DRAWS_EVERY_S:
            self._drawn_at = now_s
            self.call_later(self._show_output)

    # --- rows ----------------------------------------------------------------------------------

    def _cells(self, watched: Watched) -> list[Cell]:
        return cells_of(watched, self.desk.world.clock())

    def _rows(self) -> list[Watched]:
        known, now_s = self.desk.world.board.known, self.desk.world.clock()
        if now_s - self._ordered_at >= _ORDERS_EVERY_S or len(self._order) != len(known):
            self._ordered_at = now_s
            by_now = ordered(list(known.values()), self._sorted_by, now_s, backwards=self._backwards)
            self._order = tuple(map(key_of, by_now))
            upwards = self._backwards
            self.table.marked, self.table.mark = self._sorted_by, "↑" if upwards else "↓"
        words = tuple(self.filter_text.lower().split())
        rows = [known[key] for key in self._order if key in known]
        return [row for row in rows if contains_all(words, searched(row))] if words else rows

    def _none(self) -> str:
        """What an unfiltered list says that is empty."""
        if self.desk.feed.connection != "connected":
            return NOT_LOADED if self.desk.feed.problem else _LOADING
        return _LOADING if self.desk.world.board.stale else _EMPTY

    def _sort_again(self) -> None:
        self._ordered_at = float("-inf")
        self.bring_up_to_date(changed=True)

    def action_sort(self, forward: int) -> None:
        """By the next column that there is room for, or the other way round."""
        if forward:
            titles = self.table.titles
            at = titles.index(self._sorted_by) + 1 if self._sorted_by in titles else 0
            self._sorted_by = titles[at % len(titles)]
            self._backwards = False
        else:
            self._backwards = not self._backwards
        self._sort_again()

    def on_list_table_header_clicked(self, event: ListTable.HeaderClicked) -> None:
        """Sort by it; by the same again, the other way round."""
        self._backwards = not self._backwards if event.title == self._sorted_by else False
        self._sorted_by = event.title
        self._sort_again()

    def on_input_changed(self) -> None:
        """Filter as it is typed."""
        self.bring_up_to_date(changed=True)

    # --- the chosen one ------------------------------------------------------------------------

    def _say_who(self) -> None:
        self.tell_about(one_line(_line_about(self.chosen.info)) if self.chosen is not None else "")

    def _show_output(self) -> None:
        pane = self.query_one(TranscriptPane)
        watched = self.chosen
        if watched is None:
            pane.show("", ())
            return
        said = watched.transcript
        pane.show(key_of(watched), said.entries, cut=said.cut, whole=self.has_class("zoomed"))
        if not watched.seeded and watched.info.thread_id is not None:
            watched.seeded = True
            self.worked("seed", self._seed, watched, watched.info.thread_id)

    def on_list_table_chosen(self, event: ListTable.Chosen) -> None:
        """Another one: who it is at once, its output with the next frame."""
        event.stop()
        self._say_who()
        self._drawn_at = float("-inf")

    async def _seed(self, watched: Watched, thread_id: str) -> None:
        """Put before its output what its conversation held before this monitor came."""
        try:
            conversation = await self.desk.engine.get_conversation(thread_id)
        except ClaudeCommsError:
            watched.seeded = False
            return
        watched.transcript.seed(conversation, _LATEST_ENTRIES)

    def action_zoom(self) -> None:
        """Its output on the whole screen, and back."""
        zoomed = self.toggle_class("zoomed").has_class("zoomed")
        (self.query_one(TranscriptPane) if zoomed else self.table).focus()

    def on_list_table_opened(self) -> None:
        """Enter on a row."""
        self.action_zoom()

    # --- doing things --------------------------------------------------------------------------

    def _info(self) -> InstanceInfo | None:
        watched = self.chosen
        if watched is None:
            self.complain("there is no instance to do that with")
        return watched.info if watched is not None else None

    def action_steer(self, how: str) -> None:
        """Pause, resume or interrupt the chosen one."""
        info = self._info()
        if info is not None:
            self._steer(info, how)

    def _steer(self, info: InstanceInfo, how: str) -> None:
        instances = self.desk.engine.instances
        does = {
            "pause": instances.pause,
            "resume": instances.resume,
            "interrupt": instances.interrupt,
            "stop": instances.stop,
        }[how]

        def said(now: InstanceInfo) -> str:
            self.desk.feed.refresh()
            if how == "interrupt" and info.state is InstanceState.BUSY:
                return f"interrupting {_called(info)}"
            if how == "pause" and now.state is InstanceState.BUSY:
                return f"{_called(info)} pauses once it has answered"
            return f"{_called(info)} is {now.state}"

        if how in ("interrupt", "stop"):
            self.desk.world.expect(info.instance_id, info.thread_id)
        self.do(lambda: does(info.instance_id), said)

    def action_stop(self) -> None:
        """Stop the chosen one, if that is meant."""
        info = self._info()
        if info is None:
            return
        if info.state is InstanceState.STOPPED:
            self.complain(f"{_called(info)} is stopped already")
            return
        running = " Its running answer is interrupted." if info.state is InstanceState.BUSY else ""
        text = f"Stop {_called(info)} ({info.instance_id})?{running} Its conversation stays, and goes on elsewhere."

        def decided(yes: bool | None) -> None:
            if yes:
                self._steer(info, "stop")

        self.monitor.push_screen(ConfirmDialog(text, "Stop"), decided)

    def action_ask(self) -> None:
        """Ask the chosen one, in the conversation it holds."""
        info = self._info()
        if info is not None:
            ended = info.state in (InstanceState.STOPPED, InstanceState.FAILED)
            ask_in(
                self, info.source, info.target, thread_id=info.thread_id,
                instance_id=None if ended else info.instance_id,
                heading="Go on with another instance" if ended else f"Ask {info.name or 'it'}",
            )  # fmt: skip

    def action_new(self) -> None:
        """Ask somebody anew, with the pair of the chosen one to start from."""
        info = self.chosen.info if self.chosen is not None else None
        ask_anew(self, source=info.source if info else "", target=info.target if info else "")

    def action_export(self) -> None:
        """Write its conversation to a file."""
        info = self._info()
        if info is not None:
            export_thread(self, info.thread_id)

    def action_copy(self) -> None:
        """Copy its last answer."""
        watched = self.chosen
        self.copy(watched.transcript.last_answer if watched is not None else "", "answer")

    def action_attach(self) -> None:
        """Hand it this terminal."""
        info = self._info()
        if info is not None:
            attach(self, info.instance_id)
            self.desk.feed.refresh()

    def action_open_conversation(self) -> None:
        """Go to its conversation."""
        info = self._info()
        if info is not None and info.thread_id is not None:
            self.post_message(self.ConversationWanted(info.thread_id))


def _called(info: InstanceInfo) -> str:
    return info.name or f"{info.source} → {info.target}"


def _line_about(info: InstanceInfo) -> str:
    """What its row does not say, or had no room for; what went wrong first."""
    parts = [info.failure or "", info.name or "", info.model or ""]
    parts += [f"{info.restarts} restarts" if info.restarts else "", info.instance_id, info.thread_id or ""]
    return " · ".join(part for part in parts if part)
