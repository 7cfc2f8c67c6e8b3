"""Questions for the background: asked now, answered by the daemon, and read whenever somebody wants to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

import anyio

from claude_comms.communicator._async import MessageOptions, question_from
from claude_comms.communicator._holder import EngineHolder
from claude_comms.communicator._shape import ResponseShape
from claude_comms.errors import ConfigError
from claude_comms.jobs import JobRequest, JobState
from claude_comms.portal import Blocking, Portal, blocking
from claude_comms.settings import Settings
from claude_comms.types import ANONYMOUS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from claude_comms.events import Event, EventFilter, Missed, Subscription
    from claude_comms.jobs import Job
    from claude_comms.protocols import Engine, UsageBy
    from claude_comms.types import UsageRow

__all__ = ["AsyncBackground", "AsyncEventStream", "Background", "EventStream"]


class AsyncBackground(EngineHolder):
    """The daemon's jobs, events and usage, on asyncio. The daemon is started where none runs.

    With `use_background=None` none is started: without a daemon there is its store to be read, and no jobs.

    A job may be named by its id or any unique beginning of it; JobNotFoundError. `settings` is a `Settings` or a
    mapping of the ones to override. Jobs live on when this is closed.
    """

    def __init__(
        self, settings: Settings | Mapping[str, Any] | None = None, *, use_background: bool | None = True
    ) -> None:
        super().__init__(Settings.load(settings), use_background=use_background)

    async def start_job(
        self,
        target: str,
        prompt: str,
        *,
        source: str | None = None,
        priority: int = 0,
        expires_in_s: float | None = None,
        callback: str | Sequence[str] | None = None,
        backend: str | None = None,
        model: str | None = None,
        **options: Unpack[MessageOptions],
    ) -> Job:
        """Have `target` asked in the background; durable once this returns.

        - `source`: the module that asks; None for somebody who is no registered module.
        - `priority`: higher ones go first. `expires_in_s`: a job that has not started by then fails.
        - `callback`: told the job's end: a command as a sequence of arguments, run without a shell, or an
          ``http://`` URL; either gets the job as JSON.
        - `options`: those of `AsyncCommunicator.send_message`; each job starts a new conversation unless `thread_id`
          is given. The answer must match a `response_model`'s schema; its value stays JSON.

        What is wrong with the question (unknown module, template, ...) is raised here.
        """
        shape = ResponseShape.of(options.get("response_model"))
        question = question_from(source or ANONYMOUS, target, prompt, shape, options, backend=backend, model=model)
        told = callback if callback is None or isinstance(callback, str) else tuple(callback)
        return await (await self._opened()).jobs.start(JobRequest(question, priority, expires_in_s, told))

    async def list_jobs(self, *, state: JobState | str | None = None, limit: int = 50) -> list[Job]:
        """The newest first; with `state` (queued, running, done, failed, cancelled) only those."""
        wanted = None if state is None else _state(state)
        return await (await self._opened()).jobs.list(state=wanted, limit=limit)

    async def get_job(self, job: str) -> Job:
        """One as it stands."""
        return await (await self._opened()).jobs.get(job)

    async def wait_job(self, job: str, *, timeout_s: float | None = None) -> Job:
        """One once it has ended, across restarts of the daemon; DeadlineExceededError after `timeout_s` seconds."""
        return await (await self._opened()).jobs.wait(job, timeout_s=timeout_s)

    async def cancel_job(self, job: str) -> Job:
        """End it. A running one is interrupted, and what had come of its answer is stored as partial."""
        return await (await self._opened()).jobs.cancel(job)

    def follow(self, wanted: EventFilter | None = None, *, after: int | None = None) -> AsyncEventStream:
        """What happens, as it happens: behind the cursor `after` (0: all that is kept), or from now on."""
        return AsyncEventStream(self._opened, wanted, after)

    async def usage(
        self,
        by: UsageBy = "pair",
        *,
        source: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[UsageRow]:
        """What turns have cost, in groups, the dearest first; days in their order."""
        engine = await self._opened()
        return await engine.usage(by, source=source, target=target, since=since, until=until)


def _state(wanted: JobState | str) -> JobState:
    try:
        return JobState(wanted)
    except ValueError as error:
        raise ConfigError(f"no job is {wanted!r}. Choose {', '.join(JobState)}.") from error


class AsyncEventStream:
    """Events as they come, each once and in order; `Missed` in the place of those that were lost to this reader.

    Iterate it in one task; use it as an async context manager, or `close` it.
    """

    def __init__(self, opened: Callable[[], Awaitable[Engine]], wanted: EventFilter | None, after: int | None) -> None:
        self._opened = opened
        self._wanted = wanted
        self._after = after
        self._events: Subscription | None = None

    async def started(self) -> Self:
        """Follow from now on, where that is not yet so."""
        if self._events is None:
            events = (await self._opened()).follow(self._wanted, after=self._after)
            await events.__aenter__()
            self._events = events
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Missed:
        await self.started()
        assert self._events is not None  # noqa: S101 - started() has set it
        return await self._events.__anext__()

    async def close(self) -> None:
        """Follow no longer."""
        events, self._events = self._events, None
        if events is not None:
            await events.__aexit__(None, None, None)

    async def __aenter__(self) -> Self:
        return await self.started()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()


class EventStream(Blocking[AsyncEventStream]):
    """The same for synchronous callers: iterate it, and `close` it or use it as a context manager."""

    def __iter__(self) -> Iterator[Event | Missed]:
        return self._each(self._inner)

    close = blocking(AsyncEventStream.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Background(Portal[AsyncBackground]):
    """The daemon's jobs, events and usage, for callers that wait.

    Takes the arguments of `AsyncBackground` and has its methods. Use it as a context manager, or `close` it.
    """

    def __init__(
        self, settings: Settings | Mapping[str, Any] | None = None, *, use_background: bool | None = True
    ) -> None:
        super().__init__(AsyncBackground(settings, use_background=use_background))

    def follow(self, wanted: EventFilter | None = None, *, after: int | None = None) -> EventStream:
        """What happens, as it happens: behind the cursor `after` (0: all that is kept), or from this call on."""
        stream = self._inner.follow(wanted, after=after)
        self.run(stream.started)
        return EventStream(stream, self)

    start_job = blocking(AsyncBackground.start_job)
    list_jobs = blocking(AsyncBackground.list_jobs)
    get_job = blocking(AsyncBackground.get_job)
    wait_job = blocking(AsyncBackground.wait_job)
    cancel_job = blocking(AsyncBackground.cancel_job)
    usage = blocking(AsyncBackground.usage)
