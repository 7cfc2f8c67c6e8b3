"""kill -9 of the process that runs jobs: queued ones run after it, running ones are marked, none is asked twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import claude_comms
from claude_comms.engine import LocalEngine
from claude_comms.jobs import Job, JobState
from claude_comms.jobs.store import JobStore
from claude_comms.settings import Settings
from claude_comms.types import MessageState

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.anyio

DIED = "the daemon died while it ran; ask again"
_ROUNDS = 8
_EACH = 6
_MOST_RUNNING = 2

# Runs jobs until its stdin closes: adds those that are named, and prints what has become of which job. Each question
# that reaches the model is noted in a file, before it is answered.
_RUN_JOBS = """
import asyncio, os, sys
from pathlib import Path
import anyio
from claude_comms.engine import LocalEngine
from claude_comms.engine._replay import replay
from claude_comms.jobs import JobRequest
from claude_comms.jobs.runner import JobRunner
from claude_comms.jobs.store import JobStore
from claude_comms.settings import Settings
from claude_comms.testing.scripted import Answer, ScriptedBackend, Stall
from claude_comms.types import Question

home, most, prompts = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
asked = os.open(home.parent / "asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

def step(request):
    os.write(asked, f"{request.prompt.question}\\n".encode())
    if request.prompt.question == "stall":
        return Stall(after="Half of it")
    gate = anyio.Event()
    asyncio.get_running_loop().call_later(0.01, gate.set)
    return Answer("Half of it, and all.", pieces=("Half of it", ", and all."), gates=(gate,))

async def main():
    engine = LocalEngine(
        Settings.load({"home": home, "backend": "scripted"}), backends={"scripted": ScriptedBackend(step)}
    )
    await engine.open()
    runner = JobRunner(
        JobStore(engine.database, engine._owner),
        engine.ask,
        post=lambda event: print(event.type, event.subject, flush=True),
        max_running=most,
        progress_every_s=0.001,
        replay=lambda question: replay(engine.store, question, anyio.current_time()),
    )
    await runner.open()
    print("open -", flush=True)
    for prompt in prompts:
        await runner.start(JobRequest(Question("marker", "arangodb", prompt)))
    await anyio.to_thread.run_sync(sys.stdin.read)
    await runner.close()
    await engine.close()

anyio.run(main)
"""


@contextmanager
def child(home: Path, *prompts: str, most: int = 1) -> Generator[subprocess.Popen[str]]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(claude_comms.__file__).parents[1])}
    command = [sys.executable, "-c", _RUN_JOBS, str(home), str(most), *prompts]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str], *, until: tuple[str, int]) -> list[list[str]]:
    """What it prints, up to the n-th line of that kind."""
    kind, count = until
    assert process.stdout is not None
    said: list[list[str]] = []
    for line in process.stdout:
        said.append(line.split())
        if [word for word, _ in said].count(kind) == count:
            return said
    raise AssertionError(f"it ended before {count} {kind}: {said}")


def killed(process: subprocess.Popen[str]) -> list[list[str]]:
    """Kill it; what it had printed meanwhile."""
    assert process.stdout is not None
    process.send_signal(signal.SIGKILL)
    rest = [line.split() for line in process.stdout.readlines() if line.endswith("\n")]
    assert process.wait(10) == -signal.SIGKILL
    return rest


def ended(process: subprocess.Popen[str]) -> None:
    """Let it end in its own time."""
    process.communicate(timeout=60)
    assert process.returncode == 0


async def stored(home: Path) -> tuple[list[Job], dict[str, list[MessageState]]]:
    """The jobs, oldest first, and the states of the messages of their conversations."""
    engine = LocalEngine(Settings.load({"home": home, "backend": "offline"}))
    await engine.open()
    try:
        jobs = await JobStore(engine.database, engine._owner).list(limit=1000)
        threads = {job.thread_id for job in jobs if job.thread_id}
        said = {thread: (await engine.get_conversation(thread)).messages for thread in threads}
    finally:
        await engine.close()
    return jobs[::-1], {thread: [message.state for message in messages] for thread, messages in said.items()}


def times_asked(home: Path) -> Counter[str]:
    return Counter((home.parent / "asked").read_text().split("\n")[:-1])


@pytest.fixture
def home(tmp_path: Path, claude_comms_home: Path) -> Path:
    return tmp_path / "home"


async def test_with_one_running_and_ten_queued_the_ten_run_and_the_one_is_marked(home: Path) -> None:
    queued = [f"question {number}" for number in range(10)]
    with child(home, "stall", *queued) as first:
        said = lines(first, until=("job.queued", 11))
        if not any(kind == "job.progress" for kind, _ in said):
            lines(first, until=("job.progress", 1))
        killed(first)
    with child(home) as second:
        said = lines(second, until=("job.done", 10))
        ended(second)
    jobs, conversations = await stored(home)
    assert [job.prompt for job in jobs] == ["stall", *queued]
    assert [job.state for job in jobs] == [JobState.FAILED, *[JobState.DONE] * 10]
    running, *others = jobs
    assert running.error is not None
    assert running.thread_id is not None
    assert DIED in running.error["message"]
    assert running.error["thread_id"] == running.thread_id
    assert ["job.failed", running.job_id] in said
    assert conversations[running.thread_id] == [MessageState.FAILED]
    for job in others:
        assert conversations[str(job.thread_id)] == [MessageState.COMPLETE] * 2
    assert times_asked(home) == Counter(["stall", *queued])


@pytest.mark.timeout(300)
async def test_kills_at_random_moments_lose_and_double_no_job(home: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    acknowledged: set[str] = set()
    done: set[str] = set()
    for number in range(_ROUNDS):
        prompts = [f"question {number} {each}" for each in range(_EACH)]
        with child(home, *prompts, most=_MOST_RUNNING) as process:
            kind = chance.choice(["open", "job.queued", "job.started", "job.progress", "job.done"])
            said = lines(process, until=(kind, 1 if kind == "open" else chance.randrange(1, _EACH)))
            said += killed(process)
        acknowledged |= {job_id for word, job_id in said if word == "job.queued"}
        done |= {job_id for word, job_id in said if word == "job.done"}
    with child(home, "the last", most=_MOST_RUNNING) as process:
        lines(process, until=("job.queued", 1))
        left = len([job for job in (await stored(home))[0] if not job.state.ended])
        if left:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("job.done") and not [job for job in (await stored(home))[0] if not job.state.ended]:
                    break
        ended(process)
    jobs, conversations = await stored(home)
    states = {job.job_id: job.state for job in jobs}
    assert acknowledged <= states.keys()
    assert {states[job_id] for job_id in done} <= {JobState.DONE}
    assert {job.state for job in jobs} <= {JobState.DONE, JobState.FAILED}
    for job in jobs:
        if job.state is JobState.DONE:
            assert job.reply is not None
            assert job.reply["response"] == "Half of it, and all."
            assert conversations[str(job.thread_id)] == [MessageState.COMPLETE] * 2
        else:
            assert job.error is not None
            assert DIED in job.error["message"]
    assert sum(job.state is JobState.FAILED for job in jobs) <= _ROUNDS * _MOST_RUNNING
    asked = times_asked(home)
    assert set(asked.values()) == {1}, "a question was asked twice"
    assert {job.prompt for job in jobs if job.state is JobState.DONE} <= asked.keys()
