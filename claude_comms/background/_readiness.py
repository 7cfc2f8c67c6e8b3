"""Instances that are started ahead of questions, so that a first question finds one warm."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

from claude_comms.errors import ClaudeCommsError
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from claude_comms.background.instance import Instance
    from claude_comms.types import InstanceLimits, InstanceSpec, TurnRequest

__all__ = ["Readiness"]

_LOG = logging.getLogger(__name__)
_TRY_AGAIN_S = 30.0


@dataclass(slots=True)
class _Kept:
    """How many of a spec are wanted, and how they are warmed."""

    count: int
    make_request: Callable[[], Awaitable[TurnRequest]] | None
    limits: InstanceLimits | None
    not_before: float = 0.0
    failure: str | None = None
    """Why the last one could not be started."""


class StartReady(Protocol):
    """Starts one, if there is room that nobody needs more; else None."""

    async def __call__(
        self, spec: InstanceSpec, warm: TurnRequest | None, limits: InstanceLimits | None
    ) -> Instance | None: ...


class Readiness:
    """Keeps the wanted number of each spec ready: idle, warm, and without a conversation."""

    def __init__(
        self,
        instances: Callable[[], Collection[Instance]],
        start: StartReady,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._instances = instances
        self._start = start
        self._clock = clock
        self._kept: dict[InstanceSpec, _Kept] = {}
        self._filling = anyio.Lock()

    def keep(
        self,
        spec: InstanceSpec,
        count: int,
        make_request: Callable[[], Awaitable[TurnRequest]] | None,
        limits: InstanceLimits | None,
    ) -> None:
        """From the next `fill` on; 0 ends it, and what is ready stays like any other instance."""
        if count > 0:
            self._kept[spec] = _Kept(count, make_request, limits)
            return
        self._kept.pop(spec, None)
        for instance in self._instances():
            if instance.spec == spec:
                instance.kept_ready = False

    def wanted(self, spec: InstanceSpec) -> bool:
        """Whether some of this spec are kept ready."""
        return spec in self._kept

    @property
    def failing(self) -> dict[InstanceSpec, str]:
        """Those of which the last one could not be started, and why."""
        return {spec: kept.failure for spec, kept in self._kept.items() if kept.failure is not None}

    async def fill(self) -> None:
        """Start those that are missing. What cannot be started is logged, and tried again half a minute later."""
        async with self._filling, anyio.create_task_group() as starting:
            for spec, kept in tuple(self._kept.items()):
                self._clear_away(spec)
                if self._clock() >= kept.not_before:
                    for _ in range(kept.count - self._ready(spec)):
                        starting.start_soon(self._start_one, spec, kept)

    def _clear_away(self, spec: InstanceSpec) -> None:
        """One that lost its session before its first question is of no use."""
        for instance in self._instances():
            if instance.spec == spec and instance.kept_ready and instance.state is InstanceState.HIBERNATED:
                instance.dismiss("it lost its session before its first question")

    def _ready(self, spec: InstanceSpec) -> int:
        return sum(
            instance.warm and instance.state is InstanceState.IDLE and instance.thread_id is None
            for instance in self._instances()
            if instance.spec == spec
        )

    async def _start_one(self, spec: InstanceSpec, kept: _Kept) -> None:
        try:
            request = await kept.make_request() if kept.make_request is not None else None
            await self._start(spec, request, kept.limits)
            kept.failure = None
        except ClaudeCommsError as error:
            kept.failure = str(error)
            kept.not_before = self._clock() + _TRY_AGAIN_S
            _LOG.warning("no instance of %s on %s is kept ready: %s", spec.pair, spec.backend, error)
