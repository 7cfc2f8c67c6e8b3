from __future__ import annotations

import os
import subprocess
import sys

import anyio
import pytest
from pool_support import Clock, Memory, Told, ask, make, nowhere, request, spec

from claude_comms.background._memory import measure_trees
from claude_comms.errors import BackendCrashedError, BackendProtocolError, BackendUnavailableError
from claude_comms.testing.scripted import Crash, Garbage, IgnoreCancellation, ScriptedBackend
from claude_comms.types import InstanceLimits, InstanceState

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("fault", "error"), [(Crash(), BackendCrashedError), (Garbage(), BackendProtocolError)])
async def test_a_broken_session_is_replaced_with_the_next_question_and_that_is_counted_and_told(
    fault: Crash | Garbage, error: type[Exception]
) -> None:
    told = Told()
    async with make(ScriptedBackend([fault, "well", "well"]), on_event=told) as pool:
        with pytest.raises(error) as caught:
            await ask(pool, spec())
        assert not told.of("instance.restarted"), "nothing has been restarted yet"
        instance = pool.get(await ask(pool, spec()))
        await ask(pool, spec())
        assert (instance.restarts, pool.info(instance).restarts) == (1, 1)
    assert told.of("instance.restarted") == [{"reason": str(caught.value)}]


async def test_a_session_that_dies_while_idle_is_noticed_at_once_and_replaced() -> None:
    backend, told = ScriptedBackend("yes"), Told()
    async with make(backend, on_event=told) as pool:
        held = await ask(pool, spec())
        backend.sessions[0].kill("its process was killed by signal 9.")
        await anyio.wait_all_tasks_blocked()
        instance = pool.get(held)
        assert (instance.state, instance.warm) == (InstanceState.HIBERNATED, False)
        assert await ask(pool, spec()) == held
        assert instance.restarts == 1
    reason = {"reason": "its process was killed by signal 9."}
    assert told.of("instance.hibernated") == told.of("instance.restarted") == [reason]


async def test_a_session_that_dies_under_a_paused_instance_leaves_it_paused() -> None:
    backend = ScriptedBackend("yes")
    async with make(backend) as pool:
        held = await ask(pool, spec())
        pool.pause(held)
        backend.sessions[0].kill()
        await anyio.wait_all_tasks_blocked()
        assert (pool.get(held).state, pool.get(held).warm) == (InstanceState.PAUSED, False)


async def test_a_process_that_is_gone_is_noticed_at_the_next_look_where_nobody_tells() -> None:
    backend, memory = ScriptedBackend("yes", processes=True), Memory()
    async with make(backend, measure=memory) as pool:
        instance = await pool.start(spec())
        memory.mib[instance.pid or 0] = 10
        await pool.look()
        assert (instance.warm, instance.rss_bytes) == (True, 10 << 20)
        backend.sessions[0].kill(told=False)
        memory.mib.clear()
        await pool.look()
        assert (instance.warm, instance.rss_bytes, instance.pid) == (False, None, None)
        await ask(pool, spec())
        assert instance.restarts == 1


@pytest.mark.parametrize("paused", [False, True])
async def test_an_instance_whose_session_gave_up_its_process_by_itself_is_not_warm_from_the_next_look_on(
    paused: bool,
) -> None:
    backend = ScriptedBackend("yes", processes=True)
    async with make(backend, measure=Memory()) as pool:
        instance = pool.get(await ask(pool, spec()))
        if paused:
            pool.pause(instance.instance_id)
        backend.sessions[0].pid = None
        await pool.look()
        assert (instance.state, instance.warm) == (
            InstanceState.PAUSED if paused else InstanceState.HIBERNATED,
            False,
        )
        if paused:
            pool.resume(instance.instance_id)
        assert await ask(pool, spec()) == instance.instance_id
        assert instance.restarts == 0


async def test_the_fifth_fault_in_three_minutes_ends_the_instance_and_no_further_session_is_opened() -> None:
    clock, told = Clock(), Told()
    backend = ScriptedBackend(Crash())
    async with make(backend, places=3, clock=clock, on_event=told) as pool:
        for _ in range(5):
            clock.now += 10
            with pytest.raises(BackendCrashedError):
                await ask(pool, spec())
        (instance,) = pool.list(ended=True)
        assert (instance.state, instance.restarts) == (InstanceState.FAILED, 4)
        assert "5 times" in str(pool.info(instance).failure)
        assert "scripted crash" not in told.of("instance.failed")[0]["reason"]
        with pytest.raises(BackendCrashedError, match="try again in 140 s") as caught:
            await ask(pool, spec())
        assert (caught.value.retry_after_s, caught.value.retryable) == (140, False)
        with pytest.raises(BackendCrashedError, match="try again"):
            await pool.start(spec())
        assert len(backend.requests) == len(backend.sessions) == 5
        assert pool.list() == [], "nor is an instance made for it"
        assert "retry_after_s" in caught.value.as_dict()


async def test_after_a_storm_of_restarts_one_more_try_is_allowed_when_the_first_fault_is_three_minutes_old() -> None:
    clock = Clock()
    backend = ScriptedBackend([*([Crash()] * 6), "well"])
    async with make(backend, clock=clock) as pool:
        for _ in range(5):
            clock.now += 10
            with pytest.raises(BackendCrashedError):
                await ask(pool, spec())
        clock.now += 140
        for asked in (6, 6):  # one more try, which fails, and so the next is refused
            with pytest.raises(BackendCrashedError):
                await ask(pool, spec())
            assert len(backend.requests) == asked
        clock.now += 10
        assert pool.get(await ask(pool, spec())).state is InstanceState.IDLE


async def test_a_storm_leaves_other_pairs_and_warm_sessions_of_the_same_pair_alone() -> None:
    backend = ScriptedBackend("well")
    async with make(backend, places=4) as pool:
        healthy = await ask(pool, spec(), "c_healthy")
        keep = await pool.lease_instance(healthy, "c_healthy")
        backend.add(*([Crash()] * 5))
        for _ in range(5):
            with pytest.raises(BackendCrashedError):
                await ask(pool, spec(), "c_ill")
        keep.release()
        assert await ask(pool, spec(), "c_healthy") == healthy
        assert pool.get(await ask(pool, spec("other"), "c_2")).state is InstanceState.IDLE


async def test_in_a_storm_a_hibernated_instance_of_the_same_pair_does_not_open_its_session_either() -> None:
    backend = ScriptedBackend("well")
    async with make(backend, places=4) as pool:
        asleep = await ask(pool, spec(), "c_asleep")
        pool.pause(asleep)
        backend.add(*([Crash()] * 5))
        for _ in range(5):
            with pytest.raises(BackendCrashedError):
                await ask(pool, spec(), "c_ill")
        pool.hibernate(asleep)
        pool.resume(asleep)
        with pytest.raises(BackendCrashedError, match="broke 5 times"):
            await ask(pool, spec(), "c_asleep")
        assert pool.get(asleep).state is InstanceState.IDLE, "it can be asked later"


async def test_a_backend_that_cannot_be_opened_is_no_storm() -> None:
    backend = ScriptedBackend("yes", open_error=BackendUnavailableError("no key"))
    async with make(backend) as pool:
        for _ in range(7):
            with pytest.raises(BackendUnavailableError):
                await ask(pool, spec())
        backend.open_error = None
        assert await ask(pool, spec())


async def test_a_crash_at_every_start_is_a_storm_too() -> None:
    backend = ScriptedBackend("yes", open_error=BackendCrashedError("died at its start."))
    async with make(backend) as pool:
        for _ in range(5):
            with pytest.raises(BackendCrashedError, match="died at its start"):
                await ask(pool, spec())
        with pytest.raises(BackendCrashedError, match="broke 5 times"):
            await ask(pool, spec())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_session_that_did_not_stop_counts_as_a_fault() -> None:
    told = Told()
    deaf = IgnoreCancellation("x")
    async with make(ScriptedBackend([deaf, "well"]), on_event=told) as pool:
        with await pool.lease(spec(), "c_1") as lease:
            with anyio.move_on_after(0.02):
                await lease.ask(request(), nowhere)
        deaf.release.set()
        await ask(pool, spec())
    assert told.of("instance.restarted") == [{"reason": "it did not stop when it was told to."}]


async def test_a_process_tree_beyond_its_limit_is_replaced_between_turns() -> None:
    memory, told = Memory(), Told()
    backend = ScriptedBackend(processes=True)
    async with make(backend, measure=memory, on_event=told) as pool:
        instance = await pool.start(spec(), limits=InstanceLimits(max_memory_mb=300))
        memory.mib[instance.pid or 0] = 301
        with await pool.lease(spec(), "c_1") as lease:
            await lease.ask(request(), nowhere)
            await pool.look()
            assert instance.warm, "not in the middle of a question"
            await lease.ask(request(), nowhere)
        assert (instance.state, instance.warm) == (InstanceState.HIBERNATED, False)
        assert await ask(pool, spec()) == instance.instance_id
        assert (instance.restarts, len(backend.sessions)) == (1, 2)
    assert told.of("instance.restarted") == [{"reason": "its processes took 301 MiB, and 300 are allowed"}]


async def test_an_idle_process_tree_beyond_its_limit_is_given_up_at_once_and_is_no_fault() -> None:
    memory = Memory()
    async with make(ScriptedBackend(processes=True), measure=memory) as pool:
        instance = await pool.start(spec(), limits=InstanceLimits(max_memory_mb=300))
        for _ in range(7):
            memory.mib[instance.pid or 0] = 400
            await pool.look()
            assert not instance.warm
            await ask(pool, spec())
        assert (instance.state, instance.restarts) == (InstanceState.IDLE, 7)


def test_a_tree_is_measured_with_its_children_and_one_that_is_gone_is_missing() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()  # the grandchild is there
        taken = measure_trees([parent.pid, os.getpid(), 2**22 + 1])
        parent.communicate(b"\n", timeout=20)
    assert set(taken) == {parent.pid, os.getpid()}
    assert taken[os.getpid()] > taken[parent.pid] > 8 << 20, "two Python processes, and they are ours"
    assert measure_trees([parent.pid]) == {}


async def test_the_error_of_a_storm_is_made_of_whole_sentences() -> None:
    backend = ScriptedBackend(processes=True)
    async with make(backend, places=3, clock=Clock(), on_event=Told()) as pool:
        for _ in range(5):
            await ask(pool, spec())
            backend.sessions[-1].kill("killed by signal 9")
            with anyio.fail_after(5):
                while any(instance.warm for instance in pool.list()):
                    await anyio.lowlevel.checkpoint()
        (failed,) = pool.list_failed()
    assert "killed by signal 9. Mend that, or try again in 180 s with a new instance" in str(failed.failure)


async def test_the_latest_hundred_that_failed_are_kept_and_those_before_are_stopped() -> None:
    told = Told()
    backend = ScriptedBackend("yes", open_error=BackendUnavailableError("no key."))
    async with make(backend, places=1, on_event=told) as pool:
        for number in range(102):
            with pytest.raises(BackendUnavailableError):
                await pool.start(spec(), f"n{number}")
        assert [instance.name for instance in pool.list_failed()] == [f"n{number}" for number in range(2, 102)]
        assert told.of("instance.stopped") == [{"reason": "100 others have failed since"}] * 2
        assert pool.get("n101").state is InstanceState.FAILED
        await pool.stop("n101")
        assert len(pool.list_failed()) == 99
