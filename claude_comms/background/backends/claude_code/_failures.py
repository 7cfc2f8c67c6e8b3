"""How a turn of Claude Code can fail, as our errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.errors import BackendError, BackendUnavailableError, TurnFailedError
from claude_comms.text import one_line, shorten
from claude_comms.types import CLAUDE_CODE

if TYPE_CHECKING:
    from claude_agent_sdk import ResultMessage

__all__ = ["REFUSED_KEY", "SHORT", "failed", "failure_of", "not_logged_in", "reason_of", "refused_key"]

REFUSED_KEY = (401, 403)
"""The statuses of a login that the API does not take."""

SHORT = {
    "max_tokens": "max_tokens", "refusal": "refusal", "model_context_window_exceeded": "context_window",
    "pause_turn": "pause_turn",
}  # fmt: skip
"""Stop reasons of answers that are not whole, and how we call them."""


_AUTHENTICATION = "authentication_failed"
_TYPES = {
    "rate_limit": "rate_limited", "overloaded": "overloaded", "server_error": "server_error",
    "invalid_request": "invalid_request", "model_not_found": "invalid_request",
    "billing_error": "billing", "max_output_tokens": "max_tokens",
}  # fmt: skip
"""Claude Code's names for what the API said. It tells more statuses apart than types."""

_ENDS = {
    "prompt_too_long": "context_window", "error_max_turns": "max_turns", "max_turns": "max_turns",
    "aborted_streaming": "interrupted", "aborted_tools": "interrupted",
}  # fmt: skip
"""Its names for how a turn ended: terminal reasons, and subtypes of results."""

_STATUSES = {400: "invalid_request", 402: "billing", 413: "context_window", 429: "rate_limited", 529: "overloaded"}
_PASSING = {"rate_limited", "overloaded", "server_error", "cut"}
_BROKEN = ("connection", "stream", "incomplete", "terminated")
"""Words of Claude Code's about a connection that broke: such an end has neither status nor type."""


def refused_key(status: int | None) -> BackendUnavailableError:
    """The error for a login that the API does not take."""
    told = "" if status is None else f" (status {status})"
    return BackendUnavailableError(
        f"the API refuses Claude Code's API key or login{told}. Correct ANTHROPIC_API_KEY, or log in as"
        " `claude-comms doctor` says.",
        backend=CLAUDE_CODE,
    )


def not_logged_in(login: str) -> BackendUnavailableError:
    """The error for having no login at all; `login` is the command that makes one."""
    return BackendUnavailableError(
        f"nobody is logged in to Claude Code here. Set ANTHROPIC_API_KEY, or log in: {login}", backend=CLAUDE_CODE
    )


def failure_of(
    result: ResultMessage, *, kind: str | None, written: str, partial: str, login: str
) -> BackendError | None:
    """What is wrong with a turn that ended by itself; None for a complete answer.

    `written` is what Claude Code wrote in place of an answer and `kind` its type, `partial` the text that was shown,
    `login` the command that logs in.
    """
    status = result.api_error_status
    if result.is_error or result.subtype != "success" or written:
        if kind == _AUTHENTICATION or status in REFUSED_KEY:
            # Without a status nothing was sent: there was no login to send.
            return not_logged_in(login) if status is None else refused_key(status)
        said = shorten(written or one_line(result.result or "") or "; ".join(result.errors or ()), 500)
        return failed(_reason(result, kind, said), said or result.subtype, partial)
    if result.stop_reason in {"end_turn", "stop_sequence", "tool_use"}:
        return None
    reason = "cut" if result.stop_reason is None else SHORT.get(result.stop_reason, result.stop_reason)
    return failed(reason, f"the answer ended with {result.stop_reason}", partial)


def _reason(result: ResultMessage, kind: str | None, said: str) -> str:
    """By what the program says in names and numbers; its words only where it gives neither."""
    for name in (result.terminal_reason, result.subtype):
        if name in _ENDS:
            return _ENDS[name]
    if kind == "billing_error" or result.api_error_status is not None:
        return reason_of(result.api_error_status, kind)
    if kind in _TYPES:
        return _TYPES[kind]
    return "cut" if any(word in said.lower() for word in _BROKEN) else "server_error"


def reason_of(status: int | None, kind: str | None = None) -> str:
    """Our word for an HTTP status, and for its type where that tells more; None of both: a connection that broke."""
    if kind == "billing_error":
        return _TYPES[kind]
    if status is None:
        return _TYPES.get(kind or "", "cut")
    return _STATUSES.get(status, "server_error" if status >= 500 else "invalid_request")


def failed(reason: str, said: str, partial: str) -> TurnFailedError:
    """The error of a turn without a complete answer."""
    advice = "Ask again." if reason in _PASSING else "Ask something shorter." if reason == "context_window" else ""
    return TurnFailedError(
        f"Claude Code got no complete answer ({reason}): {said.rstrip('.')}. {advice}".rstrip(),
        reason=reason,
        partial=partial,
        backend=CLAUDE_CODE,
        retryable=reason in _PASSING,
    )
