"""What an instance has used, and whether that is still within its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_comms.errors import BudgetExceededError
from claude_comms.types import Usage

if TYPE_CHECKING:
    from claude_comms.types import InstanceLimits

__all__ = ["Budget", "Crossing"]

_WARN_AT = 0.8
_NOTHING = Usage(cost_usd=0.0)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A mark that was passed: `event` is ``budget.warned`` (80 %) or ``budget.exceeded``."""

    event: str
    budget: str
    """``max_tokens`` or ``max_cost_usd``."""
    limit: float
    spent: float


class Budget:
    """The totals of one instance. Each mark is told once."""

    __slots__ = ("_cost_usd", "_limits", "_told", "usage")

    def __init__(self, limits: InstanceLimits, usage: Usage | None = None) -> None:
        self._limits = limits
        self.usage = usage or _NOTHING
        """Of all turns. Its cost is None once a turn had no known price."""
        self._cost_usd = self.usage.cost_usd or 0.0
        self._told: tuple[tuple[str, str], ...] = ()
        self._crossings()

    def charge(self, usage: Usage) -> list[Crossing]:
        """Add a turn's usage; the marks that were passed by it. A turn without a known price adds no cost."""
        self.usage += usage
        self._cost_usd += usage.cost_usd or 0.0
        return self._crossings()

    @property
    def exceeded(self) -> BudgetExceededError | None:
        """The error for a further question, once a budget is used up."""
        for budget, limit, spent in self._accounts():
            if spent >= limit:
                return BudgetExceededError(
                    f"this instance has used {spent:g} of its {budget} of {limit:g}."
                    " Start another one, or give it a higher limit.",
                    budget=budget,
                    limit=limit,
                    spent=spent,
                )
        return None

    def _accounts(self) -> list[tuple[str, float, float]]:
        limits, usage = self._limits, self.usage
        tokens = usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        accounts = (("max_tokens", limits.max_tokens, tokens), ("max_cost_usd", limits.max_cost_usd, self._cost_usd))
        return [(budget, limit, spent) for budget, limit, spent in accounts if limit is not None]

    def _crossings(self) -> list[Crossing]:
        found: list[Crossing] = []
        for budget, limit, spent in self._accounts():
            for event, mark in (("budget.warned", _WARN_AT), ("budget.exceeded", 1.0)):
                if spent >= limit * mark and (event, budget) not in self._told:
                    self._told += ((event, budget),)
                    found.append(Crossing(event, budget, limit, spent))
        return found
