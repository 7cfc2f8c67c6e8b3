"""The pool over the real Claude Code: instances that hibernate, are warmed, and whose processes die."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import anyio
import psutil
import pytest
from claude_code_support import MODEL, descendants

from claude_comms.background.pool import Pool
from claude_comms.testing.conformance.backends import make_request
from claude_comms.types import InstanceLimits, InstanceState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from claude_comms.background.backends.claude_code import ClaudeCodeBackend
    from claude_comms.types import InstanceSpec, TurnEvent, TurnResult

pytestmark = pytest.mark.anyio

WAIT_S = 20.0


@pytest.fixture
async def pool(backend: ClaudeCodeBackend) -> AsyncIterator[Pool]:
    async with Pool({"claude-code": backend}, max_instances=2, max_waiting=8, queue_wait_s=WAIT_S) as pool:
        yield pool


async def nowhere(_event: TurnEvent) -> None:
    pass


async def ask(pool: Pool, spec: InstanceSpec, question: str, handle: str | None = None) -> TurnResult:
    with anyio.fail_after(WAIT_S), await pool.lease(spec, "c_1") as lease:
        return await lease.ask(make_request(question, model=MODEL, thread_id="c_1", session_handle=handle), nowhere)


async def gone(before: set[int]) -> None:
    with anyio.fail_after(WAIT_S):
        while descendants() - before:
            await anyio.sleep(0.01)


async def test_a_hibernated_instance_holds_no_process_and_goes_on_with_its_session(
    pool: Pool, spec: InstanceSpec
) -> None:
    before = descendants()
    first = await ask(pool, spec, "one")
    (instance,) = pool.list()
    assert descendants() - before
    pool.hibernate(instance.instance_id)
    await gone(before)
    second = await ask(pool, spec, "two", first.session_handle)
    assert (second.rebuilt, instance.state, instance.turns) == ("", InstanceState.IDLE, 2)
    assert pool.list() == [instance]


async def test_a_warmed_instance_is_measured_and_a_killed_one_is_noticed_and_resumed(
    pool: Pool, spec: InstanceSpec
) -> None:
    before = descendants()
    instance = await pool.start(spec, warm=make_request("", model=MODEL), limits=InstanceLimits(max_memory_mb=4000))
    warmed = descendants() - before
    assert warmed
    first = await ask(pool, spec, "one")
    assert descendants() - before == warmed, "the first question found its process"
    await pool.look()
    info = pool.info(instance)
    assert info.pid in warmed
    assert (info.rss_bytes or 0) > 50 << 20
    assert info.last_alive_at is not None

    os.kill(info.pid or 0, signal.SIGKILL)
    await gone(before)
    with anyio.fail_after(WAIT_S):
        while instance.warm:
            await pool.look()
            await anyio.sleep(0.01)
    assert pool.info(instance).rss_bytes is None
    second = await ask(pool, spec, "two", first.session_handle)
    assert second.rebuilt == ""
    assert pool.list() == [instance]


async def test_a_process_that_dies_between_turns_is_noticed_without_looking(pool: Pool, spec: InstanceSpec) -> None:
    before = descendants()
    first = await ask(pool, spec, "one")
    (instance,) = pool.list()
    os.kill(pool.info(instance).pid or 0, signal.SIGKILL)
    with anyio.fail_after(WAIT_S):
        while instance.warm:
            await anyio.sleep(0.01)
    await gone(before)
    second = await ask(pool, spec, "two", first.session_handle)
    assert (second.rebuilt, instance.restarts) == ("", 1)


def frozen(pids: set[int]) -> int:
    """Stop the Claude Code among `pids`: the last in the line of processes. Its process id."""
    (claude,) = [pid for pid in pids if not psutil.Process(pid).children() and "claude" in psutil.Process(pid).name()]
    os.kill(claude, signal.SIGSTOP)
    return claude


async def test_a_frozen_process_is_found_out_and_the_next_question_resumes_its_session(
    pool: Pool, spec: InstanceSpec
) -> None:
    before = descendants()
    first = await ask(pool, spec, "one")
    (instance,) = pool.list()
    asked = anyio.current_time()
    await pool.prove()
    assert instance.warm, "one that lives proves it"
    assert (instance.last_alive or 0) >= asked
    frozen(descendants() - before)
    with anyio.fail_after(WAIT_S):
        await pool.prove()
    assert (instance.state, pool.info(instance).pid) == (InstanceState.HIBERNATED, None)
    await gone(before)
    second = await ask(pool, spec, "two", first.session_handle)
    assert (second.rebuilt, instance.restarts) == ("", 1)
