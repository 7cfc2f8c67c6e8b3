"""One WebSocket to the daemon, shared by all turns and subscriptions of a client, and opened again when it breaks."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.daemon._version import own_version
from claude_comms.daemon.client._finding import Patience
from claude_comms.daemon.wire import OUR_ERROR, decoded, encoded
from claude_comms.errors import ClaudeCommsError, DaemonError, DaemonNotRunningError, error_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from websockets.asyncio.client import ClientConnection

    from claude_comms.daemon._places import DaemonInfo
    from claude_comms.daemon.client._finding import Finder

__all__ = ["Channel", "Connection", "ConnectionLostError"]

_HELLO_WITHIN_S = 5.0
_CLOSE_WITHIN_S = 1.0
_PING_EVERY_S = 20.0
_LARGEST_MESSAGE_BYTES = 64 * 1024 * 1024
_MOST_EARLY = 10_000
_UNAVAILABLE = 503


class ConnectionLostError(DaemonError):
    """The connection ended before the answer came."""


class Connection:
    """One open WebSocket: calls by number, and notifications by the turn or subscription they belong to."""

    def __init__(self, socket: ClientConnection, info: DaemonInfo) -> None:
        self.info = info
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.Future[Any], Callable[[Any], None] | None]] = {}
        self._listeners: dict[str, Callable[[str, Mapping[str, Any]], None]] = {}
        self._early: defaultdict[str, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
        self._broken = False
        self._reader = asyncio.create_task(self._read(), name="claude-comms daemon connection")
        self._reader.add_done_callback(_seen)

    @property
    def lost(self) -> bool:
        """Whether it has ended. What fails to be sent shows it before the reader has come to see it."""
        return self._broken or self._reader.done()

    async def ended(self) -> None:
        """Wait for its end."""
        await asyncio.wait({self._reader})

    async def call(
        self, method: str, params: Mapping[str, Any], *, at_once: Callable[[Any], None] | None = None
    ) -> Any:
        """The result of a call, or the error that the daemon answers. ConnectionLostError if it never comes.

        `at_once` gets the result before anything that was sent after it is looked at.
        """
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (future, at_once)
        try:
            await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            return await future
        finally:
            self._waiting.pop(number, None)

    def listen(self, key: str, take: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Hand notifications of the turn or subscription `key` to `take`, with what has come of it already."""
        self._listeners[key] = take
        for method, params in self._early.pop(key, []):
            take(method, params)

    def ignore(self, key: str) -> None:
        """Hand on no more of them."""
        self._listeners.pop(key, None)
        self._early.pop(key, None)

    async def close(self) -> None:
        """End it, in bounded time."""
        with anyio.move_on_after(_CLOSE_WITHIN_S, shield=True):
            await self._socket.close()
        self._reader.cancel()
        await asyncio.wait({self._reader}, timeout=_CLOSE_WITHIN_S)

    async def _send(self, message: Mapping[str, Any]) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._socket.send(encoded(message), text=True)
        except (ConnectionClosed, OSError) as error:
            # Who tried again on this connection would do so for ever: nothing here lets the reader run meanwhile.
            self._broken = True
            raise ConnectionLostError("the connection to the daemon was lost. Ask again.") from error

    async def _read(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                self._take(decoded(await self._socket.recv()))
        except (ConnectionClosed, OSError) as error:
            lost = ConnectionLostError(f"the connection to the daemon was lost ({error}). Ask again.")
            lost.__cause__ = error
            self._end(lost)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            nonsense = DaemonError(
                f"the daemon says what this version cannot read ({type(error).__name__}: {error})."
                " Restart it: claude-comms daemon restart"
            )
            nonsense.__cause__ = error
            self._end(nonsense)
        finally:
            self._end(ConnectionLostError("the connection to the daemon was closed."))

    def _end(self, error: DaemonError) -> None:
        waiting, self._waiting = self._waiting, {}
        for future, _ in waiting.values():
            if not future.done():
                future.set_exception(error)

    def _take(self, message: Any) -> None:
        if "method" in message:
            self._notify(message["method"], message["params"])
            return
        future, at_once = self._waiting.pop(message["id"], (None, None))
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(_refusal(message["error"]))
            return
        if at_once is not None:
            at_once(message["result"])
        future.set_result(message["result"])

    def _notify(self, method: str, params: Mapping[str, Any]) -> None:
        key = str(params.get("turn_id") or params.get("subscription"))
        take = self._listeners.get(key)
        if take is not None:
            take(method, params)
        elif method in ("event", "missed") and len(self._early[key]) < _MOST_EARLY:
            self._early[key].append((method, params))


def _refusal(error: Mapping[str, Any]) -> ClaudeCommsError:
    if error.get("code") == OUR_ERROR and isinstance(error.get("data"), dict):
        return error_from_dict(error["data"])
    return DaemonError(f"the daemon refused: {error.get('message')}. See claude-comms daemon logs")


class Channel:
    """Keeps one connection open while somebody needs it. A daemon that went away has `reconnect_s` to come back."""

    def __init__(self, finder: Finder, reconnect_s: float) -> None:
        self._finder = finder
        self.reconnect_s = reconnect_s
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None

    async def connection(self) -> Connection:
        """The open connection, or a new one. All who wait for one wait for the same.

        DaemonNotRunningError, DaemonVersionError, or the DaemonError with which the daemon refuses these settings.
        """
        if self._connection is not None and not self._connection.lost:
            return self._connection
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._reopen(), name="claude-comms daemon connecting")
            self._opening.add_done_callback(_seen)
        return await asyncio.shield(self._opening)

    async def close(self) -> None:
        """End the connection, in bounded time."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait({self._opening}, timeout=_CLOSE_WITHIN_S)
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _reopen(self) -> Connection:
        patience = Patience(self.reconnect_s)
        while True:
            try:
                self._connection = await self._open()
                return self._connection
            except DaemonNotRunningError as error:
                gone: DaemonNotRunningError = error
            except ConnectionLostError as error:
                gone = DaemonNotRunningError(f"{error} Start it again: claude-comms daemon start")
                gone.__cause__ = error
            await patience.wait(gone)

    async def _open(self) -> Connection:
        info = await self._finder.find()
        connection = Connection(await _connected(info), info)
        hello = {"version": own_version(), "settings": self._finder.digest(info)}
        try:
            with anyio.fail_after(_HELLO_WITHIN_S):
                await connection.call("hello", hello)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await connection.close()
            if isinstance(error, TimeoutError) and not isinstance(error, ClaudeCommsError):
                raise _silent(info) from error
            raise
        return connection


def _seen(task: asyncio.Task[Any]) -> None:
    """Whoever waited may have gone; then nobody looks at the error, and asyncio would complain."""
    if not task.cancelled():
        task.exception()


async def _connected(info: DaemonInfo) -> ClientConnection:
    from websockets.asyncio.client import unix_connect
    from websockets.exceptions import InvalidMessage, InvalidStatus, WebSocketException

    try:
        return await unix_connect(
            str(info.socket),
            "ws://localhost/v1/ws",
            compression=None,
            open_timeout=_HELLO_WITHIN_S,
            ping_interval=_PING_EVERY_S,
            ping_timeout=_PING_EVERY_S,
            close_timeout=_CLOSE_WITHIN_S,
            max_size=_LARGEST_MESSAGE_BYTES,
        )
    except TimeoutError as error:
        raise _silent(info) from error
    except (OSError, EOFError, InvalidMessage) as error:
        # It died, or is about to: what it began to say is no HTTP.
        raise ConnectionLostError(f"the daemon at {info.socket} cannot be reached: {error}.") from error
    except InvalidStatus as error:
        if error.response.status_code == _UNAVAILABLE:
            raise ConnectionLostError(f"the daemon at {info.socket}: {_reason(bytes(error.response.body))}") from error
        raise DaemonError(f"the daemon refused the connection: {error}. See claude-comms daemon logs") from error
    except WebSocketException as error:
        raise DaemonError(f"the daemon refused the connection: {error}. See claude-comms daemon logs") from error


def _reason(body: bytes | bytearray) -> str:
    """What a problem document says is the matter; a daemon that ends may not come to say anything."""
    try:
        return str(decoded(body.decode())["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "it is stopping."


def _silent(info: DaemonInfo) -> DaemonError:
    return DaemonError(
        f"the daemon (pid {info.pid}) does not answer within {_HELLO_WITHIN_S:g} s."
        " See claude-comms daemon logs, or restart it: claude-comms daemon restart"
    )
