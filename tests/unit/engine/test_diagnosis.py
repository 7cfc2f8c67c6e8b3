"""What the diagnosis says, it says once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.engine import LocalEngine
from claude_comms.engine._diagnosis import _untold

if TYPE_CHECKING:
    from claude_comms.settings import Settings

REASON = "Claude Code 2.1.0 from SDK bundle, logged in"


@pytest.mark.parametrize(
    ("fact", "left"),
    [
        ("2.1.0", ""),
        ("logged in", ""),
        ("/x/claude (SDK bundle)", "/x/claude"),
        ("/x/y (PATH)", "/x/y (PATH)"),
        ("7", "7"),
    ],
)
def test_of_a_fact_only_what_the_reason_does_not_say_is_left(fact: str, left: str) -> None:
    assert _untold(fact, REASON) == left


@pytest.mark.anyio
async def test_where_the_api_is_and_that_there_is_a_key_is_said_once(loopback_settings: Settings) -> None:
    engine = LocalEngine(loopback_settings)
    await engine.open()
    try:
        [api] = [check for check in await engine.diagnose() if check.name == "backend api"]
    finally:
        await engine.close()
    assert api.detail.count(str(loopback_settings.anthropic_base_url)) == 1
    assert "api_key" not in api.detail
