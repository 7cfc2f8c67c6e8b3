"""Events as people read them: questions and answers whole, pieces as they come, everything else on one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.cli import _console as console
from claude_comms.cli._wording import clock, seconds, usage
from claude_comms.types import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from claude_comms.events import Digest, Event, Missed

__all__ = ["Narrator", "words_of"]

_UNTOLD = frozenset({"instance.busy", "instance.idle", "job.progress"})
"""Types that only say what their neighbours tell in words."""
_WHOLE = ("complete", "pending")
_LONGEST_DETAIL = 300


class Narrator:
    """Tells events on stdout, one after the other.

    `several`: events of several pairs come, so each message says whose it is, and pieces of different answers are
    kept apart.
    """

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._turn: str | None = None
        """The turn whose pieces stand at the end of what was shown."""
        self._pieces: dict[str, str] = {}
        """What was shown of the answers under way."""
        self._open_line = False

    def tell(self, event: Event) -> None:
        """Show `event`, unless it says nothing to people."""
        if event.type == "turn.delta":
            self._piece(event)
        elif event.type == "message.stored":
            self._message(event)
        elif event.type not in _UNTOLD:
            self.close()
            console.result(f"{clock(event.time)}  {self._whose(event)}{words_of(event)}")

    def missed(self, missed: Missed) -> None:
        """Say that something is not shown."""
        self.close()
        console.note(f"events {missed.first} to {missed.last} are not shown: {missed.reason}")

    def digest(self, digest: Digest) -> None:
        """Say in a few lines what was held back."""
        self.close()
        for line in digest.lines:
            place = line.namespace.replace("/", " → ")
            last = f": {line.texts[-1]}" if line.texts else ""
            console.result(console.shorten(f"held back: {line.count:,} {line.type} ({place}){last}", _LONGEST_DETAIL))

    def close(self) -> None:
        """Leave the cursor at the start of a line."""
        if self._open_line:
            console.piece("\n")
        self._turn, self._open_line = None, False

    def _piece(self, event: Event) -> None:
        turn, text = str(event.data.get("turn_id")), str(event.data.get("text", ""))
        if turn != self._turn:
            self.close()
            more = "goes on" if self._pieces.get(turn) else "answers"
            self._heading(event, f"{event.data.get('target', '')} {more}")
            self._turn = turn
        self._pieces[turn] = self._pieces.get(turn, "") + text
        if text:
            console.piece(text)
            self._open_line = not text.endswith("\n")

    def _message(self, event: Event) -> None:
        said, text = event.data, str(event.data.get("text", ""))
        turn = str(said.get("turn_id"))
        at_the_end = turn == self._turn
        shown = self._pieces.pop(turn, None) if said.get("role") == "answer" else None
        self.close()
        state = "" if said.get("state") in _WHOLE else f" · {str(said.get('state')).upper()}"
        if shown == text and at_the_end:
            if state:
                console.result(f"{clock(event.time)}  that was only a part{state}")
            return
        does = "answers" if said.get("role") == "answer" else "asks"
        self._heading(event, f"{said.get('speaker', '')} {does}{state}")
        if text:
            console.result(text)

    def _heading(self, event: Event, text: str) -> None:
        console.heading(f"{clock(event.time)}  {self._whose(event)}{text}")

    def _whose(self, event: Event) -> str:
        if not self._several or "/" not in event.namespace:
            return ""
        thread = event.data.get("thread_id")
        return f"{event.namespace.replace('/', ' → ')} · " + (f"{thread} · " if thread else "")


def words_of(event: Event) -> str:
    """What happened, on one line."""
    told = _WORDS.get(event.type)
    try:
        text = told(event.data) if told is not None else _in_general(event)
    except (KeyError, TypeError, ValueError):  # of another version
        text = _in_general(event)
    return console.one_line(text)


def _in_general(event: Event) -> str:
    reason = event.data.get("reason") or event.data.get("failure") or ""
    kind, _, what = event.type.partition(".")
    name = event.data.get("name") if kind == "instance" else None
    return f"{kind} {name or event.subject} {what}" + (f": {reason}" if reason else "")


def _started(data: Mapping[str, Any]) -> str:
    return f"asked over {data['backend']} ({data['reason']}) · {data['model']}"


def _tool(data: Mapping[str, Any]) -> str:
    return console.shorten(f"used {data['tool']} {data.get('arguments', '')}", _LONGEST_DETAIL)


def _refused(data: Mapping[str, Any]) -> str:
    return console.shorten(f"refused {data['tool']} {data['aimed_at']}: {data['reason']}", _LONGEST_DETAIL)


def _retried(data: Mapping[str, Any]) -> str:
    return f"attempt {data['attempt']} failed ({data['reason']}); again in {data['wait_s']:.1f} s"


def _stalled(data: Mapping[str, Any]) -> str:
    return f"nothing has come for {data['silent_s']:.0f} s"


def _completed(data: Mapping[str, Any]) -> str:
    reply = data["reply"]
    return f"complete · {usage(Usage(**reply['usage']))} · {seconds(reply['duration_ms'])}"


def _failed(data: Mapping[str, Any]) -> str:
    error = data["error"]
    return console.shorten(f"failed · {error.get('type', 'error')}: {error.get('message', '')}", _LONGEST_DETAIL)


def _interrupted(data: Mapping[str, Any]) -> str:
    return "interrupted"


def _created(data: Mapping[str, Any]) -> str:
    return f"a new conversation: {console.shorten(str(data['title']), 80)}"


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "turn.started": _started,
    "turn.tool_used": _tool,
    "turn.tool_refused": _refused,
    "turn.retried": _retried,
    "turn.stalled": _stalled,
    "turn.completed": _completed,
    "turn.failed": _failed,
    "turn.interrupted": _interrupted,
    "conversation.created": _created,
}
