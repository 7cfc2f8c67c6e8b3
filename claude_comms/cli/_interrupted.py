"""Ctrl-C in the middle of a turn, once the store says how the turn ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Interrupted"]


class Interrupted(Exception):  # noqa: N818 - it is what the user wanted, no error
    """The user ended a turn. `facts` is how the turn's end reads as JSON."""

    def __init__(self, message: str, facts: Mapping[str, object]) -> None:
        super().__init__(message)
        self.facts = facts
