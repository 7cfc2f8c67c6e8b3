"""What somebody types to see fewer events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_comms.events import KINDS, EventFilter, Priority
from claude_comms.tui.model._words import words_of

if TYPE_CHECKING:
    from claude_comms.events import Event

__all__ = ["USUAL", "EventQuery", "contains_all"]

USUAL = Priority.NORMAL
"""Pieces of answers are most of what happens, and are read on other screens."""
_ORDER = tuple(Priority)
_ROOMS = frozenset(type_.partition(".")[0] for type_ in KINDS)


def contains_all(words: tuple[str, ...], text: str) -> bool:
    """Whether each of `words`, in lower case, stands somewhere in `text`."""
    lowered = text.lower()
    return all(word in lowered for word in words)


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events a list shows: patterns as the daemon takes them, a least priority, and words.

    Typed as words between spaces: ``turn.*`` (any type, ``*`` for anything), ``marker/*`` (a pair), ``@marker`` (a
    module on either side), ``!high`` (that priority and above), ``i_01…`` or another id, and anything else as text.
    """

    wanted: EventFilter
    least: Priority
    ids: tuple[str, ...]
    words: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    """What begins with ``!`` and names no priority: then what is usual is listed."""

    @classmethod
    def parse(cls, typed: str) -> EventQuery:
        """What was typed, taken as well as it can be: nothing is an error while somebody types."""
        types: list[str] = []
        namespaces: list[str] = []
        ids: list[str] = []
        words: list[str] = []
        unknown: list[str] = []
        module: str | None = None
        least = Priority.LOW
        for word in typed.split():
            if word.startswith("!"):
                named = _priority(word[1:])
                least = named or USUAL
                unknown += [word] if named is None and word != "!" else []
            elif word.startswith("@"):
                module = word[1:] or None
            elif "/" in word:
                namespaces.append(word)
            elif (word.lower().partition(".")[0] in _ROOMS and "." in word) or "*" in word:
                types.append(word.lower())
            elif word[:2] in ("i_", "c_", "j_", "t_"):
                ids.append(word)
            else:
                words.append(word.lower())
        wanted = EventFilter(types=tuple(types), namespaces=tuple(namespaces), module=module)
        return cls(wanted, least, tuple(ids), tuple(words), tuple(unknown))

    def fits(self, event: Event) -> bool:
        """Whether `event` is to be listed."""
        return (
            event.priority.reaches(self.least)
            and self.wanted.fits(event)
            and all(_names(event, wanted) for wanted in self.ids)
            and (not self.words or contains_all(self.words, _text(event)))
        )


def _text(event: Event) -> str:
    """What words are looked for in: the pair as it is written and as it is shown, too."""
    return f"{event.type} {event.namespace} {event.namespace.replace('/', ' → ')} {words_of(event)}"


def _priority(typed: str) -> Priority | None:
    """The priority whose name begins so."""
    return next((level for level in _ORDER if typed and level.startswith(typed.lower())), None)


def _names(event: Event, wanted: str) -> bool:
    facts = (event.data.get(name) for name in ("instance_id", "thread_id", "turn_id", "job_id"))
    return event.subject.startswith(wanted) or any(str(fact).startswith(wanted) for fact in facts if fact)
