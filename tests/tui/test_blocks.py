"""An answer in blocks that are drawn one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.tui._blocks import blocks_of


@given(
    st.lists(
        st.sampled_from(["a", "\n", "\n\n", "```\n", "~~~\n", "    code\n", "- item\n", "x" * 900, " "]), max_size=40
    )
)
def test_blocks_together_are_the_text(parts: list[str]) -> None:
    text = "".join(parts)
    assert "".join(blocks_of(text)) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("one\n\ntwo\n\nthree", 3),
        ("```\na\n\nb\n```\n\nafter", 2),
        ("1. item\n\n    goes on\n\n2. item", 2),
        ("~~~\n```\n\n~~~\n\nafter", 2),
        ("", 0),
    ],
)
def test_a_block_ends_at_a_blank_line_but_not_in_a_fence_nor_before_what_goes_on(text: str, count: int) -> None:
    assert len(blocks_of(text)) == count


def test_what_has_no_end_is_parted_all_the_same() -> None:
    assert max(map(len, blocks_of("word " * 10_000))) <= 2_000
    assert max(map(len, blocks_of("x" * 10_000))) <= 2_000
