"""Data that goes with a question, and answers of a given shape."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, field_validator

from claude_comms.errors import ConfigError, ContextError, ReplyValidationError
from claude_comms.testing.scripted import ScriptedBackend
from claude_comms.types import BackendFeatures, Role

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from claude_comms import AsyncCommunicator

    Open = Callable[..., AbstractAsyncContextManager[AsyncCommunicator]]

pytestmark = pytest.mark.anyio


class Plan(BaseModel):
    collections: list[str]
    shards: int

    @field_validator("shards")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("shards must be even")
        return value


@dataclasses.dataclass
class Point:
    x: int
    when: datetime


class Colour(enum.Enum):
    RED = "red"


GOOD = json.dumps({"collections": ["blocks"], "shards": 2})
BAD = json.dumps({"collections": "blocks", "shards": 2})


async def test_an_answer_of_the_right_shape_becomes_the_callers_type(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    scripted.add(GOOD)
    async with communicator() as comm:
        reply = await comm.send_message(target="arangodb", prompt="one", response_model=Plan)
        assert reply.data == Plan(collections=["blocks"], shards=2)
        stored = await comm.get_conversation(reply.thread_id)
    assert stored.messages[-1].data == {"collections": ["blocks"], "shards": 2}
    assert json.loads(json.dumps(reply.as_dict()))["data"]["shards"] == 2


async def test_a_fenced_answer_serves(communicator: Open, scripted: ScriptedBackend) -> None:
    scripted.add(f"Here it is:\n\n```json\n{GOOD}\n```")
    async with communicator() as comm:
        reply = await comm.send_message(target="arangodb", prompt="one", response_model=Plan)
    assert reply.data.shards == 2


async def test_a_wrong_answer_is_repaired_once_with_the_exact_problems(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    scripted.add(BAD, GOOD)
    async with communicator() as comm:
        reply = await comm.send_message(target="arangodb", prompt="one", response_model=Plan)
        stored = await comm.get_conversation(reply.thread_id)
    assert reply.data.collections == ["blocks"]
    repair = scripted.requests[1].prompt
    assert "collections" in repair.question
    assert 'is not of type "array"' in repair.question
    assert repair.history[-1].text == BAD
    assert [message.role for message in stored.messages] == [Role.QUESTION, Role.ANSWER] * 2
    used = [message.usage for message in stored.messages if message.usage is not None]
    assert reply.usage.output_tokens == sum(usage.output_tokens for usage in used)


async def test_what_only_the_model_class_can_check_is_repaired_too(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    scripted.add(json.dumps({"collections": [], "shards": 3}), GOOD)
    async with communicator() as comm:
        await comm.send_message(target="arangodb", prompt="one", response_model=Plan)
    assert "shards must be even" in scripted.requests[1].prompt.question


async def test_a_second_wrong_answer_is_an_error_that_says_what_is_wrong(
    communicator: Open, scripted: ScriptedBackend
) -> None:
    scripted.add(BAD, "not even JSON")
    async with communicator() as comm:
        with pytest.raises(ReplyValidationError, match="not JSON") as caught:
            await comm.send_message(target="arangodb", prompt="one", response_model=Plan)
    assert caught.value.response == "not even JSON"
    assert caught.value.thread_id is not None
    assert len(scripted.requests) == 2


async def test_a_module_that_says_it_cannot_is_not_asked_again(communicator: Open, scripted: ScriptedBackend) -> None:
    scripted.add("CANNOT: I know nothing about walruses.")
    async with communicator() as comm:
        with pytest.raises(ReplyValidationError) as caught:
            await comm.send_message(target="arangodb", prompt="one", response_model=Plan)
    assert "walruses" in caught.value.response
    assert len(scripted.requests) == 1


async def test_a_shaped_answer_streams_only_once_it_is_valid(communicator: Open, scripted: ScriptedBackend) -> None:
    scripted.add(BAD, GOOD)
    async with communicator() as comm, comm.stream_message("arangodb", "one", response_model=Plan) as stream:
        pieces = [piece async for piece in stream]
    assert "".join(pieces) == stream.reply.response == GOOD


@pytest.mark.parametrize("shape", [{"type": "integer"}, int, list[int] | int])
async def test_schemas_and_any_type_that_pydantic_knows_serve(
    communicator: Open, scripted: ScriptedBackend, shape: Any
) -> None:
    scripted.add("7")
    async with communicator() as comm:
        assert (await comm.send_message(target="arangodb", prompt="one", response_model=shape)).data == 7


async def test_a_type_without_a_schema_is_refused(communicator: Open) -> None:
    class Opaque:
        pass

    async with communicator() as comm:
        with pytest.raises(ConfigError, match="response_model"):
            await comm.send_message(target="arangodb", prompt="one", response_model=Opaque)


async def test_a_backend_that_gives_no_shapes_refuses_them(communicator: Open) -> None:
    plain = ScriptedBackend(features=BackendFeatures(streaming=True))
    async with communicator(backend=plain) as comm:
        with pytest.raises(ConfigError, match="shape"):
            await comm.send_message(target="arangodb", prompt="one", response_model=Plan)
        assert await comm.list_conversations() == []


async def test_offline_refuses_shapes(communicator: Open) -> None:
    async with communicator(backend="offline") as comm:
        with pytest.raises(ConfigError, match="offline"):
            await comm.send_message(target="arangodb", prompt="one", response_model=Plan)


WHEN = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"a": [1, 2.5, None, True, "é"]}, {"a": [1, 2.5, None, True, "é"]}),
        (Plan(collections=["a"], shards=4), {"collections": ["a"], "shards": 4}),
        (Point(1, WHEN), {"x": 1, "when": WHEN.isoformat()}),
        (WHEN, WHEN.isoformat()),
        (date(2026, 11, 21), "2026-11-21"),
        (Decimal("0.10"), "0.10"),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (Colour.RED, "red"),
        ({"nested": [Point(2, WHEN), (Colour.RED, Decimal(1))]}, None),
        (2**70, 2**70),
    ],
)
async def test_a_data_value_of_each_kind_round_trips(
    communicator: Open, scripted: ScriptedBackend, value: Any, stored: Any
) -> None:
    async with communicator() as comm:
        reply = await comm.send_message(target="arangodb", prompt="one", data=value)
        conversation = await comm.get_conversation(reply.thread_id)
        exported = json.loads(await comm.export_conversation(reply.thread_id))
    kept = conversation.messages[0].data
    assert stored is None or kept == stored
    assert exported["messages"][0]["data"] == kept
    sent = scripted.requests[0].prompt.message
    fenced = sent[sent.index("<data-") :].split("\n", 1)[1].split("\n</data-", 1)[0]
    assert json.loads(fenced) == kept


async def test_data_that_is_no_json_value_is_refused_with_its_path(communicator: Open) -> None:
    async with communicator() as comm:
        with pytest.raises(ContextError, match=r"data\.rows\[1\]\.blob: bytes"):
            await comm.send_message(target="arangodb", prompt="one", data={"rows": [1, {"blob": b"x"}]})
        assert await comm.list_conversations() == []
