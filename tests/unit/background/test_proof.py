from __future__ import annotations

import anyio
import pytest
from pool_support import Told, ask, make, nowhere, request, spec

from claude_comms.testing.scripted import ScriptedBackend
from claude_comms.types import InstanceState

pytestmark = pytest.mark.anyio


async def test_a_session_that_answers_stays_and_has_proved_alive() -> None:
    backend = ScriptedBackend(processes=True)
    async with make(backend) as pool:
        instance = pool.get(await ask(pool, spec()))
        backend.sessions[0].last_alive = None
        before = anyio.current_time()
        await pool.prove()
        assert instance.warm
        assert (instance.last_alive or 0) >= before


@pytest.mark.parametrize("paused", [False, True])
async def test_a_session_that_does_not_answer_is_given_up_and_the_next_question_gets_another(paused: bool) -> None:
    backend, told = ScriptedBackend(processes=True), Told()
    async with make(backend, on_event=told) as pool:
        instance = pool.get(await ask(pool, spec()))
        if paused:
            pool.pause(instance.instance_id)
        backend.sessions[0].frozen = True
        await pool.prove(0.01)
        state = InstanceState.PAUSED if paused else InstanceState.HIBERNATED
        assert (instance.state, instance.warm, instance.pid) == (state, False, None)
        if paused:
            pool.resume(instance.instance_id)
        assert await ask(pool, spec()) == instance.instance_id
    assert told.of("instance.restarted") == [{"reason": "it did not answer within 0.01 s."}]


async def test_supervision_proves_from_time_to_time() -> None:
    backend = ScriptedBackend(processes=True)
    async with make(backend) as pool, anyio.create_task_group() as tasks:
        instance = pool.get(await ask(pool, spec()))
        backend.sessions[0].last_alive = None
        tasks.start_soon(pool.supervise, 60.0, 0.01)
        with anyio.fail_after(10):
            while backend.sessions[0].last_alive is None:
                await anyio.lowlevel.checkpoint()
        assert instance.warm
        tasks.cancel_scope.cancel()


async def test_a_question_that_came_before_the_proof_failed_gets_another_session() -> None:
    backend = ScriptedBackend(processes=True)
    async with make(backend) as pool, anyio.create_task_group() as tasks:
        instance = pool.get(await ask(pool, spec()))
        backend.sessions[0].frozen = True
        tasks.start_soon(pool.prove, 0.05)
        await anyio.wait_all_tasks_blocked()
        with await pool.lease(spec(), "c_2") as lease:
            with anyio.fail_after(10):
                while instance.warm:
                    await anyio.lowlevel.checkpoint()
            await lease.ask(request("c_2"), nowhere)
        assert (len(backend.sessions), instance.restarts) == (2, 1)
