"""A question under way in the daemon: followed over one connection after another, each event once."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
from pydantic import ValidationError

from claude_comms.daemon.client._channel import ConnectionLostError
from claude_comms.daemon.client._finding import Patience
from claude_comms.daemon.wire import TERMINAL, QuestionModel, ReplyModel
from claude_comms.errors import (
    ClaudeCommsError,
    ConfigError,
    DaemonError,
    DeadlineExceededError,
    ReplyValidationError,
    TurnFailedError,
    error_from_dict,
)
from claude_comms.types import Delta, Refused, Retried, Started, ToolUsed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from claude_comms.daemon.client._channel import Channel, Connection
    from claude_comms.types import Question, Reply, TurnEvent

__all__ = ["RemoteTurn"]

_BEYOND_DEADLINE_S = 1.5
"""The daemon ends a turn by its deadline itself; a client whose daemon hangs waits no longer than this."""
_CANCEL_WITHIN_S = 2.0
_CLOSE_WAIT_S = 5.0


class RemoteTurn:
    """Implements `protocols.Turn`. `question` has the id of its turn, and its deadline.

    Asked over each connection anew with the same id and the cursor of the last event: the daemon goes on where the
    connection broke, or begins if it has never heard of the turn. It never asks twice.
    """

    def __init__(self, channel: Channel, question: Question, deadline_s: float, *, new: bool = False) -> None:
        """`new`: the id has just been made up, so no daemon can know the turn."""
        self._channel = channel
        self._new = new
        self._question = question
        self._turn_id = str(question.turn_id)
        self._deadline_s = deadline_s
        self._deadline = anyio.current_time() + deadline_s
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._cursor = 0
        self._events: deque[TurnEvent] = deque()
        self._news = anyio.Event()
        self._unread = False
        self._stored = anyio.Event()
        self._ended = anyio.Event()
        self._thread_id: str | None = None
        self._text: list[str] = []
        self._reply: Reply | None = None
        self._error: BaseException | None = None
        self._interrupted = False
        self._patience = Patience(channel.reconnect_s)
        self.task = asyncio.create_task(self._run(), name=f"claude-comms {self._turn_id}")

    # --- the daemon's side ---------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            with anyio.move_on_at(self._deadline + _BEYOND_DEADLINE_S) as limit:
                await self._follow()
            if limit.cancelled_caught:
                self._end(error=self._too_late())
                await self._cancel()
        except ClaudeCommsError as error:
            self._end(error=error)
        except ValidationError as error:
            self._end(error=_cannot_be_asked(error))
        finally:
            self._end(error=_interrupted("the client was closed before the answer came"))

    async def _follow(self) -> None:
        if self._deadline_s <= 0:
            raise self._too_late()
        params = _params(self._question)
        while not self._ended.is_set():
            try:
                self._connection = await self._channel.connection()
            except DaemonError as error:
                raise self._left_alone(error) from error
            if self._interrupted and not self._cursor:
                raise _interrupted("the turn was interrupted before it was known to have begun")
            try:
                await self._over(self._connection, params)
            except ConnectionLostError:
                pass
            except DaemonError as error:
                await self._patience.wait(error)  # it may be stopping; the next one will not refuse
            params["question"]["deadline_s"] = max(0.001, self._deadline - anyio.current_time())

    async def _over(self, connection: Connection, params: dict[str, Any]) -> None:
        """Follow the turn on one connection, to its end or the connection's."""
        connection.listen(self._turn_id, self._take)
        try:
            if self._interrupted:
                await self._cancel()  # whether the daemon had heard of it is not known
            new, self._new = self._new, False
            result = await connection.call("ask", {**params, "after": self._cursor, "new": new})
            if not self._ended.is_set():  # else the last event has told it
                self._end(reply=_reply(result))
        except ClaudeCommsError as error:
            if isinstance(error, DaemonError):
                raise
            self._end(error=error)
        finally:
            connection.ignore(self._turn_id)

    def _take(self, _method: str, params: Mapping[str, Any]) -> None:
        waiting = len(self._events)
        for event in params["events"]:
            self._see(event)
        if len(self._events) > waiting:
            self._wake()

    def _see(self, event: Mapping[str, Any]) -> None:
        if event["seq"] <= self._cursor:
            return
        self._cursor = event["seq"]
        data: Mapping[str, Any] = event["data"]
        if self._thread_id is None and data.get("thread_id") is not None:
            self._thread_id = data["thread_id"]
            self._stored.set()
        kind = str(event["type"])
        if kind in TERMINAL:
            self._end_as(data)
        elif (decode := _EVENTS.get(kind)) is not None:
            self._tell(decode(data))

    def _end_as(self, data: Mapping[str, Any]) -> None:
        try:
            reply = data.get("reply")
            if reply is None:
                raise error_from_dict(data["error"])
            self._end(reply=_reply(reply))
        except ClaudeCommsError as error:
            if type(error) is not DaemonError:  # such an end is the daemon's, and the turn's is told when it is back
                self._end(error=error)

    def _tell(self, event: TurnEvent) -> None:
        if isinstance(event, Delta):
            self._text.append(event.text)
        if not self._unread:
            self._events.append(event)

    def _wake(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    def _end(self, *, reply: Reply | None = None, error: BaseException | None = None) -> None:
        if self._ended.is_set():
            return
        self._reply, self._error = reply, error
        if reply is not None:
            self._thread_id = reply.thread_id
            self._error = self._unfit(reply)
        elif isinstance(error, ClaudeCommsError):
            error.thread_id = self._thread_id = error.thread_id or self._thread_id
        self._stored.set()
        self._ended.set()
        self._wake()

    def _unfit(self, reply: Reply) -> ReplyValidationError | None:
        """What the caller's own check finds wrong, which the daemon cannot run."""
        problems = self._question.check(reply.data) if self._question.check is not None else ()
        if not problems:
            return None
        error = ReplyValidationError(problems, reply.response)
        error.thread_id = reply.thread_id
        return error

    def _too_late(self) -> DeadlineExceededError:
        error = DeadlineExceededError(
            f"{self._question.target} did not answer within {self._deadline_s:g} s, and neither did the daemon."
            " Ask again with a later deadline_s.",
            deadline_s=self._deadline_s,
        )
        error.thread_id = self._thread_id
        error.partial = "".join(self._text)
        return error

    def _left_alone(self, error: DaemonError) -> DaemonError:
        """`error` with what is known of the turn, which may have begun."""
        if self._thread_id is None and not self._cursor:
            return error
        told = DaemonError(
            f"{error} It was answering in conversation {self._thread_id}: the turn is marked failed when the daemon"
            f" starts again. See: claude-comms show-conversation {self._thread_id}"
        )
        told.thread_id = self._thread_id
        return told

    # --- the caller's side ---------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[TurnEvent]:
        while True:
            while self._events:
                yield self._events.popleft()
            if self._ended.is_set() or self._unread:
                break
            await self._news.wait()
        await self.reply()

    async def reply(self) -> Reply:
        self._read_no_more()
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        assert self._reply is not None  # noqa: S101 - `_end` sets one of the two
        return self._reply

    async def thread_id(self) -> str | None:
        await self._stored.wait()
        return self._thread_id

    async def interrupt(self) -> None:
        if self._ended.is_set() or self._interrupted:
            return
        self._interrupted = True
        await self._cancel()

    def abandon(self) -> None:
        if not self._ended.is_set():
            with suppress(RuntimeError):  # the loop is closed, and the connection with it
                self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self.close()))

    async def close(self) -> None:
        self._read_no_more()
        if self._ended.is_set():
            return
        await self.interrupt()
        with anyio.move_on_after(_CLOSE_WAIT_S):
            await self._ended.wait()
        self.task.cancel()
        await asyncio.wait({self.task}, timeout=_CANCEL_WITHIN_S)

    async def _cancel(self) -> None:
        """Tell the daemon, where there is one to be told."""
        if self._connection is None or self._connection.lost:
            return
        with anyio.move_on_after(_CANCEL_WITHIN_S), suppress(ClaudeCommsError):
            await self._connection.call("cancel", {"turn_id": self._turn_id})

    def _read_no_more(self) -> None:
        self._unread = True
        self._events.clear()
        self._wake()


def _params(question: Question) -> dict[str, Any]:
    # The check is code, and a schema may well be stated in other words than the daemon's.
    return {"question": QuestionModel.of(replace(question, check=None)).as_json()}


def _interrupted(message: str) -> TurnFailedError:
    return TurnFailedError(f"{message}. Ask again.", reason="interrupted")


def _cannot_be_asked(error: ValidationError) -> ConfigError:
    problem = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    return ConfigError(f"{field}: {problem['msg']}. Correct it, and ask again.")


def _reply(values: Mapping[str, Any]) -> Reply:
    try:
        return ReplyModel.model_validate(values).inner()
    except ValidationError as error:
        raise DaemonError("the daemon's answer is none that this version can read. Restart it.") from error


_EVENTS: dict[str, Callable[[Mapping[str, Any]], TurnEvent]] = {
    "turn.started": lambda data: Started(**{name: data.get(name, "") for name in Started.__dataclass_fields__}),
    "turn.delta": lambda data: Delta(data["text"]),
    "turn.tool_used": lambda data: ToolUsed(data["tool"], data.get("arguments", "")),
    "turn.tool_refused": lambda data: Refused(data["tool"], data["aimed_at"], data["reason"]),
    "turn.retried": lambda data: Retried(data["attempt"], data["reason"], data["wait_s"]),
}
