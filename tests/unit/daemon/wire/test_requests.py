"""What clients send arrives as they meant it, or is refused with the place of the mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from claude_comms.daemon import wire
from claude_comms.errors import ContextError
from claude_comms.events import EventFilter
from claude_comms.jobs import JobRequest
from claude_comms.types import InstanceLimits, Pair, Question

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"])),
    data=_JSON,
    context=st.dictionaries(_TEXT, _JSON, max_size=3),
    schema=st.none() | st.dictionaries(_TEXT, _JSON, max_size=3),
    deadline_s=st.none() | st.floats(0.1, 1000),
    turn_id=st.none() | _TEXT,
)
def test_a_question_survives_the_wire(prompt: str, data: Any, context: Any, schema: Any, **rest: Any) -> None:
    question = Question("marker", "arangodb", prompt, Path("/src"), None, data, schema, context=context, **rest)

    sent = wire.encoded(wire.QuestionModel.of(question).as_json())

    assert wire.QuestionModel.model_validate(wire.decoded(sent)).inner() == question


def test_a_job_survives_the_wire() -> None:
    request = JobRequest(Question("marker", "arangodb", "why?", schema={"type": "object"}), 3, 60.0, ("notify", "me"))

    sent = wire.encoded(wire.JobRequestModel.of(request).as_json())

    assert wire.JobRequestModel.model_validate(wire.decoded(sent)).inner() == request


def test_an_instance_survives_the_wire() -> None:
    limits = InstanceLimits(max_turns=3)
    model = wire.InstanceModel.of(
        Pair("marker", "arangodb"), limits=limits, name="m", grants=(), environment={"A": "b"}
    )

    arrived = wire.InstanceModel.model_validate(wire.decoded(wire.encoded(model.as_json())))

    assert arrived.pair == Pair("marker", "arangodb")
    assert arrived.options() == {
        "name": "m", "backend": None, "model": None, "grants": (), "limits": limits, "environment": {"A": "b"},
    }  # fmt: skip


def test_a_filter_survives_the_wire() -> None:
    wanted = EventFilter(("turn.*",), ("c_1",), ("marker/*",), "marker", "i_1", "t_1")

    sent = wire.encoded(wire.FilterModel.of(wanted).as_json())

    assert wire.FilterModel.model_validate(wire.decoded(sent)).inner() == wanted


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": 3},
        {"source": ""},
        {"deadline_s": 0},
        {"source_path": "relative"},
        {"source_path": "/a\0b"},
        {"colour": "blue"},
        {"check": "code"},
    ],
)
def test_a_wrong_question_is_refused_by_the_name_of_its_field(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        wire.QuestionModel.model_validate({"source": "a", "target": "b", "prompt": "c", **wrong})

    assert [problem["loc"][0] for problem in caught.value.errors()] == list(wrong)


def test_data_that_is_no_json_names_its_place() -> None:
    model = wire.QuestionModel.model_validate(
        {"source": "a", "target": "b", "prompt": "c", "data": {"pages": ["\ud800"]}}
    )

    with pytest.raises(ContextError, match=r"data\.pages\[0\]"):
        model.inner()
