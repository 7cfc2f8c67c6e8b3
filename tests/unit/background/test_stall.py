from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest
from pool_support import Told, ask, make, nowhere, request, spec

from claude_comms.background._turn import Turn
from claude_comms.errors import BackendCrashedError, DeadlineExceededError, TurnFailedError
from claude_comms.testing.scripted import ALL_FEATURES, IgnoreCancellation, ScriptedBackend, Stall
from claude_comms.types import BackendFeatures, Delta, InstanceState, Retried, TurnEvent, TurnRequest, TurnResult, Usage

pytestmark = pytest.mark.anyio

SOON_S = 0.2
"""A stall in these tests: they wait for it, and nothing depends on how long it takes."""


async def stalled(pool: Any, wanted: TurnRequest | None = None) -> TurnFailedError:
    with anyio.fail_after(20), pytest.raises(TurnFailedError) as caught, await pool.lease(spec(), "c_1") as lease:
        await lease.ask(wanted or request(), nowhere)
    return caught.value


async def test_a_turn_in_which_nothing_comes_is_told_of_and_interrupted_and_its_session_stays() -> None:
    backend, told = ScriptedBackend([Stall("half an"), "well"]), Told()
    asked = request()
    async with make(backend, stall_s=SOON_S, on_event=told) as pool:
        error = await stalled(pool, asked)
        assert (error.reason, error.retryable, error.partial) == ("stalled", True, "half an")
        (facts,) = told.of("turn.stalled")
        assert facts["request"] is asked
        assert facts["silent_s"] >= SOON_S
        assert error.instance_id == told.instances[0]
        assert await ask(pool, spec()) == error.instance_id
    assert len(backend.sessions) == 1, "it obeyed, so nothing is wrong with it"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_stalled_session_that_obeys_nothing_is_killed_and_replaced() -> None:
    deaf, told = IgnoreCancellation("half"), Told()
    backend = ScriptedBackend([deaf, "well"], features=BackendFeatures(streaming=True))
    async with make(backend, stall_s=SOON_S, on_event=told) as pool:
        error = await stalled(pool)
        assert (error.reason, error.partial) == ("stalled", "half")
        deaf.release.set()
        assert pool.get(await ask(pool, spec())).restarts == 1
    assert len(backend.sessions) == 2


async def test_a_stalled_session_that_can_only_be_cancelled_is_replaced_for_that_reason() -> None:
    told = Told()
    backend = ScriptedBackend([Stall("half"), "well"], features=BackendFeatures(streaming=True))
    async with make(backend, stall_s=SOON_S, on_event=told) as pool:
        await stalled(pool)
        await ask(pool, spec())
    assert "nothing came" in told.of("instance.restarted")[0]["reason"]


async def test_five_stalls_that_needed_a_kill_are_a_storm() -> None:
    backend = ScriptedBackend(Stall(), features=BackendFeatures())
    async with make(backend, stall_s=SOON_S) as pool:
        for _ in range(5):
            await stalled(pool)
        with pytest.raises(BackendCrashedError, match="broke 5 times"):
            await ask(pool, spec())
        assert pool.list(ended=True)[0].state is InstanceState.FAILED


async def test_a_session_that_has_heard_something_does_not_stall_although_no_event_came_of_it() -> None:
    backend, told = ScriptedBackend(Stall()), Told()
    async with make(backend, stall_s=SOON_S, on_event=told) as pool:
        await pool.start(spec())
        backend.sessions[0].last_alive = anyio.current_time() + 3600
        with await pool.lease(spec(), "c_1") as lease, pytest.raises(DeadlineExceededError):
            await lease.ask(replace(request(), deadline=anyio.current_time() + 2 * SOON_S), nowhere)
    assert "turn.stalled" not in told.names


async def test_silence_is_counted_from_the_last_event_or_what_the_session_heard_since() -> None:
    turn = Turn(request(), nowhere)
    turn._heard_at -= 100
    assert turn.silent_s() >= 100
    assert turn.silent_s(turn.started - 40) < 100
    assert turn.silent_s(turn.started - 200) >= 100
    await turn.emit(Delta("x"))
    assert turn.silent_s() < 100


async def test_a_caller_that_takes_its_time_over_an_event_does_not_make_a_turn_silent() -> None:
    async def slowly(_event: TurnEvent) -> None:
        turn._heard_at -= 100
        assert turn.silent_s() < 100

    turn = Turn(request(), slowly)
    await turn.emit(Delta("x"))
    assert turn.silent_s() < 100


async def test_the_announced_wait_before_another_try_is_no_silence() -> None:
    turn = Turn(request(), nowhere)
    await turn.emit(Retried(1, "overloaded", wait_s=100))
    turn._heard_at -= 100
    assert turn.silent_s() < 100


async def test_an_answer_that_is_complete_just_as_the_turn_is_stopped_counts() -> None:
    class Finishing(ScriptedBackend):
        async def open(self, spec: Any) -> Any:
            session = await super().open(spec)
            told = anyio.Event()

            async def ask(request: TurnRequest, emit: Any) -> TurnResult:
                await told.wait()
                return TurnResult("all of it", "m", "end_turn", Usage())

            async def interrupt() -> None:
                told.set()

            session.ask, session.interrupt = ask, interrupt
            return session

    async with make(Finishing(), stall_s=SOON_S) as pool:
        with await pool.lease(spec(), "c_1") as lease, anyio.fail_after(20):
            assert (await lease.ask(request(), nowhere)).text == "all of it"


async def test_a_deadline_that_comes_before_the_stall_is_a_deadline() -> None:
    backend = ScriptedBackend(Stall("half"), features=ALL_FEATURES)
    async with make(backend, stall_s=3600) as pool:
        with await pool.lease(spec(), "c_1") as lease, pytest.raises(DeadlineExceededError):
            await lease.ask(replace(request(), deadline=anyio.current_time() + SOON_S), nowhere)
