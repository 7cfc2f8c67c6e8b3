"""The MCP server at the daemon's /mcp, behind the daemon's doors, and on stdio: a real client of each revision."""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from claude_comms.testing import Fault, LoopbackAPI

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from tests.process.conftest import Cli

pytestmark = pytest.mark.anyio

MODES = ["legacy", "2026-07-28"]
_WITHIN_S = 60.0


@asynccontextmanager
async def over_http(url: str, headers: dict[str, str], mode: str) -> AsyncGenerator[Client]:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=_WITHIN_S, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


async def values(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    with anyio.fail_after(_WITHIN_S):
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


@pytest.fixture
def served(background: Cli) -> tuple[str, dict[str, str]]:
    """The address of a daemon's MCP server, and the headers that let a client in."""
    status = background.json("daemon", "start", "--listen", "127.0.0.1:0")
    token = Path(status["token_file"]).read_text(encoding="utf-8").strip()
    return f"http://{status['listen']}/mcp", {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_over_http_asks_and_goes_on_by_the_thread_alone(
    served: tuple[str, dict[str, str]], mode: str
) -> None:
    url, headers = served
    async with over_http(url, headers, mode) as client:
        first = await values(client, "query_module", target="arangodb", prompt="page blocks")
    async with over_http(url, headers, mode) as client:
        again = await values(client, "continue_conversation", thread_id=first["thread_id"], prompt="and indexes")
        task = await values(client, "start_task", target="arangodb", prompt="graph")
        done = await values(client, "task_result", task_id=task["task_id"], wait_s=30)
    assert (first["source"], first["backend"]) == ("anonymous", "offline")
    assert again["thread_id"] == first["thread_id"]
    assert done["state"] == "done"
    assert done["answer"]["response"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_over_http_may_say_where_it_works(
    background: Cli, served: tuple[str, dict[str, str]], mode: str
) -> None:
    url, headers = served
    assert background.run("register-module", "shop", "--path", background.directory).returncode == 0
    async with over_http(url, {**headers, "Claude-Comms-Directory": str(background.directory)}, mode) as client:
        assert (await values(client, "list_modules"))["asking_as"] == "shop"


@pytest.fixture
def in_a_turn(background: Cli, tmp_path: Path) -> None:
    """The daemon is started by an instance's tool."""
    turn = {"turn_id": "t_1", "chain": ["marker", "arangodb"], "max_cost_usd": None, "deadline": None}
    (tmp_path / "turn.json").write_text(json.dumps(turn))
    background.environment["CLAUDE_COMMS_TURN"] = str(tmp_path / "turn.json")


@pytest.mark.usefixtures("in_a_turn")
@pytest.mark.parametrize("told", ["shop", "", "/with\\0zero"])
async def test_over_http_it_is_neither_the_daemons_directory_nor_its_turn_that_counts(
    background: Cli, served: tuple[str, dict[str, str]], told: str
) -> None:
    """A daemon may have been started by an instance's tool, in a module's path."""
    url, headers = served
    assert background.run("register-module", "shop", "--path", background.directory).returncode == 0
    async with over_http(url, {**headers, "Claude-Comms-Directory": told}, "legacy") as client:
        assert (await values(client, "list_modules"))["asking_as"] == "anonymous"


async def waiting(client: Client, task_id: str) -> list[str]:
    """What is told while a task is waited for."""
    said: list[str] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        del progress, total
        said.append(message or "")

    await client.call_tool("task_result", {"task_id": task_id, "wait_s": 0.2}, progress_callback=tell)
    return said


@pytest.mark.parametrize("mode", MODES)
async def test_a_task_that_takes_long_is_looked_at_waited_for_and_cancelled(
    slow: LoopbackAPI, served: tuple[str, dict[str, str]], mode: str
) -> None:
    url, headers = served
    async with over_http(url, headers, mode) as client:
        task_id = (await values(client, "start_task", target="arangodb", prompt="How?"))["task_id"]
        await anyio.to_thread.run_sync(slow.wait_for_requests, 1, _WITHIN_S)
        active = await values(client, "activity")
        waited = await values(client, "task_result", task_id=task_id, wait_s=0.2)
        told = await waiting(client, task_id)
        ended = await values(client, "cancel_task", task_id=task_id)
        status = await values(client, "task_status", task_id=task_id)
        result = await client.call_tool("task_result", {"task_id": task_id})
    assert [task["task_id"] for task in active["tasks"]] == [task_id]
    assert [item["target"] for item in active["instances"]] == ["arangodb"], "it works"
    assert (waited["state"], waited["answer"]) == ("running", None)
    assert told[0] == "the task is running: 0 characters after 0 s"
    assert (ended["state"], status["state"]) == ("cancelled", "cancelled")
    assert result.is_error
    assert "Next: " in getattr(result.content[0], "text", "")


async def test_a_directory_may_have_any_letters(background: Cli, served: tuple[str, dict[str, str]]) -> None:
    url, headers = served
    (background.directory / "lädchen").mkdir()
    assert background.run("register-module", "shop", "--path", background.directory / "lädchen").returncode == 0
    call: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "list_modules", "arguments": {}},
    }
    sent = {
        **{name.encode(): value.encode() for name, value in headers.items()},
        b"Accept": b"application/json, text/event-stream",
        b"Claude-Comms-Directory": str(background.directory / "lädchen").encode(),
    }
    async with httpx.AsyncClient(trust_env=False, timeout=_WITHIN_S) as http:
        answer = await http.post(url, json=call, headers=sent)
    assert '"asking_as":"shop"' in answer.text.replace(": ", ":")


@pytest.fixture
def slow(background: Cli) -> Iterator[LoopbackAPI]:
    """A model that does not answer its first two questions while the test runs."""
    with LoopbackAPI("At last.") as api:
        for _ in range(2):
            api.fail(Fault.stall(after=0, seconds=300))
        background.environment |= {**api.environment(), "CLAUDE_COMMS_BACKEND": "api"}
        yield api


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_that_cancels_its_call_ends_that_turn_and_no_other(
    background: Cli, slow: LoopbackAPI, served: tuple[str, dict[str, str]], mode: str
) -> None:
    """Two clients, which give their calls the same numbers. One of them cancels."""
    url, headers = served
    threads: dict[str, str] = {}
    begun = {"one": anyio.Event(), "other": anyio.Event()}
    again, left, stays = dict[str, Any](), dict[str, Any](), dict[str, Any]()

    async def ask(client: Client, who: str) -> None:
        async def tell(progress: float, total: float | None, message: str | None) -> None:
            del progress, total
            threads.setdefault(who, (message or "").rpartition(" ")[2])
            begun[who].set()

        asked = {"target": "arangodb", "prompt": who}
        await client.call_tool("query_module", asked, progress_callback=tell)

    async with (
        over_http(url, headers, mode) as one,
        over_http(url, headers, mode) as other,
        anyio.create_task_group() as staying,
    ):
        staying.start_soon(ask, other, "other")
        await anyio.to_thread.run_sync(slow.wait_for_requests, 1, _WITHIN_S)
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(ask, one, "one")
            await anyio.to_thread.run_sync(slow.wait_for_requests, 2, _WITHIN_S)
            for each in begun.values():
                await each.wait()
            leaving.cancel_scope.cancel()
        again |= await values(one, "continue_conversation", thread_id=threads["one"], prompt="Go on.")
        left |= await anyio.to_thread.run_sync(background.json, "show-conversation", threads["one"])
        stays |= await anyio.to_thread.run_sync(background.json, "show-conversation", threads["other"])
        staying.cancel_scope.cancel()
    assert again["response"] == "At last."
    assert left["messages"][0]["error"]["reason"] == "interrupted"
    assert stays["messages"][0]["state"] == "pending"
    assert len(stays["messages"]) == 1


async def test_the_daemons_doors_stand_before_it_and_no_session_is_kept(served: tuple[str, dict[str, str]]) -> None:
    url, headers = served
    hello: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"Accept": "application/json, text/event-stream"}
    async with httpx.AsyncClient(trust_env=False, timeout=_WITHIN_S) as http:
        refused = await http.post(url, json=hello, headers=accept)
        foreign = await http.post(url, json=hello, headers={**headers, **accept, "Origin": "http://evil.example"})
        rebound = await http.post(url, json=hello, headers={**headers, **accept, "Host": "evil.example"})
        served_one = await http.post(url, json=hello, headers={**headers, **accept})
        stream = await http.get(url, headers={**headers, "Accept": "text/event-stream"})
        ended = await http.delete(url, headers=headers)
    assert [answer.status_code for answer in (refused, foreign, rebound)] == [401, 403, 403]
    assert served_one.status_code == 200
    assert "mcp-session-id" not in served_one.headers
    assert [(answer.status_code, answer.headers["allow"]) for answer in (stream, ended)] == [(405, "POST")] * 2


async def test_a_daemon_with_mcp_clients_still_stops_at_once(
    background: Cli, served: tuple[str, dict[str, str]]
) -> None:
    url, headers = served
    async with over_http(url, headers, "legacy") as client:
        await values(client, "list_modules")
        with anyio.fail_after(_WITHIN_S):
            done = await anyio.to_thread.run_sync(lambda: background.run("daemon", "stop", "--drain", "0"))
    assert done.returncode == 0


@pytest.mark.parametrize("mode", MODES)
async def test_on_stdio_it_starts_the_daemon_when_a_question_needs_it(background: Cli, mode: str) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "claude_comms", "mcp"],
        env=background.environment,
        cwd=str(background.directory),
    )
    async with Client(server, mode=mode) as client:
        await values(client, "list_modules")
        await client.list_resources()
        before = await anyio.to_thread.run_sync(lambda: background.json("daemon", "status", code=1))
        asked = await values(client, "query_module", target="arangodb", prompt="page blocks")
    after = await anyio.to_thread.run_sync(lambda: background.json("daemon", "status"))
    shown = await anyio.to_thread.run_sync(lambda: background.json("show-conversation", asked["thread_id"]))
    assert (before["running"], after["running"]) == (False, True)
    assert shown["target"] == "arangodb"


async def test_without_a_daemon_it_answers_in_its_own_process_when_told_so(cli: Cli) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "claude_comms", "mcp"],
        env=cli.environment,
        cwd=str(cli.directory),
    )
    async with Client(server) as client:
        asked = await values(client, "query_module", target="arangodb", prompt="page blocks")
        refused = await client.call_tool("start_task", {"target": "arangodb", "prompt": "x"})
    assert asked["backend"] == "offline"
    assert refused.is_error
