"""How a turn of Claude Code can fail, as our errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.errors import BackendError, BackendUnavailableError, TurnFailedError
from claude_comms.text import one_line, shorten
from claude_comms.types import CLAUDE_CODE

if TYPE_CHECKING:
    from claude_agent_sdk import ResultMessage

__all__ = ["REFUSED_KEY", "SHORT", "failed", "failure_of", "reason_of", "refused_key"]

REFUSED_KEY = (401, 403)
"""The statuses of a login that the API does not take."""

SHORT = {
    "max_tokens": "max_tokens", "refusal": "refusal", "model_context_window_exceeded": "context_window",
    "pause_turn": "pause_turn",
}  # fmt: skip
"""Stop reasons of answers that are not whole, and how we call them."""


_REASONS = {
    "rate_limit": "rate_limited", "overloaded": "overloaded", "server_error": "server_error",
    "invalid_request": "invalid_request", "billing_error": "billing", "max_output_tokens": "max_tokens",
}  # fmt: skip
_STATUSES = {400: "invalid_request", 413: "context_window", 429: "rate_limited", 529: "overloaded"}
_PASSING = {"rate_limited", "overloaded", "server_error", "cut"}


def refused_key(status: int | None) -> BackendUnavailableError:
    """The error for a login that the API does not take."""
    return BackendUnavailableError(
        f"the API refuses Claude Code's API key or login (status {status}). Correct ANTHROPIC_API_KEY, or log in as"
        " `claude-comms doctor` says.",
        backend=CLAUDE_CODE,
    )


def failure_of(result: ResultMessage, *, written: str, partial: str) -> BackendError | None:
    """What is wrong with a turn that ended by itself; None for a complete answer.

    `written` is what Claude Code wrote in place of an answer, `partial` the text that was shown.
    """
    said = shorten(written or one_line(result.result or "") or "; ".join(result.errors or ()), 500)
    if result.is_error or result.subtype != "success" or written:
        status = result.api_error_status
        if status in REFUSED_KEY or "authentication" in said.lower() or "/login" in said:
            return refused_key(status)
        return failed(_reason(status, result, said), said or result.subtype, partial)
    if result.stop_reason in {"end_turn", "stop_sequence", "tool_use"}:
        return None
    reason = "cut" if result.stop_reason is None else SHORT.get(result.stop_reason, result.stop_reason)
    return failed(reason, f"the answer ended with {result.stop_reason}", partial)


def _reason(status: int | None, result: ResultMessage, said: str) -> str:
    if "prompt is too long" in said.lower():
        return "context_window"
    if status is not None:
        return reason_of(status)
    for word, reason in _REASONS.items():
        if word in said.lower():
            return reason
    return "max_turns" if result.subtype == "error_max_turns" else "cut" if _broke(said) else "server_error"


def reason_of(status: int | None) -> str:
    """Our word for an HTTP status; None stands for a connection that broke."""
    if status is None:
        return "cut"
    return _STATUSES.get(status, "server_error" if status >= 500 else "invalid_request")


def _broke(said: str) -> bool:
    """Whether the words are Claude Code's for a connection that broke."""
    return any(word in said.lower() for word in ("connection", "stream", "incomplete", "terminated"))


def failed(reason: str, said: str, partial: str) -> TurnFailedError:
    """The error of a turn without a complete answer."""
    advice = "Ask again." if reason in _PASSING else "Ask something shorter." if reason == "context_window" else ""
    return TurnFailedError(
        f"Claude Code got no complete answer ({reason}): {said}. {advice}".rstrip(),
        reason=reason,
        partial=partial,
        backend=CLAUDE_CODE,
        retryable=reason in _PASSING,
    )
