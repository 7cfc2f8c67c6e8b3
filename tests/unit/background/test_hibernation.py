from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from pool_support import Clock, Memory, Told, ask, make, nowhere, request, spec

from claude_comms.background.pool import Reclaiming
from claude_comms.errors import ConfigError, InstanceStateError, PoolExhaustedError
from claude_comms.testing.scripted import ScriptedBackend
from claude_comms.types import InstanceLimits, InstanceState, Usage

if TYPE_CHECKING:
    from claude_comms.background.instance import Instance

pytestmark = pytest.mark.anyio


async def test_a_hibernated_instance_has_no_session_and_keeps_its_conversation_for_the_next_question() -> None:
    backend, told = ScriptedBackend(), Told()
    async with make(backend, places=3, on_event=told) as pool:
        with await pool.lease(spec(), "c_1") as lease:
            handle = (await lease.ask(request(), nowhere)).session_handle
        instance = pool.hibernate(lease.instance.instance_id)
        assert (instance.state, instance.warm, instance.thread_id) == (InstanceState.HIBERNATED, False, "c_1")
        with anyio.fail_after(5):
            while not backend.sessions[0].closed:
                await anyio.lowlevel.checkpoint()
        with await pool.lease(spec(), "c_1") as lease:
            assert lease.instance is instance
            assert (await lease.ask(request(handle=handle), nowhere)).session_handle == handle
        assert (instance.state, instance.warm, len(backend.sessions)) == (InstanceState.IDLE, True, 2)
        assert instance.restarts == 0, "it was not replaced after a fault"
    assert told.of("instance.hibernated") == [{"reason": "asked"}]


async def test_a_busy_instance_does_not_hibernate_and_a_paused_one_gives_up_its_session_and_stays_paused() -> None:
    async with make() as pool:
        held = await ask(pool, spec())
        with await pool.lease(spec(), "c_1"), pytest.raises(InstanceStateError, match="busy"):
            pool.hibernate(held)
        pool.pause(held)
        instance = pool.hibernate(held)
        assert (instance.state, instance.warm) == (InstanceState.PAUSED, False)
        pool.resume(held)
        assert await ask(pool, spec()) == held


async def test_a_new_conversation_prefers_a_warm_instance_to_a_hibernated_one() -> None:
    async with make(places=3) as pool:
        first, second = await pool.lease(spec(), "c_1"), await pool.lease(spec(), "c_2")
        for lease in (first, second):
            await lease.ask(request(lease.thread_id or ""), nowhere)
            lease.release()
        pool.hibernate(first.instance.instance_id)
        await ask(pool, spec(), "c_2")  # now the hibernated one has rested longer
        assert await ask(pool, spec(), "c_3") == second.instance.instance_id
        assert await ask(pool, spec(), "c_1") == first.instance.instance_id


async def test_a_hibernated_instance_makes_room_before_a_warm_one_that_has_rested_longer() -> None:
    async with make(places=2) as pool:
        warm, asleep = await ask(pool, spec("b"), "c_1"), await ask(pool, spec("c"), "c_2")
        pool.hibernate(asleep)
        await ask(pool, spec("d"), "c_3")
        assert pool.get(asleep).state is InstanceState.STOPPED
        assert pool.get(warm).state is InstanceState.IDLE


async def test_whoever_is_told_of_an_instance_can_see_it_as_it_stands_then() -> None:
    seen: list[tuple[str, InstanceState, str | None]] = []

    def look(event: str, instance: Instance, /, **_facts: object) -> None:
        info = pool.info(instance)
        seen.append((event.removeprefix("instance."), info.state, info.thread_id))

    async with make(on_event=look) as pool:
        await ask(pool, spec(), "c_1")
        pool.hibernate(await ask(pool, spec(), "c_2"))
    assert seen == [
        ("started", InstanceState.IDLE, None),
        ("busy", InstanceState.BUSY, "c_1"),
        ("idle", InstanceState.IDLE, "c_1"),
        ("busy", InstanceState.BUSY, "c_2"),
        ("idle", InstanceState.IDLE, "c_2"),
        ("hibernated", InstanceState.HIBERNATED, "c_2"),
        ("stopped", InstanceState.STOPPED, "c_2"),
    ]


async def test_an_instance_with_a_name_makes_room_after_those_without() -> None:
    async with make(places=2) as pool:
        named = await pool.start(spec("b"), "mine")
        unnamed = await ask(pool, spec("c"), "c_2")
        await ask(pool, spec("d"), "c_3")
        assert (named.state, pool.get(unnamed).state) == (InstanceState.IDLE, InstanceState.STOPPED)


async def test_idle_instances_hibernate_after_the_time_that_is_set_or_their_own() -> None:
    clock, told = Clock(), Told()
    async with make(places=3, clock=clock, on_event=told, reclaiming=Reclaiming(max_idle_s=60)) as pool:
        usual = await pool.start(spec("b"))
        patient = await pool.start(spec("c"), limits=InstanceLimits(max_idle_s=600))
        clock.now += 59
        await pool.look()
        assert usual.state is InstanceState.IDLE
        clock.now += 2
        await pool.look()
        assert (usual.state, patient.state) == (InstanceState.HIBERNATED, InstanceState.IDLE)
        clock.now += 600
        await pool.look()
        assert patient.state is InstanceState.HIBERNATED
    assert told.of("instance.hibernated") == [{"reason": "idleness"}] * 2


async def test_a_question_ends_idleness() -> None:
    clock = Clock()
    async with make(clock=clock, reclaiming=Reclaiming(max_idle_s=60)) as pool:
        held = await ask(pool, spec())
        for _ in range(3):
            clock.now += 40
            await ask(pool, spec())
        await pool.look()
        assert pool.get(held).state is InstanceState.IDLE


async def test_an_old_session_is_given_up_when_its_instance_is_idle_and_not_before() -> None:
    clock = Clock()
    async with make(clock=clock, reclaiming=Reclaiming(max_age_s=100)) as pool:
        instance = await pool.start(spec())
        with await pool.lease(spec(), "c_1") as lease:
            clock.now += 101
            await pool.look()
            await lease.ask(request(), nowhere)
        await pool.look()
        assert (instance.state, instance.warm) == (InstanceState.HIBERNATED, False)
        await ask(pool, spec())
        clock.now += 50
        await pool.look()
        assert instance.state is InstanceState.IDLE, "the age is the session's, not the instance's"


async def test_of_too_many_warm_ones_those_that_rested_longest_hibernate() -> None:
    clock = Clock()
    async with make(places=4, clock=clock, reclaiming=Reclaiming(max_warm=2)) as pool:
        ids: list[str] = []
        for number in range(3):
            ids.append(await ask(pool, spec(f"t{number}"), f"c_{number}"))
            clock.now += 1
        await ask(pool, spec("t0"), "c_0")
        await pool.look()
        assert [pool.get(one).state for one in ids] == [
            InstanceState.IDLE,
            InstanceState.HIBERNATED,
            InstanceState.IDLE,
        ]


async def test_when_all_processes_together_take_too_much_memory_those_that_rested_longest_hibernate() -> None:
    clock, memory, told = Clock(), Memory(), Told()
    backend = ScriptedBackend(processes=True)
    async with make(
        backend,
        places=4,
        clock=clock,
        measure=memory,
        reclaiming=Reclaiming(max_memory_mb=500),
        on_event=told,
    ) as pool:
        instances: list[Instance] = []
        for number in range(3):
            instances.append(await pool.start(spec(f"t{number}")))
            clock.now += 1
        memory.mib = {instance.pid or 0: 200 for instance in instances}
        with await pool.lease(spec("t0"), "c_1"):
            await pool.look()
        assert [instance.state for instance in instances] == [
            InstanceState.IDLE,
            InstanceState.HIBERNATED,
            InstanceState.IDLE,
        ], "the first was busy, the second had rested longest, and then it was enough"
        assert [instance.rss_bytes for instance in instances] == [200 << 20, None, 200 << 20]
    assert told.of("instance.hibernated") == [{"reason": "memory"}]


async def test_an_adopted_instance_is_hibernated_and_its_next_question_goes_on_where_it_was() -> None:
    backend, told = ScriptedBackend("yes"), Told()
    limits = InstanceLimits(max_tokens=100)
    async with make(backend, on_event=told) as pool:
        instance = pool.adopt(
            spec(),
            instance_id="i_before",
            name="mine",
            limits=limits,
            thread_id="c_1",
            turns=7,
            restarts=2,
            usage=Usage(50, 40, cost_usd=0.5),
        )
        info = pool.info(instance)
        assert (info.instance_id, info.name, info.state) == ("i_before", "mine", InstanceState.HIBERNATED)
        assert (info.turns, info.restarts, info.usage.cost_usd) == (7, 2, 0.5)
        assert (info.limits, info.thread_id) == (limits, "c_1")
        assert not backend.sessions
        assert await ask(pool, spec(), "c_1") == "i_before"
        assert instance.turns == 8
        assert "budget.warned" not in told.names, "that was told in the former process"
        instance.charge(Usage(10, 0))
        assert "budget.exceeded" in told.names


async def test_an_instance_that_was_paused_is_adopted_paused() -> None:
    async with make(wait_s=0.01) as pool:
        instance = pool.adopt(spec(), instance_id="i_before", state=InstanceState.PAUSED, thread_id="c_1")
        with pytest.raises(PoolExhaustedError, match="is paused"):
            await pool.lease(spec(), "c_1")
        pool.resume("i_before")
        assert await ask(pool, spec(), "c_1") == instance.instance_id


async def test_adopting_twice_or_one_too_many_is_refused() -> None:
    async with make(places=1) as pool:
        pool.adopt(spec(), instance_id="i_1", name="mine")
        with pytest.raises(ConfigError, match="i_1"):
            pool.adopt(spec(), instance_id="i_1")
        with pytest.raises(ConfigError, match="mine"):
            pool.adopt(spec(), instance_id="i_2", name="mine")
        with pytest.raises(PoolExhaustedError):
            pool.adopt(spec(), instance_id="i_2")
        with pytest.raises(ConfigError, match="no backend"):
            pool.adopt(spec(backend="gone"), instance_id="i_3")
