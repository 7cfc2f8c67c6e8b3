"""Requests to the daemon over its socket: its problem documents as our errors, and repeated only where that is safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio

from claude_comms.daemon._version import own_version
from claude_comms.daemon.client._exchanges import Answer, BrokenExchangeError, Exchanges, UnreachableError
from claude_comms.daemon.client._finding import Patience
from claude_comms.daemon.wire import SETTINGS_HEADER, VERSION_HEADER, decoded, encoded
from claude_comms.errors import DaemonError, DaemonNotRunningError, error_from_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_comms.daemon.client._finding import Finder
    from claude_comms.errors import ClaudeCommsError

__all__ = ["Rest"]

_ANSWER_WITHIN_S = 30.0
_FIRST_REFUSAL = 400


class Rest:
    """The REST half of a client. A daemon that went away has `reconnect_s` to come back."""

    def __init__(self, finder: Finder, reconnect_s: float) -> None:
        self._finder = finder
        self._reconnect_s = reconnect_s
        self._exchanges: Exchanges | None = None

    async def get(self, route: str, *, within_s: float = _ANSWER_WITHIN_S, **parameters: Any) -> Any:
        """The JSON at `route`; parameters that are None are left out. Asked again where the connection broke."""
        said = urlencode({name: _word(value) for name, value in parameters.items() if value is not None})
        return await self._tried("GET", f"{route}?{said}" if said else route, None, within_s)

    async def post(
        self, route: str, body: Mapping[str, Any] | None = None, *, within_s: float = _ANSWER_WITHIN_S
    ) -> Any:
        """What the daemon answers to `body`. Sent again only where it cannot have arrived: DaemonError otherwise."""
        return await self._tried("POST", route, body or {}, within_s)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._exchanges is not None:
            await self._drop(self._exchanges)

    async def _drop(self, exchanges: Exchanges) -> None:
        if self._exchanges is exchanges:
            self._exchanges = None
        await exchanges.close()

    async def _tried(self, method: str, target: str, body: Mapping[str, Any] | None, within_s: float) -> Any:
        patience = Patience(self._reconnect_s)
        while True:
            exchanges: Exchanges | None = None
            try:
                exchanges = await self._connected()
                answer = await _once(exchanges, method, target, body, within_s)
                break
            except (DaemonNotRunningError, UnreachableError) as error:
                problem: Exception = error
            except BrokenExchangeError as error:
                if method != "GET":
                    raise DaemonError(
                        f"the connection to the daemon was lost in {method} {_route(target)} ({error})."
                        " See what came of it before you ask again."
                    ) from error
                problem = error
            if exchanges is not None:
                await self._drop(exchanges)
            await patience.wait(_gone(problem))
        if answer.status >= _FIRST_REFUSAL:
            raise _refusal(answer, f"{method} {_route(target)}")
        try:
            return decoded(answer.content) if answer.content else None
        except ValueError as error:
            raise DaemonError(f"the daemon answered {method} {_route(target)} with no JSON: {error}.") from error

    async def _connected(self) -> Exchanges:
        """Exchanges with the daemon, found anew after the connection to the last one broke."""
        if self._exchanges is None:
            info = await self._finder.find()
            digest = self._finder.digest(info)
            headers = [(VERSION_HEADER, own_version()), *([] if digest is None else [(SETTINGS_HEADER, digest)])]
            self._exchanges = Exchanges(info.socket, headers)
        return self._exchanges


async def _once(
    exchanges: Exchanges, method: str, target: str, body: Mapping[str, Any] | None, within_s: float
) -> Answer:
    headers = [] if body is None else [("Content-Type", "application/json")]
    try:
        with anyio.fail_after(within_s):
            return await exchanges.exchange(method, target, headers, b"" if body is None else encoded(body))
    except TimeoutError as error:
        raise DaemonError(
            f"the daemon did not answer {method} {_route(target)} within {within_s:g} s. See claude-comms daemon logs"
        ) from error


def _route(target: str) -> str:
    return target.partition("?")[0]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _gone(problem: Exception) -> ClaudeCommsError:
    if isinstance(problem, DaemonNotRunningError):
        return problem
    gone = DaemonNotRunningError(f"the daemon went away ({problem}). Start it again: claude-comms daemon start")
    gone.__cause__ = problem
    return gone


def _refusal(answer: Answer, request: str) -> ClaudeCommsError:
    """The error that a problem document tells of."""
    try:
        return error_from_dict(decoded(answer.content)["error"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return DaemonError(
            f"the daemon refused {request}: {answer.status} {answer.reason}. See claude-comms daemon logs"
        )
