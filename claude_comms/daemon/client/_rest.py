"""Requests to the daemon over its socket: its problem documents as our errors, and repeated only where that is safe."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from claude_comms.daemon._version import own_version
from claude_comms.daemon.client._finding import Patience
from claude_comms.daemon.wire import SETTINGS_HEADER, VERSION_HEADER, decoded, encoded
from claude_comms.errors import DaemonError, DaemonNotRunningError, error_from_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from claude_comms.daemon.client._finding import Finder
    from claude_comms.errors import ClaudeCommsError

__all__ = ["Rest"]

_ANSWER_WITHIN_S = 30.0
_CONNECT_WITHIN_S = 5.0
_FIRST_REFUSAL = 400


class Rest:
    """The REST half of a client. A daemon that went away has `reconnect_s` to come back."""

    def __init__(self, finder: Finder, reconnect_s: float) -> None:
        self._finder = finder
        self._reconnect_s = reconnect_s
        self._client: httpx.AsyncClient | None = None

    async def get(self, route: str, *, within_s: float = _ANSWER_WITHIN_S, **parameters: Any) -> Any:
        """The JSON at `route`; parameters that are None are left out. Asked again where the connection broke."""
        said = {name: _word(value) for name, value in parameters.items() if value is not None}
        return await self._tried("GET", route, None, said, within_s)

    async def post(
        self, route: str, body: Mapping[str, Any] | None = None, *, within_s: float = _ANSWER_WITHIN_S
    ) -> Any:
        """What the daemon answers to `body`. Sent again only where it cannot have arrived: DaemonError otherwise."""
        return await self._tried("POST", route, body or {}, {}, within_s)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._drop(self._client)

    async def _drop(self, client: httpx.AsyncClient) -> None:
        if self._client is client:
            self._client = None
        await client.aclose()

    async def _tried(
        self, method: str, route: str, body: Mapping[str, Any] | None, parameters: Mapping[str, str], within_s: float
    ) -> Any:
        import httpx

        patience = Patience(self._reconnect_s)
        while True:
            client: httpx.AsyncClient | None = None
            try:
                client = await self._connected()
                return await self._once(client, method, route, body, parameters, within_s)
            except (DaemonNotRunningError, httpx.ConnectError) as error:
                problem: Exception = error
            except httpx.TimeoutException as error:
                raise DaemonError(
                    f"the daemon did not answer {method} {route} within {within_s:g} s. See claude-comms daemon logs"
                ) from error
            except httpx.TransportError as error:
                if method != "GET":
                    raise DaemonError(
                        f"the connection to the daemon was lost in {method} {route} ({error or type(error).__name__})."
                        " See what came of it before you ask again."
                    ) from error
                problem = error
            if client is not None:
                await self._drop(client)
            await patience.wait(_gone(problem))

    async def _once(
        self,
        client: httpx.AsyncClient,
        method: str,
        route: str,
        body: Mapping[str, Any] | None,
        parameters: Mapping[str, str],
        within_s: float,
    ) -> Any:
        answer = await client.request(
            method,
            route,
            params=parameters,
            content=None if body is None else encoded(body),
            headers={} if body is None else {"Content-Type": "application/json"},
            timeout=_timeouts(within_s),
        )
        if answer.status_code >= _FIRST_REFUSAL:
            raise _refusal(answer)
        try:
            return decoded(answer.content) if answer.content else None
        except ValueError as error:
            raise DaemonError(f"the daemon answered {method} {route} with no JSON: {error}.") from error

    async def _connected(self) -> httpx.AsyncClient:
        """A client of the daemon, found anew after the connection to the last one broke."""
        if self._client is not None:
            return self._client
        import httpx

        info = await self._finder.find()
        # No TLS is spoken on the socket, and loading the certificates costs more than a request.
        transport = httpx.AsyncHTTPTransport(uds=str(info.socket), verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        digest = self._finder.digest(info)
        headers = {VERSION_HEADER: own_version(), **({} if digest is None else {SETTINGS_HEADER: digest})}
        self._client = httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)
        return self._client


def _timeouts(within_s: float) -> httpx.Timeout:
    import httpx

    return httpx.Timeout(within_s, connect=_CONNECT_WITHIN_S, pool=_CONNECT_WITHIN_S)


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


def _refusal(answer: httpx.Response) -> ClaudeCommsError:
    """The error that a problem document tells of."""
    try:
        return error_from_dict(decoded(answer.content)["error"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return DaemonError(
            f"the daemon refused {answer.request.method} {answer.request.url.path}:"
            f" {answer.status_code} {answer.reason_phrase}. See claude-comms daemon logs"
        )
