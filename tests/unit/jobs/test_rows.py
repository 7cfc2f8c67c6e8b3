from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claude_comms.jobs._rows import dumps, question_from, question_values
from claude_comms.types import Question

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=3)
MAYBE = st.none() | TEXT
QUESTIONS = st.builds(
    Question,
    source=TEXT,
    target=TEXT,
    prompt=TEXT,
    source_path=st.none() | st.sampled_from([Path("/a/b"), Path("relative/c")]),
    thread_id=MAYBE,
    data=VALUES,
    schema=st.none() | OBJECTS,
    template=TEXT,
    context=OBJECTS,
    backend=MAYBE,
    model=MAYBE,
    instance_id=MAYBE,
    deadline_s=st.none() | st.floats(0.1, 1e6),
    max_cost_usd=st.none() | st.floats(0.0, 100.0),
    idempotency_key=MAYBE,
    turn_id=MAYBE,
    chain=st.lists(TEXT, max_size=3).map(tuple),
    asked_in=MAYBE,
    check=st.none(),
)


@given(QUESTIONS)
def test_every_question_survives_being_kept(question: Question) -> None:
    assert question_from(str(dumps(question_values(question)))) == question


def test_what_a_later_version_adds_to_questions_is_left_out() -> None:
    values = {**question_values(Question("a", "b", "?")), "mood": "calm", "check": "no function"}
    assert question_from(json.dumps(values)) == Question("a", "b", "?")


def test_anything_that_a_reply_holds_can_be_kept() -> None:
    assert json.loads(str(dumps({"text": "half \ud83d", "path": Path("/a")}))) == {"text": "half \ud83d", "path": "/a"}
