"""The screen of the background questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.binding import Binding, BindingType

from claude_comms.errors import ClaudeCommsError
from claude_comms.jobs import Job, JobState
from claude_comms.text import one_line, shorten
from claude_comms.tui._figures import age, seconds
from claude_comms.tui._pane import TranscriptPane
from claude_comms.tui._table import Column, ListTable
from claude_comms.tui._threads import ask_anew, export_thread
from claude_comms.tui._view import AboutLine, FilterLine, View
from claude_comms.tui.dialogs import ConfirmDialog
from claude_comms.tui.model import Entry, EntryKind, contains_all, cost_line, error_line, usage_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from textual.app import ComposeResult

    from claude_comms.tui._table import Cell

__all__ = ["JobsView"]

_COLUMNS = (
    Column("STATE", 9),
    Column("AGE", 4, right=True),
    Column("TOOK", 8, right=True, from_width=100),
    Column("PAIR", 16, flexible=1),
    Column("QUESTION", 20, flexible=3),
    Column("SO FAR", 14, flexible=2),
)
_TONES = {
    JobState.RUNNING: "good",
    JobState.FAILED: "bad",
    JobState.CANCELLED: "dim",
    JobState.QUEUED: "warn",
}
_MOST = 100
_LISTS_EVERY_S = 1.0
_EMPTY = "No background questions. Press n to ask one."


def _cells(job: Job) -> list[Cell]:
    took = ""
    if job.started_at is not None and job.ended_at is not None:
        took = seconds((job.ended_at - job.started_at).total_seconds() * 1000)
    return [
        (str(job.state), _TONES.get(job.state, "")),
        (age(job.created_at), "dim"),
        took,
        f"{job.source} → {job.target}",
        job.prompt,
        _progress(job),
    ]


def _progress(job: Job) -> str:
    if job.state is JobState.FAILED or job.state is JobState.CANCELLED:
        return str((job.error or {}).get("message", ""))
    characters = job.progress.get("characters")
    return f"{characters} chars" if characters else ""


class JobsView(View[Job]):
    """The latest background questions, and under them what the chosen one asks and was answered."""

    TITLE = "Jobs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New"),
        Binding("c", "cancel", "Cancel"),
        Binding("o", "open_conversation", "Conversation"),
        Binding("x", "export", "Export"),
        Binding("y", "copy", "Copy"),
        Binding("z", "zoom", "Zoom"),
    ]
    _jobs: Sequence[Job] = ()
    _heard = -1
    _listed_at = float("-inf")

    def compose(self) -> ComposeResult:
        """The filter, the list, a line about the chosen one, question and answer."""
        yield FilterLine("/ filter: state, module, words of the question, id …")
        yield ListTable(_COLUMNS, lambda job: job.job_id, _cells, empty="Loading …")
        yield AboutLine()
        yield TranscriptPane(empty="")

    def bring_up_to_date(self, *, changed: bool) -> None:
        """Load again what events say has changed."""
        heard, now_s = self.desk.world.changes["job"], self.desk.world.clock()
        if heard != self._heard and now_s - self._listed_at >= _LISTS_EVERY_S:
            self._heard, self._listed_at = heard, now_s
            self.worked("list", self._list)
        self.table.draw_changed()

    async def _list(self) -> None:
        try:
            self._jobs = await self.desk.engine.jobs.list(limit=_MOST)
        except ClaudeCommsError as error:
            self.not_loaded(error)
            self._heard = -1
            return
        self._show()

    def _show(self) -> None:
        words = tuple(self.filter_text.lower().split())
        self.table.empty = self.none_of(_EMPTY)
        self.table.show([job for job in self._jobs if contains_all(words, _searched(job))])
        self._show_chosen()

    def on_input_changed(self) -> None:
        """Filter as it is typed."""
        self._show()

    def on_list_table_chosen(self, event: ListTable.Chosen) -> None:
        """Another one."""
        event.stop()
        self._show_chosen()

    def _show_chosen(self) -> None:
        job = self.chosen
        pane = self.query_one(TranscriptPane)
        if job is None:
            self.tell_about(f"Only the latest {_MOST} are looked at." if len(self._jobs) >= _MOST else "")
            pane.show("", ())
            return
        listed = f"listed: of the latest {_MOST}" if len(self._jobs) >= _MOST else ""
        parts = (listed, f"{job.source} → {job.target}", str(job.state), job.job_id, job.callback_result or "")
        self.tell_about(one_line(" · ".join(part for part in parts if part)))
        pane.show(job.job_id, _entries(job), whole=self.has_class("zoomed"))

    # --- doing things --------------------------------------------------------------------------

    def action_zoom(self) -> None:
        """Question and answer on the whole screen, and back."""
        zoomed = self.toggle_class("zoomed").has_class("zoomed")
        (self.query_one(TranscriptPane) if zoomed else self.table).focus()

    def on_list_table_opened(self) -> None:
        """Enter on a row."""
        self.action_zoom()

    def action_new(self) -> None:
        """Another question."""
        job = self.chosen
        ask_anew(self, source=job.source if job else "", target=job.target if job else "")

    def _job(self) -> Job | None:
        job = self.chosen
        if job is None:
            self.complain("there is no job to do that with")
        return job

    def action_cancel(self) -> None:
        """End the chosen one, if that is meant."""
        job = self._job()
        if job is None:
            return
        if job.state.ended:
            self.complain("it has ended")
            return

        def decided(yes: bool | None) -> None:
            if yes:
                self.do(lambda: self.desk.engine.jobs.cancel(job.job_id), lambda now: f"the question is {now.state}")

        text = f"Cancel this question to {job.target}? It ends without an answer: {shorten(job.prompt, 200)}"
        self.monitor.push_screen(ConfirmDialog(text, "Cancel it"), decided)

    def action_export(self) -> None:
        """Write its conversation to a file."""
        job = self._job()
        if job is not None:
            export_thread(self, job.thread_id)

    def action_copy(self) -> None:
        """Copy its answer."""
        job = self._job()
        if job is not None:
            self.copy(_answer(job), "answer")

    def action_open_conversation(self) -> None:
        """Go to its conversation."""
        job = self._job()
        if job is not None and job.thread_id is not None:
            self.post_message(self.ConversationWanted(job.thread_id))


def _searched(job: Job) -> str:
    return f"{job.state} {job.source} → {job.target} {job.prompt} {job.job_id}"


def _answer(job: Job) -> str:
    return str(job.reply.get("response", "")) if job.reply is not None else ""


def _entries(job: Job) -> list[Entry]:
    """Numbers that stay: the same job is the same entries whenever it is looked at."""
    entries = [Entry(EntryKind.QUESTION, job.prompt, job.source, number=-1)]
    if job.reply is not None:
        entries.append(Entry(EntryKind.ANSWER, _answer(job), job.target, number=-2))
        usage = cast("Mapping[str, Any]", job.reply.get("usage", {}))
        entries.append(Entry(EntryKind.COST, cost_line(usage_of(usage), job.reply.get("duration_ms")), number=-3))
    if job.error is not None:
        entries.append(Entry(EntryKind.TROUBLE, error_line(job.error), number=-4))
    return entries
