"""What a stock claude-code-mcp says when a call fails, as our errors: it only has words for it."""

from __future__ import annotations

import re

from claude_comms.errors import BackendCrashedError, BackendError, BackendUnavailableError, TurnFailedError
from claude_comms.text import printable, shorten
from claude_comms.types import BRIDGE

__all__ = ["failure_of", "interrupted"]

_LONGEST = 500
_ENDED = re.compile(r"Command failed with exit code (\d+|null)\nStderr: (.*?)\nStdout: (.*)\Z", re.DOTALL)
_STATUS = re.compile(r"API Error: (\d{3})\b|Request rejected \((\d{3})\)")
_NO_LOGIN = re.compile(r"not logged in|please run /login|invalid api key|failed to authenticate", re.IGNORECASE)
_NOT_RUN = re.compile(r"Spawn error: (.*?)(\n|\Z)")
_REASONS = {
    400: "invalid_request", 402: "billing", 404: "invalid_request", 413: "context_window", 429: "rate_limited",
    529: "overloaded",
}  # fmt: skip
_WORDS = {
    "request too large": "context_window", "prompt is too long": "context_window", "connection error": "cut",
    "timed out": "timeout",
}  # fmt: skip
"""What Claude Code writes where it tells no status."""

_PASSING = {"rate_limited", "overloaded", "server_error", "cut", "timeout"}


def failure_of(said: str, *, login: str) -> BackendError:
    """The error for a call that failed with `said`: the server's message, or the text of a result that is an error.

    `login` is the command that logs Claude Code in.
    """
    if (not_run := _NOT_RUN.search(said)) is not None:
        return BackendUnavailableError(
            f"claude-code-mcp cannot run Claude Code: {shorten(not_run[1], _LONGEST)}. See: claude-comms doctor",
            backend=BRIDGE,
        )
    ended = _ENDED.search(said)
    told = "" if ended is None else ended[3].strip() or ended[2].strip()
    if ended is not None and (ended[1] == "null" or not told):
        return _died(ended)
    return _refused(told or said.strip(), login)


def interrupted() -> TurnFailedError:
    """The error of a turn that was stopped from outside."""
    return TurnFailedError("the turn was interrupted. Ask again.", reason="interrupted", backend=BRIDGE)


def _died(ended: re.Match[str]) -> BackendCrashedError:
    """Claude Code was killed, or ended without a word."""
    tail = printable(ended[2] or ended[3]).strip()
    how = "was killed" if ended[1] == "null" else f"ended with exit code {ended[1]}"
    words = f" It said: {shorten(tail, _LONGEST)}" if tail else ""
    return BackendCrashedError(
        f"Claude Code {how} in the middle of its work.{words} The next question starts a new process.",
        exit_code=None if ended[1] == "null" else int(ended[1]),
        stderr_tail=tail,
        backend=BRIDGE,
    )


def _refused(said: str, login: str) -> BackendError:
    found = _STATUS.search(said)
    status = int(found[1] or found[2]) if found else None
    if status in (401, 403) or _NO_LOGIN.search(said):
        return BackendUnavailableError(
            f"Claude Code has no login or API key that the API takes: {shorten(said, _LONGEST).rstrip('.')}."
            f" Correct ANTHROPIC_API_KEY, or log in: {login}",
            backend=BRIDGE,
        )
    reason = _reason(status, said)
    advice = "Ask again." if reason in _PASSING else "Ask something shorter." if reason == "context_window" else ""
    words = shorten(said, _LONGEST).rstrip(".") or "it said nothing of why"
    return TurnFailedError(
        f"claude-code-mcp got no answer ({reason}): {words}. {advice}".rstrip(),
        reason=reason,
        backend=BRIDGE,
        retryable=reason in _PASSING,
    )


def _reason(status: int | None, said: str) -> str:
    if status is not None:
        return _REASONS.get(status, "server_error" if status >= 500 else "invalid_request")
    return next((reason for words, reason in _WORDS.items() if words in said.lower()), "server_error")
