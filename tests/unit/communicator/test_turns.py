"""How turns end: complete, interrupted, late, refused; and what is left in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from claude_comms.errors import (
    BackendCrashedError,
    BudgetExceededError,
    ConfigError,
    DeadlineExceededError,
    PoolExhaustedError,
    TurnFailedError,
)
from claude_comms.testing.scripted import Answer, Crash, Fail, ScriptedBackend, Stall
from claude_comms.types import MessageState, Role, Started

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from claude_comms import AsyncCommunicator
    from claude_comms.types import Message

    Open = Callable[..., AbstractAsyncContextManager[AsyncCommunicator]]

pytestmark = pytest.mark.anyio


async def only_conversation(comm: AsyncCommunicator) -> tuple[Message, ...]:
    (listed,) = await comm.list_conversations()
    return (await comm.get_conversation(listed.thread_id)).messages


async def test_a_reply_reads_by_attribute_and_as_a_mapping(communicator: Open) -> None:
    async with communicator() as comm:
        reply = await comm.send_message(target="arangodb", prompt="one")
    assert reply["response"] == reply.response == "one"
    assert reply["usage"]["input_tokens"] == reply.usage.input_tokens > 0
    assert (reply.status, reply.backend, reply.source, reply.target) == ("complete", "scripted", "marker", "arangodb")
    assert {"thread_id", "message_id", "instance_id", "model", "stop_reason", "duration_ms", "sources"} <= set(reply)


async def test_pieces_joined_are_the_response(communicator: Open, scripted: ScriptedBackend) -> None:
    scripted.add(Answer("a long answer", pieces=5))
    async with communicator() as comm, comm.stream_message("arangodb", "one") as stream:
        pieces = [piece async for piece in stream]
    assert len(pieces) == 5
    assert "".join(pieces) == stream.reply.response == "a long answer"


async def test_pieces_come_while_the_model_writes(communicator: Open, scripted: ScriptedBackend) -> None:
    gate = anyio.Event()
    scripted.add(Answer("first, then second", pieces=("first, ", "then second"), gates=(gate,)))
    pieces: list[str] = []
    async with communicator() as comm:
        async for piece in await comm.stream_message("arangodb", "one"):
            pieces.append(piece)
            gate.set()
    assert pieces == ["first, ", "then second"]


async def test_the_first_event_says_who_is_asked_over_what_and_why(communicator: Open) -> None:
    async with communicator() as comm, comm.stream_message("arangodb", "one") as stream:
        events = [event async for event in stream.events()]
    first = events[0]
    assert isinstance(first, Started)
    assert (first.target, first.backend, first.thread_id) == ("arangodb", "scripted", stream.reply.thread_id)
    assert first.reason


async def test_an_interrupted_turn_is_stored_as_partial_and_raised(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    scripted.add(Stall(after="half of "))
    async with communicator() as comm:
        async with comm.stream_message("arangodb", "one") as stream:
            async for _ in stream:
                await stream.interrupt()
                break
            with pytest.raises(TurnFailedError) as caught:
                await stream.wait()
        assert (caught.value.reason, caught.value.partial) == ("interrupted", "half of ")
        question, partial = await only_conversation(comm)
        assert (question.state, partial.state, partial.text) == (MessageState.FAILED, MessageState.PARTIAL, "half of ")
        again = await comm.send_message(target="arangodb", prompt="two")
        assert again.thread_id == question.thread_id == caught.value.thread_id
    assert scripted.requests[1].prompt.history == ()


async def test_leaving_a_stream_early_stops_the_turn(communicator: Open, scripted: ScriptedBackend) -> None:
    scripted.add(Stall(after="half"))
    async with communicator() as comm:
        async with comm.stream_message("arangodb", "one") as stream:
            async for _ in stream:
                break
        question, partial = await only_conversation(comm)
    assert (question.state, partial.text) == (MessageState.FAILED, "half")


async def test_cancelling_a_waiting_call_stores_what_had_come(communicator: Open, scripted: ScriptedBackend) -> None:
    said = anyio.Event()

    async def tell() -> None:
        await said.wait()

    scripted.add(Stall(after="half"))
    async with communicator() as comm:
        stream = comm.stream_message("arangodb", "one")

        async def ask() -> None:
            async for _ in stream:
                said.set()

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await tell()
            group.cancel_scope.cancel()
        await stream.close()
        question, partial = await only_conversation(comm)
    assert (question.state, partial.state) == (MessageState.FAILED, MessageState.PARTIAL)


async def test_closing_the_communicator_ends_what_runs_and_stores_how(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    scripted.add(Stall(after="half"))
    async with communicator() as comm:
        stream = await comm.stream_message("arangodb", "one")
        async for _ in stream:
            break
    with pytest.raises(TurnFailedError, match="interrupted"):
        await stream.wait()
    async with communicator(backend=ScriptedBackend()) as comm:
        question, partial = await only_conversation(comm)
    assert (question.state, partial.state) == (MessageState.FAILED, MessageState.PARTIAL)
    assert question.error is not None
    assert question.error["type"] == "TurnFailedError"


async def test_a_late_answer_is_a_deadline_error_with_what_had_come(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    scripted.add(Stall(after="half"))
    async with communicator() as comm:
        with anyio.fail_after(10), pytest.raises(DeadlineExceededError) as caught:
            await comm.send_message(target="arangodb", prompt="one", deadline_s=1.5)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.thread_id is not None
        question, partial = await only_conversation(comm)
    assert (question.state, partial.text) == (MessageState.FAILED, "half")


async def test_a_deadline_in_the_past_is_refused_and_nothing_stored(communicator: Open) -> None:
    async with communicator() as comm:
        with pytest.raises(DeadlineExceededError):
            await comm.send_message(target="arangodb", prompt="one", deadline_s=0)
        assert await comm.list_conversations() == []


async def test_a_crash_is_raised_typed_and_the_next_turn_goes_on(communicator: Open, scripted: ScriptedBackend) -> None:
    scripted.add(Crash(after="half", exit_code=139, stderr_tail="boom"))
    async with communicator() as comm:
        with pytest.raises(BackendCrashedError) as caught:
            await comm.send_message(target="arangodb", prompt="one")
        assert (caught.value.exit_code, caught.value.stderr_tail, caught.value.partial) == (139, "boom", "half")
        again = await comm.send_message(target="arangodb", prompt="two")
        assert again.thread_id == caught.value.thread_id
        states = [message.state for message in await only_conversation(comm)]
    assert states == [MessageState.FAILED, MessageState.PARTIAL, MessageState.COMPLETE, MessageState.COMPLETE]


async def test_a_full_pool_refuses_early_and_nothing_is_stored(communicator: Open, scripted: ScriptedBackend) -> None:
    scripted.add(Stall(after="working"))
    limits = {"max_instances": 1, "max_waiting": 0}
    async with communicator(settings=limits) as comm, comm.stream_message("arangodb", "one") as stream:
        async for _ in stream:
            break
        with pytest.raises(PoolExhaustedError) as caught:
            await comm.send_message(target="claude_mcp", prompt="two")
        assert caught.value.retry_after_s > 0
        assert len(await comm.list_conversations()) == 1


async def test_an_idempotency_key_asks_once(communicator: Open, scripted: ScriptedBackend) -> None:
    async with communicator() as comm:
        first = await comm.send_message(target="arangodb", prompt="one", idempotency_key="k")
        again = await comm.send_message(target="arangodb", prompt="one", idempotency_key="k")
    assert (again.message_id, again.response) == (first.message_id, first.response)
    assert len(scripted.requests) == 1


async def test_the_same_key_at_the_same_moment_asks_once(communicator: Open, scripted: ScriptedBackend) -> None:
    replies: list[str] = []
    async with communicator() as one, communicator(backend=scripted) as other:

        async def ask(comm: AsyncCommunicator) -> None:
            replies.append((await comm.send_message("arangodb", "one", idempotency_key="k")).message_id)

        async with anyio.create_task_group() as group:
            for comm in (one, other, one, other):
                group.start_soon(ask, comm)
    assert len(set(replies)) == 1
    assert len(scripted.requests) == 1


async def test_a_key_of_another_question_is_refused(communicator: Open) -> None:
    async with communicator() as comm:
        await comm.send_message(target="arangodb", prompt="one", idempotency_key="k")
        with pytest.raises(ConfigError, match="another question"):
            await comm.send_message(target="arangodb", prompt="two", idempotency_key="k")


async def test_a_failed_question_is_not_asked_again_under_its_key(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    scripted.add(Fail(TurnFailedError("no", reason="server_error")))
    async with communicator() as comm:
        for _ in range(2):
            with pytest.raises(TurnFailedError) as caught:
                await comm.send_message(target="arangodb", prompt="one", idempotency_key="k")
            assert caught.value.reason == "server_error"
    assert len(scripted.requests) == 1


async def test_a_cost_limit_on_a_model_without_a_price_is_refused(communicator: Open) -> None:
    async with communicator(model="unheard-of") as comm:
        with pytest.raises(ConfigError, match="no price"):
            await comm.send_message(target="arangodb", prompt="one", max_cost_usd=1.0)


async def test_a_cost_limit_caps_the_answer(communicator: Open, scripted: ScriptedBackend) -> None:
    async with communicator(model="claude-sonnet-5-5") as comm:
        await comm.send_message(target="arangodb", prompt="one", max_cost_usd=0.02)
        capped = scripted.requests[0].max_output_tokens
        assert 0 < capped < comm.settings.max_output_tokens
        with pytest.raises(BudgetExceededError):
            await comm.send_message(target="arangodb", prompt="two", max_cost_usd=0.000001)


async def test_a_conversation_keeps_its_backend_and_model_unless_told_otherwise(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    async with communicator(model="claude-haiku-5-5") as comm:
        first = await comm.send_message(target="arangodb", prompt="one")
    async with communicator() as comm:
        again = await comm.send_message(target="arangodb", prompt="two", thread_id=first.thread_id)
        assert again.model == "claude-haiku-5-5"
    async with communicator(backend="offline") as comm:
        moved = await comm.send_message(target="arangodb", prompt="page blocks", thread_id=first.thread_id)
        assert (moved.backend, moved.model) == ("offline", "offline")
        stored = await comm.get_conversation(first.thread_id)
    answers = [message for message in stored.messages if message.role is Role.ANSWER]
    assert [answer.backend for answer in answers] == ["scripted", "scripted", "offline"]
    assert len(scripted.requests) == 2
