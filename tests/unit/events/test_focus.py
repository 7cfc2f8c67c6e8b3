from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.events import KINDS, Digest, Event, Focus, FocusLevel, NewEvent, Priority, kind_of


class _Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def _event(seq: int, type_: str, namespace: str = "marker/arangodb", **data: Any) -> Event:
    priority = data.pop("priority", kind_of(type_).priority)
    return Event(seq, f"e_{seq}", type_, "c_1", namespace, priority, datetime(2026, 1, 1, tzinfo=UTC), data)


@pytest.mark.parametrize(
    ("level", "passing"),
    [
        ("everything", ["turn.delta", "job.done", "turn.failed", "budget.exceeded"]),
        ("attention", ["turn.failed", "budget.exceeded"]),
        ("critical", ["budget.exceeded"]),
    ],
)
def test_each_level_lets_through_what_it_says(level: str, passing: list[str]) -> None:
    focus = Focus(level)
    types = ("turn.delta", "job.done", "turn.failed", "budget.exceeded")
    assert [type_ for seq, type_ in enumerate(types) if focus.pass_on(_event(seq, type_))] == passing
    assert focus.held_back == len(types) - len(passing)


def test_an_event_may_be_more_pressing_than_its_kind() -> None:
    assert Focus("critical").pass_on(_event(1, "turn.delta", priority=Priority.CRITICAL))
    assert Focus("attention").pass_on(_event(1, "turn.delta", priority=Priority.HIGH))
    assert not Focus("critical").pass_on(_event(1, "turn.failed"))


def test_the_digest_counts_by_type_and_namespace_the_pressing_first() -> None:
    focus = Focus("critical")
    for seq in range(1, 8):
        focus.pass_on(_event(seq, "turn.delta", text=f"piece\n{seq}"))
    focus.pass_on(_event(8, "turn.delta", "a/b", text="other"))
    focus.pass_on(_event(9, "turn.failed", error={"type": "X", "message": "no\x1b[2J answer"}))
    digest = focus.digest()
    assert digest is not None
    assert [(line.type, line.namespace, line.count, line.attention) for line in digest.lines] == [
        ("turn.failed", "marker/arangodb", 1, True),
        ("turn.delta", "a/b", 1, False),
        ("turn.delta", "marker/arangodb", 7, False),
    ]
    assert digest.lines[0].texts == ("no[2J answer",)
    assert digest.lines[2].texts == ("piece 3", "piece 4", "piece 5", "piece 6", "piece 7")
    assert (digest.count, digest.load, digest.first_seq, digest.last_seq) == (9, 3, 1, 9)
    assert focus.digest() is None
    assert focus.held_back == 0


def test_a_digest_is_due_after_the_interval_and_only_with_something_in_it() -> None:
    clock = _Clock()
    focus = Focus("attention", every_s=60, clock=clock)
    clock.time = 100
    assert focus.due() is None
    focus.pass_on(_event(1, "job.done"))
    assert isinstance(focus.due(), Digest)
    focus.pass_on(_event(2, "job.done"))
    clock.time = 159
    assert focus.due() is None
    clock.time = 160
    assert focus.due() is not None
    assert Focus("attention").due() is None


def test_what_was_held_back_survives_a_change_of_level() -> None:
    focus = Focus("critical")
    focus.pass_on(_event(1, "turn.failed"))
    focus.level = FocusLevel.EVERYTHING
    assert focus.pass_on(_event(2, "turn.failed"))
    digest = focus.digest()
    assert digest is not None
    assert digest.count == 1


def test_memory_is_bounded_and_what_wants_attention_has_the_lines() -> None:
    focus = Focus("critical")
    for seq in range(1, 1001):
        focus.pass_on(_event(seq, "turn.delta", f"module_{seq}/x"))
    focus.pass_on(_event(1001, "turn.failed", "late/x"))
    digest = focus.digest()
    assert digest is not None
    assert len(digest.lines) == 200
    assert digest.lines[0].namespace == "late/x"
    assert (digest.count, digest.left_out) == (1001, 801)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from(["a/b", "c/d"]))),
    st.sampled_from(FocusLevel),
)
def test_every_event_is_shown_or_counted_and_what_is_critical_is_shown(
    types: list[tuple[str, str]], level: FocusLevel
) -> None:
    focus = Focus(level)
    events = [_event(seq, type_, namespace) for seq, (type_, namespace) in enumerate(types, 1)]
    shown = [event for event in events if focus.pass_on(event)]
    digest = focus.digest()
    counted = 0 if digest is None else sum(line.count for line in digest.lines)
    assert len(shown) + counted == len(events)
    assert all(event in shown for event in events if event.priority is Priority.CRITICAL)


def test_an_event_that_was_not_given_a_priority_can_be_focused() -> None:
    assert NewEvent("budget.exceeded", "b", "daemon").priority is Priority.CRITICAL
