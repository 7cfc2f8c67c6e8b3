"""What the daemon says comes back as the record it was made of."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms.conversations import SearchHit
from claude_comms.daemon import wire
from claude_comms.events import Event, Priority
from claude_comms.jobs import Job, JobState
from claude_comms.types import (
    Check,
    Conversation,
    ConversationState,
    InstanceInfo,
    InstanceLimits,
    InstanceState,
    Message,
    MessageState,
    Refused,
    Reply,
    Retried,
    Role,
    Source,
    ToolUsed,
    Usage,
    UsageRow,
)

if TYPE_CHECKING:
    from claude_comms.types import Record

_NOW = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
_USAGE = Usage(1, 2, 3, 4, 0.5)
_MESSAGE = Message(
    "m_1", "c_1", 0, Role.QUESTION, "marker", "why?", MessageState.FAILED, _NOW, "api", "m", "i_1", {"a": [1]},
    _USAGE, "2026-01-01", "end_turn", 1.5, {"type": "StoreError", "message": "x"}, (Source("file", "a.py"),),
    (Retried(1, "overloaded", 0.5),), "v1", (ToolUsed("Read", "a.py"),), (Refused("Bash", "rm", "no"),), "lost", "t_1",
)  # fmt: skip

_PAIRS: list[tuple[Record, Any]] = [
    (
        Reply(
            "yes", {"a": 1}, "c_1", "m_1", "marker", "arangodb", "i_1", "api", "m", _USAGE, "end_turn", 1.5,
            (Source("file", "a.py"),),
        ),
        wire.ReplyModel,
    ),
    (_MESSAGE, wire.MessageModel),
    (
        Conversation(
            "c_1", "marker", "arangodb", None, None, ConversationState.ACTIVE, "", _NOW, _NOW, 1, (_MESSAGE,)
        ),
        wire.ConversationModel,
    ),
    (
        SearchHit(
            "c_1", "m_1", 0, Role.ANSWER, "a", MessageState.COMPLETE, "marker", "arangodb", "«x»", 0.25, _NOW
        ),
        wire.SearchHitModel,
    ),
    (
        InstanceInfo(
            "i_1", None, "marker", "arangodb", "api", None, InstanceState.IDLE, None, 1, _NOW, _NOW, 12, 4096, 1, 2,
            _USAGE, _NOW, ("Read",), InstanceLimits(1, 2.0, 3.0, 4, 5, 6.0), "broken",
        ),
        wire.InstanceInfoModel,
    ),
    (
        Job(
            "j_1", JobState.DONE, "marker", "arangodb", "why?", 1, _NOW, _NOW, _NOW, _NOW, "c_1", {"characters": 3},
            {"response": "x"}, None, ("true", "x"), "told",
        ),
        wire.JobModel,
    ),
    (UsageRow("marker/arangodb", 2, _USAGE), wire.UsageRowModel),
    (Check("api", None, "fine", "", 1.5), wire.CheckModel),
]  # fmt: skip


@pytest.mark.parametrize(("record", "model"), _PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_record_survives_the_wire(record: Record, model: Any) -> None:
    said = wire.decoded(wire.encoded(record.as_dict()))

    assert model.model_validate(said).inner() == record


@pytest.mark.parametrize(("record", "model"), _PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_no_field_of_a_record_is_forgotten_on_the_wire(record: Record, model: Any) -> None:
    names = {field.name for field in dataclasses.fields(record)}  # type: ignore[arg-type]

    assert set(model.model_fields) == names


def test_an_event_survives_the_wire() -> None:
    event = Event(7, "e_1", "turn.delta", "c_1", "marker/arangodb", Priority.LOW, _NOW, {"text": "a"})

    said = wire.decoded(wire.encoded(event.as_cloudevent()))

    assert wire.EventModel.model_validate(said).inner() == event


def test_a_newer_daemon_may_say_more() -> None:
    said = {**Check("api", True, "fine").as_dict(), "colour": "blue"}

    assert wire.CheckModel.model_validate(said).inner() == Check("api", True, "fine")


def test_a_lone_surrogate_cannot_break_an_answer() -> None:
    assert wire.decoded(wire.encoded({"text": "a\ud800b"})) == {"text": "a?b"}


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", "[" * 100_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that is all it promises
        wire.decoded(text)
