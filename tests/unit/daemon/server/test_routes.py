"""Every route answers with what the engine says, or with a problem document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from daemon_support import CONVERSATION, INSTANCE, JOB, REPLY, TOKEN, VERSION, running

from claude_comms.daemon.wire import SETTINGS_HEADER, VERSION_HEADER, settings_digest
from claude_comms.errors import StoreError
from claude_comms.events import NewEvent
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

QUESTION = {"source": "marker", "target": "arangodb", "prompt": "How?"}
PAIR = {"source": "marker", "target": "arangodb"}


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/v1/conversations?state=all&limit=3", None, [CONVERSATION.as_dict()]),
        ("POST", "/v1/conversations", {**PAIR, "title": "x"}, {**CONVERSATION.as_dict(), "title": "x"}),
        ("GET", "/v1/conversations/c_1", None, CONVERSATION.as_dict()),
        ("POST", "/v1/conversations/c_1/archive", None, {**CONVERSATION.as_dict(), "state": "archived"}),
        ("POST", "/v1/conversations/c_1/restore", None, CONVERSATION.as_dict()),
        ("GET", "/v1/conversations/search?text=x", None, []),
        ("GET", "/v1/conversations/c_1/export", None, CONVERSATION.as_dict()),
        ("GET", "/v1/instances", None, [INSTANCE.as_dict()]),
        ("GET", "/v1/instances/i_1", None, INSTANCE.as_dict()),
        ("POST", "/v1/instances/i_1/pause", None, {**INSTANCE.as_dict(), "state": "paused"}),
        ("POST", "/v1/instances/i_1/resume", None, INSTANCE.as_dict()),
        ("POST", "/v1/instances/i_1/interrupt", None, INSTANCE.as_dict()),
        ("POST", "/v1/instances/i_1/hibernate", None, {**INSTANCE.as_dict(), "state": "hibernated"}),
        ("POST", "/v1/instances/i_1/stop", None, {**INSTANCE.as_dict(), "state": "stopped"}),
        ("GET", "/v1/jobs", None, [JOB.as_dict()]),
        ("GET", "/v1/jobs?state=done", None, []),
        ("GET", "/v1/jobs/j_1", None, JOB.as_dict()),
        ("POST", "/v1/jobs/j_1/cancel", None, {**JOB.as_dict(), "state": "cancelled"}),
        (
            "GET",
            "/v1/usage?by=day&since=2026-01-01T00:00:00Z",
            None,
            [{"group": "marker/arangodb", "turns": 1, "usage": REPLY.usage.as_dict()}],
        ),
    ],
)
async def test_a_route_answers(tmp_path: Path, method: str, path: str, body: Any, expected: Any) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        answer = await client.request(method, path, json=body)

    assert answer.status_code == 200
    assert answer.json() == expected


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "name"),
    [
        ("GET", "/v1/conversations/c_no", None, 404, "ConversationNotFoundError"),
        ("GET", "/v1/conversations/c_1/export?format=pdf", None, 422, "ConfigError"),
        ("GET", "/v1/instances/i_no", None, 404, "InstanceNotFoundError"),
        ("GET", "/v1/jobs/j_no", None, 404, "JobNotFoundError"),
        ("GET", "/v1/jobs/j_1/wait?timeout_s=0.001", None, 504, "DeadlineExceededError"),
        ("GET", "/v1/modules/nobody", None, 404, "UnknownModuleError"),
        ("POST", "/v1/instances", {"source": "nobody", "target": "marker"}, 404, "UnknownModuleError"),
        ("POST", "/v1/jobs", {"question": {**QUESTION, "source": "nobody"}}, 404, "UnknownModuleError"),
        ("POST", "/v1/messages", {"source": "marker"}, 422, "ConfigError"),
        ("POST", "/v1/messages", {**QUESTION, "deadline_s": -1}, 422, "ConfigError"),
        ("GET", "/v1/usage?since=2026-01-01", None, 422, "ConfigError"),
        ("GET", "/v1/nothing", None, 404, "DaemonError"),
        ("DELETE", "/v1/messages", None, 405, "DaemonError"),
    ],
)
async def test_what_cannot_be_is_a_problem_document(
    tmp_path: Path, method: str, path: str, body: Any, status: int, name: str
) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        answer = await client.request(method, path, json=body)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert (problem["status"], problem["error"]["type"]) == (status, name)
    assert problem["detail"] == problem["error"]["message"]


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'{"source": "\xff"}', b"NaN", b"9" * 5000])
async def test_a_body_that_is_no_json_is_a_problem_document(tmp_path: Path, body: bytes) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        answer = await client.post("/v1/messages", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_mistake_is_named_without_repeating_what_was_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        answer = await client.post("/v1/messages", json={**QUESTION, "prompt": ["the secret"]})

    assert "body.prompt" in answer.json()["detail"]
    assert "the secret" not in answer.text


async def test_what_nobody_expected_is_a_500_with_a_number_for_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        daemon.engine.fault = ZeroDivisionError("the secret")
        answer = await client.get("/v1/conversations/c_1")
        again = await client.get("/health")

    problem = answer.json()
    assert (answer.status_code, problem["error"]["type"]) == (500, "InternalError")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    found = [record for record in caplog.records if getattr(record, "log_id", None) == problem["error"]["log_id"]]
    assert len(found) == 1
    assert again.status_code == 200


async def test_a_store_that_fails_says_to_come_back(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        daemon.engine.fault = StoreError("the store is locked. Try again.")
        answer = await client.get("/v1/conversations/c_1")

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_modules_come_with_their_descriptors(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        every = (await client.get("/v1/modules")).json()
        one = (await client.get("/v1/modules/marker")).json()
        found = (await client.get("/v1/modules", params={"text": "pages of a PDF"})).json()

    assert {"marker", "arangodb"} <= {module["name"] for module in every}
    assert one["descriptor"]["summary"] == one["summary"]
    assert found[0]["name"] == "marker"
    assert found[0]["score"] > 0


async def test_a_conversation_is_exported_as_markdown(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        answer = await client.get("/v1/conversations/c_1/export?format=markdown")

    assert answer.headers["content-type"].startswith("text/markdown")
    assert answer.text.startswith("# t")


async def test_the_status_says_where_everything_is(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        status = (await client.get("/v1/daemon")).json()

    assert status["running"] is True
    assert (status["version"], status["socket"], status["listen"]) == (VERSION, str(daemon.path), None)
    assert status["token_file"] == str(tmp_path / "daemon.token")
    assert TOKEN not in str(status)


async def test_health_says_when_each_instance_last_proved_alive(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        health = (await client.get("/health")).json()

    assert health["status"] == "ok"
    assert health["instances"] == [
        {"instance_id": "i_1", "state": "idle", "last_alive_at": INSTANCE.as_dict()["last_alive_at"]}
    ]


@pytest.mark.parametrize("path", ["/v1/modules", "/v1/instances", "/v1/ws"])
@pytest.mark.parametrize(
    ("headers", "name"),
    [({VERSION_HEADER: "9.9"}, "DaemonVersionError"), ({SETTINGS_HEADER: "{}"}, "DaemonError")],
)
async def test_another_client_is_refused(tmp_path: Path, path: str, headers: dict[str, str], name: str) -> None:
    if path == "/v1/ws":
        headers = {
            **headers, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
    async with running(tmp_path) as daemon, daemon.client() as client:
        answer = await client.get(path, headers=headers)

    assert answer.status_code == 409
    assert answer.json()["error"]["type"] == name
    assert "claude-comms daemon restart" in answer.json()["detail"]


async def test_the_daemon_itself_is_told_of_and_stopped_by_clients_of_any_version(tmp_path: Path) -> None:
    other = {VERSION_HEADER: "9.9", SETTINGS_HEADER: "{}"}
    async with running(tmp_path) as daemon, daemon.client(headers=other) as client:
        assert (await client.get("/v1/daemon")).json()["version"] == VERSION
        assert (await client.get("/health")).status_code == 200
        assert (await client.post("/v1/daemon/stop", json={"drain_s": 0})).json()["draining"] is True
        await daemon.task


async def test_our_own_client_is_let_in(tmp_path: Path) -> None:
    digest = settings_digest(Settings.load({"home": tmp_path, "drain_s": 5.0, "model": "other"}), TOKEN)
    ours = {VERSION_HEADER: VERSION, SETTINGS_HEADER: digest}
    async with running(tmp_path) as daemon, daemon.client(headers=ours) as client:
        assert (await client.get("/v1/modules")).status_code == 200


async def test_events_are_read_from_a_cursor(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        await client.post("/v1/messages", json=QUESTION)
        every = (await client.get("/v1/events")).json()
        cursor = every[1]["seq"]
        params = {"types": ["turn.*"], "after": cursor, "limit": 2, "module": "marker"}
        some = (await client.get("/v1/events", params=params)).json()

    assert every[0]["type"] == "daemon.started"
    assert [event["seq"] for event in some] == [cursor + 1, cursor + 2]
    assert all(event["specversion"] == "1.0" for event in every)


async def test_events_are_followed_from_a_cursor_and_end_with_the_daemon(tmp_path: Path) -> None:
    kinds: list[str] = []
    async with (
        running(tmp_path) as daemon,
        daemon.client() as client,
        client.stream("GET", "/v1/events?after=0", headers={"Accept": "text/event-stream"}) as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
                if kinds == ["daemon.started"]:
                    daemon.bus.post(NewEvent("instance.idle", "i_1", "marker/arangodb", {}))
                if kinds[-1] == "instance.idle":
                    daemon.server.request_stop(0)

    assert kinds == ["daemon.started", "instance.idle", "daemon.draining", "daemon.stopped"]
