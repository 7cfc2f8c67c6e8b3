"""The envelope of an event: CloudEvents 1.0, with the sequence number, namespace and priority beside it."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from claude_comms.events._catalogue import kind_of
from claude_comms.events._priority import Priority
from claude_comms.types import Record, new_id

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Event", "NewEvent"]

_SOURCE = "/claude-comms"


class _Ids:
    """Ids for events: one random beginning for each process, then a number. Randomness for each costs too much."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.prefix = new_id("e")
        self.numbers = itertools.count(1)


_ids = _Ids()
os.register_at_fork(after_in_child=_ids.renew)

_OF_ITS_KIND = cast("Priority", None)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that has just happened, on its way to a bus.

    `type` says what (``turn.completed``), `subject` to whom: an instance's, conversation's or job's id, or
    ``daemon``. `namespace` is ``SOURCE/TARGET`` for what belongs to a pair, else ``daemon``; events of one namespace
    keep their order. `data` holds JSON values. `priority` is that of the type's kind where none is given.
    """

    type: str
    subject: str
    namespace: str
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    priority: Priority = _OF_ITS_KIND
    event_id: str = field(default_factory=lambda: f"{_ids.prefix}_{next(_ids.numbers):x}")
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        if self.priority is _OF_ITS_KIND:
            object.__setattr__(self, "priority", kind_of(self.type).priority)


@dataclass(frozen=True, slots=True)
class Event(Record):
    """An event as the bus keeps it. `seq` grows by one with each event of a bus and is what a cursor holds."""

    seq: int
    event_id: str
    type: str
    subject: str
    namespace: str
    priority: Priority
    time: datetime
    data: Mapping[str, Any]

    def as_cloudevent(self) -> dict[str, Any]:
        """The event as CloudEvents 1.0 JSON; `seq`, `namespace` and `priority` are extension attributes."""
        return {
            "specversion": "1.0",
            "id": self.event_id,
            "source": _SOURCE,
            "type": self.type,
            "subject": self.subject,
            "time": self.time.isoformat(),
            "datacontenttype": "application/json",
            "data": dict(self.data),
            "seq": self.seq,
            "namespace": self.namespace,
            "priority": str(self.priority),
        }

    @classmethod
    def from_cloudevent(cls, values: Mapping[str, Any]) -> Event:
        """The event that `as_cloudevent` made `values` of. KeyError and ValueError where it did not."""
        return cls(
            seq=int(values["seq"]),
            event_id=str(values["id"]),
            type=str(values["type"]),
            subject=str(values["subject"]),
            namespace=str(values["namespace"]),
            priority=Priority(values["priority"]),
            time=datetime.fromisoformat(values["time"]),
            data=values["data"],
        )
