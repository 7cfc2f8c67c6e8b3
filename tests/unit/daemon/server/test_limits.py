"""How much is taken from anybody: rates, bodies, and readers who take nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from daemon_support import ListBus, ScriptEngine, running
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.daemon.server import Limits, Server
from claude_comms.daemon.server._limits import TokenBucket
from claude_comms.errors import ConfigError
from claude_comms.events import NewEvent
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

QUESTION = {"source": "marker", "target": "arangodb", "prompt": "How?"}


@given(
    rate=st.floats(0.5, 1000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 2) | st.floats(-3600, -1), max_size=200),
)
def test_a_bucket_never_gives_more_than_its_burst_and_rate(rate: float, burst: int, pauses: list[float]) -> None:
    now = 0.0
    passed = 0.0
    bucket = TokenBucket(rate, burst, lambda: now)
    taken = 0
    for pause in pauses:
        now += pause
        passed += max(0.0, pause)
        taken += bucket.take() == 0.0
        assert taken <= burst + rate * passed + 1e-6


@given(rate=st.floats(0.5, 1000), burst=st.integers(1, 50))
def test_who_waits_as_long_as_told_is_served(rate: float, burst: int) -> None:
    now = 0.0
    bucket = TokenBucket(rate, burst, lambda: now)
    for _ in range(burst):
        assert bucket.take() == 0.0
    wait_s = bucket.take()
    assert wait_s > 0
    now += wait_s * 1.000001
    assert bucket.take() == 0.0


@pytest.mark.anyio
async def test_bodies_of_all_requests_together_are_bounded_and_given_back(tmp_path: Path) -> None:
    limits = Limits(bodies_bytes=1500)
    async with running(tmp_path, limits=limits) as daemon, daemon.client() as client:
        large = await client.post("/v1/messages", json={**QUESTION, "prompt": "x" * 2000})
        some = [await client.post("/v1/messages", json={**QUESTION, "prompt": "x" * 1000}) for _ in range(5)]

    assert (large.status_code, large.json()["error"]["type"]) == (503, "PoolExhaustedError")
    assert [answer.status_code for answer in some] == [200] * 5


@pytest.mark.anyio
async def test_one_turn_id_is_one_question(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        first = await client.post("/v1/messages", json={**QUESTION, "turn_id": "t_1"})
        other = await client.post("/v1/messages", json={**QUESTION, "turn_id": "t_1", "prompt": "Why?"})
        again = await client.post("/v1/messages", json={**QUESTION, "turn_id": "t_1", "deadline_s": 3})

    assert (first.status_code, other.status_code, again.status_code) == (200, 422, 200)
    assert len(daemon.engine.asked) == 1


@pytest.mark.anyio
async def test_a_stream_that_has_nothing_to_say_shows_that_it_is_alive(tmp_path: Path) -> None:
    async with (
        running(tmp_path, limits=Limits(ping_s=0.01)) as daemon,
        daemon.client() as client,
        client.stream("GET", "/v1/events", headers={"Accept": "text/event-stream"}) as response,
    ):
        with anyio.fail_after(10):
            async for line in response.aiter_lines():
                if line == ": alive":
                    break


@pytest.mark.anyio
async def test_a_reader_of_a_stream_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    request = b"GET /v1/events HTTP/1.1\r\nHost: d\r\nAccept: text/event-stream\r\n\r\n"
    async with running(tmp_path, limits=Limits(send_wait_s=0.1)) as daemon:
        stream = await anyio.connect_unix(daemon.path)
        async with stream:
            await stream.send(request)
            await stream.receive()
            for _ in range(200):
                daemon.bus.post(NewEvent("message.stored", "c_1", "marker/arangodb", {"text": "x" * 100_000}))
            with anyio.fail_after(10):
                while daemon.server.service.connections():  # noqa: ASYNC110 - nothing else tells of it
                    await anyio.sleep(0.01)


@pytest.mark.anyio
async def test_what_else_is_served_stands_behind_the_same_doors(tmp_path: Path) -> None:
    async def extra(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"extra"})

    async with running(tmp_path, extra_apps={"/mcp": extra}) as daemon:
        async with await daemon.over_tcp(headers={}) as client:
            refused = await client.get("/mcp/x")
        async with await daemon.over_tcp() as client:
            served = [await client.get(path) for path in ("/mcp", "/mcp/x")]

    assert refused.status_code == 401
    assert [answer.text for answer in served] == ["extra", "extra"]


def test_an_empty_token_opens_nothing(tmp_path: Path) -> None:
    settings: Any = Settings.load({"home": tmp_path})
    engine = ScriptEngine(ListBus())
    with pytest.raises(ConfigError, match="token is empty"):
        Server(engine, settings, bus=engine.bus, token=" \n", version="0.1")
