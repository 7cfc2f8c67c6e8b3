"""In whose name is asked, and what of an instance's turn goes along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.plugin._desk import Asker
from claude_comms.turn_file import RunningTurnFacts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.plugin.conftest import Connect

TURN = RunningTurnFacts("t_1", ("anonymous", "marker"), max_cost_usd=0.5, left_s=30.0)


def test_a_question_of_an_instance_says_in_which_turn_and_what_is_left() -> None:
    question = Asker("marker", "its own", TURN).question("arangodb", "?", None)
    assert (question.chain, question.asked_in) == (("anonymous", "marker"), "t_1")
    assert (question.max_cost_usd, question.deadline_s) == (0.5, 30.0)


def test_a_task_of_an_instance_outlives_the_deadline_and_not_the_limit() -> None:
    question = Asker("marker", "its own", TURN).question("arangodb", "?", None, waits=False)
    assert (question.asked_in, question.max_cost_usd, question.deadline_s) == ("t_1", 0.5, None)


def test_a_turn_with_nothing_left_still_makes_a_question_that_the_engine_can_refuse() -> None:
    question = Asker("marker", "its own", RunningTurnFacts("", ("a", "marker"), -1.0, -1.0)).question("b", "?", None)
    assert question.asked_in is None
    assert 0 < (question.max_cost_usd or 0) < 1e-6
    assert 0 < (question.deadline_s or 0) < 0.01


@pytest.mark.anyio
async def test_a_directory_that_is_gone_is_nobodys(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect() as caller:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        asking_as = (await caller.values("list_modules"))["asking_as"]
        monkeypatch.chdir(tmp_path)
    assert asking_as == "anonymous"
