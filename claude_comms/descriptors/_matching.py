"""Which modules fit: by exact properties, and by a question in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_comms.ranking import TextIndex
from claude_comms.types import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.descriptors._model import BaseDescriptor, Capability, DataType
    from claude_comms.descriptors._module import Module

__all__ = ["Filters", "Match", "ModuleIndex"]

_BEST = 3
"""So many of a module's texts count: more would favour modules that merely say much."""


@dataclass(frozen=True, slots=True)
class Match(Record):
    """A module that was found, and why: its score and the capabilities that matched, best first."""

    module: Module
    score: float
    """Comparable within one search only; 0 where nothing was asked in words."""
    capabilities: tuple[Capability, ...] = ()


@dataclass(frozen=True, slots=True)
class Filters:
    """What a module must have. Upper and lower case are the same; None asks for nothing."""

    capability: str | None = None
    tag: str | None = None
    data_type: str | None = None
    relationship: str | None = None
    """The other module's name, or the kind."""

    def capabilities(self, descriptor: BaseDescriptor) -> tuple[Capability, ...] | None:
        """The capabilities that were asked for; None where `descriptor` does not fit."""
        found = tuple(item for item in descriptor.capabilities if self._wants(item))
        asked = self.capability is not None or self.tag is not None
        if asked and not found:
            return None
        if not _among(self.data_type, [_type_name(item) for item in descriptor.data_types]):
            return None
        related = [word for item in descriptor.relationships for word in (item.module, item.kind)]
        return (found if asked else ()) if _among(self.relationship, related) else None

    def _wants(self, capability: Capability) -> bool:
        return _among(self.capability, [capability.name]) and _among(self.tag, capability.tags)


def _among(wanted: str | None, values: Sequence[str]) -> bool:
    return wanted is None or wanted.casefold() in (value.casefold() for value in values)


def _type_name(data_type: str | DataType) -> str:
    return data_type if isinstance(data_type, str) else data_type.name


class ModuleIndex:
    """An index over modules: one text for the card of each, one for each capability."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self._entries: list[tuple[Module, Capability | None]] = []
        documents: list[tuple[str, str]] = []
        for module in modules:
            self._entries.append((module, None))
            documents.append((module.name, _card_text(module.descriptor)))
            for capability in module.descriptor.capabilities:
                self._entries.append((module, capability))
                documents.append((capability.name, f"{' '.join(capability.tags)}\n{capability.description}"))
        self._index = TextIndex(documents)

    def rank(self, question: str) -> list[Match]:
        """The modules that have something to do with `question`, best first."""
        scores: dict[str, list[float]] = {}
        found: dict[str, list[Capability]] = {}
        modules: dict[str, Module] = {}
        for number, score in self._index.rank(question):
            module, capability = self._entries[number]
            modules[module.name] = module
            scores.setdefault(module.name, []).append(score)
            if capability is not None:
                found.setdefault(module.name, []).append(capability)
        matches = [
            Match(module, sum(scores[name][:_BEST]), tuple(found.get(name, ()))) for name, module in modules.items()
        ]
        return sorted(matches, key=lambda match: (-match.score, match.module.name))


def _card_text(descriptor: BaseDescriptor) -> str:
    data_types = " ".join(_type_name(item) for item in descriptor.data_types)
    related = " ".join(f"{item.kind} {item.module} {item.description}" for item in descriptor.relationships)
    return "\n".join([descriptor.summary, descriptor.description, data_types, related])
