"""What Claude Code's ends of a turn are called: its names and numbers count, its words only where it gives neither."""

from __future__ import annotations

from typing import Any

import pytest
from claude_agent_sdk import ResultMessage

from claude_comms.background.backends.claude_code._failures import failure_of, reason_of
from claude_comms.errors import BackendUnavailableError, TurnFailedError

LOGIN = "CLAUDE_CONFIG_DIR=/h/config claude /login"


def result(**values: Any) -> ResultMessage:
    given: dict[str, Any] = {"subtype": "success", "is_error": True, "stop_reason": "stop_sequence", **values}
    return ResultMessage(duration_ms=1, duration_api_ms=1, num_turns=1, session_id="s", **given)


def failure(written: str = "", kind: str | None = None, **values: Any) -> Exception | None:
    return failure_of(result(**values), kind=kind, written=written, partial="", login=LOGIN)


def reason(written: str = "", kind: str | None = None, **values: Any) -> str:
    found = failure(written, kind, **values)
    assert isinstance(found, TurnFailedError), found
    return found.reason


@pytest.mark.parametrize(
    "words", ["authentication_mode is unknown, see /login", "prompt is too long", "rate_limit", "connection terminated"]
)
def test_words_that_the_api_repeats_do_not_decide_what_went_wrong(words: str) -> None:
    assert reason(f"API Error: 400 {words}", "unknown", api_error_status=400) == "invalid_request"
    assert reason(f"API Error: 500 {words}", "server_error", api_error_status=500) == "server_error"


@pytest.mark.parametrize(
    ("kind", "status", "called"),
    [
        ("unknown", 400, "invalid_request"),
        ("billing_error", 400, "billing"),
        ("unknown", 402, "billing"),
        ("invalid_request", 413, "context_window"),
        ("model_not_found", 404, "invalid_request"),
        ("rate_limit", 429, "rate_limited"),
        ("server_error", 529, "overloaded"),
        ("server_error", 500, "server_error"),
        ("rate_limit", None, "rate_limited"),
        ("overloaded", None, "overloaded"),
        ("max_output_tokens", None, "max_tokens"),
    ],
)
def test_status_and_type_name_the_reason(kind: str, status: int | None, called: str) -> None:
    assert reason("something", kind, api_error_status=status) == called


def test_how_the_turn_ended_says_that_the_prompt_is_too_long_or_the_rounds_too_many() -> None:
    too_long: dict[str, Any] = {"api_error_status": 400, "terminal_reason": "prompt_too_long"}
    assert reason("words", "invalid_request", **too_long) == "context_window"
    assert reason(subtype="error_max_turns", is_error=False) == "max_turns"


@pytest.mark.parametrize(
    ("words", "called"), [("the connection was closed", "cut"), ("something else", "server_error")]
)
def test_words_count_where_there_is_neither_status_nor_type(words: str, called: str) -> None:
    assert reason(f"API Error: {words}", "unknown") == called


def test_a_refusal_without_a_status_means_that_nobody_is_logged_in() -> None:
    found = failure("Not logged in · Please run /login", "authentication_failed")
    assert isinstance(found, BackendUnavailableError)
    assert "nobody is logged in" in str(found)
    assert "ANTHROPIC_API_KEY" in str(found)
    assert LOGIN in str(found)
    assert "refuses" not in str(found)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_tells_the_status(status: int) -> None:
    found = failure("Failed to authenticate", "authentication_failed", api_error_status=status)
    assert isinstance(found, BackendUnavailableError)
    assert f"refuses Claude Code's API key or login (status {status})" in str(found)


def test_a_complete_answer_is_no_failure() -> None:
    assert failure(is_error=False, stop_reason="end_turn") is None


def test_a_retry_is_named_by_its_status_and_else_by_its_type() -> None:
    assert reason_of(529, "server_error") == "overloaded"
    assert reason_of(None, "rate_limit") == "rate_limited"
    assert reason_of(None, "unknown") == "cut"
