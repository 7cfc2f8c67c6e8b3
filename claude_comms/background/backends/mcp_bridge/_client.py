"""One WebSocket to a bridge: requests by number, each with a deadline, and turns that come in pieces."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import anyio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from claude_comms.background.backends.mcp_bridge._failures import ConnectionLostError, RefusedError
from claude_comms.background.backends.mcp_bridge._wire import decoded, encoded, require_valid
from claude_comms.errors import BackendProtocolError, BackendUnavailableError
from claude_comms.types import BRIDGE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from websockets.asyncio.client import ClientConnection

__all__ = ["PROTOCOLS", "Client", "RemoteTurn", "connected"]

PROTOCOLS = (1,)
"""The versions of the protocol that this client speaks."""

_SUBPROTOCOL = "claude-comms.bridge.v1"
_LARGEST_MESSAGE_BYTES = 32 * 1024 * 1024
_PING_EVERY_S = 5.0
_PONG_WITHIN_S = 10.0
_CONNECT_WITHIN_S = 5.0
_HELLO_WITHIN_S = 5.0
_CLOSE_WITHIN_S = 0.5
_UNAUTHORIZED = (401, 403)

Event = tuple[str, "Mapping[str, Any]"]
"""A notification of a turn: its method and its parameters. ``result`` is the method of the turn's end."""


class RemoteTurn:
    """A turn that runs over the bridge: what is told of it, in order. One task reads."""

    def __init__(self, client: Client, session: str, turn: str) -> None:
        self._client = client
        self._names = {"session": session, "turn": turn}
        self._told: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._wait: anyio.CancelScope | None = None
        self._woken = False

    def tell(self, event: Event | Exception) -> None:
        """Something was told, or how it ended. Called by the connection."""
        self._told.put_nowait(event)

    async def next(self, timeout_s: float) -> Event | None:
        """What is told next; None after `timeout_s` or `wake`. Raises the error that the turn ended in:
        RefusedError, ConnectionLostError, BackendProtocolError.
        """
        if self._told.empty() and not self._woken:
            try:
                with anyio.move_on_after(timeout_s) as self._wait:
                    return _or_raised(await self._told.get())
            finally:
                self._wait = None
        self._woken = False
        return None if self._told.empty() else _or_raised(self._told.get_nowait())

    def wake(self) -> None:
        """Let a waiting `next`, or else the next one, return. For other tasks of the same loop."""
        self._woken = True
        if self._wait is not None:
            self._wait.cancel()

    async def credit(self, pieces: int) -> None:
        """Allow so many pieces more. The first credit is what lets the question go to the model."""
        await self._client.notify("credit", {**self._names, "pieces": pieces})

    async def interrupt(self, timeout_s: float) -> None:
        """Ask for the turn's end, which is told as any other; the receipt is waited for no longer than that."""
        with anyio.move_on_after(timeout_s):
            await self._client.call("interrupt", self._names, timeout_s=timeout_s)

    def forget(self) -> None:
        """Nobody listens any more."""
        self._client.forget(self._names["turn"])


class Client:
    """An open connection on which both sides have agreed on a protocol.

    `on_notice` takes what is told of sessions outside of turns, and every sign of life: method and parameters.
    """

    def __init__(self, socket: ClientConnection, on_notice: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._socket = socket
        self._on_notice = on_notice
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[str, asyncio.Future[Any] | RemoteTurn]] = {}
        self._turns: dict[str, RemoteTurn] = {}
        self._broken = False
        self._reader = asyncio.create_task(self._read(), name="claude-comms bridge connection")
        self.facts: Mapping[str, Any] = {}
        """What the bridge said of itself: its version, the SDK's, Node's."""

    @property
    def lost(self) -> bool:
        """Whether it has ended. What fails to be sent shows it before the reader has come to see it."""
        return self._broken or self._reader.done()

    async def ended(self) -> None:
        """Wait for its end."""
        await asyncio.wait({self._reader})

    async def call(self, method: str, params: Mapping[str, Any], *, timeout_s: float) -> Mapping[str, Any]:
        """The result of a request. RefusedError where the bridge refuses, ConnectionLostError where it cannot answer
        any more, BackendProtocolError where it answers nonsense, TimeoutError where it says nothing in time.
        """
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (method, future)
        try:
            with anyio.fail_after(timeout_s):
                await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
                return await future
        finally:
            self._waiting.pop(number, None)
            if future.done() and not future.cancelled():
                future.exception()  # it may have failed after nobody waited any more

    async def begin_turn(self, session: str, text: str, *, model: str, window: int) -> RemoteTurn:
        """Propose a question; nothing is asked before its first credit. ConnectionLostError."""
        number = next(self._numbers)
        name = f"t{number}"
        turn = RemoteTurn(self, session, name)
        params = {"session": session, "turn": name, "text": text, "model": model, "window": window}
        self._turns[name] = turn
        self._waiting[number] = ("turn", turn)
        await self._send({"jsonrpc": "2.0", "id": number, "method": "turn", "params": params})
        return turn

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Say something that has no answer. ConnectionLostError."""
        await self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def forget(self, turn: str) -> None:
        """Hand on no more of a turn."""
        self._turns.pop(turn, None)

    async def close(self) -> None:
        """End it, in bounded time."""
        with anyio.move_on_after(_CLOSE_WITHIN_S, shield=True):
            await self._socket.close()
        self._reader.cancel()
        await asyncio.wait({self._reader}, timeout=_CLOSE_WITHIN_S)

    async def _send(self, message: Mapping[str, Any]) -> None:
        frame = encoded(message)
        if len(frame) > _LARGEST_MESSAGE_BYTES:
            raise BackendProtocolError(
                f"a question of {len(frame) >> 20} MB is longer than the bridge takes"
                f" ({_LARGEST_MESSAGE_BYTES >> 20} MB). Ask a shorter one.",
                backend=BRIDGE,
                retryable=False,
            )
        try:
            await self._socket.send(frame, text=True)
        except (ConnectionClosed, OSError) as error:
            self._broken = True
            raise ConnectionLostError(str(error)) from error

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._socket.recv())
        except (ConnectionClosed, OSError) as error:
            self._end(ConnectionLostError(str(error)))
        except BackendProtocolError as error:
            self._end(error)
            await self._socket.close(1002)
        finally:
            self._end(ConnectionLostError("the connection was closed"))

    def _end(self, error: Exception) -> None:
        self._broken = True
        waiting, self._waiting = self._waiting, {}
        for _, who in waiting.values():
            _settle(who, error)

    def _take(self, frame: str | bytes) -> None:
        message = decoded(frame)
        if "method" in message:
            self._notice(message["method"], message["params"])
            return
        method, who = self._waiting.get(message["id"], ("", None))
        if who is None:
            return
        if "error" in message:
            del self._waiting[message["id"]]
            _settle(who, RefusedError(message["error"]))
            return
        require_valid(f"{method}.result", message["result"], frame)
        del self._waiting[message["id"]]
        if isinstance(who, RemoteTurn):
            self._on_notice("turn.result", message["result"])
            who.tell(("result", message["result"]))
        elif not who.done():
            who.set_result(message["result"])

    def _notice(self, method: str, params: Mapping[str, Any]) -> None:
        self._on_notice(method, params)
        turn = self._turns.get(params["turn"]) if "turn" in params else None
        if turn is not None:
            turn.tell((method, params))


async def connected(port: int, token: str, on_notice: Callable[[str, Mapping[str, Any]], None], client: str) -> Client:
    """A connection to the bridge at `port` of this machine, agreed on with its token.

    ConnectionLostError where it cannot be reached, BackendUnavailableError where it is of another version, or does
    not take us.
    """
    made = Client(await _opened(port, token), on_notice)
    try:
        made.facts = await made.call("hello", {"protocols": PROTOCOLS, "client": client}, timeout_s=_HELLO_WITHIN_S)
    except RefusedError as error:
        await made.close()
        raise error.ours() from error
    except TimeoutError as error:
        await made.close()
        raise ConnectionLostError("it did not say hello in time") from error
    except BaseException:
        with anyio.CancelScope(shield=True):
            await made.close()
        raise
    return made


async def _opened(port: int, token: str) -> ClientConnection:
    try:
        return await connect(
            f"ws://127.0.0.1:{port}/",
            additional_headers={"Authorization": f"Bearer {token}"},
            subprotocols=[_SUBPROTOCOL],  # pyright: ignore[reportArgumentType] - a NewType of str
            compression=None,
            proxy=None,
            open_timeout=_CONNECT_WITHIN_S,
            ping_interval=_PING_EVERY_S,
            ping_timeout=_PONG_WITHIN_S,
            close_timeout=_CLOSE_WITHIN_S,
            max_size=_LARGEST_MESSAGE_BYTES,
        )
    except InvalidStatus as error:
        if error.response.status_code in _UNAUTHORIZED:
            raise BackendUnavailableError(
                f"the bridge at port {port} does not take our token ({error}). Another program may listen there: ask"
                " again.",
                backend=BRIDGE,
            ) from error
        raise ConnectionLostError(str(error)) from error
    except (OSError, EOFError, TimeoutError, WebSocketException) as error:
        raise ConnectionLostError(str(error)) from error


def _settle(who: asyncio.Future[Any] | RemoteTurn, error: Exception) -> None:
    if isinstance(who, RemoteTurn):
        who.tell(error)
    elif not who.done():
        who.set_exception(error)


def _or_raised(told: Event | Exception) -> Event:
    if isinstance(told, Exception):
        raise told
    return told
