"""What happened: the envelope, what each type asks of a reader, who wants to see what, and the bus.

Light to import. What keeps events on disk is in `claude_comms.events.log`.
"""

from claude_comms.events._bus import ConsumerGroup, EventBus, Missed, Subscription
from claude_comms.events._catalogue import KINDS, EventKind, kind_of
from claude_comms.events._envelope import Event, NewEvent
from claude_comms.events._priority import Priority
from claude_comms.events._selection import EventFilter

__all__ = [
    "KINDS",
    "ConsumerGroup",
    "Event",
    "EventBus",
    "EventFilter",
    "EventKind",
    "Missed",
    "NewEvent",
    "Priority",
    "Subscription",
    "kind_of",
]
