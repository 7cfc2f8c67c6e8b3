"""Values that several rooms share."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from claude_comms.errors import ConfigError
from claude_comms.types import (
    HistoryMessage,
    Message,
    MessageState,
    Pair,
    Prompt,
    Reply,
    Retried,
    RetryPolicy,
    Role,
    Source,
    SystemBlock,
    TokenCount,
    Usage,
    new_id,
)

REPLY = Reply(
    response="text",
    data={"a": [1]},
    thread_id="c_1",
    message_id="m_1",
    source="marker",
    target="arangodb",
    instance_id="i_1",
    backend="api",
    model="m",
    usage=Usage(1, 2, 3, 4, 0.5),
    stop_reason="end_turn",
    duration_ms=1.5,
    sources=(Source("file", "a.py"),),
)


def test_ids_sort_by_time_and_never_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    clock = iter(range(10**18, 10**18 + 10**9, 10**6))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    ids = [new_id("c") for _ in range(500)]
    assert ids == sorted(set(ids))
    assert all(re.fullmatch("c_[0-9a-hjkmnp-tv-z]{26}", found) for found in ids)


def test_ids_of_one_moment_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    assert len({new_id("c") for _ in range(500)}) == 500


def test_a_reply_reads_by_attribute_and_as_a_mapping() -> None:
    assert REPLY.response == REPLY["response"] == dict(REPLY)["response"] == "text"
    assert REPLY.usage["cost_usd"] == 0.5
    assert REPLY.get("nothing") is None
    assert "status" in REPLY
    assert len(REPLY) == len(list(REPLY)) == 14
    with pytest.raises(KeyError):
        REPLY["as_dict"]


def test_a_record_as_a_dict_is_json() -> None:
    class Found(BaseModel):
        at: datetime

    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    message = Message(
        "m",
        "c",
        0,
        Role.ANSWER,
        "arangodb",
        "text",
        MessageState.COMPLETE,
        noon,
        data=Found(at=noon),
        usage=Usage(cost_usd=None),
        retries=(Retried(1, "overloaded", 0.5),),
    )
    shown = json.loads(json.dumps(message.as_dict()))
    assert shown["role"] == "answer"
    assert shown["created_at"] == "2026-11-21T12:00:00+00:00"
    assert shown["data"] == {"at": "2026-11-21T12:00:00Z"}
    assert shown["usage"]["cost_usd"] is None
    assert shown["retries"] == [{"attempt": 1, "reason": "overloaded", "wait_s": 0.5}]
    assert json.loads(json.dumps(REPLY.as_dict()))["sources"] == [{"kind": "file", "value": "a.py"}]


def test_usage_adds_up_and_an_unknown_cost_stays_unknown() -> None:
    assert Usage(1, 2, 3, 4, 0.5) + Usage(1, 1, 1, 1, 0.25) == Usage(2, 3, 4, 5, 0.75)
    assert (Usage(cost_usd=0.5) + Usage(cost_usd=None)).cost_usd is None


def test_a_pair_reads_as_an_arrow() -> None:
    assert str(Pair("marker", "arangodb")) == "marker → arangodb"


def test_a_prompts_system_is_also_one_text() -> None:
    prompt = Prompt(
        Pair("a", "b"),
        (SystemBlock("target", "one"), SystemBlock("source", "two")),
        (HistoryMessage(Role.QUESTION, "q"),),
        "message",
        "question",
        "query",
        "version",
        TokenCount(1),
    )
    assert prompt.system_text == "one\n\ntwo"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("attempts", value) for value in (0, -1, "3", None)),
        *((name, value) for name in ("initial_wait_s", "max_wait_s") for value in (-0.1, math.inf, math.nan, "1")),
    ],
)
def test_a_retry_policy_that_cannot_be_is_refused_by_its_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^retry\.{field}: .* cannot be\. Set a number from [01] up"):
        RetryPolicy(**{field: value})


def test_a_retry_policy_may_never_wait_and_know_no_status() -> None:
    assert RetryPolicy(attempts=1, initial_wait_s=0, max_wait_s=0, retry_on=()).retry_on == ()
