"""Errors as RFC 9457 problem documents, and the HTTP status of each."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from claude_comms import errors
from claude_comms.daemon.wire._base import Said

__all__ = [
    "PROBLEM_TYPE",
    "RETRY_AFTER_S",
    "TERMINAL",
    "TURN_EVENTS",
    "ProblemModel",
    "problem",
    "status_named",
    "status_of",
]

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
"""What is said to those who are refused where nothing more exact is known."""

TURN_EVENTS = "turn.*"
TERMINAL = ("turn.completed", "turn.failed", "turn.interrupted")
"""The types that end a turn's events; exactly one of them for each."""

_STATUSES: tuple[tuple[type[errors.ClaudeCommsError], int], ...] = (
    # The first that fits decides, so what is special stands before what is general.
    (errors.UnknownModuleError, 404),
    (errors.ConversationNotFoundError, 404),
    (errors.JobNotFoundError, 404),
    (errors.InstanceNotFoundError, 404),
    (errors.ConfigError, 422),
    (errors.ContextError, 422),
    (errors.ReplyValidationError, 422),
    (errors.InstanceStateError, 409),
    (errors.LoopError, 409),
    (errors.DaemonVersionError, 409),
    (errors.PoolError, 503),
    (errors.BudgetExceededError, 402),
    (errors.PermissionDeniedError, 403),
    (errors.DeadlineExceededError, 504),
    (errors.BackendUnavailableError, 503),
    (errors.BackendError, 502),
    (errors.StoreError, 503),
    (errors.DaemonError, 503),
)


class ProblemModel(Said):
    """A problem document. `error` is our error's `as_dict()`: `type`, `message`, and its facts."""

    type: str
    title: str
    status: int
    detail: str
    error: dict[str, Any]


def status_of(error: errors.ClaudeCommsError) -> int:
    """The HTTP status that tells of `error`."""
    return status_named(type(error).__name__)


def problem(error: errors.ClaudeCommsError | dict[str, Any], status: int | None = None) -> dict[str, Any]:
    """The problem document for `error`, or for the values of one; `status` where it is not the usual one."""
    facts = error if isinstance(error, dict) else error.as_dict()
    if status is None:
        status = status_named(str(facts["type"]))
    return {
        "type": f"urn:claude-comms:error:{facts['type']}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": str(facts["message"]),
        "error": facts,
    }


def status_named(type_name: str) -> int:
    """The HTTP status for an error of which only the `type` in its `as_dict()` is known."""
    kind = getattr(errors, type_name, None) if type_name in errors.__all__ else None
    return next((status for known, status in _STATUSES if isinstance(kind, type) and issubclass(kind, known)), 500)
