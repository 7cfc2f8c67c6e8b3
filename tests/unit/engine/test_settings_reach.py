"""Each setting reaches the part that it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from claude_comms.background.backends import make_backend
from claude_comms.background.pool import Pool
from claude_comms.engine import LocalEngine
from claude_comms.jobs.runner import JobRunner
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def given_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], dict[str, Any]]:
    """What a part is made with: its constructor runs as ever, and its arguments are kept."""

    def watched(part: type) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        make = part.__init__

        def init(self: object, *args: Any, **named: Any) -> None:
            kept.update(named)
            make(self, *args, **named)

        monkeypatch.setattr(part, "__init__", init)
        return kept

    return watched


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_instances", 7),
        ("max_waiting", 8),
        ("max_waiting_per_pair", 9),
        ("queue_wait_s", 10.0),
        ("stall_s", 11.0),
    ],
)
def test_limits_reach_the_pool(
    name: str, value: float, given_to: Callable[[type], dict[str, Any]], claude_comms_home: Path
) -> None:
    given = given_to(Pool)
    LocalEngine(Settings.load({"home": claude_comms_home, name: value}))
    assert given[name] == value


@pytest.mark.parametrize(
    ("name", "value"), [("max_idle_s", 7.0), ("max_age_s", 8.0), ("max_memory_mb", 9), ("max_warm", 10)]
)
def test_what_is_reclaimed_reaches_the_pool(
    name: str, value: float, given_to: Callable[[type], dict[str, Any]], claude_comms_home: Path
) -> None:
    given = given_to(Pool)
    LocalEngine(Settings.load({"home": claude_comms_home, name: value}))
    assert getattr(given["reclaiming"], name) == value


def test_limits_of_jobs_reach_their_runner(given_to: Callable[[type], dict[str, Any]], claude_comms_home: Path) -> None:
    given = given_to(JobRunner)
    settings = {"home": claude_comms_home, "max_jobs_running": 7, "allow_remote_callbacks": True}
    LocalEngine(Settings.load(settings), hosting=True)
    assert (given["max_running"], given["allow_remote_callbacks"]) == (7, True)


def test_how_many_stay_warm_reaches_claude_code(
    given_to: Callable[[type], dict[str, Any]], claude_comms_home: Path
) -> None:
    from claude_comms.background.backends.claude_code import ClaudeCodeBackend

    given = given_to(ClaudeCodeBackend)
    make_backend("claude-code", Settings.load({"home": claude_comms_home, "claude_code_warm": 3}))
    assert given["most_idle"] == 3
