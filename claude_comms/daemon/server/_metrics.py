"""``/metrics``: what the events say, added up, and what the pool holds, looked at when somebody asks."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import anyio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from claude_comms.errors import ClaudeCommsError
from claude_comms.jobs import JobState
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from datetime import datetime

    from claude_comms.events import Event, Missed
    from claude_comms.protocols import HostedEngine

__all__ = ["Metrics"]

_MOST_PAIRS = 1_000
"""Sources can be named freely; beyond so many pairs the rest is counted together."""

_MOST_WAITING = 10_000
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_PAIR = ("source", "target", "backend")
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_LOOK_WAIT_S = 5.0


class Metrics:
    """Counters of their own registry, so that several daemons in one process do not share them."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._turns = Counter("claude_comms_turns", "Turns that have ended.", ("outcome",), registry=registry)
        self._durations = Histogram(
            "claude_comms_turn_seconds", "How long answers took.", ("backend",), buckets=_SECONDS, registry=registry
        )
        self._first = Histogram(
            "claude_comms_first_text_seconds",
            "From a turn's start to its first text.",
            ("backend",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter("claude_comms_tokens", "Tokens of answers.", (*_PAIR, "kind"), registry=registry)
        self._cost = Counter("claude_comms_cost_usd", "Cost of answers, where known.", _PAIR, registry=registry)
        self._restarts = Counter("claude_comms_restarts", "Processes replaced.", ("backend",), registry=registry)
        self._events = Counter("claude_comms_events", "Events.", ("type",), registry=registry)
        self._missed = Counter("claude_comms_events_missed", "Events not counted here.", registry=registry)
        self._instances = Gauge("claude_comms_instances", "Living instances.", ("state",), registry=registry)
        self._waiting = Gauge("claude_comms_queue_length", "Questions waiting for an instance.", registry=registry)
        self._jobs = Gauge("claude_comms_jobs", "Background questions.", ("state",), registry=registry)
        self._memory = Gauge(
            "claude_comms_instances_resident_memory_bytes", "Of all instances' processes.", registry=registry
        )
        self._of_type: dict[str, Counter] = {}
        self._pairs: set[tuple[str, ...]] = set()
        self._started: OrderedDict[str, tuple[datetime, str]] = OrderedDict()

    # --- what happens --------------------------------------------------------------------------

    def saw(self, event: Event) -> None:
        """Count an event."""
        counter = self._of_type.get(event.type)
        if counter is None:  # to look it up by its labels takes longer than to count
            counter = self._of_type[event.type] = self._events.labels(event.type)
        counter.inc()
        match event.type:
            case "turn.started":
                self._began(event)
            case "turn.delta":
                self._spoke(event)
            case "turn.completed":
                self._ended(event, "completed")
                self._answered(cast("dict[str, Any]", event.data.get("reply") or {}))
            case "turn.failed" | "turn.interrupted":
                self._ended(event, event.type.removeprefix("turn."))
            case "instance.restarted":
                self._restarts.labels(str(event.data.get("backend"))).inc()
            case _:
                pass

    def missed(self, missed: Missed) -> None:
        """Some events were not seen."""
        self._missed.inc(max(0, missed.last - missed.first + 1))

    def _began(self, event: Event) -> None:
        self._started[str(event.data.get("turn_id"))] = (event.time, str(event.data.get("backend")))
        if len(self._started) > _MOST_WAITING:
            self._started.popitem(last=False)

    def _spoke(self, event: Event) -> None:
        began = self._started.pop(str(event.data.get("turn_id")), None)
        if began is not None:
            self._first.labels(began[1]).observe(max(0.0, (event.time - began[0]).total_seconds()))

    def _ended(self, event: Event, outcome: str) -> None:
        self._started.pop(str(event.data.get("turn_id")), None)
        self._turns.labels(outcome).inc()

    def _answered(self, reply: dict[str, Any]) -> None:
        pair = tuple(str(reply.get(name)) for name in _PAIR)
        if pair not in self._pairs and len(self._pairs) >= _MOST_PAIRS:
            pair = ("other", "other", pair[2])
        self._pairs.add(pair)
        self._durations.labels(pair[2]).observe(float(reply.get("duration_ms") or 0.0) / 1000)
        usage: dict[str, Any] = reply.get("usage") or {}
        for kind in _TOKENS:
            self._tokens.labels(*pair, kind.removesuffix("_tokens")).inc(usage.get(kind) or 0)
        self._cost.labels(*pair).inc(usage.get("cost_usd") or 0.0)

    # --- what is there -------------------------------------------------------------------------

    async def text(self, engine: HostedEngine) -> bytes:
        """All of it, in Prometheus's text format."""
        with anyio.move_on_after(_LOOK_WAIT_S), suppress(ClaudeCommsError):
            await self._look(engine)
        return generate_latest(self._registry)

    async def _look(self, engine: HostedEngine) -> None:
        infos = await engine.instances.list()
        for state in InstanceState:
            self._instances.labels(str(state)).set(sum(info.state is state for info in infos))
        self._memory.set(sum(info.rss_bytes or 0 for info in infos))
        load = await engine.load()
        self._waiting.set(load.questions_waiting)
        self._jobs.labels(str(JobState.QUEUED)).set(load.jobs_queued)
        self._jobs.labels(str(JobState.RUNNING)).set(load.jobs_running)
