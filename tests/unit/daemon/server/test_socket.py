"""The WebSocket: answers as they come, turns found again, subscriptions, and what is refused."""

from __future__ import annotations

import itertools
import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from daemon_support import INSTANCE, TOKEN, VERSION, Running, Script, running
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed

from claude_comms.daemon.server import Limits
from claude_comms.daemon.wire import settings_digest
from claude_comms.events import NewEvent
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

QUESTION = {"source": "marker", "target": "arangodb", "prompt": "How?"}


class Client:
    """Speaks JSON-RPC, and keeps what comes until somebody looks."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.notes: list[dict[str, Any]] = []
        self.answers: dict[Any, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    async def say(self, method: str, **params: Any) -> int:
        number = next(self._ids)
        call = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        await self.socket.send(json.dumps(call))
        return number

    async def hear(self) -> dict[str, Any]:
        with anyio.fail_after(10):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        if message.get("method") == "turn":
            turn_id, events = message["params"]["turn_id"], message["params"]["events"]
            self.notes += [{"method": "turn", "params": {"turn_id": turn_id, "event": event}} for event in events]
        elif "method" in message:
            self.notes.append(message)
        else:
            self.answers[message["id"]] = message
        return message

    async def answer(self, number: Any) -> dict[str, Any]:
        while number not in self.answers:
            await self.hear()
        return self.answers[number]

    async def call(self, method: str, **params: Any) -> Any:
        answer = await self.answer(await self.say(method, **params))
        return answer["result"] if "result" in answer else answer["error"]

    async def noted(self, count: int) -> list[dict[str, Any]]:
        while len(self.notes) < count:
            await self.hear()
        return self.notes


@asynccontextmanager
async def talking(daemon: Running, *, hello: bool = True) -> AsyncGenerator[Client]:
    async with unix_connect(str(daemon.path), "ws://daemon/v1/ws") as socket:
        client = Client(socket)
        if hello:
            await client.call("hello", version=VERSION)
        yield client


def texts(notes: list[dict[str, Any]]) -> str:
    events = [note["params"]["event"] for note in notes if note["method"] == "turn"]
    return "".join(event["data"]["text"] for event in events if event["type"] == "turn.delta")


async def test_hello_tells_who_answers(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon, hello=False) as client:
        assert await client.call("hello", version=VERSION) == {"version": VERSION, "pid": os.getpid()}


@pytest.mark.parametrize(
    ("said", "name"),
    [({"version": "0.0.1"}, "DaemonVersionError"), ({"settings": '{"max_instances":"x"}'}, "DaemonError")],
)
async def test_another_client_is_told_so_and_let_go(tmp_path: Path, said: dict[str, str], name: str) -> None:
    async with running(tmp_path) as daemon, talking(daemon, hello=False) as client:
        error = await client.call("hello", **said)
        with pytest.raises(ConnectionClosed):
            await client.hear()

    assert error["data"]["type"] == name
    assert "claude-comms daemon restart" in error["message"]


async def test_equal_settings_are_let_in(tmp_path: Path) -> None:
    ours = settings_digest(Settings.load({"home": tmp_path, "drain_s": 5.0}), TOKEN)
    async with running(tmp_path) as daemon, talking(daemon, hello=False) as client:
        assert "pid" in await client.call("hello", version=VERSION, settings=ours)


async def test_nothing_is_done_before_hello(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon, hello=False) as client:
        for method, params in (("ask", {"question": QUESTION}), ("subscribe", {}), ("cancel", {"turn_id": "t"})):
            assert "hello first" in (await client.call(method, **params))["message"]

    assert daemon.engine.asked == []


async def test_an_answer_comes_as_it_is_made_and_then_whole(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        reply = await client.call("ask", question={**QUESTION, "turn_id": "t_mine"})

    assert reply["response"] == "Yes, it can."
    assert texts(client.notes) == "Yes, it can."
    kinds = [note["params"]["event"]["type"] for note in client.notes]
    assert kinds == ["turn.started", "turn.delta", "turn.delta", "turn.completed"]
    assert {note["params"]["turn_id"] for note in client.notes} == {"t_mine"}


async def test_what_is_there_together_is_told_together(tmp_path: Path) -> None:
    pieces = [str(number) for number in range(50)]
    async with running(tmp_path, Script(pieces)) as daemon, talking(daemon) as client:
        await client.call("ask", question={**QUESTION, "turn_id": "t_mine"})
        await client.socket.send(json.dumps({"jsonrpc": "2.0", "id": "again", "method": "ask", "params": {
            "question": {**QUESTION, "turn_id": "t_mine"}
        }}))  # fmt: skip
        message = json.loads(await client.socket.recv())

    told = message["params"]["events"]
    assert [event["type"] for event in told] == ["turn.started", *["turn.delta"] * 50, "turn.completed"]


async def test_much_that_is_there_together_is_told_in_parts(tmp_path: Path) -> None:
    pieces = ["x" * 50_000 for _ in range(20)]
    async with running(tmp_path, Script(pieces)) as daemon, talking(daemon) as client:
        await client.call("ask", question={**QUESTION, "turn_id": "t_mine"})
        client.notes.clear()
        sizes: list[int] = []
        await client.say("ask", question={**QUESTION, "turn_id": "t_mine"})
        while len(client.notes) < len(pieces) + 2:
            message = await client.hear()
            if {event["type"] for event in message.get("params", {}).get("events", [])} == {"turn.delta"}:
                sizes.append(len(json.dumps(message)))

    assert texts(client.notes) == "".join(pieces)
    assert sizes
    assert max(sizes) < 2 * 64 * 1024


async def test_a_turn_said_to_be_new_is_not_looked_for_in_the_log(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        daemon.bus.post(NewEvent("turn.completed", "c_1", "marker/arangodb", {"turn_id": "t_mine", "reply": {}}))
        await client.call("ask", question={**QUESTION, "turn_id": "t_mine"})
        known = len(daemon.engine.asked)
        await client.call("ask", question={**QUESTION, "turn_id": "t_new"}, new=True)
        again = await client.call("ask", question={**QUESTION, "turn_id": "t_new"}, new=True)

    assert (known, len(daemon.engine.asked)) == (0, 1)
    assert again["response"] == "Yes, it can."


async def test_a_client_that_comes_back_gets_the_rest_once_and_asks_nothing(tmp_path: Path) -> None:
    gate = anyio.Event()
    question = {**QUESTION, "turn_id": "t_mine"}
    async with running(tmp_path, Script(("one ", "two ", "three"), gate)) as daemon:
        async with talking(daemon) as first:
            await first.say("ask", question=question)
            await first.noted(2)
        seen = first.notes[-1]["params"]["event"]["seq"]
        async with talking(daemon) as second:
            number = await second.say("ask", question=question, after=seen)
            gate.set()
            reply = (await second.answer(number))["result"]

    assert reply["response"] == "one two three"
    assert texts(first.notes + second.notes) == "one two three"
    seqs = [note["params"]["event"]["seq"] for note in first.notes + second.notes]
    assert seqs == sorted(set(seqs))
    assert len(daemon.engine.asked) == 1


async def test_an_ended_turn_is_told_again_and_not_asked_again(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        first = await client.call("ask", question={**QUESTION, "turn_id": "t_mine"})
        again = await client.call("ask", question={**QUESTION, "turn_id": "t_mine"})

    assert again == first
    assert len(daemon.engine.asked) == 1


async def test_a_failed_turn_is_an_error_with_its_facts(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        error = await client.call("ask", question={**QUESTION, "target": "nobody"})

    assert (error["code"], error["data"]["type"], error["data"]["name"]) == (-32000, "UnknownModuleError", "nobody")


async def test_many_questions_are_answered_at_once(tmp_path: Path) -> None:
    gate = anyio.Event()
    async with running(tmp_path, *[Script(gate=gate) for _ in range(20)]) as daemon, talking(daemon) as client:
        numbers = [await client.say("ask", question=QUESTION) for _ in range(20)]
        await client.noted(40)
        gate.set()
        replies = [(await client.answer(number))["result"]["response"] for number in numbers]

    assert replies == ["Yes, it can."] * 20


async def test_cancel_interrupts_a_turn(tmp_path: Path) -> None:
    async with running(tmp_path, Script(gate=anyio.Event())) as daemon, talking(daemon) as client:
        number = await client.say("ask", question={**QUESTION, "turn_id": "t_mine"})
        await client.noted(2)
        assert await client.call("cancel", turn_id="t_mine") == {"turn_id": "t_mine", "running": True}
        error = (await client.answer(number))["error"]

    assert error["data"]["reason"] == "interrupted"


async def test_a_subscription_replays_from_its_cursor_and_follows(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        await client.call("ask", question=QUESTION)
        client.notes.clear()
        wanted = {"types": ["turn.delta"], "namespaces": ["marker/*"]}
        told = await client.call("subscribe", filter=wanted, after=0)
        await client.noted(2)
        await client.call("ask", question=QUESTION)
        while sum(note["method"] == "event" for note in client.notes) < 4:
            await client.hear()
        ended = await client.call("unsubscribe", subscription=told["subscription"])
        again = await client.call("unsubscribe", subscription=told["subscription"])

    events = [note["params"] for note in client.notes if note["method"] == "event"]
    assert {event["subscription"] for event in events} == {told["subscription"]}
    assert [event["event"]["data"]["text"] for event in events] == ["Yes, ", "it can."] * 2
    assert (ended["ended"], again["ended"]) == (True, False)


async def test_a_subscription_without_a_cursor_says_where_it_begins(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        told = await client.call("subscribe")
        daemon.bus.post(NewEvent("instance.idle", "i_1", "marker/arangodb", INSTANCE.as_dict()))
        note = (await client.noted(1))[0]

    assert note["params"]["event"]["seq"] == told["after"] + 1


async def test_what_was_missed_is_said(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        await client.call("ask", question=QUESTION)
        daemon.bus.forgotten = 3
        client.notes.clear()
        told = await client.call("subscribe", after=0)
        note = (await client.noted(1))[0]

    assert note["method"] == "missed"
    assert note["params"] == {"subscription": told["subscription"], "first": 1, "last": 3, "reason": "removed"}


async def test_a_client_that_takes_nothing_is_cut_off_and_nothing_is_kept_for_it(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(send_wait_s=0.1)) as daemon:
        async with talking(daemon) as client:
            await client.call("subscribe")
            client.socket.transport.pause_reading()
            for _ in range(200):
                daemon.bus.post(NewEvent("message.stored", "c_1", "marker/arangodb", {"text": "x" * 100_000}))
            with anyio.fail_after(10):
                while daemon.server.service.connections():  # noqa: ASYNC110 - nothing else tells of it
                    await anyio.sleep(0.01)
        async with talking(daemon) as other:
            assert "subscription" in await other.call("subscribe")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", -32700),
        ("NaN", -32700),
        ("[" * 50_000, -32700),
        ("[]", -32600),
        ("3", -32600),
        ('{"jsonrpc":"1.0","id":1,"method":"hello"}', -32600),
        ('{"jsonrpc":"2.0","id":1,"method":"fly"}', -32601),
        ('{"jsonrpc":"2.0","id":1,"method":"ask","params":{}}', -32602),
        ('{"jsonrpc":"2.0","id":1,"method":"ask","params":{"question":{"source":"a"},"after":-1}}', -32602),
        ('{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"filter":{"colour":"blue"}}}', -32602),
    ],
)
async def test_what_is_no_call_is_refused_and_the_connection_goes_on(tmp_path: Path, text: str, code: int) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        await client.socket.send(text)
        answer = await client.hear()
        assert "after" in await client.call("subscribe")

    assert answer["error"]["code"] == code


async def test_a_notification_is_not_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        await client.socket.send('{"jsonrpc":"2.0","method":"subscribe","params":{}}')
        told = await client.call("cancel", turn_id="t_no")

    assert told["data"]["type"] == "DaemonError"
    assert list(client.answers) == [1, 2]  # hello's and cancel's


async def test_subscriptions_of_one_client_are_bounded(tmp_path: Path) -> None:
    limits = Limits(subscriptions_per_connection=2)
    async with running(tmp_path, limits=limits) as daemon, talking(daemon) as client:
        told = [await client.call("subscribe") for _ in range(3)]

    assert "subscription" in told[1]
    assert told[2]["data"]["type"] == "PoolExhaustedError"


async def test_questions_of_one_client_are_bounded(tmp_path: Path) -> None:
    limits = Limits(turns_per_connection=2)
    scripts = [Script(gate=anyio.Event()) for _ in range(3)]
    async with running(tmp_path, *scripts, limits=limits) as daemon, talking(daemon) as client:
        numbers = [await client.say("ask", question=QUESTION) for _ in range(3)]
        error = (await client.answer(numbers[2]))["error"]

    assert error["data"]["type"] == "PoolExhaustedError"


# --- focus -------------------------------------------------------------------------------------


async def test_a_subscription_takes_a_least_priority(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        await client.call("subscribe", filter={"priority": "high", "namespaces": ["marker/*"]})
        await daemon.bus.publish(news("turn.delta"), news("turn.completed"), news("turn.failed"))
        [note] = await client.noted(1)
        assert note["params"]["event"]["type"] == "turn.failed"
        refused = await client.call("subscribe", filter={"priority": "loud"})
        assert refused["code"] == -32602


async def test_a_focused_subscription_tells_at_once_what_calls_for_it_and_the_rest_in_a_digest(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        told = await client.call("subscribe", filter={"focus": "attention", "digest_s": 1})
        await daemon.bus.publish(news("job.done"), news("turn.completed"), news("turn.failed"), news("turn.completed"))
        event, digest = await client.noted(2)
        assert event["params"]["event"]["type"] == "turn.failed"
        assert digest["method"] == "digest"
        facts = digest["params"]
        assert facts["subscription"] == told["subscription"]
        seqs = [one.seq for one in await daemon.bus.read() if one.type in ("job.done", "turn.completed")]
        assert (facts["count"], facts["first"], facts["last"]) == (3, min(seqs), max(seqs))
        lines = [(line["type"], line["count"], line["attention"]) for line in facts["lines"]]
        assert lines == [("job.done", 1, True), ("turn.completed", 2, False)]


async def test_only_what_is_critical_passes_the_narrowest_focus(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, talking(daemon) as client:
        await client.call("subscribe", filter={"focus": "critical"})
        await daemon.bus.publish(news("turn.failed"), news("budget.exceeded"))
        [note] = await client.noted(1)
        assert note["params"]["event"]["type"] == "budget.exceeded"


def news(kind: str) -> NewEvent:
    return NewEvent(kind, "c_1", "marker/arangodb")
