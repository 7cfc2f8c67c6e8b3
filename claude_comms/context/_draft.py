"""A prompt before it is fitted to its budget, and what is told about it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claude_comms.context._version import digest
from claude_comms.context._words import json_text
from claude_comms.types import Omission

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from claude_comms.context._card import Card
    from claude_comms.context._fit import Fitted
    from claude_comms.context._library import Loaded
    from claude_comms.context._pairing import PairBlocks
    from claude_comms.context.components import ComponentInput

__all__ = ["Draft", "omitted", "version"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A prompt before it is fitted to its budget."""

    source: Card
    target: Card
    blocks: PairBlocks
    loaded: Loaded
    overrides: Mapping[str, str]
    parts: Mapping[str, str]
    variables: Mapping[str, Any]
    own: Mapping[str, str]
    schema: str
    details: Sequence[str]
    """Those worth showing for the question, best first."""


def omitted(draft: Draft, fitted: Fitted, alone: int) -> tuple[Omission, ...]:
    """What does not go along, and why; `alone` messages had no partner."""
    found: list[Omission] = []
    if alone:
        found.append(Omission("messages without a partner", alone, "only whole turns are sent"))
    if fitted.cut:
        found.append(Omission("oldest turns", fitted.cut, "to fit the budget"))
    if "capabilities" not in draft.overrides:
        if far := len(draft.target.details) - len(draft.details):
            found.append(Omission("capability details", far, "others are nearer to the question"))
        if dropped := len(draft.details) - fitted.details:
            found.append(Omission("capability details", dropped, "to fit the budget"))
    return tuple(found)


def version(draft: Draft, given: ComponentInput, budget_tokens: int, message: str) -> str:
    """The context version: changes with anything that went in."""
    return digest(
        (
            draft.blocks.digest,
            draft.loaded.name,
            draft.loaded.digest,
            json_text(sorted((name, json_text(value)) for name, value in given.params.items())),
            json_text(sorted(draft.overrides.items())),
            json_text(list(draft.own.items())),
            str(len(given.history)),
            *(part for entry in given.history for part in (entry.role, entry.text)),
            "" if given.data is None else json_text(given.data),
            draft.schema,
            str(budget_tokens),
            given.question,
            message,
        )
    )
