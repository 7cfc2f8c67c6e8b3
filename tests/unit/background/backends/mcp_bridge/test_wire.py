"""What the bridge says is held against the schema; what JSON cannot say does not cross."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.background.backends.mcp_bridge._wire import decoded, encoded, require_valid
from claude_comms.errors import BackendProtocolError

SESSION = "0b7a3f0e-3a52-4d8e-9d6c-0d2b8a1c7e55"
LARGEST = 2**53 - 1


def delta(text: str) -> dict[str, Any]:
    names = {"session": SESSION, "turn": "t1", "piece": 0}
    return {"jsonrpc": "2.0", "method": "turn.delta", "params": {**names, "text": text}}


def health(**session: Any) -> dict[str, Any]:
    entry = {"session": SESSION, "state": "idle", "pid": 7, "rss_bytes": 1, "turns": 0, "last_alive_at": None}
    return {"pid": 1, "rss_bytes": 1, "uptime_s": 0.5, "sessions": [{**entry, **session}]}


@given(st.text(st.characters(categories=None), min_size=1))
def test_any_text_crosses_as_it_is_surrogates_included(text: str) -> None:
    message = delta(text)
    frame = encoded(message)
    assert frame.isascii()
    assert decoded(frame) == message


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_not_written(number: float) -> None:
    with pytest.raises(BackendProtocolError, match="cannot be written"):
        encoded({"number": number})


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_is_not_read(constant: str) -> None:
    with pytest.raises(BackendProtocolError, match="is no number in JSON"):
        decoded(f'{{"jsonrpc": "2.0", "id": 1, "result": {{"uptime_s": {constant}}}}}')


@pytest.mark.parametrize("turns", [0, LARGEST])
def test_integers_cross_as_far_as_both_languages_know_them(turns: int) -> None:
    require_valid("health.result", json.loads(json.dumps(health(turns=turns))))


@pytest.mark.parametrize("turns", [LARGEST + 1, 10**30, -1, 0.5, "1", True])
def test_what_is_no_such_integer_is_refused(turns: object) -> None:
    with pytest.raises(BackendProtocolError, match="/sessions/0/turns"):
        require_valid("health.result", health(turns=turns))


@pytest.mark.parametrize("time", ["2026-11-21T18:22:09Z", "2026-02-28T23:59:59.123456Z", None])
def test_a_time_is_one_of_rfc_3339_in_utc(time: str | None) -> None:
    require_valid("health.result", health(last_alive_at=time))


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-21T18:22:09+01:00", "2026-13-21T18:22:09Z", "2026-02-30T00:00:00Z", "2026-11-21T25:00:00Z",
        "2026-11-21 18:22:09Z", "2026-11-21", "yesterday", 1732212129,
    ],
)  # fmt: skip
def test_what_is_no_such_time_is_refused(time: object) -> None:
    with pytest.raises(BackendProtocolError, match="/sessions/0/last_alive_at"):
        require_valid("health.result", health(last_alive_at=time))


@pytest.mark.parametrize(
    "frame",
    [
        "", "{", "[]", "null", '"text"', "[1, 2]", '{"jsonrpc": "2.0"}', '{"jsonrpc": "1.0", "id": 1, "result": {}}',
        '{"jsonrpc": "2.0", "id": 1, "result": {}, "error": {"code": -32603, "message": "x"}}',
        '{"jsonrpc": "2.0", "id": 1, "error": {"code": 5, "message": "x"}}',
        '{"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "x"}}',
        '{"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "x", "data": {"type": "other"}}}',
        '{"jsonrpc": "2.0", "method": "turn.delta", "params": {}}',
        '{"jsonrpc": "2.0", "method": "open", "params": {}}',
        json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"a": "x"}})[:-1] + "\x00}",
        "[" * 100_000, '{"jsonrpc": "2.0", "id": 1, "result": {"a":' + "[" * 90 + "]" * 90 + "}}",
    ],
)  # fmt: skip
def test_what_the_protocol_does_not_allow_is_refused_with_a_piece_of_it(frame: str) -> None:
    with pytest.raises(BackendProtocolError, match="does not allow") as raised:
        decoded(frame)
    assert len(raised.value.line) <= 300
    assert raised.value.retryable


def test_a_later_bridge_may_say_more() -> None:
    message = delta("text")
    message["params"]["more"] = 1
    assert decoded(encoded(message)) == message
