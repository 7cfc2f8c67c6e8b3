from __future__ import annotations

import pytest

from claude_comms.cli import _wording as wording
from claude_comms.types import TokenCount, Usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(cost_usd=0.0), "no tokens · no cost"),
        (Usage(1000, 20, cost_usd=0.0123), "1,000 tokens in, 20 out · $0.0123"),
        (Usage(10, 5, 3000, 40, None), "3,050 (3,000 cached) tokens in, 5 out · cost unknown"),
    ],
)
def test_usage_names_every_token_once_and_never_invents_a_price(usage: Usage, expected: str) -> None:
    assert wording.usage(usage) == expected


def test_an_estimate_says_that_it_is_one() -> None:
    assert wording.tokens(TokenCount(1234)) == "~1,234 tokens (estimated)"
    assert wording.tokens(TokenCount(1234, estimated=False)) == "1,234 tokens"


def test_one_is_not_a_plural() -> None:
    assert wording.plural(1, "message") == "1 message"
    assert wording.plural(0, "message") == "0 messages"
