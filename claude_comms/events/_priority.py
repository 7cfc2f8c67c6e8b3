"""How much an event matters."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Priority"]


class Priority(StrEnum):
    """How much an event matters, the least first."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"

    def reaches(self, least: Priority) -> bool:
        """Whether it matters as much as `least`, or more."""
        return _RANKS[self] >= _RANKS[least]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}
