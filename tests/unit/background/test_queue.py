from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pool_support import ask, make, spec, waiting_for

from claude_comms.background._lease import Waiter
from claude_comms.background._queue import Queue
from claude_comms.errors import PoolExhaustedError

if TYPE_CHECKING:
    from claude_comms.background.pool import Pool

pytestmark = pytest.mark.anyio


async def served(pool: Pool, questions: list[tuple[str, str]]) -> list[str]:
    """Let so many questions (target, thread) come in that order while the only place is taken; who is served when."""
    order: list[str] = []

    async def one(target: str, thread_id: str) -> None:
        with await pool.lease(spec(target), thread_id):
            order.append(thread_id)

    blocking = await pool.lease(spec("blocking"), "c_blocking")
    async with anyio.create_task_group() as group:
        for number, (target, thread_id) in enumerate(questions):
            group.start_soon(one, target, thread_id)
            with anyio.fail_after(10):
                while pool.waiting <= number:
                    await anyio.lowlevel.checkpoint()
        blocking.release()
    return order


async def test_a_pair_with_many_questions_does_not_starve_one_with_a_single_question() -> None:
    async with make(places=1, waiting=1000) as pool:
        many = [("b", f"b{number}") for number in range(200)]
        order = await served(pool, [*many, ("c", "c_single"), ("d", "d_single")])
        assert order.index("c_single") <= 2
        assert order.index("d_single") <= 2
        assert [thread for thread in order if thread.startswith("b")] == [thread for _, thread in many]


async def test_pairs_take_turns() -> None:
    async with make(places=1) as pool:
        questions = [(target, f"{target}{number}") for target in "bcd" for number in range(3)]
        assert await served(pool, questions) == ["b0", "c0", "d0", "b1", "c1", "d1", "b2", "c2", "d2"]


async def test_a_question_that_cannot_go_ahead_does_not_hold_up_others_of_its_pair() -> None:
    async with make(places=2) as pool:
        running = await pool.lease(spec(), "c_1")
        async with waiting_for(pool, spec(), "c_1") as second:
            assert await ask(pool, spec(), "c_2")
            assert not second
            running.release()
        second[0].release()


async def test_too_many_waiting_questions_of_one_pair_are_refused_and_other_pairs_may_still_wait() -> None:
    async with make(places=1, max_waiting_per_pair=1) as pool:
        lease = await pool.lease(spec("b"), "c_0")
        async with waiting_for(pool, spec("b"), "c_1") as first:
            with pytest.raises(PoolExhaustedError, match="max_waiting_per_pair") as caught:
                await pool.lease(spec("b"), "c_2")
            assert caught.value.limit == 1
            assert caught.value.retry_after_s > 0
            async with waiting_for(pool, spec("c"), "c_3") as other:
                assert not other
                lease.release()
                await settled(first)
                first[0].release()
            other[0].release()


async def test_who_waits_for_an_instance_or_for_its_conversation_is_counted_with_it() -> None:
    async with make(places=2) as pool:
        lease = await pool.lease(spec(), "c_1")
        instance = lease.instance

        async def want_it() -> None:
            (await pool.lease_instance(instance.instance_id)).release()

        async with anyio.create_task_group() as group, waiting_for(pool, spec(), "c_1") as second:
            group.start_soon(want_it)
            with anyio.fail_after(5):
                while pool.waiting < 2:
                    await anyio.lowlevel.checkpoint()
            assert pool.info(instance).waiting == 2
            lease.release()
            await settled(second)
            second[0].release()
        assert (pool.info(instance).waiting, pool.waiting) == (0, 0)


async def settled(outcome: list[Any]) -> None:
    with anyio.fail_after(5):
        while not outcome:
            await anyio.lowlevel.checkpoint()


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40), st.integers(1, 5))
def test_each_service_is_fair_and_loses_nobody(arrivals: list[tuple[int, bool]], places: int) -> None:
    anyio.run(_serve_all, arrivals, places)


async def _serve_all(arrivals: list[tuple[int, bool]], places: int) -> None:
    queue = Queue(most=100, most_per_pair=100, places=1, longest_wait_s=60)
    waiters = [Waiter(spec(f"t{pair}"), None, f"c_{number}") for number, (pair, _) in enumerate(arrivals)]  # type: ignore[arg-type]
    ready = {id(waiter): able for waiter, (_, able) in zip(waiters, arrivals, strict=True)}
    for waiter in waiters:
        queue.add(waiter)
    taken: list[Waiter] = []

    def take(waiter: Waiter) -> bool:
        if len(taken) - start >= places or not ready[id(waiter)]:
            return False
        queue.remove(waiter)
        taken.append(waiter)
        return True

    able = sum(ready.values())
    while True:
        start = len(taken)
        queue.serve(take)
        assert len(taken) - start == min(places, able - start), "a free place goes to somebody who can take it"
        if len(taken) == start:
            break
    for pair in range(4):
        mine = [waiter for waiter in waiters if waiter.spec == spec(f"t{pair}") and ready[id(waiter)]]
        assert [waiter for waiter in taken if waiter in mine] == mine, "first come, first served"
    assert len(queue) == len(waiters) - able == sum(1 for _ in queue)
    _assert_fair(taken, ready, waiters)


def _assert_fair(taken: list[Waiter], ready: dict[int, bool], waiters: list[Waiter]) -> None:
    """While a pair has a question that could go ahead, no other pair is served twice before it."""
    left = {pair: sum(ready[id(waiter)] for waiter in waiters if waiter.spec.pair == pair) for pair in _pairs(waiters)}
    since: dict[Any, dict[Any, int]] = {pair: {} for pair in left}
    for waiter in taken:
        pair = waiter.spec.pair
        for other, count in since[pair].items():
            assert count == 1, f"{other} was served {count} times while {pair} waited"
        since[pair] = {}
        left[pair] -= 1
        for other, waiting in left.items():
            if other != pair and waiting:
                since[other][pair] = since[other].get(pair, 0) + 1


def _pairs(waiters: list[Waiter]) -> set[Any]:
    return {waiter.spec.pair for waiter in waiters}
