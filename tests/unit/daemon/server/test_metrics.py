"""``/metrics``: what happened, counted by pair and backend, and what is there now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
import pytest
from daemon_support import INSTANCE, JOB, NOW, REPLY, ListBus, Running, ScriptEngine, running
from prometheus_client.parser import text_string_to_metric_families

from claude_comms.daemon.server._metrics import Metrics
from claude_comms.events import Event, Missed, Priority
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

QUESTION = {"source": "marker", "target": "arangodb", "prompt": "How?"}
PAIR = {"source": "marker", "target": "arangodb", "backend": "api"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def event(kind: str, seconds: float = 0.0, **data: object) -> Event:
    facts = {"turn_id": "t_1", **data}
    return Event(1, "e", kind, "c_1", "marker/arangodb", Priority.NORMAL, NOW + timedelta(seconds=seconds), facts)


async def told(metrics: Metrics, engine: ScriptEngine | None = None) -> Samples:
    return samples((await metrics.text(engine or ScriptEngine(ListBus()))).decode())


async def test_an_answer_is_counted_by_pair_and_backend() -> None:
    metrics = Metrics()
    for seen in (
        event("turn.started", backend="api"),
        event("turn.delta", 0.3, text="a"),
        event("turn.delta", 0.4, text="b"),
        event("turn.completed", 0.5, reply=REPLY.as_dict()),
    ):
        metrics.saw(seen)

    found = await told(metrics)

    assert value(found, "claude_comms_turns_total", outcome="completed") == 1
    assert value(found, "claude_comms_tokens_total", kind="input", **PAIR) == 10
    assert value(found, "claude_comms_tokens_total", kind="output", **PAIR) == 5
    assert value(found, "claude_comms_cost_usd_total", **PAIR) == 0.25
    assert value(found, "claude_comms_turn_seconds_sum", backend="api") == 0.0125
    assert value(found, "claude_comms_first_text_seconds_count", backend="api") == 1
    assert value(found, "claude_comms_first_text_seconds_sum", backend="api") == pytest.approx(0.3)
    assert value(found, "claude_comms_events_total", type="turn.delta") == 2


async def test_failures_restarts_and_missed_events_are_counted() -> None:
    metrics = Metrics()
    metrics.saw(event("turn.failed", error={"type": "StoreError", "message": "x"}))
    metrics.saw(event("turn.interrupted", error={"type": "TurnFailedError", "message": "x"}))
    metrics.saw(event("instance.restarted", **INSTANCE.as_dict()))
    metrics.missed(Missed(3, 7, "too slow"))

    found = await told(metrics)

    assert value(found, "claude_comms_turns_total", outcome="failed") == 1
    assert value(found, "claude_comms_turns_total", outcome="interrupted") == 1
    assert value(found, "claude_comms_restarts_total", backend="api") == 1
    assert value(found, "claude_comms_events_missed_total") == 5


async def test_what_is_there_is_looked_at_when_asked() -> None:
    engine = ScriptEngine(ListBus(), waiting=3)
    engine.instances.known["i_2"] = replace(INSTANCE, instance_id="i_2", state=InstanceState.BUSY, rss_bytes=1000)
    engine.jobs.known["j_2"] = replace(JOB, job_id="j_2")

    found = await told(Metrics(), engine)

    assert value(found, "claude_comms_instances", state="idle") == 1
    assert value(found, "claude_comms_instances", state="busy") == 1
    assert value(found, "claude_comms_queue_length") == 3
    assert value(found, "claude_comms_instances_resident_memory_bytes") == 1000
    assert value(found, "claude_comms_jobs", state="queued") == 2
    assert (value(found, "process_resident_memory_bytes") or 0) > 0


async def test_any_number_of_pairs_takes_bounded_memory() -> None:
    metrics = Metrics()
    for number in range(1_200):
        metrics.saw(event("turn.completed", reply={**REPLY.as_dict(), "source": f"s{number}"}))

    found = await told(metrics)

    pairs = [labels for name, labels in found if name == "claude_comms_cost_usd_total"]
    assert len(pairs) == 1_001
    assert value(found, "claude_comms_cost_usd_total", source="other", target="other", backend="api") == 50


async def test_the_route_tells_what_the_engine_did(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        await client.post("/v1/messages", json=QUESTION)
        await _counted(daemon, "turn.completed")
        answer = await client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    assert value(samples(answer.text), "claude_comms_turns_total", outcome="completed") == 1


async def _counted(daemon: Running, kind: str) -> None:
    """Wait until the metrics have seen the event."""
    with anyio.fail_after(10):
        while (
            f'claude_comms_events_total{{type="{kind}"}}'
            not in (await daemon.server.service.metrics.text(daemon.engine)).decode()
        ):
            await anyio.lowlevel.checkpoint()
