"""One short request to a daemon over its socket, with the standard library: enough to steer it, and quick to import."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Any

from claude_comms.errors import DaemonError, error_from_dict

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.errors import ClaudeCommsError

__all__ = ["answers", "short_request"]

_CONNECT_WITHIN_S = 2.0
_NOT_FOUND = 404
_FIRST_ERROR = 400


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def answers(path: Path) -> bool:
    """Whether somebody listens at the socket `path`. DaemonError where it is not ours to use."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_WITHIN_S)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (BlockingIOError, TimeoutError):
            return True  # it listens, and has more to do than it can take
        except OSError as error:
            raise DaemonError(f"{path}: {error.strerror or error}. Remove it, or set another home.") from error
    return True


def short_request(path: Path, method: str, route: str, body: object = None, *, timeout_s: float = 5.0) -> Any:
    """The JSON that the daemon at the socket `path` answers; its errors raised as ours; DaemonError if it does not."""
    connection = _Connection(path, timeout_s)
    try:
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, route, content, {"Content-Type": "application/json"} if content else {})
        response = connection.getresponse()
        found: Any = json.loads(response.read() or b"null")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DaemonError(
            f"the daemon at {path} does not answer ({error or type(error).__name__})."
            " See claude-comms daemon logs, or restart it: claude-comms daemon restart"
        ) from error
    finally:
        connection.close()
    if response.status >= _FIRST_ERROR:
        raise _refusal(found, response.reason)
    return found


def _refusal(problem: Any, reason: str) -> ClaudeCommsError:
    """The error that a problem document tells of."""
    try:
        return error_from_dict(problem["error"])
    except (TypeError, KeyError, AttributeError):
        return DaemonError(f"the daemon refused: {reason}. See claude-comms daemon logs")
