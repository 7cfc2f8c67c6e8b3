"""Whatever happens to a pool, and in whatever order: what must always hold."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pool_support import Clock, make, nowhere, request, spec

from claude_comms.background.pool import Reclaiming
from claude_comms.errors import BackendError, InstanceStateError, PoolExhaustedError
from claude_comms.testing.scripted import Crash, ScriptedBackend, ScriptedSession, Stall, Step
from claude_comms.types import InstanceState, TurnRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from claude_comms.background._lease import Waiter
    from claude_comms.background.instance import Instance

PLACES = 3
TARGETS = st.integers(0, 3)
WHICH = st.integers(0, 20)
MOST_STEPS = 2000
QUIET_STEPS = 5  # cancellations come by callbacks, between the steps of tasks


class PoolLife(RuleBasedStateMachine):
    """A pool with three places, questions of four pairs in six conversations, and everything that can befall them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.gates: dict[str, Stall] = {}
        self.asked = 0
        self.open: dict[asyncio.Task[None], str] = {}  # those who ask, with their conversations
        self.turns: dict[str, str] = {}  # by instance: the conversation it serves
        self.ended: list[BaseException | None] = []
        self.clock = Clock()
        self.backend = ScriptedBackend(self.step_for)

        async def build() -> Any:
            rules = Reclaiming(max_idle_s=100, max_age_s=500, max_warm=2)
            return make(self.backend, places=PLACES, wait_s=3600, clock=self.clock, reclaiming=rules)

        self.pool = self.run(build())

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        """Do it, and let everything happen that follows from it."""

        async def and_settle() -> Any:
            result, quiet = await what, 0
            for _ in range(MOST_STEPS):
                others = asyncio.all_tasks() - {asyncio.current_task()}
                quiet = quiet + 1 if all(_blocked(task) for task in others) else 0
                if quiet == QUIET_STEPS:
                    return result
                await asyncio.sleep(0)
            raise AssertionError("it never comes to rest")

        return self.loop.run_until_complete(and_settle())

    def step_for(self, wanted: TurnRequest) -> Step:
        how, _, number = wanted.prompt.question.partition(" ")
        return Crash() if how == "crash" else self.gates[number] if how == "hang" else "yes"

    # --- what happens ---

    @rule(module=TARGETS, conversation=st.integers(0, 5), how=st.sampled_from(["answer", "crash", "hang", "hang"]))
    def ask(self, module: int, conversation: int, how: str) -> None:
        self.asked += 1
        question, thread_id = f"{how} {self.asked}", f"c_{conversation}"
        self.gates[str(self.asked)] = Stall("some")

        async def put() -> None:
            task = self.loop.create_task(self.question(f"t{module}", thread_id, question))
            self.open[task] = thread_id
            task.add_done_callback(self.closed)

        self.run(put())

    async def question(self, target: str, thread_id: str, question: str) -> None:
        with await self.pool.lease(spec(target), thread_id) as lease:
            instance_id = lease.instance.instance_id
            assert instance_id not in self.turns, "an instance serves one conversation at a time"
            assert thread_id not in self.turns.values(), "a conversation has one turn at a time"
            self.turns[instance_id] = thread_id
            try:
                result = await lease.ask(request(thread_id, question), nowhere)
                assert result.text
            finally:
                del self.turns[instance_id]

    def closed(self, task: asyncio.Task[None]) -> None:
        del self.open[task]
        self.ended.append(None if task.cancelled() else task.exception())

    @rule(which=WHICH)
    def let_a_turn_finish(self, which: int) -> None:
        self.pick(list(self.gates.values()), which, lambda gate: gate.release.set())

    @rule(which=WHICH)
    def cancel_who_asks(self, which: int) -> None:
        self.pick(list(self.open), which, lambda task: task.cancel())

    @rule(which=WHICH)
    def kill_a_session(self, which: int) -> None:
        self.pick(self.sessions(), which, lambda session: session.kill())

    @rule(which=WHICH)
    def pause(self, which: int) -> None:
        self.pick(self.pool.list(), which, lambda instance: self.pool.pause(instance.instance_id))

    @rule(which=WHICH)
    def resume(self, which: int) -> None:
        self.pick(self.pool.list(), which, lambda instance: self.pool.resume(instance.instance_id))

    @rule(which=WHICH)
    def hibernate(self, which: int) -> None:
        self.pick(self.pool.list(), which, lambda instance: self.pool.hibernate(instance.instance_id))

    @rule(which=WHICH)
    def stop(self, which: int) -> None:
        self.pick(self.pool.list(), which, lambda instance: self.pool.stop(instance.instance_id))

    @rule(which=WHICH)
    def interrupt(self, which: int) -> None:
        self.pick(self.pool.list(), which, lambda instance: self.pool.interrupt(instance.instance_id))

    @rule(module=TARGETS)
    def start(self, module: int) -> None:
        self.pick([None], 0, lambda _: self.pool.start(spec(f"t{module}")))

    @rule(seconds=st.sampled_from([1, 60, 120, 600]))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds
        self.pick([None], 0, lambda _: self.pool.look())

    @rule(module=TARGETS, count=st.integers(0, 2))
    def keep_ready(self, module: int, count: int) -> None:
        self.pick([None], 0, lambda _: self.pool.keep_ready(spec(f"t{module}"), count))

    def pick(self, some: list[Any], which: int, act: Callable[[Any], Any]) -> None:
        async def do() -> None:
            if some:
                try:
                    result = act(some[which % len(some)])
                    if asyncio.iscoroutine(result):
                        await result
                except (InstanceStateError, PoolExhaustedError, BackendError):
                    pass

        self.run(do())

    def sessions(self) -> list[ScriptedSession]:
        return [session for session in self.backend.sessions if not session.closed]

    # --- what always holds ---

    @invariant()
    def whoever_asked_has_an_answer_a_typed_error_or_waits(self) -> None:
        for error in self.ended:
            assert error is None or isinstance(error, (BackendError, InstanceStateError)), repr(error)

    @invariant()
    def the_counts_add_up(self) -> None:
        places, living = self.pool._places, self.pool.list()
        states = [instance.state for instance in living]
        takes = [state in (InstanceState.IDLE, InstanceState.HIBERNATED) for state in states]
        assert len(living) <= PLACES
        assert len(places.idle) == sum(takes)
        assert states.count(InstanceState.BUSY) == len(places.leased) - self.leases_of_the_ended()
        assert self.pool.waiting == len(self.open) - len(places.leased)
        assert all(lease.thread_id == thread for thread, lease in places.leased.items())
        assert all(holder.thread_id == thread and holder in living for thread, holder in places.holders.items())
        assert not any(instance.warm for instance in living if instance.state is InstanceState.HIBERNATED)
        assert sum(instance.warm for instance in living) == len(self.sessions()), "no session is left behind"

    def leases_of_the_ended(self) -> int:
        return sum(lease.instance.ended for lease in self.pool._places.leased.values())

    @invariant()
    def nobody_waits_while_a_place_is_free(self) -> None:
        for waiter in self.pool._places.waiting:
            assert self.has_to_wait(waiter), f"{waiter.thread_id} for {waiter.spec.pair} waits: {waiter.why}"

    def has_to_wait(self, waiter: Waiter) -> bool:
        places, living = self.pool._places, self.pool.list()
        if waiter.thread_id in places.leased:
            return True
        holder: Instance | None = places.holders.get(waiter.thread_id or "")
        if holder is not None and holder.spec == waiter.spec:
            return holder.state is InstanceState.PAUSED
        busy = (InstanceState.BUSY, InstanceState.PAUSED, InstanceState.STARTING)
        return len(living) == PLACES and all(instance.state in busy for instance in living)

    def teardown(self) -> None:
        """Nobody waits for ever: once everything may go on, all questions end."""
        try:
            for gate in self.gates.values():
                gate.release.set()
            for _ in range(len(self.open) + 1):
                for instance in self.pool.list():
                    if instance.state is InstanceState.PAUSED or instance.pausing:
                        self.run(_async(self.pool.resume, instance.instance_id))
                self.run(anyio.lowlevel.checkpoint())
            assert not self.open
            assert not self.pool._places.leased
            self.run(self.pool.close())
            assert self.sessions() == []
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


def _blocked(task: asyncio.Task[Any]) -> bool:
    """Whether it waits for something that has not happened."""
    waits_for: Any = getattr(task, "_fut_waiter", None)
    return task.done() or (waits_for is not None and not waits_for.done())


async def _async(act: Callable[..., Any], *arguments: Any) -> None:
    act(*arguments)


TestPoolLife = PoolLife.TestCase
TestPoolLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
