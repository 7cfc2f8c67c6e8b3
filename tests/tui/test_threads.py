"""Reading and going on with conversations, long ones and those that are not listed; questions that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual.widgets import Input, TextArea

from claude_comms.descriptors import Registry
from claude_comms.errors import UnknownModuleError
from claude_comms.jobs import JobState
from claude_comms.tui._app import MonitorApp
from claude_comms.tui._pane import TranscriptPane
from claude_comms.tui.dialogs import AskDialog
from claude_comms.types import InstanceState
from tui.support import (
    BoardEngine,
    answer,
    conversation,
    driven,
    info,
    job,
    notices,
    question,
    screen,
    shown_view,
    turn,
    until,
)

if TYPE_CHECKING:
    from claude_comms.types import Conversation

DESCRIPTORS = Path(__file__).parents[2] / "descriptors"

pytestmark = pytest.mark.anyio


def long_thread(turns: int, last: str = "") -> Conversation:
    messages = [
        message
        for number in range(turns)
        for message in (
            question("c_00", f"Question {number}?", turn_id=f"t_{number}"),
            answer("c_00", last if last and number == turns - 1 else f"Answer {number}."),
        )
    ]
    return replace(conversation(0), messages=tuple(messages), message_count=len(messages))


def shelf(count: int) -> BoardEngine:
    engine = BoardEngine()
    engine.threads = {f"c_{number:02}": conversation(number) for number in range(count)}
    return engine


# --- conversations -----------------------------------------------------------------------------


async def test_a_long_conversation_can_be_read_from_its_first_question_on() -> None:
    engine = BoardEngine()
    engine.threads["c_00"] = long_thread(300)
    async with driven(engine) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "Answer 299." in screen(pilot))
        assert "Question 0?" not in screen(pilot)
        await pilot.press("z", "home")
        await until(pilot, lambda: "Question 0?" in screen(pilot))
        assert "not kept" not in screen(pilot)


async def test_a_very_long_answer_is_shown_and_copied_whole() -> None:
    engine = BoardEngine()
    text = "\n\n".join(f"Paragraph {number} of a long answer." for number in range(15_000)) + "\n\nThe very end."
    assert len(text) > 400_000
    engine.threads["c_00"] = long_thread(1, text)
    async with driven(engine) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "The very end." in screen(pilot))
        await pilot.press("y")
        assert pilot.app.clipboard == text


async def test_what_was_said_long_ago_is_drawn_when_the_reader_goes_up_to_it() -> None:
    engine = BoardEngine()
    engine.threads["c_00"] = long_thread(
        1, "\n\n".join(f"Paragraph {number}." + " and so on" * 9 for number in range(2_000))
    )
    async with driven(engine) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "Paragraph 1999." in screen(pilot))
        await pilot.press("z")
        pane = pilot.app.screen.query_one("ConversationsView TranscriptPane", TranscriptPane)
        await until(pilot, lambda: pane.virtual_size.height > 500)
        assert pane.virtual_size.height < 3_000, "not all of it at once"
        for _ in range(5):
            await pilot.press("home")
            await pilot.pause()
            if "Question 0?" in screen(pilot):
                break
            assert "Paragraph 1999." not in screen(pilot), "the reader stays where they went"
        assert "Question 0?" in screen(pilot)


class PutAway(BoardEngine):
    """One of its conversations is in the archive."""

    lists = 0

    async def list_conversations(self, **given: Any) -> list[Conversation]:
        self.lists += 1
        return [one for one in await super().list_conversations(**given) if one.thread_id != "c_01"]


async def test_a_conversation_that_is_not_listed_is_opened_and_asked_in() -> None:
    engine = PutAway()
    engine.threads = shelf(2).threads
    engine.jobs.known = {"j_01": job(1, JobState.DONE, thread_id="c_01")}
    async with driven(engine) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "· c_00" in screen(pilot))
        await pilot.press("4")
        await until(pilot, lambda: "Design schema 1." in screen(pilot))
        await pilot.press("o")
        await until(pilot, lambda: "surya → marker · c_01" in screen(pilot))
        await pilot.press("a", *"And?", "enter")
        await until(pilot, lambda: engine.jobs.asked)
        assert engine.jobs.asked[0].question.thread_id == "c_01"
        engine.tell("message.stored", turn(0, role="question", speaker="marker", text="x", state="pending"))
        lists = engine.lists
        await until(pilot, lambda: engine.lists > lists)
        chosen = shown_view(pilot).table.chosen
        assert chosen is not None
        assert chosen.thread_id == "c_01"


async def test_a_conversation_that_is_gone_is_not_mistaken_for_another() -> None:
    engine = shelf(1)
    engine.jobs.known = {"j_01": job(1, JobState.DONE, thread_id="c_77")}
    async with driven(engine) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: "Design schema 1." in screen(pilot))
        await pilot.press("o")
        await until(pilot, lambda: any("c_77" in notice for notice in notices(pilot)))


async def test_lists_that_are_cut_say_so() -> None:
    engine = shelf(0)
    engine.threads = {f"c_{number:03}": replace(conversation(0), thread_id=f"c_{number:03}") for number in range(200)}
    engine.jobs.known = {f"j_{number:03}": job(1, JobState.DONE, job_id=f"j_{number:03}") for number in range(100)}
    async with driven(engine) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "listed: the latest 200" in screen(pilot))
        await pilot.press("4")
        await until(pilot, lambda: "listed: of the latest 100" in screen(pilot))
        await pilot.press("slash", *"zzzz")
        await until(pilot, lambda: "Only the latest 100 are looked at." in screen(pilot))


# --- asking ------------------------------------------------------------------------------------


async def test_a_question_that_is_refused_can_be_mended_and_sent_again() -> None:
    engine = shelf(0)
    engine.jobs.fault = UnknownModuleError("arango", ["arangodb", "marker"])
    async with driven(engine) as pilot:
        await pilot.press("2", "n", *"arango", "enter", *"A long question.", "enter")
        await until(pilot, lambda: "no module named 'arango'" in screen(pilot))
        assert "A long question." in pilot.app.screen.query_one(TextArea).text
        engine.jobs.fault = None
        pilot.app.screen.query_one("#target", Input).value = "arangodb"
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(pilot.app.screen, AskDialog))
    assert engine.jobs.asked[0].question.target == "arangodb"


async def test_what_is_missing_in_a_question_is_said() -> None:
    async with driven(shelf(0)) as pilot:
        await pilot.press("2", "n", "ctrl+s")
        await until(pilot, lambda: "Name a module to ask." in screen(pilot))
        await pilot.press(*"arangodb", "enter", "enter")
        await until(pilot, lambda: "Type a question first." in screen(pilot))


async def test_names_of_modules_are_completed(tmp_path: Path) -> None:
    engine = shelf(0)
    engine.registry = Registry(tmp_path / "home", (DESCRIPTORS,))
    async with driven(engine) as pilot:
        await pilot.press("2", "n")
        target = pilot.app.screen.query_one("#target", Input)
        await until(pilot, lambda: target.suggester is not None)
        await pilot.press(*"arang")
        await until(pilot, lambda: target._suggestion == "arangodb")
        await pilot.press("right")
        assert target.value == "arangodb"


@pytest.mark.parametrize("state", [InstanceState.STOPPED, InstanceState.FAILED])
async def test_the_conversation_of_an_ended_instance_goes_on_with_another(state: InstanceState) -> None:
    engine = BoardEngine(info(0, InstanceState.FAILED))
    async with driven(engine) as pilot:
        engine.tell("instance.stopped", {"instance_id": "i_00", "state": str(state)})
        engine.instances.known = {}
        await until(pilot, lambda: str(state) in screen(pilot))
        await pilot.press("a")
        assert "Go on with another instance" in screen(pilot)
        await pilot.press(*"And?", "enter")
        await until(pilot, lambda: engine.jobs.asked)
    asked = engine.jobs.asked[0].question
    assert (asked.thread_id, asked.instance_id) == ("c_00", None)


async def test_what_has_stopped_is_not_stopped_again() -> None:
    async with driven(BoardEngine(info(0))) as pilot:
        assert isinstance(pilot.app, MonitorApp)
        pilot.app.world.board.listed([])
        await pilot.press("X")
        await until(pilot, lambda: any("is stopped already" in notice for notice in notices(pilot)))


# --- events ------------------------------------------------------------------------------------


async def test_what_is_typed_after_the_usual_filter_is_a_word_of_its_own() -> None:
    engine = BoardEngine(info(0))
    async with driven(engine) as pilot:
        engine.tell("turn.delta", turn(0, text="a piece"))
        engine.tell("turn.failed", turn(0, error={"type": "X", "message": "it broke"}))
        engine.tell("job.done", {"job_id": "j_1"})
        await pilot.press("3", "slash")
        await until(pilot, lambda: "@module, !high" in screen(pilot))
        await pilot.press(*"turn.failed")
        await until(pilot, lambda: "1 of 3 events" in screen(pilot))
        assert "it broke" in screen(pilot)
        await pilot.press("escape", "slash", *"!hgh")
        await until(pilot, lambda: "no priority is called '!hgh'" in screen(pilot))
        assert "a piece" not in screen(pilot)
