"""Descriptors that build on others: `extends` followed to its end and merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from claude_comms.descriptors._file import from_values, to_values
from claude_comms.errors import DescriptorError, Problem

if TYPE_CHECKING:
    from claude_comms.descriptors._model import ModuleDescriptor

__all__ = ["merge", "resolve"]

Lookup = Callable[[str], "ModuleDescriptor | None"]


def resolve(descriptor: ModuleDescriptor, lookup: Lookup, *, where: str | None = None) -> ModuleDescriptor:
    """`descriptor` with all that it extends merged in. `lookup` finds a descriptor by name, None if there is none.

    DescriptorError names the chain where it comes back to itself, and a parent that is unknown. `where` is what
    errors name as the file.
    """
    chain, cards = [descriptor.name], [descriptor]
    while (parent := cards[-1].extends) is not None:
        if parent in chain:
            problem = Problem(f"goes round: {' → '.join([*chain, parent])}", "extends", hint="break the circle")
            raise DescriptorError([problem], path=where)
        card = lookup(parent)
        if card is None:
            message = f"{chain[-1]} extends {parent!r}, which is not known"
            raise DescriptorError([Problem(message, "extends", hint="correct the name or add its file")], path=where)
        chain.append(parent)
        cards.append(card)
    if len(cards) == 1:
        return descriptor
    values = to_values(cards[-1])
    for card in reversed(cards[:-1]):
        values = merge(values, to_values(card))
    return from_values(values, path=where)


def merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """`child` over `parent`: own scalars win, lists add, mappings merge.

    In lists, an entry of the child takes the place of an equal one, or of one with the same `name`.
    """
    merged = dict(parent)
    for key, value in child.items():
        before = parent.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", value))
        elif isinstance(before, list) and isinstance(value, list):
            merged[key] = _add(cast("list[Any]", before), cast("list[Any]", value))
        else:
            merged[key] = value
    return merged


def _add(parent: list[Any], child: list[Any]) -> list[Any]:
    added = list(parent)
    for item in child:
        place = next((number for number, other in enumerate(added) if _same(other, item)), None)
        if place is None:
            added.append(item)
        else:
            added[place] = item
    return added


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one == other or (_named(one) is not None and _named(one) == _named(other)))


def _named(item: Any) -> Any:
    return cast("Mapping[str, Any]", item).get("name") if isinstance(item, Mapping) else None
