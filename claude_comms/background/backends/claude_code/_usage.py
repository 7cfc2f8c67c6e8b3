"""Per-turn figures from Claude Code's cumulative ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.jsonable import as_mapping
from claude_comms.types import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["UsageMeter"]


class UsageMeter:
    """Follows one process. Its results carry totals since the session began or the last ``/clear``: those of a
    `resumed` session count what earlier processes spent, so its first turn has nothing to be compared with.

    That turn, and one whose result never came (a kill, a crash), is counted from the stream instead: what each
    answer of the API said it had cost by then.
    """

    def __init__(self, *, resumed: bool) -> None:
        self._total = None if resumed else Usage(cost_usd=0.0)
        self._streamed: dict[str, Usage] = {}
        self._message = ""

    def begin_turn(self) -> None:
        """Forget what the last turn streamed."""
        self._streamed.clear()
        self._message = ""

    def cleared(self) -> None:
        """The totals start from zero again."""
        self._total = Usage(cost_usd=0.0)

    def saw_event(self, event: Mapping[str, Any]) -> None:
        """Note what a ``message_start`` or ``message_delta`` of the API says."""
        if event.get("type") == "message_start":
            message = as_mapping(event.get("message"))
            self._message = str(message.get("id", ""))
            self._streamed[self._message] = _from_api(as_mapping(message.get("usage")), Usage())
        elif event.get("type") == "message_delta" and self._message in self._streamed:
            self._streamed[self._message] = _from_api(as_mapping(event.get("usage")), self._streamed[self._message])

    @property
    def requests(self) -> tuple[Usage, ...]:
        """What each of the turn's requests to the API has used, as far as the stream told."""
        return tuple(Usage(*_tokens(usage), cost_usd=None) for usage in self._streamed.values())

    @property
    def streamed(self) -> Usage:
        """What the turn has cost as far as the stream told; its price is not known."""
        total = Usage(cost_usd=0.0)
        for usage in self._streamed.values():
            total += usage
        return total if not self._streamed else Usage(*_tokens(total), cost_usd=None)

    def take(self, model_usage: Mapping[str, Any] | None, cost_usd: float | None, *, complete: bool) -> Usage:
        """The turn's share of the totals that its result carries.

        Of a turn that is not `complete`, Claude Code guesses the tokens; what the API said of it counts then.
        """
        if model_usage is None:
            return self.streamed
        total = Usage(cost_usd=cost_usd or 0.0)
        for figures in model_usage.values():
            total += _from_result(as_mapping(figures))
        last, self._total = self._total, total
        if last is None:
            return self.streamed
        if any(new < old for new, old in zip(_tokens(total), _tokens(last), strict=True)):
            last = Usage(cost_usd=0.0)
        cost = max(0.0, (total.cost_usd or 0.0) - (last.cost_usd or 0.0))
        if not complete:
            return Usage(*_tokens(self.streamed), cost_usd=cost)
        return Usage(*(new - old for new, old in zip(_tokens(total), _tokens(last), strict=True)), cost_usd=cost)


def _tokens(usage: Usage) -> tuple[int, int, int, int]:
    return usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens


def _from_result(figures: Mapping[str, Any]) -> Usage:
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    return Usage(*(_count(figures, name, 0) for name in names), cost_usd=0.0)


def _from_api(figures: Mapping[str, Any], before: Usage) -> Usage:
    """The figures that an event gives; those it leaves out stay as they were."""
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return Usage(*(_count(figures, name, old) for name, old in zip(names, _tokens(before), strict=True)), cost_usd=0.0)


def _count(figures: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = figures.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise
