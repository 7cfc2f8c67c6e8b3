from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from claude_comms.accounting import PriceTable
from claude_comms.errors import BudgetExceededError, ConfigError
from claude_comms.types import Usage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def prices() -> PriceTable:
    return PriceTable.load()


def test_each_kind_of_token_has_its_own_price(prices: PriceTable) -> None:
    million = 1_000_000
    assert prices.cost("claude-sonnet-5-5", million, 0) == pytest.approx(2.0)
    assert prices.cost("claude-sonnet-5-5", 0, million) == pytest.approx(10.0)
    assert prices.cost("claude-sonnet-5-5", 0, 0, million, 0) == pytest.approx(0.1)
    assert prices.cost("claude-sonnet-5-5", 0, 0, 0, million) == pytest.approx(2.5)
    assert prices.cost("claude-opus-5-5", 1000, 200, 300, 400) == pytest.approx(0.004 + 0.004 + 0.00006 + 0.002)


def test_an_unknown_model_has_no_cost_rather_than_a_guess(prices: PriceTable) -> None:
    for model in ("gpt-6", "claude-sonnet", "claude-sonnet-5-5-turbo", "claude-opus-6", ""):
        assert prices.cost(model, 1000, 1000) is None
        assert prices.priced(Usage(10, 10), model).cost_usd is None
        assert prices.affordable_output_tokens(model, 1000, 0.01) is None


@pytest.mark.parametrize("model", ["claude-haiku-4-5-20251001", "claude-haiku-4-5", "claude-haiku-4-5[1m]"])
def test_a_dated_model_costs_what_its_alias_costs(prices: PriceTable, model: str) -> None:
    assert prices.cost(model, 1_000_000, 0) == pytest.approx(1.0)


def test_long_prompts_cost_more_where_the_table_says_so(prices: PriceTable) -> None:
    at, over = 100_000, 100_001
    assert prices.cost("claude-haiku-5-5", at, 1000) == pytest.approx(0.01 + 0.0005)
    assert prices.cost("claude-haiku-5-5", over, 1000) == pytest.approx(0.0500005 + 0.0025)
    # Cached tokens count towards the length, and the whole question costs more, not only what is beyond.
    assert prices.cost("claude-haiku-5-5", 1, 0, 50_000, 50_000) == pytest.approx((0.5 + 2500 + 31250) / 1e6)


def test_a_cost_that_the_backend_told_stays(prices: PriceTable) -> None:
    assert prices.priced(Usage(10, 10, cost_usd=0.0), "claude-opus-5").cost_usd == 0.0
    assert prices.priced(Usage(1_000_000), "claude-opus-5").cost_usd == pytest.approx(5.0)


def test_an_answer_of_the_affordable_length_keeps_within_the_budget(prices: PriceTable) -> None:
    for model in prices.models:
        tokens = prices.affordable_output_tokens(model, 10_000, 0.5)
        assert tokens is not None
        worst = prices.cost(model, 0, tokens, 0, 10_000)
        longer = prices.cost(model, 0, tokens + 2, 0, 10_000)
        assert worst is not None
        assert longer is not None
        assert worst <= 0.5 + 1e-9 < longer


def test_a_prompt_that_costs_more_than_the_budget_is_refused(prices: PriceTable) -> None:
    with pytest.raises(BudgetExceededError, match="the prompt alone") as caught:
        prices.affordable_output_tokens("claude-opus-5", 1_000_000, 1.0)
    assert (caught.value.budget, caught.value.limit) == ("max_cost_usd", 1.0)
    assert caught.value.spent == pytest.approx(6.25)


def test_the_table_says_when_and_where_it_was_read(prices: PriceTable) -> None:
    assert date.fromisoformat(prices.price_date) >= date(2026, 10, 24)
    assert prices.source.startswith("https://platform.claude.com/")


def test_all_current_models_have_a_price(prices: PriceTable) -> None:
    families = {
        "fable": "5 5-1",
        "mythos": "5 5-1",
        "opus": "4-5 4-6 4-7 4-8 5 5-5",
        "sonnet": "4-5 4-6 5 5-5",
        "haiku": "4-5 5-5",
    }
    for family, versions in families.items():
        for version in versions.split():
            price = prices.price(f"claude-{family}-{version}")
            assert price is not None
            assert 0 < price.rates.cache_read < price.rates.input < price.rates.cache_write < price.rates.output


def test_a_broken_table_is_told_with_its_path(tmp_path: Path) -> None:
    broken = tmp_path / "prices.toml"
    broken.write_text("[models.claude-x]\ninput = 1.0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"prices\.toml: not a table of prices"):
        PriceTable.load(broken)
