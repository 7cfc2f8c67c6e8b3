"""Which events somebody wants to see."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from claude_comms.events._priority import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_comms.events._envelope import Event, NewEvent

__all__ = ["EventFilter"]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Events that fit every line that is given; a line of several patterns is fitted by any of them.

    Patterns are whole names in which ``*`` stands for any run of characters: ``turn.*``, ``marker/*``.
    """

    types: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    module: str | None = None
    """Events of pairs with this module on either side."""
    instance_id: str | None = None
    """Events that are this instance's, turns among them."""
    turn_id: str | None = None
    """Events of this one turn."""
    priority: Priority = Priority.LOW
    """Events of this priority and above."""

    def fits(self, event: Event | NewEvent) -> bool:
        """Whether `event` is wanted."""
        return (  # the cheapest first: each turn that is followed looks at the events of all others
            (self.turn_id is None or event.data.get("turn_id") == self.turn_id)
            and (self.instance_id is None or event.data.get("instance_id") == self.instance_id)
            and (self.priority is Priority.LOW or event.priority.reaches(self.priority))
            and _any(self.types, event.type)
            and _any(self.subjects, event.subject)
            and _any(self.namespaces, event.namespace)
            and (self.module is None or self.module in event.namespace.split("/"))
        )


def _any(patterns: Iterable[str], text: str) -> bool:
    patterns = tuple(patterns)
    return not patterns or text in patterns or any(_compiled(pattern).fullmatch(text) for pattern in patterns)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
