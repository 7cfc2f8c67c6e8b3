"""Instances as the daemon lists them, and as events have changed them since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, cast

from claude_comms.tui.model._entries import EntryKind, cost_line, error_line
from claude_comms.tui.model._rates import RateHistory
from claude_comms.tui.model._transcript import Transcript
from claude_comms.types import InstanceInfo, InstanceState, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_comms.events import Event

__all__ = ["InstanceBoard", "Watched", "usage_of"]

_TOLD = ("name", "thread_id", "turns", "pid", "rss_bytes", "waiting", "restarts", "failure")
"""What events of an instance say of it, as `InstanceInfo` has it."""
_MOST_ENDED = 20
_MOST_STRANGERS = 200
_ENDED = (InstanceState.STOPPED, InstanceState.FAILED)


@dataclass(slots=True)
class Watched:
    """One instance: how it stands, how fast it answers, what it says."""

    info: InstanceInfo
    rate: RateHistory = field(default_factory=RateHistory)
    transcript: Transcript = field(default_factory=Transcript)
    seeded: bool = False
    """What its conversation held before this monitor came is in the transcript, or is not wanted."""


class InstanceBoard:
    """All of them by id. `stale` says that the daemon knows more than events told."""

    def __init__(self) -> None:
        self.known: dict[str, Watched] = {}
        self.stale = True
        self._strangers: dict[str, Transcript] = {}
        """What was said by instances that no list has named yet."""
        self._ended: dict[str, None] = {}
        """Those that have ended, the first of them first."""

    def listed(self, found: Iterable[InstanceInfo]) -> None:
        """The daemon's list of the living. One that is not in it any more has ended."""
        living = {info.instance_id: info for info in found}
        for instance_id, info in living.items():
            watched = self.known.get(instance_id)
            if watched is None:
                self.known[instance_id] = Watched(info, transcript=self._strangers.pop(instance_id, Transcript()))
            else:
                watched.info = info
        for instance_id, watched in self.known.items():
            if instance_id not in living and watched.info.state not in _ENDED:
                watched.info = replace(watched.info, state=InstanceState.STOPPED, pid=None, rss_bytes=None, waiting=0)
        self._forget_ended()
        self.stale = False

    def take(self, event: Event, now_s: float) -> None:
        """What an event says of an instance."""
        instance_id = event.data.get("instance_id")
        if not isinstance(instance_id, str):
            return
        watched = self.known.get(instance_id)
        if event.type.startswith("instance."):
            self._about(event, watched)
            return
        if watched is None:
            self.stale = True
            transcript = self._stranger(instance_id)
        else:
            transcript = watched.transcript
            if event.type == "turn.delta":
                watched.rate.add(len(str(event.data.get("text", ""))), now_s)
        _tell(transcript, event)

    def _about(self, event: Event, watched: Watched | None) -> None:
        if watched is None:
            self.stale = self.stale or event.type not in ("instance.stopped", "instance.failed")
            return
        told = {name: event.data[name] for name in _TOLD if name in event.data}
        watched.info = replace(watched.info, state=_state(event.data, watched.info), **told)
        if watched.info.state in _ENDED:
            self._ended[watched.info.instance_id] = None
        usage = event.data.get("usage")
        if isinstance(usage, dict):
            watched.info = replace(watched.info, usage=usage_of(usage))  # pyright: ignore[reportUnknownArgumentType]
        if event.type in ("instance.failed", "instance.restarted"):
            said = event.data.get("reason") or event.data.get("failure") or ""
            watched.transcript.add(EntryKind.TROUBLE, f"the instance has {event.type.partition('.')[2]}: {said}")

    def _stranger(self, instance_id: str) -> Transcript:
        if instance_id not in self._strangers and len(self._strangers) >= _MOST_STRANGERS:
            del self._strangers[next(iter(self._strangers))]
        return self._strangers.setdefault(instance_id, Transcript())

    def _forget_ended(self) -> None:
        """The last that ended stay to be looked at."""
        ended = {key for key, watched in self.known.items() if watched.info.state in _ENDED}
        # In the order in which they ended, as far as anybody saw it.
        self._ended = {key: None for key in (*self._ended, *sorted(ended)) if key in ended}
        for key in list(self._ended)[:-_MOST_ENDED]:
            del self.known[key], self._ended[key]


def _state(data: Mapping[str, Any], info: InstanceInfo) -> InstanceState:
    try:
        return InstanceState(data.get("state", info.state))
    except ValueError:  # of another version
        return info.state


def usage_of(told: Mapping[str, Any]) -> Usage:
    """Usage as events and jobs carry it."""
    return Usage(**{part.name: told[part.name] for part in fields(Usage) if part.name in told})


def _tell(transcript: Transcript, event: Event) -> None:
    """Write down what happened in a turn."""
    data = event.data
    turn_id = str(data.get("turn_id", ""))
    if transcript.settles(turn_id, data.get("message_id")):
        return
    match event.type:
        case "turn.delta":
            transcript.piece(str(data.get("text", "")), speaker=str(data.get("target", "")), turn_id=turn_id)
        case "message.stored":
            _message(transcript, data, turn_id)
        case "turn.tool_used":
            transcript.add(EntryKind.TOOL, f"{data.get('tool')} {data.get('arguments', '')}", turn_id=turn_id)
        case "turn.tool_refused":
            text = f"refused {data.get('tool')} {data.get('aimed_at', '')}: {data.get('reason')}"
            transcript.add(EntryKind.TROUBLE, text, turn_id=turn_id)
        case "turn.retried":
            transcript.add(EntryKind.NOTE, f"tried again: {data.get('reason')}", turn_id=turn_id)
        case "turn.stalled":
            transcript.add(EntryKind.TROUBLE, f"nothing has come for {data.get('silent_s')} s", turn_id=turn_id)
        case "turn.completed":
            transcript.add(EntryKind.COST, _cost(data), turn_id=turn_id)
        case "turn.interrupted":
            transcript.add(EntryKind.NOTE, "interrupted", turn_id=turn_id)
            _cost_all_the_same(transcript, data, turn_id)
        case "turn.failed":
            transcript.add(EntryKind.TROUBLE, error_line(data.get("error", {})), turn_id=turn_id)
            _cost_all_the_same(transcript, data, turn_id)
        case _:
            pass


def _cost(data: Mapping[str, Any]) -> str:
    try:
        return cost_line(usage_of(data["reply"]["usage"]), data["reply"].get("duration_ms") or None)
    except (KeyError, TypeError, AttributeError):  # of another version
        return "complete"


def _cost_all_the_same(transcript: Transcript, data: Mapping[str, Any], turn_id: str) -> None:
    """What a turn without a whole answer has cost, where that is known."""
    usage = data.get("usage")
    if isinstance(usage, Mapping):
        line = cost_line(usage_of(cast("Mapping[str, Any]", usage)), data.get("duration_ms"))
        transcript.add(EntryKind.COST, line, turn_id=turn_id)


def _message(transcript: Transcript, data: Mapping[str, Any], turn_id: str) -> None:
    speaker, text = str(data.get("speaker", "")), str(data.get("text", ""))
    if data.get("role") == "answer":
        transcript.whole(text, speaker=speaker, turn_id=turn_id, partial=data.get("state") == "partial")
    elif data.get("state") in ("pending", "complete"):
        transcript.add(EntryKind.QUESTION, text, speaker=speaker, turn_id=turn_id)
