from __future__ import annotations

import random
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pool_support import ask, make, nowhere, request, spec, waiting_for

from claude_comms.errors import (
    BackendCrashedError,
    BackendUnavailableError,
    ConfigError,
    DeadlineExceededError,
    InstanceNotFoundError,
    InstanceStateError,
    PoolError,
    PoolExhaustedError,
    TurnFailedError,
)
from claude_comms.testing.scripted import Crash, IgnoreCancellation, ScriptedBackend, Stall
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from claude_comms.background.pool import Pool
    from claude_comms.types import InstanceSpec

pytestmark = pytest.mark.anyio


async def test_the_next_question_goes_to_the_instance_that_holds_its_conversation() -> None:
    async with make(places=3) as pool:
        first = await pool.lease(spec(), "c_1")
        second = await pool.lease(spec(), "c_2")
        first.release()
        second.release()
        assert await ask(pool, spec(), "c_2") == second.instance.instance_id
        assert await ask(pool, spec(), "c_1") == first.instance.instance_id


async def test_a_new_conversation_goes_to_an_idle_instance_of_its_pair() -> None:
    async with make() as pool:
        assert await ask(pool, spec(), "c_1") == await ask(pool, spec(), "c_2")
        assert len(pool.list()) == 1


async def test_of_several_idle_ones_it_takes_the_conversation_that_rested_longest() -> None:
    async with make(places=3) as pool:
        leases = [await pool.lease(spec(), f"c_{number}") for number in range(3)]
        for lease in (leases[1], leases[0], leases[2]):
            lease.release()
        assert await ask(pool, spec(), "c_new") == leases[1].instance.instance_id


@pytest.mark.parametrize(
    "other",
    [spec("c"), spec(backend="other"), spec(model="m2"), spec(grants=("Read",))],
    ids=["pair", "backend", "model", "grants"],
)
async def test_another_spec_gets_another_instance_also_within_one_conversation(other: InstanceSpec) -> None:
    async with make() as pool:
        assert await ask(pool, spec()) != await ask(pool, other)


async def test_when_all_places_are_taken_the_least_recently_used_idle_instance_makes_room() -> None:
    async with make(places=3) as pool:
        oldest = await ask(pool, spec("b"), "c_1")
        middle = await ask(pool, spec("c"), "c_2")
        newest = await ask(pool, spec("d"), "c_3")
        assert await ask(pool, spec("b"), "c_1") == oldest  # so that neither the oldest nor the newest is next to go
        await ask(pool, spec("e"), "c_4")
        assert pool.get(middle).state is InstanceState.STOPPED
        assert {oldest, newest} < {instance.instance_id for instance in pool.list()}


async def test_the_session_of_an_instance_that_made_room_is_closed() -> None:
    backend = ScriptedBackend("yes")
    async with make(backend, places=1) as pool:
        await ask(pool, spec("b"))
        await ask(pool, spec("c"), "c_2")
    assert [session.closed for session in backend.sessions] == [1, 1]


async def test_different_pairs_are_answered_at_the_same_time() -> None:
    gates = [Stall("x"), Stall("x")]
    async with make(ScriptedBackend(list(gates))) as pool, anyio.create_task_group() as group:
        group.start_soon(ask, pool, spec("b"), "c_1")
        group.start_soon(ask, pool, spec("c"), "c_2")
        with anyio.fail_after(5):
            while Counter(instance.state for instance in pool.list())[InstanceState.BUSY] < 2:
                await anyio.lowlevel.checkpoint()
        for gate in gates:
            gate.release.set()


async def test_a_conversation_has_one_turn_at_a_time_in_the_order_asked() -> None:
    async with make(places=5) as pool:
        first = await pool.lease(spec(), "c_1")
        async with waiting_for(pool, spec(), "c_1") as second, waiting_for(pool, spec(), "c_1") as third:
            assert len(pool.list()) == 1
            first.release()
            await _until(second)
            assert second[0].instance is first.instance
            assert not third
            second[0].release()
        third[0].release()


async def test_also_a_conversation_that_moves_to_another_backend_has_one_turn_at_a_time() -> None:
    async with make(places=5) as pool:
        first = await pool.lease(spec(), "c_1")
        async with waiting_for(pool, spec(backend="other"), "c_1") as second:
            assert not second
            first.release()
        assert second[0].instance.spec.backend == "other"
        second[0].release()


async def test_those_who_wait_for_a_place_get_it_in_the_order_they_came() -> None:
    async with make(places=1) as pool:
        lease = await pool.lease(spec("b"), "c_0")
        served: list[int] = []

        async def one(number: int) -> None:
            with await pool.lease(spec("bcd"[number % 3]), f"c_{number}"):
                served.append(number)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            for number in range(1, 20):
                group.start_soon(one, number)
                await anyio.wait_all_tasks_blocked()
            lease.release()
        assert served == list(range(1, 20))


async def test_a_question_that_need_not_wait_passes_those_whose_conversation_is_busy() -> None:
    async with make(places=2) as pool:
        first = await pool.lease(spec(), "c_1")
        async with waiting_for(pool, spec(), "c_1") as second:
            assert await ask(pool, spec("c"), "c_2")
            first.release()
        second[0].release()


async def test_one_question_too_many_is_refused_at_once_and_changes_nothing() -> None:
    async with make(places=1, waiting=1) as pool:
        lease = await pool.lease(spec(), "c_1")
        async with waiting_for(pool, spec("c"), "c_2") as waiting:
            with pytest.raises(PoolExhaustedError, match=r"all 1 instances.*1 questions are waiting") as caught:
                await pool.lease(spec("d"), "c_3")
            assert caught.value.limit == 1
            assert 0 < caught.value.retry_after_s <= 30
            lease.release()
        waiting[0].release()
        assert len(pool.list()) == 1


async def test_with_no_room_to_wait_a_free_place_is_still_given() -> None:
    async with make(places=1, waiting=0) as pool:
        assert await ask(pool, spec())


async def test_a_wait_that_is_too_long_ends_by_the_pools_limit_or_by_the_callers() -> None:
    async with make(places=1, wait_s=0.02) as pool:
        with await pool.lease(spec(), "c_1"):
            with pytest.raises(PoolExhaustedError, match="all 1 instances are busy"):
                await pool.lease(spec("c"), "c_2")
            with pytest.raises(DeadlineExceededError, match="earlier question of conversation c_1"):
                await pool.lease(spec(), "c_1", anyio.current_time() + 0.001)
            with pytest.raises(DeadlineExceededError):
                await pool.lease(spec("c"), "c_3", anyio.current_time() - 1)
        assert await ask(pool, spec("c"), "c_2")


async def test_a_caller_that_is_cancelled_while_it_waits_leaves_no_trace() -> None:
    async with make(places=1) as pool:
        lease = await pool.lease(spec(), "c_1")
        async with anyio.create_task_group() as group:
            group.start_soon(pool.lease, spec("c"), "c_2")
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        lease.release()
        assert [instance.state for instance in pool.list()] == [InstanceState.IDLE]


async def test_a_place_given_to_a_caller_that_was_just_cancelled_goes_to_the_next() -> None:
    async with make(places=1) as pool:
        lease = await pool.lease(spec(), "c_1")
        async with anyio.create_task_group() as group:
            group.start_soon(ask, pool, spec("c"), "c_2")
            await anyio.wait_all_tasks_blocked()
            lease.release()
            group.cancel_scope.cancel()
        with anyio.fail_after(5):
            assert await ask(pool, spec("d"), "c_3")


async def test_a_conversation_that_is_to_begin_is_held_once_its_first_turn_names_it() -> None:
    async with make(places=3) as pool:
        with await pool.lease(spec()) as lease:
            await lease.ask(request("c_new"), nowhere)
            async with waiting_for(pool, spec(), "c_new") as second:
                assert not second
                lease.release()
            assert second[0].instance is lease.instance
            second[0].release()


async def test_a_lease_is_for_one_conversation_and_for_once() -> None:
    async with make() as pool:
        with await pool.lease(spec(), "c_1") as lease, pytest.raises(PoolError, match="c_1"):
            await lease.ask(request("c_2"), nowhere)
        lease.release()
        with pytest.raises(PoolError, match="released"):
            await lease.ask(request("c_1"), nowhere)


async def test_a_question_and_its_repair_fit_into_one_lease() -> None:
    backend = ScriptedBackend(["wrong", "right"])
    async with make(backend) as pool:
        with await pool.lease(spec(), "c_1") as lease:
            await lease.ask(request(), nowhere)
            assert (await lease.ask(request(), nowhere)).text == "right"


async def test_questions_of_a_paused_instances_conversation_wait_until_it_resumes() -> None:
    async with make() as pool:
        held = await ask(pool, spec())
        pool.pause(held)
        async with waiting_for(pool, spec(), "c_1") as waiting:
            assert not waiting
            assert await ask(pool, spec(), "c_2") != held
            pool.resume(held)
        assert waiting[0].instance.instance_id == held
        waiting[0].release()


async def test_waiting_for_a_paused_instance_is_bounded_and_says_why() -> None:
    async with make(wait_s=0.01) as pool:
        pool.pause(await ask(pool, spec()))
        with pytest.raises(PoolExhaustedError, match="is paused"):
            await pool.lease(spec(), "c_1")


async def test_a_paused_instance_does_not_make_room() -> None:
    async with make(places=1, wait_s=0.01) as pool:
        pool.pause(await ask(pool, spec()))
        with pytest.raises(PoolExhaustedError, match="busy or paused"):
            await pool.lease(spec("c"), "c_2")


async def test_a_question_for_one_instance_waits_for_that_one() -> None:
    async with make(places=3) as pool:
        one = await pool.start(spec(), "one")
        await pool.start(spec(), "two")
        first = await pool.lease_instance("one", "c_1")
        assert first.instance is one

        async def free() -> None:
            await anyio.wait_all_tasks_blocked()
            first.release()

        async with anyio.create_task_group() as group:
            group.start_soon(free)
            with await pool.lease_instance(one.instance_id, "c_2") as second:
                assert second.instance is one


async def test_a_question_for_one_instance_ends_when_that_one_stops() -> None:
    async with make() as pool:
        await pool.start(spec(), "one")
        pool.pause("one")

        async def stop() -> None:
            await anyio.wait_all_tasks_blocked()
            await pool.stop("one")

        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            with pytest.raises(InstanceStateError, match="stopped"):
                await pool.lease_instance("one", "c_1")


async def test_start_opens_the_session_and_the_pairs_next_question_goes_there() -> None:
    backend = ScriptedBackend("yes")
    async with make(backend) as pool:
        instance = await pool.start(spec(), "mine")
        assert len(backend.sessions) == 1
        assert await ask(pool, spec()) == instance.instance_id


async def test_start_refuses_a_second_instance_of_a_name_and_one_too_many() -> None:
    async with make(places=1) as pool:
        instance = await pool.start(spec(), "mine")
        with pytest.raises(ConfigError, match="mine"):
            await pool.start(spec(), "mine")
        with await pool.lease_instance("mine", "c_1"), pytest.raises(PoolExhaustedError):
            await pool.start(spec())
        assert (await pool.start(spec("c"), "mine too")).state is InstanceState.IDLE
        assert instance.state is InstanceState.STOPPED


async def test_start_that_fails_raises_and_frees_its_place() -> None:
    backend = ScriptedBackend("yes", open_error=BackendUnavailableError("no key"))
    async with make(backend, places=1) as pool:
        with pytest.raises(BackendUnavailableError):
            await pool.start(spec(), "mine")
        assert not pool.list()
        assert pool.get("mine").state is InstanceState.FAILED
        backend.open_error = None
        assert await pool.start(spec(), "mine") is pool.get("mine")


async def test_instances_are_found_by_id_by_name_and_by_the_beginning_of_an_id() -> None:
    async with make() as pool:
        instance = await pool.start(spec(), "mine")
        other = await pool.start(spec())
        assert pool.get("mine") is pool.get(instance.instance_id) is instance
        assert pool.get(other.instance_id[:-1]) is other
        with pytest.raises(InstanceNotFoundError, match="several"):
            pool.get("i_")
        for unknown in ("", "nobody"):
            with pytest.raises(InstanceNotFoundError, match="list-instances"):
                pool.get(unknown)


async def test_a_stopped_instance_is_remembered_but_not_listed_and_cannot_be_paused() -> None:
    async with make() as pool:
        instance = await pool.start(spec(), "mine")
        await pool.stop("mine")
        assert pool.list() == []
        assert pool.list(ended=True) == [instance]
        with pytest.raises(InstanceStateError):
            pool.pause("mine")
        with pytest.raises(InstanceStateError):
            pool.resume("mine")


async def test_a_conversation_goes_on_elsewhere_when_its_instance_was_stopped() -> None:
    async with make() as pool:
        gone = await ask(pool, spec())
        await pool.stop(gone)
        assert await ask(pool, spec()) != gone


async def test_a_crash_leaves_the_instance_and_its_conversation_in_place() -> None:
    async with make(ScriptedBackend([Crash(), "well"])) as pool:
        with await pool.lease(spec(), "c_1") as lease, pytest.raises(BackendCrashedError):
            await lease.ask(request(), nowhere)
        assert await ask(pool, spec()) == lease.instance.instance_id


async def test_an_instance_whose_session_cannot_be_opened_makes_way_for_the_next_question() -> None:
    backend = ScriptedBackend("yes", open_error=BackendUnavailableError("no key"))
    async with make(backend, places=1) as pool:
        with await pool.lease(spec(), "c_1") as lease, pytest.raises(BackendUnavailableError):
            await lease.ask(request(), nowhere)
        backend.open_error = None
        assert await ask(pool, spec()) != lease.instance.instance_id


async def test_a_backend_that_cannot_be_found_is_told_before_anything_waits() -> None:
    async with make() as pool:
        with pytest.raises(ConfigError, match="nothing"):
            await pool.lease(spec(backend="nothing"), "c_1")


async def test_on_event_is_told_what_happens_to_instances() -> None:
    told: list[tuple[str, str]] = []

    def note(event: str, instance: Any, **_facts: Any) -> None:
        told.append((event, instance.instance_id))

    async with make(on_event=note) as pool:
        held = await ask(pool, spec())
        pool.pause(held)
        pool.resume(held)
        await pool.stop(held)
    names = ["started", "busy", "idle", "paused", "resumed", "stopped"]
    assert told == [(f"instance.{name}", held) for name in names]


async def test_an_observer_that_raises_does_no_harm() -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    async with make(on_event=broken) as pool:
        assert await ask(pool, spec()) == await ask(pool, spec())


async def test_close_interrupts_refuses_and_closes() -> None:
    backend = ScriptedBackend(Stall("half"))
    pool = make(backend, places=1)
    failed: list[TurnFailedError] = []
    refused: list[Any] = []

    async def run() -> None:
        try:
            await ask(pool, spec())
        except TurnFailedError as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        async with waiting_for(pool, spec("c"), "c_2") as waiting:
            await pool.close()
        refused += waiting
    assert "closed" in str(refused[0])
    assert (failed[0].reason, failed[0].partial) == ("interrupted", "half")
    assert not backend.closed, "whoever made it closes it"
    assert backend.sessions[0].closed == 1
    with pytest.raises(PoolError, match="closed"):
        await pool.lease(spec(), "c_1")
    await pool.close()


async def test_close_is_bounded_also_with_a_session_that_never_listens() -> None:
    pool = make(ScriptedBackend(IgnoreCancellation("half")))
    async with anyio.create_task_group() as group:

        async def run() -> None:
            with pytest.raises(TurnFailedError):
                await ask(pool, spec())

        group.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await pool.close()


async def test_close_also_ends_when_its_caller_is_cancelled() -> None:
    backend = ScriptedBackend("yes")
    with anyio.CancelScope() as scope:
        async with make(backend) as pool:
            await ask(pool, spec())
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert backend.sessions[0].closed == 1


async def _until(outcome: list[Any]) -> None:
    with anyio.fail_after(5):
        while not outcome:
            await anyio.lowlevel.checkpoint()


async def test_hundreds_of_questions_on_few_places_are_all_answered_one_at_a_time_in_each_conversation() -> None:
    chance = random.Random(7)
    running: Counter[str] = Counter()
    order: defaultdict[str, list[int]] = defaultdict(list)
    busiest = 0

    async def one(pool: Pool, number: int) -> None:
        nonlocal busiest
        thread_id = f"c_{number % 40}"
        with await pool.lease(spec(f"t{number % 40 % 7}"), thread_id) as lease:
            running[thread_id] += 1
            busiest = max(busiest, running.total())
            assert running[thread_id] == 1
            order[thread_id].append(number)
            await lease.ask(request(thread_id), nowhere)
            for _ in range(chance.randrange(3)):
                await anyio.lowlevel.checkpoint()
            running[thread_id] -= 1

    async with make(places=5, waiting=1000) as pool:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(600):
                    group.start_soon(one, pool, number)
        assert busiest == 5
        assert sum(map(len, order.values())) == 600
        assert all(numbers == sorted(numbers) for numbers in order.values())
        assert len(pool.list()) <= 5


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "crash", "cancel", "pause", "resume", "stop", "start"]), st.integers(0, 5)
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations=OPERATIONS)
def test_whatever_happens_no_place_is_lost_and_no_question_waits_for_nothing(operations: list[tuple[str, int]]) -> None:
    anyio.run(_live_through, operations)


async def _live_through(operations: list[tuple[str, int]]) -> None:
    backend = ScriptedBackend()
    async with make(backend, places=3, waiting=1000) as pool:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for what, number in operations:
                    await _happen(pool, backend, group, what, number)
                    assert len(pool.list()) <= 3
                    if number % 2:
                        await anyio.lowlevel.checkpoint()
                await anyio.wait_all_tasks_blocked()
                for instance in pool.list():
                    if instance.state is InstanceState.PAUSED or instance.pausing:
                        pool.resume(instance.instance_id)
        assert not pool._places.waiting
        assert not pool._places.leased
        assert all(instance.state is InstanceState.IDLE for instance in pool.list())
        assert len(pool._places.idle) == len(pool.list())
        assert all(holder.thread_id == thread_id for thread_id, holder in pool._places.holders.items())


async def _happen(pool: Pool, backend: ScriptedBackend, group: Any, what: str, number: int) -> None:
    async def question(*, cancelled: bool = False) -> None:
        with suppress(BackendCrashedError, TurnFailedError, InstanceStateError), anyio.CancelScope() as scope:
            if cancelled:
                group.start_soon(_cancel_soon, scope, number)
            await ask(pool, spec(f"t{number % 4}"), f"c_{number}")

    living = pool.list()
    chosen = living[number % len(living)] if living else None
    if what == "crash":
        backend.add(Crash())
    elif what in ("ask", "cancel"):
        group.start_soon(question) if what == "ask" else group.start_soon(lambda: question(cancelled=True))
    elif what == "start":
        group.start_soon(_start, pool, number)
    elif chosen is not None:
        with suppress(InstanceStateError):
            await pool.stop(chosen.instance_id) if what == "stop" else getattr(pool, what)(chosen.instance_id)


async def _cancel_soon(scope: anyio.CancelScope, steps: int) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


async def _start(pool: Pool, number: int) -> None:
    with suppress(PoolExhaustedError, InstanceStateError, TurnFailedError):
        await pool.start(spec(f"t{number % 4}"))


async def test_a_new_conversation_spares_an_instance_that_was_asked_by_its_id_while_another_is_warm() -> None:
    async with make(places=3) as pool:
        first, second = await pool.start(spec()), await pool.start(spec())
        with await pool.lease_instance(first.instance_id, "c_1") as lease:
            await lease.ask(request("c_1"), nowhere)
        for thread_id in ("c_2", "c_3"):
            assert await ask(pool, spec(), thread_id) == second.instance_id
        with await pool.lease(spec(), "c_2"):
            assert await ask(pool, spec(), "c_4") == first.instance_id, "an idle one comes before a new one"
