"""Building a value from parse events, with bounds, and remembering the line of every field.

Both formats come through here, so both have the same bounds and tell the same problems. Nothing recurses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from claude_comms.errors import DescriptorError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_PROBLEMS", "Document", "Event", "Kind", "Limits", "build", "refuse"]

MAX_PLACE = 1_000
"""Longest name of a place; each is kept, so long keys around many values would add up."""
MAX_PROBLEMS = 50

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What JSON's escapes can write, and no file, database or process takes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a file may make of itself; values reached through aliases are counted each time."""

    depth: int = 32
    nodes: int = 10_000


class Kind(Enum):
    """What an event begins, ends or is."""

    MAPPING = "mapping"
    SEQUENCE = "list"
    END = "end"
    SCALAR = "scalar"
    ALIAS = "alias"
    BAD = "bad"
    """A scalar that cannot be used; its value is the Problem's message and hint."""


class Event(NamedTuple):
    """One step of a parser. `line` counts from 1; `anchor` names the node for aliases further down."""

    kind: Kind
    line: int
    value: Any = None
    anchor: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A file's value, the line of each of its fields, and what was wrong on the way."""

    value: Any
    lines: dict[str, int]
    problems: list[Problem]

    def line_of(self, place: str) -> int | None:
        """The line of a field, or of the nearest one around it that is there."""
        while place and place not in self.lines:
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        return self.lines.get(place)


@dataclass(slots=True)
class _Open:
    """A container that is being filled."""

    value: dict[str, Any] | list[Any]
    place: str
    anchor: str | None
    nodes_before: int
    key: str | None = None
    skips: bool = False
    """The key is not usable, so its value counts for nothing."""
    keys: dict[str, int] = field(default_factory=dict[str, int])
    height: int = 1


class _Anchored(NamedTuple):
    value: Any
    nodes: int
    height: int


def refuse(message: str, line: int | None = None, hint: str = "", field: str = "") -> DescriptorError:
    """The error for a file that cannot be read on."""
    return DescriptorError([Problem(message, field, line, hint)])


def build(events: Iterable[Event], limits: Limits = Limits()) -> Document:
    """The one value that `events` make. DescriptorError where a limit is passed."""
    builder = _Builder(limits)
    for event in events:
        builder.take(event)
    return Document(builder.root, builder.lines, builder.problems)


class _Builder:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.root: Any = None
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._open: list[_Open] = []
        self._nodes = 0
        self._anchored: dict[str, _Anchored | None] = {}

    def take(self, event: Event) -> None:
        if event.kind is Kind.SCALAR and isinstance(event.value, str) and (bad := _SURROGATE.search(event.value)):
            message = f"is not valid Unicode: \\u{ord(bad[0]):04x} is half of a character"
            event = event._replace(kind=Kind.BAD, value=(message, "write both halves, or the character itself"))
        if event.kind is Kind.END:
            self._close()
        elif self._open and isinstance(self._open[-1].value, dict) and self._open[-1].key is None:
            self._take_key(self._open[-1], event)
        else:
            self._take_value(event)

    def _take_key(self, parent: _Open, event: Event) -> None:
        """A mapping's next key. One that is not usable is told and its value skipped."""
        self._count(1, event.line)
        key, place = event.value, _join(parent.place, event.value)
        if len(place) > MAX_PLACE:
            raise refuse(f"keys lead to a place longer than {MAX_PLACE} characters", event.line, "shorten them")
        if event.kind in (Kind.MAPPING, Kind.SEQUENCE, Kind.ALIAS):
            raise refuse("a key must be text", event.line, "write key: value", parent.place)
        if event.kind is Kind.BAD or not isinstance(key, str):
            message, hint = key if event.kind is Kind.BAD else (f"a key must be text, not {key!r}", "quote it")
            self._problem(message, parent.place, event.line, hint)
            key, parent.skips = "", True
        elif key in parent.keys:
            message = f"is there twice; the first one is on line {parent.keys[key]}"
            self._problem(message, place, event.line, "keep one")
        else:
            self.lines[place] = event.line
        if not parent.skips:
            parent.keys.setdefault(key, event.line)
        parent.key = key

    def _take_value(self, event: Event) -> None:
        place = self._place()
        self.lines.setdefault(place, event.line)
        if event.kind is Kind.ALIAS:
            self._take_alias(event, place)
            return
        self._count(1, event.line)
        if event.kind in (Kind.MAPPING, Kind.SEQUENCE):
            self._begin(event, place)
            return
        value = event.value
        if event.kind is Kind.BAD:
            message, hint = event.value
            self._problem(message, place, event.line, hint)
            value = ""
        self._put(value)
        if event.anchor:
            self._anchored[event.anchor] = _Anchored(value, 1, 0)

    def _begin(self, event: Event, place: str) -> None:
        if len(self._open) >= self._limits.depth:
            raise refuse(f"more than {self._limits.depth} levels deep", event.line, "write it flatter", place)
        value: dict[str, Any] | list[Any] = {} if event.kind is Kind.MAPPING else []
        self._put(value)
        self._open.append(_Open(value, place, event.anchor, self._nodes - 1))
        if event.anchor:
            self._anchored[event.anchor] = None

    def _take_alias(self, event: Event, place: str) -> None:
        target = self._anchored.get(event.value)
        if target is None:
            state = "contains itself" if event.value in self._anchored else "is not known"
            raise refuse(f"the alias *{event.value} {state}", event.line, "write the value out", place)
        if len(self._open) + target.height > self._limits.depth:
            raise refuse(f"more than {self._limits.depth} levels deep", event.line, "write it flatter", place)
        self._count(target.nodes, event.line)
        self._open[-1].height = max(self._open[-1].height, target.height + 1)
        self._put(target.value)

    def _close(self) -> None:
        done = self._open.pop()
        if done.anchor:
            self._anchored[done.anchor] = _Anchored(done.value, self._nodes - done.nodes_before, done.height)
        if self._open:
            self._open[-1].height = max(self._open[-1].height, done.height + 1)

    def _put(self, value: Any) -> None:
        if not self._open:
            self.root = value
            return
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
            return
        if not parent.skips:
            parent.value.setdefault(cast("str", parent.key), value)
        parent.key, parent.skips = None, False

    def _place(self) -> str:
        if not self._open:
            return ""
        parent = self._open[-1]
        if isinstance(parent.value, list):
            return f"{parent.place}[{len(parent.value)}]"
        return _join(parent.place, parent.key)

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > self._limits.nodes:
            raise refuse(f"more than {self._limits.nodes} values, aliases written out", line, "split the descriptor")

    def _problem(self, message: str, place: str, line: int, hint: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(message, place, line, hint))


def _join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)
