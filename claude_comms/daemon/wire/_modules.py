"""Modules as the daemon tells of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from claude_comms.daemon.wire._base import Said

if TYPE_CHECKING:
    from claude_comms.descriptors import BaseDescriptor, Match

__all__ = ["MatchModel", "match_dict"]


class MatchModel(Said):
    """A module that fits, how well, and the names of those of its capabilities that do."""

    name: str
    version: str
    summary: str
    origin: str
    file: str | None
    path: str | None
    hides: tuple[str, ...]
    granted: tuple[str, ...]
    grants: tuple[str, ...]
    digest: str
    score: float
    capabilities: tuple[str, ...]
    descriptor: dict[str, Any]


def match_dict(match: Match) -> dict[str, Any]:
    """`match` as JSON values; `descriptor` is as in its file, or of an own class what it tells a model."""
    module = match.module
    return {
        "name": module.name,
        "version": module.descriptor.version,
        "summary": module.descriptor.summary,
        "origin": module.origin,
        "file": None if module.file is None else str(module.file),
        "path": None if module.path is None else str(module.path),
        "hides": [str(file) for file in module.hides],
        "granted": list(module.granted),
        "grants": list(module.grants),
        "digest": module.digest,
        "score": match.score,
        "capabilities": [capability.name for capability in match.capabilities],
        "descriptor": _descriptor(module.descriptor),
    }


def _descriptor(card: BaseDescriptor) -> dict[str, Any]:
    from claude_comms.descriptors import ModuleDescriptor, dump_descriptor

    if isinstance(card, ModuleDescriptor):
        return json.loads(dump_descriptor(card, "json"))
    return {"prompt": card.to_prompt("target")}
