"""The gate of a bus: an event is checked and frozen when it is handed over, so that nothing can spoil it later."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from claude_comms.errors import ConfigError, ContextError
from claude_comms.events._envelope import Event
from claude_comms.jsonable import to_json_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from claude_comms.events._envelope import NewEvent
    from claude_comms.events._priority import Priority

__all__ = ["Accepted", "accept"]

_LARGEST_BYTES = 32 << 20
_UNCHANGING = frozenset({str, int, float, bool, type(None)})
_encoded = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_OVERHEAD_BYTES = 600
"""What an event takes in memory besides its data, roughly."""


@dataclass(slots=True)  # not frozen: that makes it three times as slow to make, and there are many
class Accepted:
    """An event as it was when it was handed over, never changed. `data_text` is its data as JSON, in ASCII."""

    event_id: str
    type: str
    subject: str
    namespace: str
    priority: Priority
    time_text: str
    data_text: str
    turn_id: str | None
    instance_id: str | None
    time: datetime
    flat: dict[str, Any] | None
    """The data, where it can be copied as it is because nothing in it can change."""
    size_bytes: int
    """About what it takes in memory."""

    def numbered(self, seq: int) -> Event:
        """The event as the bus keeps it."""
        return Event(
            seq=seq,
            event_id=self.event_id,
            type=self.type,
            subject=self.subject,
            namespace=self.namespace,
            priority=self.priority,
            time=self.time,
            data=json.loads(self.data_text) if self.flat is None else self.flat.copy(),
        )


def accept(event: NewEvent) -> Accepted:
    """Check `event`. ConfigError, naming the place, for what is not JSON, not clean text, naive, or over 32 MiB."""
    text = _json(event)
    if "\\ud" in text:
        text = _whole_characters(text)
        event = replace(event, data=json.loads(text))
    if len(text) > _LARGEST_BYTES:
        raise ConfigError(
            f"an event {event.type}: its data has {len(text)} bytes; {_LARGEST_BYTES} are allowed. Send less."
        )
    texts = (event.event_id, event.type, event.subject, event.namespace)
    if not all(texts) or not "".join(texts).isascii() or "\0" in "".join(texts):
        for field in ("event_id", "type", "subject", "namespace"):
            _check_text(event, field)
    if event.time.tzinfo is None:
        raise ConfigError(f"an event {event.type}: time has no time zone. Give it one, such as datetime.UTC.")
    return Accepted(
        event.event_id,
        event.type,
        event.subject,
        event.namespace,
        event.priority,
        event.time.isoformat(),
        text,
        _id(event.data, "turn_id"),
        _id(event.data, "instance_id"),
        event.time,
        _flat(event.data),
        _OVERHEAD_BYTES + len(text),
    )


def _json(event: NewEvent) -> str:
    try:
        return _encoded(event.data)
    except (TypeError, ValueError, RecursionError):
        pass  # not plain JSON: convert it, or find out where it is not
    try:
        return _encoded(to_json_value(event.data))
    except ContextError as error:
        raise ConfigError(f"an event {event.type}: {error}") from error


def _flat(data: Mapping[str, Any]) -> dict[str, Any] | None:
    flat = dict(data)
    plain = type(data) is dict and {*map(type, flat.values())} <= _UNCHANGING and {*map(type, flat)} <= {str}
    return flat if plain else None


def _whole_characters(text: str) -> str:
    """The JSON `text` with U+FFFD for each half of a surrogate pair that stands alone: it could not be sent on."""
    plain = json.dumps(json.loads(text), ensure_ascii=False)
    return _encoded(json.loads(plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")))


def _check_text(event: NewEvent, field: str) -> None:
    text: str = getattr(event, field)
    try:
        if text.encode() and "\0" not in text:
            return
    except UnicodeEncodeError:
        pass
    raise ConfigError(f"an event {event.type!r}: {field} is empty or not clean text: {text!r}. Give it a name.")


def _id(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) else None
