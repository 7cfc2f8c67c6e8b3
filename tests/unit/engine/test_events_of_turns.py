"""What the bus is told of turns, messages, conversations and instances."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from claude_comms.conversations import ConversationStore
from claude_comms.engine import LocalEngine
from claude_comms.errors import StoreError, TurnFailedError, UnknownModuleError
from claude_comms.events import Event, EventFilter, MemoryBus, NewEvent
from claude_comms.settings import Settings
from claude_comms.storage import OwnerLock
from claude_comms.testing.scripted import Answer, ScriptedBackend, Stall
from claude_comms.types import MessageState, Pair, Question

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from claude_comms.background.backends.protocol import Backend

pytestmark = pytest.mark.anyio

ENDS = {"turn.completed", "turn.failed", "turn.interrupted"}


@asynccontextmanager
async def opened(home: Path, backend: Backend, bus: MemoryBus | None = None) -> AsyncGenerator[LocalEngine]:
    settings = Settings.load({"home": home, "backend": backend.name})
    bus = bus or MemoryBus()
    await bus.open()
    engine = LocalEngine(settings, backends={backend.name: backend}, bus=bus)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()
        await bus.close()


def question(prompt: str = "How?", **options: str) -> Question:
    return Question("marker", "arangodb", prompt, **options)  # pyright: ignore[reportArgumentType]


async def events_until_the_end(engine: LocalEngine, turn_id: str) -> list[Event]:
    """All that was told, up to the turn's end."""
    found: list[Event] = []
    with anyio.fail_after(10):
        async with engine.follow(after=0) as events:
            async for event in events:
                assert isinstance(event, Event)
                found.append(event)
                if event.type in ENDS and event.data["turn_id"] == turn_id:
                    break
    return found


async def test_a_turn_is_told_from_its_start_to_its_one_end(claude_comms_home: Path) -> None:
    async with opened(claude_comms_home, ScriptedBackend(Answer("one two three", pieces=3))) as engine:
        turn = await engine.ask(question(turn_id="t_mine"))
        reply = await turn.reply()
        told = await events_until_the_end(engine, "t_mine")
    turns = [event for event in told if event.type.startswith("turn.")]
    assert [event.type for event in turns] == ["turn.started", *["turn.delta"] * 3, "turn.completed"]
    assert "".join(event.data["text"] for event in turns if event.type == "turn.delta") == "one two three"
    assert turns[-1].data["reply"] == reply.as_dict()
    assert {event.subject for event in turns} == {reply.thread_id}
    assert {event.namespace for event in turns} == {"marker/arangodb"}
    assert {event.data["turn_id"] for event in turns} == {"t_mine"}
    assert {event.data["instance_id"] for event in turns} == {reply.instance_id}


async def test_messages_are_told_whole_once_they_are_stored(claude_comms_home: Path) -> None:
    async with opened(claude_comms_home, ScriptedBackend("an answer")) as engine:
        await (await engine.ask(question("a question", turn_id="t_1"))).reply()
        told = await events_until_the_end(engine, "t_1")
    messages = [event.data for event in told if event.type == "message.stored"]
    assert [(said["role"], said["speaker"], said["text"]) for said in messages] == [
        ("question", "marker", "a question"),
        ("answer", "arangodb", "an answer"),
    ]
    assert "conversation.created" in [event.type for event in told]


async def test_an_interrupted_turn_and_its_partial_answer_are_told(claude_comms_home: Path) -> None:
    async with opened(claude_comms_home, ScriptedBackend(Stall(after="half"))) as engine:
        turn = await engine.ask(question(turn_id="t_1"))
        async with engine.follow(EventFilter(types=("turn.delta",)), after=0) as deltas:
            with anyio.fail_after(10):
                await anext(deltas)
        await turn.interrupt()
        with pytest.raises(TurnFailedError):
            await turn.reply()
        told = await events_until_the_end(engine, "t_1")
    assert told[-1].type == "turn.interrupted"
    assert told[-1].data["error"]["reason"] == "interrupted"
    (partial,) = [event for event in told if event.type == "message.stored" and event.data["role"] == "answer"]
    assert (partial.data["state"], partial.data["text"]) == ("partial", "half")


async def test_a_question_that_is_refused_before_it_is_stored_is_told_once(claude_comms_home: Path) -> None:
    async with opened(claude_comms_home, ScriptedBackend()) as engine:
        turn = await engine.ask(Question("marker", "nobody", "How?", turn_id="t_1"))
        with pytest.raises(UnknownModuleError):
            await turn.reply()
        (told,) = await events_until_the_end(engine, "t_1")
    assert (told.type, told.subject) == ("turn.failed", "t_1")
    assert told.data["error"]["type"] == "UnknownModuleError"


async def test_conversations_and_instances_are_told(claude_comms_home: Path) -> None:
    async with opened(claude_comms_home, ScriptedBackend()) as engine:
        thread_id = (await engine.create_conversation(Pair("marker", "arangodb"))).thread_id
        await engine.archive_conversation(thread_id)
        await engine.restore_conversation(thread_id)
        started = await engine.instances.start(Pair("marker", "arangodb"), name="mine")
        await engine.instances.pause("mine")
        await engine.instances.resume("mine")
        await engine.instances.stop("mine")
        told = await engine.bus.read()
    conversations = [event.type for event in told if event.subject == thread_id]
    assert conversations == ["conversation.created", "conversation.archived", "conversation.restored"]
    of_instance = [event for event in told if event.subject == started.instance_id]
    assert [event.type for event in of_instance][:1] == ["instance.started"]
    assert [event.type for event in of_instance][-3:] == ["instance.paused", "instance.resumed", "instance.stopped"]
    assert {event.data["name"] for event in of_instance} == {"mine"}


async def test_a_turn_that_a_dead_process_left_open_is_given_its_end_from_the_store(claude_comms_home: Path) -> None:
    """The answer was stored, and the process died before the bus heard of it."""
    async with opened(claude_comms_home, ScriptedBackend("an answer")) as engine:
        reply = await (await engine.ask(question(turn_id="t_1"))).reply()
    bus = MemoryBus()
    await bus.open()
    facts = {"turn_id": "t_1", "thread_id": reply.thread_id}
    await bus.publish(NewEvent("turn.started", reply.thread_id, "marker/arangodb", facts))
    async with opened(claude_comms_home, ScriptedBackend(), bus) as engine:
        told = await events_until_the_end(engine, "t_1")
    assert told[-1].type == "turn.completed"
    assert told[-1].data["reply"]["response"] == "an answer"
    assert told[-1].data["reply"]["message_id"] == reply.message_id


@pytest.mark.parametrize("heard", ["message.stored", "turn.failed"])
async def test_a_question_that_a_dead_process_left_pending_is_told_failed_once(
    claude_comms_home: Path, heard: str
) -> None:
    """The end names the instance that was answering, so that who follows that one hears of it."""
    async with opened(claude_comms_home, ScriptedBackend()) as engine:
        gone = OwnerLock(engine.database.path)
        gone.acquire()
        asked = await ConversationStore(engine.database, gone).begin_turn(
            thread_id=None,
            pair=Pair("marker", "arangodb"),
            text="How?",
            sent_text="How?",
            backend="scripted",
            model="m",
            turn_id="t_1",
        )
        gone.release()
    bus = MemoryBus()
    await bus.open()
    facts = {"turn_id": "t_1", "thread_id": asked.thread_id, "instance_id": "i_1"}
    await bus.publish(NewEvent(heard, asked.thread_id, "marker/arangodb", facts))
    async with opened(claude_comms_home, ScriptedBackend(), bus) as engine:
        (question,) = (await engine.get_conversation(asked.thread_id)).messages
        told = await bus.read(EventFilter(types=("turn.failed",), turn_id="t_1"))
    assert question.state is MessageState.FAILED
    assert [(event.subject, event.data["instance_id"]) for event in told] == [(asked.thread_id, "i_1")]


async def test_a_bus_that_fails_fails_no_turn(claude_comms_home: Path) -> None:
    class Full(MemoryBus):
        def post(self, event: NewEvent) -> None:
            raise StoreError("no room for an event. Free some space.")

    async with opened(claude_comms_home, ScriptedBackend("an answer"), Full()) as engine:
        assert (await (await engine.ask(question())).reply()).response == "an answer"


async def test_an_engine_of_ones_own_tells_from_the_first_listener_on(claude_comms_home: Path) -> None:
    engine = LocalEngine(Settings.load({"home": claude_comms_home, "backend": "offline"}))
    await engine.open()
    try:
        await (await engine.ask(question(turn_id="t_unheard"))).reply()
        async with engine.follow(EventFilter(types=("turn.completed",))) as events:
            await (await engine.ask(question(turn_id="t_heard"))).reply()
            with anyio.fail_after(10):
                event = await anext(events)
        assert isinstance(event, Event)
        assert event.data["turn_id"] == "t_heard"
        assert await engine.bus.read(EventFilter(turn_id="t_unheard")) == []
    finally:
        await engine.close()
