"""What is said on ``/v1/ws``: JSON-RPC 2.0 calls and their parameters."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from claude_comms.daemon.wire._base import Asked, Id
from claude_comms.daemon.wire._requests import FocusedFilterModel, QuestionModel

__all__ = [
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "OUR_ERROR",
    "PARSE_ERROR",
    "AskParams",
    "Call",
    "HelloParams",
    "SubscribeParams",
    "TurnParams",
    "UnsubscribeParams",
]

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
OUR_ERROR = -32000
"""One of `claude_comms.errors`; its `as_dict()` is the error's `data`."""


class Call(Asked):
    """A JSON-RPC request, or a notification where it has no `id`."""

    jsonrpc: Literal["2.0"]
    method: str = Field(max_length=100)
    params: dict[str, Any] = Field(default_factory=dict[str, Any])
    id: int | str | None = None


class HelloParams(Asked):
    """Who is there. Both may be left out, as the headers of the same meaning may."""

    version: str | None = None
    settings: str | None = None


class AskParams(Asked):
    """A question, with the `turn_id` that the client chose; `after` is the cursor from which it wants the events.

    `new` says that this `turn_id` has never been sent before, to any daemon: then nobody looks for it in the log.
    """

    question: QuestionModel
    new: bool = False
    after: int = Field(default=0, ge=0, le=2**63 - 1)


class TurnParams(Asked):
    """A turn."""

    turn_id: Id


class SubscribeParams(Asked):
    """Which events to follow, and from where: after a cursor, or from now on."""

    filter: FocusedFilterModel = FocusedFilterModel()
    after: int | None = Field(default=None, ge=0, le=2**63 - 1)


class UnsubscribeParams(Asked):
    """A subscription to be ended."""

    subscription: Id
