"""Questions that instances ask in turn: their chain, and what the first question still allows."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_comms.engine import LocalEngine
from claude_comms.errors import BudgetExceededError, ConfigError, DeadlineExceededError, LoopError
from claude_comms.jobs import JobRequest, JobState
from claude_comms.settings import Settings
from claude_comms.testing.scripted import Answer, ScriptedBackend, Stall
from claude_comms.types import Question, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from claude_comms.types import Reply

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(
    home: Path, backend: ScriptedBackend, *, hosting: bool = False, **settings: Any
) -> AsyncGenerator[LocalEngine]:
    engine = LocalEngine(
        Settings.load({"home": home, "backend": backend.name, "model": "claude-sonnet-5-5", **settings}),
        backends={backend.name: backend},
        hosting=hosting,
    )
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def asked(engine: LocalEngine, source: str, target: str, **options: Any) -> Reply:
    turn = await engine.ask(Question(source, target, "How?", **options))
    with anyio.fail_after(10):
        return await turn.reply()


async def test_a_backend_is_told_the_chain_the_turn_and_what_may_be_spent(claude_comms_home: Path) -> None:
    backend = ScriptedBackend()
    async with opened(claude_comms_home, backend) as engine:
        await asked(engine, "marker", "arangodb", turn_id="t_1", max_cost_usd=2.0)
        await asked(engine, "arangodb", "claude_mcp", chain=("marker", "arangodb"))
    first, second = backend.requests
    assert (first.turn_id, first.chain, first.max_cost_usd) == ("t_1", ("marker", "arangodb"), 2.0)
    assert second.chain == ("marker", "arangodb", "claude_mcp")
    assert second.max_cost_usd is None


@pytest.mark.parametrize(
    ("source", "target", "chain"),
    [
        ("arangodb", "marker", ("marker", "arangodb")),
        ("claude_mcp", "arangodb", ("anonymous", "arangodb", "claude_mcp")),
        ("arangodb", "arangodb", ("marker", "arangodb")),
    ],
)
async def test_a_question_that_comes_back_is_refused_before_anything_is_stored_or_asked(
    claude_comms_home: Path, source: str, target: str, chain: tuple[str, ...]
) -> None:
    backend = ScriptedBackend()
    async with opened(claude_comms_home, backend) as engine:
        with pytest.raises(LoopError) as raised:
            await asked(engine, source, target, chain=chain)
        assert await engine.list_conversations() == []
    assert raised.value.chain == (*chain, target)
    assert " → ".join(raised.value.chain) in str(raised.value)
    assert backend.requests == []


async def test_a_module_may_still_ask_itself_when_nobody_asked_it(claude_comms_home: Path) -> None:
    async with opened(claude_comms_home, ScriptedBackend("fine")) as engine:
        assert (await asked(engine, "marker", "marker")).response == "fine"


async def test_more_hops_than_the_setting_allows_are_refused(claude_comms_home: Path) -> None:
    chain = ("a", "b", "c", "marker")
    async with opened(claude_comms_home, ScriptedBackend("fine"), max_hops=4) as engine:
        assert (await asked(engine, "marker", "arangodb", chain=chain)).response == "fine"
        with pytest.raises(LoopError, match="max_hops") as raised:
            await asked(engine, "marker", "arangodb", chain=("z", *chain))
    assert raised.value.chain == ("z", *chain, "arangodb")


async def test_nobody_asks_in_the_name_of_another_module(claude_comms_home: Path) -> None:
    async with opened(claude_comms_home, ScriptedBackend()) as engine:
        with pytest.raises(ConfigError, match="Ask as arangodb"):
            await asked(engine, "marker", "claude_mcp", chain=("marker", "arangodb"))


@asynccontextmanager
async def under_way(engine: LocalEngine, stall: Stall, **options: Any) -> AsyncGenerator[None]:
    """While this lasts, arangodb is being asked by marker in the turn ``t_1``."""
    turn = await engine.ask(Question("marker", "arangodb", "First?", turn_id="t_1", **options))
    with anyio.fail_after(10):
        await turn.thread_id()
        yield
        stall.release.set()
        await turn.reply()


async def test_what_a_running_turn_knows_counts_more_than_what_the_question_says(claude_comms_home: Path) -> None:
    stall = Stall(answer="done")
    backend = ScriptedBackend([stall, "fine"])
    async with opened(claude_comms_home, backend) as engine, under_way(engine, stall):
        await asked(engine, "arangodb", "claude_mcp", asked_in="t_1", chain=("arangodb",))
        with pytest.raises(LoopError):
            await asked(engine, "arangodb", "marker", asked_in="t_1", chain=("arangodb",))
    assert backend.requests[1].chain == ("marker", "arangodb", "claude_mcp")


async def test_what_was_asked_in_turn_is_paid_from_the_first_questions_limit(claude_comms_home: Path) -> None:
    stall = Stall(answer="done")
    usage = Usage(input_tokens=0, output_tokens=20_000)
    backend = ScriptedBackend([stall, Answer("dear", usage=usage), Answer("dear", usage=usage)])
    async with opened(claude_comms_home, backend) as engine, under_way(engine, stall, max_cost_usd=0.35):
        first = await asked(engine, "arangodb", "claude_mcp", asked_in="t_1", max_cost_usd=100.0)
        assert first.usage.cost_usd is not None
        assert backend.requests[1].max_cost_usd == pytest.approx(0.35)
        assert 0.175 < first.usage.cost_usd < 0.35
        second = await asked(engine, "arangodb", "claude_mcp", asked_in="t_1")
        assert backend.requests[2].max_cost_usd == pytest.approx(0.35 - first.usage.cost_usd)
        assert second.usage.cost_usd == first.usage.cost_usd
        with pytest.raises(BudgetExceededError):
            await asked(engine, "arangodb", "claude_mcp", asked_in="t_1")


async def test_the_first_questions_own_requests_are_stopped_by_what_others_spent_for_it(
    claude_comms_home: Path,
) -> None:
    stall = Stall(answer="done")
    usage = Usage(output_tokens=20_000)
    backend = ScriptedBackend([stall, Answer("dear", usage=usage)])
    async with opened(claude_comms_home, backend) as engine, under_way(engine, stall, max_cost_usd=0.35):
        await asked(engine, "arangodb", "claude_mcp", asked_in="t_1")
        check = backend.requests[0].check_spent
        assert check is not None
        check([])
        with pytest.raises(BudgetExceededError):
            check([usage])


async def test_the_deadline_travels_with_the_question(claude_comms_home: Path) -> None:
    stall = Stall(answer="done")
    backend = ScriptedBackend([stall, "fine"])
    async with opened(claude_comms_home, backend) as engine, under_way(engine, stall, deadline_s=30):
        await asked(engine, "arangodb", "claude_mcp", asked_in="t_1", deadline_s=500)
    first, second = backend.requests
    assert first.deadline is not None
    assert second.deadline is not None
    assert second.deadline <= first.deadline


async def test_a_turn_past_its_deadline_asks_nothing(claude_comms_home: Path) -> None:
    async with opened(claude_comms_home, ScriptedBackend()) as engine:
        with pytest.raises(DeadlineExceededError):
            await asked(engine, "arangodb", "claude_mcp", chain=("marker", "arangodb"), deadline_s=0)


async def test_a_job_that_would_go_in_circles_is_refused_when_it_is_started(claude_comms_home: Path) -> None:
    async with opened(claude_comms_home, ScriptedBackend(), hosting=True) as engine:
        question = Question("arangodb", "marker", "How?", chain=("marker", "arangodb"))
        with pytest.raises(LoopError):
            await engine.jobs.start(JobRequest(question))
        assert await engine.jobs.list() == []


async def test_a_job_has_a_deadline_of_its_own_and_the_money_of_the_turn_it_was_started_in(
    claude_comms_home: Path,
) -> None:
    stall = Stall(answer="done")
    backend = ScriptedBackend([stall, "fine"])
    async with (
        opened(claude_comms_home, backend, hosting=True) as engine,
        under_way(engine, stall, deadline_s=30, max_cost_usd=0.35),
    ):
        question = Question("arangodb", "claude_mcp", "How?", asked_in="t_1", chain=("marker", "arangodb"))
        job = await engine.jobs.start(JobRequest(question))
        ended = await engine.jobs.wait(job.job_id, timeout_s=10)
    assert ended.state is JobState.DONE
    first, second = backend.requests
    assert first.deadline is not None
    assert second.deadline is not None
    assert second.deadline > first.deadline + 100
    assert second.max_cost_usd == pytest.approx(0.35)
    assert second.chain == ("marker", "arangodb", "claude_mcp")
