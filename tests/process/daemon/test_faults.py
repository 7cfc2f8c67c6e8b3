"""The machine fails under a running daemon: who asks is told what and what to do, and afterwards it serves again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from survival_support import answering, events_of, soon

from claude_comms.testing import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from claude_comms.testing import RecordedRequest
    from tests.process.daemon.conftest import House

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")

DEADLINE_S = 20
"""Far beyond what each fault takes to be told: an error that is not DeadlineExceededError came well before it."""
HOME_MB = 12
DESCRIPTORS = 64
SHIM = Path(__file__).with_name("clock_shim.c")
SLOW_S = 4.0
SLOW = "This one takes its time."
ENDS = ("turn.completed", "turn.failed", "turn.interrupted")


def ask(house: House, question: str, *, code: int = 0, thread: str | None = None) -> Any:
    if thread is not None:
        return house.cli.json("continue-conversation", thread, question, "--deadline", f"{DEADLINE_S}", code=code)
    asking = ("query-module", "arangodb", question, "--from", "marker", "--deadline", f"{DEADLINE_S}")
    return house.cli.json(*asking, code=code)


def lives(house: House, pid: int) -> None:
    """The daemon is the same, and answers."""
    status = house.cli.json("daemon", "status")
    assert (status["pid"], status["responding"]) == (pid, True)


def states(house: House, thread: str) -> list[tuple[str, str]]:
    messages = house.cli.json("show-conversation", thread)["messages"]
    return [(message["role"], message["state"]) for message in messages]


def one_end_each(house: House) -> None:
    """In the event log, every turn that began has one end, and no more."""
    ends = [event["data"]["turn_id"] for event in events_of(house.settings) if event["type"] in ENDS]
    begun = [event["data"]["turn_id"] for event in events_of(house.settings, types="turn.started")]
    assert len(ends) == len(set(ends))
    assert set(begun) <= set(ends)


def without_warnings(house: House) -> dict[str, str]:
    """What a daemon has that a command starts: warnings of libraries are no errors in it."""
    return {name: value for name, value in house.cli.environment.items() if name != "PYTHONWARNINGS"}


@contextmanager
def in_an_answer(house: House) -> Generator[tuple[str, Callable[[], dict[str, Any]]]]:
    """A question whose answer has begun and ends only after the block: its thread, and what its asker is told."""

    def slow(request: RecordedRequest) -> Answer:
        if request.question == SLOW:
            return Answer(pieces=("Half of it", ", and all."), pause_s=(0.0, SLOW_S))
        return Answer("Yes.")

    house.api.script = slow
    program = house.program()
    assert program.child.stdin is not None
    program.child.stdin.write(f"{SLOW}\n".encode())
    program.child.stdin.flush()
    program.until(lambda line: line.get("piece") == "Half of it")
    [started] = events_of(house.settings, types="turn.started")[-1:]
    yield started["data"]["thread_id"], lambda: program.until(lambda line: "reply" in line or "error" in line)


# --- disk --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(house: House) -> Iterator[Path]:
    """The house's home on a file system of its own, which a test can fill."""
    home = house.cli.home
    home.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={HOME_MB}m,mode=0700", "claude-comms-test", str(home)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    yield home
    house.cli.run("daemon", "stop", "--drain", "0")
    subprocess.run(["umount", "--lazy", str(home)], check=True)


@contextmanager
def full(disk: Path) -> Generator[None]:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        for size_bytes in (65_536, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size_bytes))
    assert os.statvfs(disk).f_bfree == 0
    try:
        yield
    finally:
        filler.unlink()


def test_on_a_full_disk_a_question_is_refused_with_what_to_do_and_the_next_one_is_answered(
    house: House, small_disk: Path
) -> None:
    first = ask(house, "Which index?")
    pid = house.daemon.pid
    with full(small_disk):
        error = ask(house, "And on a full disk?", code=1)["error"]
        assert error["type"] == "StoreError"
        assert "disk is full. Free some space" in error["message"]
        lives(house, pid)
        assert [state for _, state in states(house, first["thread_id"])] == ["complete"] * 2, "reading goes on"
    again = ask(house, "And now?", thread=first["thread_id"])
    assert again["status"] == "complete"
    lives(house, pid)
    assert house.times_asked("And on a full disk?") == 0
    assert soon(lambda: [event for event in events_of(house.settings) if event["type"] == "turn.failed"])
    one_end_each(house)


def test_a_disk_that_fills_in_an_answer_costs_this_answer_alone(house: House, small_disk: Path) -> None:
    ask(house, "Which index?")
    pid = house.daemon.pid
    with in_an_answer(house) as (thread, told):
        with full(small_disk):
            error = told()["error"]
            assert (error["type"], error["thread_id"]) == ("StoreError", thread)
            assert "disk is full" in error["message"]
            assert error["response"] == "Half of it, and all.", "it is there and nowhere else"
            lives(house, pid)
        assert ask(house, "And now?", thread=thread)["status"] == "complete"
    assert states(house, thread) == [
        ("question", "failed"),
        ("answer", "partial"),
        ("question", "complete"),
        ("answer", "complete"),
    ]
    lives(house, pid)
    one_end_each(house)


def test_a_daemon_that_is_to_start_on_a_full_disk_says_why_it_does_not(house: House, small_disk: Path) -> None:
    with full(small_disk):
        error = ask(house, "Which index?", code=1)["error"]
        assert "disk is full" in error["message"] or "No space left" in error["message"], error
    assert ask(house, "Which index?")["status"] == "complete"


# --- descriptors -------------------------------------------------------------------------------


@pytest.fixture
def few_descriptors(house: House) -> Iterator[int]:
    """A daemon that may open only so many files and connections; its pid."""
    command = [sys.executable, "-m", "claude_comms.daemon", "run"]
    limited = ["sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "sh", *command]
    with subprocess.Popen(limited, env=without_warnings(house), stdout=subprocess.DEVNULL) as daemon:
        info = soon(lambda: answering(house.settings))
        assert info is not None, daemon.poll()
        yield info.pid
        house.cli.run("daemon", "stop", "--drain", "0")
        daemon.wait(60)


@contextmanager
def connections(house: House, count: int) -> Generator[None]:
    """So many that say nothing; as many of them as are let in."""
    path, opened = str(house.daemon.socket), list[socket.socket]()
    try:
        for _ in range(count):
            opened.append(socket.socket(socket.AF_UNIX))
            opened[-1].settimeout(0.2)
            with suppress(OSError):
                opened[-1].connect(path)
        yield
    finally:
        for each in opened:
            each.close()


def test_with_its_descriptors_used_up_a_client_is_told_and_afterwards_it_serves_again(
    house: House, few_descriptors: int
) -> None:
    first = ask(house, "Which index?")
    with connections(house, 2 * DESCRIPTORS):
        error = ask(house, "And now?", code=1)["error"]
        assert error["type"] in {"DaemonError", "DaemonNotRunningError", "PoolExhaustedError"}, error
        assert "connections are open" in error["message"], error
    assert ask(house, "And now?", thread=first["thread_id"])["status"] == "complete"
    assert house.daemon.pid == few_descriptors
    one_end_each(house)


# --- clock -------------------------------------------------------------------------------------


@pytest.fixture
def turn_clock(house: House, tmp_path: Path) -> Iterator[Callable[[timedelta], None]]:
    """Sets the time of day of everything that the house starts back or forth."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a clock with")
    library, offset = tmp_path / "clock.so", tmp_path / "offset"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, SHIM], check=True)

    def turn(by: timedelta) -> None:
        with offset.open("r+b" if offset.exists() else "wb") as file:
            file.write(struct.pack("l", int(by.total_seconds())))

    turn(timedelta(0))
    house.cli.environment |= {"LD_PRELOAD": str(library), "CLAUDE_COMMS_CLOCK_OFFSET": str(offset)}
    command = [sys.executable, "-m", "claude_comms.daemon", "run"]
    with subprocess.Popen(command, env=without_warnings(house)) as daemon:
        assert soon(lambda: answering(house.settings))
        yield turn
        house.cli.run("daemon", "stop", "--drain", "0")
        daemon.wait(60)


def test_with_the_clock_set_back_an_hour_turns_jobs_and_events_go_on(
    house: House, turn_clock: Callable[[timedelta], None]
) -> None:
    first = ask(house, "Which index?")
    pid, hour = house.daemon.pid, timedelta(hours=1)
    program_thread = first["thread_id"]
    with in_an_answer(house) as (thread, told):
        turn_clock(-hour)
        assert told()["reply"]["response"] == "Half of it, and all."
    second = ask(house, "And an hour ago?", thread=program_thread)
    assert second["status"] == "complete"
    last = house.cli.json("show-conversation", program_thread)["messages"]
    assert [message["text"] for message in last][::2] == ["Which index?", "And an hour ago?"]
    written = datetime.fromisoformat(last[-1]["created_at"])
    assert abs(datetime.now(UTC) - hour - written) < timedelta(minutes=5), "the clock was set back for the daemon"
    job = house.job("In the background?")
    assert house.cli.json("wait-job", job, "--timeout", "30")["state"] == "done"
    late = house.job("Too late?", "--expires", "0.001")
    assert house.cli.json("wait-job", late, "--timeout", "30", code=1)["error"]["type"] == "DeadlineExceededError"
    turn_clock(timedelta(0))
    assert ask(house, "And now?", thread=program_thread)["status"] == "complete"
    assert states(house, thread) == [("question", "complete"), ("answer", "complete")]
    lives(house, pid)
    seqs = [event["seq"] for event in events_of(house.settings)]
    assert seqs == sorted(set(seqs))
    one_end_each(house)


# --- locks -------------------------------------------------------------------------------------


@contextmanager
def locked(file: Path) -> Generator[None]:
    """Another process holds the database locked."""
    hold = (
        "import sqlite3, sys\n"
        "held = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n"
        "held.execute('BEGIN EXCLUSIVE')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield
        other.communicate()


def test_while_the_store_is_locked_a_question_is_refused_and_then_answered(house: House) -> None:
    first = ask(house, "Which index?")
    pid, store = house.daemon.pid, house.cli.home / "claude-comms.db"
    with locked(store):
        error = ask(house, "And now?", code=1)["error"]
        assert error["type"] == "StoreError"
        assert "another process holds it locked. Try again" in error["message"]
        lives(house, pid)
        assert states(house, first["thread_id"]) == [("question", "complete"), ("answer", "complete")]
    assert ask(house, "And now?", thread=first["thread_id"])["status"] == "complete"
    assert house.times_asked("And now?") == 1
    lives(house, pid)
    one_end_each(house)


def test_a_store_that_is_locked_in_an_answer_costs_this_answer_alone(house: House) -> None:
    ask(house, "Which index?")
    pid, store = house.daemon.pid, house.cli.home / "claude-comms.db"
    with in_an_answer(house) as (thread, told):
        with locked(store):
            error = told()["error"]
            assert (error["type"], error["thread_id"]) == ("StoreError", thread)
            assert error["response"] == "Half of it, and all."
        assert soon(lambda: ("question", "pending") not in states(house, thread))
        assert ask(house, "And now?", thread=thread)["status"] == "complete"
    lives(house, pid)
    one_end_each(house)


def test_while_the_event_log_is_locked_answers_are_given_and_afterwards_their_events(house: House) -> None:
    ask(house, "Which index?")
    pid = house.daemon.pid
    with locked(house.cli.home / "events.db"):
        assert ask(house, "And now?")["status"] == "complete"
        lives(house, pid)
    again = ask(house, "And then?")
    assert again["status"] == "complete"
    completed = [event["data"]["reply"]["thread_id"] for event in events_of(house.settings, types="turn.completed")]
    assert len(completed) == 3
    assert completed[-1] == again["thread_id"]
    one_end_each(house)


def test_a_daemon_that_must_write_to_a_locked_store_to_start_says_so(house: House) -> None:
    with in_an_answer(house) as (thread, _):
        house.programs[-1].child.kill()  # it would start one, too
        os.kill(house.daemon.pid, signal.SIGKILL)
        with locked(house.cli.home / "claude-comms.db"):
            error = house.cli.json("daemon", "start", code=1)["error"]
            assert error["type"] == "StoreError", error
            assert "another process holds it locked" in error["message"]
    assert ask(house, "And now?", thread=thread)["status"] == "complete"
    assert states(house, thread)[0] == ("question", "failed")
