"""What the monitor tells its reader: notices, empty lists, the lines above and below, figures and the focus."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms.errors import DaemonNotRunningError
from claude_comms.jobs import JobState
from claude_comms.tui._app import _VIEWS
from claude_comms.tui._notices import in_lines
from claude_comms.tui._pane import TranscriptPane
from claude_comms.tui._view import NOT_LOADED
from claude_comms.tui.dialogs._help import KEYS
from claude_comms.tui.feed import Connection
from claude_comms.tui.instances._rows import SORTED_BY, ordered
from claude_comms.tui.model import Watched
from claude_comms.types import InstanceState, Usage
from tui.support import (
    LARGE,
    SMALL,
    BoardEngine,
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

    from claude_comms.tui.model import World

pytestmark = pytest.mark.anyio
FAILED = {"error": {"type": "TurnFailedError", "message": "the turn was interrupted"}}


def board(count: int = 4) -> BoardEngine:
    engine = BoardEngine(*(info(number) for number in range(count)))
    engine.threads = {f"c_{number:02}": conversation(number) for number in range(count)}
    engine.jobs.known = {"j_01": job(1, JobState.RUNNING), "j_02": job(2, JobState.FAILED, error=FAILED["error"])}
    return engine


def lines(pilot: Pilot[Any]) -> list[str]:
    return screen(pilot).splitlines()


def world_of(pilot: Pilot[Any]) -> World:
    app: Any = pilot.app
    return app.world


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- notices -----------------------------------------------------------------------------------


def test_a_notice_is_cut_to_its_lines() -> None:
    assert in_lines("so it is", 30, 2) == "so it is"
    cut = in_lines("word " * 100, 20, 2)
    assert len(cut) <= 41
    assert cut.endswith("…")


@pytest.mark.parametrize("size", [(60, 15), SMALL, LARGE])
async def test_a_notice_stands_at_the_top_right_and_leaves_the_output_alone(size: tuple[int, int]) -> None:
    engine = board(1)
    async with driven(engine, size, toasts=True) as pilot:
        await until(pilot, lambda: "Σ" in screen(pilot))
        before = lines(pilot)
        engine.tell("turn.failed", turn(0, error={"type": "Failed", "message": "it broke, and " * 30}))
        shown_view(pilot).say("it is so, and " * 30)
        await until(pilot, lambda: "turn.failed" in screen(pilot) and "it is so" in screen(pilot))
        covered = [at for at, line in enumerate(lines(pilot)) if "▌" in line]
        assert covered == list(range(1, len(covered) + 1))
        assert len(covered) <= 5
        assert before[0][:30] == lines(pilot)[0][:30]


async def test_alarms_are_told_in_one_notice_that_counts_them() -> None:
    engine = board()
    async with driven(engine, toasts=True) as pilot:
        for number in range(3):
            engine.tell("turn.failed", turn(number, error={"type": "Failed", "message": f"it broke {number}"}))
        await until(pilot, lambda: "turn.failed (and 2 more)" in screen(pilot))
        assert len(notices(pilot)) == 1


async def test_what_the_reader_interrupted_is_no_alarm_and_what_fails_otherwise_is() -> None:
    engine = board(2)
    engine.instances.known["i_00"] = info(0, InstanceState.BUSY)
    async with driven(engine) as pilot:
        await pilot.press("i")
        await until(pilot, lambda: any("interrupting marker → arangodb" in notice for notice in notices(pilot)))
        engine.tell("job.failed", {"job_id": "j_09", "thread_id": "c_00", **FAILED})
        engine.tell("turn.failed", turn(1, error={"type": "Failed", "message": "another one"}))
        await until(pilot, lambda: any("another one" in notice for notice in notices(pilot)))
        assert not any("was interrupted" in notice for notice in notices(pilot))


async def test_an_instance_that_failed_is_what_the_alarm_names() -> None:
    engine = board()
    async with driven(engine, toasts=True) as pilot:
        engine.tell("instance.failed", {"instance_id": "i_00", "state": "failed", "reason": "it is gone"})
        engine.tell("turn.failed", turn(0, error={"type": "Failed", "message": "with it"}))
        await until(pilot, lambda: "instance.failed (and 1 more)" in screen(pilot))


# --- lists with nothing in them ----------------------------------------------------------------


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "5"])
async def test_a_filter_that_leaves_nothing_says_so_and_escape_shows_all(key: str) -> None:
    async with driven(board()) as pilot:
        await pilot.press(key)
        await until(pilot, lambda: key == "3" or shown_view(pilot).table.items)
        before = len(shown_view(pilot).table.items)
        await pilot.press("slash", *"zzzz", "enter")
        await until(pilot, lambda: "'zzzz'. Escape shows all" in screen(pilot) or "zzzz'. Escape" in screen(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: len(shown_view(pilot).table.items) == before and "Escape" not in screen(pilot))


@pytest.mark.parametrize("key", ["2", "4", "5"])
async def test_what_could_not_be_loaded_is_not_called_empty(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = board()

    async def away(*_: object, **__: object) -> Any:
        raise DaemonNotRunningError("no daemon.")

    async with driven(engine) as pilot:
        app: Any = pilot.app
        for owner, name in ((engine, "list_conversations"), (engine, "usage"), (engine.jobs, "list")):
            monkeypatch.setattr(owner, name, away)
        monkeypatch.setattr(engine.instances, "list", away)
        app.feed.connection = Connection.LOST
        await pilot.press(key)
        await until(pilot, lambda: NOT_LOADED in screen(pilot))
        assert "Press n" not in screen(pilot)


async def test_a_search_without_hits_leaves_no_thread_to_read_or_copy() -> None:
    async with driven(board()) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "Σ" in screen(pilot))
        await pilot.press("slash", *"zzzz", "enter")
        await until(pilot, lambda: "No message holds 'zzzz'" in screen(pilot))
        await until(pilot, lambda: "Σ" not in screen(pilot) and "c_00" not in screen(pilot))
        await pilot.press("y")
        assert not pilot.app.clipboard
        await until(pilot, lambda: any("no answer to copy" in notice for notice in notices(pilot)))


async def test_a_newcomer_is_told_what_to_press_and_it_works() -> None:
    async with driven(BoardEngine()) as pilot:
        await until(pilot, lambda: "Press n to ask somebody something" in screen(pilot))
        await pilot.press("n")
        assert "A new question" in screen(pilot)


# --- lines -------------------------------------------------------------------------------------


async def test_the_line_about_an_instance_begins_with_what_went_wrong() -> None:
    engine = board(1)
    engine.instances.known["i_00"] = info(0, InstanceState.FAILED, failure="given up after 5 restarts", restarts=5)
    async with driven(engine) as pilot:
        await until(pilot, lambda: "given up" in screen(pilot))
        line = next(line for line in lines(pilot) if "given up" in line)
        parts = ["given up after 5 restarts", "claude-sonnet-5-5", "5 restarts", "i_00", "c_00"]
        assert [part.strip() for part in line.split(" · ")] == parts


async def test_the_banner_says_at_80_columns_what_is_to_be_done() -> None:
    async with driven(board()) as pilot:
        app: Any = pilot.app
        app.feed.connection, app.feed.problem = (
            Connection.LOST,
            "no daemon is running for this home, as far as anybody knows",
        )
        app._connection_changed()
        await pilot.pause(0.1)
        assert "Start it: claude-comms daemon start" in lines(pilot)[1]
        assert "○ away" in lines(pilot)[0]


async def test_the_focus_stands_in_the_first_line_at_80_columns() -> None:
    async with driven(board()) as pilot:
        assert "0 of 4 busy" in lines(pilot)[0]
        await pilot.press("f")
        await until(pilot, lambda: "● live · focus attention" in lines(pilot)[0])


@pytest.mark.parametrize("width", [40, 60, 65, 66, 80, 100])
async def test_the_first_line_has_room_for_how_it_stands(width: int) -> None:
    async with driven(board(), (width, 15)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "Conversations" in lines(pilot)[0] and "● live" in lines(pilot)[0])
        await pilot.click("#tab-jobs")
        await until(pilot, lambda: "4 Jobs" in lines(pilot)[0] and shown_view(pilot).TITLE == "Jobs")


async def test_the_last_line_says_what_keys_do_while_a_filter_is_typed() -> None:
    async with driven(board()) as pilot:
        await pilot.press("slash", "a")
        await until(pilot, lambda: "F1 Help" in lines(pilot)[-1])
        assert "To the list" in lines(pilot)[-1]
        assert "Show all" in lines(pilot)[-1]
        assert "? Help" not in lines(pilot)[-1]


async def test_the_last_line_names_the_keys_of_the_events_and_the_palette_knows_them() -> None:
    async with driven(board(), LARGE) as pilot:
        await pilot.press("3")
        await until(pilot, lambda: "In full" in lines(pilot)[-1] and "Follow" in lines(pilot)[-1])
        await pilot.press("1")
        await until(pilot, lambda: all(name in lines(pilot)[-1] for name in ("Sort", "Zoom", "New")))
        await pilot.press("3", "ctrl+p", *"Follow")
        await until(pilot, lambda: "key end" in screen(pilot).lower())


async def test_ctrl_c_leaves() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("ctrl+c")
    assert engine.closed


def test_help_tells_of_each_screens_own_keys() -> None:
    told = {title: {word for key, _ in keys for word in key.replace(",", "").split()} for title, keys in KEYS}
    names = {"slash": "/", "enter": "Enter", "end": "End"}
    for view in _VIEWS.values():
        for binding in view.BINDINGS:
            key = binding.key if not isinstance(binding, tuple) else binding[0]
            known = told[view.TITLE] | told["Everywhere"]
            assert names.get(key, key) in known | {"B"}, (view.TITLE, key)


async def test_a_job_that_failed_says_why_in_its_row() -> None:
    async with driven(board(), LARGE) as pilot:
        await pilot.press("4")
        await until(pilot, lambda: "the turn was interrupted" in next(x for x in lines(pilot) if "failed" in x))


async def test_an_export_into_no_directory_is_refused_in_the_dialog() -> None:
    async with driven(board()) as pilot:
        await pilot.press("x", "ctrl+u", *"nowhere/x.md", "enter")
        await until(pilot, lambda: "There is no directory nowhere" in screen(pilot))
        await pilot.press("escape")
        assert not notices(pilot)


# --- sort, filter, figures ---------------------------------------------------------------------


@pytest.mark.parametrize("title", SORTED_BY)
def test_each_column_sorts_by_what_it_shows(title: str) -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    first = Watched(
        info(1, InstanceState.FAILED, source="a", target="a", name="a", backend="a", model="a", waiting=9, turns=9,
             usage=Usage(cost_usd=9.0), rss_bytes=9, last_used_at=now, instance_id="i_1", created_at=now)
    )  # fmt: skip
    last = Watched(
        info(2, InstanceState.STOPPED, source="b", target="b", name="b", backend="b", model="b", waiting=1, turns=1,
             usage=Usage(cost_usd=1.0), rss_bytes=1, last_used_at=now - timedelta(1), instance_id="i_2",
             created_at=now - timedelta(1))
    )  # fmt: skip
    first.rate.add(400, 5.0)
    assert ordered([last, first], title, 6.5, backwards=False) == [first, last]
    assert ordered([first, last], title, 6.5, backwards=True) == [last, first]


async def test_s_sorts_by_columns_that_are_seen_and_marks_them() -> None:
    async with driven(board()) as pilot:
        seen: list[str] = []
        for _ in range(len(shown_view(pilot).table.titles)):
            await pilot.press("s")
            marked = [word for word in lines(pilot)[2].split() if word.endswith("↓")]
            assert len(marked) == 1
            seen += marked
        assert len(set(seen)) == len(shown_view(pilot).table.titles) == 8


@pytest.mark.parametrize(("key", "typed"), [("1", "texify"), ("3", "surya")])
async def test_a_filter_acts_with_each_letter_not_with_the_next_frame(key: str, typed: str) -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press(key)
        engine.tell("conversation.created", {"title": "one"})
        engine.tell("conversation.created", {"title": "two"}, namespace="surya/marker")
        await until(pilot, lambda: key == "1" or len(shown_view(pilot).table.items) == 2)
        for timer in list(pilot.app._timers):
            timer.pause()
        await pilot.press("slash", *typed)
        assert len(shown_view(pilot).table.items) == 1


@pytest.mark.parametrize("typed", ["marker → arangodb", "→", "marker/*", "MARKER → ArangoDB"])
@pytest.mark.parametrize("key", ["1", "3", "4", "5"])
async def test_what_is_shown_can_be_typed(key: str, typed: str) -> None:
    if "/" in typed and key != "3":
        pytest.skip("patterns are of the events")
    engine = board()
    async with driven(engine) as pilot:
        engine.tell("job.done", {"job_id": "j_01"})
        await pilot.press(key)
        await until(pilot, lambda: "marker → arangodb" in screen(pilot))
        await pilot.press("slash", *typed, "enter")
        await pilot.pause(0.1)
        assert any("marker → arangodb" in line for line in lines(pilot)[2:8])


async def test_a_type_may_be_typed_in_capitals() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("3")
        engine.tell("turn.started", turn(0, backend="api", model="m"))
        engine.tell("job.done", {"job_id": "j_01"})
        await until(pilot, lambda: "job.done" in screen(pilot))
        await pilot.press("slash", *"Turn.*", "enter")
        await until(pilot, lambda: "turn.started" in screen(pilot) and "job.done" not in screen(pilot))


async def test_a_share_is_the_part_of_the_whole_whatever_the_filter_leaves() -> None:
    async with driven(board()) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: "96% ██████████" in screen(pilot) and " 4% " in screen(pilot))
        await pilot.press("slash", *"surya")
        await until(pilot, lambda: "marker → arangodb" not in screen(pilot))
        assert " 4% " in screen(pilot)


async def test_usage_is_of_the_time_that_is_named_and_comes_again_after_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, whole = board(), BoardEngine.usage
    spans: list[int | None] = []

    async def usage(self: BoardEngine, by: Any = "pair", *, since: datetime | None = None, **other: Any) -> Any:
        spans.append(None if since is None else round((datetime.now(UTC) - since) / timedelta(hours=1)))
        return await whole(self, by, **other)

    monkeypatch.setattr(BoardEngine, "usage", usage)
    clock = Clock()
    async with driven(engine, clock=clock) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: spans == [None])
        await pilot.press("w")
        await until(pilot, lambda: spans == [None, 168])
        await pilot.press("w")
        await until(pilot, lambda: spans == [None, 168, 24])
        clock.now += 10
        engine.tell("turn.completed", turn(0))
        await until(pilot, lambda: len(spans) == 4)


@pytest.mark.parametrize("key", ["1", "2"])
async def test_zoomed_all_is_drawn_from_its_first_word_on(key: str) -> None:
    engine = board(1)
    long = "\n\n".join(f"Paragraph {number} of it." for number in range(600))
    engine.threads = {"c_00": conversation(0, long)}
    async with driven(engine) as pilot:
        await pilot.press(key)
        await until(pilot, lambda: "Paragraph 599" in screen(pilot))
        pane = shown_view(pilot).query_one(TranscriptPane)
        pane.focus()
        await pilot.press("home")
        await until(pilot, lambda: pane.scroll_offset.y == 0)
        assert "Paragraph 0 of it" not in screen(pilot)
        await pilot.press("z")
        await pilot.pause(0.3)
        await pilot.press("home")
        await until(pilot, lambda: "Paragraph 0 of it" in screen(pilot))


# --- focus -------------------------------------------------------------------------------------


async def test_the_focus_hides_what_was_listed_and_everything_lists_it_again() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("3")
        engine.tell("turn.tool_used", turn(0, tool="Read", arguments="before"))
        await until(pilot, lambda: "turn.tool_used" in screen(pilot))
        await pilot.press("f")
        await until(pilot, lambda: "Nothing yet that interrupts" in screen(pilot))
        engine.tell("turn.tool_used", turn(0, tool="Read", arguments="meanwhile"))
        await until(pilot, lambda: "1 held back" in screen(pilot))
        await pilot.press("f", "f")
        await until(pilot, lambda: "before" in screen(pilot) and "meanwhile" in screen(pilot))
        assert "held back" not in lines(pilot)[-2]


async def test_a_digest_says_what_happened_in_lines_that_fit() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("f")
        engine.tell("turn.delta", turn(0, text="half a sent"))
        engine.tell("instance.idle", {"instance_id": "i_00", "state": "idle"})
        engine.tell("turn.started", turn(0, backend="api", model="claude-sonnet-5-5", reason="its own"))
        engine.tell("turn.tool_refused", turn(0, tool="Read", aimed_at="x", reason="far outside " * 30))
        await until(pilot, lambda: world_of(pilot).events.seen == 4)
        await pilot.press("g")
        await until(pilot, lambda: "turn.delta" in screen(pilot))
        shown = screen(pilot)
        assert "half a sent" not in shown
        assert "over api · claude-sonnet-5-5" in shown
        inside = [line.partition("│")[2].partition("│")[0] for line in shown.splitlines() if "│" in line]
        refused = next(at for at, line in enumerate(inside) if "turn.tool_refused" in line)
        assert inside[refused + 1].startswith(" " * 12)
        assert "…" in inside[refused + 1]
        assert "outside" not in inside[refused + 2]


async def test_what_wants_attention_stands_first_in_a_digest_with_its_mark() -> None:
    engine = board()
    async with driven(engine) as pilot:
        await pilot.press("f", "f")
        engine.tell("turn.started", turn(0, backend="api", model="m"))
        engine.tell("turn.failed", turn(0, error={"type": "Failed", "message": "it broke"}))
        await until(pilot, lambda: world_of(pilot).events.focus.held_back == 2)
        await pilot.press("g")
        await until(pilot, lambda: "turn.started" in screen(pilot))
        marked = next(line for line in lines(pilot) if "turn.failed" in line)
        assert "! " in marked.partition("turn.failed")[0]
        assert screen(pilot).index("turn.failed") < screen(pilot).index("turn.started")


async def test_without_an_answer_from_the_list_it_is_loading_not_empty() -> None:
    async with driven(BoardEngine()) as pilot:
        app: Any = pilot.app
        await until(pilot, lambda: "No instances." in screen(pilot))
        app.world.board.stale = True
        app.view.bring_up_to_date(changed=True)
        assert app.view.table.empty == "Loading …"


async def test_a_stopped_instance_that_is_chosen_keeps_its_row_readable() -> None:
    engine = board(2)
    async with driven(engine) as pilot:
        engine.instances.known["i_00"] = replace(engine.instances.known["i_00"], state=InstanceState.STOPPED)
        await until(pilot, lambda: "stopped" in screen(pilot))
        assert next(line for line in lines(pilot) if "stopped" in line).startswith("▸")
