"""What one question may cost: how long its answer may be, and when a turn is stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_comms.errors import BudgetExceededError, ConfigError, TurnFailedError
from claude_comms.types import OFFLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_comms.accounting import PriceTable
    from claude_comms.engine._recording import Recorder
    from claude_comms.engine._route import Route
    from claude_comms.settings import Settings
    from claude_comms.types import Prompt, Question, Usage

__all__ = ["CostCap"]


@dataclass(frozen=True, slots=True)
class _Limited:
    most_usd: float
    cost_usd: float


class CostCap:
    """The limit of one question, repair included; what it has spent is the recorder's."""

    def __init__(
        self,
        question: Question,
        settings: Settings,
        prices: PriceTable,
        recorder: Recorder,
        above: CostCap | None = None,
    ) -> None:
        """`above` is the limit of the question in whose turn this one is asked: what this costs counts there, too."""
        asked = question.max_cost_usd
        own = asked if asked is not None else settings.max_cost_usd
        rest = above.left_usd if above is not None else None
        self.most_usd = own if rest is None else rest if own is None else min(own, rest)
        """None where nothing was set."""
        self._above = above
        self._under_way_usd = 0.0
        self._below: list[CostCap] = []
        if above is not None:
            above.includes(self)
        self._longest = settings.max_output_tokens
        self._prices = prices
        self._recorder = recorder

    @property
    def _spent_usd(self) -> float:
        return (self._recorder.spent.cost_usd or 0.0) + sum(cap.cost_usd for cap in self._below)

    @property
    def cost_usd(self) -> float:
        """What the question has cost up to now, with the requests of its running turn and all that it asked in turn."""
        return self._spent_usd + self._under_way_usd

    @property
    def left_usd(self) -> float | None:
        """What may still be spent; None without a limit."""
        return None if self.most_usd is None else max(0.0, min(cap.most_usd - cap.cost_usd for cap in self._limited()))

    def _limited(self) -> list[_Limited]:
        """Its own limit, and those of the questions that it was asked for, as far as there are any."""
        found: list[_Limited] = []
        cap: CostCap | None = self
        while cap is not None:
            if cap.most_usd is not None:
                found.append(_Limited(cap.most_usd, cap.cost_usd))
            cap = cap._above
        return found

    def includes(self, cap: CostCap) -> None:
        """What `cap` spends counts here, too."""
        self._below.append(cap)

    def turn_ended(self) -> None:
        """What the running turn cost is on the recorder's account from now on."""
        self._under_way_usd = 0.0

    def output_limit(self, route: Route, prompt: Prompt) -> int:
        """How long the answer may be: as set, or what is left of the money pays for."""
        if self.most_usd is None or route.backend == OFFLINE:
            return self._longest
        left = self.most_usd - self._spent_usd
        affordable = self._prices.affordable_output_tokens(route.model, prompt.tokens.tokens, left)
        if affordable is None:
            raise ConfigError(
                f"no price is known for {route.model}, so its cost cannot be capped."
                " Choose another model, or leave the cost limit out."
            )
        return min(self._longest, affordable)

    def check_of(self, route: Route) -> Callable[[Sequence[Usage]], None] | None:
        """For `TurnRequest.check_spent`: stops a turn that goes on asking the model, with tool after tool."""
        if self.most_usd is None or route.backend == OFFLINE:
            return None

        def check(requests: Sequence[Usage]) -> None:
            self._under_way_usd = sum(self._prices.priced(usage, route.model).cost_usd or 0.0 for usage in requests)
            for cap in self._limited():
                if cap.cost_usd > cap.most_usd:
                    raise BudgetExceededError(
                        f"the question has cost ${cap.cost_usd:.4f} without an answer, and ${cap.most_usd:g} is allowed"
                        " for it. Allow more with max_cost_usd, or ask for less.",
                        budget="max_cost_usd",
                        limit=cap.most_usd,
                        spent=cap.cost_usd,
                    )

        return check

    def exceeded(self, error: BaseException, limit: int) -> BudgetExceededError | None:
        """What to raise where it was the cost that ended the answer: `error` itself, or in place of one that tells of
        an answer cut at `limit` tokens.
        """
        if isinstance(error, BudgetExceededError):
            return error
        if not isinstance(error, TurnFailedError) or error.reason != "max_tokens":
            return None
        if self.most_usd is None or limit >= self._longest:
            return None
        over = BudgetExceededError(
            f"the answer is longer than the {limit} tokens that ${self.most_usd:g} pays for."
            " Allow more with max_cost_usd, or ask for less.",
            budget="max_cost_usd",
            limit=self.most_usd,
            spent=self._spent_usd,
        )
        over.usage = error.usage
        return over
