"""MCP servers that were granted: what of them can be used, what cannot, and what is left of them."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from claude_code_support import READING, Talk, descendants

from claude_comms import AsyncCommunicator
from claude_comms.background.backends.claude_code import ClaudeCodeBackend
from claude_comms.descriptors import Registry
from claude_comms.errors import BackendUnavailableError, PermissionDeniedError
from claude_comms.mcp_servers import McpServer
from claude_comms.settings import Settings
from claude_comms.testing import Answer, LoopbackAPI, ToolUse
from claude_comms.types import Refused, ToolUsed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from claude_comms.types import InstanceSpec

pytestmark = pytest.mark.anyio

SERVER = Path(__file__).with_name("tiny_mcp_server.py")
SECRET = "hunter2-of-the-server"


@dataclass
class Shop:
    """A backend for which the user has defined two servers, and what these write down."""

    backend: ClaudeCodeBackend
    spec: InstanceSpec
    records: Path

    async def talk(self, *grants: str) -> Talk:
        return Talk(await self.backend.open(replace(self.spec, grants=(*READING, *grants))))

    def calls(self, server: str) -> list[str]:
        lines = self._lines(server)
        return [line for line in lines if not line.startswith("pid ")]

    def pids(self, server: str) -> list[int]:
        return [int(line.split()[1]) for line in self._lines(server) if line.startswith("pid ")]

    def _lines(self, server: str) -> list[str]:
        path = self.records / server
        return path.read_text().splitlines() if path.exists() else []


def defined(record: Path) -> dict[str, object]:
    return {"command": sys.executable, "args": [str(SERVER), str(record)], "env": {"TINY_TOKEN": SECRET}}


@pytest.fixture
async def shop(api: LoopbackAPI, spec: InstanceSpec, tmp_path: Path) -> AsyncIterator[Shop]:
    before = descendants()
    servers = {name: McpServer.model_validate(defined(tmp_path / name)) for name in ("tiny", "other")}
    servers["broken"] = McpServer(command=sys.executable, args=("-c", "raise SystemExit('no configuration')"))
    backend = ClaudeCodeBackend(tmp_path / "home", variables=api.environment(), mcp_servers=servers)
    yield Shop(backend, spec, tmp_path)
    await backend.close()
    assert descendants() <= before
    assert holders(SECRET, tmp_path / "home") == []


def holders(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def command_lines() -> str:
    lines: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return b"\n".join(lines).decode("utf-8", "replace")


def offered(api: LoopbackAPI) -> set[str]:
    """The servers' tools that the model was shown last."""
    return {tool["name"] for tool in api.requests.messages[-1].body["tools"] if tool["name"].startswith("mcp__")}


@contextmanager
def address() -> Generator[tuple[str, list[str]], None, None]:
    """A server with the tools ``get`` and ``put`` over HTTP, and the Authorization of each request to it."""
    authorized: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            authorized.append(str(self.headers["Authorization"]))
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(answered(asked)).encode() if "id" in asked else b""
            self.send_response(200 if body else 202)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.send_error(405)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/mcp", authorized
        server.shutdown()
        thread.join()


def answered(asked: dict[str, Any]) -> dict[str, Any]:
    """The answer to a JSON-RPC request."""
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
    match asked["method"]:
        case "initialize":
            version = asked["params"]["protocolVersion"]
            info = {"name": "web", "version": "1"}
            return {**answer, "result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}}
        case "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("get", "put")]
            return {**answer, "result": {"tools": tools}}
        case "tools/call":
            return {**answer, "result": {"content": [{"type": "text", "text": f"called {asked['params']['name']}"}]}}
        case _:
            return {**answer, "error": {"code": -32601, "message": "no such method"}}


async def test_a_granted_tool_is_called_its_result_reaches_the_model_and_each_use_is_an_event(
    shop: Shop, api: LoopbackAPI
) -> None:
    talk = await shop.talk("mcp:tiny/count")
    long = "blocks" * 100
    api.answer(Answer(blocks=(ToolUse("mcp__tiny__count", {"table": long}),)))
    result = await talk.ask("how many?")
    assert shop.calls("tiny") == [f"count {long}"]
    assert f"{long} has 4711 rows" in json.dumps(api.requests.messages[-1].body["messages"])
    [used] = result.tools
    assert used.tool == "mcp__tiny__count"
    assert used.arguments.startswith('{"table": "blocksblocks')
    assert len(used.arguments) == 200
    assert [event for event in talk.events if isinstance(event, ToolUsed)] == [used]
    assert result.refusals == ()


async def test_another_tool_of_the_same_server_is_refused_and_on_record(shop: Shop, api: LoopbackAPI) -> None:
    talk = await shop.talk("mcp:tiny/count")
    api.answer(Answer(blocks=(ToolUse("mcp__tiny__wipe", {"table": "blocks"}),)))
    result = await talk.ask("wipe it")
    assert shop.calls("tiny") == []
    assert result.tools == ()
    [refused] = result.refusals
    assert (refused.tool, refused.reason) == ("mcp__tiny__wipe", "mcp__tiny__wipe is not granted")
    assert "blocks" in refused.target
    assert [event for event in talk.events if isinstance(event, Refused)] == [refused]
    assert "is not granted" in json.dumps(api.requests.messages[-1].body["messages"])


async def test_a_server_that_was_not_granted_is_not_started(shop: Shop, api: LoopbackAPI) -> None:
    talk = await shop.talk("mcp:tiny")
    api.answer(
        Answer(blocks=(ToolUse("mcp__tiny__wipe", {"table": "a"}), ToolUse("mcp__other__count", {"table": "b"})))
    )
    result = await talk.ask("both")
    assert offered(api) == {"mcp__tiny__count", "mcp__tiny__wipe", "mcp__tiny__variables"}
    assert [used.tool for used in result.tools] == ["mcp__tiny__wipe"]
    assert [refused.tool for refused in result.refusals] == ["mcp__other__count"]
    assert (shop.calls("tiny"), shop.pids("other")) == (["wipe a"], [])


async def test_without_such_a_grant_there_is_no_server_at_all(shop: Shop, api: LoopbackAPI) -> None:
    await (await shop.talk()).ask("hello")
    assert offered(api) == set()
    assert (shop.pids("tiny"), shop.pids("other")) == ([], [])


async def test_the_server_lives_and_dies_with_the_process_over_new_conversations(shop: Shop, api: LoopbackAPI) -> None:
    talk = await shop.talk("mcp:tiny")
    for number in range(2):
        api.answer(Answer(blocks=(ToolUse("mcp__tiny__count", {"table": str(number)}),)))
        await Talk(talk.session).ask("how many?")
    assert shop.calls("tiny") == ["count 0", "count 1"]
    [pid] = shop.pids("tiny")
    assert pid in descendants()
    await talk.session.close()
    assert pid not in descendants()


async def test_secrets_of_a_server_are_only_where_they_must_be(shop: Shop, api: LoopbackAPI, tmp_path: Path) -> None:
    talk = await shop.talk("mcp:tiny")
    api.answer(Answer(blocks=(ToolUse("mcp__tiny__variables", {}),)))
    await talk.ask("what do you know?")
    assert "tiny_mcp_server.py" in command_lines()
    assert SECRET not in command_lines()
    [file] = holders(SECRET, tmp_path / "home")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    sent = json.dumps([request.body for request in api.requests])
    assert "TINY_TOKEN" in sent, "the server has its variable"
    assert SECRET not in sent
    assert "ANTHROPIC_API_KEY" not in sent, "and not our key"


async def test_a_server_at_an_address_gets_its_headers_which_are_in_no_command_line(
    api: LoopbackAPI, spec: InstanceSpec, tmp_path: Path
) -> None:
    before = descendants()
    with address() as (url, authorized):
        server = McpServer.model_validate({"url": url, "headers": {"Authorization": SECRET}})
        backend = ClaudeCodeBackend(tmp_path / "home", variables=api.environment(), mcp_servers={"web": server})
        talk = Talk(await backend.open(replace(spec, grants=("mcp:web/get",))))
        api.answer(Answer(blocks=(ToolUse("mcp__web__get", {}), ToolUse("mcp__web__put", {}))))
        result = await talk.ask("get it")
        assert SECRET not in command_lines()
        await backend.close()
    assert set(authorized) == {SECRET}
    assert "called get" in json.dumps(api.requests.messages[-1].body["messages"])
    assert [used.tool for used in result.tools] == ["mcp__web__get"]
    assert [refused.tool for refused in result.refusals] == ["mcp__web__put"]
    assert descendants() <= before
    assert holders(SECRET, tmp_path / "home") == []


async def test_a_grant_of_a_server_that_nobody_defined_says_what_to_write_where(shop: Shop) -> None:
    with pytest.raises(PermissionDeniedError, match=r"config\.toml.*\[mcp_servers\.nowhere\]") as raised:
        await shop.talk("mcp:nowhere/count")
    assert raised.value.grant == "mcp:nowhere/count"


async def test_a_granted_server_that_does_not_start_ends_the_question_in_an_error(shop: Shop, api: LoopbackAPI) -> None:
    talk = await shop.talk("mcp:broken")
    with pytest.raises(BackendUnavailableError, match=r"'broken'.*\[mcp_servers\.broken\]"):
        await talk.ask("one")
    assert api.requests.messages == []


async def test_from_the_descriptor_and_the_settings_to_the_store(
    api: LoopbackAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before = descendants()
    home, module = tmp_path / "home", tmp_path / "keeper"
    module.mkdir()
    home.mkdir()
    file = tmp_path / "keeper.yaml"
    file.write_text("name: keeper\nsummary: Keeps rows.\npermissions:\n  tools: ['mcp:tiny/count']\n")
    definition = defined(tmp_path / "tiny")
    (home / "config.toml").write_text(
        f"[mcp_servers.tiny]\ncommand = {json.dumps(definition['command'])}\nargs = {json.dumps(definition['args'])}\n"
        f'env = {{ TINY_TOKEN = "{SECRET}" }}\n'
    )
    servers = {"tiny": McpServer.model_validate(definition).digest}
    registry = Registry(home, ())
    registry.register("keeper", path=module, descriptor_file=file, granted=("mcp:tiny/count",), servers=servers)
    settings = Settings.load(
        {"home": home, "anthropic_api_key": api.key, "anthropic_base_url": api.base_url, "daemon": "off"}
    )
    uses = (ToolUse("mcp__tiny__count", {"table": "rows"}), ToolUse("mcp__tiny__wipe", {"table": "rows"}))
    api.answer(Answer(blocks=uses))
    async with AsyncCommunicator("marker", settings=settings, backend="claude-code") as comm:
        reply = await comm.send_message("keeper", "How many?")
        conversation = await comm.get_conversation(reply.thread_id)
    answer = conversation.messages[-1]
    assert [(used.tool, used.arguments) for used in answer.tools] == [("mcp__tiny__count", '{"table": "rows"}')]
    assert [refused.tool for refused in answer.refusals] == ["mcp__tiny__wipe"]
    assert holders(SECRET, home) == [home / "config.toml"]
    assert descendants() <= before


@pytest.mark.parametrize("servers", [None, {}, {"tiny": "another"}, {"other": "x"}])
async def test_a_server_that_is_not_the_one_that_was_granted_is_refused_before_anything_is_stored(
    api: LoopbackAPI, tmp_path: Path, servers: dict[str, str] | None
) -> None:
    (tmp_path / "keeper").mkdir()
    file = tmp_path / "keeper.yaml"
    file.write_text("name: keeper\nsummary: Keeps rows.\npermissions:\n  tools: ['mcp:tiny']\n")
    registry = Registry(tmp_path / "home", ())
    registry.register("keeper", path=tmp_path / "keeper", descriptor_file=file, granted=("mcp:tiny",), servers=servers)
    settings = Settings.load(
        {
            "home": tmp_path / "home",
            "anthropic_api_key": api.key,
            "anthropic_base_url": api.base_url,
            "daemon": "off",
            "mcp_servers": {"tiny": defined(tmp_path / "tiny")},
        }
    )
    async with AsyncCommunicator("marker", settings=settings, backend="claude-code") as comm:
        with pytest.raises(PermissionDeniedError, match="not defined as it was") as raised:
            await comm.send_message("keeper", "How many?")
        assert await comm.list_conversations() == []
        [found] = [check for check in await comm.diagnose() if check.name == "grants"]
    assert (found.ok, "keeper was granted" in found.detail) == (False, True)
    assert found.hint.endswith(f"register-module keeper --path {tmp_path / 'keeper'} --desc {file}")
    assert raised.value.grant == "mcp:tiny"
    assert "claude-comms register-module keeper --path" in str(raised.value)
    assert not (tmp_path / "tiny").exists()
