"""A turn as it comes: the answer on stdout, everything about it on stderr, Ctrl-C in between."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from claude_comms.cli import _console as console
from claude_comms.cli._interrupted import Interrupted
from claude_comms.cli._progress import Progress
from claude_comms.cli._wording import seconds, usage
from claude_comms.errors import ClaudeCommsError
from claude_comms.types import OFFLINE, Delta, Refused, Retried, Started, ToolUsed

if TYPE_CHECKING:
    from claude_comms.communicator import MessageStream
    from claude_comms.types import Reply, TurnEvent

__all__ = ["show_turn"]


def show_turn(
    stream: MessageStream,
    target: str,
    *,
    structured: bool,
    as_json: bool,
    other_backend: str | None = None,
    go_on: str | None = None,
) -> None:
    """Show a turn to its end; of a `structured` answer the value alone. Raises what the turn ended with.

    `other_backend` is what a new conversation would be asked over; where this one keeps another, that is told.
    `go_on` is the command that asks the next question; empty for none, and None for continuing the conversation.
    Ctrl-C interrupts the turn, waits until the store says how it ended, and raises Interrupted.
    """
    display = _Display(target, structured=structured, as_json=as_json, other_backend=other_backend)
    try:
        with stream, display.progress:
            try:
                for event in stream.events():
                    display.show(event)
                reply = stream.reply
            except KeyboardInterrupt as interruption:
                display.progress.stop()
                raise _interrupted(stream, display) from interruption
    finally:
        display.end_line()
    display.finish(reply, go_on)


def _interrupted(stream: MessageStream, display: _Display) -> Interrupted:
    """Stop the turn, and say what it has left behind. A second Ctrl-C stops waiting for that."""
    stream.interrupt()
    try:
        reply = stream.reply
    except ClaudeCommsError as error:
        error.thread_id = error.thread_id or display.thread_id
        return Interrupted(display.left_behind(), error.as_dict())
    told = f"Interrupted, but the answer was complete by then; it is stored in {reply.thread_id}."
    return Interrupted(told, {"type": "KeyboardInterrupt", "message": told, "thread_id": reply.thread_id})


class _Display:
    """What has been shown of a turn so far."""

    def __init__(self, target: str, *, structured: bool, as_json: bool, other_backend: str | None) -> None:
        self.progress = Progress(f"asking {target}")
        self.thread_id: str | None = None
        self._as_json = as_json
        self._other_backend = other_backend
        self._structured = structured
        self._quiet = as_json and not console.is_terminal(sys.stderr)
        self._last = ""

    def show(self, event: TurnEvent) -> None:
        match event:
            case Started():
                self._started(event)
            case Delta():
                self._piece(event.text)
            case Retried():
                self._note(f"attempt {event.attempt} failed ({event.reason}); again in {event.wait_s:.1f} s")
            case ToolUsed():
                self._note(f"used {event.tool} {event.arguments}".rstrip())
            case Refused():
                self._note(f"refused {event.tool} {event.target}: {event.reason}")

    def finish(self, reply: Reply, go_on: str | None = None) -> None:
        """The answer where it was not streamed, and what it took."""
        if self._as_json:
            console.document(reply.as_dict())
        elif self._structured:
            console.result(json.dumps(reply.data, ensure_ascii=False, indent=2))
        elif not self._last:
            console.result(reply.response)
        if not self._quiet:
            console.note(_footer(reply, go_on))

    def end_line(self) -> None:
        """Leave the cursor at the start of a line."""
        if self._last and not self._last.endswith("\n"):
            console.piece("\n")
            self._last = "\n"

    def left_behind(self) -> str:
        """What an interrupted turn has left, in words."""
        if self.thread_id is None:
            return "Interrupted before the question was sent."
        kept = "What had come of the answer is stored as partial" if self._last else "The question is stored as failed"
        return f"Interrupted. {kept} in {self.thread_id}."

    def _started(self, event: Started) -> None:
        again = self.thread_id == event.thread_id
        self.thread_id = event.thread_id
        if again:
            self._note("the answer did not match the schema; asking for a repair")
            return
        model = "" if event.backend == OFFLINE else f" · {event.model}"
        self._note(
            f"{event.source} → {event.target} · {event.backend} ({event.reason}){model}\nthread {event.thread_id}"
        )
        if self._other_backend not in (None, event.backend):
            self._note(
                f"a new conversation would use {self._other_backend}; to change: --backend {self._other_backend}"
            )

    def _piece(self, text: str) -> None:
        self.progress.came(text)
        if self._as_json or self._structured or not text:
            return
        if console.is_terminal(sys.stdout):
            self.progress.stop()
        self._last = text  # before it is shown: Ctrl-C may come in between
        console.piece(text)

    def _note(self, text: str) -> None:
        if not self._quiet:
            with self.progress.aside():
                self.end_line()
                console.note(text)


def _footer(reply: Reply, go_on: str | None) -> str:
    spent = f"{usage(reply.usage)} · {seconds(reply.duration_ms)}"
    stopped = "" if reply.stop_reason in ("end_turn", "stop_sequence", OFFLINE, "") else f" · {reply.stop_reason}"
    command = f"continue-conversation {reply.thread_id}" if go_on is None else go_on
    return f"{spent}{stopped}" + (f'\ngo on: claude-comms {command} "..."' if command else "")
