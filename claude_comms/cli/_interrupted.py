"""Ctrl-C: in the middle of a turn, once the store says how the turn ended, and in what streams until it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Interrupted", "streams"]

_ENDLESS = frozenset({"monitor-instance", "listen-module"})


class Interrupted(Exception):  # noqa: N818 - it is what the user wanted, no error
    """The user ended a turn. `facts` is how the turn's end reads as JSON."""

    def __init__(self, message: str, facts: Mapping[str, object]) -> None:
        super().__init__(message)
        self.facts = facts


def streams(argv: Sequence[str]) -> bool:
    """Whether `argv` streams until it is ended. A signal is its usual end then, and nothing that its reader is told."""
    match list(argv):
        case ["list-instances", *options]:
            return "--watch" in options
        case ["daemon", "logs", *options]:
            return "--follow" in options or "-f" in options
        case [command, *_]:
            return command in _ENDLESS
        case _:
            return False
