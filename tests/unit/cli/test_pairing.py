from __future__ import annotations

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.cli._pairing import pair_in_name, splits
from claude_comms.types import Pair

KNOWN = ("arangodb", "claude_mcp", "marker", "mcp_marker", "claude")
names = st.from_regex(r"[a-z]{1,4}(_[a-z]{1,4}){0,2}", fullmatch=True)


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("marker_arangodb", Pair("marker", "arangodb")),
        ("claude_mcp_arangodb", Pair("claude_mcp", "arangodb")),
        ("marker_claude_mcp", Pair("marker", "claude_mcp")),
        ("marker_marker", Pair("marker", "marker")),
    ],
)
def test_a_name_of_two_modules_names_the_pair(name: str, pair: Pair) -> None:
    assert pair_in_name(name, KNOWN) == pair


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("marker", "has no _"),
        ("marker_nobody", "does not split"),
        ("_arangodb", "does not split"),
        ("claude_mcp_marker", "claude_mcp → marker or|claude → mcp_marker or"),
    ],
)
def test_any_other_name_is_misuse_that_tells_the_known_modules(name: str, reason: str) -> None:
    with pytest.raises(typer.BadParameter, match=reason) as caught:
        pair_in_name(name, KNOWN)
    assert "arangodb, claude, claude_mcp, marker, mcp_marker" in str(caught.value)


@given(st.sets(names, min_size=1, max_size=5), st.data())
def test_the_pair_that_a_name_was_made_of_is_always_found(known: set[str], data: st.DataObject) -> None:
    pair = Pair(data.draw(st.sampled_from(sorted(known))), data.draw(st.sampled_from(sorted(known))))
    found = splits(f"{pair.source}_{pair.target}", known)
    assert pair in found
    assert all(f"{one.source}_{one.target}" == f"{pair.source}_{pair.target}" for one in found)
