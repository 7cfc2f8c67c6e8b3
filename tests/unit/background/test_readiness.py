from __future__ import annotations

import anyio
import pytest
from pool_support import Clock, Memory, Told, ask, make, nowhere, request, spec

from claude_comms.background.pool import Pool, Reclaiming
from claude_comms.errors import BackendCrashedError, BackendUnavailableError
from claude_comms.testing.scripted import ScriptedBackend
from claude_comms.types import InstanceState, TurnRequest

pytestmark = pytest.mark.anyio


async def make_request() -> TurnRequest:
    return request("c_none")


def fresh(pool: Pool) -> list[str]:
    """The ready ones: idle, warm, without a conversation."""
    return [
        instance.instance_id
        for instance in pool.list()
        if instance.state is InstanceState.IDLE and instance.warm and instance.thread_id is None
    ]


async def test_start_warms_the_session_for_questions_like_the_one_given() -> None:
    backend = ScriptedBackend("yes")
    async with make(backend) as pool:
        wanted = request()
        instance = await pool.start(spec(), "mine", warm=wanted)
        assert backend.warmed == [wanted]
        assert not backend.requests, "nothing was asked"
        assert await ask(pool, spec()) == instance.instance_id
        assert len(backend.sessions) == 1


async def test_start_that_cannot_warm_its_session_fails_as_one_that_cannot_open_it() -> None:
    backend = ScriptedBackend("yes")
    backend.warm_error = BackendUnavailableError("not logged in")
    async with make(backend) as pool:
        with pytest.raises(BackendUnavailableError, match="not logged in"):
            await pool.start(spec(), "mine", warm=request())
        assert pool.list() == []
        assert pool.get("mine").state is InstanceState.FAILED


async def test_the_wanted_number_is_kept_ready_and_filled_up_when_one_takes_a_conversation() -> None:
    backend = ScriptedBackend("yes")
    async with make(backend, places=5) as pool:
        pool.keep_ready(spec(), 2, make_request)
        await pool.fill_ready()
        ready = fresh(pool)
        assert len(ready) == len(backend.warmed) == 2
        await pool.fill_ready()
        assert fresh(pool) == ready, "enough is enough"
        assert await ask(pool, spec(), "c_1") in ready
        assert len(fresh(pool)) == 1
        await pool.fill_ready()
        assert len(fresh(pool)) == 2
        assert await ask(pool, spec(), "c_1") in ready, "the conversation stays where it is"
        assert len(fresh(pool)) == 2


async def test_supervision_fills_up_at_once_when_one_is_taken() -> None:
    backend = ScriptedBackend("yes")
    async with make(backend, places=5) as pool, anyio.create_task_group() as group:
        pool.keep_ready(spec(), 1, make_request)
        group.start_soon(pool.supervise, 3600.0)
        with anyio.fail_after(10):
            while len(fresh(pool)) < 1:
                await anyio.lowlevel.checkpoint()
            first = await ask(pool, spec(), "c_1")
            while len(fresh(pool)) < 1:
                await anyio.lowlevel.checkpoint()
        assert first not in fresh(pool)
        group.cancel_scope.cancel()


async def test_a_new_conversation_takes_a_ready_instance_before_one_that_has_a_conversation() -> None:
    async with make(places=5) as pool:
        held = await ask(pool, spec(), "c_1")
        pool.keep_ready(spec(), 1, make_request)
        await pool.fill_ready()
        (ready,) = fresh(pool)
        assert await ask(pool, spec(), "c_2") == ready
        assert await ask(pool, spec(), "c_1") == held


async def test_what_is_ready_is_neither_idle_too_long_nor_the_first_to_make_room() -> None:
    clock = Clock()
    rules = Reclaiming(max_idle_s=60, max_warm=1)
    async with make(places=2, clock=clock, reclaiming=rules) as pool:
        pool.keep_ready(spec("ready"), 1, make_request)
        await pool.fill_ready()
        (ready,) = fresh(pool)
        clock.now += 50
        used = await ask(pool, spec("b"), "c_1")
        clock.now += 50
        await pool.look()
        assert fresh(pool) == [ready]
        assert pool.get(used).state is InstanceState.HIBERNATED, "of the two warm ones it was the other's turn"
        clock.now += 50
        await ask(pool, spec("c"), "c_2")
        assert fresh(pool) == [ready]
        assert pool.get(used).state is InstanceState.STOPPED


async def test_what_is_ready_makes_room_after_all_others_with_a_name_or_without() -> None:
    async with make(places=2) as pool:
        pool.keep_ready(spec("ready"), 1, make_request)
        await pool.fill_ready()
        ready = fresh(pool)
        named = await pool.start(spec("b"), "mine")
        await ask(pool, spec("c"), "c_1")
        assert named.state is InstanceState.STOPPED
        assert fresh(pool) == ready


async def test_keeping_ready_displaces_nobody_but_the_hibernated() -> None:
    async with make(places=1) as pool:
        used = await ask(pool, spec("b"), "c_1")
        pool.keep_ready(spec("ready"), 1, make_request)
        await pool.fill_ready()
        assert (fresh(pool), pool.get(used).state) == ([], InstanceState.IDLE)
        pool.hibernate(used)
        await pool.fill_ready()
        assert len(fresh(pool)) == 1


async def test_when_memory_is_short_the_ready_are_given_up_last_and_not_started_again_until_there_is_some() -> None:
    memory = Memory()
    backend = ScriptedBackend(processes=True)
    async with make(backend, places=3, measure=memory, reclaiming=Reclaiming(max_memory_mb=100)) as pool:
        pool.keep_ready(spec("ready"), 1, make_request)
        await pool.fill_ready()
        busy = await pool.lease(spec("b"), "c_1")
        await busy.ask(request(), nowhere)
        memory.mib = {session.pid or 0: 200 for session in backend.sessions}
        await pool.look()
        assert fresh(pool) == []
        await pool.look()
        assert fresh(pool) == [], "the busy one alone takes too much"
        memory.mib = {busy.instance.pid or 0: 50}
        await pool.look()
        assert len(fresh(pool)) == 1
        busy.release()


async def test_what_is_ready_is_not_started_and_given_up_in_turns_where_it_does_not_fit() -> None:
    clock, memory, told = Clock(), Memory(), Told()
    backend = ScriptedBackend(processes=True)
    rules = Reclaiming(max_memory_mb=500, max_warm=1)
    async with make(backend, places=5, clock=clock, measure=memory, reclaiming=rules, on_event=told) as pool:
        busy = [await pool.lease(spec(f"t{number}"), f"c_{number}") for number in range(2)]
        for lease in busy:
            await lease.ask(request(lease.thread_id or ""), nowhere)
        pool.keep_ready(spec("ready"), 2, make_request)

        async def rounds(mib: int) -> int:
            for _ in range(5):
                memory.mib = {session.pid or 0: mib for session in backend.sessions}
                await pool.look()
                clock.now += 5
            return len(backend.sessions)

        assert await rounds(200) == 2, "two that are busy: a third would be too much"
        assert await rounds(100) == 4, "now there is room"
        assert len(fresh(pool)) == 2, "and more than max_warm"
        assert await rounds(200) == 4, "given up, and that was it"
        assert told.of("instance.stopped") == [{"reason": "memory"}] * 2
        for lease in busy:
            lease.release()


async def test_an_old_or_a_dead_ready_instance_is_replaced_by_a_new_one() -> None:
    clock, backend = Clock(), ScriptedBackend("yes")
    async with make(backend, clock=clock, reclaiming=Reclaiming(max_age_s=60)) as pool:
        pool.keep_ready(spec(), 1, make_request)
        await pool.look()
        (first,) = fresh(pool)
        clock.now += 61
        await pool.look()
        (second,) = fresh(pool)
        backend.sessions[1].kill()
        await anyio.wait_all_tasks_blocked()
        assert fresh(pool) == []
        await pool.look()
        (third,) = fresh(pool)
        assert len({first, second, third}) == 3
        assert [instance.instance_id for instance in pool.list()] == [third]


async def test_what_cannot_be_made_ready_is_tried_again_later_and_never_spins() -> None:
    clock, backend = Clock(), ScriptedBackend("yes", open_error=BackendUnavailableError("no key"))
    told = Told()
    async with make(backend, clock=clock, on_event=told) as pool:
        pool.keep_ready(spec(), 1, make_request)
        for _ in range(3):
            await pool.look()
        assert told.names == ["instance.failed"]
        backend.open_error = None
        clock.now += 30
        await pool.look()
        assert len(fresh(pool)) == 1


async def test_a_session_that_dies_at_every_warming_is_a_storm() -> None:
    clock, backend, told = Clock(), ScriptedBackend("yes"), Told()
    backend.warm_error = BackendCrashedError("dies of warmth.")
    async with make(backend, clock=clock, on_event=told) as pool:
        pool.keep_ready(spec(), 1, make_request)
        for _ in range(20):
            clock.now += 5
            await pool.look()
        assert len(backend.sessions) <= 5


async def test_keeping_none_ready_ends_it_and_what_is_ready_becomes_like_others() -> None:
    clock = Clock()
    async with make(places=3, clock=clock, reclaiming=Reclaiming(max_idle_s=60)) as pool:
        pool.keep_ready(spec(), 1, make_request)
        await pool.fill_ready()
        (ready,) = fresh(pool)
        pool.keep_ready(spec(), 0)
        clock.now += 61
        await pool.look()
        assert pool.get(ready).state is InstanceState.HIBERNATED
        assert len(pool.list()) == 1


async def test_supervision_goes_on_after_a_round_that_failed() -> None:
    backend, clock = ScriptedBackend("yes", processes=True), Clock()
    rounds: list[int] = []

    def measure(pids: object) -> dict[int, int]:
        rounds.append(1)
        raise OSError("no /proc")

    async with make(backend, clock=clock, measure=measure) as pool, anyio.create_task_group() as group:
        await pool.start(spec())
        group.start_soon(pool.supervise, 0.001)
        with anyio.fail_after(10):
            while len(rounds) < 3:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
