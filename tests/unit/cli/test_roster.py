from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from claude_comms.cli._roster import _show
from claude_comms.types import InstanceInfo, InstanceState

if TYPE_CHECKING:
    import pytest

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FAILED = InstanceInfo(
    "i_1", "mine", "marker", "arangodb", "api", None, InstanceState.FAILED, None, 0, NOW, NOW, failure="no key."
)


def test_the_list_says_why_an_instance_failed(capsys: pytest.CaptureFixture[str]) -> None:
    _show([FAILED], check=False, as_json=False)
    assert "mine failed: no key." in capsys.readouterr().out
