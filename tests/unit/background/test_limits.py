from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pool_support import Told, ask, make, nowhere, request, spec

from claude_comms.background._budget import Budget
from claude_comms.errors import BudgetExceededError, InstanceStateError
from claude_comms.testing.scripted import ScriptedBackend
from claude_comms.types import InstanceLimits, InstanceState, Usage

pytestmark = pytest.mark.anyio


async def test_after_its_last_turn_an_instance_stops_and_its_conversation_goes_on_elsewhere() -> None:
    told = Told()
    async with make(on_event=told) as pool:
        instance = await pool.start(spec(), limits=InstanceLimits(max_turns=2))
        assert await ask(pool, spec()) == await ask(pool, spec()) == instance.instance_id
        assert instance.state is InstanceState.STOPPED
        assert await ask(pool, spec()) != instance.instance_id
    assert told.of("instance.stopped")[0] == {"reason": "it has run its 2 turns"}


async def test_a_repair_is_still_run_by_an_instance_at_its_last_turn() -> None:
    async with make() as pool:
        instance = await pool.start(spec(), limits=InstanceLimits(max_turns=1))
        with await pool.lease_instance(instance.instance_id, "c_1") as lease:
            await lease.ask(request(), nowhere)
            assert (await lease.ask(request(), nowhere)).text == "yes"
        assert instance.state is InstanceState.STOPPED


async def test_an_instance_made_for_a_question_gets_the_limits_of_that_question() -> None:
    limits = InstanceLimits(max_turns=9, deadline_s=5)
    async with make() as pool:
        with await pool.lease(spec(), "c_1", limits=limits) as lease:
            assert lease.instance.limits == limits
        assert (await pool.start(spec(), limits=limits)).limits.deadline_s == 5


@pytest.mark.parametrize(
    ("limits", "usage", "budget", "limit"),
    [
        (InstanceLimits(max_tokens=100), Usage(20, 15, 3, 2), "max_tokens", 100),
        (InstanceLimits(max_cost_usd=1.0), Usage(cost_usd=0.4), "max_cost_usd", 1.0),
    ],
    ids=["tokens", "cost"],
)
async def test_beyond_a_budget_questions_are_refused_before_they_are_sent(
    limits: InstanceLimits, usage: Usage, budget: str, limit: float
) -> None:
    backend, told = ScriptedBackend("yes"), Told()
    async with make(backend, places=3, on_event=told) as pool:
        instance = await pool.start(spec(), limits=limits)
        marks: list[int] = []
        for _ in range(4):
            with await pool.lease(spec(), "c_1") as lease:
                await lease.ask(request(), nowhere)
                lease.instance.charge(usage)
            marks.append(len(told.of("budget.warned")) + 10 * len(told.of("budget.exceeded")))
            if marks[-1] >= 10:
                break
        assert marks == [0, 1, 11]
        for wanted in ("c_1", "c_new"):
            with pytest.raises(BudgetExceededError, match="Start another one") as caught:
                await pool.lease(spec(), wanted)
            assert (caught.value.budget, caught.value.limit) == (budget, limit)
        with pytest.raises(BudgetExceededError):
            await pool.lease_instance(instance.instance_id, "c_1")
        assert len(backend.requests) == 3
        assert instance.usage == pool.info(instance).usage == usage + usage + usage + Usage(cost_usd=0.0)
        another = await pool.start(spec())
        assert await ask(pool, spec(), "c_new") == another.instance_id
    (facts,) = told.of("budget.exceeded")
    assert (facts["budget"], facts["limit"]) == (budget, limit)
    assert facts["spent"] >= limit


async def test_a_turn_without_a_known_price_makes_the_total_unknown_and_leaves_the_known_part_limited() -> None:
    budget = Budget(InstanceLimits(max_cost_usd=1.0))
    budget.charge(Usage(cost_usd=0.9))
    assert [crossing.event for crossing in budget.charge(Usage(10, 10))] == []
    assert budget.usage.cost_usd is None
    assert [crossing.event for crossing in budget.charge(Usage(cost_usd=0.2))] == ["budget.exceeded"]


@given(st.lists(st.integers(0, 60), max_size=12), st.integers(1, 200))
def test_each_mark_is_told_once_in_order_and_only_when_it_is_reached(turns: list[int], limit: int) -> None:
    budget = Budget(InstanceLimits(max_tokens=limit))
    told: list[str] = []
    for tokens in turns:
        told += [crossing.event for crossing in budget.charge(Usage(tokens))]
        spent = budget.usage.input_tokens
        assert told == ["budget.warned", "budget.exceeded"][: (spent >= 0.8 * limit) + (spent >= limit)]
        assert (budget.exceeded is not None) == (spent >= limit)


async def test_a_question_that_waits_for_an_instance_at_its_last_turn_is_told_that_it_stopped() -> None:
    async with make() as pool:
        instance = await pool.start(spec(), limits=InstanceLimits(max_turns=1))
        lease = await pool.lease_instance(instance.instance_id, "c_1")
        await lease.ask(request(), nowhere)
        lease.release()
        with pytest.raises(InstanceStateError, match="stopped"):
            await pool.lease_instance(instance.instance_id, "c_1")
