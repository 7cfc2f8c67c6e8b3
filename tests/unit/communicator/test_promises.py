"""Corners in which a promise could be broken: stalls beside the model, keys, caps, repairs, wrong arguments."""

from __future__ import annotations

import gc
import json
import math
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pydantic import BaseModel, field_validator

from claude_comms.errors import (
    BudgetExceededError,
    ConfigError,
    DeadlineExceededError,
    ReplyValidationError,
    TurnFailedError,
    UnknownModuleError,
)
from claude_comms.testing.loopback import Answer as ApiAnswer
from claude_comms.testing.loopback import Fault, LoopbackAPI
from claude_comms.testing.scripted import Answer, ScriptedBackend, Stall
from claude_comms.types import MessageState, Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from claude_comms import AsyncCommunicator

    Open = Callable[..., AbstractAsyncContextManager[AsyncCommunicator]]

pytestmark = pytest.mark.anyio

SHAPE = {"type": "object", "required": ["a"]}


# --- every call ends by its deadline ---------------------------------------------------------------


async def test_a_stalled_count_of_tokens_leaves_time_for_the_answer(over_api: Open, loopback_api: LoopbackAPI) -> None:
    loopback_api.fail(Fault.stall(None), path="/v1/messages/count_tokens")
    async with over_api(settings={"context_budget_tokens": 4_000}) as comm:
        reply = await comm.send_message("arangodb", "word " * 1_500, deadline_s=8)
    assert reply.status == "complete"


async def test_a_store_that_another_process_locks_does_not_hold_a_call_beyond_its_deadline(
    communicator: Open, claude_comms_home: Path
) -> None:
    async with communicator() as comm:
        await comm.send_message("arangodb", "one")
        with closing(sqlite3.connect(claude_comms_home / "claude-comms.db")) as other:
            other.execute("begin immediate")
            started = anyio.current_time()
            with pytest.raises(DeadlineExceededError):
                await comm.send_message("arangodb", "two", deadline_s=0.5)
            assert anyio.current_time() - started < 2.5, "the promise itself: deadline plus 2 s"
            other.rollback()
        assert (await comm.send_message("arangodb", "three")).status == "complete"


async def test_waiting_for_somebody_elses_first_question_counts(communicator: Open, scripted: ScriptedBackend) -> None:
    limits = {"max_instances": 1}
    scripted.add(Stall(after="busy"))
    async with communicator(settings=limits) as comm, comm.stream_message("claude_mcp", "hold the place") as stream:
        async for _ in stream:
            break

        async def first() -> None:
            with pytest.raises((DeadlineExceededError, TurnFailedError)):
                await comm.send_message("arangodb", "one", deadline_s=3)

        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await anyio.wait_all_tasks_blocked()
            started = anyio.current_time()
            with pytest.raises(DeadlineExceededError):
                await comm.send_message("arangodb", "two", deadline_s=0.2)
            assert anyio.current_time() - started < 2.2, "the promise itself: deadline plus 2 s"


# --- a key is answered with what would have been answered ------------------------------------------


@pytest.mark.parametrize("second", ["still wrong", "CANNOT: no"])
async def test_an_answer_of_the_wrong_shape_is_wrong_again_under_its_key(
    communicator: Open, scripted: ScriptedBackend, second: str
) -> None:
    scripted.add("wrong", second)
    async with communicator() as comm:
        for _ in range(2):
            with pytest.raises(ReplyValidationError):
                await comm.send_message("arangodb", "one", response_model=SHAPE, idempotency_key="k")
    assert len(scripted.requests) == 2


async def test_a_repaired_answer_comes_back_under_its_key_with_the_usage_of_both_turns(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    scripted.add("wrong", '{"a": 1}')
    async with communicator() as comm:
        first = await comm.send_message("arangodb", "one", response_model=SHAPE, idempotency_key="k")
        again = await comm.send_message("arangodb", "one", response_model=SHAPE, idempotency_key="k")
    assert (again.data, again.usage, again.message_id) == (first.data, first.usage, first.message_id)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"data": 1}, {"data": 2}), ({"context": {"data": "a"}}, {"context": {"data": "b"}})],
)
async def test_other_data_or_context_is_another_question(
    communicator: Open, one: dict[str, Any], other: dict[str, Any]
) -> None:
    async with communicator() as comm:
        await comm.send_message("arangodb", "one", idempotency_key="k", **one)
        with pytest.raises(ConfigError, match="another question"):
            await comm.send_message("arangodb", "one", idempotency_key="k", **other)


async def test_a_validator_of_the_callers_that_fails_is_a_problem_and_wedges_nothing(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    class Broken(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def _break(cls, value: int) -> int:
            raise RuntimeError(f"a bug on {value}")

    scripted.add('{"a": 1}', '{"a": 2}')
    async with communicator() as comm:
        with pytest.raises(ReplyValidationError, match="RuntimeError: a bug on 2"):
            await comm.send_message("arangodb", "one", response_model=Broken)
        assert (await comm.send_message("arangodb", "two", deadline_s=10)).status == "complete"


async def test_an_abandoned_stream_is_interrupted(communicator: Open, scripted: ScriptedBackend) -> None:
    scripted.add(Stall(after="half"))
    async with communicator() as comm:
        pieces = aiter(await comm.stream_message("arangodb", "one"))
        assert await anext(pieces) == "half"
        del pieces
        gc.collect()
        reply = await comm.send_message("arangodb", "two", deadline_s=10)
        first, *_ = (await comm.get_conversation(reply.thread_id)).messages
    assert first.state is MessageState.FAILED


# --- costs are capped ------------------------------------------------------------------------------


async def test_with_a_cap_tokens_are_counted_not_estimated(over_api: Open, loopback_api: LoopbackAPI) -> None:
    async with over_api() as comm:
        await comm.send_message("arangodb", "one", max_cost_usd=1.0)
    assert any(request.path.startswith("/v1/messages/count_tokens") for request in loopback_api.requests)


async def test_what_the_cap_refuses_leaves_no_trace(over_api: Open, loopback_api: LoopbackAPI) -> None:
    async with over_api() as comm:
        with pytest.raises(BudgetExceededError):
            await comm.send_message("arangodb", "one", max_cost_usd=0.0000001)
        assert await comm.list_conversations() == []
    assert loopback_api.requests.messages == []


async def test_an_answer_that_the_cap_cut_is_a_budget_error(over_api: Open, loopback_api: LoopbackAPI) -> None:
    loopback_api.answer(ApiAnswer("cut", stop_reason="max_tokens"))
    async with over_api() as comm:
        with pytest.raises(BudgetExceededError) as caught:
            await comm.send_message("arangodb", "one", max_cost_usd=0.02)
        assert caught.value.thread_id is not None
        assert (caught.value.limit, caught.value.spent > 0) == (0.02, True)


async def test_the_repair_has_what_the_first_turn_left_of_money_and_time(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    scripted.add(Answer("wrong", usage=Usage(cost_usd=0.02)), '{"a": 1}')
    async with communicator(model="claude-sonnet-5-5") as comm:
        await comm.send_message("arangodb", "one", response_model=SHAPE, max_cost_usd=0.08, deadline_s=30)
    first, repair = scripted.requests
    assert repair.max_output_tokens < first.max_output_tokens * 0.7
    assert repair.deadline == first.deadline


async def test_the_date_of_the_prices_is_kept_with_the_cost(over_api: Open) -> None:
    async with over_api() as comm:
        reply = await comm.send_message("arangodb", "one")
        *_, answer = (await comm.get_conversation(reply.thread_id)).messages
    assert answer.usage is not None
    assert answer.usage.cost_usd
    assert answer.price_date is not None
    assert answer.price_date.startswith("20")


async def test_a_lone_surrogate_in_a_shaped_answer_is_a_problem(communicator: Open, scripted: ScriptedBackend) -> None:
    scripted.add('{"a": "\\ud800"}', json.dumps({"a": "mended"}))
    async with communicator() as comm:
        reply = await comm.send_message("arangodb", "one", response_model=SHAPE)
    assert reply.data == {"a": "mended"}
    assert "Unicode" in scripted.requests[1].prompt.question


# --- wrong arguments are told at the door ----------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"target": "arangodb", "prompt": 5},
        {"target": None, "prompt": "x"},
        {"target": "arangodb", "prompt": "x", "deadline_s": math.nan},
        {"target": "arangodb", "prompt": "x", "deadline_s": "soon"},
        {"target": "arangodb", "prompt": "x", "template": 5},
        {"target": "arangodb", "prompt": "x", "context": "x"},
        {"target": "arangodb", "prompt": "x", "thread_id": 5},
        {"target": "arangodb", "prompt": "x", "max_cost_usd": math.inf},
    ],
)
async def test_arguments_of_the_wrong_kind_are_config_errors(communicator: Open, arguments: dict[str, Any]) -> None:
    async with communicator() as comm:
        with pytest.raises(ConfigError):
            await comm.send_message(**arguments)


async def test_a_conversation_with_nobody_and_a_state_of_nothing_are_refused(communicator: Open) -> None:
    async with communicator() as comm:
        with pytest.raises(UnknownModuleError):
            await comm.create_conversation("nope")
        with pytest.raises(ConfigError, match="active, archived or all"):
            await comm.list_conversations(state="zz")  # pyright: ignore[reportArgumentType]


async def test_a_backend_setting_that_nobody_knows_is_told_with_its_origin(
    claude_comms_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from claude_comms import AsyncCommunicator

    monkeypatch.setenv("CLAUDE_COMMS_BACKEND", "bogus")
    async with AsyncCommunicator("marker") as comm:
        with pytest.raises(ConfigError, match="CLAUDE_COMMS_BACKEND: no backend 'bogus'"):
            await comm.send_message("arangodb", "one")
    assert not (claude_comms_home / "claude-comms.db").exists()
