"""What the tests of the pool share."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.background.pool import Pool
from claude_comms.errors import ClaudeCommsError
from claude_comms.testing.scripted import ScriptedBackend
from claude_comms.types import InstanceSpec, Pair, Prompt, TokenCount, TurnEvent, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping


def spec(target: str = "b", **more: Any) -> InstanceSpec:
    return InstanceSpec(Pair("a", target), more.pop("backend", "scripted"), **more)


def request(thread_id: str = "c_1", question: str = "How?", handle: str | None = None) -> TurnRequest:
    prompt = Prompt(Pair("a", "b"), (), (), question, question, "query", "v1", TokenCount(1))
    return TurnRequest(prompt, thread_id, "m", 1000, session_handle=handle)


async def nowhere(_event: TurnEvent) -> None:
    pass


def make(backend: Any = None, *, places: int = 2, waiting: int = 100, wait_s: float = 30, **more: Any) -> Pool:
    backend = backend or ScriptedBackend("yes")
    return Pool(
        {"scripted": backend, "other": backend}, max_instances=places, max_waiting=waiting, queue_wait_s=wait_s, **more
    )


async def ask(pool: Pool, wanted: InstanceSpec, thread_id: str = "c_1") -> str:
    with await pool.lease(wanted, thread_id) as lease:
        await lease.ask(request(thread_id), nowhere)
        return lease.instance.instance_id


@asynccontextmanager
async def waiting_for(pool: Pool, wanted: InstanceSpec, thread_id: str | None) -> AsyncGenerator[list[Any]]:
    """One more question waits in the pool for as long as the block runs; then what became of it is in the list."""
    outcome: list[Any] = []

    async def wait() -> None:
        try:
            outcome.append(await pool.lease(wanted, thread_id))
        except ClaudeCommsError as error:
            outcome.append(error)

    before = pool.waiting
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        with anyio.fail_after(5):
            while pool.waiting == before and not outcome:
                await anyio.lowlevel.checkpoint()
        yield outcome


class Told:
    """Notes what `on_event` is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.instances: list[str] = []

    def __call__(self, event: str, instance: Any, /, **facts: Any) -> None:
        self.events.append((event, facts))
        self.instances.append(instance.instance_id)

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self.events]

    def of(self, event: str) -> list[dict[str, Any]]:
        """The facts of each event of that name."""
        return [facts for name, facts in self.events if name == event]


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Memory:
    """A `Measure` whose figures are written down: MiB by pid."""

    def __init__(self) -> None:
        self.mib: dict[int, int] = {}

    def __call__(self, pids: Collection[int]) -> Mapping[int, int]:
        return {pid: self.mib[pid] * 1024 * 1024 for pid in pids if pid in self.mib}
