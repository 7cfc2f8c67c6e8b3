"""``/v1/ws``: JSON-RPC 2.0. Questions with their answers as they come, and subscriptions."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import anyio
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from claude_comms.daemon import wire
from claude_comms.daemon.server._answers import Refusal, internal_error, mistakes
from claude_comms.daemon.server._connections import ABORT
from claude_comms.daemon.server._doors import BUCKET
from claude_comms.daemon.server._feeds import Feeds
from claude_comms.daemon.server._streams import in_parts
from claude_comms.errors import ClaudeCommsError, DaemonError, PoolExhaustedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.websockets import WebSocket

    from claude_comms.daemon.server._service import Service
    from claude_comms.events import Event

__all__ = ["Session"]

_POLICY = 1008
"""The code of RFC 6455 for a connection that is ended because of what the client did."""

_HELLO_WAIT_S = 30.0
_TURN = b'{"jsonrpc":"2.0","method":"turn","params":{"turn_id":%b,"events":[%b]}}'


class _CallError(Exception):
    """A call that JSON-RPC itself refuses."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _TurnError(Exception):
    """How a turn failed, as the values of its error."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts.get("message"))
        self.facts = facts


class Session:
    """One client on the WebSocket. When it goes, its turns run on and its subscriptions end.

    What is sent waits for the client; nothing is kept for it here. Whoever takes nothing for long is cut off, and
    comes back with its cursors.
    """

    def __init__(self, service: Service, socket: WebSocket) -> None:
        self._service = service
        self._socket = socket
        self._lock = anyio.Lock(fast_acquire=True)
        self._greeted = False
        self._asking: set[asyncio.Task[None]] = set()
        self._feeds = Feeds(service, self._notify)
        state = socket.scope.get("state", {})
        self._bucket = state.get(BUCKET)
        self._abort: Callable[[], None] | None = state.get(ABORT)
        self._methods: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "hello": self._hello,
            "ask": self._ask,
            "cancel": self._cancel,
            "subscribe": self._feeds.subscribe,
            "unsubscribe": self._feeds.unsubscribe,
        }

    async def run(self) -> None:
        """Serve until the client goes."""
        await self._socket.accept()
        try:
            with suppress(ConnectionError, WebSocketDisconnect):
                await self._read()
        finally:
            for task in tuple(self._asking):
                task.cancel()
            await asyncio.gather(*self._asking, return_exceptions=True)
            await self._feeds.close()

    async def _read(self) -> None:
        while True:
            text = None
            with anyio.move_on_after(None if self._greeted else _HELLO_WAIT_S):
                text = await self._receive()
            if text is None:
                return await self._hang_up("no hello came")
            if self._bucket is not None and (wait_s := self._bucket.take()):
                await asyncio.sleep(wait_s)  # nothing more is read meanwhile
            if (call := await self._parsed(text)) is not None:
                await self._dispatch(call)

    async def _receive(self) -> str:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise ConnectionResetError
        return message.get("text") or (message.get("bytes") or b"").decode("utf-8", "replace")

    # --- calls ---------------------------------------------------------------------------------

    async def _parsed(self, text: str) -> wire.Call | None:
        """The call that `text` is; None where that was refused."""
        values: object = None
        try:
            values = wire.decoded(text)
            return wire.Call.model_validate(values)
        except ValidationError as error:
            await self._send(_failed(_id_of(values), wire.INVALID_REQUEST, str(mistakes(error.errors()))))
        except ValueError:
            await self._send(_failed(None, wire.PARSE_ERROR, "not JSON"))
        return None

    async def _dispatch(self, call: wire.Call) -> None:
        if call.method == "ask" and self._greeted:
            task = asyncio.create_task(self._carry_out(call))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            return
        await self._carry_out(call)
        if call.method == "hello" and not self._greeted:
            await self._hang_up("another version, or other settings")

    async def _carry_out(self, call: wire.Call) -> None:
        """Do what is asked and say what came of it; to a notification nothing is said."""
        try:
            answer = await self._outcome(call)
            if call.id is not None:
                await self._send(answer)
        except ConnectionError:
            return
        self._feeds.announced()

    async def _outcome(self, call: wire.Call) -> dict[str, Any]:
        try:
            return {"jsonrpc": "2.0", "id": call.id, "result": await self._do(call)}
        except ConnectionError:
            raise
        except _CallError as error:
            return _failed(call.id, error.code, str(error))
        except ValidationError as error:
            return _failed(call.id, wire.INVALID_PARAMS, str(mistakes(error.errors())))
        except _TurnError as error:
            return _refused(call.id, error.facts)
        except Refusal as error:
            return _refused(call.id, error.error.as_dict())
        except ClaudeCommsError as error:
            return _refused(call.id, error.as_dict())
        except Exception as error:  # noqa: BLE001 - told without its details, and logged
            facts = internal_error(error)
            return _failed(call.id, wire.INTERNAL_ERROR, facts["message"], facts)

    async def _do(self, call: wire.Call) -> Any:
        method = self._methods.get(call.method)
        if method is None:
            raise _CallError(wire.METHOD_NOT_FOUND, f"no method {call.method!r}. See docs/daemon.md.")
        if call.method != "hello" and not self._greeted:
            raise DaemonError("who is there? Call hello first, with version and settings.")
        return await method(call.params)

    # --- methods -------------------------------------------------------------------------------

    async def _hello(self, params: dict[str, Any]) -> dict[str, Any]:
        said = wire.HelloParams.model_validate(params)
        ours = self._service
        wire.check_client(said.version, said.settings, our_version=ours.version, our_settings=ours.digest)
        self._greeted = True
        return {"version": ours.version, "pid": os.getpid()}

    async def _ask(self, params: dict[str, Any]) -> dict[str, Any]:
        limit = self._service.limits.turns_per_connection
        if len(self._asking) > limit:
            message = f"{limit} questions wait on this connection. Ask later."
            raise PoolExhaustedError(message, limit=limit, retry_after_s=1.0)
        asked = wire.AskParams.model_validate(params)
        hosted = self._service.turns.ask(asked.question.inner(), new=asked.new)

        async def deliver(events: Sequence[Event]) -> None:
            for part in in_parts(wire.encoded(event.as_cloudevent()) for event in events):
                await self._say(_TURN % (wire.encoded(hosted.turn_id), b",".join(part)))

        outcome = await self._service.turns.relay(hosted, deliver, after=asked.after)
        if outcome.reply is None:
            raise _TurnError(outcome.error or {})
        return outcome.reply

    async def _cancel(self, params: dict[str, Any]) -> dict[str, Any]:
        turn_id = wire.TurnParams.model_validate(params).turn_id
        hosted = await self._service.turns.find(turn_id)
        return {"turn_id": turn_id, "running": await hosted.interrupt()}

    # --- saying --------------------------------------------------------------------------------

    async def _notify(self, method: str, params: dict[str, Any]) -> None:
        await self._send({"jsonrpc": "2.0", "method": method, "params": params})

    async def _send(self, message: dict[str, Any]) -> None:
        await self._say(wire.encoded(message))

    async def _say(self, message: bytes) -> None:
        """Say something once the client takes it. ConnectionError where it is gone, or too slow."""
        text = message.decode()
        async with self._lock:
            with anyio.move_on_after(self._service.limits.send_wait_s) as waiting:
                try:
                    await self._socket.send_text(text)
                except (RuntimeError, WebSocketDisconnect) as error:
                    # Starlette and uvicorn say in several ways that the other side has gone.
                    raise ConnectionResetError from error
            if waiting.cancelled_caught:
                if self._abort is not None:
                    self._abort()
                raise ConnectionAbortedError

    async def _hang_up(self, reason: str) -> None:
        with suppress(RuntimeError):
            await self._socket.close(_POLICY, reason)


def _id_of(values: object) -> str | int | None:
    if not isinstance(values, dict):
        return None
    told = cast("dict[str, object]", values).get("id")
    return told if isinstance(told, (str, int)) and not isinstance(told, bool) else None


def _refused(call_id: str | int | None, facts: dict[str, Any]) -> dict[str, Any]:
    return _failed(call_id, wire.OUR_ERROR, str(facts.get("message")), facts)


def _failed(call_id: str | int | None, code: int, message: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": call_id, "error": error}
