"""What happened: the envelope, what each type asks of a reader, who wants to see what, and the bus.

Light to import. What keeps events on disk is in `claude_comms.events.log`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from claude_comms.events._bus import ConsumerGroup, EventBus, Missed, Subscription
from claude_comms.events._catalogue import KINDS, EventKind, kind_of
from claude_comms.events._envelope import Event, NewEvent
from claude_comms.events._focus import Digest, DigestLine, Focus, FocusLevel
from claude_comms.events._priority import Priority
from claude_comms.events._selection import EventFilter

if TYPE_CHECKING:
    from claude_comms.events._memory import MemoryBus

__all__ = [
    "KINDS",
    "ConsumerGroup",
    "Digest",
    "DigestLine",
    "Event",
    "EventBus",
    "EventFilter",
    "EventKind",
    "Focus",
    "FocusLevel",
    "MemoryBus",
    "Missed",
    "NewEvent",
    "Priority",
    "Subscription",
    "kind_of",
]


def __getattr__(name: str) -> object:
    # asyncio is not needed by those who only read filters and envelopes.
    if name == "MemoryBus":
        return import_module("claude_comms.events._memory").MemoryBus
    raise AttributeError(f"module 'claude_comms.events' has no attribute {name!r}")
