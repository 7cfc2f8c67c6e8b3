"""Questions over REST: answers, streams, and turns that outlive their asker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from daemon_support import REPLY, Running, Script, running

from claude_comms.errors import BudgetExceededError, PoolExhaustedError

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.anyio

QUESTION = {"source": "marker", "target": "arangodb", "prompt": "How?"}
STREAM = {"Accept": "text/event-stream"}


async def told(response: httpx.Response, until: int | None = None) -> list[tuple[str | None, str, Any]]:
    """The server-sent events of a response: id, event, data; all, or the first `until`."""
    found: list[tuple[str | None, str, Any]] = []
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "event" in fields:
            found.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
            fields = {}
            if len(found) == until:
                break
    return found


async def asked(daemon: Running, **more: Any) -> httpx.Response:
    async with daemon.client() as client:
        return await client.post("/v1/messages", json={**QUESTION, **more})


async def test_an_answer_is_a_reply(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        answer = await asked(daemon)

    assert answer.status_code == 200
    assert answer.json() == {**REPLY.as_dict(), "response": "Yes, it can."}
    assert answer.headers["claude-comms-turn"] == daemon.engine.asked[0].turn_id


async def test_the_question_arrives_as_it_was_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        more = {"data": {"pages": [1]}, "schema": {"type": "object"}, "deadline_s": 3, "source_path": "/src"}
        await client.post("/v1/messages", json={**QUESTION, **more}, headers={"Idempotency-Key": "k1"})

    question = daemon.engine.asked[0]
    assert (question.data, question.schema, question.deadline_s) == ({"pages": [1]}, {"type": "object"}, 3)
    assert (str(question.source_path), question.idempotency_key) == ("/src", "k1")


async def test_two_different_idempotency_keys_are_a_mistake(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        question = {**QUESTION, "idempotency_key": "a"}
        answer = await client.post("/v1/messages", json=question, headers={"Idempotency-Key": "b"})

    assert answer.status_code == 422
    assert daemon.engine.asked == []


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (BudgetExceededError("too dear", budget="question", limit=1, spent=2), 402, "BudgetExceededError"),
        (PoolExhaustedError("full", limit=1, retry_after_s=2.5), 503, "PoolExhaustedError"),
        (RuntimeError("a secret of ours"), 500, "InternalError"),
    ],
)
async def test_a_failed_turn_is_a_problem_document(tmp_path: Path, error: Exception, status: int, name: str) -> None:
    async with running(tmp_path, Script(error=error)) as daemon:
        answer = await asked(daemon)

    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (problem["status"], problem["type"]) == (status, f"urn:claude-comms:error:{name}")
    assert "a secret of ours" not in answer.text
    if name == "PoolExhaustedError":
        assert answer.headers["retry-after"] == "3"


async def test_an_unknown_module_is_not_found(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        answer = await asked(daemon, target="nobody")

    assert answer.status_code == 404
    assert answer.json()["error"]["known"] == ["marker", "arangodb"]


async def test_a_stream_ends_with_the_turn(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as daemon,
        daemon.client() as client,
        client.stream("POST", "/v1/messages", json=QUESTION, headers=STREAM) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        events = await told(response)

    assert [name for _, name, _ in events] == ["turn.started", "turn.delta", "turn.delta", "turn.completed"]
    assert [int(seq or 0) for seq, _, _ in events] == [event["seq"] for _, _, event in events]
    assert events[-1][2]["data"]["reply"]["response"] == "Yes, it can."


async def test_a_reader_that_comes_back_with_its_last_event_id_gets_the_rest_once(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with running(tmp_path, Script(("one ", "two ", "three"), gate)) as daemon, daemon.client() as client:
        question = {**QUESTION, "turn_id": "t_mine"}
        async with client.stream("POST", "/v1/messages", json=question, headers=STREAM) as response:
            first = await told(response, until=2)
        again = {"Last-Event-ID": str(first[-1][0])}
        async with client.stream("GET", "/v1/turns/t_mine/events", headers=again) as response:
            gate.set()
            rest = await told(response)

    seqs = [int(seq or 0) for seq, _, _ in first + rest]
    assert seqs == sorted(set(seqs))
    texts = [event["data"]["text"] for _, name, event in first + rest if name == "turn.delta"]
    assert "".join(texts) == "one two three"
    assert len(daemon.engine.asked) == 1


async def test_a_turn_outlives_the_client_that_asked(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with running(tmp_path, Script(gate=gate)) as daemon:
        async with daemon.client() as client:
            question = {**QUESTION, "turn_id": "t_mine"}
            async with client.stream("POST", "/v1/messages", json=question, headers=STREAM) as response:
                await told(response, until=1)
        gate.set()
        answer = await asked(daemon, turn_id="t_mine")

    assert answer.json()["response"] == "Yes, it can."
    assert len(daemon.engine.asked) == 1


async def test_the_same_turn_id_never_asks_twice_at_once(tmp_path: Path) -> None:
    gate = anyio.Event()
    answers: list[httpx.Response] = []

    async with running(tmp_path, Script(gate=gate)) as daemon:

        async def ask() -> None:
            answers.append(await asked(daemon, turn_id="t_mine"))

        async with anyio.create_task_group() as asking:
            for _ in range(5):
                asking.start_soon(ask)
            await daemon.bus.more_than(2)
            gate.set()

    assert [answer.json()["response"] for answer in answers] == ["Yes, it can."] * 5
    assert len(daemon.engine.asked) == 1


async def test_a_turn_of_an_earlier_daemon_is_told_from_the_log_and_not_asked_again(tmp_path: Path) -> None:
    async with running(tmp_path) as before:
        await asked(before, turn_id="t_old")
    async with running(tmp_path) as daemon:
        for event in before.bus.events:
            daemon.bus.events.append(event)
        answer = await asked(daemon, turn_id="t_old")

    assert answer.json()["response"] == "Yes, it can."
    assert daemon.engine.asked == []


async def test_a_turn_that_nobody_knows_is_not_found(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        assert (await client.get("/v1/turns/t_no/events")).status_code == 404
        assert (await client.post("/v1/turns/t_no/cancel")).status_code == 404


async def test_cancelling_interrupts_the_turn(tmp_path: Path) -> None:
    async with running(tmp_path, Script(gate=anyio.Event())) as daemon, daemon.client() as client:
        question = {**QUESTION, "turn_id": "t_mine"}
        async with client.stream("POST", "/v1/messages", json=question, headers=STREAM) as response:
            await told(response, until=1)
            cancelled = await client.post("/v1/turns/t_mine/cancel")
            events = await told(response) if not response.is_stream_consumed else []
        again = await client.post("/v1/turns/t_mine/cancel")
        answer = await asked(daemon, turn_id="t_mine")

    assert cancelled.json() == {"turn_id": "t_mine", "running": True}
    assert again.json() == {"turn_id": "t_mine", "running": False}
    assert answer.json()["error"]["reason"] == "interrupted"
    assert events == [] or events[-1][1] == "turn.interrupted"


async def test_an_answer_comes_even_when_the_log_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_comms.daemon.server._relay._PATIENCE_S", 0.01)
    async with (
        running(tmp_path, Script(silent=True)) as daemon,
        daemon.client() as client,
        client.stream("POST", "/v1/messages", json=QUESTION, headers=STREAM) as response,
    ):
        events = await told(response)

    assert [name for _, name, _ in events] == ["turn.completed"]
    assert events[0][2]["data"]["reply"]["response"] == "Yes, it can."


async def test_events_that_were_removed_are_left_out_and_the_rest_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        await asked(daemon, turn_id="t_mine")
        daemon.bus.forgotten = daemon.bus.last_seq - 2
        async with client.stream("GET", "/v1/turns/t_mine/events") as response:
            events = await told(response)

    assert [name for _, name, _ in events] == ["turn.delta", "turn.completed"]


async def test_a_preview_asks_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        answer = await client.post("/v1/messages/preview", json=QUESTION)

    assert answer.json()["message"] == "How?"
    assert daemon.engine.asked == []
