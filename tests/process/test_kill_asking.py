"""Promises 1 and 2: kill -9 of the asking process, at any point, loses nothing that was acknowledged."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import claude_comms
from claude_comms import create_communicator
from claude_comms.testing.loopback import Answer, LoopbackAPI
from claude_comms.types import Message, MessageState, Role

if TYPE_CHECKING:
    from collections.abc import Generator

ROUNDS = int(os.environ.get("CLAUDE_COMMS_ASKING_KILLS", "80")) // 2
MOST_SIGNS = 4
LONGEST_WAIT_S = 0.06
"""About one turn."""
WORDS = tuple(f"word{number} " for number in range(20))
ZYGOTE = Path(__file__).with_name("asking_zygote.py")


@dataclass
class Acknowledged:
    """What the killed processes had been told: threads whose question was stored, ids of answers."""

    asked: set[str] = field(default_factory=set[str])
    answered: set[str] = field(default_factory=set[str])

    def add(self, report: str) -> None:
        """Take over the complete lines of one process' report."""
        for line in report.split("\n")[:-1]:
            word, wanted = line.split()
            (self.asked if word == "asked" else self.answered).add(wanted)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("half", [1, 2])
def test_kills_at_random_points_lose_nothing_acknowledged(tmp_path: Path, half: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed} of half {half}")
    chance = random.Random(seed)
    home = tmp_path / "home"
    acknowledged = Acknowledged()
    with LoopbackAPI(Answer(pieces=WORDS, pause_s=0.0005)) as api:
        ours = {"CLAUDE_COMMS_HOME": str(home), "PYTHONPATH": str(Path(claude_comms.__file__).parents[1])}
        environment = {**api.environment(), **ours, "PATH": os.environ["PATH"]}
        with zygote(environment) as askers:
            for _ in range(ROUNDS):
                signs, wait_s = chance.randint(0, MOST_SIGNS), chance.uniform(0.0, LONGEST_WAIT_S)
                acknowledged.add(killed_after(askers, signs, wait_s, tmp_path))
    assert len(acknowledged.asked) > ROUNDS / 10, "the kills came before anything was asked"
    assert acknowledged.answered, "the kills came before anything was answered"
    check(stored(home), acknowledged)


def check(messages: list[Message], acknowledged: Acknowledged) -> None:
    by_id = {message.message_id: message for message in messages}
    assert acknowledged.asked <= {message.thread_id for message in messages}
    assert acknowledged.answered <= by_id.keys()
    questions = [message for message in messages if message.role is Role.QUESTION]
    answers = [message for message in messages if message.role is Role.ANSWER]
    assert len({question.text for question in questions}) == len(questions), "a question was stored twice"
    assert all(by_id[wanted].state is MessageState.COMPLETE for wanted in acknowledged.answered)
    assert {question.state for question in questions} <= {MessageState.COMPLETE, MessageState.FAILED}
    assert any(question.state is MessageState.FAILED for question in questions), "nothing was killed in flight"
    whole = "".join(WORDS)
    assert all((answer.text == whole) == (answer.state is MessageState.COMPLETE) for answer in answers)
    complete = [question for question in questions if question.state is MessageState.COMPLETE]
    assert len(complete) == sum(answer.state is MessageState.COMPLETE for answer in answers)


def stored(home: Path) -> list[Message]:
    """Everything in the store, read by a new process' worth of engine."""
    with create_communicator("marker", backend="offline", settings={"home": home}) as comm:
        conversations = comm.list_conversations(state="all", limit=10_000)
        return [message for item in conversations for message in comm.get_conversation(item.thread_id).messages]


@contextmanager
def zygote(environment: dict[str, str]) -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(ZYGOTE)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def killed_after(askers: subprocess.Popen[str], signs: int, wait_s: float, directory: Path) -> str:
    """Fork an asker, kill it `wait_s` after so many signs of life (acknowledgements), and return its report."""
    assert askers.stdin is not None
    assert askers.stdout is not None
    fifo = directory / "report"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        askers.stdin.write(f"{fifo}\n")
        askers.stdin.flush()
        pid = int(askers.stdout.readline())
        report = b""
        while report.count(b"\n") < signs:
            report += read_some(reading)
        select.select([], [], [], wait_s)
        os.kill(pid, signal.SIGKILL)
        assert askers.stdout.readline() == "dead\n"
        while piece := read_some(reading):
            report += piece
        return report.decode()
    finally:
        os.close(reading)


def read_some(pipe: int) -> bytes:
    """What is in the pipe next; empty at its end."""
    ready, _, _ = select.select([pipe], [], [], 30)
    assert ready, "the asker has said nothing for 30 s"
    return os.read(pipe, 65_536)
