"""The server over the real engine and the real event log."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from daemon_support import TOKEN, VERSION

from claude_comms.daemon.server import Server
from claude_comms.engine import LocalEngine
from claude_comms.events.log import EventLog
from claude_comms.settings import Settings
from claude_comms.testing.scripted import Answer, ScriptedBackend, Stall

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

QUESTION = {"source": "marker", "target": "arangodb", "prompt": "How?", "turn_id": "t_mine"}
STREAM = {"Accept": "text/event-stream"}


@asynccontextmanager
async def served(home: Path, backend: ScriptedBackend, **given: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of a daemon's server over everything real but the model."""
    settings = Settings.load({"home": home, "backend": backend.name, "drain_s": 5.0, **given})
    bus = EventLog(home / "events.db", retention_s=3600.0, retention_bytes=1 << 20)
    await bus.open()
    engine = LocalEngine(settings, backends={backend.name: backend}, bus=bus, hosting=True)
    await engine.open()
    server = Server(engine, settings, bus=bus, token=TOKEN, version=VERSION)
    with tempfile.TemporaryDirectory(prefix="cc-") as directory:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"{directory}/s")
        sock.listen(16)
        serving = asyncio.create_task(server.serve(sock))
        transport = httpx.AsyncHTTPTransport(uds=f"{directory}/s")
        try:
            with anyio.fail_after(20):
                await server.ready.wait()
                async with httpx.AsyncClient(transport=transport, base_url="http://daemon", timeout=20) as client:
                    yield client
        finally:
            server.request_stop(0)
            with anyio.fail_after(30, shield=True):
                await serving
                await bus.close()


async def told(response: httpx.Response, until: str = "") -> list[dict[str, Any]]:
    """The events of a stream; all, or up to the first of the type `until`."""
    found: list[dict[str, Any]] = []
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            found.append(json.loads(line.removeprefix("data: ")))
            if found[-1]["type"] == until:
                break
    return found


async def test_an_answer_streams_resumes_and_is_stored(claude_comms_home: Path) -> None:
    stall = Stall("one ", answer="two")
    async with served(claude_comms_home, ScriptedBackend(stall)) as client:
        async with client.stream("POST", "/v1/messages", json=QUESTION, headers=STREAM) as response:
            first = await told(response, until="turn.delta")
        stall.release.set()
        again = {"Last-Event-ID": str(first[-1]["seq"])}
        async with client.stream("GET", "/v1/turns/t_mine/events", headers=again) as response:
            rest = await told(response)
        reply = (await client.post("/v1/messages", json=QUESTION)).json()
        thread = (await client.get(f"/v1/conversations/{reply['thread_id']}")).json()
        usage = (await client.get("/v1/usage?by=pair")).json()
        health = (await client.get("/health")).json()

    events = first + rest
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})
    assert "".join(event["data"]["text"] for event in events if event["type"] == "turn.delta") == "one two"
    assert events[-1]["data"]["reply"] == reply
    assert [message["text"] for message in thread["messages"]] == ["How?", "one two"]
    assert usage[0]["turns"] == 1
    assert health["instances"][0]["last_alive_at"] is not None


async def test_health_has_idle_instances_prove_that_they_live(claude_comms_home: Path) -> None:
    backend = ScriptedBackend("yes", processes=True)
    async with served(claude_comms_home, backend) as client:
        started = (await client.post("/v1/instances", json={"source": "marker", "target": "arangodb"})).json()
        healthy = (await client.get("/health")).json()
        await client.post("/v1/messages", json=QUESTION)
        (session,) = backend.sessions
        session.frozen, session.last_alive = True, None
        frozen = (await client.get("/health")).json()
    assert healthy["instances"][0]["last_alive_at"] > started["last_alive_at"]
    assert frozen["instances"][0]["state"] == "hibernated"


async def test_a_question_for_a_pair_whose_queue_is_full_is_told_when_to_come_back(claude_comms_home: Path) -> None:
    stall = Stall("one ", answer="two")
    backend = ScriptedBackend([stall, "yes"])
    answers: list[httpx.Response] = []
    async with served(claude_comms_home, backend, max_instances=1, max_waiting_per_pair=1) as client:

        async def ask(turn_id: str) -> None:
            answers.append(await client.post("/v1/messages", json={**QUESTION, "turn_id": turn_id}))

        async with anyio.create_task_group() as asking:
            for turn_id in ("t_1", "t_2", "t_3"):
                asking.start_soon(ask, turn_id)
            while not answers:
                await anyio.lowlevel.checkpoint()
            stall.release.set()

    assert [answer.status_code for answer in answers] == [503, 200, 200]
    assert answers[0].json()["error"]["type"] == "PoolExhaustedError"
    assert int(answers[0].headers["retry-after"]) >= 1


async def test_a_new_daemon_tells_the_turns_of_the_old_one_and_asks_nothing(claude_comms_home: Path) -> None:
    async with served(claude_comms_home, ScriptedBackend("yes")) as client:
        first = (await client.post("/v1/messages", json=QUESTION)).json()
    second = ScriptedBackend("never")
    async with served(claude_comms_home, second) as client:
        again = (await client.post("/v1/messages", json=QUESTION)).json()
        unknown = await client.get("/v1/turns/t_other/events")

    assert again == first
    assert second.requests == []
    assert unknown.status_code == 404


async def test_jobs_instances_and_events_work_over_the_wire(claude_comms_home: Path) -> None:
    pair = {"source": "marker", "target": "arangodb"}
    async with served(claude_comms_home, ScriptedBackend(Answer("yes"))) as client:
        job = (await client.post("/v1/jobs", json={"question": {**pair, "prompt": "How?"}})).json()
        done = (await client.get(f"/v1/jobs/{job['job_id']}/wait?timeout_s=10")).json()
        started = (await client.post("/v1/instances", json={**pair, "name": "one"})).json()
        stopped = (await client.post("/v1/instances/one/stop")).json()
        # Events are told once they are on disk, which may be after the answer.
        async with client.stream("GET", "/v1/events?after=0", headers=STREAM) as response:
            kinds = {event["type"] for event in await told(response, until="instance.stopped")}
        metrics = (await client.get("/metrics")).text

    assert (done["state"], done["reply"]["response"]) == ("done", "yes")
    assert (started["state"], stopped["state"]) == ("idle", "stopped")
    assert {"daemon.started", "job.queued", "job.done", "turn.completed", "instance.stopped"} <= kinds
    assert 'claude_comms_turns_total{outcome="completed"}' in metrics


async def test_what_the_engine_refuses_is_a_problem_document(claude_comms_home: Path) -> None:
    async with served(claude_comms_home, ScriptedBackend("yes")) as client:
        unknown = await client.post("/v1/messages", json={**QUESTION, "target": "nobody"})
        nowhere = await client.post("/v1/messages", json={**QUESTION, "turn_id": "t_2", "thread_id": "c_no"})
        schema = await client.post("/v1/messages", json={**QUESTION, "turn_id": "t_3", "schema": {"type": "colour"}})

    assert [answer.status_code for answer in (unknown, nowhere, schema)] == [404, 404, 422]
    assert [answer.json()["error"]["type"] for answer in (unknown, nowhere)] == [
        "UnknownModuleError",
        "ConversationNotFoundError",
    ]
