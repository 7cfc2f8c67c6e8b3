"""Every screen and every key, at both sizes."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual.binding import Binding

from claude_comms.errors import InstanceStateError
from claude_comms.jobs import JobState
from claude_comms.tui._app import MonitorApp
from claude_comms.tui._run import Tidying
from claude_comms.tui.conversations import ConversationsView
from claude_comms.tui.dialogs import AskDialog, ConfirmDialog, ExportDialog, HelpScreen, ReadingScreen
from claude_comms.tui.dialogs._help import KEYS
from claude_comms.tui.events import EventsView
from claude_comms.tui.instances import InstancesView
from claude_comms.tui.instances._rows import SORTED_BY
from claude_comms.tui.jobs import JobsView
from claude_comms.tui.usage import UsageView
from claude_comms.types import InstanceState, Usage
from tui.support import (
    ANSWER,
    LARGE,
    SMALL,
    BoardEngine,
    answer,
    conversation,
    driven,
    info,
    job,
    notices,
    screen,
    shown_view,
    turn,
    until,
)

if TYPE_CHECKING:
    from textual.pilot import Pilot

pytestmark = pytest.mark.anyio
sizes = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["80x24", "200x60"])


def board(count: int = 4) -> BoardEngine:
    engine = BoardEngine(*(info(number) for number in range(count)))
    engine.threads = {f"c_{number:02}": conversation(number) for number in range(count)}
    engine.jobs.known = {
        "j_01": job(1, JobState.RUNNING, progress={"characters": 120}),
        "j_02": job(2, JobState.DONE, reply={"response": ANSWER, "usage": {"output_tokens": 5}, "duration_ms": 5.0}),
        "j_03": job(3, JobState.FAILED, error={"type": "TurnFailedError", "message": "it stalled"}),
    }
    return engine


@pytest.fixture
def taken() -> Path:
    path = Path("taken.json")
    path.write_text("mine")
    return path


# --- all screens -------------------------------------------------------------------------------


@sizes
@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("1", "tables → marker"),
        ("2", "How should I store"),
        ("3", "following"),
        ("4", "Design schema 2."),
        ("5", "by pair"),
    ],
)
async def test_a_number_shows_a_screen(size: tuple[int, int], key: str, shown: str) -> None:
    async with driven(board(), size) as pilot:
        await pilot.press(key)
        await until(pilot, lambda: shown in screen(pilot))
        assert all(len(line) <= size[0] for line in screen(pilot).splitlines())


async def test_a_click_on_a_screens_name_shows_it() -> None:
    async with driven(board()) as pilot:
        await pilot.click("#tab-usage")
        await until(pilot, lambda: "by pair" in screen(pilot))


async def test_help_names_every_key_that_acts() -> None:
    told = {word for _, keys in KEYS for key, _ in keys for word in key.replace(",", "").lower().split()}
    names = {"slash": "/", "question_mark": "?", "b": "b"}
    for owner in (MonitorApp, InstancesView, ConversationsView, EventsView, JobsView, UsageView):
        for binding in Binding.make_bindings(owner.BINDINGS):
            assert names.get(binding.key, binding.key).lower() in told | {"?", "f1"}, (owner, binding.key)
    async with driven(board()) as pilot:
        await pilot.press("question_mark")
        assert isinstance(pilot.app.screen, HelpScreen)
        await pilot.press("j", "k", "escape")
        assert not isinstance(pilot.app.screen, HelpScreen)


async def test_q_leaves_and_closes_the_engine() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("q")
    assert engine.closed


async def test_the_palette_finds_what_keys_do() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("ctrl+p")
        await pilot.press(*"Pause")
        await until(pilot, lambda: "key p" in screen(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: ("pause", "i_00") in engine.instances.done)


async def test_colours_change_to_light_and_back() -> None:
    async with driven(board()) as pilot:
        await pilot.press("ctrl+t")
        assert not pilot.app.current_theme.dark
        await pilot.press("ctrl+t")
        assert pilot.app.current_theme.dark


async def test_without_colour_the_chosen_row_still_has_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with driven(board()) as pilot:
        line = next(line for line in screen(pilot).splitlines() if line.startswith("▸"))
        assert "idle" in line


async def test_garbage_is_collected_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_comms.tui._app._TIDIES_EVERY_S", 0.05)
    before = gc.get_stats()[2]["collections"]
    async with driven(board(), tidy=Tidying()) as pilot:
        await until(pilot, lambda: gc.get_stats()[2]["collections"] >= before + 3)


# --- instances ---------------------------------------------------------------------------------


async def test_instances_are_filtered_as_it_is_typed() -> None:
    async with driven(board()) as pilot:
        await pilot.press("slash", *"surya")
        await until(pilot, lambda: "texify" not in screen(pilot) and "surya → marker" in screen(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "texify" in screen(pilot))
        assert pilot.app.focused is not None
        assert type(pilot.app.focused).__name__ == "ListTable"


async def test_instances_are_sorted_by_keys_and_by_clicks() -> None:
    engine = board()
    engine.instances.known["i_02"] = info(2, InstanceState.FAILED)

    def first(pilot: Pilot[Any]) -> str:
        return shown_view(pilot).table.items[0].info.instance_id

    async with driven(engine, LARGE) as pilot:
        assert first(pilot) == "i_00"
        await pilot.press("S")
        assert first(pilot) == "i_02"
        header = screen(pilot).splitlines()[2]
        await pilot.click("ListTable", offset=(header.index("TURNS") + 1, 0))
        assert first(pilot) == "i_03"
        await pilot.click("ListTable", offset=(header.index("STATE") + 1, 0))
        assert first(pilot) == "i_02"
        for _ in range(len(SORTED_BY)):
            await pilot.press("s")
        assert "STATE↓" in screen(pilot)


async def test_a_click_chooses_a_row_and_a_second_one_opens_it() -> None:
    async with driven(board()) as pilot:
        await pilot.click("ListTable", offset=(5, 3))
        await until(pilot, lambda: screen(pilot).splitlines()[5].startswith("▸"))
        await pilot.click("ListTable", offset=(5, 3), times=2)
        await until(pilot, lambda: shown_view(pilot).has_class("zoomed"))


@pytest.mark.parametrize(("key", "how"), [("p", "pause"), ("r", "resume"), ("i", "interrupt")])
async def test_a_key_steers_the_chosen_instance_without_asking(key: str, how: str) -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("down", key)
        await until(pilot, lambda: engine.instances.done == [(how, "i_01")])
        await until(pilot, lambda: notices(pilot))


async def test_stopping_asks_first() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("X")
        assert isinstance(pilot.app.screen, ConfirmDialog)
        await pilot.press("enter")
        assert engine.instances.done == []
        await pilot.press("X", "y")
        await until(pilot, lambda: engine.instances.done == [("stop", "i_00")])
        await until(pilot, lambda: "stopped" in screen(pilot))


async def test_what_the_daemon_refuses_is_said() -> None:
    engine = board()
    engine.instances.fault = InstanceStateError("it is paused [red]already[/]. Resume it.", state="paused", wanted="x")
    async with driven(engine) as pilot:
        await pilot.press("p")
        await until(pilot, lambda: any("[red]already[/]" in notice for notice in notices(pilot)))


async def test_asking_an_instance_goes_to_it_and_its_conversation() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("a")
        assert isinstance(pilot.app.screen, AskDialog)
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, AskDialog)
        await pilot.press(*"Why", "ctrl+j", *"so", "enter")
        await until(pilot, lambda: engine.jobs.asked)
    asked = engine.jobs.asked[0].question
    assert (asked.source, asked.target, asked.prompt) == ("marker", "arangodb", "Why\nso")
    assert (asked.instance_id, asked.thread_id) == ("i_00", "c_00")


@sizes
async def test_the_chosen_instances_answer_streams_with_tools_and_cost(size: tuple[int, int]) -> None:
    engine = board()
    engine.threads.clear()
    async with driven(engine, size) as pilot:
        engine.tell("message.stored", turn(0, role="question", speaker="marker", text="How?", state="pending"))
        engine.tell("turn.delta", turn(0, text="Let me *look*. "))
        engine.tell("turn.tool_used", turn(0, tool="Read", arguments="README.md"))
        engine.tell("turn.delta", turn(0, text="Use **one** collection."))
        await until(pilot, lambda: "Use one collection." in screen(pilot))
        shown = screen(pilot)
        assert shown.index("marker asks") < shown.index("Let me look.") < shown.index("⚙ Read README.md")
        usage = Usage(1200, 150, 0, 0, 0.0123).as_dict()
        engine.tell("turn.completed", turn(0, reply={"usage": usage, "duration_ms": 2100.0}))
        await until(pilot, lambda: "Σ $0.0123" in screen(pilot))
        assert "2.1 s" in screen(pilot)
        await until(pilot, lambda: any(block in screen(pilot) for block in "▁▂▃▄▅▆▇█"))


async def test_an_instances_earlier_messages_are_shown_and_it_can_be_zoomed() -> None:
    async with driven(board()) as pilot:
        await until(pilot, lambda: "Σ $0.0123" in screen(pilot))
        await pilot.press("z")
        await until(pilot, lambda: "Storing page blocks" in screen(pilot))
        assert "STATE" not in screen(pilot)
        assert "https://example.org/guide" in screen(pilot)
        await pilot.press("home", "k", "j")
        await pilot.press("z")
        await until(pilot, lambda: "STATE" in screen(pilot))


async def test_o_goes_to_the_conversation() -> None:
    async with driven(board()) as pilot:
        await pilot.press("down", "o")
        await until(pilot, lambda: "surya → marker · c_01" in screen(pilot))


async def test_exporting_writes_a_new_file_and_never_over_one(taken: Path) -> None:
    async with driven(board()) as pilot:
        await pilot.press("x")
        assert isinstance(pilot.app.screen, ExportDialog)
        await pilot.press("ctrl+u", *"taken.json", "enter")
        await until(pilot, lambda: "exists" in screen(pilot))
        await pilot.press("ctrl+u", *"notes.txt", "enter")
        await until(pilot, lambda: "has to end in" in screen(pilot))
        await pilot.press("ctrl+u", *"mine.json", "enter")
        await until(pilot, lambda: any("written" in notice for notice in notices(pilot)))
    assert taken.read_bytes() == b"mine"  # noqa: ASYNC240 - the monitor has ended
    assert json.loads(taken.with_name("mine.json").read_bytes())["thread_id"] == "c_00"


async def test_copying_takes_the_last_answer() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await until(pilot, lambda: "Σ $0.0123" in screen(pilot))
        await pilot.press("y")
        assert pilot.app.clipboard == ANSWER


async def test_a_terminal_that_cannot_be_handed_over_is_told_the_command() -> None:
    async with driven(board()) as pilot:
        await pilot.press("t")
        await until(pilot, lambda: any("attach-instance i_00" in notice for notice in notices(pilot)))


async def test_without_instances_every_key_says_that_there_is_none() -> None:
    async with driven(BoardEngine()) as pilot:
        await until(pilot, lambda: "No instances." in screen(pilot))
        await pilot.press("a", "p", "X", "x", "y", "t", "o", "s", "S", "down", "end", "enter")
        await until(pilot, lambda: any("no instance" in notice for notice in notices(pilot)))


# --- conversations -----------------------------------------------------------------------------


@sizes
async def test_conversations_are_searched_as_it_is_typed(size: tuple[int, int]) -> None:
    engine = board()
    engine.threads["c_02"] = conversation(2, "Graphs are *edges*.", "And graphs?")
    async with driven(engine, size) as pilot:
        await pilot.press("2", "slash", *"edges")
        await until(pilot, lambda: "«edges»" in screen(pilot))
        assert "tables → marker" not in screen(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "Graphs are edges." in screen(pilot))
        await pilot.press("slash", "escape")
        await until(pilot, lambda: "tables → marker" in screen(pilot))


async def test_a_conversation_goes_on_and_a_new_one_begins() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "c_00" in screen(pilot))
        await pilot.press("a", *"And?", "enter")
        await until(pilot, lambda: len(engine.jobs.asked) == 1 and not isinstance(pilot.app.screen, AskDialog))
        await pilot.press("n")
        await pilot.press(*"New?", "ctrl+s")
        await until(pilot, lambda: len(engine.jobs.asked) == 2)
    first, second = (request.question for request in engine.jobs.asked)
    assert (first.thread_id, first.prompt) == ("c_00", "And?")
    assert (second.thread_id, second.target, second.prompt) == (None, "arangodb", "New?")


async def test_a_conversation_shows_what_is_added_to_it() -> None:
    engine = board(1)
    async with driven(engine) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "c_00" in screen(pilot))
        thread = engine.threads["c_00"]
        more = answer("c_00", "It was added.")
        engine.threads["c_00"] = replace(thread, messages=(*thread.messages, more))
        engine.tell(
            "message.stored", turn(0, role="answer", speaker="arangodb", text="It was added.", state="complete")
        )
        await until(pilot, lambda: "It was added." in screen(pilot))


async def test_keys_of_the_conversations() -> None:
    async with driven(board()) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "Σ" in screen(pilot))
        await pilot.press("y")
        assert pilot.app.clipboard == ANSWER
        await pilot.press("enter")
        await until(pilot, lambda: "WHEN" not in screen(pilot))
        await pilot.press("z", "x")
        assert isinstance(pilot.app.screen, ExportDialog)
        await pilot.press("escape")


# --- events ------------------------------------------------------------------------------------


async def test_events_are_followed_and_filtered_by_pattern_priority_and_words() -> None:
    engine = board()
    async with driven(engine, LARGE) as pilot:
        await pilot.press("3")
        engine.tell("turn.delta", turn(0, text="a piece"))
        engine.tell("turn.tool_used", turn(0, tool="Read", arguments="pages.py"))
        engine.tell("conversation.created", {"title": "T"}, namespace="surya/marker")
        await until(pilot, lambda: "conversation.created" in screen(pilot))
        assert "a piece" not in screen(pilot)
        for typed, seen, unseen in [
            ("turn.*", "a piece", "conversation.created"),
            ("@surya", "conversation.created", "turn.tool_used"),
            ("surya/*", "conversation.created", "turn.tool_used"),
            ("pages", "turn.tool_used", "a piece"),
            ("i_00", "a piece", "conversation.created"),
        ]:
            await pilot.press("slash", "ctrl+u", *typed, "enter")
            await until(pilot, lambda s=seen, u=unseen: s in screen(pilot) and u not in screen(pilot))
        await pilot.press("slash", "escape")
        await until(pilot, lambda: "!normal" in screen(pilot) and "a piece" not in screen(pilot))


async def test_an_event_is_read_in_full_and_copied() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("3")
        engine.tell("turn.tool_used", turn(0, tool="Read", arguments="x" * 300))
        await until(pilot, lambda: "turn.tool_used" in screen(pilot))
        await pilot.press("y")
        assert json.loads(pilot.app.clipboard)["type"] == "turn.tool_used"
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, ReadingScreen)
        await until(pilot, lambda: '"specversion"' in screen(pilot))
        await pilot.press("j", "k", "y", "escape")
        assert not isinstance(pilot.app.screen, ReadingScreen)


async def test_who_looks_back_is_not_carried_on_and_end_follows_again() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("3")
        for number in range(40):
            engine.tell("conversation.created", {"title": f"title {number}"})
        await until(pilot, lambda: "title 39" in screen(pilot))
        await pilot.press("home")
        engine.tell("conversation.created", {"title": "the newest"})
        await until(pilot, lambda: "41 events listed" in screen(pilot) or "41 of 41" in screen(pilot))
        assert "not following" in screen(pilot)
        assert "title 0" in screen(pilot)
        await pilot.press("end")
        await until(pilot, lambda: "the newest" in screen(pilot))


async def test_focus_holds_back_and_the_digest_tells() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("3", "f")
        engine.tell("turn.tool_used", turn(0, tool="Read", arguments="held"))
        engine.tell("turn.failed", turn(0, error={"type": "Failed", "message": "it broke"}))
        await until(pilot, lambda: "it broke" in screen(pilot))
        assert "turn.tool_used" not in screen(pilot)
        assert "1 held back" in screen(pilot)
        await pilot.press("g")
        await until(pilot, lambda: "turn.tool_used" in screen(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "0 held back" in screen(pilot))


@pytest.mark.parametrize("presses", [0, 1, 2], ids=["everything", "attention", "critical"])
async def test_what_is_critical_comes_through_on_every_screen_and_level(presses: int) -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("5", *["f"] * presses)
        engine.tell("budget.exceeded", {"reason": "the day's budget is spent"})
        await until(pilot, lambda: any("budget is spent" in notice for notice in notices(pilot)))
        await pilot.press("3")
        await until(pilot, lambda: "budget.exceeded" in screen(pilot))


# --- jobs --------------------------------------------------------------------------------------


@sizes
async def test_jobs_are_listed_filtered_and_read(size: tuple[int, int]) -> None:
    async with driven(board(), size) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: "120 chars" in screen(pilot))
        assert next(line for line in screen(pilot).splitlines() if "failed" in line).rstrip().endswith("it stalled")
        await pilot.press("slash", *"done", "enter")
        await until(pilot, lambda: "Storing page blocks" in screen(pilot) or "Keep the order" in screen(pilot))
        await pilot.press("y")
        assert pilot.app.clipboard == ANSWER
        await pilot.press("enter")
        await until(pilot, lambda: "QUESTION" not in screen(pilot))
        await pilot.press("z", "o")
        await until(pilot, lambda: "c_02" in screen(pilot))


async def test_cancelling_a_job_asks_first_and_an_ended_one_cannot_be() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: "running" in screen(pilot))
        await pilot.press("c", "n")
        assert engine.jobs.known["j_01"].state is JobState.RUNNING
        await pilot.press("c", "y")
        await until(pilot, lambda: engine.jobs.known["j_01"].state is JobState.CANCELLED)
        await pilot.press("down", "c")
        await until(pilot, lambda: any("has ended" in notice for notice in notices(pilot)))


async def test_a_job_is_started_and_shown() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: "running" in screen(pilot))
        await pilot.press("n", *"Which index?", "enter")
        await until(pilot, lambda: engine.jobs.asked)
        engine.tell("job.queued", {"job_id": "j_53"})
        await until(pilot, lambda: "Which index?" in screen(pilot))
        await pilot.press("x")
        assert isinstance(pilot.app.screen, ExportDialog)


# --- usage -------------------------------------------------------------------------------------


async def test_usage_is_grouped_by_pair_module_and_day() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: "marker → arangodb" in screen(pilot))
        assert "15 turns · $1.30" in screen(pilot)
        await pilot.press("b")
        await until(pilot, lambda: "by module that answers" in screen(pilot))
        await pilot.press("b", "b")
        await until(pilot, lambda: "2026-01-02" in screen(pilot))
        await pilot.press("w")
        await until(pilot, lambda: "the last 7 days" in screen(pilot))
        await pilot.press("slash", *"01-01", "enter")
        await until(pilot, lambda: "2026-01-02" not in screen(pilot))
    assert engine.grouped_by[:1] == ["pair"]
    assert {"target", "source", "day"} <= set(engine.grouped_by)
