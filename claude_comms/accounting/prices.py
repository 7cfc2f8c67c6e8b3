"""A dated table of prices, and what tokens cost by it. Nothing is guessed: an unknown model has no cost."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from claude_comms.errors import BudgetExceededError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_comms.types import Usage

__all__ = ["ModelPrice", "PriceTable", "Rates"]

_TABLE = Path(__file__).with_name("prices.toml")
# The date of a snapshot, and Claude Code's mark for the long context window: neither changes the price.
_SUFFIX = re.compile(r"(-\d{8})?(\[1m\])?$")
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens. `cache_write` is into the 5-minute cache."""

    input: float
    output: float
    cache_write: float
    cache_read: float


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """A model's rates; `long` ones hold for prompts of more than `long_over` tokens."""

    rates: Rates
    long: Rates | None = None
    long_over: int = 0

    def for_prompt(self, tokens: int) -> Rates:
        """The rates of a question whose prompt has `tokens` in all, cached ones included."""
        return self.long if self.long is not None and tokens > self.long_over else self.rates


class PriceTable:
    """Prices by model id. `price_date` is the day of the table, `source` where it was read."""

    def __init__(self, models: Mapping[str, ModelPrice], *, price_date: str, source: str) -> None:
        self._models = dict(models)
        self.price_date = price_date
        self.source = source

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """The table that comes with the package, or the one at `path`. ConfigError where it cannot be read."""
        path = path or _TABLE
        try:
            table = _read(path)
            models = {model: _price(entry) for model, entry in table["models"].items()}
            return cls(models, price_date=str(table["date"]), source=str(table["source"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: not a table of prices: {error!r}. Correct it or remove it.") from error

    @property
    def models(self) -> tuple[str, ...]:
        """The ids that have a price, undated."""
        return tuple(self._models)

    def price(self, model: str) -> ModelPrice | None:
        """The price of `model`, by its alias or its dated id; None for an unknown one."""
        return self._models.get(model) or self._models.get(_SUFFIX.sub("", model, count=1))

    def cost(
        self,
        model: str,
        input_tokens: int,
        output_tokens: int,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
    ) -> float | None:
        """USD for one question and its answer; None where the model has no known price.

        `input_tokens` are those neither read from nor written to the cache.
        """
        price = self.price(model)
        if price is None:
            return None
        rates = price.for_prompt(input_tokens + cache_read_tokens + cache_write_tokens)
        return (
            input_tokens * rates.input
            + output_tokens * rates.output
            + cache_read_tokens * rates.cache_read
            + cache_write_tokens * rates.cache_write
        ) / _MILLION

    def priced(self, usage: Usage, model: str) -> Usage:
        """`usage` with its cost by this table. A cost that the backend has told already stays; one of which nothing is
        known, not even a token, stays unknown.
        """
        if usage.cost_usd is not None or not _tokens(usage):
            return usage
        cost = self.cost(
            model, usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens
        )
        return dataclasses.replace(usage, cost_usd=cost)

    def affordable_output_tokens(self, model: str, input_tokens: int, max_cost_usd: float) -> int | None:
        """How long an answer may be for the question to cost at most `max_cost_usd`; None for an unknown model.

        Reckons with the worst: that the whole prompt is written to the cache. BudgetExceededError when that
        leaves no token for the answer.
        """
        price = self.price(model)
        if price is None:
            return None
        rates = price.for_prompt(input_tokens)
        prompt_usd = input_tokens * max(rates.input, rates.cache_write) / _MILLION
        tokens = math.floor((max_cost_usd - prompt_usd) * _MILLION / rates.output)
        if tokens < 1:
            raise BudgetExceededError(
                f"the prompt alone ({input_tokens} tokens of {model}) may cost ${prompt_usd:.4f}; ${max_cost_usd:g} is"
                " allowed for the question. Allow more with max_cost_usd, or ask with less context.",
                budget="max_cost_usd",
                limit=max_cost_usd,
                spent=prompt_usd,
            )
        return tokens


def _tokens(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens


@cache
def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_bytes().decode("utf-8"))


def _price(entry: Mapping[str, Any]) -> ModelPrice:
    long = entry.get("long")
    if long is None:
        return ModelPrice(_rates(entry))
    return ModelPrice(_rates(entry), _rates(long), int(long["over"]))


def _rates(entry: Mapping[str, Any]) -> Rates:
    return Rates(**{field.name: float(entry[field.name]) for field in dataclasses.fields(Rates)})
