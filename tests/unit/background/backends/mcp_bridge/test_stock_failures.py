from __future__ import annotations

import pytest

from claude_comms.background.backends.mcp_bridge._stock_failures import failure_of
from claude_comms.errors import BackendCrashedError, BackendUnavailableError, TurnFailedError

_LOGIN = "claude /login"


def ended(code: object, stdout: str = "", stderr: str = "") -> str:
    """As claude-code-mcp 1.10.12 says it."""
    return f"Claude CLI execution failed: Command failed with exit code {code}\nStderr: {stderr}\nStdout: {stdout}"


@pytest.mark.parametrize(
    ("said", "reason", "retryable"),
    [
        ("API Error: 529 Overloaded. This is a server-side issue", "overloaded", True),
        ("API Error: Request rejected (429) · Slow down", "rate_limited", True),
        ("API Error: 500 Something went wrong.", "server_error", True),
        ("API Error: 402 Pay", "billing", False),
        ("API Error: 400 messages: wrong", "invalid_request", False),
        ("Request too large (max 32MB).", "context_window", False),
        ("API Error: Connection error.", "cut", True),
        ("Something new", "server_error", True),
    ],
)
def test_what_claude_code_prints_becomes_a_reason(said: str, reason: str, retryable: bool) -> None:
    error = failure_of(ended(1, said), login=_LOGIN)
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.retryable, error.backend, error.partial) == (reason, retryable, "bridge", "")
    assert said.rstrip(".") in str(error)


@pytest.mark.parametrize(
    "said",
    [
        "Failed to authenticate. API Error: 401 no such key",
        "API Error: 403 not yours",
        "Invalid API key · Fix external API key",
        "Not logged in · Please run /login",
    ],
)
def test_a_refused_login_says_api_key_and_how_to_log_in(said: str) -> None:
    error = failure_of(ended(1, said), login=_LOGIN)
    assert isinstance(error, BackendUnavailableError)
    assert "API key" in str(error)
    assert str(error).endswith(_LOGIN)


def test_a_claude_code_that_was_killed_or_said_nothing_has_died() -> None:
    killed = failure_of(ended("null", "half an answer", "oh"), login=_LOGIN)
    assert isinstance(killed, BackendCrashedError)
    assert (killed.exit_code, killed.stderr_tail, killed.partial) == (None, "oh", "")
    silent = failure_of(ended(7), login=_LOGIN)
    assert isinstance(silent, BackendCrashedError)
    assert silent.exit_code == 7


def test_one_that_cannot_be_started_is_unavailable() -> None:
    error = failure_of(
        "Claude CLI execution failed: Spawn error: spawn /no/claude ENOENT | Path: x\nStderr: ", login=""
    )
    assert isinstance(error, BackendUnavailableError)
    assert "spawn /no/claude ENOENT" in str(error)


def test_what_another_server_says_is_told_shortened_and_without_control_characters() -> None:
    error = failure_of(f"no\x1b[2J luck {'!' * 2_000}", login=_LOGIN)
    assert isinstance(error, TurnFailedError)
    assert "no[2J luck" in str(error)
    assert len(str(error)) < 700
    assert "said nothing" in str(failure_of("", login=_LOGIN))
