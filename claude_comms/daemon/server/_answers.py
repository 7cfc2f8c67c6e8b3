"""Answers as JSON, and refusals and failures as problem documents."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from claude_comms.daemon.wire import PROBLEM_TYPE, RETRY_AFTER_S, encoded, problem
from claude_comms.errors import ClaudeCommsError, ConfigError, DaemonError
from claude_comms.types import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi.exceptions import RequestValidationError
    from starlette.requests import Request

__all__ = [
    "Json",
    "Refusal",
    "internal_error",
    "mistakes",
    "on_http_error",
    "on_our_error",
    "on_refusal",
    "on_wrong_request",
    "problem_response",
]

_log = logging.getLogger(__name__)


class Json(Response):
    """JSON values, as `wire.encoded` writes them."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return encoded(content)


class Refusal(HTTPException):
    """An error of ours with another status than its usual one.

    It is an HTTPException because FastAPI makes a bare 400 of anything else that is raised while a body is read.
    """

    def __init__(self, error: ClaudeCommsError, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail=str(error), headers=headers)
        self.error = error


def problem_response(
    error: ClaudeCommsError | dict[str, Any], status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The problem document for `error`; where trying again later may help, it says after how many seconds."""
    document = problem(error, status)
    told = dict(headers or {})
    if document["status"] in (429, 503):
        told.setdefault("Retry-After", str(_retry_after(document["error"])))
    return Response(encoded(document), document["status"], told, PROBLEM_TYPE)


def _retry_after(facts: Mapping[str, Any]) -> int:
    wait_s = facts.get("retry_after_s")
    return math.ceil(wait_s) if isinstance(wait_s, (int, float)) and 0 < wait_s < 86_400 else RETRY_AFTER_S


def internal_error(error: BaseException) -> dict[str, Any]:
    """Log what nobody expected, and give the values of an error that tells where to find it, and nothing of it."""
    log_id = new_id("log")
    _log.error("unexpected: %s", type(error).__name__, exc_info=error, extra={"log_id": log_id})
    message = f"something unexpected happened. The daemon's log tells more under {log_id}: claude-comms daemon logs"
    return {"type": "InternalError", "message": message, "log_id": log_id}


def mistakes(problems: Any) -> ConfigError:
    """What pydantic found wrong, each with its place and without what stood there."""
    lines = [f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}" for found in list(problems)[:20]]
    return ConfigError(f"{'; '.join(lines)}. See /openapi.json.")


async def on_our_error(request: Request, error: Exception) -> Response:
    """Answer for an error of ours that a route raised."""
    assert isinstance(error, ClaudeCommsError)  # noqa: S101 - registered for these
    return problem_response(error)


async def on_refusal(request: Request, error: Exception) -> Response:
    """Answer for a `Refusal`."""
    assert isinstance(error, Refusal)  # noqa: S101 - registered for these
    return problem_response(error.error, error.status_code, error.headers)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer where there is no such route, no such method, or a body that cannot be read."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for these
    where = f"{request.method} {request.url.path}"
    return problem_response(
        DaemonError(f"{where}: {error.detail}. See /openapi.json."), error.status_code, error.headers
    )


async def on_wrong_request(request: Request, error: Exception) -> Response:
    """Answer for parameters or a body that do not fit."""
    wrong: RequestValidationError = error  # type: ignore[assignment] - registered for these
    return problem_response(mistakes(wrong.errors()))
