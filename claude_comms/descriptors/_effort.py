"""How much work it is to check a value against a schema, found before the work is done.

A schema of a few lines can ask for more checks than there are atoms (references that double at each step), or
for checks without end (a reference to itself). The validator has no limit of its own, so the work is counted
here first: each subschema once for each way that leads to it, as deep as the value goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast
from urllib.parse import unquote

from claude_comms.errors import Problem

__all__ = ["effort_problem"]

_MOST_CHECKS = 100_000

# Keywords whose subschemas look at the same value; all others look one level further down.
_IN_PLACE = frozenset({"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
_IN_PLACE_BY_NAME = "dependentSchemas"
_DATA = frozenset({"const", "enum", "default", "examples"})
_DEFINITIONS = frozenset({"$defs", "definitions"})


class _TooMuchError(Exception):
    """The count passed the limit, or would not end."""


def effort_problem(schema: object, value: object, field: str) -> Problem | None:
    """A problem at `field` if checking `value` against `schema` takes too long or does not end; else None."""
    try:
        if _Count(schema).checks(schema, _depth(value)) * _nodes(value) <= _MOST_CHECKS * 100:
            return None
    except (_TooMuchError, RecursionError):
        pass
    return Problem(
        "its schema takes too long to check",
        field,
        hint="use fewer references, as #/$defs/NAME, none to itself in place",
    )


class _Count:
    def __init__(self, root: object) -> None:
        self._root = root
        self._known: dict[tuple[int, int], int] = {}
        self._open: set[tuple[int, int]] = set()
        self._anchors = _anchors(root)

    def checks(self, schema: object, levels: int) -> int:
        """How many subschemas are looked at when the value goes `levels` levels down from here."""
        if not isinstance(schema, Mapping) or levels < 0:
            return 1
        place = (id(cast("object", schema)), levels)
        if place in self._known:
            return self._known[place]
        if place in self._open:
            raise _TooMuchError
        self._open.add(place)
        total = 1
        for key, part in cast("Mapping[str, object]", schema).items():
            total += self._keyword(key, part, levels)
            if total > _MOST_CHECKS:
                raise _TooMuchError
        self._open.discard(place)
        self._known[place] = total
        return total

    def _keyword(self, key: str, part: object, levels: int) -> int:
        if key in _DATA or key in _DEFINITIONS:
            return 0
        if key in ("$ref", "$dynamicRef"):
            return self.checks(self._target(part), levels)
        below = levels if key in _IN_PLACE or key == _IN_PLACE_BY_NAME else levels - 1
        if isinstance(part, list):
            return sum(self.checks(item, below) for item in cast("list[object]", part))
        if isinstance(part, Mapping) and key in (_IN_PLACE_BY_NAME, "properties", "patternProperties"):
            return sum(self.checks(item, below) for item in cast("Mapping[str, object]", part).values())
        return self.checks(cast("object", part), below)

    def _target(self, reference: object) -> object:
        """What a reference means. One that these simple rules cannot follow counts as too much."""
        if not isinstance(reference, str):
            raise _TooMuchError
        if reference in self._anchors:
            return self._anchors[reference]
        if not reference.startswith("#"):
            raise _TooMuchError
        found: object = self._root
        for part in unquote(reference).split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and name in found:
                found = cast("Mapping[str, object]", found)[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(cast("list[object]", found)):
                found = cast("list[object]", found)[int(name)]
            else:
                raise _TooMuchError
        return found


def _anchors(root: object) -> dict[str, object]:
    """Every subschema that has a name of its own, by the reference that means it."""
    found: dict[str, object] = {}
    for node in _walk(root):
        if isinstance(node, Mapping):
            for key, mark in (("$anchor", "#"), ("$dynamicAnchor", "#"), ("$id", "")):
                name = cast("Mapping[str, object]", node).get(key)
                if isinstance(name, str):
                    found[mark + name] = cast("object", node)
    return found


def _walk(root: object) -> list[object]:
    nodes = [root]
    for node in nodes:
        if isinstance(node, Mapping):
            nodes.extend(cast("Mapping[str, object]", node).values())
        elif isinstance(node, list):
            nodes.extend(cast("list[object]", node))
    return nodes


def _nodes(value: object) -> int:
    return len(_walk(value))


def _depth(value: object) -> int:
    level, depth = [value], 0
    while level:
        below: list[object] = []
        for node in level:
            if isinstance(node, Mapping):
                below.extend(cast("Mapping[str, object]", node).values())
            elif isinstance(node, list):
                below.extend(cast("list[object]", node))
        level, depth = below, depth + bool(below)
    return depth
