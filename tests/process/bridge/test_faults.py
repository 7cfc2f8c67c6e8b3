"""The bridge killed, Claude Code killed, the connection cut: how a turn ends, and how the next one goes on."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import anyio
import pytest
from bridge_support import node_pid, times_asked
from claude_code_support import Talk, descendants

from claude_comms.background.backends.mcp_bridge._session import Limits
from claude_comms.errors import BackendCrashedError, DeadlineExceededError, TurnFailedError
from claude_comms.testing import Answer
from claude_comms.types import Delta

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from claude_comms.background.backends.mcp_bridge._own import OwnBridge
    from claude_comms.background.backends.mcp_bridge._session import BridgeSession
    from claude_comms.testing import LoopbackAPI
    from claude_comms.types import InstanceSpec, TurnEvent, TurnResult

pytestmark = pytest.mark.anyio

SLOW = Answer(pieces=("one ", "two ", "three "), pause_s=(0, 0, 3600))
"""Two pieces, then nothing for an hour."""


async def ask_and(talk: Talk, question: str, then: Callable[[], Awaitable[object]], **options: object) -> Exception:
    """The error of a question that something happens to once its second piece has come."""
    shown = anyio.Event()

    async def emit(event: TurnEvent) -> None:
        if isinstance(event, Delta) and "two" in event.text:
            shown.set()

    error: Exception | None = None
    async with anyio.create_task_group() as tasks:

        async def happen() -> None:
            await shown.wait()
            await then()

        tasks.start_soon(happen)
        try:
            await talk.session.ask(talk.request(question, **options), emit)
        except Exception as raised:  # noqa: BLE001 - whatever it is, the test looks at it
            error = raised
    assert error is not None
    return error


async def until(done: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not done():
            await anyio.sleep(0.01)


def session_of(talk: Talk) -> str:
    assert talk.handle is not None
    return talk.handle.partition("@")[0]


async def nothing() -> None:
    pass


async def test_a_bridge_that_dies_before_the_question_is_put_is_started_again_and_asked_once(
    talk: Talk, session: BridgeSession, backend: OwnBridge, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    first, where = node_pid(backend), session_of(talk)
    results: list[TurnResult] = []
    os.kill(first, signal.SIGSTOP)  # it takes the question, and does nothing with it
    async with anyio.create_task_group() as tasks:

        async def kill() -> None:
            await until(lambda: session._exchange is not None and session._exchange._turn is not None)  # type: ignore[attr-defined]
            os.kill(first, signal.SIGKILL)

        tasks.start_soon(kill)
        results.append(await talk.ask("two"))
    [result] = results
    assert (result.text, result.rebuilt) == ("Answer to two", "")
    assert node_pid(backend) != first
    assert session_of(talk) == where
    assert times_asked(api, "two") == 1


async def test_a_bridge_that_was_killed_between_turns_is_started_again_and_the_session_resumed(
    talk: Talk, session: BridgeSession, backend: OwnBridge, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    first, where = node_pid(backend), session_of(talk)
    os.kill(first, signal.SIGKILL)
    with anyio.fail_after(5):
        assert "lost its bridge process, which was killed by signal 9" in await session.died()
    assert session.pid is None
    result = await talk.ask("two")
    assert (result.text, result.rebuilt, session_of(talk)) == ("Answer to two", "", where)
    assert node_pid(backend) != first
    questions = [text.splitlines()[-1] for role, text in api.requests.messages[-1].thread if role == "user"]
    assert questions == ["one", "two"]


async def test_a_bridge_that_dies_in_a_turn_ends_it_in_an_error_and_nothing_is_asked_twice(
    talk: Talk, backend: OwnBridge, api: LoopbackAPI
) -> None:
    before = descendants()
    await talk.ask("one")
    first, where = node_pid(backend), session_of(talk)
    api.answer(SLOW)

    async def kill() -> None:
        os.kill(first, signal.SIGKILL)

    error = await ask_and(talk, "two", kill)
    assert isinstance(error, BackendCrashedError)
    assert (error.partial, error.retryable) == ("one two ", True)
    assert "the bridge process was killed by signal 9" in str(error)
    assert "next question starts a new" in str(error)
    assert times_asked(api, "two") == 1
    await until(lambda: descendants() <= before)
    api.reset()
    result = await talk.ask("three")
    assert (result.rebuilt, session_of(talk)) == ("", where)
    questions = [text.splitlines()[-1] for role, text in api.requests.messages[-1].thread if role == "user"]
    assert questions == ["one", "three"]


async def test_all_sessions_of_a_bridge_that_dies_go_on_over_the_next_one(
    talk: Talk, backend: OwnBridge, spec: InstanceSpec
) -> None:
    other = Talk(await backend.open(spec))
    await talk.ask("one")
    await other.ask("uno")
    first = node_pid(backend)
    os.kill(first, signal.SIGKILL)
    assert (await talk.ask("two")).rebuilt == ""
    assert (await other.ask("due")).rebuilt == ""
    assert node_pid(backend) != first


async def test_a_claude_code_that_dies_in_a_turn_leaves_the_bridge_and_the_others_as_they_were(
    talk: Talk, session: BridgeSession, backend: OwnBridge, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    other_session = await backend.open(spec)
    other = Talk(other_session)
    await talk.ask("one")
    await other.ask("uno")
    bridge, others_pid, pid = node_pid(backend), other_session.pid, session.pid
    assert pid is not None
    api.answer(SLOW)

    async def kill() -> None:
        os.kill(descendants(pid).pop(), signal.SIGKILL)

    error = await ask_and(talk, "two", kill)
    assert isinstance(error, BackendCrashedError)
    assert error.partial == "one two "
    assert times_asked(api, "two") == 1
    api.reset()
    assert (await talk.ask("three")).rebuilt == ""
    await other.ask("due")
    assert (node_pid(backend), other_session.pid) == (bridge, others_pid)


async def test_a_claude_code_that_dies_between_turns_is_told_at_once(talk: Talk, session: BridgeSession) -> None:
    await talk.ask("one")
    assert session.pid is not None
    os.kill(session.pid, signal.SIGKILL)
    with anyio.fail_after(5):
        assert (await session.died()).startswith("Claude Code ")
    assert (await talk.ask("two")).rebuilt == ""


async def test_a_connection_that_is_cut_between_turns_comes_back_and_the_processes_stay(
    talk: Talk, session: BridgeSession, backend: OwnBridge
) -> None:
    await talk.ask("one")
    bridge, pid, client = node_pid(backend), session.pid, await backend.link.client()
    client._socket.transport.abort()
    await client.ended()
    await talk.ask("two")
    assert (node_pid(backend), session.pid) == (bridge, pid)
    assert not (await backend.link.client()).lost


async def test_a_connection_that_is_cut_comes_back_without_a_question(talk: Talk, backend: OwnBridge) -> None:
    await talk.ask("one")
    client = await backend.link.client()
    client._socket.transport.abort()
    await until(lambda: backend.link._client not in (None, client))


async def test_a_connection_that_is_cut_in_a_turn_ends_the_turn_and_the_session_goes_on(
    talk: Talk, session: BridgeSession, backend: OwnBridge, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    bridge, pid = node_pid(backend), session.pid
    api.answer(SLOW)

    async def cut() -> None:
        (await backend.link.client())._socket.transport.abort()

    error = await ask_and(talk, "two", cut)
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.partial, error.retryable) == ("cut", "one two ", True)
    assert times_asked(api, "two") == 1
    api.reset()
    await talk.ask("three")
    assert (node_pid(backend), session.pid) == (bridge, pid)


async def test_a_claude_code_that_dies_while_nobody_is_connected_is_noticed_with_the_next_connection(
    talk: Talk, session: BridgeSession, backend: OwnBridge
) -> None:
    await talk.ask("one")
    client, bridge, pid = await backend.link.client(), node_pid(backend), session.pid
    assert pid is not None
    backend.link._closed = True  # it does not come back by itself
    client._socket.transport.abort()
    await client.ended()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: pid not in descendants())
    result = await talk.ask("two")
    assert (result.text, result.rebuilt) == ("Answer to two", "")
    assert node_pid(backend) == bridge
    assert session.pid != pid


async def test_an_interrupt_keeps_what_had_come_and_the_session_stays_usable(
    talk: Talk, session: BridgeSession, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    pid = session.pid
    api.answer(SLOW)
    error = await ask_and(talk, "two", session.interrupt)
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.partial) == ("interrupted", "one two ")
    assert error.usage is not None
    assert error.usage.cache_read_tokens > 0
    assert (await talk.ask("three")).text == "Answer to three"
    assert session.pid == pid


async def test_a_question_that_is_interrupted_before_it_is_put_is_never_asked(talk: Talk, api: LoopbackAPI) -> None:
    await talk.ask("one")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.session.interrupt)
        with pytest.raises(TurnFailedError, match="interrupted"):
            await talk.session.ask(talk.request("two"), talk.emit)
    assert times_asked(api, "two") == 0
    assert (await talk.ask("three")).text == "Answer to three"


async def test_a_conversation_goes_on_in_another_instance_while_the_first_is_warm(
    talk: Talk, session: BridgeSession, backend: OwnBridge, spec: InstanceSpec
) -> None:
    await talk.ask("one")
    other = talk.on(await backend.open(spec))
    assert (await other.ask("two")).rebuilt == ""
    assert session.pid is None
    assert (await Talk(session, other.handle, list(other.history)).ask("three")).rebuilt == ""


async def test_a_deadline_ends_the_turn_with_what_had_come(
    talk: Talk, session: BridgeSession, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    pid = session.pid
    api.answer(SLOW)
    error = await ask_and(talk, "two", nothing, deadline=anyio.current_time() + 1.0)
    assert isinstance(error, DeadlineExceededError)
    assert error.partial == "one two "
    assert (await talk.ask("three")).text == "Answer to three"
    assert session.pid == pid


async def test_a_stalled_turn_is_interrupted_and_its_process_goes_on(
    backend: OwnBridge, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    backend._limits = Limits(stall_s=1.0)
    session = await backend.open(spec)
    talk = Talk(session)
    await talk.ask("one")
    pid = session.pid
    api.answer(SLOW)
    error = await ask_and(talk, "two", nothing)
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.partial) == ("stalled", "one two ")
    assert (await talk.ask("three")).text == "Answer to three"
    assert session.pid == pid


async def test_a_bridge_that_does_not_listen_any_more_holds_nobody_beyond_the_deadline(
    talk: Talk, backend: OwnBridge, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    api.answer(SLOW)

    async def freeze() -> None:
        os.kill(node_pid(backend), signal.SIGSTOP)

    deadline = anyio.current_time() + 2.0
    error = await ask_and(talk, "two", freeze, deadline=deadline)
    assert isinstance(error, DeadlineExceededError)
    assert anyio.current_time() < deadline + 4.0  # the promise is 2 s; the machine may be busy


async def test_a_bridge_that_hangs_is_replaced_once_its_connection_is_lost(
    talk: Talk, session: BridgeSession, backend: OwnBridge, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    first, where = node_pid(backend), session_of(talk)
    os.kill(first, signal.SIGSTOP)
    (await backend.link.client())._socket.transport.abort()
    assert (await talk.ask("two")).text == "Answer to two"
    assert node_pid(backend) != first
    assert first not in descendants()
    assert session_of(talk) == where
    assert times_asked(api, "two") == 1
    assert "Answer to one" in str(api.requests.messages[-1].body)


async def test_a_connection_that_is_lost_while_a_session_opens_is_told_as_a_question_that_was_not_put(
    talk: Talk, backend: OwnBridge, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    client, errors = await backend.link.client(), list[Exception]()
    os.kill(node_pid(backend), signal.SIGSTOP)
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            try:
                await Talk(await backend.open(spec)).ask("two")
            except BackendCrashedError as error:
                errors.append(error)

        tasks.start_soon(ask)
        await until(lambda: any(method == "open" for method, _ in client._waiting.values()))
        client._socket.transport.abort()
    assert ["before the question was put" in str(error) for error in errors] == [True]
    assert times_asked(api, "two") == 0


async def test_a_cancelled_question_leaves_no_process_and_the_conversation_goes_on(
    talk: Talk, session: BridgeSession, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    pid = session.pid
    api.answer(SLOW)
    async with anyio.create_task_group() as tasks:

        async def give_up() -> None:
            tasks.cancel_scope.cancel()

        await ask_and(talk, "two", give_up)
    assert pid not in descendants()
    await talk.ask("three")
    questions = [text.splitlines()[-1] for role, text in api.requests.messages[-1].thread if role == "user"]
    assert questions == ["one", "three"]


async def test_closing_one_session_ends_its_process_alone(talk: Talk, backend: OwnBridge, spec: InstanceSpec) -> None:
    other_session = await backend.open(spec)
    await talk.ask("one")
    before = descendants()
    await Talk(other_session).ask("uno")
    await other_session.close()
    assert descendants() == before
    await talk.ask("two")


async def test_closing_while_a_session_starts_leaves_nothing(
    backend: OwnBridge, session: BridgeSession, api: LoopbackAPI
) -> None:
    before = descendants()
    async with anyio.create_task_group() as tasks:

        async def close() -> None:
            await until(lambda: session._connection is not None)
            await backend.close()

        tasks.start_soon(close)
        with pytest.raises(BackendCrashedError):
            await Talk(session).ask("one")
    await until(lambda: descendants() <= before)
    assert times_asked(api, "one") == 0
