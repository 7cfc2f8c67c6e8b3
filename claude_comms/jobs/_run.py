"""One running job: its turn, how far it has come, and how it ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.errors import PoolExhaustedError
from claude_comms.jobs import _errors
from claude_comms.jobs._job import JobState
from claude_comms.jobs.store import Ending
from claude_comms.types import Delta, Started, ToolUsed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_comms.jobs._job import Job
    from claude_comms.jobs._progress import Progress
    from claude_comms.jobs.store import KeptJob
    from claude_comms.protocols import Turn
    from claude_comms.types import Question, Reply, TurnEvent

    Ask = Callable[[Question], Awaitable[Turn]]

__all__ = ["Run"]

_INTERRUPT_WITHIN_S = 5.0
_MOST_TRIES = 20
_LONGEST_WAIT_S = 30.0


class Run:
    """Takes one claimed job to its end. Used once. `progress` is told whenever it has come further."""

    def __init__(self, kept: KeptJob, ask: Ask, progress: Progress) -> None:
        self.job: Job = kept.job
        self.thread_id = kept.job.thread_id
        self.ending: Ending | None = None
        """How it ended, before that is kept."""
        self.ended = anyio.Event()
        """It ended, and that is kept."""
        self._question = kept.question
        self._ask = ask
        self._progress = progress
        self._characters = self._tools = 0
        self._turn: Turn | None = None
        self._unwanted = asyncio.Event()
        self._cancelled = False

    @property
    def job_id(self) -> str:
        """The whole id of its job."""
        return self.job.job_id

    @property
    def so_far(self) -> dict[str, Any]:
        """How far it has come."""
        return {"characters": self._characters, "tools": self._tools}

    async def carry_out(self) -> Ending | None:
        """Ask, and say how it ended; None where it was stopped while there was no place to ask it yet.

        Only cancellation comes out of it; then its turn is left to end by itself.
        """
        self.ending = await self._end()
        return self.ending

    async def _end(self) -> Ending | None:
        try:
            reply = await self._answer()
        except asyncio.CancelledError:
            if self._turn is not None:
                self._turn.abandon()
            raise
        except PoolExhaustedError as error:
            waits = self._unwanted.is_set() and not self._cancelled
            return None if waits else self._failed(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is why the job failed
            return self._failed(error)
        return Ending(JobState.DONE, reply=reply.as_dict(), thread_id=reply.thread_id, progress=self.so_far)

    async def cancel(self) -> None:
        """Let it end as cancelled, soon."""
        self._cancelled = True
        await self.stop()

    async def stop(self) -> None:
        """Let it end as stopped, soon; what had come of its answer is stored as partial."""
        self._unwanted.set()
        if self._turn is not None:
            with anyio.move_on_after(_INTERRUPT_WITHIN_S):
                await self._turn.interrupt()

    def stopped(self) -> Ending:
        """Its end where it is not waited for any longer."""
        return Ending(
            JobState.FAILED,
            error=_errors.stopped(self.thread_id),
            thread_id=self.thread_id,
            progress=self.so_far,
        )

    async def _answer(self) -> Reply:
        """Ask; where there is no place for the question now, nothing was asked, and it waits for one."""
        for tries_left in range(_MOST_TRIES, 0, -1):
            try:
                return await self._ask_once()
            except PoolExhaustedError as error:
                if tries_left == 1 or self._unwanted.is_set():
                    raise
                with anyio.move_on_after(min(error.retry_after_s, _LONGEST_WAIT_S)):
                    await self._unwanted.wait()
        raise AssertionError

    async def _ask_once(self) -> Reply:
        self._turn = await self._ask(self._question)
        if self._unwanted.is_set():
            await self._turn.interrupt()
        async for event in self._turn:
            if isinstance(event, Started):
                self.thread_id = event.thread_id
                await self._progress.found_thread(self)
            self._take(event)
        return await self._turn.reply()

    def _take(self, event: TurnEvent) -> None:
        match event:
            case Delta():
                self._characters += len(event.text)
            case ToolUsed():
                self._tools += 1
            case _:
                return
        self._progress.moved(self)

    def _failed(self, error: Exception) -> Ending:
        self.thread_id = getattr(error, "thread_id", None) or self.thread_id
        if self._cancelled:
            facts = _errors.cancelled(self.thread_id, started=True)
        elif self._unwanted.is_set():
            facts = _errors.stopped(self.thread_id)
        else:
            facts = _errors.as_facts(error)
        state = JobState.CANCELLED if self._cancelled else JobState.FAILED
        return Ending(state, error=facts, thread_id=self.thread_id, progress=self.so_far)
