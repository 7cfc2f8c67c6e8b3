"""Every type of event: what it means, and what it asks of whoever reads it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from claude_comms.events._priority import Priority

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "EventKind", "kind_of"]


@dataclass(frozen=True, slots=True)
class EventKind:
    """What all events of one type have in common."""

    type: str
    meaning: str
    attention: bool
    """Somebody should look at it, sooner or later."""
    interrupts: bool
    """It is right to interrupt a reader who is busy with something else."""
    batchable: bool
    """Many of them say as much as one line that counts them."""
    load: int
    """What it takes to take in: 0 nothing, 1 a glance, 2 a sentence to read, 3 something to decide."""
    priority: Priority
    """The priority of events of this type that are given none."""


def _quiet(type_: str, meaning: str, *, load: int = 1, priority: Priority = Priority.NORMAL) -> EventKind:
    return EventKind(type_, meaning, attention=False, interrupts=False, batchable=True, load=load, priority=priority)


def _notable(type_: str, meaning: str, *, load: int = 2) -> EventKind:
    """It wants to be seen, but not this minute."""
    return EventKind(
        type_, meaning, attention=True, interrupts=False, batchable=True, load=load, priority=Priority.NORMAL
    )


def _pressing(type_: str, meaning: str, *, load: int = 3, priority: Priority = Priority.HIGH) -> EventKind:
    return EventKind(type_, meaning, attention=True, interrupts=True, batchable=False, load=load, priority=priority)


_ALL = (
    _quiet("turn.started", "A question was sent to an instance."),
    _quiet("turn.delta", "A piece of an answer's text.", load=0, priority=Priority.LOW),
    _quiet("turn.tool_used", "An instance used a tool that it was granted."),
    _notable("turn.tool_refused", "An instance wanted a tool, or a place, that it was not granted."),
    _quiet("turn.retried", "A try failed, and the question is asked again after a wait."),
    _pressing("turn.stalled", "Nothing has come from an instance for a while, in the middle of a turn.", load=2),
    _quiet("turn.completed", "A turn ended with a whole answer.", load=2),
    _pressing("turn.failed", "A turn ended without an answer; the question is stored with the reason."),
    _notable("turn.interrupted", "A turn was stopped on request.", load=1),
    _quiet("message.stored", "A message is in the store; its whole text is in the event.", load=2),
    _quiet("conversation.created", "A conversation was begun.", load=0),
    _quiet("conversation.archived", "A conversation was put away.", load=0),
    _quiet("conversation.restored", "A conversation that was put away is back.", load=0),
    _quiet("instance.started", "An instance is ready for its first question."),
    _quiet("instance.busy", "An instance is answering.", load=0, priority=Priority.LOW),
    _quiet("instance.idle", "An instance is free again.", load=0, priority=Priority.LOW),
    _quiet("instance.paused", "An instance takes no questions until it is resumed."),
    _quiet("instance.resumed", "A paused or hibernated instance takes questions again."),
    _quiet("instance.hibernated", "An idle instance gave up its process and kept its session.", load=0),
    _notable("instance.restarted", "An instance's process was dead or stuck, and was replaced."),
    _pressing("instance.failed", "An instance was given up after too many restarts; the reason is in the event."),
    _quiet("instance.stopped", "An instance has ended."),
    _quiet("job.queued", "A job waits for its turn."),
    _quiet("job.started", "A job is being asked.", load=0),
    _quiet("job.progress", "A job has come further.", load=0, priority=Priority.LOW),
    _notable("job.done", "A job has its answer."),
    _pressing("job.failed", "A job ended without an answer; the reason is in the event."),
    _notable("job.cancelled", "A job was called off, or nobody wanted its answer in time.", load=1),
    _quiet("job.callback", "Whoever a job named has been told of its end, or could not be; which is in the event."),
    _pressing("budget.warned", "Most of a budget is spent.", load=2),
    _pressing("budget.exceeded", "A budget is spent, and questions are refused.", priority=Priority.CRITICAL),
    _quiet("daemon.started", "The daemon takes questions."),
    _notable("daemon.draining", "The daemon is about to stop: it finishes what runs and takes nothing new."),
    _pressing("daemon.stopped", "The daemon has ended.", load=2),
    _pressing(
        "events.dropped",
        "The log could not keep up, or could not write, and let go of events of low priority; how many of which"
        " types is in the event.",
        load=2,
    ),
)

KINDS: Mapping[str, EventKind] = MappingProxyType({kind.type: kind for kind in _ALL})
"""The types that claude-comms itself publishes."""


def kind_of(type_: str) -> EventKind:
    """What `type_` asks of a reader. A type that is not ours asks for nothing, and has normal priority."""
    return KINDS.get(type_) or _quiet(type_, "A type that claude-comms does not know.")
