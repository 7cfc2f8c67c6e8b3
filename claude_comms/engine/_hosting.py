"""What an engine does beside answering when it hosts instances for everybody on the machine.

It tells the bus of its instances, remembers them across restarts, and keeps some of them ready.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.engine._news import about_instance
from claude_comms.errors import ClaudeCommsError, ConfigError, PoolError, PoolExhaustedError, StoreError
from claude_comms.roster import RosterEntry
from claude_comms.types import API, OFFLINE, InstanceSpec, InstanceState, Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anyio.abc import TaskGroup

    from claude_comms.background.instance import Instance
    from claude_comms.background.pool import Pool
    from claude_comms.engine._instances import LocalInstances
    from claude_comms.engine._outlet import Outlet
    from claude_comms.jobs import JobState
    from claude_comms.jobs.runner import JobRunner
    from claude_comms.roster.store import RosterStore
    from claude_comms.types import InstanceInfo

__all__ = ["Hosting", "InstanceNews"]

_LOG = logging.getLogger(__name__)
_FLUSH_WAIT_S = 2.0
_AGAIN_AFTER_S = 5.0
_TOGETHER_S = 0.5
"""How long what turns change waits to be written down with more of it: each commit is a flush of the disk."""

_WITHOUT_PROCESS = (API, OFFLINE)
_KEPT_STATES = (InstanceState.PAUSED, InstanceState.FAILED)
_OF_TURNS = ("instance.busy", "instance.idle")


class InstanceNews:
    """The pool's `on_event`: tells the bus, and whoever keeps the roster."""

    def __init__(
        self,
        outlet: Outlet,
        info: Callable[[Instance], InstanceInfo],
        stalled: Callable[[str, float], None],
    ) -> None:
        self._outlet = outlet
        self._info = info
        self._stalled = stalled
        self.keeper: RosterKeeper | None = None

    def __call__(self, kind: str, instance: Instance, /, **facts: Any) -> None:
        """Something happened to `instance`."""
        if kind == "turn.stalled":
            self._stalled(facts["request"].thread_id, facts["silent_s"])
            return
        if self.keeper is not None and self.keeper.leaving and kind == "instance.stopped":
            return  # it comes back with the next daemon
        if self._outlet.heard:
            self._outlet.tell(about_instance(kind, self._info(instance), **facts))
        if self.keeper is not None and not instance.kept_ready:
            self.keeper.changed(instance, soon=kind not in _OF_TURNS)


class RosterKeeper:
    """Writes down which instances there are, soon after they change and never in anybody's way."""

    def __init__(self, roster: RosterStore) -> None:
        self._roster = roster
        self._changed: dict[str, Instance] = {}
        self._wake = anyio.Event()
        self._soon = anyio.Event()
        self._writing = anyio.Lock()
        """Whoever has flushed may rely on it that all is written, whoever wrote it."""
        self.leaving = False
        """From now on instances that stop are those of an engine that ends: they stay on the roster."""

    def changed(self, instance: Instance, *, soon: bool = True) -> None:
        """Write it down, as it stands by then; one that was stopped is crossed out. Not `soon`: within 0.5 s."""
        self._changed[instance.instance_id] = instance
        self._wake.set()
        if soon:
            self._soon.set()

    async def run(self) -> None:
        """Keep writing until cancelled."""
        while True:
            await self._wake.wait()
            with anyio.move_on_after(_TOGETHER_S):
                await self._soon.wait()
            self._wake, self._soon = anyio.Event(), anyio.Event()
            try:
                await self.flush()
            except StoreError as error:
                _LOG.warning("the roster of instances could not be written: %s", error)
                await anyio.sleep(_AGAIN_AFTER_S)
                self._wake.set()

    async def flush(self) -> None:
        """Write what has changed. StoreError where that is impossible; it is kept for the next time then."""
        async with self._writing:
            changed, self._changed = self._changed, {}
            try:
                await self._write(list(changed.values()))
            except BaseException:
                self._changed = {**changed, **self._changed}
                raise

    async def _write(self, instances: Sequence[Instance]) -> None:
        for instance in instances:
            if instance.state is InstanceState.STOPPED:
                await self._roster.remove(instance.instance_id)
        staying = [instance for instance in instances if instance.state is not InstanceState.STOPPED]
        await self._roster.save(*(_entry(instance) for instance in staying))

    async def leave(self) -> None:
        """The engine ends: write what is left, in bounded time, and keep what stops from now on."""
        with anyio.move_on_after(_FLUSH_WAIT_S, shield=True), suppress(StoreError):
            await self.flush()
        self.leaving = True

    async def bring_back(self, pool: Pool) -> None:
        """Take back the instances of the process before, hibernated; they resume their sessions when asked.

        One that cannot come back as it was comes back failed, with the reason. Where not even that is possible, nobody
        knowing its backend, it stays on the roster for a process that does.
        """
        for entry in await self._roster.list():
            try:
                _adopt(pool, entry, entry.failure or _lacking(entry))
            except PoolExhaustedError as error:
                _adopt(pool, entry, str(error))
            except ClaudeCommsError as error:
                _LOG.warning("instance %s cannot be brought back: %s", entry.instance_id, error)


def _lacking(entry: RosterEntry) -> str | None:
    """Why it cannot answer as it did: its variables are not kept. Without a process of its own it needs none."""
    return None if entry.backend in _WITHOUT_PROCESS else entry.refusal


def _adopt(pool: Pool, entry: RosterEntry, failure: str | None) -> None:
    directory = None if entry.directory is None else Path(entry.directory)
    pool.adopt(
        InstanceSpec(Pair(entry.source, entry.target), entry.backend, entry.model, entry.grants, directory),
        instance_id=entry.instance_id,
        name=entry.name,
        limits=entry.limits,
        thread_id=entry.thread_id,
        state=InstanceState.PAUSED if entry.state == InstanceState.PAUSED else InstanceState.HIBERNATED,
        turns=entry.turns,
        restarts=entry.restarts,
        usage=entry.usage,
        created_at=entry.created_at,
        last_used=entry.last_used_at,
        own_thread_id=entry.own_thread_id,
        failure=None if failure is None else PoolError(failure),
    )


def _entry(instance: Instance) -> RosterEntry:
    spec = instance.spec
    return RosterEntry(
        instance_id=instance.instance_id,
        name=instance.name,
        source=spec.pair.source,
        target=spec.pair.target,
        backend=spec.backend,
        model=spec.model,
        grants=spec.grants,
        limits=instance.limits,
        environment=tuple(name for name, _ in spec.environment),
        directory=None if spec.directory is None else str(spec.directory),
        thread_id=instance.thread_id,
        state=str(instance.state) if instance.state in _KEPT_STATES else "idle",
        turns=instance.turns,
        usage=instance.usage,
        restarts=instance.restarts,
        created_at=instance.created_at,
        last_used_at=instance.last_used,
        failure=None if instance.failure is None else str(instance.failure),
        own_thread_id=instance.own_thread_id,
    )


class Hosting:
    """The hosting half of an engine: its roster, its background questions, its prewarmed instances."""

    def __init__(self, roster: RosterStore, jobs: JobRunner, news: InstanceNews) -> None:
        self._keeper = news.keeper = RosterKeeper(roster)
        self._jobs = jobs
        self.not_ready: dict[str, str] = {}
        """The pairs of ``[prewarm]`` of which nothing can be kept ready, with the reason."""

    async def open(self, pool: Pool, instances: LocalInstances, prewarm: Mapping[str, int], tasks: TaskGroup) -> None:
        """Take back what the process before had, and go on with it. What cannot be kept ready is in `not_ready`."""
        await self._keeper.bring_back(pool)
        tasks.start_soon(self._keeper.run)
        await self._jobs.open()
        for pair, count in prewarm.items():
            try:
                await instances.keep_ready(_pair_of(pair), count)
            except ClaudeCommsError as error:
                self.not_ready[pair] = str(error)
                _LOG.warning("prewarm %s: %s", pair, error)

    async def settle(self) -> None:
        """Write down now what has changed of the instances. StoreError where that is impossible."""
        await self._keeper.flush()

    async def load(self) -> Mapping[JobState, int]:
        """How many jobs are queued and running."""
        return await self._jobs.count()

    async def drain(self, timeout_s: float) -> None:
        """Start no more jobs, and let those that run end, for so long."""
        await self._jobs.drain(timeout_s)

    async def close(self) -> None:
        """Interrupt and mark the jobs that run, and write down the instances. Bounded."""
        await self._jobs.close()
        await self._keeper.leave()


def _pair_of(text: str) -> Pair:
    """The pair that ``SOURCE/TARGET`` names; ConfigError otherwise."""
    source, slash, target = text.partition("/")
    if not (slash and source and target) or "/" in target:
        raise ConfigError(f"prewarm: {text!r} names no pair. Write it as SOURCE/TARGET.")
    return Pair(source, target)
