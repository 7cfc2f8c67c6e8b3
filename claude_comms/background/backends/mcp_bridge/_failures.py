"""What the bridge refuses, as our errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.errors import (
    BackendCrashedError,
    BackendError,
    BackendProtocolError,
    BackendUnavailableError,
    ClaudeCommsError,
    PermissionDeniedError,
    TurnFailedError,
)
from claude_comms.jsonable import as_mapping
from claude_comms.text import printable, sentence
from claude_comms.types import BRIDGE, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConnectionLostError", "RefusedError", "usage_of"]

_OUR_ERROR = -32000


class ConnectionLostError(Exception):
    """The connection ended before the answer came; never leaves the backend."""


class RefusedError(Exception):
    """The bridge answered a request with an error; never leaves the backend."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code = int(error["code"])
        self.message = printable(str(error["message"]))
        self.data = as_mapping(error.get("data"))
        super().__init__(self.message)

    @property
    def kind(self) -> str:
        """The type of an error of the bridge's own; empty for one of JSON-RPC."""
        return str(self.data.get("type", "")) if self.code == _OUR_ERROR else ""

    @property
    def usage(self) -> Usage | None:
        """What a failed turn has used, where it is told."""
        told = self.data.get("usage")
        return None if told is None else usage_of(told)

    def ours(self) -> ClaudeCommsError:
        """The same as an error of ours, with its usage."""
        error = self._ours()
        if isinstance(error, BackendError):
            error.usage = self.usage
        return error

    def _ours(self) -> ClaudeCommsError:
        text = sentence(self.message)
        match self.kind:
            case "version" | "unavailable":
                return BackendUnavailableError(text, backend=BRIDGE)
            case "crashed":
                return BackendCrashedError(
                    text,
                    exit_code=self.data.get("exit_code"),
                    stderr_tail=printable(str(self.data.get("stderr_tail", ""))),
                    backend=BRIDGE,
                )
            case "unknown_session" | "timeout":
                return BackendCrashedError(f"{text} The next question starts a new process.", backend=BRIDGE)
            case "protocol":
                return BackendProtocolError(text, line=printable(str(self.data.get("line", ""))), backend=BRIDGE)
            case "failed" | "interrupted" as kind:
                reason = kind if kind == "interrupted" else str(self.data.get("reason"))
                retryable = self.data.get("retryable") is True
                return TurnFailedError(text, reason=reason, backend=BRIDGE, retryable=retryable)
            case "denied":
                return PermissionDeniedError(text, grant=str(self.data.get("grant", "")))
            case "busy":
                return BackendError(f"{text} Ask again.", backend=BRIDGE, retryable=True)
            case _:
                return BackendProtocolError(
                    f"the bridge refused a request ({self.code}): {text}", line=str(dict(self.data)), backend=BRIDGE
                )


def usage_of(told: Mapping[str, Any]) -> Usage:
    """The usage as the wire has it."""
    return Usage(
        told["input_tokens"],
        told["output_tokens"],
        told["cache_read_tokens"],
        told["cache_write_tokens"],
        cost_usd=told["cost_usd"],
    )
