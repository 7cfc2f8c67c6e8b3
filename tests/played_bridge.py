"""A bridge that is played by the test: the Python half's real process and connection, and a server that says over it
whatever the test wants.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request

USAGE = {"input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 0, "cache_write_tokens": 0, "cost_usd": None}
HELLO = {"protocol": 1, "bridge": "0.1.0", "sdk": "0.3.329", "node": "v20.0.0", "pid": 1}


class RefusedRequestError(Exception):
    """What a played method raises to answer with an error of the bridge's."""

    def __init__(self, kind: str, **data: object) -> None:
        super().__init__(kind)
        self.error = {"code": -32000, "message": f"played {kind}.", "data": {"type": kind, **data}}


class PlayedTurn:
    """One turn, told by the test."""

    def __init__(self, bridge: PlayedBridge, socket: ServerConnection, request: dict[str, Any]) -> None:
        self._bridge = bridge
        self._socket = socket
        self._id = request["id"]
        self.params = request["params"]
        self._names = {"session": self.params["session"], "turn": self.params["turn"]}

    async def tell(self, method: str, **more: object) -> None:
        """A notification of the turn."""
        await self._bridge.say(self._socket, method=method, params={**self._names, **more})

    async def end(self, pieces: int, **more: object) -> None:
        """Its result."""
        end: dict[str, object] = {
            "model": "m",
            "stop_reason": "end_turn",
            "position": None,
            "usage": USAGE,
            "files": [],
        }
        result = {**self._names, "pieces": pieces, **end, **more}
        await self._bridge.say(self._socket, id=self._id, result=result)

    def hang_up(self) -> None:
        """Cut the connection."""
        self._socket.transport.abort()

    async def fail(self, kind: str, **data: object) -> None:
        """The error that it ends in."""
        await self._bridge.say(self._socket, id=self._id, error=RefusedRequestError(kind, **data).error)


class PlayedBridge:
    """The server. `methods` answer requests; `on_credit` is what a turn does at its first credit."""

    def __init__(self, record: Path) -> None:
        self.record = record
        self.port = 0
        self.heard: list[dict[str, Any]] = []
        self.refusals = 0
        """How many connections are still refused."""
        self.credits: list[int] = []
        self.turns: dict[str, PlayedTurn] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        """What the sessions' processes are played by."""
        self.methods: dict[str, Callable[[dict[str, Any]], object]] = {"open": self._opened}
        self.on_credit: Callable[[PlayedTurn], Awaitable[None]] = self.answer

    async def answer(self, turn: PlayedTurn) -> None:
        """A whole answer in one piece."""
        await turn.tell("turn.delta", piece=0, text="Answer")
        await turn.end(1)

    def asked(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all messages of that name."""
        return [message["params"] for message in self.heard if message["method"] == method]

    def records(self) -> list[dict[str, Any]]:
        """What each process that was started as the bridge was given."""
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def refuse(self, _connection: ServerConnection, _request: Request) -> Response | None:
        """Turn a connection away while there are refusals left."""
        if self.refusals <= 0:
            return None
        self.refusals -= 1
        return Response(503, "Busy", Headers())

    def _opened(self, params: dict[str, Any]) -> object:
        self.processes.append(subprocess.Popen(["sleep", "600"]))
        return {"session": params["session"], "pid": self.processes[-1].pid, "servers": []}

    async def handle(self, socket: ServerConnection) -> None:
        """Serve one connection."""
        with suppress(ConnectionClosed):
            async for frame in socket:
                message = json.loads(frame)
                self.heard.append(message)
                await self._take(socket, message)

    async def _take(self, socket: ServerConnection, message: dict[str, Any]) -> None:
        method, params = message["method"], message["params"]
        if method == "turn":
            turn = self.turns[params["turn"]] = PlayedTurn(self, socket, message)
            await turn.tell("turn.ready")
        elif method == "credit":
            self.credits.append(params["pieces"])
            if len(self.credits) == 1:
                await self.on_credit(self.turns[params["turn"]])
        else:
            await self._result(socket, message)

    async def _result(self, socket: ServerConnection, message: dict[str, Any]) -> None:
        answer = self.methods.get(message["method"])
        try:
            result = ({} if answer is None else answer(message["params"])) if message["method"] != "hello" else HELLO
        except RefusedRequestError as refusal:
            await self.say(socket, id=message["id"], error=refusal.error)
        else:
            await self.say(socket, id=message["id"], result=result)

    async def say(self, socket: ServerConnection, **message: object) -> None:
        """One message, whatever it is."""
        await socket.send(json.dumps({"jsonrpc": "2.0", **message}))
