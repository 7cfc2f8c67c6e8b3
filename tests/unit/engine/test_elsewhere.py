"""Turns that an instance had in a terminal: stored, told and charged like those that were asked through the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.engine import LocalEngine
from claude_comms.errors import InstanceNotFoundError
from claude_comms.events import MemoryBus
from claude_comms.settings import Settings
from claude_comms.testing.scripted import Answer, ScriptedBackend
from claude_comms.types import MessageState, Pair, Question, TerminalTurn, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

MODEL = "claude-sonnet-4-5"


def had(number: int) -> TerminalTurn:
    usage = Usage(1_000, 100)
    return TerminalTurn(f"Question {number}?", f"Answer {number}.", MODEL, "end_turn", usage, f"s@{number}")


@pytest.fixture
async def bus() -> AsyncGenerator[MemoryBus]:
    bus = MemoryBus()
    await bus.open()
    yield bus
    await bus.close()


@pytest.fixture
async def engine(tmp_path: Path, bus: MemoryBus) -> AsyncGenerator[LocalEngine]:
    backend = ScriptedBackend([Answer("First.")])
    settings = Settings.load({"home": tmp_path / "home", "backend": backend.name, "model": MODEL})
    engine = LocalEngine(settings, backends={backend.name: backend}, bus=bus)
    await engine.open()
    yield engine
    await engine.close()


async def test_they_go_on_with_the_conversation_that_the_instance_holds(engine: LocalEngine, bus: MemoryBus) -> None:
    reply = await (await engine.ask(Question("marker", "arangodb", "First?"))).reply()
    before = bus.last_seq
    cost = (await engine.instances.get(reply.instance_id)).usage
    assert await engine.store_turns(reply.instance_id, [had(1), had(2)]) == reply.thread_id

    messages = (await engine.get_conversation(reply.thread_id)).messages
    assert [message.text for message in messages[2:]] == ["Question 1?", "Answer 1.", "Question 2?", "Answer 2."]
    assert all(message.state is MessageState.COMPLETE for message in messages)
    assert await engine.store.session(reply.thread_id, reply.backend) == "s@2"

    told = await bus.read(after=before)
    kinds = [event.type for event in told if event.type.startswith(("message", "turn", "conversation"))]
    assert kinds == ["message.stored", "message.stored", "turn.completed"] * 2
    assert {event.data["instance_id"] for event in told} == {reply.instance_id}
    assert told[0].data["turn_id"] == messages[2].turn_id != messages[4].turn_id

    spent = (await engine.instances.get(reply.instance_id)).usage
    assert (spent.output_tokens - cost.output_tokens, spent.input_tokens - cost.input_tokens) == (200, 2_000)
    [row] = await engine.usage()
    assert row.turns == 3
    priced = messages[3].usage
    assert priced is not None
    assert priced.cost_usd


async def test_they_begin_a_conversation_where_the_instance_holds_none(engine: LocalEngine, bus: MemoryBus) -> None:
    info = await engine.instances.start(Pair("marker", "arangodb"))
    thread_id = await engine.store_turns(info.instance_id, [had(1), had(2)])
    assert thread_id is not None
    conversation = await engine.get_conversation(thread_id)
    assert (conversation.title, len(conversation.messages)) == ("Question 1?", 4)
    assert [event.type for event in await bus.read()].count("conversation.created") == 1


async def test_nobody_knows_turns_of_an_instance_that_never_was(engine: LocalEngine) -> None:
    with pytest.raises(InstanceNotFoundError):
        await engine.store_turns("i_nowhere", [had(1)])
