"""What the monitor knows, without a screen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.events import KINDS, Missed, Priority, kind_of
from claude_comms.tui._figures import cost, count, memory, sparkline
from claude_comms.tui.model import EventQuery, RateHistory, World, in_full, words_of
from claude_comms.types import InstanceState, Usage
from tui.support import event, info, turn


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


# --- rates -------------------------------------------------------------------------------------


def test_a_rate_is_of_whole_seconds_and_fades() -> None:
    rate = RateHistory(10)
    rate.add(400, 5.2)
    rate.add(400, 5.9)
    assert rate.rates(3, 5.9) == [0, 0, 0]
    assert rate.rates(3, 6.0) == [0, 0, 200]
    assert rate.rates(3, 8.0) == [200, 0, 0]
    assert rate.current(8.0, over_s=4) == 50
    assert rate.rates(3, 500.0) == [0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 30))))
def test_no_text_is_counted_twice_whatever_the_clock_says(pieces: list[tuple[int, float]]) -> None:
    rate = RateHistory(60)
    for characters, now_s in pieces:
        rate.add(characters, now_s)
    assert sum(rate.rates(60, 31.0)) * 4 == sum(characters for characters, _ in pieces)


def test_a_sparkline_has_a_block_for_each_value() -> None:
    assert sparkline([0, 1, 4, 8]) == " ▁▄█"
    assert sparkline([0, 0]) == "  "


@given(st.floats(0, 1e12))
def test_figures_fit_their_cells(number: float) -> None:
    assert len(count(number)) <= 7
    assert len(memory(int(number))) <= 9
    assert cost(None) == "?"


# --- instances ---------------------------------------------------------------------------------


def world(*numbers: int) -> tuple[World, Clock]:
    clock = Clock()
    known = World(clock)
    known.board.listed([info(number) for number in numbers])
    return known, clock


def test_events_change_what_is_known_of_an_instance_at_once() -> None:
    known, clock = world(0)
    facts = {"instance_id": "i_00", "state": "busy", "turns": 7, "waiting": 2, "usage": {"output_tokens": 9}}
    known.take(event("instance.busy", facts))
    known.take(event("turn.delta", turn(0, text="x" * 40), seq=2))
    clock.now += 1
    watched = known.board.known["i_00"]
    assert (watched.info.state, watched.info.turns, watched.info.waiting) == (InstanceState.BUSY, 7, 2)
    assert watched.info.usage == Usage(output_tokens=9)
    assert watched.rate.rates(1, clock()) == [10]


def test_an_instance_that_no_list_has_named_is_asked_for_and_loses_nothing() -> None:
    known, _ = world()
    assert not known.board.stale
    known.take(event("turn.delta", turn(3, text="early")))
    assert known.board.stale
    known.board.listed([info(3)])
    assert known.board.known["i_03"].transcript.last_answer == "early"


def test_an_instance_that_is_not_listed_any_more_has_stopped_and_only_some_such_are_kept() -> None:
    known, _ = world(*range(50))
    known.board.listed([info(0)])
    states = [watched.info.state for watched in known.board.known.values()]
    assert states.count(InstanceState.STOPPED) == 20
    assert known.board.known["i_00"].info.state is InstanceState.IDLE


def test_of_the_ended_those_go_first_that_ended_first() -> None:
    known, _ = world(*range(25))
    for number in (*range(1, 25), 0):
        known.take(event("instance.stopped", {"instance_id": f"i_{number:02}", "state": "stopped"}))
    known.board.listed([])
    assert "i_00" in known.board.known
    assert set(known.board.known) == {"i_00", *(f"i_{number:02}" for number in range(6, 25))}


def test_an_unknown_instance_that_stops_does_not_forget_that_another_is_asked_for() -> None:
    known, _ = world()
    known.take(event("instance.started", {"instance_id": "i_08"}))
    known.take(event("instance.stopped", {"instance_id": "i_09"}))
    assert known.board.stale


def said(known: World) -> list[str]:
    return [f"{entry.kind}: {entry.text}" for entry in known.board.known["i_00"].transcript.entries]


@pytest.mark.parametrize(
    ("kind", "first"), [("turn.failed", "trouble: X: it broke"), ("turn.interrupted", "note: int")]
)
def test_how_a_turn_without_an_answer_ended_and_what_it_cost_is_said(kind: str, first: str) -> None:
    known, _ = world(0)
    usage = Usage(100, 20, 0, 0, 0.0052).as_dict()
    known.take(event(kind, turn(0, error={"type": "X", "message": "it broke"}, usage=usage)))
    told = said(known)
    assert told[0].startswith(first)
    assert "$0.0052" in told[1]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("data", [{}, {"instance_id": "i_00", "state": "lost", "error": "x", "reply": {}, "usage": {}}])
def test_events_of_another_version_break_nothing(kind: str, data: dict[str, Any]) -> None:
    known, _ = world(0)
    known.take(event(kind, data))
    words_of(event(kind, data))
    assert known.events.seen == 1


# --- events ------------------------------------------------------------------------------------


def test_pieces_never_push_out_what_matters() -> None:
    known, _ = world(0)
    known.take(event("job.done", seq=1))
    for seq in range(2, 10_000):
        known.take(event("turn.delta", turn(0, text="x"), seq=seq))
    rows = known.events.that_fit(EventQuery.parse(""))
    assert rows[0].type == "job.done"
    assert len(rows) == 1_001
    assert [row.type for row in known.events.that_fit(EventQuery.parse("!normal"))] == ["job.done"]


def test_gaps_stand_where_they_are() -> None:
    known, _ = world()
    known.take(event("job.done", seq=1))
    known.take(Missed(2, 5, "too slow"))
    known.take(event("job.done", seq=6))
    rows = known.events.rows(EventQuery.parse(""))
    assert [row.last if isinstance(row, Missed) else row.seq for row in rows] == [1, 5, 6]


def test_long_texts_in_events_are_cut() -> None:
    known, _ = world()
    deep: dict[str, Any] = {"a": {"b": {"c": {"d": {"e": "f"}}}}, "text": "x" * 100_000, "list": ["y"] * 1_000}
    known.take(event("job.done", deep))
    assert len(in_full(known.events.that_fit(EventQuery.parse(""))[0])) < 3_000


@pytest.mark.parametrize(
    ("typed", "fits"),
    [
        ("", True), ("turn.*", True), ("turn.failed job.*", True), ("job.*", False), ("marker/*", True),
        ("*/marker", False), ("@arangodb", True), ("@", True), ("@surya", False), ("!critical", False),
        ("!hi", True), ("!nonsense", True), ("t_1", True), ("i_99", False), ("BROKE", True), ("broke down", False),
        ("!normalturn.failed", True),
    ],
)  # fmt: skip
def test_what_is_typed_is_taken_as_well_as_it_can_be(typed: str, fits: bool) -> None:
    data = turn(0, error={"type": "TurnFailedError", "message": "it broke"})
    assert EventQuery.parse(typed).fits(event("turn.failed", data)) is fits


def test_a_priority_that_nobody_knows_keeps_what_is_usual_and_is_named() -> None:
    query = EventQuery.parse("!normalturn.failed")
    assert not query.fits(event("turn.delta", turn(0, text="x")))
    assert query.unknown == ("!normalturn.failed",)
    assert EventQuery.parse("!hgh").least is Priority.NORMAL
    assert EventQuery.parse("!").unknown == ()
    assert EventQuery.parse("!low turn.*").fits(event("turn.delta", turn(0, text="x")))


@given(st.text(max_size=40))
def test_nothing_that_is_typed_is_an_error(typed: str) -> None:
    EventQuery.parse(typed).fits(event("turn.delta", turn(0, text="x")))


# --- alarms ------------------------------------------------------------------------------------


def test_alarms_are_counted_and_the_worst_is_named() -> None:
    known, _ = world()
    assert known.alarm() is None
    known.take(event("budget.exceeded", {"reason": "spent"}))
    known.take(event("turn.failed", {"error": {"message": "x"}}))
    known.take(event("job.done"))
    alarm = known.alarm()
    assert alarm is not None
    assert (alarm.count, alarm.type, alarm.critical) == (2, "budget.exceeded", True)
    assert kind_of("budget.exceeded").priority is Priority.CRITICAL
    assert known.alarm() is None
