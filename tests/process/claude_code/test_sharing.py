"""Several instances and processes on one conversation: its session goes from hand to hand, and is never branched."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from claude_code_support import Talk, descendants, last_line

from claude_comms import AsyncCommunicator
from claude_comms.descriptors import Registry
from claude_comms.errors import TurnFailedError
from claude_comms.settings import Settings
from claude_comms.testing import Answer
from claude_comms.types import Delta, HistoryMessage, Role

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from claude_comms.background.backends.claude_code import ClaudeCodeBackend
    from claude_comms.background.backends.claude_code._session import ClaudeCodeSession
    from claude_comms.testing import LoopbackAPI
    from claude_comms.types import InstanceSpec, TurnEvent

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
WITHIN_S = 30.0
SLOW = Answer(pieces=("one ", "two ", "three "), pause_s=(0, 0, 3600))


def questions(api: LoopbackAPI) -> list[str]:
    """The thread's questions as the model sees them in the latest request."""
    return [text.splitlines()[-1] for role, text in api.requests.messages[-1].thread if role == "user" and text]


def transcripts(backend: ClaudeCodeBackend) -> list[Path]:
    return sorted((backend.workspace.config / "projects").glob("*/*.jsonl"))


def session_id(talk: Talk) -> str:
    assert talk.handle is not None
    return talk.handle.partition("@")[0]


@dataclass
class Elsewhere:
    """Another process; see asking_on_request."""

    process: subprocess.Popen[str]

    async def ask(self, talk: Talk, question: str) -> dict[str, Any]:
        """Put the next question of `talk` there, and note in `talk` what came of it."""
        self.begin(talk, question)
        answer = await self.answer()
        talk.handle = answer["handle"]
        talk.history += [HistoryMessage(Role.QUESTION, question), HistoryMessage(Role.ANSWER, answer["text"])]
        return answer

    def begin(self, talk: Talk, question: str) -> None:
        assert self.process.stdin is not None
        history = [(str(message.role), message.text) for message in talk.history]
        self.process.stdin.write(json.dumps({"question": question, "handle": talk.handle, "history": history}) + "\n")
        self.process.stdin.flush()

    async def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        with anyio.fail_after(WITHIN_S):
            return json.loads(await anyio.to_thread.run_sync(self.process.stdout.readline, abandon_on_cancel=True))


@pytest.fixture
def elsewhere(api: LoopbackAPI, tmp_path: Path, module_path: Path) -> Iterator[Elsewhere]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "asking_on_request.py"), api.base_url, str(tmp_path / "home"), str(module_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), *sys.path])},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Elsewhere(process)
    finally:
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        process.stdout.close()


@asynccontextmanager
async def busy(talk: Talk, api: LoopbackAPI, question: str) -> AsyncGenerator[None]:
    """A turn of `talk` is under way, and is interrupted at the end."""
    shown = anyio.Event()

    async def emit(event: TurnEvent) -> None:
        if isinstance(event, Delta) and "two" in event.text:
            shown.set()

    api.answer(SLOW)
    asking = asyncio.create_task(talk.session.ask(talk.request(question), emit))
    with anyio.fail_after(WITHIN_S):
        await shown.wait()
    yield
    await talk.session.interrupt()
    with pytest.raises(TurnFailedError, match="interrupted"):
        await asking


async def test_two_instances_take_turns_on_one_conversation_in_one_session(
    talk: Talk, backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    sessions = [talk.session, await backend.open(spec)]
    results = [await talk.ask("0")]
    for number in range(1, 5):
        talk.session = sessions[number % 2]
        results.append(await talk.ask(str(number)))
    assert [result.rebuilt for result in results] == [""] * 5
    assert questions(api) == ["0", "1", "2", "3", "4"]
    assert [path.stem for path in transcripts(backend)] == [session_id(talk)]


async def test_two_communicators_of_one_process_take_turns_on_one_thread_without_building_it_anew(
    api: LoopbackAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before = descendants()
    registry = Registry(tmp_path / "home", ())
    for name in ("marker", "arangodb"):
        (tmp_path / name).mkdir()
        registry.register(name, path=tmp_path / name)
    settings = Settings.load(
        {
            "home": tmp_path / "home",
            "anthropic_api_key": api.key,
            "anthropic_base_url": api.base_url,
            "daemon": "off",
            "backend": "claude-code",
        }
    )
    async with (
        AsyncCommunicator("marker", settings=settings) as one,
        AsyncCommunicator("marker", settings=settings) as two,
    ):
        thread = (await one.send_message("arangodb", "0")).thread_id
        for number, comm in enumerate((two, one, two, one), start=1):
            await comm.send_message("arangodb", str(number), thread_id=thread)
        conversation = await one.get_conversation(thread)
    assert [message.rebuilt for message in conversation.messages] == [None] * 10
    assert len(list((tmp_path / "home" / "claude-code" / "config" / "projects").glob("*/*.jsonl"))) == 1
    assert descendants() <= before


async def test_two_processes_take_turns_on_one_conversation_in_one_session(
    talk: Talk, elsewhere: Elsewhere, backend: ClaudeCodeBackend, api: LoopbackAPI
) -> None:
    rebuilt = [(await talk.ask("0")).rebuilt]
    for number in (1, 3):
        rebuilt.append((await elsewhere.ask(talk, str(number)))["rebuilt"])
        rebuilt.append((await talk.ask(str(number + 1))).rebuilt)
    assert rebuilt == [""] * 5
    assert questions(api) == ["0", "1", "2", "3", "4"]
    assert [path.stem for path in transcripts(backend)] == [session_id(talk)]


async def test_a_session_that_another_instance_is_asking_is_built_anew_and_the_reason_says_so(
    talk: Talk, backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    second = talk.on(await backend.open(spec))
    async with busy(talk, api, "never answered"):
        result = await second.ask("two")
        assert result.rebuilt == "the session is in use by another turn"
        assert questions(api) == ["one", "two"]
        # It is not deleted: whoever uses it may yet be the one whose answer is stored.
        assert {path.stem for path in transcripts(backend)} == {session_id(talk), session_id(second)}
    assert (await talk.ask("three")).rebuilt == ""
    assert questions(api)[-1] == "three"


async def test_a_warm_process_does_not_go_on_with_a_session_that_is_in_use(
    talk: Talk, backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    async with busy(talk.on(await backend.open(spec)), api, "never answered"):
        assert (await talk.ask("two")).rebuilt == "the session is in use by another turn"
    assert questions(api) == ["one", "two"]


async def test_a_session_that_another_process_is_asking_is_built_anew_and_the_reason_says_so(
    talk: Talk, elsewhere: Elsewhere, backend: ClaudeCodeBackend, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    gate = anyio.Event()
    loop = asyncio.get_running_loop()
    # The loopback API asks for each answer in a thread of its own.
    api.script = lambda request: (loop.call_soon_threadsafe(gate.set), SLOW)[1]
    elsewhere.begin(talk, "never answered")
    with anyio.fail_after(WITHIN_S):
        await gate.wait()
    api.script = lambda request: Answer(f"Answer to {last_line(request)}")
    assert (await talk.ask("two")).rebuilt == "the session is in use by another process"
    elsewhere.process.kill()
    elsewhere.process.wait(5)
    backend.workspace.sweep()


@pytest.mark.parametrize("answered", [0, 1])
async def test_a_session_of_a_killed_process_stays_only_where_a_handle_names_it(
    answered: int, talk: Talk, elsewhere: Elsewhere, backend: ClaudeCodeBackend, api: LoopbackAPI
) -> None:
    if answered:
        await elsewhere.ask(talk, "one")
    gate = anyio.Event()
    loop = asyncio.get_running_loop()
    api.script = lambda request: (loop.call_soon_threadsafe(gate.set), SLOW)[1]
    elsewhere.begin(talk, "never answered")
    with anyio.fail_after(WITHIN_S):
        await gate.wait()
        while not transcripts(backend):
            await anyio.sleep(0.01)
    elsewhere.process.kill()
    elsewhere.process.wait(5)
    backend.workspace.sweep()
    assert len(transcripts(backend)) == answered


async def test_a_session_that_is_given_back_in_time_is_not_built_anew(
    talk: Talk, backend: ClaudeCodeBackend, session: ClaudeCodeSession
) -> None:
    await talk.ask("one")
    await session.rest()
    lease = backend.workspace.lease(session_id(talk))
    assert lease.take()
    refused = anyio.Event()
    workspace = backend.workspace
    ours = workspace.lease

    class Watched:
        """A lease that says when it could not be taken."""

        def __init__(self, watched: str) -> None:
            self._lease = ours(watched)

        def take(self) -> bool:
            taken = self._lease.take()
            if not taken:
                refused.set()
            return taken

        def __getattr__(self, name: str) -> Any:
            return getattr(self._lease, name)

    workspace.lease = Watched  # type: ignore[method-assign, assignment]

    async def give_back() -> None:
        await refused.wait()
        lease.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(give_back)
        assert (await talk.ask("two")).rebuilt == ""


async def test_a_module_registered_elsewhere_goes_on_while_the_old_instance_is_warm(
    talk: Talk, backend: ClaudeCodeBackend, spec: InstanceSpec, api: LoopbackAPI, tmp_path: Path
) -> None:
    await talk.ask("one")
    (tmp_path / "other").mkdir()
    result = await talk.on(await backend.open(replace(spec, directory=tmp_path / "other"))).ask("two")
    assert result.rebuilt == ""
    assert questions(api) == ["one", "two"]


@pytest.mark.parametrize("used_elsewhere", [True, False])
async def test_a_process_that_ends_writes_its_last_words_only_where_nobody_else_uses_the_session(
    used_elsewhere: bool, talk: Talk, backend: ClaudeCodeBackend, session: ClaudeCodeSession
) -> None:
    await talk.ask("one")
    [transcript] = transcripts(backend)
    content = transcript.read_bytes()
    lease = backend.workspace.lease(session_id(talk))
    assert not used_elsewhere or lease.take()
    await session.close()
    lease.release()
    assert (transcript.read_bytes() == content) is used_elsewhere


async def test_a_question_that_begins_while_its_process_is_let_go_resumes_its_session(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    before = descendants()
    await talk.ask("one")
    resting = asyncio.create_task(session.rest())
    while session._connection is not None:
        await anyio.lowlevel.checkpoint()
    result = await talk.ask("two")
    await resting
    assert result.rebuilt == ""
    assert questions(api) == ["one", "two"]
    assert len(descendants() - before) == 2


async def test_a_process_that_is_asked_or_started_is_not_let_go(
    talk: Talk, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    asking = asyncio.create_task(talk.ask("one"))
    while not asking.done():
        await session.rest()
        await anyio.sleep(0.001)
    assert (await asking).rebuilt == ""
    assert session.idle
    await talk.ask("two")
    assert questions(api) == ["one", "two"]


async def test_a_close_waits_for_a_process_that_is_being_let_go(talk: Talk, session: ClaudeCodeSession) -> None:
    before = descendants()
    await talk.ask("one")
    resting = asyncio.create_task(session.rest())
    while session._connection is not None:
        await anyio.lowlevel.checkpoint()
    await session.close()
    assert descendants() <= before
    await resting
