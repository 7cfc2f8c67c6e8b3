"""``monitor-instance`` and ``listen-module``: what was kept, then what comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from claude_comms.cli import _console as console
from claude_comms.cli._access import background, managing, told_by_daemon
from claude_comms.cli._moments import ALL_THAT_IS_KEPT, Since, read_since
from claude_comms.cli._narrator import Narrator
from claude_comms.cli._reader import while_read
from claude_comms.cli._sources import open_registry
from claude_comms.events import EventFilter, Focus, Missed, Priority
from claude_comms.settings import Settings
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from claude_comms.events import Event

__all__ = ["listen", "monitor"]

_END = frozenset({"instance.stopped", "instance.failed"})
_ENDED = (InstanceState.STOPPED, InstanceState.FAILED)
_SAID = ("message.stored", "turn.failed", "turn.interrupted", "turn.stalled", "turn.tool_refused", "conversation.*")
_PIECES = "turn.delta"
_DIGEST_EVERY_S = 60.0


def monitor(wanted: str, since: str | None, focus: str, priority: str, *, no_daemon: bool, as_json: bool) -> None:
    """All events of an instance from `since` on, and those to come until it has stopped."""
    begin, focused = read_since(since), Focus(focus, every_s=_DIGEST_EVERY_S)
    with managing(no_daemon=no_daemon) as instances:
        info = instances.get(wanted)
    if not as_json:
        console.note(f"{info.instance_id} · {info.source} → {info.target} · {info.backend} · {info.state}")
    with while_read(), background(no_daemon=no_daemon, watching=True) as engine:
        mine = EventFilter(instance_id=info.instance_id)
        # Nothing more comes of one that has ended: its last event is looked for among all that are kept.
        ended = info.state in _ENDED
        if ended and not _end_is_kept(info.instance_id):
            return
        with engine.follow(mine, after=0 if ended else begin.cursor) as events:
            least = Priority(priority)
            _show(events, begin, focused, least, as_json=as_json, several=False, last=_ends(info.instance_id))


def listen(
    module: str, since: str | None, focus: str, priority: str, *, deltas: bool, no_daemon: bool, as_json: bool
) -> None:
    """What `module` asks and is asked from now on, or from `since` on, until Ctrl-C."""
    begin = read_since(since) if since is not None else None
    focused = Focus(focus, every_s=_DIGEST_EVERY_S)
    open_registry().get(module)
    types = (*_SAID, _PIECES) if deltas else _SAID
    with while_read(), background(no_daemon=no_daemon, watching=True) as engine:
        wanted = EventFilter(types=types, module=module)
        with engine.follow(wanted, after=begin.cursor if begin is not None else None) as events:
            if not as_json:
                console.note(f"listening to {module}; Ctrl-C ends it")
            _show(events, begin or ALL_THAT_IS_KEPT, focused, Priority(priority), as_json=as_json, several=True)


def _end_is_kept(instance_id: str) -> bool:
    """Whether the log still holds the event of the instance's end: retention may have removed it."""
    found = told_by_daemon(Settings.load(), "/v1/events", types=sorted(_END), subjects=instance_id, after=0, limit=1)
    return bool(found)


def _ends(instance_id: str) -> Callable[[Event], bool]:
    return lambda event: event.type in _END and event.subject == instance_id


def _never(_event: Event) -> bool:
    return False


def _show(
    events: Iterable[Event | Missed],
    begin: Since,
    focus: Focus,
    least: Priority,
    *,
    as_json: bool,
    several: bool,
    last: Callable[[Event], bool] = _never,
) -> None:
    """Show events as they come, up to and with the `last`."""
    narrator = Narrator(several=several)
    try:
        for event in events:
            if isinstance(event, Missed):
                _tell_missed(event, narrator, as_json=as_json)
                continue
            if begin.holds(event) and event.priority.reaches(least) and focus.pass_on(event):
                _tell(event, narrator, as_json=as_json)
            if not as_json and (digest := focus.due()) is not None:
                narrator.digest(digest)
            if last(event):
                return
    finally:
        if not as_json and (digest := focus.digest()) is not None:
            narrator.digest(digest)
        narrator.close()


def _tell(event: Event, narrator: Narrator, *, as_json: bool) -> None:
    if as_json:
        console.document(event.as_cloudevent())
    else:
        narrator.tell(event)
    sys.stdout.flush()


def _tell_missed(missed: Missed, narrator: Narrator, *, as_json: bool) -> None:
    if as_json:
        console.document(_as_cloudevent(missed))
        sys.stdout.flush()
    else:
        narrator.missed(missed)


def _as_cloudevent(missed: Missed) -> dict[str, Any]:
    """A gap in the envelope of what surrounds it; its number is that of the last event that is not shown."""
    from datetime import UTC, datetime

    return {
        "specversion": "1.0",
        "id": f"missed-{missed.first}-{missed.last}",
        "source": "/claude-comms",
        "type": "events.missed",
        "subject": "daemon",
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": {"first": missed.first, "last": missed.last, "reason": missed.reason},
        "seq": missed.last,
        "namespace": "daemon",
        "priority": "high",
    }
