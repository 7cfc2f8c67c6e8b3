"""The main job on Claude Code, over the communicator: the store finds sessions again, and keeps what was done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from claude_code_support import descendants, last_line

from claude_comms import AsyncCommunicator
from claude_comms.descriptors import Registry
from claude_comms.errors import BudgetExceededError, TurnFailedError
from claude_comms.settings import Settings
from claude_comms.testing import Answer, LoopbackAPI, ToolUse
from claude_comms.types import Refused, Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@dataclass
class House:
    """A home with two registered modules, whose questions go to a loopback API."""

    home: Path
    api: LoopbackAPI

    def comm(self, backend: str | None = None, **changed: object) -> AsyncCommunicator:
        settings = Settings.load(
            {
                "home": self.home,
                "anthropic_api_key": self.api.key,
                "anthropic_base_url": self.api.base_url,
                "daemon": "off",
                **changed,
            }
        )
        return AsyncCommunicator("marker", settings=settings, backend=backend)

    def asked(self) -> list[str]:
        """The questions of the thread, as the model sees them in the latest request."""
        thread = self.api.requests.messages[-1].thread
        return [text.splitlines()[-2] for role, text in thread if role == "user"]


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before = descendants()
    registry = Registry(tmp_path / "home", ())
    for name in ("marker", "arangodb"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(f"# {name}\n\nKeeps things.\n")
        registry.register(name, path=tmp_path / name)
    with LoopbackAPI(lambda request: f"Answer to {last_line(request)}") as api:
        yield House(tmp_path / "home", api)
    assert descendants() <= before


async def test_auto_takes_claude_code_for_a_target_with_a_path_and_it_may_read_there(
    house: House, tmp_path: Path
) -> None:
    target = tmp_path / "arangodb"
    house.api.answer(
        Answer(
            blocks=(
                ToolUse("Read", {"file_path": str(target / "README.md")}),
                ToolUse("Read", {"file_path": str(tmp_path / "marker" / "README.md")}),
            )
        )
    )
    async with house.comm() as comm:
        reply = await comm.send_message("arangodb", "How should I store my page blocks?")
        assert reply.backend == "claude-code"
        assert reply.sources == (Source("file", "README.md"),)
        conversation = await comm.get_conversation(reply.thread_id)
    answer = conversation.messages[-1]
    assert answer.sources == reply.sources
    assert [used.tool for used in answer.tools] == ["Read"]
    assert answer.refusals == (Refused("Read", str(tmp_path / "marker" / "README.md"), "outside the module's path"),)
    assert answer.rebuilt is None


async def test_a_conversation_is_continued_tomorrow_in_the_session_it_had(house: House) -> None:
    async with house.comm() as comm:
        first = await comm.send_message("arangodb", "one")
        await comm.send_message("arangodb", "two")
    async with house.comm() as comm:
        third = await comm.send_message("arangodb", "three", thread_id=first.thread_id)
        conversation = await comm.get_conversation(first.thread_id)
    assert third.thread_id == first.thread_id
    assert house.asked() == ["one", "two", "three"]
    assert [message.rebuilt for message in conversation.messages] == [None] * 6


async def test_a_thread_goes_from_api_to_claude_code_and_back_whole(house: House) -> None:
    async with house.comm(backend="api") as comm:
        thread = (await comm.send_message("arangodb", "one")).thread_id
    for backend, question in (("claude-code", "two"), ("api", "three"), ("claude-code", "four"), ("claude-code", "5")):
        async with house.comm(backend) as comm:
            reply = await comm.send_message("arangodb", question, thread_id=thread)
            assert reply.backend == backend
    assert house.asked() == ["one", "two", "three", "four", "5"]
    async with house.comm() as comm:
        conversation = await comm.get_conversation(thread)
    rebuilt = [message.rebuilt for message in conversation.messages if message.role == "answer"]
    assert [bool(reason) for reason in rebuilt] == [False, True, False, True, False]


async def test_a_refused_tool_of_a_failed_turn_is_on_record_too(house: House) -> None:
    house.api.answer(Answer(blocks=(ToolUse("Bash", {"command": "id"}),)))
    house.api.answer(Answer("half an", stop_reason="max_tokens"))
    async with house.comm() as comm:
        with pytest.raises(TurnFailedError) as raised:
            await comm.send_message("arangodb", "one")
        assert raised.value.thread_id is not None
        conversation = await comm.get_conversation(raised.value.thread_id)
    assert [refused.tool for message in conversation.messages for refused in message.refusals] == ["Bash"]
    assert [str(message.state) for message in conversation.messages] == ["failed", "partial"]


async def test_a_repair_turn_goes_on_in_the_same_session(house: House) -> None:
    house.api.answer("not json")
    house.api.answer('{"collection": "blocks"}')
    schema = {"type": "object", "required": ["collection"]}
    async with house.comm() as comm:
        before = descendants()
        reply = await comm.send_message("arangodb", "one", response_model=schema)
        assert len(descendants() - before) == 2
        conversation = await comm.get_conversation(reply.thread_id)
    assert reply.data == {"collection": "blocks"}
    assert [message.rebuilt for message in conversation.messages] == [None] * 4


async def test_the_stored_usage_equals_what_the_api_counted(house: House) -> None:
    counted = {"input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0}
    async with house.comm() as comm:
        replies = [await comm.send_message("arangodb", f"question {number}") for number in range(3)]
        await comm.create_conversation("arangodb")
        replies += [await comm.send_message("arangodb", f"other {number}") for number in range(3)]
    for reply in replies:
        for name in counted:
            counted[name] += reply.usage[name]
    assert counted["output_tokens"] == sum(-(-len(reply.response) // 4) for reply in replies)
    assert all(reply.usage.cost_usd for reply in replies)


async def test_doctor_finds_claude_code_and_proves_a_turn_when_asked(house: House) -> None:
    async with house.comm() as comm:
        quiet = await comm.diagnose()
        assert house.api.requests.messages == []
        asked = await comm.diagnose(ask=True)
    [check] = [check for check in quiet if check.name == "backend claude-code"]
    assert check.ok
    assert "2.1.329" in check.detail
    assert house.api.key not in json.dumps([check.as_dict() for check in asked])
    [turn] = [check for check in asked if check.name == "one turn"]
    assert turn.ok
    assert turn.detail.startswith("claude-code answered")
    assert "for a module with a path" in turn.detail


async def test_doctor_says_what_a_module_with_a_path_gets_and_what_one_without(house: House, tmp_path: Path) -> None:
    async with house.comm() as comm:
        [choice] = [check for check in await comm.diagnose() if check.name == "new conversations"]
    assert "use claude-code with a module that has a path: " in choice.detail
    assert "api with one that has none: ANTHROPIC_API_KEY is set, and the target has no path" in choice.detail
    old = tmp_path / "claude"
    old.write_text("#!/bin/sh\necho 2.1.197\n")
    old.chmod(0o755)
    async with house.comm(claude_code_binary=old) as comm:
        [choice] = [check for check in await comm.diagnose() if check.name == "new conversations"]
        reply = await comm.send_message("arangodb", "one")
    assert choice.detail.startswith("use api: ANTHROPIC_API_KEY is set, and Claude Code is not usable, because ")
    assert "2.1.197" in choice.detail
    assert reply.backend == "api"


async def test_a_refused_key_is_said_plainly(house: House) -> None:
    from claude_comms.errors import BackendUnavailableError

    house.api.keys = ["another"]
    async with house.comm() as comm:
        with pytest.raises(BackendUnavailableError, match="API key"):
            await comm.send_message("arangodb", "one", deadline_s=20)


def rounds(api: LoopbackAPI, path: Path, count: int) -> None:
    """The model reads a file again and again, at 5 cents each time, and then answers."""
    for number in range(count):
        read = ToolUse("Read", {"file_path": str(path), "offset": number + 1}, id=f"toolu_{number}")
        api.answer(Answer(blocks=(read,), usage={"input_tokens": 20_000, "output_tokens": 1_000}))
    api.answer("That is all.")


async def test_a_turn_whose_tool_calls_cost_more_than_allowed_is_stopped_between_them(
    house: House, tmp_path: Path
) -> None:
    rounds(house.api, tmp_path / "arangodb" / "README.md", 8)
    async with house.comm() as comm:
        with pytest.raises(BudgetExceededError, match="without an answer") as raised:
            await comm.send_message("arangodb", "one", max_cost_usd=0.12)
        over = raised.value
        assert 3 <= len(house.api.requests.messages) <= 4
        assert (over.budget, over.limit) == ("max_cost_usd", 0.12)
        assert 0.12 < over.spent < 0.21
        assert over.thread_id is not None
        stored = (await comm.get_conversation(over.thread_id)).messages
        assert [str(message.state) for message in stored] == ["failed"]
        assert stored[0].error is not None
        assert stored[0].error["type"] == "BudgetExceededError"
        assert stored[0].error["spent"] == pytest.approx(over.spent)
        assert stored[0].usage is not None
        assert stored[0].usage.cost_usd == pytest.approx(over.spent)
        assert stored[0].usage.output_tokens >= 2_000
        assert len(stored[0].tools) >= 2

        house.api.reset()
        before = descendants()
        reply = await comm.send_message("arangodb", "two", thread_id=over.thread_id, max_cost_usd=0.12)
        assert reply.response == "Answer to two"
        assert descendants() == before


async def test_a_turn_with_tool_calls_below_the_limit_is_answered(house: House, tmp_path: Path) -> None:
    rounds(house.api, tmp_path / "arangodb" / "README.md", 2)
    async with house.comm() as comm:
        reply = await comm.send_message("arangodb", "one", max_cost_usd=0.2)
    assert reply.response == "That is all."
    assert reply.usage.cost_usd is not None
    assert 0.1 < reply.usage.cost_usd < 0.2
