"""The subscriptions of one client on the WebSocket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.daemon import wire
from claude_comms.daemon.server._answers import internal_error
from claude_comms.errors import ClaudeCommsError, PoolExhaustedError
from claude_comms.events import Event, Focus, FocusLevel
from claude_comms.types import new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_comms.daemon.server._service import Service
    from claude_comms.daemon.wire import FocusedFilterModel
    from claude_comms.events import Digest

__all__ = ["Feeds"]


class Feeds:
    """Follows what a client subscribed to, at the client's pace. What it is too slow for, it is told as `missed`."""

    def __init__(self, service: Service, notify: Callable[[str, dict[str, Any]], Awaitable[None]]) -> None:
        self._service = service
        self._notify = notify
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unannounced: list[anyio.Event] = []

    async def subscribe(self, params: dict[str, Any]) -> dict[str, Any]:
        """Begin to follow; `after` is the cursor it begins from.

        Nothing is sent before `announced`, so that the client knows the subscription's name.
        """
        limit = self._service.limits.subscriptions_per_connection
        if len(self._tasks) >= limit:
            raise PoolExhaustedError(f"{limit} subscriptions are open here. End some.", limit=limit, retry_after_s=1.0)
        wanted = wire.SubscribeParams.model_validate(params)
        name = new_id("s")
        after = self._service.bus.last_seq if wanted.after is None else wanted.after
        entered, announced = anyio.Event(), anyio.Event()
        task = asyncio.create_task(self._follow(name, wanted.filter, after, entered, announced))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))
        await entered.wait()
        self._unannounced.append(announced)
        return {"subscription": name, "after": after}

    def announced(self) -> None:
        """The client has been told of its subscriptions."""
        while self._unannounced:
            self._unannounced.pop().set()

    async def unsubscribe(self, params: dict[str, Any]) -> dict[str, Any]:
        """End one. `ended` is false where there was none of that name."""
        name = wire.UnsubscribeParams.model_validate(params).subscription
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return {"subscription": name, "ended": task is not None}

    async def close(self) -> None:
        """End all."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(
        self, name: str, wanted: FocusedFilterModel, after: int, entered: anyio.Event, announced: anyio.Event
    ) -> None:
        reason = "the daemon stops"
        focus = Focus(wanted.focus)
        digesting = asyncio.create_task(self._digest(name, focus, wanted.digest_s, announced))
        try:
            async with self._service.engine.follow(wanted.inner(), after=after) as events:
                entered.set()
                await announced.wait()
                async for event in events:
                    if isinstance(event, Event):
                        if not focus.pass_on(event):
                            continue
                        await self._notify("event", {"subscription": name, "event": event.as_cloudevent()})
                    else:
                        facts = {"first": event.first, "last": event.last, "reason": event.reason}
                        await self._notify("missed", {"subscription": name, **facts})
        except ClaudeCommsError as error:
            reason = str(error)
        except ConnectionError:
            return  # the client is gone
        except Exception as error:  # noqa: BLE001 - told without its details, and logged
            reason = internal_error(error)["message"]
        finally:
            entered.set()
            digesting.cancel()
        await announced.wait()
        await self._notify("ended", {"subscription": name, "reason": reason})

    async def _digest(self, name: str, focus: Focus, every_s: float, announced: anyio.Event) -> None:
        """Tell in a few lines, every so often, what the focus has held back."""
        await announced.wait()
        while focus.level is not FocusLevel.EVERYTHING:
            await asyncio.sleep(every_s)
            digest = focus.digest()
            if digest is not None:
                try:
                    await self._notify("digest", {"subscription": name, **_told(digest)})
                except ConnectionError:
                    return  # the client is gone


def _told(digest: Digest) -> dict[str, Any]:
    lines = [
        {
            "type": line.type,
            "namespace": line.namespace,
            "count": line.count,
            "attention": line.attention,
            "texts": list(line.texts),
        }
        for line in digest.lines
    ]
    facts = {"count": digest.count, "load": digest.load, "first": digest.first_seq, "last": digest.last_seq}
    return {**facts, "left_out": digest.left_out, "lines": lines}
