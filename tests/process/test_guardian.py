"""However a daemon or its guardian dies, nothing that the daemon had started is left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import claude_comms.daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs subreapers and /proc")

GUARDIAN = Path(claude_comms.daemon.__file__).with_name("_guardian.py")
WITHIN_S = 10.0

DAEMON = """
import os, signal, subprocess, sys, time
mark, ending = sys.argv[1:]
drained = []
signal.signal(signal.SIGTERM, lambda *_: drained.append(1))
signal.signal(signal.SIGINT, lambda *_: drained.append(1))
ignoring = (
    "import signal, time; [signal.signal(number, signal.SIG_IGN) for number in (1, 2, 15)];"
    "print(1, flush=True); time.sleep(3600)"
)
# One of them becomes an orphan in a session of its own while the daemon lives.
orphan = (
    "import subprocess, sys;"
    f"subprocess.Popen([sys.executable, '-c', {ignoring!r}, {mark!r}], start_new_session=True)"
)
subprocess.run([sys.executable, "-c", orphan], stdout=subprocess.DEVNULL)
child = subprocess.Popen([sys.executable, "-c", ignoring, mark], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(os.getpid(), os.getppid(), flush=True)
if ending == "exit":
    sys.exit(7)
while not drained or ending == "stay":
    time.sleep(0.02)
print("drained", len(drained), flush=True)
sys.exit(5)
"""


def alive(mark: str) -> set[int]:
    """All processes that have `mark` in their command line, zombies aside."""
    found: set[int] = set()
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if mark.encode() in line.read_bytes():
                found.add(int(line.parent.name))
    return found


@dataclass
class Guarded:
    """A daemon under its two guardians."""

    process: subprocess.Popen[str]
    mark: str
    daemon: int
    inner: int

    @property
    def outer(self) -> int:
        return self.process.pid

    def said(self) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], WITHIN_S)
        return self.process.stdout.readline() if ready else ""

    def nothing_is_left(self) -> bool:
        give_up = time.monotonic() + WITHIN_S
        while alive(self.mark) and time.monotonic() < give_up:
            select.select([], [], [], 0.05)
        return not alive(self.mark)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Guarded]]:
    mark = str(tmp_path)
    started: list[subprocess.Popen[str]] = []

    def run(ending: str = "drain", grace_s: float = 30) -> Guarded:
        program = [sys.executable, "-c", DAEMON, mark, ending]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARDIAN), str(grace_s), *program], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        guarded = Guarded(process, mark, 0, 0)
        guarded.daemon, guarded.inner = map(int, guarded.said().split())
        return guarded

    yield run
    for pid in alive(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in started:
        process.wait(WITHIN_S)
        assert process.stdout is not None
        process.stdout.close()


def test_it_ends_with_the_daemons_exit_code_and_takes_the_rest_along(start: Callable[..., Guarded]) -> None:
    guarded = start("exit")
    assert guarded.process.wait(WITHIN_S) == 7
    assert guarded.nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_once_and_the_daemon_drains(start: Callable[..., Guarded], number: int) -> None:
    guarded = start()
    os.kill(guarded.outer, number)
    assert guarded.said() == "drained 1\n"
    assert guarded.process.wait(WITHIN_S) == 5
    assert guarded.nothing_is_left()


def test_a_daemon_that_is_killed_leaves_nothing(start: Callable[..., Guarded]) -> None:
    guarded = start()
    assert len(alive(guarded.mark)) == 5
    os.kill(guarded.daemon, signal.SIGKILL)
    assert guarded.process.wait(WITHIN_S) == -signal.SIGKILL
    assert guarded.nothing_is_left()


@pytest.mark.parametrize("which", ["outer", "inner"])
def test_when_a_guardian_is_killed_the_daemon_drains_and_leaves_nothing(
    start: Callable[..., Guarded], which: str
) -> None:
    guarded = start()
    os.kill(getattr(guarded, which), signal.SIGKILL)
    assert guarded.said() == "drained 1\n"
    assert guarded.nothing_is_left()
    assert guarded.process.wait(WITHIN_S) == (5 if which == "inner" else -signal.SIGKILL)


@pytest.mark.parametrize("which", ["outer", "inner"])
def test_when_a_guardian_and_the_daemon_are_killed_nothing_is_left(start: Callable[..., Guarded], which: str) -> None:
    guarded = start()
    os.kill(getattr(guarded, which), signal.SIGKILL)
    os.kill(guarded.daemon, signal.SIGKILL)
    assert guarded.nothing_is_left()


def test_a_daemon_that_ignores_the_signal_is_killed_after_its_grace(start: Callable[..., Guarded]) -> None:
    guarded = start("stay", 0.2)
    os.kill(guarded.outer, signal.SIGTERM)
    assert guarded.process.wait(WITHIN_S) == 128 + signal.SIGTERM
    assert guarded.nothing_is_left()


def test_a_program_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(GUARDIAN), "1", missing],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 127
    assert done.stderr == f"cannot run {missing}: No such file or directory\n"


def test_detached_it_goes_on_without_the_process_that_was_started(tmp_path: Path) -> None:
    mark = str(tmp_path)
    told, tell = os.pipe()
    program = [sys.executable, "-c", "import os; os.write(int(os.environ['CLAUDE_COMMS_READY_FD']), b'up')", mark]
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(GUARDIAN), "--detach", "1", *program],
        env={**os.environ, "CLAUDE_COMMS_READY_FD": str(tell)},
        pass_fds=[tell],
        timeout=WITHIN_S,
        start_new_session=True,
        check=False,
    )
    os.close(tell)
    assert done.returncode == 0
    # The end of the pipe comes with the daemon's own: the guardians hold none of it.
    with os.fdopen(told, "rb") as pipe:
        assert pipe.read() == b"up"
