"""Questions asked over the daemon: as in this process, and over roads that break."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from claude_comms.errors import (
    BackendCrashedError,
    ConfigError,
    DaemonError,
    DeadlineExceededError,
    ReplyValidationError,
    TurnFailedError,
    UnknownModuleError,
)
from claude_comms.errors import Problem as Wrong
from claude_comms.testing.scripted import Answer, Crash, Stall
from claude_comms.types import Delta, MessageState, Question, Refused, Retried, Started, ToolUsed

if TYPE_CHECKING:
    from daemon_road import Connect, Daemon

    from claude_comms.daemon.client import RemoteEngine
    from claude_comms.protocols import Turn

pytestmark = pytest.mark.anyio

QUESTION = Question("marker", "arangodb", "How should I store my page blocks?")


async def texts(turn: Turn) -> list[str]:
    return [event.text async for event in turn if isinstance(event, Delta)]


async def first_text(turn: Turn) -> str:
    async for event in turn:
        if isinstance(event, Delta):
            return event.text
    raise AssertionError("the turn has no text")


async def gone(question: Question, engine: RemoteEngine) -> Turn:
    turn = await engine.ask(question)
    assert await turn.thread_id()
    return turn


async def test_an_answer_comes_in_pieces_and_whole(daemon: Daemon, connect: Connect) -> None:
    daemon.scripted.add(Answer("one two three", pieces=("one ", "two ", "three")))
    async with connect() as engine:
        turn = await engine.ask(QUESTION)
        events = [event async for event in turn]
        reply = await turn.reply()
    assert isinstance(events[0], Started)
    assert [event.text for event in events if isinstance(event, Delta)] == ["one ", "two ", "three"]
    assert (reply.response, reply.source, reply.target) == ("one two three", "marker", "arangodb")
    assert events[0].thread_id == reply.thread_id == await turn.thread_id()


async def test_what_happens_beside_the_text_is_told_as_it_is_here(daemon: Daemon, connect: Connect) -> None:
    beside = (
        ToolUsed("Read", "notes.md"),
        Refused("Read", "/etc/passwd", "outside the module's path"),
        Retried(1, "overloaded", 0.5),
    )
    daemon.scripted.add(Answer("one", pieces=1, events=beside))
    async with connect() as engine:
        turn = await engine.ask(QUESTION)
        events = [event async for event in turn]
    assert tuple(event for event in events if not isinstance(event, Started | Delta)) == beside


async def test_the_daemons_errors_are_ours_again(daemon: Daemon, connect: Connect) -> None:
    daemon.scripted.add(Crash(after="some", exit_code=3), Crash(after="some", exit_code=3))
    async with connect() as engine:
        with pytest.raises(BackendCrashedError) as caught:
            await (await engine.ask(QUESTION)).reply()
        with pytest.raises(UnknownModuleError) as unknown:
            await (await engine.ask(Question("marker", "nobody", "?"))).reply()
    assert caught.value.exit_code == 3
    assert caught.value.thread_id
    assert "arangodb" in unknown.value.known


async def test_a_question_that_the_wire_has_no_place_for_is_named(connect: Connect) -> None:
    async with connect() as engine:
        with pytest.raises(ConfigError, match=r"^source"):
            await (await engine.ask(Question("x" * 300, "arangodb", "?"))).reply()


async def test_a_connection_that_breaks_in_an_answer_is_made_again_and_nothing_comes_twice(
    daemon: Daemon, connect: Connect
) -> None:
    gates = tuple(anyio.Event() for _ in range(4))
    daemon.scripted.add(Answer("abcde", pieces=tuple("abcde"), gates=gates))
    async with connect() as engine:
        turn = await engine.ask(QUESTION)
        reading = asyncio.create_task(texts(turn))
        for gate in gates:
            await daemon.road.cut()
            gate.set()
        assert await asyncio.wait_for(reading, 10) == list("abcde")
        assert (await turn.reply()).response == "abcde"
    assert len(daemon.scripted.requests) == 1


@pytest.mark.parametrize("seed", range(8))
async def test_however_often_it_breaks_each_piece_comes_once_and_in_order(
    daemon: Daemon, connect: Connect, seed: int
) -> None:
    chance = random.Random(seed)
    pieces = tuple(f"{number} " for number in range(40))
    gates = tuple(anyio.Event() for _ in pieces[1:])
    daemon.scripted.add(Answer("".join(pieces), pieces=pieces, gates=gates))
    async with connect() as engine:
        turn = await engine.ask(QUESTION)
        reading = asyncio.create_task(texts(turn))
        for gate in gates:
            gate.set()
            for _ in range(chance.randrange(20)):
                await anyio.lowlevel.checkpoint()
            if chance.random() < 0.3:
                await daemon.road.cut()
        assert await asyncio.wait_for(reading, 20) == list(pieces)
        assert (await turn.reply()).response == "".join(pieces)
    assert len(daemon.scripted.requests) == 1


async def test_an_answer_that_came_while_nobody_was_connected_is_not_lost(daemon: Daemon, connect: Connect) -> None:
    gate = anyio.Event()
    daemon.scripted.add(Answer("ab", pieces=("a", "b"), gates=(gate,)))
    async with connect() as engine:
        turn = await engine.ask(QUESTION)
        assert await first_text(turn) == "a"
        await daemon.road.close()
        gate.set()
        assert daemon.engine is not None
        async with daemon.engine.follow(after=0) as events:
            async for event in events:
                if getattr(event, "type", "") == "turn.completed":
                    break
        await daemon.road.build()
        assert (await turn.reply()).response == "ab"


async def test_a_daemon_that_does_not_come_back_is_told_with_the_conversation(daemon: Daemon, connect: Connect) -> None:
    daemon.scripted.add(Stall("some"))
    async with connect(reconnect_s=0.3) as engine:
        turn = await gone(QUESTION, engine)
        await daemon.road.close()
        with pytest.raises(DaemonError) as caught:
            await asyncio.wait_for(turn.reply(), 10)
    thread_id = await turn.thread_id()
    assert thread_id
    assert caught.value.thread_id == thread_id
    assert thread_id in str(caught.value)
    assert "marked failed when the daemon starts again" in str(caught.value)


async def test_a_turn_of_a_daemon_that_stopped_ends_as_the_next_one_knows_it(daemon: Daemon, connect: Connect) -> None:
    daemon.scripted.add(Stall("some"))
    async with connect() as engine:
        turn = await gone(QUESTION, engine)
        await daemon.fall()
        await daemon.rise()
        with pytest.raises(TurnFailedError) as caught:
            await asyncio.wait_for(turn.reply(), 10)
        assert caught.value.reason == "interrupted"
        stored = await engine.get_conversation(str(await turn.thread_id()))
        assert [message.state for message in stored.messages] == [MessageState.FAILED, MessageState.PARTIAL]
        assert (await (await engine.ask(QUESTION)).reply()).response
    assert len(daemon.scripted.requests) == 2


async def test_a_question_to_a_daemon_that_restarts_is_asked_of_the_next_one(daemon: Daemon, connect: Connect) -> None:
    async with connect() as engine:
        await daemon.fall()
        turn = await engine.ask(QUESTION)
        await daemon.rise()
        assert (await asyncio.wait_for(turn.reply(), 10)).response == QUESTION.prompt
    assert len(daemon.scripted.requests) == 1


async def test_a_deadline_holds_where_the_daemon_hangs(daemon: Daemon, connect: Connect) -> None:
    daemon.scripted.add(Stall("some"))
    async with connect() as engine:
        turn = await engine.ask(Question("marker", "arangodb", "?", deadline_s=0.5))
        assert await first_text(turn) == "some"
        daemon.road.block()
        with pytest.raises(DeadlineExceededError) as caught:
            await asyncio.wait_for(turn.reply(), 2.5)
        assert caught.value.deadline_s == 0.5
        assert caught.value.partial == "some"
        daemon.road.open.set()


async def test_a_deadline_that_has_passed_asks_nothing(daemon: Daemon, connect: Connect) -> None:
    async with connect() as engine:
        with pytest.raises(DeadlineExceededError):
            await (await engine.ask(Question("marker", "arangodb", "?", deadline_s=-1))).reply()
    assert daemon.scripted.requests == []


async def test_an_interrupted_turn_is_stored_as_partial(daemon: Daemon, connect: Connect) -> None:
    daemon.scripted.add(Stall("some"))
    async with connect() as engine:
        turn = await engine.ask(QUESTION)
        assert await first_text(turn) == "some"
        await turn.interrupt()
        with pytest.raises(TurnFailedError) as caught:
            await turn.reply()
        stored = await engine.get_conversation(str(await turn.thread_id()))
    assert (caught.value.reason, caught.value.partial) == ("interrupted", "some")
    assert stored.messages[-1].state is MessageState.PARTIAL


@pytest.mark.parametrize("how", ["close", "abandon"])
async def test_a_turn_that_nobody_wants_is_interrupted(daemon: Daemon, connect: Connect, how: str) -> None:
    daemon.scripted.add(Stall("some"))
    async with connect() as engine:
        turn = await gone(QUESTION, engine)
        if how == "close":
            await turn.close()
        else:
            turn.abandon()
        with pytest.raises(TurnFailedError, match="interrupted"):
            await asyncio.wait_for(turn.reply(), 10)


async def test_closing_the_engine_interrupts_its_turns(daemon: Daemon, connect: Connect) -> None:
    daemon.scripted.add(Stall("some"))
    async with connect() as engine:
        turn = await gone(QUESTION, engine)
    with pytest.raises(TurnFailedError):
        await turn.reply()
    assert daemon.engine is not None
    stored = await daemon.engine.get_conversation(str(await turn.thread_id()))
    assert stored.messages[0].state is MessageState.FAILED


async def test_the_same_key_is_asked_once(daemon: Daemon, connect: Connect) -> None:
    asked = Question("marker", "arangodb", "?", idempotency_key="k1")
    async with connect() as engine:
        first = await (await engine.ask(asked)).reply()
        second = await (await engine.ask(asked)).reply()
    assert first.message_id == second.message_id
    assert len(daemon.scripted.requests) == 1


async def test_what_the_callers_own_check_finds_is_raised_here(daemon: Daemon, connect: Connect) -> None:
    daemon.scripted.add('{"n": 1}')
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    asked = Question("marker", "arangodb", "?", schema=schema, check=lambda value: [Wrong("odd")] if value["n"] else [])
    async with connect() as engine:
        with pytest.raises(ReplyValidationError, match="odd") as caught:
            await (await engine.ask(asked)).reply()
    assert caught.value.thread_id


async def test_many_turns_share_one_connection(daemon: Daemon, connect: Connect) -> None:
    async with connect() as engine:
        turns = [await engine.ask(Question("marker", "arangodb", f"question {number}")) for number in range(20)]
        replies = await asyncio.gather(*(turn.reply() for turn in turns))
    assert [reply.response for reply in replies] == [f"question {number}" for number in range(20)]


async def test_backend_model_and_limits_of_this_side_go_with_a_new_conversation(
    daemon: Daemon, connect: Connect
) -> None:
    async with connect(backend="offline", model="claude-haiku-5-5", deadline_s=44, max_cost_usd=0.5) as engine:
        reply = await (await engine.ask(QUESTION)).reply()
        assert reply.backend == "offline"
    async with connect(model="claude-haiku-5-5") as engine:
        reply = await (await engine.ask(QUESTION)).reply()
        assert (reply.backend, reply.model) == ("scripted", "claude-haiku-5-5")
    async with connect() as engine:
        continued = Question("marker", "arangodb", "more", thread_id=reply.thread_id)
        assert (await (await engine.ask(continued)).reply()).model == "claude-haiku-5-5"
