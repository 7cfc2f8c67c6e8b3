"""kill -9 of a process that publishes and takes: what it was told is kept is kept, and what it has acknowledged does
not come again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from claude_comms.events.log import EventLog

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.events import Event

pytestmark = pytest.mark.anyio

_ROUNDS = int(os.environ.get("CLAUDE_COMMS_TEST_KILL_ROUNDS", "15"))
_PASSED_ON = ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
_WORK_FOR_EVER = """
import sys
import anyio
from pathlib import Path
from claude_comms.events import NewEvent
from claude_comms.events.log import EventLog

async def publish(log, who, first):
    number = first
    while True:
        if number % 3 == 0:
            log.post(NewEvent("turn.delta", "c", f"m{who}/target", {"number": number}))
            number += 1
            continue
        (event,) = await log.publish(NewEvent("turn.started", "c", f"m{who}/target", {"number": number}))
        print("published", who, number, event.seq, event.event_id, flush=True)
        number += 1

async def work(log):
    group = log.group("workers")
    while True:
        events = await group.take(20, wait_s=60)
        for event in events:
            print("took", event.seq, flush=True)
        done = [event for index, event in enumerate(events) if (event.seq + index) % 4]
        print("acknowledging", *[event.seq for event in done], flush=True)
        await group.acknowledge(done)
        print("acknowledged", *[event.seq for event in done], flush=True)
        await group.give_back([event for event in events if event not in done])

async def main():
    log = EventLog(Path(sys.argv[1]), retention_s=3600, retention_bytes=1 << 30)
    await log.open()
    print("open", log.last_seq, flush=True)
    first = int(sys.argv[2]) * 1_000_000
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, log)
        for who in range(4):
            tasks.start_soon(publish, log, who, first)

anyio.run(main)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _told_by_a_killed_child(path: Path, number: int, lines: int) -> list[list[str]]:
    """Run a child, kill it somewhere after its line number `lines`, and return all the whole lines it printed."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    with subprocess.Popen(
        [sys.executable, "-c", _WORK_FOR_EVER, str(path), str(number)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        assert child.stdout is not None
        try:
            printed = [child.stdout.readline() for _ in range(lines)]
        finally:
            child.send_signal(signal.SIGKILL)
        printed += child.stdout.readlines()
        assert child.wait(10) == -signal.SIGKILL
    return [line.split() for line in printed if line.endswith("\n")]


class _Told:
    """What all the children have said."""

    def __init__(self) -> None:
        self.published: dict[int, tuple[str, int, str]] = {}
        self.acknowledged: set[int] = set()
        self.in_doubt: set[int] = set()
        """Acknowledged when the child was killed: either way is right."""

    def hear(self, lines: list[list[str]]) -> None:
        sure: set[int] = set()
        for kind, *words in lines:
            if kind == "took":
                assert int(words[0]) not in self.acknowledged, "an acknowledged event came again"
            elif kind == "published":
                who, number, seq, event_id = words
                assert int(seq) not in self.published, "one number for two events"
                self.published[int(seq)] = (who, int(number), event_id)
            elif kind == "acknowledging":
                self.in_doubt.update(map(int, words))
            elif kind == "acknowledged":
                self.acknowledged.update(map(int, words))
                sure.update(map(int, words))
        self.in_doubt -= sure

    def check(self, kept: list[Event]) -> None:
        assert [event.seq for event in kept] == list(range(1, len(kept) + 1))
        by_seq = {event.seq: event for event in kept}
        for seq, (who, number, event_id) in self.published.items():
            event = by_seq[seq]
            assert (event.namespace, event.data["number"], event.event_id) == (f"m{who}/target", number, event_id)
        for who in range(4):
            numbers = [event.data["number"] for event in kept if event.namespace == f"m{who}/target"]
            assert numbers == sorted(set(numbers))
        for event in by_seq.values():
            self._what_was_posted_before_is_there(event, by_seq)

    def _what_was_posted_before_is_there(self, event: Event, by_seq: dict[int, Any]) -> None:
        """A posted event stands before what the same publisher published after it."""
        number = event.data["number"]
        if event.seq in self.published and number % 3 == 1 and number % 1_000_000 > 1:
            before = [e for e in by_seq.values() if e.namespace == event.namespace and e.seq < event.seq]
            assert before[-1].data["number"] == number - 1


@pytest.mark.timeout(600)
async def test_nothing_acknowledged_is_lost_or_delivered_again_after_kill_9_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    chance = random.Random(20261121)
    told = _Told()
    for number in range(_ROUNDS):
        lines = chance.randrange(2, 1500)
        told.hear(await anyio.to_thread.run_sync(_told_by_a_killed_child, path, number, lines))
    log = EventLog(path, retention_s=3600, retention_bytes=1 << 30)
    await log.open()
    told.check(await log.read(limit=10_000_000))
    group = log.group("workers")
    left: set[int] = set()
    while events := await group.take(1000):
        left.update(event.seq for event in events)
        await group.acknowledge(events)
    assert not left & told.acknowledged
    everything = set(range(1, log.last_seq + 1))
    never = everything - left - told.acknowledged - told.in_doubt
    assert not {seq for seq in never if seq > min(told.acknowledged | left)}, "an event never came to the group"
    assert len(told.published) > 10 * _ROUNDS
    assert len(told.acknowledged) > 10 * _ROUNDS
    await log.close()
