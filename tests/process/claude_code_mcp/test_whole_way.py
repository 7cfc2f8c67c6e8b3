"""The communicator and its instances over the stock claude-code-mcp: from the settings to the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from claude_code_mcp_support import allow_bypass, stock_settings, told

from claude_comms import AsyncCommunicator
from claude_comms.communicator import AsyncInstanceManager
from claude_comms.errors import ConfigError, PermissionDeniedError
from claude_comms.types import InstanceLimits

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.settings import Settings
    from claude_comms.testing import LoopbackAPI

pytestmark = pytest.mark.anyio
_SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture
def settings(api: LoopbackAPI, tmp_path: Path, claude_code_mcp: tuple[str, ...], nothing_left: None) -> Settings:
    allow_bypass(tmp_path / "home")
    return stock_settings(tmp_path / "home", api, claude_code_mcp, daemon="off")


async def test_a_conversation_is_kept_by_us_and_asked_whole_and_its_cost_stays_unknown(
    settings: Settings, api: LoopbackAPI
) -> None:
    async with AsyncCommunicator("marker", settings=settings) as comm:
        replies = [await comm.send_message("arangodb", f"Question {number}?") for number in range(3)]
        reply = replies[-1]
        stored = await comm.get_conversation(reply.thread_id)
    assert (reply.backend, reply.usage.cost_usd, reply.usage.output_tokens) == ("bridge", None, 0)
    assert [message.usage.cost_usd for message in stored.messages if message.usage] == [None] * 3
    prompt = told(api.requests.messages[-1].body)
    assert prompt.index("Question 0?") < prompt.index("Question 1?") < prompt.index("Question 2?")
    assert prompt.rstrip().endswith(">")
    assert "Question 2?" in prompt[-80:]


async def test_an_answer_of_a_given_shape_is_read(settings: Settings, api: LoopbackAPI) -> None:
    api.answer('{"n": 7}')
    async with AsyncCommunicator("marker", settings=settings) as comm:
        assert (await comm.send_message("arangodb", "How many?", response_model=_SCHEMA)).data == {"n": 7}


async def test_limits_of_cost_and_tokens_are_refused_before_anything_is_stored(
    settings: Settings, api: LoopbackAPI
) -> None:
    async with AsyncCommunicator("marker", settings=settings) as comm:
        with pytest.raises(ConfigError, match="its cost cannot be capped"):
            await comm.send_message("arangodb", "How much?", max_cost_usd=1.0)
        assert await comm.list_conversations() == []
    async with AsyncInstanceManager(settings) as instances:
        for limits in (InstanceLimits(max_cost_usd=1.0), InstanceLimits(max_tokens=1_000)):
            with pytest.raises(ConfigError, match="neither tokens nor cost can be limited"):
                await instances.start("marker", "arangodb", limits=limits)
    assert len(api.requests.messages) == 0


async def test_what_is_not_allowed_is_refused_all_the_way_and_doctor_says_why(
    api: LoopbackAPI, tmp_path: Path, claude_code_mcp: tuple[str, ...]
) -> None:
    settings = stock_settings(tmp_path / "home", api, claude_code_mcp, daemon="off")
    async with AsyncCommunicator("marker", settings=settings) as comm:
        with pytest.raises(PermissionDeniedError, match="allow_permission_bypass"):
            await comm.send_message("arangodb", "May I?")
        (check,) = [check for check in await comm.diagnose() if check.name == "backend bridge"]
    assert check.ok is None
    assert "permission bypass" in check.detail
    assert "allow_permission_bypass" in check.hint
    assert len(api.requests.messages) == 0


async def test_doctor_says_what_it_found(settings: Settings, claude_code_mcp: tuple[str, ...]) -> None:
    async with AsyncCommunicator("marker", settings=settings) as comm:
        (check,) = [check for check in await comm.diagnose() if check.name == "backend bridge"]
    assert check.ok
    assert " ".join(claude_code_mcp) in check.detail
    assert "Claude Code 2." in check.detail
    assert "grants not enforced" in check.detail
