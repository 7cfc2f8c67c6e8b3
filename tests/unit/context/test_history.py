"""Where a history is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from claude_comms.context._history import cut_to_fit


@given(sizes=st.lists(st.integers(0, 50), max_size=60), room=st.integers(0, 1500))
def test_what_is_kept_fits(sizes: list[int], room: int) -> None:
    cut = cut_to_fit(sizes, room)
    assert 0 <= cut <= len(sizes)
    assert sum(sizes[cut:]) <= room


def test_nothing_is_cut_that_fits() -> None:
    assert cut_to_fit([10] * 20, 200) == 0


def test_short_histories_are_cut_by_the_turn_and_long_ones_by_several() -> None:
    assert cut_to_fit([10] * 4, 30) == 1
    assert cut_to_fit([10] * 9, 80) == 2
    assert cut_to_fit([10] * 16, 150) == 4


def test_rounding_up_never_cuts_all_where_some_would_fit() -> None:
    assert cut_to_fit([10] * 16, 30) == 13
