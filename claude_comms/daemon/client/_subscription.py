"""Events of the daemon as they happen, followed over one connection after another, each once."""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import anyio
from pydantic import ValidationError

from claude_comms.daemon.client._channel import ConnectionLostError
from claude_comms.daemon.client._finding import Patience
from claude_comms.daemon.wire import FilterModel
from claude_comms.errors import ClaudeCommsError, ConfigError, DaemonError
from claude_comms.events import Event, Missed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from claude_comms.daemon.client._channel import Channel, Connection
    from claude_comms.events import EventFilter

__all__ = ["RemoteSubscription"]

_UNSUBSCRIBE_WITHIN_S = 2.0
_MOST_AHEAD = 20_000
"""Events that wait for a reader. One that is further behind is told what it missed, as the daemon would."""


class RemoteSubscription:
    """Implements `events.Subscription`. It survives a daemon that is restarted, and ends with an error where it stays
    away: DaemonNotRunningError.
    """

    def __init__(
        self, channel: Channel, wanted: EventFilter | None, after: int | None, *, most_ahead: int = _MOST_AHEAD
    ) -> None:
        self.kept: deque[Event | Missed] = deque()
        """What waits for the reader."""
        self._most_ahead = most_ahead
        self._channel = channel
        self._wanted = wanted
        self._cursor = after
        self._connection: Connection | None = None
        self._key: str | None = None
        self._news = anyio.Event()
        self._closed = False
        self._refused: str | None = None
        self._patience = Patience(channel.reconnect_s)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Missed:
        while not self.kept:
            if self._closed:
                raise StopAsyncIteration
            news = self._news
            connection = await self._subscribed()
            if not self.kept:
                await _either(news, connection)
        return self.kept.popleft()

    def ready(self) -> list[Event | Missed]:
        """What could be had now without waiting, and is taken with this call."""
        there = [*self.kept]
        self.kept.clear()
        return there

    async def __aenter__(self) -> Self:
        await self._subscribed()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Follow no longer. The iteration ends."""
        self._closed = True
        self._wake()
        connection, key = self._connection, self._key
        if connection is None or key is None or connection.lost:
            return
        connection.ignore(key)
        with anyio.move_on_after(_UNSUBSCRIBE_WITHIN_S, shield=True):
            try:
                await connection.call("unsubscribe", {"subscription": key})
            except ClaudeCommsError:
                return  # it has ended with the connection, or by itself

    async def _subscribed(self) -> Connection:
        """The connection that the events come over, now."""
        while self._connection is None or self._connection.lost:
            if self._refused is not None:
                await self._patience.wait(DaemonError(f"the daemon ended the subscription: {self._refused}"))
                self._refused = None
            connection = await self._channel.connection()
            params: dict[str, Any] = {"filter": _filter(self._wanted)}
            if self._cursor is not None:
                params["after"] = self._cursor
            try:
                await connection.call("subscribe", params, at_once=functools.partial(self._listen, connection))
            except ConnectionLostError:
                continue
            self._connection = connection
        return self._connection

    def _listen(self, connection: Connection, told: Mapping[str, Any]) -> None:
        self._key = str(told["subscription"])
        if self._cursor is None and told.get("after") is not None:
            self._cursor = int(told["after"])
        connection.listen(self._key, self.take)

    def take(self, method: str, params: Mapping[str, Any]) -> None:
        """What the daemon says of this subscription."""
        if method == "ended":
            self._refused = str(params.get("reason", ""))
            self._connection = self._key = None
            self._wake()
            return
        self._patience = Patience(self._channel.reconnect_s)
        if method == "event":
            item: Event | Missed = Event.from_cloudevent(params["event"])
            if self._cursor is not None and item.seq <= self._cursor:
                return
            self._cursor = item.seq
        else:
            item = Missed(int(params["first"]), int(params["last"]), str(params["reason"]))
            self._cursor = max(self._cursor or 0, item.last)
        self._keep(item)
        self._wake()

    def _keep(self, item: Event | Missed) -> None:
        if len(self.kept) < self._most_ahead:
            self.kept.append(item)
            return
        first, last = _span(item)
        newest = self.kept[-1]
        if isinstance(newest, Missed):
            self.kept.pop()
            first = newest.first
        self.kept.append(Missed(first, last, "read too slowly"))

    def _wake(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()


async def _either(news: anyio.Event, connection: Connection) -> None:
    """Wait for news, or for the end of the connection."""
    async with anyio.create_task_group() as tasks:

        async def ended() -> None:
            await connection.ended()
            tasks.cancel_scope.cancel()

        tasks.start_soon(ended)
        await news.wait()
        tasks.cancel_scope.cancel()


def _span(item: Event | Missed) -> tuple[int, int]:
    return (item.first, item.last) if isinstance(item, Missed) else (item.seq, item.seq)


def _filter(wanted: EventFilter | None) -> dict[str, Any]:
    try:
        return FilterModel.of(wanted).as_json()
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"the filter's {problem['loc'][0]}: {problem['msg']}. Correct it.") from error
