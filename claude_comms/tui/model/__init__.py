"""What the monitor knows, without a screen: instances, what they say, events, focus. Bounded, and fed by events."""

from __future__ import annotations

from claude_comms.tui.model._entries import Entry, EntryKind, cost_line, entries_of, error_line, last_answer
from claude_comms.tui.model._events import EventList, in_full
from claude_comms.tui.model._instances import InstanceBoard, Watched, usage_of
from claude_comms.tui.model._query import USUAL, EventQuery, contains_all
from claude_comms.tui.model._rates import RateHistory
from claude_comms.tui.model._transcript import Transcript
from claude_comms.tui.model._words import words_of
from claude_comms.tui.model._world import Alarm, World

__all__ = [
    "USUAL",
    "Alarm",
    "Entry",
    "EntryKind",
    "EventList",
    "EventQuery",
    "InstanceBoard",
    "RateHistory",
    "Transcript",
    "Watched",
    "World",
    "contains_all",
    "cost_line",
    "entries_of",
    "error_line",
    "in_full",
    "last_answer",
    "usage_of",
    "words_of",
]
