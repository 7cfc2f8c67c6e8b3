"""Interrupts, stalls, kills, and programs that are no Claude Code: how a turn ends, and what is left."""

from __future__ import annotations

import os
import random
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest
from claude_code_support import Talk, descendants

from claude_comms.background.backends.claude_code import ClaudeCodeBackend
from claude_comms.background.backends.claude_code._session import Limits
from claude_comms.errors import (
    BackendCrashedError,
    BackendError,
    BackendProtocolError,
    BackendUnavailableError,
    DeadlineExceededError,
    TurnFailedError,
)
from claude_comms.testing import FAULTS, Answer, Fault
from claude_comms.types import Delta, Retried

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from claude_comms.background.backends.claude_code._session import ClaudeCodeSession
    from claude_comms.testing import LoopbackAPI
    from claude_comms.types import InstanceSpec, TurnEvent

pytestmark = pytest.mark.anyio

ROUNDS = int(os.environ.get("CLAUDE_COMMS_KILL_ROUNDS", "15"))
"""The report's figures come from 100."""

SLOW = Answer(pieces=("one ", "two ", "three "), pause_s=(0, 0, 3600))
"""Two pieces, then nothing for an hour."""


def tree(session: ClaudeCodeSession) -> list[int]:
    """The session's processes: the launcher, then Claude Code."""
    assert session._connection is not None
    pid = session._connection._process.pid
    assert pid is not None
    return [pid, *descendants(pid)]


async def ask_and(talk: Talk, question: str, then: Callable[[], Awaitable[object]], **options: object) -> Exception:
    """The error of a question that something happens to once its second piece has come."""
    shown = anyio.Event()

    async def emit(event: TurnEvent) -> None:
        talk.events.append(event)
        if isinstance(event, Delta) and "two" in event.text:
            shown.set()

    error: Exception | None = None
    talk.events.clear()
    async with anyio.create_task_group() as tasks:

        async def happen() -> None:
            await shown.wait()
            await then()

        tasks.start_soon(happen)
        try:
            await talk.session.ask(talk.request(question, **options), emit)
        except Exception as raised:
            error = raised
    assert error is not None
    return error


async def nothing() -> None:
    pass


async def test_an_interrupt_keeps_what_had_come_and_the_session_stays_usable(talk: Talk, api: LoopbackAPI) -> None:
    await talk.ask("one")
    api.answer(SLOW)
    before = descendants()
    error = await ask_and(talk, "two", talk.session.interrupt)
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.partial) == ("interrupted", "one two ")
    assert error.usage is not None
    assert error.usage.cache_read_tokens > 0
    assert (await talk.ask("three")).text == "Answer to three"
    assert descendants() == before


async def test_an_interrupt_before_the_first_byte_stops_the_turn_too(talk: Talk, api: LoopbackAPI) -> None:
    await talk.ask("one")
    api.answer(Answer("late", delay_s=3600))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk.session.interrupt)
        with pytest.raises(TurnFailedError, match="interrupted"):
            await talk.session.ask(talk.request("two"), talk.emit)
    assert (await talk.ask("three")).text == "Answer to three"


async def test_an_interrupt_without_a_turn_does_nothing(talk: Talk) -> None:
    await talk.session.interrupt()
    assert (await talk.ask("one")).text == "Answer to one"


async def test_a_deadline_ends_the_turn_with_what_had_come(talk: Talk, api: LoopbackAPI) -> None:
    await talk.ask("one")
    api.answer(SLOW)
    error = await ask_and(talk, "two", nothing, deadline=anyio.current_time() + 0.4)
    assert isinstance(error, DeadlineExceededError)
    assert error.partial == "one two "
    assert (await talk.ask("three")).text == "Answer to three"


async def test_a_cancelled_question_leaves_no_process_and_the_conversation_goes_on(
    talk: Talk, api: LoopbackAPI
) -> None:
    before = descendants()
    await talk.ask("one")
    api.answer(SLOW)
    async with anyio.create_task_group() as tasks:

        async def give_up() -> None:
            tasks.cancel_scope.cancel()

        await ask_and(talk, "two", give_up)
    assert descendants() <= before
    await talk.ask("three")
    assert [text.splitlines()[-1] for role, text in api.requests.messages[-1].thread if role == "user"] == [
        "one",
        "three",
    ]


async def test_a_stalled_turn_is_interrupted_and_its_process_goes_on(
    backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    backend._limits = Limits(stall_s=0.5)
    talk = Talk(await backend.open(spec))
    await talk.ask("one")
    before = descendants()
    api.answer(SLOW)
    error = await ask_and(talk, "two", nothing)
    assert isinstance(error, TurnFailedError)
    assert (error.reason, error.partial) == ("stalled", "one two ")
    assert (await talk.ask("three")).text == "Answer to three"
    assert descendants() == before


async def test_a_stalled_turn_whose_process_does_not_listen_ends_with_the_process(
    backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    backend._limits = Limits(stall_s=0.5)
    session = await backend.open(spec)
    talk = Talk(session)
    before = descendants()
    await talk.ask("one")
    api.answer(SLOW)

    async def freeze() -> None:
        os.kill(tree(session)[1], signal.SIGSTOP)

    error = await ask_and(talk, "two", freeze)
    assert isinstance(error, TurnFailedError)
    assert error.reason == "stalled"
    assert descendants() <= before
    assert (await talk.ask("three")).text == "Answer to three"


@pytest.mark.parametrize(("who", "number", "code"), [(1, signal.SIGKILL, -9), (1, signal.SIGTERM, 143), (0, 9, -9)])
async def test_a_killed_process_ends_the_turn_at_once_and_the_next_one_runs_on_a_new_process(
    who: int, number: int, code: int, talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    before = descendants()
    await talk.ask("one")
    api.answer(SLOW)

    async def kill() -> None:
        os.kill(tree(session)[who], number)

    error = await ask_and(talk, "two", kill)
    assert isinstance(error, BackendCrashedError)
    assert (error.exit_code, error.partial, error.retryable) == (code, "one two ", True)
    assert error.usage is not None
    assert error.usage.output_tokens > 0
    with anyio.fail_after(5):
        while not descendants() <= before:
            await anyio.sleep(0.01)
    api.reset()
    await talk.ask("three")
    questions = [text.splitlines()[-1] for role, text in api.requests.messages[-1].thread if role == "user"]
    assert questions == ["one", "three"]


async def test_rounds_of_killing_at_random_moments_lose_nothing_double_nothing_and_leave_nothing(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    chance = random.Random(20261121)
    before = descendants()
    await talk.ask("question 0")
    asked = ["question 0"]
    for number in range(1, ROUNDS + 1):
        api.answer(Answer(pieces=("a", "b", "c", "d"), pause_s=0.02))
        victim, after_s, question = chance.choice(tree(session)[:2]), chance.uniform(0, 0.15), f"question {number}"
        async with anyio.create_task_group() as tasks:

            async def kill(victim: int = victim, after_s: float = after_s) -> None:
                await anyio.sleep(after_s)
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)

            tasks.start_soon(kill)
            try:
                result = await talk.ask(question)
            except BackendError as error:
                assert isinstance(error, BackendCrashedError)
                assert "abcd".startswith(error.partial)
            else:
                assert result.text == "abcd"
                asked.append(question)
        api.reset()
        check = f"check {number}"
        await talk.ask(check)
        asked.append(check)
        sent = [text.splitlines()[-1] for role, text in api.requests.messages[-1].thread if role == "user"]
        assert sent == asked
        assert len(descendants() - before) == 2
    await session.close()
    assert descendants() <= before


@pytest.mark.parametrize("kind", sorted(set(FAULTS) - {"drip", "huge", "stall", "redirect"}))
async def test_every_fault_of_the_api_ends_in_a_whole_answer_or_a_typed_error(
    kind: str, shared: Talk, api_for_faults: LoopbackAPI
) -> None:
    api_for_faults.reset()
    api_for_faults.script = lambda _: Answer(pieces=("The whole ", "answer."))
    api_for_faults.fail(FAULTS[kind])
    talk = Talk(shared.session)
    try:
        result = await talk.ask("a question", deadline=anyio.current_time() + 10)
    except TurnFailedError as error:
        assert error.partial in ("", "The whole ", "The whole answer.")
    except BackendUnavailableError as error:
        assert "API key" in str(error)
    else:
        assert result.text == "The whole answer."
    api_for_faults.reset()
    assert (await Talk(shared.session).ask("another")).text == "The whole answer."


@pytest.fixture(scope="module")
async def api_for_faults() -> AsyncIterator[LoopbackAPI]:
    from claude_comms.testing import LoopbackAPI

    with LoopbackAPI() as api:
        yield api


@pytest.fixture(scope="module")
async def shared(api_for_faults: LoopbackAPI, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Talk]:
    from claude_comms.types import InstanceSpec, Pair

    home = tmp_path_factory.mktemp("home")
    backend = ClaudeCodeBackend(home, variables=api_for_faults.environment(), limits=Limits(stall_s=1.0))
    yield Talk(await backend.open(InstanceSpec(Pair("marker", "arangodb"), "claude-code")))
    await backend.close()


async def test_a_passing_overload_is_ridden_out_and_told(talk: Talk, api: LoopbackAPI) -> None:
    await talk.ask("one")
    api.fail(Fault.status(529))
    result = await talk.ask("two")
    assert result.text == "Answer to two"
    [retried] = result.retries
    assert "529" in retried.reason
    assert [event for event in talk.events if isinstance(event, Retried)] == [retried]


async def test_a_wait_beyond_the_deadline_is_not_waited_for(talk: Talk, api: LoopbackAPI) -> None:
    await talk.ask("one")
    api.fail(Fault.status(429, retry_after=3600), 10)
    with pytest.raises(TurnFailedError) as raised:
        await talk.ask("two", deadline=anyio.current_time() + 20)
    assert raised.value.reason == "rate_limited"
    assert raised.value.retryable


FAKES = {
    "prints_garbage": "import sys\nfor _ in range(10000): print('x' * 200)\nsys.stdin.read()",
    "tears_json": 'import sys\nprint(\'{"type": "system", "subtype\', flush=True)\nsys.stdin.read()',
    "long_line": "import sys\nsys.stdout.write('{' + 'x' * 40_000_000); sys.stdout.flush(); sys.stdin.read()",
    "crashes": "import sys\nprint('\\x1b[31mno such flag\\x1b[0m', file=sys.stderr)\nsys.exit(3)",
    "exits_0": "pass",
    "never_answers": "import sys, time\nsys.stdin.read(1); time.sleep(3600)",
    "ignores_sigterm": (
        "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: time.sleep(3600)"
    ),
    "leaves_a_grandchild_on_stdout": (
        "import subprocess, sys\nsubprocess.Popen(['sleep', '3600'], start_new_session=True)\nsys.exit(4)"
    ),
}


@pytest.fixture
def fake_binary(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "claude"
    body = (
        f"import sys\nif '--version' in sys.argv: print('2.1.329 (Claude Code)'); sys.exit()\n{FAKES[request.param]}\n"
    )
    path.write_text(f"#!{sys.executable} -S\n{body}")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("fake_binary", "error"),
    [
        ("prints_garbage", BackendProtocolError),
        ("tears_json", BackendProtocolError),
        ("long_line", BackendProtocolError),
        ("crashes", BackendCrashedError),
        ("exits_0", BackendCrashedError),
        ("never_answers", BackendCrashedError),
        ("ignores_sigterm", BackendCrashedError),
        ("leaves_a_grandchild_on_stdout", BackendCrashedError),
    ],
    indirect=["fake_binary"],
)
async def test_a_program_that_is_no_claude_code_ends_in_a_typed_error_and_leaves_nothing(
    fake_binary: Path, error: type[BackendError], api: LoopbackAPI, spec: InstanceSpec, tmp_path: Path
) -> None:
    before = descendants()
    home = tmp_path / "home"
    backend = ClaudeCodeBackend(home, binary=fake_binary, variables=api.environment(), limits=Limits(start_s=1.0))
    session = await backend.open(spec)
    with pytest.raises(error) as raised:
        await Talk(session).ask("one")
    assert type(raised.value) is error
    assert raised.value.retryable
    await session.close()
    assert descendants() <= before
    if isinstance(raised.value, BackendCrashedError) and raised.value.exit_code == 3:
        assert raised.value.stderr_tail == "[31mno such flag[0m"


async def test_without_a_directory_and_grants_it_answers_and_has_no_tools(
    backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    talk = Talk(await backend.open(replace(spec, grants=(), directory=None)))
    assert (await talk.ask("one")).text == "Answer to one"
    assert api.requests.messages[-1].tools == []


async def test_without_a_login_the_error_says_so_and_how_to_log_in(
    api: LoopbackAPI, spec: InstanceSpec, tmp_path: Path
) -> None:
    backend = ClaudeCodeBackend(tmp_path / "out", variables={"ANTHROPIC_BASE_URL": api.base_url})
    try:
        with pytest.raises(BackendUnavailableError, match="nobody is logged in") as raised:
            await Talk(await backend.open(spec)).ask("one")
    finally:
        await backend.close()
    assert "ANTHROPIC_API_KEY" in str(raised.value)
    assert f"CLAUDE_CONFIG_DIR={tmp_path / 'out' / 'claude-code' / 'config'}" in str(raised.value)
    assert "None" not in str(raised.value)
