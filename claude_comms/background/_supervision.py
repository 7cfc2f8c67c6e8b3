"""What is looked after from time to time: memory, deaths, idleness, age, and how many stay warm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread

from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from claude_comms.background._memory import Measure
    from claude_comms.background.instance import Instance

__all__ = ["Reclaiming", "Supervision"]

_MIB = 1024 * 1024
_RESTING = (InstanceState.IDLE, InstanceState.PAUSED)


@dataclass(frozen=True, slots=True)
class Reclaiming:
    """When instances with nothing to do give up their sessions; None: never for that reason."""

    max_idle_s: float | None = None
    """Idle for longer; an instance's own `limits.max_idle_s` comes first."""
    max_age_s: float | None = None
    """Open for longer."""
    max_memory_mb: int | None = None
    """Processes of all instances together take more, in MiB: those that have rested longest, until it is enough."""
    max_warm: int | None = None
    """More than so many are warm without anything to do: those that have rested longest."""


class Supervision:
    """Looks after the instances that `instances` tells."""

    def __init__(
        self,
        instances: Callable[[], Collection[Instance]],
        rules: Reclaiming,
        *,
        measure: Measure,
        clock: Callable[[], float],
    ) -> None:
        self._instances = instances
        self._rules = rules
        self._measure = measure
        self._clock = clock
        self.short_of_memory = False
        """Whether one more process like the largest would have been too much when that was last looked at."""

    async def look(self) -> None:
        """One round: measure, then reclaim."""
        await self.measure()
        self.reclaim()

    async def measure(self) -> None:
        """How much each process tree takes, and which processes are gone."""
        pids = {instance: instance.watched_pid() for instance in self._instances()}
        known = {instance: pid for instance, pid in pids.items() if pid is not None}
        if known:
            taken: Mapping[int, int] = await anyio.to_thread.run_sync(self._measure, frozenset(known.values()))
            for instance, pid in known.items():
                instance.measured(pid, taken.get(pid))

    def reclaim(self) -> None:
        """Have sessions given up that are idle for too long, too old, too many, or too large together."""
        for instance in self._instances():
            reason = self._worn_out(instance)
            if reason is not None:
                _give_up(instance, reason)
        self._reclaim_count()
        self._reclaim_memory()

    def _worn_out(self, instance: Instance) -> str | None:
        if instance.state not in _RESTING:
            return None
        now, rules = self._clock(), self._rules
        if instance.opened_since is not None and _beyond(now - instance.opened_since, rules.max_age_s):
            return "age"
        own = instance.limits.max_idle_s
        idle_s = now - instance.idle_since if instance.idle_since is not None else 0.0
        resting = instance.state is InstanceState.IDLE or instance.warm
        if resting and not instance.kept_ready and _beyond(idle_s, own if own is not None else rules.max_idle_s):
            return "idleness"
        return None

    def _reclaim_count(self) -> None:
        """Those that are kept ready count, and are not given up for it: others would only be started again."""
        warm = self._longest_rested_first()
        if self._rules.max_warm is not None:
            for instance in warm[: max(0, len(warm) - self._rules.max_warm)]:
                if not instance.kept_ready:
                    _give_up(instance, "count")

    def _reclaim_memory(self) -> None:
        if self._rules.max_memory_mb is None:
            return
        most = self._rules.max_memory_mb * _MIB
        sizes = [instance.rss_bytes or 0 for instance in self._instances()]
        taken = sum(sizes)
        for instance in self._longest_rested_first():
            if taken > most and instance.rss_bytes:
                taken -= instance.rss_bytes
                _give_up(instance, "memory")
        # or what is kept ready would be started and given up again in turns
        self.short_of_memory = taken + max(sizes, default=0) > most

    def _longest_rested_first(self) -> list[Instance]:
        """The warm ones with nothing to do; those that are kept ready come last."""
        resting = [instance for instance in self._instances() if instance.state in _RESTING and instance.warm]
        return sorted(resting, key=lambda instance: (instance.kept_ready, instance.idle_since or 0.0))


def _give_up(instance: Instance, reason: str) -> None:
    """One that is kept ready has no conversation to keep: another one takes its place when there is room."""
    if instance.kept_ready:
        instance.dismiss(reason)
    else:
        instance.hibernate(reason)


def _beyond(value: float, limit: float | None) -> bool:
    return limit is not None and value > limit
