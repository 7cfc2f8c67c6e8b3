"""The estimate says that it is one, and errs towards more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from claude_comms.context import estimate_tokens


def test_it_says_that_it_is_an_estimate() -> None:
    assert estimate_tokens("text").estimated


def test_nothing_is_nothing() -> None:
    assert estimate_tokens("").tokens == 0


def test_text_outside_ascii_counts_for_more() -> None:
    assert estimate_tokens("a" * 70).tokens == 21
    assert 70 < estimate_tokens("漢" * 70).tokens < 105
    assert estimate_tokens("🙂" * 70).tokens > 105


@given(st.text(), st.text())
def test_more_text_never_counts_for_less(text: str, more: str) -> None:
    assert estimate_tokens(text).tokens <= estimate_tokens(text + more).tokens
