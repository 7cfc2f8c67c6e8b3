"""A daemon that stops takes nothing new, lets what runs finish, and tells everybody."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest
from daemon_support import JOB, Script, running

from claude_comms.jobs import JobState

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.anyio

QUESTION = {"source": "marker", "target": "arangodb", "prompt": "How?"}
NEW = {
    "/v1/messages": QUESTION,
    "/v1/instances": {"source": "marker", "target": "arangodb"},
    "/v1/jobs": {"question": QUESTION},
}


async def test_running_turns_finish_and_new_questions_are_refused(tmp_path: Path) -> None:
    gate = anyio.Event()
    answers: list[httpx.Response] = []
    async with running(tmp_path, Script(gate=gate)) as daemon, daemon.client() as client:

        async def ask() -> None:
            answers.append(await client.post("/v1/messages", json={**QUESTION, "turn_id": "t_mine"}))

        async with anyio.create_task_group() as asking:
            asking.start_soon(ask)
            await daemon.bus.more_than(2)
            await client.post("/v1/daemon/stop")
            for path, body in NEW.items():
                refused = await client.post(path, json=body)
                assert (path, refused.status_code, refused.json()["error"]["type"]) == (path, 503, "DaemonError")
                assert int(refused.headers["retry-after"]) > 0
            assert (await client.get("/health")).json()["status"] == "draining"
            assert not daemon.engine.closed
            gate.set()
        await daemon.task

    assert [answer.json()["response"] for answer in answers] == ["Yes, it can."]
    assert daemon.engine.closed


async def test_what_does_not_finish_in_time_is_interrupted_and_told(tmp_path: Path) -> None:
    answers: list[httpx.Response] = []
    async with running(tmp_path, Script(gate=anyio.Event())) as daemon, daemon.client() as client:

        async def ask() -> None:
            answers.append(await client.post("/v1/messages", json=QUESTION))

        async with anyio.create_task_group() as asking:
            asking.start_soon(ask)
            await daemon.bus.more_than(2)
            await client.post("/v1/daemon/stop", json={"drain_s": 0})
            with anyio.fail_after(10):
                await daemon.task

    assert answers[0].json()["error"]["reason"] == "interrupted"


async def test_a_second_stop_may_shorten_the_wait_of_the_first(tmp_path: Path) -> None:
    async with (
        running(tmp_path, Script(gate=anyio.Event()), drain_s=3600.0) as daemon,
        daemon.client() as client,
        anyio.create_task_group() as asking,
    ):
        asking.start_soon(lambda: client.post("/v1/messages", json=QUESTION))
        await daemon.bus.more_than(2)
        await client.post("/v1/daemon/stop")
        await daemon.bus.more_than(3)
        # As a signal's handler would, outside of any task.
        asyncio.get_running_loop().call_soon(daemon.server.request_stop, 0)
        with anyio.fail_after(10):
            await daemon.task

    assert daemon.engine.closed


async def test_the_log_of_events_tells_beginning_and_end(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        daemon.server.request_stop()
        await daemon.task

    kinds = [event.type for event in daemon.bus.events]
    assert kinds == ["daemon.started", "daemon.draining", "daemon.stopped"]
    assert {(event.subject, event.namespace) for event in daemon.bus.events} == {("daemon", "daemon")}


async def test_running_jobs_may_finish(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        daemon.engine.jobs.known = {"j_1": replace(JOB, state=JobState.RUNNING)}
        daemon.server.request_stop()
        await daemon.bus.more_than(1)
        assert not daemon.engine.closed
        daemon.engine.jobs.ended.set()
        with anyio.fail_after(4):
            await daemon.task

    assert daemon.engine.closed


async def test_a_stream_of_a_turn_gets_its_end_before_the_doors_close(tmp_path: Path) -> None:
    lines: list[str] = []
    async with (
        running(tmp_path, Script(gate=anyio.Event())) as daemon,
        daemon.client() as client,
        client.stream("POST", "/v1/messages", json=QUESTION, headers={"Accept": "text/event-stream"}) as response,
    ):
        async for line in response.aiter_lines():
            if line == "event: turn.started":
                daemon.server.request_stop(0)
            lines.append(line)

    assert [line for line in lines if line.startswith("event: ")][-1] == "event: turn.interrupted"


async def test_a_daemon_that_is_cancelled_still_closes_its_engine(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        daemon.task.cancel()
        await asyncio.wait({daemon.task})

    assert daemon.task.cancelled()
    assert daemon.engine.closed
    assert [event.type for event in daemon.bus.events][-1] == "daemon.stopped"
