from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.errors import ConfigError
from claude_comms.events import KINDS, Event, NewEvent, Priority, kind_of
from claude_comms.events._accepting import accept

_TYPES_OF_THE_CONTRACT = """
instance.started instance.busy instance.idle instance.paused instance.resumed instance.hibernated instance.restarted
instance.failed instance.stopped turn.started turn.delta turn.tool_used turn.tool_refused turn.retried turn.completed
turn.failed turn.interrupted turn.stalled message.stored conversation.created conversation.archived
conversation.restored job.queued job.started job.progress job.done job.failed job.cancelled budget.warned
budget.exceeded daemon.started daemon.draining daemon.stopped
""".split()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _event(**more: Any) -> NewEvent:
    values: dict[str, Any] = {"type": "turn.delta", "subject": "c_1", "namespace": "a/b"}
    return NewEvent(**(values | more))


def test_every_type_of_the_contract_is_in_the_catalogue() -> None:
    assert set(_TYPES_OF_THE_CONTRACT) <= set(KINDS)
    assert {"job.callback", "events.dropped"} <= set(KINDS), "published besides"
    assert all(kind.type == type_ and kind.meaning.endswith(".") for type_, kind in KINDS.items())


def test_what_interrupts_needs_attention_and_is_never_batched() -> None:
    for kind in KINDS.values():
        assert not kind.interrupts or kind.attention
        assert not (kind.interrupts and kind.batchable)
        assert kind.load in range(4)
        assert kind.interrupts == (kind.priority in {Priority.HIGH, Priority.CRITICAL})


def test_a_type_that_is_not_ours_asks_for_nothing() -> None:
    kind = kind_of("weather.changed")
    assert (kind.type, kind.attention, kind.interrupts, kind.priority) == (
        "weather.changed",
        False,
        False,
        Priority.NORMAL,
    )


def test_an_event_has_the_priority_of_its_kind_unless_it_is_given_one() -> None:
    assert _event().priority is Priority.LOW
    assert _event(type="turn.failed").priority is Priority.HIGH
    assert _event(priority=Priority.CRITICAL).priority is Priority.CRITICAL


@given(
    data=st.dictionaries(st.text(), json_values, max_size=4),
    when=st.datetimes(timezones=st.just(UTC)),
    priority=st.sampled_from(Priority),
)
def test_an_event_comes_back_from_its_cloudevent(data: dict[str, Any], when: datetime, priority: Priority) -> None:
    event = accept(_event(data=data, time=when, priority=priority)).numbered(7)
    envelope = event.as_cloudevent()
    assert Event.from_cloudevent(envelope) == event
    assert (envelope["specversion"], envelope["id"], envelope["seq"]) == ("1.0", event.event_id, 7)


def test_what_is_accepted_does_not_change_with_what_it_was_made_of() -> None:
    data: dict[str, Any] = {"items": [1]}
    accepted = accept(_event(data=data))
    data["items"].append(2)
    assert accepted.numbered(1).data == {"items": [1]}


def test_values_that_json_lacks_are_converted() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    assert accept(_event(data={"at": moment, "p": Priority.LOW})).numbered(1).data == {
        "at": "2026-01-02T00:00:00+00:00",
        "p": "low",
    }


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"data": {"a": {"b": object()}}}, r"data\.a\.b"),
        ({"data": {"a": math.nan}}, r"data\.a"),
        ({"subject": "\ud800"}, "subject"),
        ({"namespace": "a\0b"}, "namespace"),
        ({"type": ""}, "type"),
        ({"time": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001  that is what is wrong
        ({"data": {"a": "x" * (33 << 20)}}, "Send less"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_the_door_naming_the_place(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        accept(_event(**wrong))


def test_the_document_tells_of_every_type_what_the_catalogue_says() -> None:
    text = (Path(__file__).parents[3] / "docs" / "events.md").read_text(encoding="utf-8")
    for kind in KINDS.values():
        facts = ["yes" if kind.attention else "", "yes" if kind.interrupts else "", str(kind.load), kind.meaning]
        row = next(line for line in text.splitlines() if line.startswith(f"| `{kind.type}` |"))
        assert [cell.strip() for cell in row.strip("|").split("|")[1:]] == facts


def test_the_room_is_light_to_import_and_a_bus_in_memory_needs_no_database() -> None:
    heavy = ("sqlite3", "sqlalchemy", "pydantic", "anyio")
    code = (
        f"import sys, claude_comms.events as events; before = 'asyncio' in sys.modules; events.MemoryBus();"
        f"print(before, [name for name in {heavy} if name in sys.modules])"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False []"
